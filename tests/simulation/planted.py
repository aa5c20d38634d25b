#!/usr/bin/env python3
"""Plants bugs, one at a time, and counts the seeds that the simulation needs to find each.

    tests/simulation/planted.py [--seeds 10000] [NAME ...]

Works on a copy of the tree in build/planted, so nothing here changes. A bug that is not found makes it end with 1."""

import argparse
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPY = ROOT / "build/planted/source"
BUILD = ROOT / "build/planted/build"

# Name, the file, what is there, what is planted instead.
BUGS = [
    ("refused_is_delivered", "actors/producer.cpp", "if (rep.ok) {", "if (rep.ok || true) {"),
    ("refused_is_forgotten", "actors/producer.cpp",
     "        a->request->answered.store(false, std::memory_order_relaxed);\n        refused.emplace_back(now + retry_pause, a);\n      }\n    }\n    hand_over();",
     "      }\n    }\n    hand_over();"),
    ("all_of_a_run_again", "actors/producer.cpp", "auto* back = static_cast<answer*>(rest[i].opaque);",
     "auto* back = static_cast<answer*>(run[i].opaque);"),
    ("answers_mix_rows", "actors/model_shard.cpp", "!out.predicted(r, outputs->data() + at * width,", "!out.predicted(r, outputs->data(),"),
    ("equal_rows_of_any_model", "actors/cache_client.cpp", "return codec::row_key(r.model->digest(), {row, width});",
     "return codec::row_key(1, {row, width});"),
    ("nothing_submitted_again", "actors/partition_consumer.cpp", "        if (!lost_some) return;\n", "        return;\n"),
    ("too_much_polled", "actors/partition_consumer.cpp",
     "std::min(s.args.poll_records, s.args.credit_records - s.in_flight)", "s.args.poll_records"),
    ("leaves_with_work", "actors/partition_consumer.cpp", "const bool clean = s.in_flight == 0;", "const bool clean = true;"),
    ("stores_past_a_gap", "runtime/policy/offset_ledger.hpp",
     "while (head_ != tail_ && ring_[head_ & (ring_.size() - 1)] < 0) {\n      next_ = ~ring_[head_ & (ring_.size() - 1)] + 1;",
     "while (head_ != tail_) {\n      next_ = std::max(ring_[head_ & (ring_.size() - 1)], ~ring_[head_ & (ring_.size() - 1)]) + 1;"),
    ("expired_is_forgotten", "actors/scheduler.cpp", "    if (e.expired) {\n", "    if (e.expired) {\n      continue;\n"),
    ("dead_shard_stays_idle", "actors/scheduler.cpp", "for (auto* idle : {&lane.idle, &lane.express})", "for (auto* idle : {&lane.idle})"),
    ("probe_is_lost", "actors/scheduler.cpp",
     "    // The breaker hears of no outcome: its probe is still to be made.\n    if (lane.breaker == breaker_position::half_open) lane.probes += lost.probes;",
     ""),
    ("rows_of_a_dead_shard_are_lost", "runtime/policy/bisection.cpp", "    at = end;\n  }", "    at = end;\n    if (i == 1) groups_.pop_back();\n  }"),
    ("first_crash_convicts", "runtime/policy/bisection.cpp", "if (++killed_[r] < config_.kills)", "if (++killed_[r] < 1)"),
    ("blame_is_inherited", "actors/scheduler.cpp", "      still.push_back(r);\n    else\n      lane.suspects.forget(r);",
     "      still.push_back(r);"),
    ("blame_outlives_the_wait", "actors/scheduler.cpp", "        lane.suspects.forget(r);\n        scheduler_state::release(r);",
     "        scheduler_state::release(r);"),
    ("calls_not_taken_over", "actors/gateway.cpp", "  desk.forget_finished();\n  submit_again(self);\n", "  desk.forget_finished();\n"),
    ("cut_too_far", "actors/transactor.cpp", "w.answers.last_given()->request->offset + 1",
     "w.answers.last_given()->request->offset + 4"),
    ("given_is_not_taken_back", "actors/transactor.cpp", "for (auto& [partition, w] : l.windows) w.answers.take_back();\n    for",
     "for"),
    ("settled_too_early", "actors/transactor.cpp", "    l.to_settle.push_back(m);", "    caf_line::post(m.from, settled{});"),
    ("window_stays_when_settled", "actors/transactor.cpp",
     "if (at != l.windows.end() && at->second.generation <= m.generation) l.drop(at);", ""),
    ("successor_asks_nobody", "actors/partition_consumer.cpp", "if (args->rewind && args->transactional) {",
     "if (false) {"),
    ("gap_is_ready", "runtime/policy/in_order.hpp", "while (ready_to_ - head_ < cells_.size() && at(ready_to_)) ++ready_to_;\n    return true;",
     "if (seq >= ready_to_) ready_to_ = seq + 1;\n    return true;"),
    ("order_forgotten_in_a_crash", "actors/producer.cpp", "for (auto& [partition, w] : args->order->windows) w.answers.take_back();", ""),
    ("spoiled_is_committed", "actors/transactor.cpp", "if (l.spoiled || l.gave_of_over() || cuts.empty())", "if (cuts.empty())"),
    ("crashed_stays_down", "actors/supervisor.cpp", "  plan->start_at = now + d.after;",
     "  plan->start_at = now + d.after + (c.restarts == 2 ? 86'400'000'000'000 : 0);"),
]


def run(*words, **more):
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, **more)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10000, help="tried at most for each")
    parser.add_argument("names", nargs="*")
    o = parser.parse_args()
    if unknown := set(o.names) - {b[0] for b in BUGS}:
        sys.exit(f"no bugs of these names: {', '.join(sorted(unknown))}")
    COPY.mkdir(parents=True, exist_ok=True)
    files = run("git", "-C", ROOT, "ls-files").stdout
    for name in files.splitlines():
        here, there = ROOT / name, COPY / name
        there.parent.mkdir(parents=True, exist_ok=True)
        if not there.exists() or there.read_bytes() != here.read_bytes():
            shutil.copy2(here, there)
    (COPY / ".deps").exists() or (COPY / ".deps").symlink_to(ROOT / ".deps")
    made = run("cmake", "-S", COPY, "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_CXX_FLAGS=-w", "-DTROUPE_KAFKA_DIRECTORY=" + str(ROOT / ".deps/kafka"))
    if made.returncode:
        sys.exit(made.stderr)

    def seeds_to(name):
        built = run("cmake", "--build", BUILD, "--target", "test_simulation")
        if built.returncode:
            sys.exit(f"{name} does not compile:\n{built.stdout[-3000:]}")
        done = run(BUILD / "tests/test_simulation", "--gtest_filter=simulation.every_law_holds_in_every_history",
                   env={"TROUPE_SIMULATION_SEEDS": f"1 {o.seeds}"}, timeout=1800)
        if done.returncode == 0:
            return None, ""
        law = re.search(r'Which is: "(\w+): ([^\\\n"]{0,90})', done.stdout)
        seed = re.search(r"the first after (\d+) seeds", done.stdout)
        if seed is None:
            sys.exit(f"{name}: ended with {done.returncode} and names no seed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        if done.returncode < 0:
            return seed.group(1), f"crash: {signal.Signals(-done.returncode).name}"
        return seed.group(1), f"{law.group(1)}: {law.group(2)}" if law else f"ended with {done.returncode}"

    found, _ = seeds_to("the tree as it is")
    if found:
        sys.exit(f"the tree as it is breaks a law after {found} seeds: mend that first")
    print(f"as it is: nothing in {o.seeds} seeds", flush=True)
    missed = 0
    for name, file, old, new in BUGS:
        if o.names and name not in o.names:
            continue
        path, whole = COPY / file, (ROOT / file).read_text()
        if whole.count(old) != 1:
            sys.exit(f"{name}: {file} has changed, {whole.count(old)} places instead of one: {old!r}")
        path.write_text(whole.replace(old, new))
        begun = time.monotonic()
        try:
            found, law = seeds_to(name)
        finally:
            path.write_text(whole)
        missed += found is None
        print(f"{name:30} {'NOT FOUND' if found is None else found + ' seeds':>12}  {law}  ({time.monotonic() - begun:.0f} s)", flush=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
