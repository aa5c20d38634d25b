#!/usr/bin/env python3
"""Requests that ask why, on a real Kafka: contributions add up to the score, agree with `troupe models explain`, and cached
answers do not swallow them."""

import json
import shutil

import kafka_client as k
import troupe_test as t

ROW = {"age": 0.04, "sex": 0.05, "bmi": 0.06, "bp": 0.02, "s1": -0.04, "s2": -0.03, "s3": -0.04, "s4": 0, "s5": 0.02, "s6": -0.02}


def ask(request_id, headers=(), **more):
    return k.Record(value=json.dumps({"request_id": request_id, "features": ROW, **more}).encode(), headers=list(headers))


with t.Stage() as stage:
    models = stage.path("models")
    shutil.copytree(t.ROOT / "models", models)
    kafka = stage.kafka()
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        kafka.client.create_topic(topic, 1)

    def answers(records):
        """Of those records, by id."""
        before = kafka.client.end_offsets("inference-results")
        kafka.client.produce("inference-requests", records)
        read = lambda: kafka.client.read("inference-results", before)
        t.wait_until(lambda: len(read()) == len(records), "everything is answered")
        return {value["request_id"]: value for value in (json.loads(r.value) for r in read())}

    config = {"kafka": {"brokers": kafka.bootstrap}, "models": {"directory": str(models), "explain": True, "max_explained_rows": 3},
              "cache": {"mode": "on"}, "redis": {"host": ""}}
    node = stage.troupe(config)
    node.wait_ready()
    linear = {"model": "diabetes-linear"}
    found = answers([ask("plain", **linear), ask("plain again", **linear), ask("why", explain=True, **linear),
                                ask("by header", [("explain", b"true")], **linear),
                                k.Record(value=json.dumps({"request_id": "three rows", "features": [ROW] * 3, "explain": True, **linear}).encode()),
                                k.Record(value=json.dumps({"request_id": "four rows", "features": [ROW] * 4, "explain": True, **linear}).encode()),
                                ask("no word", explain="yes", **linear),
                                ask("forest of ONNX", explain=True, model="diabetes-rf-model")])
    assert "explanation" not in found["plain"] and "explanation" not in found["plain again"]
    (why,) = found["why"]["explanation"]
    assert set(why["contributions"]) == set(ROW), why
    assert abs(why["base"] + sum(why["contributions"].values()) - why["score"]) < 1e-9, why
    assert abs(why["score"] - found["why"]["prediction"]) < 1e-9, found["why"]
    assert found["by header"]["explanation"] == found["why"]["explanation"]
    assert found["three rows"]["explanation"] == [found["why"]["explanation"]] * 3
    assert found["four rows"]["error"]["code"] == "too_large", found["four rows"]
    assert found["no word"]["error"]["code"] == "invalid_json", found["no word"]
    assert "cannot be explained" in found["forest of ONNX"]["error"]["message"], found["forest of ONNX"]
    said = json.loads(t.run("models", "explain", "--set", f"models.directory={models}", "--model", "diabetes-linear", "--features", json.dumps(ROW),
                            "--json").stdout)
    assert said["rows"][0]["outputs"][0]["contributions"] == why["contributions"], said
    assert node.stop() == 0, node.stderr()

    config["models"].pop("explain")
    node = stage.troupe(config)
    node.wait_ready()
    found = answers([ask("off", explain=True, **linear), ask("false", explain=False, **linear)])
    assert "models.explain" in found["off"]["error"]["message"], found["off"]
    assert "explanation" not in found["false"] and "prediction" in found["false"]
    assert node.stop() == 0, node.stderr()
    print("explained")
