#!/usr/bin/env python3
"""Instances join and leave a group on a real Kafka under load: nothing is lost or answered twice, partitions that stay with their
instance are never taken from it, and the lag ends at 0.

    scaling.py [--rate 500] [--instances 3]
"""

import argparse
import json
import re

import troupe_test as t

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=int, default=500)
parser.add_argument("--instances", type=int, default=3)
options = parser.parse_args()

PARTITIONS, SECONDS = 12, 30


def moves(node):
    """-> [(assigned or revoked, partitions)] in order."""
    found = []
    for line in node.stdout().splitlines():
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") in ("partitions_assigned", "partitions_revoked", "partitions_lost"):
            found.append((event["event"].removeprefix("partitions_"), {int(p) for p in re.findall(r"\d+", event.get("partitions", ""))}))
    return found


def has(node):
    held = set()
    for what, partitions in moves(node):
        held = held | partitions if what == "assigned" else held - partitions
    return held


def shared_out(nodes):
    """Each partition has one reader, and shares are even."""
    shares = [has(node) for node in nodes]
    return sum(map(len, shares)) == len(set().union(*shares)) == PARTITIONS and max(map(len, shares)) - min(map(len, shares)) <= 1


with t.Stage() as stage:
    kafka = stage.kafka()
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        kafka.client.create_topic(topic, PARTITIONS)

    def instance():
        node = stage.troupe({"kafka": {"brokers": kafka.bootstrap, "properties": {"session.timeout.ms": "45000"}}, "log": {"format": "json"}, "cache": {"mode": "off"}})
        node.wait_ready()
        return node

    nodes = [instance()]
    t.wait_until(lambda: shared_out(nodes), "the first has all partitions", 60)
    load = stage.load(kafka, options.rate * SECONDS, options.rate)
    t.wait_until(lambda: nodes[0].metrics().total("inference_requests_total") > options.rate, "answers come", 60)

    def change(step, what):
        """Does the step; only partitions that change their reader are taken from those who stay."""
        staying = {node: (has(node), len(moves(node))) for node in nodes if not (what == "leaves" and node is nodes[-1])}
        step()
        t.wait_until(lambda: shared_out(nodes), f"{len(nodes)} share the partitions", 60)
        for node, (had, seen) in staying.items():
            taken = set().union(*(partitions for event, partitions in moves(node)[seen:] if event != "assigned"))
            assert taken == had - has(node), f"one {what}: of {sorted(had)} {sorted(had - has(node))} moved, but {sorted(taken)} were taken away"

    def leave():
        assert nodes[-1].stop() == 0, nodes[-1].stderr()
        nodes.pop()

    for _ in range(options.instances - 1):
        change(lambda: nodes.append(instance()), "joins")
    shares = [sorted(has(node)) for node in nodes]
    while len(nodes) > 1:
        change(leave, "leaves")

    assert load.wait(180) == 0, load.stdout() + load.stderr()
    report = json.loads(load.stdout())
    print(shares, {key: report[key] for key in ("sent", "predicted", "errors", "lost", "duplicated", "p50_ms", "p99_ms", "longest_gap_ms")})
    assert report["predicted"] == options.rate * SECONDS, report
    assert report["lost"] == report["duplicated"] == report["errors"] == 0, report
    t.wait_until(lambda: nodes[0].metrics().total("troupe_consumer_lag_records") == 0 == nodes[0].metrics().total("troupe_consumer_lag_seconds"),
                 "all is worked off", 30)
    assert nodes[0].stop() == 0, nodes[0].stderr()
