#!/usr/bin/env python3
"""troupe serve beside a bare librdkafka bridge on one warm, real broker; README.md says what each figure means.

    bench/kafka_bridge/run.py [--pairs 7] [--records 2000000] [--what drain,closed,latency] [--peer PYTHON] [--json FILE] [--smoke]
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
import troupe_test as t  # noqa: E402

BENCH = pathlib.Path(os.environ.get("TROUPE_BUILD_DIRECTORY", ROOT / "build/release")) / "bench/bench_kafka_bridge"
LINEAR, FOREST = "diabetes-linear", "diabetes-rf-model"


def tool(command, **options):
    words = [str(BENCH), command]
    for key, value in options.items():
        words += ["--" + key, str(value)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")
    return json.loads(done.stdout) if done.stdout.strip() else None


def interval(values):
    """Median, with the order statistics that hold it in about 95 of 100 cases (for 7 pairs: the whole range but one end)."""
    v = sorted(values)
    n = len(v)
    k = max(0, int(n / 2 - 0.98 * n ** 0.5))
    return {"median": round(statistics.median(v), 3), "low": round(v[k], 3), "high": round(v[n - 1 - k], 3), "n": n}


class Bench:
    def __init__(self, stage, options):
        self.stage, self.options, self.serial = stage, options, 0
        self.kafka = stage.kafka()
        self.brokers = self.kafka.bootstrap

    def topics(self):
        self.serial += 1
        names = f"in-{self.serial}", f"out-{self.serial}"
        for name in names:
            tool("topic", brokers=self.brokers, topic=name, partitions=4)
        return names

    def subject(self, who, source, result, linger=None, transaction=None):
        """Starts the bridge or a node on these topics; exactly once, with so many records a transaction, when `transaction` is set."""
        self.serial += 1
        if who == "bridge":
            return self.stage.start([BENCH, "bridge", "--brokers", self.brokers, "--in", source, "--out", result,
                                     "--group", f"g{self.serial}", "--linger", linger if linger is not None else 5,
                                     *(["--transaction", transaction, "--pace", self.options.pace] if transaction else [])],
                                    "bridge")
        if who == "python":
            return self.stage.start([self.options.peer, ROOT / "bench/kafka_bridge/python_peer.py", self.brokers, source, result,
                                     f"g{self.serial}", ROOT / "models" / FOREST / "3/model.onnx"], "python")
        name, _, in_order = who.partition(" ")
        model = {"linear": LINEAR, "forest": FOREST}[name]
        return self.stage.troupe({
            "kafka": {"brokers": self.brokers, "requests_topic": source, "results_topic": result,
                      "dead_letter_topic": "dlq", "group": f"g{self.serial}",
                      **({"delivery": "exactly_once", "transaction_records": transaction} if transaction else {}),
                      **({"output_order": "partition"} if in_order else {})},
            "models": {"directory": str(ROOT / "models"), "default": model},
            "cache": {"mode": "off"},
        })

    def warm(self):
        """A fresh JVM costs two or three times what a warm one does."""
        source, result = self.topics()
        n = min(2_000_000, self.options.records)
        tool("fill", brokers=self.brokers, topic=source, records=n, model=FOREST)
        p = self.subject("bridge", source, result)
        tool("watch", brokers=self.brokers, topic=result, skip=1, count=n, pid=p.pid)
        p.stop(60)
        if "latency" in self.options.what:  # many small requests are code of their own to a JVM
            rate = min(5000, max(self.options.rates))
            for _ in range(1 if self.options.smoke else 3):
                self.load("bridge", "--records", rate * self.options.seconds, "--rate", rate, "--distinct", 8192,
                          linger=0)
        if "transaction" in self.options.what:  # and so are transactions
            for _ in range(1 if self.options.smoke else 2):
                self.load("bridge", "--records", 2000 * self.options.seconds, "--rate", 2000, "--distinct", 8192,
                          transaction=max(self.options.transaction_sizes))

    def drain(self, who, source, transaction=None):
        _, result = self.topics()
        p = self.subject(who, source, result, transaction=transaction)
        n = self.options.records if who != "python" else self.options.records // 4
        try:
            w = tool("watch", brokers=self.brokers, topic=result, skip=n // 10, count=n, pid=p.pid,
                     **({"committed": 1} if transaction else {}))
            if transaction:  # what was watched has markers in it: the last records may still be on their way
                t.wait_until(lambda: self.count(result)["answered"] >= n, "every record is answered", 30)
        finally:
            p.stop(60)
        if transaction:
            counted = self.count(result)
            if counted != {"results": n, "answered": n, "doubled": 0, "errors": 0, "strange": 0}:
                raise SystemExit(f"{who}, transactions of {transaction}: {n} records, but {counted}")
        # A tiny topic may come in one poll.
        return {"rate": w["records"] / max(w["seconds"], 1e-3), "cpu_s_per_million": w["cpu_seconds"] / w["records"] * 1e6,
                "peak_rss_mib": w["peak_rss_kb"] / 1024}

    def count(self, topic):
        """What a read_committed consumer finds there."""
        return tool("read", brokers=self.brokers, topic=topic, records=self.options.records)

    def load(self, who, *words, linger=None, transaction=None):
        """The reader of `troupe load` is a read_committed one, librdkafka's default."""
        source, result = self.topics()
        p = self.subject(who, source, result, linger, transaction)
        try:
            if hasattr(p, "wait_ready"):
                p.wait_ready()
            # The bridge says nothing; its group is joined by then. Both get the time: no start is measured.
            time.sleep(1 if self.options.smoke else 2.5)
            ticks = os.sysconf("SC_CLK_TCK")

            def cpu():
                f = pathlib.Path(f"/proc/{p.pid}/stat").read_text().rsplit(")", 1)[1].split()
                return (int(f[11]) + int(f[12])) / ticks

            before = cpu()
            lingers = {"TROUPE_KAFKA_PROPERTIES_LINGER_MS": str(self.options.load_linger)} if self.options.load_linger else {}
            done = subprocess.run([str(t.TROUPE), "load", "--brokers", self.brokers, "--requests-topic", source,
                                   "--results-topic", result, "--json", *map(str, words)],
                                  capture_output=True, text=True, timeout=600, cwd=ROOT, env={**os.environ, **lingers})
            report = json.loads(done.stdout)
            report["cpu_s_per_million"] = (cpu() - before) / max(1, report["predicted"]) * 1e6
            return report
        finally:
            p.stop(60)

    def run_drain(self):
        source, _ = self.topics()
        out = {}
        for who, model in (("linear", LINEAR), ("forest", FOREST)):
            source, _ = self.topics()
            tool("fill", brokers=self.brokers, topic=source, records=self.options.records, model=model)
            ours, theirs, python = [], [], []
            for pair in range(self.options.pairs):
                order = ("bridge", who) if pair % 2 == 0 else (who, "bridge")
                for one in order:
                    (theirs if one == "bridge" else ours).append(self.drain(one, source))
                if who == "forest" and self.options.peer:
                    python.append(self.drain("python", source))
                print(f"drain {who} pair {pair + 1}: {ours[-1]['rate']:,.0f}/s {ours[-1]['cpu_s_per_million']:.2f} CPU s/M"
                      f" | bridge {theirs[-1]['rate']:,.0f}/s {theirs[-1]['cpu_s_per_million']:.2f}" +
                      "".join(f" | python {p['rate']:,.0f}/s {p['cpu_s_per_million']:.2f}" for p in python[-1:]),
                      file=sys.stderr)
            out[who] = self.summary(ours, theirs)
            if python:
                out[who]["python_rate"] = interval([p["rate"] for p in python])
                out[who]["python_cpu_s_per_million"] = interval([p["cpu_s_per_million"] for p in python])
                out[who]["rate_over_python"] = interval([a["rate"] / p["rate"] for a, p in zip(ours, python)])
                out[who]["python_cpu_over_ours"] = interval(
                    [p["cpu_s_per_million"] / a["cpu_s_per_million"] for a, p in zip(ours, python)])
        return out

    def run_transactions(self):
        out = {}
        source, _ = self.topics()
        tool("fill", brokers=self.brokers, topic=source, records=self.options.records, model=LINEAR)
        for size in self.options.transaction_sizes:
            ours, theirs = [], []
            for pair in range(self.options.pairs):
                for one in ("bridge", "linear") if pair % 2 == 0 else ("linear", "bridge"):
                    (theirs if one == "bridge" else ours).append(self.drain(one, source, size))
                print(f"transactions of {size} pair {pair + 1}: {ours[-1]['rate']:,.0f}/s {ours[-1]['cpu_s_per_million']:.2f} CPU s/M"
                      f" | bridge {theirs[-1]['rate']:,.0f}/s {theirs[-1]['cpu_s_per_million']:.2f}", file=sys.stderr)
            out[str(size)] = self.summary(ours, theirs)
        return out

    def run_transaction_latency(self):
        out = {}
        for rate in self.options.rates:
            rows = {"linear": [], "bridge": []}
            for repeat in range(self.options.repeats):
                for who in rows if repeat % 2 == 0 else reversed(rows):
                    r = self.load(who, "--records", rate * self.options.seconds, "--rate", rate, "--distinct", 8192,
                                  transaction=max(self.options.transaction_sizes))
                    if r["lost"] or r["duplicated"]:
                        raise SystemExit(f"{who}, transactions at {rate}/s: {r}")
                    rows[who].append({k: r[k] for k in ("p50_ms", "p99_ms", "cpu_s_per_million")})
                    print(f"transaction-latency {rate}/s {who} #{repeat + 1}: p50 {r['p50_ms']:.2f} p99 {r['p99_ms']:.2f} ms",
                          file=sys.stderr)
            out[str(rate)] = {who: {k: interval([x[k] for x in v]) for k in v[0]} for who, v in rows.items()}
        return out

    def run_order(self):
        """output_order: partition beside completion, both at least once: the rate of a drain, and latencies."""
        out = {}
        for model, name in (("linear", LINEAR), ("forest", FOREST)):
            source, _ = self.topics()
            tool("fill", brokers=self.brokers, topic=source, records=self.options.records, model=name)
            rows = {model: [], f"{model} in order": []}
            for pair in range(self.options.pairs):
                for who in rows if pair % 2 == 0 else reversed(rows):
                    rows[who].append(self.drain(who, source))
                print(f"order {model} pair {pair + 1}: " + " | ".join(
                    f"{who} {r[-1]['rate']:,.0f}/s {r[-1]['cpu_s_per_million']:.2f} CPU s/M" for who, r in rows.items()), file=sys.stderr)
            free, ordered = rows.values()
            out[model] = {"rate_ratio": interval([b["rate"] / a["rate"] for a, b in zip(free, ordered)]),
                          "cpu_ratio": interval([b["cpu_s_per_million"] / a["cpu_s_per_million"] for a, b in zip(free, ordered)])}
            out[model]["latency"] = {}
            for rate in self.options.rates:
                for repeat in range(self.options.repeats):
                    for who in rows if repeat % 2 == 0 else reversed(rows):
                        r = self.load(who, "--records", rate * self.options.seconds, "--rate", rate, "--distinct", 8192)
                        out[model]["latency"].setdefault(f"{rate}/s {who}", []).append({k: r[k] for k in ("p50_ms", "p99_ms")})
                        print(f"order latency {rate}/s {who} #{repeat + 1}: p50 {r['p50_ms']:.2f} p99 {r['p99_ms']:.2f} ms", file=sys.stderr)
            out[model]["latency"] = {who: {k: interval([x[k] for x in v]) for k in v[0]} for who, v in out[model]["latency"].items()}
        return out

    @staticmethod
    def summary(ours, theirs):
        pick = lambda rows, key: [r[key] for r in rows]
        return {
            "rate": interval(pick(ours, "rate")), "bridge_rate": interval(pick(theirs, "rate")),
            "rate_ratio": interval([a["rate"] / b["rate"] for a, b in zip(ours, theirs)]),
            "cpu_s_per_million": interval(pick(ours, "cpu_s_per_million")),
            "bridge_cpu_s_per_million": interval(pick(theirs, "cpu_s_per_million")),
            **({"peak_rss_mib": round(max(pick(ours, "peak_rss_mib")), 1)} if "peak_rss_mib" in ours[0] else {}),
        }

    def run_closed(self):
        out = {}
        n = self.options.records
        for who in ("linear", "forest"):
            ours, theirs = [], []
            for pair in range(self.options.pairs):
                order = ("bridge", who) if pair % 2 == 0 else (who, "bridge")
                for one in order:
                    r = self.load(one, "--records", n, "--window", 50000, "--distinct", 8192, linger=5)
                    (theirs if one == "bridge" else ours).append(
                        {"rate": r["records_per_second"], "cpu_s_per_million": r["cpu_s_per_million"]})
                print(f"closed {who} pair {pair + 1}: {ours[-1]['rate']:,.0f}/s | bridge {theirs[-1]['rate']:,.0f}/s",
                      file=sys.stderr)
            out[who] = self.summary(ours, theirs)
        return out

    def run_latency(self):
        out = {}
        for rate in self.options.rates:
            seconds = self.options.seconds
            rows = {"forest": [], **{f"bridge linger {x}": [] for x in (0, 1, 5)}}
            for repeat in range(self.options.repeats):
                for name in rows:
                    who, linger = ("bridge", name.split()[-1]) if name.startswith("bridge") else (name, None)
                    r = self.load(who, "--records", rate * seconds, "--rate", rate, "--distinct", 8192, linger=linger)
                    rows[name].append({k: r[k] for k in ("p50_ms", "p99_ms", "cpu_s_per_million", "lost")})
                    print(f"latency {rate}/s {name} #{repeat + 1}: p50 {r['p50_ms']:.2f} p99 {r['p99_ms']:.2f} ms",
                          file=sys.stderr)
            out[str(rate)] = {name: {k: interval([x[k] for x in v]) for k in v[0]} for name, v in rows.items()}
        return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--rates", type=lambda s: [int(x) for x in s.split(",")], default=[1000, 5000, 20000])
    parser.add_argument("--seconds", type=int, default=8, help="length of a latency run")
    parser.add_argument("--repeats", type=int, default=3, help="latency runs of each")
    parser.add_argument("--what", default="drain,closed,latency", help="of drain, closed, latency, transactions, transaction-latency, order")
    parser.add_argument("--transaction-sizes", type=lambda s: [int(x) for x in s.split(",")], default=[1000, 10_000])
    parser.add_argument("--pace", default="auto", help="when the bridge commits a transaction that is not full: so many ms after "
                        "its first record, or auto, by the node's own rule")
    parser.add_argument("--load-linger", type=int, metavar="MS", help="linger.ms of the load's producer (default: its own, 1 ms up "
                        "to 5,000 records/s, which keeps a broker that shares the cores busy with small requests)")
    parser.add_argument("--peer", metavar="PYTHON", help="also drain with python_peer.py, run by this interpreter (a "
                        "virtual environment with confluent-kafka, onnxruntime, orjson and numpy)")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all")
    o = parser.parse_args()
    if o.smoke:
        o.pairs, o.records, o.rates, o.seconds, o.repeats = 1, 100_000, [1000], 2, 1
    figures = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "records": o.records}
    figures["parts"] = {who: tool("parts", models=ROOT / "models", model=m) for who, m in (("linear", LINEAR), ("forest", FOREST))}
    with t.Stage() as stage:
        bench = Bench(stage, o)
        bench.warm()
        for what in o.what.split(","):
            figures[what] = getattr(bench, "run_" + what.replace("-", "_"))()
    if "drain" in figures:
        for who in ("linear", "forest"):
            d, p = figures["drain"][who], figures["parts"][who]
            d["sum_of_parts"] = round(d["bridge_cpu_s_per_million"]["median"] + sum(p.values()) / 1000, 3)
            d["cpu_over_sum_of_parts"] = round(d["cpu_s_per_million"]["median"] / d["sum_of_parts"], 3)
    text = json.dumps(figures, indent=1)
    if o.json:
        pathlib.Path(o.json).write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
