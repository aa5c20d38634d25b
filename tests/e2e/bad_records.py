#!/usr/bin/env python3
"""Every kind of bad record, on a real Kafka, among good ones of the same partition: each ends as docs/formats.md says,
exactly once, is counted, and the partition goes on."""

import base64
import json
import time

import troupe_test as t

GOOD = [0.038, 0.05, 0.061, 0.021, -0.044, -0.034, -0.043, -0.002, 0.019, -0.017]
PREDICTION = "prediction"
DEAD = "dead letter"


def request(features=GOOD, **more):
    return json.dumps({"request_id": "?", "features": features, **more})


def features(text):
    return '{"request_id": "?", "features": %s}' % text


def with_first(text):
    return features("[%s, %s]" % (text, ", ".join(map(str, GOOD[1:]))))


MIB = 1 << 20
hour_ago = int(time.time() * 1000) - 3_600_000

# name, the record's value, how it ends, the code
CASES = [
    ("tombstone", None, DEAD, "invalid_json"),
    ("empty value", "", DEAD, "invalid_json"),
    ("blank value", " \n ", DEAD, "invalid_json"),
    ("not JSON", "hello", DEAD, "invalid_json"),
    ("cut short", request()[:-2], DEAD, "invalid_json"),
    ("text behind it", request() + "x", DEAD, "invalid_json"),
    ("single quotes", request().replace('"', "'"), DEAD, "invalid_json"),
    ("a list", "[1, 2]", DEAD, "invalid_json"),
    ("a number", "7", DEAD, "invalid_json"),
    ("null", "null", DEAD, "invalid_json"),
    ("invalid UTF-8", b'{"request_id": "?", "features": [1], "x": "\xff\xfe"}', DEAD, "invalid_json"),
    ("deep nesting", '{"features": ' + "[" * 100_000 + "]" * 100_000 + "}", DEAD, "invalid_json"),
    ("2 MiB", request(filler="x" * (2 * MIB)), DEAD, "too_large"),
    ("no features", '{"request_id": "?"}', "error", "invalid_features"),
    ("features of another shape", features('"text"'), "error", "invalid_features"),
    ("0 features", features("[]"), "error", "invalid_features"),
    ("9 features", request(GOOD[:9]), "error", "invalid_features"),
    ("11 features", request(GOOD + [1]), "error", "invalid_features"),
    ("50,000 features", request([0.5] * 50_000), "error", "invalid_features"),
    ("NaN", with_first("NaN"), "error", "invalid_features"),
    ("Infinity", with_first("Infinity"), "error", "invalid_features"),
    ("minus Infinity", with_first("-Infinity"), "error", "invalid_features"),
    ("1e400", with_first("1e400"), "error", "invalid_features"),
    ("a string for a number", with_first('"0.5"'), "error", "invalid_features"),
    ("a boolean for a number", with_first("true"), "error", "invalid_features"),
    ("an unknown feature name", features('{"agee": 1}'), "error", "invalid_features"),
    ("an unknown model", request(model="nobody"), "error", "model_not_found"),
    ("a deadline already passed", request(timeout_ms=1000), "error", "deadline_exceeded"),
    ("a negative timeout", request(timeout_ms=-1), "error", "deadline_exceeded"),
    ("a priority that is a word", request(priority="high"), "error", "invalid_json"),
    ("an unknown version, with fallback", request(model_version="99"), PREDICTION, None),
    ("by feature name", request(dict(zip("age sex bmi bp s1 s2 s3 s4 s5 s6".split(), GOOD))), PREDICTION, None),
    ("no id", json.dumps({"features": GOOD}), PREDICTION, None),
]
TIMESTAMPS = {"a deadline already passed": hour_ago}


def raw(key, value, timestamp=None):
    """A line for `troupe load --raw`."""
    line = {"key": key, "partition": 0}
    if value is not None:
        data = value if isinstance(value, bytes) else value.replace('"?"', json.dumps(key), 1).encode()
        line["value_base64"] = base64.b64encode(data).decode()
    else:
        line["value"] = None
    if timestamp:
        line["timestamp_ms"] = timestamp
    return json.dumps(line)


lines, expected = [], {}
for number, (name, value, end, code) in enumerate(CASES):
    lines.append(raw(f"good-{number}", request()))
    expected[f"good-{number}"] = (PREDICTION, None)
    lines.append(raw(name, value, TIMESTAMPS.get(name)))
    expected[name] = (end, code)
for _ in range(3):  # a result each
    lines.append(raw("duplicate id", request()))

with t.Stage() as stage:
    kafka = stage.kafka()
    wide = {"max.message.bytes": str(10 * MIB)}
    kafka.client.create_topic("inference-requests", 2, config=wide)
    kafka.client.create_topic("inference-results", 2)
    kafka.client.create_topic("inference-requests-dlq", 1, config=wide)
    node = stage.troupe({"kafka": {"brokers": kafka.bootstrap, "properties": {"session.timeout.ms": "45000"}}})
    node.wait_ready()

    sent = t.run("load", "--brokers", kafka.bootstrap, "--raw", "-", "--json", stdin="\n".join(lines) + "\n")
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["sent"] == len(lines), sent.stdout

    def all_done():
        return kafka.client.committed("inference-service", "inference-requests").get(0) == len(lines)

    t.wait_until(all_done, "the offsets of all records are committed", 60)

    def answers(topic, dead_letter_topic):
        """key -> how it ended, each time."""
        found = {}
        for record in kafka.client.read(topic):
            value = json.loads(record.value)
            how = ("error", value["error"]["code"]) if "error" in value else (PREDICTION, None)
            found.setdefault(record.key.decode(), []).append((how, value, record))
        for record in kafka.client.read(dead_letter_topic):
            code = record.header("__connect.errors.exception.class.name").decode()
            found.setdefault(record.key.decode(), []).append(((DEAD, code), None, record))
        return found

    found = answers("inference-results", "inference-requests-dlq")
    assert len(found.pop("duplicate id")) == 3
    for key, end in expected.items():
        ends = [how for how, _, _ in found.get(key, [])]
        assert ends == [end], f"{key}: expected {end}, got {ends}"
    assert found.keys() == expected.keys(), found.keys() - expected.keys()

    position = {key: i for i, key in enumerate(key for n, (name, *_) in enumerate(CASES) for key in (f"good-{n}", name))}
    values = {name: value for name, value, _, _ in CASES}
    for key, ((how, value, record),) in found.items():
        if how[0] == DEAD:
            assert record.header("__connect.errors.topic") == b"inference-requests", key
            assert record.header("__connect.errors.partition") == b"0", key
            assert int(record.header("__connect.errors.offset")) == position[key], key
            assert record.header("__connect.errors.exception.message"), key
            original = values[key]
            if original is None:
                assert record.value is None, key
            else:
                original = original if isinstance(original, bytes) else original.replace('"?"', json.dumps(key), 1).encode()
                assert record.value == original, key
        else:
            assert value["request_id"] == (f"inference-requests-0-{position[key]}" if key == "no id" else key), value
        if how[0] == "error":
            assert value["error"]["message"], key
    assert found["an unknown version, with fallback"][0][1]["fallback_from"] == "99"
    assert "age" in found["an unknown feature name"][0][1]["error"]["message"]
    by_name, by_place = found["by feature name"][0][1], found["good-0"][0][1]
    assert by_name["prediction"] == by_place["prediction"], (by_name, by_place)

    metrics = node.metrics()
    codes = {}
    for end, code in expected.values():
        codes[(end, code)] = codes.get((end, code), 0) + 1
    for (end, code), count in codes.items():
        if end == DEAD:
            assert metrics.total("troupe_dead_letters_total", code=code) == count, (code, count)
        elif end == "error":
            assert metrics.total("inference_errors_total", code=code) >= count, (code, count)
    assert metrics.total("inference_requests_total", status="success") == codes[(PREDICTION, None)] + 3
    assert node.stop() == 0, node.stderr()

    # Unknown versions are refused where fallback is off; a dead letter that the broker refuses for its size goes
    # without its value.
    kafka.client.create_topic("results-2", 1)
    kafka.client.create_topic("narrow-dlq", 1)
    strict = stage.troupe({"kafka": {"brokers": kafka.bootstrap, "group": "strict", "results_topic": "results-2",
                                     "dead_letter_topic": "narrow-dlq"},
                           "models": {"fallback": False}})
    strict.wait_ready()
    t.wait_until(lambda: kafka.client.committed("strict", "inference-requests").get(0) == len(lines), "all again", 60)
    found = answers("results-2", "narrow-dlq")
    assert [how for how, _, _ in found["an unknown version, with fallback"]] == [("error", "model_not_found")]
    ((how, _, record),) = found["2 MiB"]
    assert how == (DEAD, "too_large") and not record.value, how
    assert int(record.header("troupe.dropped.value.length")) > 2 * MIB, record.headers
    assert all(len(found[key]) == 1 for key in expected), {k: len(v) for k, v in found.items()}
    assert strict.stop() == 0, strict.stderr()
print(f"{len(CASES)} kinds of records, each ended as documented")
