#!/usr/bin/env python3
"""Resident memory of `troupe serve` with its default memory.limit; README.md says what each part does.

    bench/memory/run.py [--records 5000000] [--freeze 60] [--large 400] [--json FILE] [--smoke]
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/support"))
import troupe_test as t  # noqa: E402
from kafka_client import Record  # noqa: E402

BENCH = pathlib.Path(os.environ.get("TROUPE_BUILD_DIRECTORY", ROOT / "build/release")) / "bench/bench_kafka_bridge"
TOPICS = {"requests_topic": "in", "results_topic": "out", "dead_letter_topic": "dlq"}


def resident(pid, field="VmRSS"):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def start(stage, kafka):
    return stage.troupe({"kafka": {"brokers": kafka.bootstrap, **TOPICS}, "models": {"directory": str(ROOT / "models")}})


def answered(node):
    return node.metrics().total("inference_requests_total")


def fill(kafka, records):
    subprocess.run([str(BENCH), "fill", "--brokers", kafka.bootstrap, "--topic", "in", "--records", str(records), "--model",
                    "diabetes-rf-model"], check=True, capture_output=True, timeout=600)


def full_speed(o):
    """A filled topic, drained as fast as it goes."""
    with t.Stage() as stage:
        kafka = stage.kafka()
        for topic in TOPICS.values():
            kafka.client.create_topic(topic, 4)
        fill(kafka, o.records)
        node = start(stage, kafka)
        node.wait_ready()
        quarters = []
        for quarter in range(1, 5):
            t.wait_until(lambda: answered(node) >= o.records * quarter / 4, f"quarter {quarter}", 600, 0.2)
            quarters.append(round(resident(node.pid), 1))
        return {"records": o.records, "resident_mib_by_quarter": quarters, "peak_mib": round(resident(node.pid, "VmHWM"), 1)}


def frozen_broker(o):
    """Three brokers; one of those that lead result partitions stops answering under full load."""
    with t.Stage() as stage:
        kafka = stage.kafka(nodes=3)
        for topic in TOPICS.values():
            kafka.client.create_topic(topic, 4)
        fill(kafka, o.records)
        node = start(stage, kafka)
        node.wait_ready()
        t.wait_until(lambda: answered(node) > 0, "results come", 60)
        leader = next(iter(kafka.client.partitions("out").values()))
        frozen = next(n for n, port in kafka.ports.items() if leader.endswith(f":{port}"))
        kafka.freeze(frozen)
        seen = []
        end = time.monotonic() + o.freeze
        while time.monotonic() < end:
            seen.append(resident(node.pid))
            time.sleep(0.5)
        kafka.thaw(frozen)
        t.wait_until(lambda: answered(node) >= o.records, "everything is answered after the thaw", 600, 0.2)
        return {"frozen_s": o.freeze, "highest_while_frozen_mib": round(max(seen), 1),
                "peak_mib": round(resident(node.pid, "VmHWM"), 1)}


def large_records(o):
    """Requests of just under 1 MiB."""
    with t.Stage() as stage:
        kafka = stage.kafka()
        for topic in TOPICS.values():
            kafka.client.create_topic(topic, 4, config={"max.message.bytes": "4194304"})
        pad = "x" * (1_040_000)
        for i in range(o.large):
            value = json.dumps({"request_id": f"large-{i}", "features": [0.01] * 10, "model": "diabetes-rf-model", "pad": pad})
            kafka.client.produce("in", [Record(value=value.encode(), partition=i % 4)])
        node = start(stage, kafka)
        node.wait_ready()
        t.wait_until(lambda: answered(node) >= o.large, "all large records are answered", 120, 0.1)
        return {"records": o.large, "bytes": len(value), "peak_mib": round(resident(node.pid, "VmHWM"), 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=5_000_000)
    parser.add_argument("--freeze", type=float, default=60)
    parser.add_argument("--large", type=int, default=400)
    parser.add_argument("--what", default="full_speed,large_records,frozen_broker")
    parser.add_argument("--json")
    parser.add_argument("--smoke", action="store_true")
    o = parser.parse_args()
    if o.smoke:
        o.records, o.freeze, o.large, o.what = 50_000, 1, 8, "full_speed,large_records"
    figures = {}
    for what in o.what.split(","):
        figures[what] = globals()[what](o)
        print(what, json.dumps(figures[what]), file=sys.stderr)
    text = json.dumps(figures, indent=1)
    if o.json:
        pathlib.Path(o.json).write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
