#!/usr/bin/env python3
"""Kafka in bulk and HTTP callers at once, on one node, while a random actor crashes again and again: every record gets its
one answer, every HTTP request its 200, with the right values.

    two_doors.py [--seconds 10] [--rate 2000] [--every 0.5]
"""

import argparse
import http.client
import json
import threading
import time

import troupe_test as t

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, default=10)
parser.add_argument("--rate", type=int, default=2000, help="records a second over Kafka")
parser.add_argument("--every", type=float, default=0.5, help="seconds between crashes")
options = parser.parse_args()

TOKEN = {"Authorization": "Bearer secret-of-the-test"}
CALLERS = 4


def row(caller, k):
    """Each of its own, so that no cache answers."""
    return [0.01 * caller, 0.05, 0.0001 * (k % 1000), 0.00001 * (k // 1000), -0.04, -0.03, -0.04, 0, 0.02, -0.02]


def linear(rows):
    return json.dumps({"inputs": [{"name": "input", "shape": [len(rows), 10], "datatype": "FP64", "data": rows}]})


with t.Stage() as stage:
    kafka = stage.kafka()
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        kafka.client.create_topic(topic, 4)
    node = stage.troupe({
        "http": {"queue_timeout": "60s", "admission": False},
        "kafka": {"brokers": kafka.bootstrap},
        "faults": {"enabled": True},
        "admin": {"token": "secret-of-the-test"},
        "supervision": {"intensity": 1_000_000, "period": "60s", "backoff_min": "1ms", "backoff_max": "50ms"},
    })
    node.wait_ready()
    records = int(options.rate * options.seconds)
    load = stage.start([t.TROUPE, "load", "--brokers", kafka.bootstrap, "--records", records, "--rate", options.rate,
                        "--distinct", "5000", "--wait-for", "30s", "--json"], "load")
    done = threading.Event()
    answers, wrong = [[] for _ in range(CALLERS)], []

    def call(number):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=60)
            while not done.is_set():
                k = len(answers[number])
                connection.request("POST", "/v2/models/diabetes-rf-model/infer", linear([row(number, k)]))
                reply = connection.getresponse()
                body = reply.read()
                if reply.status != 200:
                    wrong.append((number, k, reply.status, body))
                    return
                answers[number].append(json.loads(body)["outputs"][0]["data"][0])
        except BaseException as error:  # noqa: BLE001
            wrong.append((number, repr(error)))

    callers = [threading.Thread(target=call, args=[n]) for n in range(CALLERS)]
    for caller in callers:
        caller.start()
    crashed = {}
    while load.running:
        time.sleep(options.every)
        if not load.running:
            break
        status, body = t.http("POST", f"http://127.0.0.1:{node.port}/admin/faults", {"crash": "random"}, TOKEN)
        assert status == 200, (status, body)
        name = json.loads(body)["crashed"]
        crashed[name] = crashed.get(name, 0) + 1
    # What answers HTTP is among them in any case.
    for _ in range(5):
        for child in t.actors(json.loads(t.http("GET", f"http://127.0.0.1:{node.port}/admin/tree", None, TOKEN)[1])["supervisor"]):
            if child["name"].startswith(("gateway", "scheduler", "shard", "model_shard", "cache_client")):
                before = sum(map(len, answers))
                status, _ = t.http("POST", f"http://127.0.0.1:{node.port}/admin/faults", {"crash": child["name"]}, TOKEN)
                crashed[child["name"]] = crashed.get(child["name"], 0) + (status == 200)
                t.wait_until(lambda: sum(map(len, answers)) > before + CALLERS or wrong, "the callers get answers again")
    done.set()
    for caller in callers:
        caller.join(70)
    report = json.loads(load.stdout())
    print(json.dumps({"crashed": crashed, "http": [len(a) for a in answers], "load": report}))
    assert not wrong, wrong[:3]
    assert any(name.startswith("gateway") for name in crashed), crashed
    for number, found in enumerate(answers):
        assert len(found) > 10, number
        connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=60)
        for k in range(0, len(found), 1000):
            rows = [row(number, i) for i in range(k, min(k + 1000, len(found)))]
            connection.request("POST", "/v2/models/diabetes-rf-model/infer", linear(rows))
            reply = json.loads(connection.getresponse().read())
            assert reply["outputs"][0]["data"] == found[k:k + 1000], (number, k)
        connection.close()
    assert load.wait() == 0, load.stderr()
    assert (report["sent"], report["predicted"], report["lost"]) == (records, records, 0), report
    metrics = node.metrics()
    assert metrics.total("inference_requests_total", door="http", status="success") >= sum(map(len, answers))
    assert metrics.total("inference_requests_total", door="http", status="error") == 0
    assert metrics.total("inference_requests_total", door="kafka", status="success") >= records
    assert node.stop() == 0, node.stderr()
