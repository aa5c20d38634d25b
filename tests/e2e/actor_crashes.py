#!/usr/bin/env python3
"""A random actor crashes again and again under load, on a real Kafka with a real Redis: every request gets its answer.

    actor_crashes.py [--seconds 15] [--rate 2000] [--every 1.0]
"""

import argparse
import json
import time

import troupe_test as t

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, default=15)
parser.add_argument("--rate", type=int, default=2000)
parser.add_argument("--every", type=float, default=0.5, help="seconds between crashes")
options = parser.parse_args()

with t.Stage() as stage:
    kafka, redis = stage.kafka(), stage.redis()
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        kafka.client.create_topic(topic, 4)
    node = stage.troupe({
        "kafka": {"brokers": kafka.bootstrap},
        "redis": {"host": "127.0.0.1", "port": redis.port},
        "cache": {"mode": "on"},
        "faults": {"enabled": True},
        "admin": {"token": "secret-of-the-test"},
        # A crash a second is far beyond what a healthy node sees.
        "supervision": {"intensity": 1_000_000, "period": "60s", "backoff_min": "1ms", "backoff_max": "50ms"},
    })
    node.wait_ready()
    records = int(options.rate * options.seconds)
    load = stage.start([t.TROUPE, "load", "--brokers", kafka.bootstrap, "--records", records, "--rate", options.rate,
                        "--distinct", "5000", "--wait-for", "30s", "--json"], "load")
    crashed = {}
    while load.running:
        time.sleep(options.every)
        if not load.running:
            break
        status, body = t.http("POST", f"http://127.0.0.1:{node.port}/admin/faults", {"crash": "random"},
                              {"Authorization": "Bearer secret-of-the-test"})
        assert status == 200, (status, body)
        name = json.loads(body)["crashed"]
        crashed[name] = crashed.get(name, 0) + 1
    report = json.loads(load.stdout())
    restarts = node.metrics().total("troupe_actor_restarts_total")
    print(json.dumps({"crashed": crashed, "restarts": restarts, "load": report}))
    assert load.wait() == 0, load.stderr()
    assert report["lost"] == 0, report
    assert report["sent"] == records, report
    assert report["predicted"] == records, report
    assert restarts >= sum(crashed.values()) * 0.9 > 0, (restarts, crashed)
    assert node.running
    # The token guards it, and nothing else opens it.
    assert t.http("POST", f"http://127.0.0.1:{node.port}/admin/faults", {"crash": "random"})[0] == 401
    assert node.stop() == 0, node.stderr()
