#!/usr/bin/env python3
"""A model whose model.yaml has categories, bounds, defaults and scaling answers as the model alone does to the columns that come out; what is
out of bounds or no category is an error that names the feature."""

import json
import shutil

import kafka_client as k
import troupe_test as t

NATIVE = t.ROOT / "tests/runtime/model/native/ridge"
WIDTH = len(json.loads((NATIVE / "expected.json").read_text())["rows"][0])
REST = [0.25 * i for i in range(WIDTH - 4)]

YAML = """features:
  - {name: colour, categories: [red, green, blue], encode: one_hot, unknown: ignore, default: green}
  - {name: age, minimum: 0, maximum: 120, default: 40, mean: 38.5, scale: 12.1}
""" + "".join(f"  - x{i}\n" for i in range(len(REST)))


def ask(request_id, model, features):
    return k.Record(value=json.dumps({"request_id": request_id, "model": model, "features": features}).encode())


def columns(colour, age):
    return [float(colour == c) for c in ("red", "green", "blue")] + [(age - 38.5) / 12.1] + REST


with t.Stage() as stage:
    models = stage.path("models")
    for name in ("plain", "prepared"):
        (models / name / "1").mkdir(parents=True)
        shutil.copy(NATIVE / "model.skops", models / name / "1/model.skops")
    (models / "prepared/1/model.yaml").write_text(YAML)
    (models / "prepared/1/probe.json").write_text(json.dumps([["blue", 30, *REST]]))
    kafka = stage.kafka()
    client = kafka.client
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        client.create_topic(topic, 1)
    node = stage.troupe({"kafka": {"brokers": kafka.bootstrap}, "models": {"directory": str(models), "default": "plain"}, "log": {"format": "json"}})
    node.wait_ready()

    named = {f"x{i}": x for i, x in enumerate(REST)}
    pairs = {
        "list": (["red", 20, *REST], columns("red", 20)),
        "by name": ({"colour": "blue", "age": 0, **named}, columns("blue", 0)),
        "left out": (named, columns("green", 40)),
        "null": ([None, None, *REST], columns("green", 40)),
        "unknown": (["pink", 120, *REST], columns("pink", 120)),
    }
    bad = {
        "old": (["red", 120.5, *REST], "feature 'age' is 120.5, and must be from 0 to 120"),
        "number": ([1, 20, *REST], "feature 'colour' must be one of red, green, blue, found a number"),
    }
    sent = []
    for name, (features, plain) in pairs.items():
        # Twice: the second may come from the cache.
        sent += [ask(name, "prepared", features), ask(name + " plain", "plain", plain), ask(name + " again", "prepared", features)]
    sent += [ask(name, "prepared", features) for name, (features, _) in bad.items()]
    client.produce("inference-requests", sent)
    t.wait_until(lambda: len(client.read("inference-results")) >= len(sent), "everything is answered", 60)
    answers = {v["request_id"]: v for v in (json.loads(r.value) for r in client.read("inference-results"))}
    assert len(answers) == len(sent), sorted(answers)
    for name in pairs:
        one, again, plain = (answers[name + x] for x in ("", " again", " plain"))
        assert "prediction" in one and one["prediction"] == again["prediction"] == plain["prediction"], (one, again, plain)
    assert len({answers[n]["prediction"] for n in ("list", "by name", "left out", "unknown")}) == 4
    for name, (_, message) in bad.items():
        assert answers[name]["error"] == {"code": "invalid_features", "message": message}, answers[name]
    assert node.stop() == 0, node.stderr()
print("ok")
