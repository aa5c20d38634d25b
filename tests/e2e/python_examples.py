#!/usr/bin/env python3
"""examples/python against a node on a real Kafka, over its plain listener and as an Event Hubs namespace: every request is answered and
matched by its request_id, an error and a dead letter among them; readers share a group; a receipt whose requests have no answer says so;
the notebook as a script, and with what Databricks gives a notebook."""

import csv
import json
import os
import runpy
import subprocess
import sys

import troupe_test as t

HERE = t.ROOT / "examples/python"
LONGEST = 120


def python():
    """A Python that has confluent-kafka: Debian's, else the one that runs this."""
    for one in (os.environ.get("TROUPE_EXAMPLES_PYTHON"), "/usr/bin/python3", sys.executable):
        if one and subprocess.run([one, "-c", "import confluent_kafka"], capture_output=True).returncode == 0:
            return one
    t.skip("no confluent-kafka: scripts/deps --test, or pip install confluent-kafka and TROUPE_EXAMPLES_PYTHON")


PYTHON = python()


def run(script, *words, status=0, stdin=None, environment=None):
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(t.OWN)}
    done = subprocess.run([PYTHON, str(HERE / script), *map(str, words)], text=True, capture_output=True, timeout=LONGEST, input=stdin,
                          env={**inherited, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})})
    assert done.returncode == status, (script, words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
    return done


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


with open(t.ROOT / "tests/runtime/model/data/diabetes.csv") as file:
    table = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
FEATURES, EXPECTED = list(table[0])[:10], "forest_3"

for script in ("request_producer.py", "result_consumer.py", "databricks_notebook.py"):
    assert "--brokers" in run(script, "--help").stdout
run("request_producer.py", "--rate", "fast", status=2)
refused = run("request_producer.py", status=1, stdin="[1]", environment={"EVENTHUB_CONNECTION": "SharedAccessKey=hunter2"})
assert "Endpoint=sb://" in refused.stderr and "hunter2" not in refused.stderr, refused.stderr

with t.Stage() as stage:
    kafka = stage.kafka(tls=True)
    for topic in ("scoring", "scoring-results", "scoring-dlq"):
        kafka.client.create_topic(topic, partitions=3)
    settings = {"kafka": {"brokers": kafka.bootstrap, "requests_topic": "scoring", "results_topic": "scoring-results",
                          "dead_letter_topic": "scoring-dlq", "max_record_bytes": "1KiB"}, "models": {"default": "diabetes-rf-model"}}
    node = stage.troupe(settings)
    node.wait_ready()

    secret = stage.path("connection-string")
    secret.write_text(kafka.secret + "\n")
    plain = ("--brokers", kafka.bootstrap, "--requests-topic", "scoring", "--results-topic", "scoring-results")
    hub = ("--connection-string-file", secret, "--requests-topic", "scoring", "--property", f"ssl.ca.location={kafka.authority}")

    # --- rows with ids, by name and as lists, an error value and a dead letter among them
    rows = stage.path("rows.jsonl")
    with open(rows, "w") as file:
        for number, row in enumerate(table):
            features = {name: row[name] for name in FEATURES} if number % 2 else [row[name] for name in FEATURES]
            print(json.dumps({"request_id": f"row-{number}", "features": features}), file=file)
        print(json.dumps({"request_id": "short", "features": [1, 2]}), file=file)
        print(json.dumps({"request_id": "long", "features": [0.0] * 10, "note": "x" * 2000}), file=file)
    total = len(table) + 2

    for name, words in (("plain", plain), ("event hubs", hub)):
        sent = stage.path("sent.json")
        done = run("request_producer.py", "--rows", rows, "--model-version", "v3", "--sent", sent, *words)
        assert f"sent {total} requests to scoring" in done.stderr, done.stderr
        for reader in ("one", "another"):
            done = run("result_consumer.py", "--sent", sent, *words)
            found = {answer["request_id"]: answer for answer in lines(done.stdout)}
            assert len(lines(done.stdout)) == len(found) == total, (name, reader, len(found), done.stderr)
            for number, row in enumerate(table):
                given = found[f"row-{number}"]
                assert abs(given["prediction"] - row[EXPECTED]) <= 1e-5 * abs(row[EXPECTED]) and given["model_version"] == "3", (name, number, given, row)
            assert found["short"]["error"]["code"] == "invalid_features" and "dead_letter" not in found["short"], found["short"]
            assert found["long"]["error"]["code"] == "too_large" and found["long"]["dead_letter"], found["long"]
            assert f"{total} requests: {len(table)} predictions, 1 errors, 1 dead letters, 0 without an answer" in done.stderr, done.stderr
        print(f"{name}: {total} requests, each with its own answer, to two readers")

    # --- readers that share a group: one goes on where the other ended
    everything = 2 * total
    shared = [run("result_consumer.py", "--group", "billing", "--max", count, *plain).stdout for count in (100, everything - 100)]
    seen = [answer["request_id"] for part in shared for answer in lines(part)]
    assert sorted(seen) == sorted(2 * ([f"row-{n}" for n in range(len(table))] + ["short", "long"])), len(seen)
    # Offsets up to the end of both topics, so nobody who comes later is given anything again.
    ends = {topic: {p: kafka.client.offset(topic, p) for p in kafka.client.partitions(topic)} for topic in ("scoring-results", "scoring-dlq")}
    for topic, at in ends.items():
        committed = kafka.client.committed("billing", topic)
        assert {p: committed.get(p, 0) for p in at} == at, (topic, committed, at)

    # --- the notebook: as a script, and with widgets, secrets and a table
    source, target = stage.path("source.jsonl"), stage.path("target.jsonl")
    source.write_text("".join(json.dumps({"customer": f"c-{n}", **{name: row[name] for name in FEATURES}}) + "\n" for n, row in enumerate(table)))
    for words in (plain, hub):
        run("databricks_notebook.py", "--source", source, "--target", target, "--id-column", "customer", "--model", "diabetes-rf-model", *words)
        scored = lines(target.read_text())
        assert [one["request_id"] for one in scored] == [f"c-{n}" for n in range(len(table))]
        assert all(abs(json.loads(one["prediction"]) - row[EXPECTED]) <= 1e-5 * abs(row[EXPECTED]) and one["error"] is None
                   for one, row in zip(scored, table)), scored[0]

    notebook = stage.path("databricks.py")
    notebook.write_text(f"""
import json, runpy, sys
sys.path.insert(0, {str(HERE)!r})
rows = [json.loads(line) for line in open({str(source)!r})]
class Row(dict):
    def asDict(self): return dict(self)
class Field:
    def __init__(self, name): self.name = name
    def simpleString(self): return self.name + ":" + ("string" if self.name == "customer" else "double")
class Spark:
    read = property(lambda self: self)
    write = property(lambda self: self)
    schema = property(lambda self: [Field(name) for name in rows[0]])
    def table(self, name): assert name == "in"; return self
    def collect(self): return [Row(row) for row in rows]
    def createDataFrame(self, data, schema): self.data, self.columns = data, schema; return self
    def mode(self, how): assert how == "overwrite"; return self
    def saveAsTable(self, name): print(json.dumps([name, self.columns, self.data]))
class Utilities:
    widgets = property(lambda self: self)
    class secrets:
        get = staticmethod(lambda scope, key: open({str(secret)!r}).read() if (scope, key) == ("troupe", "eventhub-connection") else None)
    given = {{"requests_topic": "scoring", "source": "in", "target": "out", "id_column": "customer"}}
    def __init__(self): self.known = {{}}
    def text(self, name, value, label): self.known[name] = self.given.get(name, value)
    def get(self, name): return self.known[name]
import confluent_kafka, troupe_kafka
connect = troupe_kafka.connect
troupe_kafka.connect = lambda **given: connect(**given, properties={{"ssl.ca.location": {str(kafka.authority)!r}}})
runpy.run_path({str(HERE / "databricks_notebook.py")!r}, {{"dbutils": Utilities(), "spark": Spark()}})
""")
    done = run(notebook)
    name, columns, data = json.loads(done.stdout.splitlines()[0])
    assert name == "out" and columns.startswith("customer string, age double, ") and columns.endswith("model_version string, error string"), columns
    assert len(data) == len(table) and all(abs(json.loads(one[-3]) - row[EXPECTED]) <= 1e-5 * abs(row[EXPECTED]) for one, row in zip(data, table))

    # --- nobody answers: the receipt is kept, and the answers come when a node is back
    assert node.stop() == 0
    one = json.dumps([table[0][name] for name in FEATURES])
    run("request_producer.py", "--sent", sent, *plain, stdin=one)
    done = run("result_consumer.py", "--sent", sent, "--wait-for", "1", *plain, status=1)
    assert not done.stdout and "1 without an answer" in done.stderr, done.stderr
    stage.troupe(settings).wait_ready()
    answer, = lines(run("result_consumer.py", "--sent", sent, *plain).stdout)
    assert abs(answer["prediction"] - table[0][EXPECTED]) <= 1e-5 * abs(table[0][EXPECTED]), answer

    # --- said clearly
    for words, part in ((("--requests-topic", "scoring", "--results-topic", "nowhere"), "there is no topic nowhere"),):
        done = run("request_producer.py", "--brokers", kafka.bootstrap, *words, stdin=one, status=1,)
        assert part in done.stderr, done.stderr
    done = run("request_producer.py", *plain, stdin='{"request_id": "a", "features": [1]}\n{"request_id": "a", "features": [1]}\n', status=1)
    assert "'a' was given twice" in done.stderr, done.stderr
    assert "line 1: not JSON" in run("request_producer.py", *plain, stdin="[1,", status=1).stderr
