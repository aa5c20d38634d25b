#!/usr/bin/env python3
"""Interactive requests over HTTP and gRPC while a filled Kafka topic saturates the same node; README.md says what each figure means.

    bench/mixed_load/run.py [--cells same,other,grpc] [--rounds 3] [--share 0.3] [--seconds 8] [--records N] [--json FILE]
                            [--plot docs/images/mixed_load.svg] [--smoke]
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
import troupe_test as t  # noqa: E402

import plot  # noqa: E402

TOOL = pathlib.Path(os.environ.get("TROUPE_BUILD_DIRECTORY", ROOT / "build/release")) / "bench/bench_kafka_bridge"
FOREST, LINEAR = "diabetes-rf-model", "diabetes-linear"
PARTITIONS = 4
# What is bulk in each is the forest; who asks besides, and how.
CELLS = {"same": ("http", FOREST), "other": ("http", LINEAR), "grpc": ("grpc", FOREST)}


def tool(command, **options):
    words = [str(TOOL), command]
    for key, value in options.items():
        words += ["--" + key, str(value)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr}")


class Sampler:
    """The node's Kafka predictions by time, from its metrics."""

    def __init__(self, node, every=0.25):
        self.node, self.every, self.points, self.done = node, every, [], threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.done.is_set():
            self.sample()
            self.done.wait(self.every)

    def sample(self):
        count = self.node.metrics().total("inference_requests_total", door="kafka", status="success")
        self.points.append((time.monotonic(), count))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def rate(self, begin, end):
        inside = [p for p in self.points if begin <= p[0] <= end]
        if len(inside) < 2:
            sys.exit("too few samples of the node's metrics")
        (t0, n0), (t1, n1) = inside[0], inside[-1]
        return (n1 - n0) / (t1 - t0)

    def series(self, origin):
        return [[round((a[0] + b[0]) / 2 - origin, 3), round((b[1] - a[1]) / (b[0] - a[0]))]
                for a, b in zip(self.points, self.points[1:])]


class Bench:
    def __init__(self, stage, options):
        self.stage, self.options, self.serial = stage, options, 0
        self.brokers = stage.kafka().bootstrap

    def topic(self, name):
        tool("topic", brokers=self.brokers, topic=name, partitions=PARTITIONS)
        return name

    def node(self, source):
        """A node of its own group on this topic: whatever it holds is read from its begin."""
        self.serial += 1
        node = self.stage.troupe({
            "kafka": {"brokers": self.brokers, "requests_topic": source, "results_topic": self.topic(f"out-{self.serial}"),
                      "dead_letter_topic": "dlq", "group": f"g{self.serial}"},
            "models": {"directory": str(ROOT / "models"), "default": FOREST},
            "cache": {"mode": "off"},  # every row is scored
            "log": {"level": "warn"},
            "http": {}, "grpc": {},
        }, *[word for one in self.options.set for word in ("--set", one)])
        node.wait_ready()
        return node

    def load(self, node, cell, *words):
        door, model = CELLS[cell]
        address = ["--http", f"http://127.0.0.1:{node.http_port}", "--format", "v2"] if door == "http" else \
                  ["--grpc", f"127.0.0.1:{node.grpc_port}"]
        done = subprocess.run([str(t.TROUPE), "load", *address, "--model", model, "--distinct", "4096", "--json",
                               "--target", f"{self.options.target_ms}ms", *map(str, words)],
                              capture_output=True, text=True, timeout=300, cwd=ROOT)
        if done.returncode:
            sys.exit(f"troupe load ended with {done.returncode}: {done.stderr} {done.stdout}")
        return json.loads(done.stdout)

    def alone(self, cells):
        """Each cell's capacity, closed loop, and its latency at the share of it; the topic is empty."""
        o = self.options
        node, out = self.node("nothing"), {}
        for cell in cells:
            connections = 64 if CELLS[cell][0] == "http" else 32
            full = self.load(node, cell, "--connections", connections, "--seconds", o.seconds / 2 + o.warmup,
                             "--warmup", f"{o.warmup}s")
            capacity = full["requests_per_second"]
            part = self.load(node, cell, *self.open_loop(cell, capacity * o.share))
            out[cell] = {"capacity": capacity, "rate": capacity * o.share, "interactive": part}
            print(f"{cell}: alone {capacity:,.0f}/s at most; at {part['requests_per_second']:,.0f}/s p50 {part['p50_ms']:.2f} "
                  f"p99 {part['p99_ms']:.2f} ms", file=sys.stderr)
        node.stop(60)
        return out

    def open_loop(self, cell, rate):
        o = self.options
        # An open loop needs connections for all that is out at a time: what arrives within the target.
        connections = max(512, int(rate * o.target_ms / 1000)) if CELLS[cell][0] == "http" else 16
        return ["--connections", connections, "--rate", f"{max(rate, 1):.0f}", "--seconds",
                o.seconds + o.warmup, "--warmup", f"{o.warmup}s", "--interval", f"{o.interval}s"]

    def mixed(self, cell, alone):
        """Bulk alone, then bulk with the interactive load beside it, on one node."""
        o = self.options
        node = self.node("bulk")
        t.wait_until(lambda: node.metrics().total("inference_requests_total", door="kafka", status="success") > 0, "bulk flows")
        time.sleep(o.warmup)
        with Sampler(node, 0.05 if o.smoke else 0.25) as bulk:
            origin = time.monotonic()
            time.sleep(o.seconds * 0.5)
            begun = time.monotonic()
            interactive = self.load(node, cell, *self.open_loop(cell, alone["rate"]))
            ended = time.monotonic()
            time.sleep(o.interval)
        left = o.records - bulk.points[-1][1]
        failed = node.metrics().total("inference_requests_total", door="kafka", status="error")
        node.stop(60)
        if left <= 0 and not o.smoke:
            sys.exit(f"{cell}: the topic was empty before the end: give more --records\nbulk a second by time: "
                     f"{bulk.series(origin)}\ninteractive, from {begun - origin:.1f} to {ended - origin:.1f} s: {interactive}")
        if failed:
            sys.exit(f"{cell}: {failed:.0f} bulk records failed")
        bulk_alone = bulk.rate(origin, begun)
        measured_from = max(begun + o.warmup, ended - o.seconds)
        with_load = bulk.rate(measured_from, ended)
        share = interactive["requests_per_second"] / alone["capacity"]
        out = {"bulk_alone": bulk_alone, "bulk": with_load, "interactive_share": share,
               "bulk_share_of_rest": with_load / (bulk_alone * (1 - share)), "interactive": interactive,
               "series": bulk.series(origin), "interactive_from_s": measured_from - origin,
               "interactive_to_s": ended - origin}
        print(f"{cell}: with bulk {interactive['requests_per_second']:,.0f}/s p50 {interactive['p50_ms']:.2f} p99 "
              f"{interactive['p99_ms']:.2f} ms, in time {100 * interactive['in_time_ratio']:.3f} %, errors "
              f"{interactive['error_codes']}; bulk {bulk_alone:,.0f}/s, then {with_load:,.0f}/s = "
              f"{out['bulk_share_of_rest']:.2f} of what is left", file=sys.stderr)
        return out


def summary(rounds, cells):
    rows = {}
    for cell in cells:
        alone, mixed = [r["alone"][cell] for r in rounds], [r["mixed"][cell] for r in rounds]
        mid = lambda values: statistics.median(values)  # noqa: E731
        rows[cell] = {
            "door": CELLS[cell][0], "model": CELLS[cell][1],
            "capacity": mid([a["capacity"] for a in alone]), "rate": mid([m["interactive"]["requests_per_second"] for m in mixed]),
            "alone_p50_ms": mid([a["interactive"]["p50_ms"] for a in alone]),
            "alone_p99_ms": mid([a["interactive"]["p99_ms"] for a in alone]),
            "p50_ms": mid([m["interactive"]["p50_ms"] for m in mixed]),
            "p99_ms": mid([m["interactive"]["p99_ms"] for m in mixed]),
            "in_time_ratio": min(m["interactive"]["in_time_ratio"] for m in mixed),
            "errors": sum(m["interactive"]["errors"] for m in mixed),
            "bulk_alone": mid([m["bulk_alone"] for m in mixed]), "bulk": mid([m["bulk"] for m in mixed]),
            "bulk_share_of_rest": mid([m["bulk_share_of_rest"] for m in mixed]),
        }
    return rows


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default="same,other,grpc", help="interactive requests: over HTTP to the same model as bulk, to "
                        "another one, over gRPC to the same")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.3, help="interactive load, of what the node does of it alone")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--warmup", type=float, default=1)
    parser.add_argument("--interval", type=float, default=0.25, help="of the plot")
    parser.add_argument("--records", type=int, default=8_000_000, help="in the topic; it must outlast a cell")
    parser.add_argument("--target-ms", type=float, default=100, help="that of the class interactive")
    parser.add_argument("--json", metavar="FILE", help="file for the figures; -: standard output instead of the table")
    parser.add_argument("--plot", metavar="FILE", help="an SVG of the last round")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="of the node")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all")
    o = parser.parse_args()
    if o.smoke:
        o.rounds, o.seconds, o.warmup, o.records, o.share = 1, 0.5, 0.25, 1_500_000, 0.05
    cells = o.cells.split(",")
    if unknown := [c for c in cells if c not in CELLS]:
        sys.exit(f"unknown cells {', '.join(unknown)}; there are {', '.join(CELLS)}")
    with t.Stage() as stage:
        bench = Bench(stage, o)
        for name in ("bulk", "nothing", "dlq"):
            bench.topic(name)
        tool("fill", brokers=bench.brokers, topic="bulk", records=o.records, model=FOREST)
        rounds = []
        for _ in range(o.rounds):
            alone = bench.alone(cells)
            rounds.append({"alone": alone, "mixed": {c: bench.mixed(c, alone[c]) for c in cells}})
    figures = {"cores": os.cpu_count(), "processor": processor(), "system": platform.release(), "share": o.share,
               "target_ms": o.target_ms, "seconds": o.seconds, "summary": summary(rounds, cells), "rounds": rounds}
    if o.plot:
        pathlib.Path(o.plot).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(o.plot).write_text(plot.mixed_load(figures))
    if o.json == "-":
        print(json.dumps(figures))
        return
    if o.json:
        pathlib.Path(o.json).write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{'':7}{'alone/s':>9}{'load/s':>8}{'p50 ms':>9}{'p99 ms':>9}{'+ bulk p50':>12}{'p99 ms':>9}{'in time':>10}"
          f"{'bulk/s':>10}{'then':>9}{'of the rest':>13}")
    for cell, r in figures["summary"].items():
        print(f"{cell:7}{r['capacity']:>9,.0f}{r['rate']:>8,.0f}{r['alone_p50_ms']:>9.2f}{r['alone_p99_ms']:>9.2f}{r['p50_ms']:>12.2f}"
              f"{r['p99_ms']:>9.2f}{100 * r['in_time_ratio']:>9.3f}%{r['bulk_alone']:>10,.0f}{r['bulk']:>9,.0f}"
              f"{r['bulk_share_of_rest']:>13.2f}")


if __name__ == "__main__":
    main()
