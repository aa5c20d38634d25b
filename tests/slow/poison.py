#!/usr/bin/env python3
"""Records that end whoever scores them, among many on a real Kafka: only they are dead-lettered, every other one gets its
prediction, and the node lives. The model is scored by ONNX Runtime in its own process, which
a division ends for such a record.

    poison.py [--records 100000] [--poison 1,20] [--json FILE]

PYTHONPATH=tests/support TROUPE=build/release/troupe
"""

import argparse
import json
import pathlib
import platform
import random

import onnx_files
import troupe_test as t

DEADLY = 666_666

parser = argparse.ArgumentParser()
parser.add_argument("--records", type=int, default=100_000)
parser.add_argument("--poison", type=lambda s: [int(x) for x in s.split(",")], default=[1, 20])
parser.add_argument("--window", type=int, default=5000, help="unanswered requests at a time")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--json", help="file for the figures")
o = parser.parse_args()

if not (t.ROOT / ".deps/onnxruntime/lib/libonnxruntime.so").exists():
    t.skip("no ONNX Runtime: run scripts/deps")

if platform.machine() != "x86_64":
    t.skip("the division of whole numbers ends a process on x86 only")

chance = random.Random(o.seed)
figures = []
with t.Stage() as stage:
    onnx_files.dividing(stage.path("models") / "dividing" / "1", DEADLY)
    kafka = stage.kafka()
    for round_number, count in enumerate(o.poison):
        requests, results, dead = (f"{name}-{round_number}" for name in ("requests", "results", "dead"))
        for topic in (requests, results, dead):
            kafka.client.create_topic(topic, 4)
        node = stage.troupe({
            "kafka": {"brokers": kafka.bootstrap, "requests_topic": requests, "results_topic": results,
                      "dead_letter_topic": dead, "group": f"poison-{round_number}"},
            "models": {"directory": str(stage.path("models")), "default": "dividing"}, "cache": {"mode": "off"},
            "log": {"format": "json"}})
        node.wait_ready()
        deadly = set(chance.sample(range(o.records), count))
        rows = stage.path(f"rows-{round_number}")
        rows.write_text("".join(f"[{DEADLY if i in deadly else i % 1000}]\n" for i in range(o.records)))
        load = t.run("load", "--brokers", kafka.bootstrap, "--requests-topic", requests, "--results-topic", results,
                     "--dead-letter-topic", dead, "--records", str(o.records), "--window", str(o.window), "--features-file",
                     str(rows), "--wait-for", "120s", "--json", deadline=900)
        assert load.stdout, load.stderr
        report = json.loads(load.stdout)
        found = {}
        for record in kafka.client.read(dead):
            n = int(json.loads(record.value)["request_id"].rsplit("-", 1)[1])
            found.setdefault(n, []).append((record.header("__connect.errors.exception.class.name") or b"").decode())
        died = node.stdout().count("the engine process was ended by")
        members_lost = node.stdout().count('"event":"partitions_lost"')
        metrics = node.metrics()
        figures.append({
            "records": o.records, "poison": count, "seconds": report["duration_s"], "predicted": report["predicted"],
            "dead_letters": report["dead_letters"], "errors": report["errors"], "lost": report["lost"],
            "duplicated": report["duplicated"], "longest_gap_ms": report["longest_gap_ms"],
            "engine_deaths": died, "members_lost": members_lost, "actor_restarts": metrics.total("troupe_actor_restarts_total")})
        print(json.dumps(figures[-1]), flush=True)
        assert set(found) == deadly and all(set(codes) == {"model_failed"} for codes in found.values()), (sorted(deadly), found)
        assert report["lost"] == report["errors"] == 0, (report, load.stderr)
        assert report["duplicated"] == 0 and all(len(codes) == 1 for codes in found.values()), (report, members_lost)
        assert report["predicted"] == o.records - count and report["dead_letters"] == count, report
        assert node.running
        assert node.stop() == 0, node.stderr()
if o.json:
    pathlib.Path(o.json).write_text(json.dumps(figures, indent=1) + "\n")
