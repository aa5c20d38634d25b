#!/usr/bin/env python3
"""Taking over the group of a consumer written by hand, as docs/migrating.md says: beside one with the usual assignor a node waits and says why,
and goes on at its offsets when it has left; with partition.assignment.strategy=range the two share the partitions."""

import json
import subprocess

import troupe_test as t

PYTHON = "/usr/bin/python3"
if subprocess.run([PYTHON, "-c", "import confluent_kafka"], capture_output=True).returncode:
    t.skip("no confluent-kafka for Debian's Python: scripts/deps --test")
OLD = """
import signal, sys, confluent_kafka
run = [True]
signal.signal(signal.SIGTERM, lambda *_: run.clear())
consumer = confluent_kafka.Consumer({"bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "auto.offset.reset": "earliest"})
consumer.subscribe(["inference-requests"], on_assign=lambda _, parts: print("assigned", len(parts), flush=True))
while run:
    message = consumer.poll(0.2)
    if message is not None and not message.error():
        print("read", flush=True)
consumer.close()
"""
RECORD = json.dumps({"value": {"features": [0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0, 0.02, -0.02]}})

with t.Stage() as stage:
    kafka = stage.kafka()
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        kafka.client.create_topic(topic, 4)

    def send(count):
        done = t.run("load", "--brokers", kafka.bootstrap, "--no-wait", "--raw", "-", stdin=(RECORD + "\n") * count)
        assert done.returncode == 0, done.stderr

    def old_consumer(group):
        process = stage.start([PYTHON, "-c", OLD, kafka.bootstrap, group], "old")
        t.wait_until(lambda: "assigned 4" in process.stdout(), "the old consumer has all partitions")
        return process

    def node_in(group, **properties):
        return stage.troupe({"kafka": {"brokers": kafka.bootstrap, "group": group, "properties": properties}, "http": {}, "log": {"format": "json"},
                             "models": {"default": "diabetes-rf-model"}})

    # --- its place is taken when it has gone, at its offsets
    old = old_consumer("scoring")
    send(40)
    t.wait_until(lambda: old.stdout().count("read") == 40, "the old consumer has read all")
    node = node_in("scoring")
    t.wait_until(lambda: b"Inconsistent group protocol" in node.get("/ready")[1], "the node says why it waits")
    node.wait_ready()
    assert '"partitions_assigned"' not in node.stdout()
    assert old.stop() == 0
    t.wait_until(lambda: '"partitions":"0,1,2,3"' in node.stdout(), "the node has the partitions")
    send(60)
    t.wait_until(lambda: node.metrics().total("inference_requests_total", status="success") >= 60, "what came since is answered")
    assert len(kafka.client.read("inference-results")) == 60
    assert node.stop() == 0

    # --- or both at once
    old = old_consumer("shared")
    node = node_in("shared", **{"partition.assignment.strategy": "range"})
    t.wait_until(lambda: "assigned 2" in old.stdout() and '"event":"partitions_assigned"' in node.stdout(), "each has two partitions")
    assert old.stop() == 0
    t.wait_until(lambda: '"partitions":"0,1,2,3"' in node.stdout(), "the node has all of them")
    assert node.stop() == 0
