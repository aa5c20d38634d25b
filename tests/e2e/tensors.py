#!/usr/bin/env python3
"""Models that are no tables, on a real Kafka: tensors and strings by name, pictures as base64 and as the record's own bytes, and a
request that hangs its engine: dead-lettered, while all others are answered."""

import base64
import json
import shutil

import kafka_client as k
import troupe_test as t

if not (t.ROOT / ".deps/onnxruntime/lib/libonnxruntime.so").exists():
    t.skip("no ONNX Runtime: run scripts/deps")

DATA = t.ROOT / "tests/runtime/model/data"
JPEG = (DATA / "pictures/photo.jpg").read_bytes()


def ask(request_id, model, features):
    return k.Record(value=json.dumps({"request_id": request_id, "model": model, "features": features}).encode())


with t.Stage() as stage:
    models = stage.path("models")
    for name, graph, yaml in (("tensors", "tensors", ""), ("rounds", "rounds", ""),
                              ("picture", "picture", "input: {type: image, size: [4, 6], fit: stretch}\nsoftmax: true\ntop_k: 2\n")):
        folder = models / name / "1"
        folder.mkdir(parents=True)
        shutil.copy(DATA / f"onnxruntime/{graph}.onnx", folder / "model.onnx")
        if yaml:
            (folder / "model.yaml").write_text(yaml)
    kafka = stage.kafka()
    client = kafka.client
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        client.create_topic(topic, 1)
    node = stage.troupe({"kafka": {"brokers": kafka.bootstrap}, "models": {"directory": str(models), "default": "rounds"},
                         "onnxruntime": {"timeout": "3s"}, "breaker": {"open": "1s"}, "log": {"format": "json"}})
    node.wait_ready()

    hang = ask("hang", "rounds", [1e12])
    sent = [
        ask("object", "tensors", {"grid": [[1, 2, 3], [4, 5, 6]], "name": "b"}),
        ask("misshapen", "tensors", {"grid": [[1, 2, 3], [4, 5]], "name": "b"}),
        ask("base64", "picture", base64.b64encode(JPEG).decode()),
        k.Record(value=JPEG, headers=[("content-type", b"image/jpeg"), ("model", b"picture"), ("request_id", b"raw"), ("colour", b"red")]),
        k.Record(value=JPEG[:300], headers=[("content-type", b"image/jpeg"), ("model", b"picture"), ("request_id", b"cut")]),
        k.Record(value=JPEG, headers=[("content-type", b"image/jpeg"), ("model", b"rounds"), ("request_id", b"wrong model")]),
    ]
    sent += [ask(f"round {i}", "rounds", [i]) for i in range(20)] + [hang] + [ask(f"round {i}", "rounds", [i]) for i in range(20, 40)]
    client.produce("inference-requests", sent)
    wanted = len(sent) - 1

    def results():
        return client.read("inference-results")

    t.wait_until(lambda: len(results()) >= wanted and client.read("inference-requests-dlq"), "everything has ended", 120)
    found = results()
    answers = {}
    for record in found:
        value = json.loads(record.value)
        assert value["request_id"] not in answers, value
        answers[value["request_id"]] = (value, record)
    assert len(answers) == wanted, sorted(answers)

    value, _ = answers["object"]
    assert value["prediction"] == {"sum": 21, "turned": [-1, -2, -3, -4, -5, -6], "code": 2}, value
    assert answers["misshapen"][0]["error"]["code"] == "invalid_features", answers["misshapen"]
    for name in ("base64", "raw"):
        value, record = answers[name]
        assert len(value["top_k"]) == 2 and value["predicted_class"] == value["top_k"][0]["class"], value
        assert "probabilities" not in value, value
    assert answers["base64"][0]["top_k"] == answers["raw"][0]["top_k"]
    headers = dict(answers["raw"][1].headers)
    assert headers.get("colour") == b"red" and "content-type" not in headers, headers
    assert answers["cut"][0]["error"]["code"] == "invalid_features", answers["cut"]
    assert "JPEG" in answers["cut"][0]["error"]["message"], answers["cut"]
    assert "models that take bytes" in answers["wrong model"][0]["error"]["message"], answers["wrong model"]
    for i in range(40):
        assert answers[f"round {i}"][0].get("prediction") == i, answers[f"round {i}"]

    (dead,) = client.read("inference-requests-dlq")
    assert dead.value == hang.value
    headers = dict(dead.headers)
    assert headers["__connect.errors.exception.class.name"] == b"model_failed", headers
    assert b"ended the engine process twice" in headers["__connect.errors.exception.message"], headers
    print("dead letter:", headers["__connect.errors.exception.message"].decode())
    t.wait_until(lambda: node.metrics().total("inference_errors_total", code="model_failed") == 1, "it is counted")
    assert node.stop() == 0, node.stderr()
