#!/usr/bin/env python3
"""The forest engine beside the fastest libraries of the field, on the same trees and rows, one thread.

    bench/tree_peers/run.py [--peer PYTHON] [--rounds 3] [--json FILE] [--smoke]

PYTHON: an interpreter that has the packages of requirements.txt; peer.sh makes one in .cache/tree_peers. Without it only the
built-in engine is measured, on the forest that ships. See README.md.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BATCHES = (1, 64, 1024, 4096)


def find_bench():
    build = pathlib.Path(os.environ.get("TROUPE_BUILD_DIRECTORY", ROOT / "build/release"))
    for path in (build / "bench/bench_forest", build / "bench_forest"):
        if path.exists():
            return path
    sys.exit("run.py: bench_forest is not built; run scripts/build")


def ours(bench, model, rows, smoke):
    command = [bench, "--json"] + (["--model", model, "--rows", rows] if model else []) + (["--smoke"] if smoke else [])
    made = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return {each["batch"]: each["ns_per_row"] for each in json.loads(made.stdout)["results"]}


class peer_process:
    def __init__(self, python, folder, smoke):
        self.process = subprocess.Popen([python, HERE / "peers.py", folder] + (["--smoke"] if smoke else []), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.about = json.loads(self.process.stdout.readline())

    def measure(self, name):
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return {int(k): v for k, v in json.loads(self.process.stdout.readline()).items()}

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    rounds = 1 if options.smoke else options.rounds
    bench = find_bench()
    found = {}
    about = {"peers": {}, "left_out": {}}
    with tempfile.TemporaryDirectory() as folder:
        peers = peer_process(options.peer, folder, options.smoke) if options.peer else None
        if peers:
            about = peers.about
        model, rows = (pathlib.Path(folder) / "1", pathlib.Path(folder) / "rows.csv") if peers else (None, None)
        for _ in range(rounds):
            found.setdefault("troupe", []).append(ours(bench, model, rows, options.smoke))
            for name in about["peers"]:
                found.setdefault(name, []).append(peers.measure(name))
        if peers:
            peers.stop()
    middle = {name: {b: sorted(r[b] for r in all_rounds)[len(all_rounds) // 2] for b in BATCHES} for name, all_rounds in found.items()}
    for name, why in about["left_out"].items():
        print(f"{name} is left out: {why}", file=sys.stderr)
    print("| engine | " + " | ".join(f"{b:,}" for b in BATCHES) + " | largest difference |")
    print("|---|" + "---|" * (len(BATCHES) + 1))
    for name, times in middle.items():
        difference = about["peers"].get(name, {}).get("difference")
        label = name + (" " + about["peers"][name]["version"] if name in about["peers"] else "")
        print(f"| {label} | " + " | ".join(f"{times[b]:,.0f}" for b in BATCHES) + f" | {'' if difference is None else f'{difference:.1e}'} |")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"ns_per_row": middle, **about}, indent=1) + "\n")


if __name__ == "__main__":
    main()
