#!/usr/bin/env python3
"""Redis stopped and started under load: results go on, the breaker opens and closes, readiness is not touched.

    redis_outage.py [--rate 3000]
"""

import argparse
import json
import re
import signal

import troupe_test as t

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=int, default=3000)
options = parser.parse_args()
OPEN = 2

with t.Stage() as stage:
    kafka, redis, node = stage.node_on_kafka_and_redis({"redis": {"breaker_open": "1s"}})

    def breaker():
        return node.metrics().total("troupe_breaker_state", name="redis")

    def answered():
        return node.metrics().total("inference_requests_total", status="success")

    load = stage.load(kafka, 1_000_000, options.rate, "--distinct", 1_000_000, wait_for="30s")
    t.wait_until(lambda: answered() > options.rate, "results come")
    # On a busy machine its first answers may be late, and the breaker open for a while.
    t.wait_until(lambda: b"db0" in redis.command("INFO", "keyspace"), "predictions are in Redis")
    for outage in (redis.kill, redis.freeze):
        t.wait_until(lambda: breaker() == 0, "the breaker is closed")
        outage()
        t.wait_until(lambda: breaker() == OPEN, "the breaker opens", 20)
        before = answered()
        t.wait_until(lambda: answered() > before + options.rate, "results go on without Redis", 20)
        status, body = node.get("/ready")
        assert status == 200 and b"degraded" in body and b"redis" in body.lower(), (status, body)
        redis.start() if outage == redis.kill else redis.thaw()
        t.wait_until(lambda: breaker() == 0, "the breaker closes again", 20)
    load.signal(signal.SIGINT)
    assert load.wait(120) == 0, load.stdout() + load.stderr()
    report = json.loads(load.stdout())
    print(json.dumps(report))
    assert report["lost"] == 0 and report["predicted"] == report["sent"] > options.rate, report
    assert node.stop() == 0, node.stderr()
    events = [e for e in re.findall(r'"event":"(redis_\w+)"', node.stdout() + node.stderr()) if e != "redis_refuses_items"]
    assert "redis_lost" in events and events[-1] == "redis_connected", events
