#!/usr/bin/env python3
"""Alerts under injected faults, on a real node, a real Kafka, a real Redis and a real Prometheus, with the rules as they are: when
each is pending, fires, and is over again.

    alert_timeline.py [--rate 200] [--every 5s]
"""

import argparse
import json
import pathlib
import shutil
import sys
import time

import troupe_test as t

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "deploy"))
from prometheus import Prometheus  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=int, default=200)
parser.add_argument("--every", default="5s", help="scrapes and evaluations")
options = parser.parse_args()
if not shutil.which("prometheus"):
    t.skip("prometheus is missing: apt-get install prometheus")

SECRET = "secret-of-the-test"
# fault, its fields, seconds, the alert that it is to raise
STEPS = [
    ("actor_crash", {"actor": "producer"}, 1, "TroupeActorRestarts"),
    ("redis_cut", {}, 200, "TroupeRedisDown"),
    ("shard_fail", {"model": "diabetes-rf-model"}, 150, "TroupeBreakerOpen"),
    ("kafka_cut", {}, 200, "TroupeKafkaAway"),
    ("shard_hang", {"model": "diabetes-rf-model"}, 120, "TroupeLagHigh"),
]

with t.Stage() as stage:
    kafka, redis, node = stage.node_on_kafka_and_redis({
        "models": {"default": "diabetes-rf-model"}, "breaker": {"open": "10s"}, "kafka": {"credit_records": 500},
        "faults": {"enabled": True}, "admin": {"token": SECRET}})
    prometheus = Prometheus(stage, {"troupe": node.port}, options.every)
    load = stage.load(kafka, options.rate * 3600, options.rate, "--distinct", options.rate * 3600)  # none is in the cache
    t.wait_until(lambda: node.metrics().total("inference_requests_total") > options.rate, "answers come", 60)
    prometheus.evaluated()
    t.wait_until(lambda: prometheus.query("count_over_time(troupe_ready[1m]) > 2"), "the node was scraped", 60)

    def admin(method, path, body=None):
        status, answer = t.http(method, f"http://127.0.0.1:{node.port}/admin/faults{path}", body, {"Authorization": f"Bearer {SECRET}"})
        assert status in (200, 201), answer
        return json.loads(answer)

    table = []
    for name, fields, seconds, alert in STEPS:
        begun = time.monotonic()
        fault = admin("POST", "", {"fault": name, "duration": f"{seconds}s", **fields})["id"]
        seen = {}
        others = set()

        def fires():
            for state in ("pending", "firing"):
                alerts = prometheus.alerts(state)
                if alert in alerts:
                    seen.setdefault(state, time.monotonic() - begun)
                if state == "firing":
                    others.update(alerts - {alert, "TroupeFaultsActive"})
            return "firing" in seen

        t.wait_until(fires, f"{name} raises {alert}", seconds + 60, 0.5)
        if name != "actor_crash":
            admin("DELETE", f"/{fault}")
        ended = time.monotonic()
        t.wait_until(lambda: alert not in prometheus.alerts(), f"{alert} is over", 900, 0.5)
        row = (name, alert, seen.get("pending"), seen["firing"], time.monotonic() - ended, sorted(others))
        table.append(row)
        print(json.dumps(row), flush=True)
        t.wait_until(lambda: node.get("/ready")[1].find(b"degraded") < 0 and node.metrics().total("troupe_consumer_lag_records") == 0, "the node is well again", 300, 0.5)

    print("\n| fault | alert | pending after | fires after | over after its end |\n|---|---|---|---|---|")
    for name, alert, pending, firing, over, _ in table:
        print(f"| `{name}` | {alert} | {'-' if pending is None else f'{pending:.0f} s'} | {firing:.0f} s | {over:.0f} s |")
    begun = time.monotonic()
    node.kill()
    t.wait_until(lambda: "TroupeAbsent" in prometheus.alerts(), "TroupeAbsent fires", 300, 0.5)
    print(f"| `kill -9` | TroupeAbsent | - | {time.monotonic() - begun:.0f} s | |")
    load.kill()
