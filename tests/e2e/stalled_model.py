#!/usr/bin/env python3
"""Two models share a partition of a real Kafka, and the engine of one dies again and again: records of the other are all
answered, those of the first are parked with the reason, and answered again once its engine lives."""

import json
import os
import shutil
import signal
import threading
import time

import troupe_test as t
from kafka_client import Record

if not (t.ROOT / ".deps/onnxruntime/lib/libonnxruntime.so").exists():
    t.skip("no ONNX Runtime: run scripts/deps")

RECORDS = 6_000  # of each model, far beyond the credit
TOPICS = ("inference-requests", "inference-results", "inference-requests-dlq", "inference-requests-parked")


def request(n, model, width):
    body = {"request_id": f"{model}-{n}", "model": model, "features": [n * 0.001] * width}
    return Record(key=str(n).encode(), value=json.dumps(body).encode(), partition=0, headers=[("kept", b"yes")])


with t.Stage() as stage:
    kafka = stage.kafka()
    for topic in TOPICS:
        kafka.client.create_topic(topic, 1)
    models = stage.path("models")
    (models / "mlp" / "1").mkdir(parents=True)
    shutil.copy(t.ROOT / "tests/runtime/model/data/onnxruntime/mlp.onnx", models / "mlp" / "1" / "model.onnx")
    shutil.copytree(t.ROOT / "models" / "diabetes-rf-model", models / "diabetes-rf-model")
    node = stage.troupe({
        "kafka": {"brokers": kafka.bootstrap, "credit_records": 1000, "parking_topic": TOPICS[3]},
        "models": {"directory": str(models), "default": "diabetes-rf-model", "stall_limit": "2s", "credit_share": 0.5},
        "breaker": {"open": "1s"}, "onnxruntime": {"timeout": "300ms"}, "cache": {"mode": "off"},
        "admin": {"token": "secret-of-the-test"},
    })
    node.wait_ready()
    broken = threading.Event()
    broken.set()

    def kill_engines():
        while broken.is_set() and node.running:
            for child in t.engines_of(node.pid):
                try:
                    os.kill(child, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.005)

    killer = threading.Thread(target=kill_engines)
    killer.start()
    try:
        mixed = [r for n in range(RECORDS) for r in (request(n, "mlp", 10), request(n, "diabetes-rf-model", 10))]
        kafka.client.produce(TOPICS[0], mixed)
        healthy = lambda: [r for r in kafka.client.read(TOPICS[1]) if b"diabetes-rf-model-" in r.value]
        t.wait_until(lambda: len(healthy()) >= RECORDS, "the other model's records are answered", 120, 1)
        ends = lambda: sum(sum(kafka.client.end_offsets(topic).values()) for topic in TOPICS[1:])
        t.wait_until(lambda: ends() >= 2 * RECORDS, "every record has ended", 60, 1)
    finally:
        broken.clear()
        killer.join()
    ids = lambda topic: {json.loads(r.value)["request_id"] for r in kafka.client.read(topic)}
    parked = kafka.client.read(TOPICS[3])
    results, dead = ids(TOPICS[1]), ids(TOPICS[2])
    assert {r for r in results if r.startswith("diabetes")} == {f"diabetes-rf-model-{n}" for n in range(RECORDS)}
    assert not any(r.startswith("diabetes") for r in dead | ids(TOPICS[3]))
    assert results | dead | ids(TOPICS[3]) >= {f"mlp-{n}" for n in range(RECORDS)}
    for r in parked:
        assert r.header("kept") == b"yes" and r.key is not None, r
        assert r.header("__connect.errors.topic") == TOPICS[0].encode(), r
        assert r.header("__connect.errors.exception.class.name") == b"unavailable", r
    metrics = node.metrics()
    print(json.dumps({"results": len(results), "dead": len(dead), "parked": len(parked)}))
    assert metrics.total("troupe_parked_records_total") == len(parked) > RECORDS / 2, len(parked)
    t.wait_until(lambda: kafka.client.committed("inference-service", TOPICS[0]).get(0) == 2 * RECORDS, "all is committed")

    # Its engine lives: a few records are what the breaker probes with, then all are answered.
    again = RECORDS
    before = len(parked)

    def answered_again():
        global again
        kafka.client.produce(TOPICS[0], [request(n, "mlp", 10) for n in range(again, again + 10)])
        again += 10
        return any(r.value and b"\"mlp-%d\"" % n in r.value and b"prediction" in r.value
                   for r in kafka.client.read(TOPICS[1]) for n in range(RECORDS, again))

    t.wait_until(answered_again, "the model answers again", 60, 1)
    status = t.run("tree", "--url", f"http://127.0.0.1:{node.port}",
                   environment={"TROUPE_ADMIN_TOKEN": "secret-of-the-test"})
    print(status.stdout)
    assert status.returncode == 0 and "model mlp/1" in status.stdout and "one_for_one" in status.stdout, status
    assert node.running and node.stop() == 0, node.stderr()
