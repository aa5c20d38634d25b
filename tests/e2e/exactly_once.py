#!/usr/bin/env python3
"""Exactly once on a real Kafka, for a reader of what is committed: through crashes of actors, kill -9, and two
instances that by mistake have one transactional id.

    exactly_once.py [--seconds 24] [--rate 1000] [--kills 2] [--crashes 12]
"""

import argparse
import json
import time

import troupe_test as t
from kafka_client import Record

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, default=24)
parser.add_argument("--rate", type=int, default=1000)
parser.add_argument("--kills", type=int, default=2)
parser.add_argument("--crashes", type=int, default=12)
options = parser.parse_args()

TOKEN = "secret"


def config(kafka, name, **more):
    return {"kafka": {"brokers": kafka.bootstrap, "delivery": "exactly_once", "transactional_id": name, **more},
            "supervision": {"intensity": 1000}, "admin": {"token": TOKEN}, "faults": {"enabled": True}}


def partitions(node):
    return node.metrics().total("troupe_assigned_partitions")


def committed(nodes):
    return sum(n.metrics().total("troupe_transactions_total", result="committed") for n in nodes)


def crash(node, actor):
    status, body = t.http("POST", f"http://127.0.0.1:{node.port}/admin/faults", {"crash": actor},
                          {"Authorization": f"Bearer {TOKEN}"})
    assert status in (200, 404), (status, body)


def load(stage, kafka, name, records, *more):
    return stage.start([t.TROUPE, "load", "--brokers", kafka.bootstrap, "--records", records, "--rate", options.rate,
                        "--wait-for", "90s", "--json", *more], name)


def judge(process, records, seconds):
    status = process.wait(seconds)
    report = json.loads(process.stdout())
    print(json.dumps({"load": report}))
    assert status == 0, process.stderr()
    assert report["sent"] == records and report["predicted"] == records, report
    assert report["lost"] == 0 and report["duplicated"] == 0, report
    return report


with t.Stage() as stage:
    kafka = stage.kafka()
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        kafka.client.create_topic(topic, 4)
    nodes = [stage.troupe(config(kafka, "one")), stage.troupe(config(kafka, "two"))]
    for node in nodes:
        node.wait_ready()
    t.wait_until(lambda: all(partitions(n) == 2 for n in nodes), "both instances own two partitions each", 120)

    # Actors crash, and whole processes.
    records = int(options.rate * options.seconds)
    run = load(stage, kafka, "load", records)
    transactions = 0  # of processes that are gone
    begin = time.monotonic()
    todo = sorted([(options.seconds * (i + 0.5) / options.kills, "kill", i) for i in range(options.kills)]
                  + [(options.seconds * (i + 0.3) / options.crashes, "crash", i) for i in range(options.crashes)])
    for at, what, i in todo:
        time.sleep(max(0.0, begin + at - time.monotonic()))  # spread over the run, not a synchronisation
        if what == "crash":
            crash(nodes[i % 2], ("producer", "random", "scheduler", "random")[i % 4])
            continue
        t.wait_until(lambda: all(n.running and partitions(n) == 2 for n in nodes), "both own before the kill", 60)
        transactions += committed([nodes[i % 2]])
        nodes[i % 2].kill()
        nodes[i % 2] = stage.troupe(config(kafka, ("one", "two")[i % 2]))
        nodes[i % 2].wait_ready()
    judge(run, records, options.seconds + 200)
    assert transactions + committed(nodes) > 0, "nothing went by transactions"
    for node in nodes:
        assert node.stop() == 0, node.stderr()
    assert kafka.client.committed("inference-service", "inference-requests") == \
        kafka.client.end_offsets("inference-requests"), "all that was read is committed"

    # Two with one identity: each fences the other, again and again; what a reader sees stays right.
    nodes = [stage.troupe(config(kafka, "same")), stage.troupe(config(kafka, "same"))]
    for node in nodes:
        node.wait_ready()
    records = 2000
    judge(load(stage, kafka, "load-of-two", records, "--keyed"), records, 200)
    # A record that can't be read is dead-lettered in the transaction as well, once.
    kafka.client.produce("inference-requests", [Record(value=b"no json")])
    t.wait_until(lambda: len(kafka.client.read("inference-requests-dlq")) == 1, "one dead letter", 60)
    for node in nodes:
        assert node.stop() == 0, node.stderr()
    assert len(kafka.client.read("inference-requests-dlq")) == 1
    # Who looks for the reason finds it in each line about it: which option, and what to do.
    lines = [line for node in nodes for line in node.log()]
    fenced = [line for line in lines if "fenced" in json.dumps(line)]
    # Which call finds out first, and so which lines there are, differs from run to run.
    assert fenced, [line["event"] for line in lines]
    for line in fenced:
        assert "two instances have the same kafka.transactional_id: give each its own" in json.dumps(line), line
        assert "'same'" in json.dumps(line), line
    assert all(value for line in lines for value in line.values()), lines
    print("exactly once: ok")
