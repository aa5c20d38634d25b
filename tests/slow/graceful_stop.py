#!/usr/bin/env python3
"""SIGTERM to one of two instances in one group, again and again under load, on a real Kafka: each stop ends in time, nothing is lost,
nothing is answered twice. Not among the everyday tests: on a machine so busy that the broker drops a member (partitions_lost in
the logs) answers are given twice, as they should be: such a run fails too, and says that it was so. PYTHONPATH=tests/support TROUPE=build/release/troupe

    graceful_stop.py [--stops 2] [--rate 2000] [--pause 4]
"""

import argparse
import json
import time

import troupe_test as t

parser = argparse.ArgumentParser()
parser.add_argument("--stops", type=int, default=2)
parser.add_argument("--rate", type=int, default=2000)
parser.add_argument("--pause", type=float, default=4, help="seconds of load between a stop and the next, at least")
options = parser.parse_args()
DRAIN = 30  # seconds: the default of what a stop may take


def partitions(node):
    return node.metrics().total("troupe_assigned_partitions")


with t.Stage() as stage:
    kafka = stage.kafka()
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        kafka.client.create_topic(topic, 4)
    config = {"kafka": {"brokers": kafka.bootstrap}}
    every = []  # node that ever ran

    def start():
        every.append(stage.troupe(config))
        return every[-1]

    nodes = [start(), start()]
    for node in nodes:
        node.wait_ready()

    def both_own():
        return all(n.running and partitions(n) == 2 for n in nodes)

    t.wait_until(both_own, "both instances own two partitions each")
    # It outlasts the stops: it is stopped itself once they are done, and then waits for its answers.
    load = stage.start([t.TROUPE, "load", "--brokers", kafka.bootstrap, "--records", 100_000_000, "--rate", options.rate,
                        "--wait-for", "60s", "--json"], "load")
    took = []
    for i in range(options.stops):
        t.wait_until(both_own, "both own partitions before the next stop", 60)
        answered = [n.metrics().total("inference_requests_total", door="kafka", status="success") for n in nodes]
        t.wait_until(lambda: all(n.metrics().total("inference_requests_total", door="kafka", status="success") - a
                                 > options.rate * options.pause / 4 for n, a in zip(nodes, answered)),
                     "both are under load", 60)
        leaving = nodes[i % 2]
        begun = time.monotonic()
        assert leaving.stop(DRAIN + 10) == 0, leaving.stderr()
        took.append(round(time.monotonic() - begun, 2))
        assert took[-1] < DRAIN, took
        nodes[i % 2] = start()
        nodes[i % 2].wait_ready()
    t.wait_until(both_own, "both own partitions at the end", 60)
    load.signal(2)
    status = load.wait(120)
    report = json.loads(load.stdout())
    print(json.dumps({"stopped_after_s": took, "load": report}))
    assert report["sent"] > 0 and report["lost"] == 0 and report["predicted"] == report["sent"], (status, report, load.stderr())
    for node in nodes:
        assert node.stop() == 0, node.stderr()
    if report["duplicated"]:
        said = [line for node in every for line in node.stdout().splitlines() if '"level":"warn"' in line or '"level":"error"' in line]
        if any('"event":"partitions_lost"' in line for line in said):
            said.insert(0, "the group dropped a member meanwhile (partitions_lost): look there first, and run it again")
        raise AssertionError("\n".join([str(report), *said]))
