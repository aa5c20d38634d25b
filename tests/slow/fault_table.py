#!/usr/bin/env python3
"""Every fault once on a running node under load, with a real Kafka, a real Redis and a registry that answers, and the table:
detected in, recovered in, requests failed, records lost (must be 0).

    fault_table.py [--rate 500] [--duration 4s] [--only NAME,...]
"""

import argparse
import json

import small_registry
import troupe_test as t

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=int, default=500)
parser.add_argument("--duration", default="4s")
parser.add_argument("--only", default="")
options = parser.parse_args()
SECRET = "secret-of-the-test"

FAULTS = [
    ("actor_crash", "actor: producer"),
    ("actor_crash", "actor: scheduler"),
    ("actor_crash", "actor: cache_client"),
    ("shard_delay", "delay: 200ms, probability: 0.5"),
    ("shard_fail", "probability: 0.2"),
    ("shard_hang", "probability: 0.2"),
    ("redis_cut", ""),
    ("redis_slow", "delay: 200ms"),
    ("redis_corrupt", ""),
    ("kafka_cut", ""),
    ("kafka_slow", "delay: 100ms"),
    ("kafka_corrupt", "probability: 0.2"),
    ("registry_cut", ""),
    ("registry_slow", "delay: 20s"),
    ("registry_corrupt", ""),
    ("report_drop", "probability: 0.1"),
    ("report_duplicate", "probability: 0.5"),
    ("rebalance_storm", "every: 1s"),
    ("clock_jump", "shift: 1h"),
    ("clock_jump", "shift: -1h"),
    ("memory_pressure", "size: 256MiB"),
    ("freeze", ""),
]


with t.Stage() as stage:
    kafka, redis, node = stage.node_on_kafka_and_redis({
        # A busy machine must not open the breaker by itself.
        "redis": {"breaker_open": "1s", "timeout": "50ms"},
        "breaker": {"open": "2s"},
        "models": {"default": "diabetes-rf-model"},
        "mlflow": small_registry.SmallRegistry(stage).settings,
        "faults": {"enabled": True},
        "admin": {"token": SECRET},
    })

    rows = []
    for name, fields in FAULTS:
        if (options.only and name not in options.only.split(",")):
            continue
        step = f"fault: {name}" + (f", {fields}" if fields else "") + (f", duration: {options.duration}" if name != "actor_crash" else "")
        load = stage.load(kafka, options.rate * 16, options.rate, fresh=True, wait_for="90s")
        file = stage.path("one.yaml")
        file.write_text("steady_state: {pipeline: {p95: 300ms, p99: 1s, errors: 0.1%}, lag: 5s, throughput: " + str(options.rate // 3) + "}\n"
                        "window: 2s\nwarm_up: 20s\nrecover_within: 60s\nsteps: [{" + step + "}]\n")
        done = t.run("fault", "run", str(file), "--url", f"http://127.0.0.1:{node.port}", "--json", deadline=180,
                     environment={"TROUPE_ADMIN_TOKEN": SECRET})
        told = json.loads(done.stdout)
        assert load.wait(200) == 0, load.stdout() + load.stderr()
        report = json.loads(load.stdout())
        (one,) = told["steps"]
        seconds = lambda v: "-" if v is None else f"{v:.2f} s"
        rows.append((name, fields, seconds(one["detected_s"]), seconds(one["recovered_s"]), "-" if one["failed"] is None else int(one["failed"]), report,
                     told.get("error") or one.get("why") or one["sign"] or ""))
        print(rows[-1][:5], report["lost"], rows[-1][6], flush=True)
        t.wait_until(lambda: b"degraded" not in node.get("/ready")[1], "the node is whole again", 60)
    print("\n| fault | detected in | recovered in | requests failed | answered twice | lost | longest gap | first sign, or why not |\n|---|---|---|---|---|---|---|---|")
    for name, fields, detected, recovered, failed, report, sign in rows:
        print(f"| `{name}`{' ' + fields if fields else ''} | {detected} | {recovered} | {failed} | {report['duplicated']} | {report['lost']} "
              f"| {report['longest_gap_ms']:.0f} ms | {sign} |")
    assert all(row[5]["lost"] == 0 for row in rows)
    assert node.stop() == 0, node.stderr()
