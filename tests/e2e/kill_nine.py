#!/usr/bin/env python3
"""kill -9 of one of two instances in one group, again and again, on a real Kafka: a prediction for every id.

    kill_nine.py [--seconds 25] [--rate 2000] [--kills 2] [--named]

--named: with kafka.instance_id, so that the killed one has its partitions again when it is back.
"""

import argparse
import json
import time

import troupe_test as t

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, default=30)
parser.add_argument("--rate", type=int, default=2000)
parser.add_argument("--kills", type=int, default=2)
parser.add_argument("--named", action="store_true")
options = parser.parse_args()


def partitions(node):
    return node.metrics().total("troupe_assigned_partitions")


with t.Stage() as stage:
    kafka = stage.kafka()
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        kafka.client.create_topic(topic, 4)

    def config(i):
        return {"kafka": {"brokers": kafka.bootstrap, **({"instance_id": f"node-{i}", "properties": {"session.timeout.ms": "45000"}} if options.named else {})}}

    nodes = [stage.troupe(config(i)) for i in range(2)]
    for node in nodes:
        node.wait_ready()

    def both_own():
        return all(n.running and partitions(n) == 2 for n in nodes)

    t.wait_until(both_own, "both instances own two partitions each")
    records = int(options.rate * options.seconds)
    load = stage.start([t.TROUPE, "load", "--brokers", kafka.bootstrap, "--records", records, "--rate", options.rate,
                        "--wait-for", "60s", "--json"], "load")
    begin = time.monotonic()
    recovered = []
    for i in range(options.kills):
        t.wait_until(both_own, "both own partitions before the next kill", 60)
        due = begin + options.seconds * (i + 0.5) / options.kills
        time.sleep(max(0.0, due - time.monotonic()))  # spread over the run, not a synchronisation
        victim = i % 2
        nodes[victim].kill()
        at = time.monotonic()
        if options.named:
            nodes[victim] = stage.troupe(config(victim))
            nodes[victim].wait_ready()
            t.wait_until(lambda: partitions(nodes[victim]) == 2, "it has its partitions again", 60, 0.02)
            assert partitions(nodes[1 - victim]) == 2, "the other one was disturbed"
            recovered.append(round(time.monotonic() - at, 2))
            continue
        t.wait_until(lambda: partitions(nodes[1 - victim]) == 4, "the other instance owns all partitions", 60, 0.02)
        recovered.append(round(time.monotonic() - at, 2))
        nodes[victim] = stage.troupe(config(victim))
        nodes[victim].wait_ready()
    status = load.wait(options.seconds + 180)
    report = json.loads(load.stdout())
    print(json.dumps({"took_over_after_s": recovered, "load": report}))
    assert status == 0, load.stderr()
    assert report["sent"] == records and report["lost"] == 0 and report["predicted"] == records, report
    for node in nodes:
        assert node.stop() == 0, node.stderr()
