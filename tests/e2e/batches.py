#!/usr/bin/env python3
"""Batches over HTTP: submitted, followed, fetched, cancelled; a kill -9 in the middle, and every line is there once, in order."""

import json
import random
import time

import troupe_test as t

random.seed(5)
ROWS = [[round(random.uniform(-0.1, 0.1), 4) for _ in range(10)] for _ in range(60_000)]
NDJSON = {"Content-Type": "application/x-ndjson"}


def lines_of(rows, base=0):
    return "".join(json.dumps({"request_id": f"r{base + i}", "features": row}) + "\n" for i, row in enumerate(rows))


with t.Stage() as stage:
    inputs = stage.path("inputs")
    inputs.mkdir()
    port, other = t.free_ports(2)
    config = {"kafka": {"enabled": False}, "http": {"port": port, "max_body": "32MiB"}, "models": {"default": "diabetes-rf-model"}, "log": {"format": "json"},
              "metrics": {"port": other},
              "batches": {"directory": str(stage.path("batches")), "input_directory": str(inputs), "max_queued": 6}}
    node = stage.troupe(config)
    node.wait_ready()

    def call(method, path, body=None, headers=None):
        return t.http(method, f"http://127.0.0.1:{port}{path}", body, headers, timeout=30)

    def submit(body, query="model=diabetes-rf-model", headers=NDJSON):
        status, answer = call("POST", f"/v2/batches?{query}", body, headers)
        assert status == 202, (status, answer)
        made = json.loads(answer)
        assert made["status"] in ("queued", "running", "succeeded"), made
        return made["id"]

    def look(name):
        status, answer = call("GET", f"/v2/batches/{name}")
        assert status == 200, (status, answer)
        return json.loads(answer)

    def ended(name, deadline=120):
        return t.wait_until(lambda: (lambda s: s["status"] not in ("queued", "running") and s)(look(name)), "the batch ends", deadline)

    def results(name):
        status, answer = call("GET", f"/v2/batches/{name}/results")
        assert status == 200, (status, answer)
        return [json.loads(line) for line in answer.splitlines()]

    def sync(row):
        status, answer = call("POST", "/v2/models/diabetes-rf-model/infer",
                              {"inputs": [{"name": "input", "shape": [1, 10], "datatype": "FP64", "data": row}]})
        assert status == 200, answer
        return json.loads(answer)["outputs"][0]["data"][0]

    # What a batch says is what a single request says.
    first = submit(lines_of(ROWS[:500]) + "not json\n" + '{"features":[1]}')
    done = ended(first)
    assert done["status"] == "succeeded" and done["lines"] == {"done": 502, "total": 502, "errors": 2}, done
    assert done["bytes"]["done"] == done["bytes"]["total"] and done["created_ms"] <= done["started_ms"] <= done["ended_ms"], done
    found = results(first)
    assert [r["request_id"] for r in found] == [f"r{i}" for i in range(500)] + ["line-501", "line-502"]
    for i in random.sample(range(500), 20):
        assert found[i]["prediction"] == sync(ROWS[i]), (found[i], ROWS[i])
    assert [r["error"]["code"] for r in found[500:]] == ["invalid_json", "invalid_features"]

    # Ranges.
    url = f"/v2/batches/{first}/results"
    everything = call("GET", url)[1]
    assert call("GET", url, headers={"Range": "bytes=5-9"}) == (206, everything[5:10])
    assert call("GET", url, headers={"Range": "bytes=-7"}) == (206, everything[-7:])
    assert call("GET", url, headers={"Range": f"bytes={len(everything)}-"})[0] == 416

    # CSV, sent and by its path.
    names = "age,sex,bmi,bp,s1,s2,s3,s4,s5,s6\n"
    table = names + "".join(",".join(map(str, row)) + "\n" for row in ROWS[:200])
    (inputs / "table.csv").write_text(table)
    for name in (submit(table, headers={"Content-Type": "text/csv"}), submit({"input": "table.csv"}, headers=None)):
        assert ended(name)["lines"]["errors"] == 0
        assert [r["prediction"] for r in results(name)] == [r["prediction"] for r in found[:200]]

    # A row may come first; other columns are refused at once.
    text = {"Content-Type": "text/csv"}
    bare = submit(table[len(names):], headers=text)
    assert ended(bare)["lines"] == {"done": 200, "total": 200, "errors": 0}
    assert [r["prediction"] for r in results(bare)] == [r["prediction"] for r in found[:200]]
    for body, word in (("," + table, b"index=False"), ("petal,sepal\n1,2\n", b"'petal'"), ("age\n1\n", b"column")):
        status, answer = call("POST", "/v2/batches?model=diabetes-rf-model", body, text)
        assert status == 400 and word in answer, (status, answer)

    # What is refused.
    for body, query, headers, status in ((b"", "", NDJSON, 400), ("{}", "model=none", NDJSON, 404), ("{}", "model=diabetes-rf-model&version=9", NDJSON, 404),
                                         ("{}", "modle=x", NDJSON, 400), ("{}", "format=xml", NDJSON, 400), ("{}", "", {"Content-Type": "text/plain"}, 415),
                                         ({"input": "../x"}, "", None, 400), ({"path": "x"}, "", None, 400), (b"PAR1", "format=csv", NDJSON, 415),
                                         (b"PAR1", "", {"Content-Type": "application/vnd.apache.parquet"}, 415), (b"PAR1", "format=parquet", {"Content-Type": "application/octet-stream"}, 415),
                                         ({"input": "x.parquet"}, "", None, 415)):
        got = call("POST", f"/v2/batches?{query}", body, headers)
        assert got[0] == status and json.loads(got[1])["error"], (query, body, got)
        assert ("Parquet" in json.loads(got[1])["error"]) == ("parquet" in str((body, query, headers)) or body == b"PAR1"), (query, body, got)
    for method, path, status in (("GET", "/v2/batches/none", 404), ("GET", "/v2/batches/none/results", 404), ("DELETE", "/v2/batches/..%2F..", 404),
                                 ("PUT", "/v2/batches", 405)):
        assert call(method, path)[0] == status, path

    # One is cancelled while it runs or waits, then removed. Requests are answered meanwhile.
    long = submit(lines_of(ROWS))
    waits = submit(lines_of(ROWS[:10]))
    begun = time.monotonic()
    for row in ROWS[:20]:
        sync(row)
    print(f"20 single requests beside a batch: {time.monotonic() - begun:.3f} s; the batch: {look(long)['lines']}")
    status, answer = call("GET", f"/v2/batches/{waits}/results")
    assert status == 409 or look(waits)["status"] != "queued", (status, answer)
    status, answer = call("DELETE", f"/v2/batches/{long}")
    if status == 200:
        t.wait_until(lambda: look(long)["status"] == "cancelled", "the batch that ran is cancelled")
        for i, r in enumerate(results(long)):
            assert r["request_id"] == f"r{i}"
        status, answer = call("DELETE", f"/v2/batches/{long}")
    assert status == 204 and call("GET", f"/v2/batches/{long}")[0] == 404
    assert ended(waits)["status"] == "succeeded"
    status, answer = call("GET", "/v2/batches")
    assert json.loads(answer)["batches"][0]["id"] == waits, answer
    metrics = node.metrics()
    assert metrics.total("troupe_batch_lines_total", status="error") == 2, metrics.total("troupe_batch_lines_total")
    assert metrics.total("troupe_batch_lines_total", status="success") >= 500 + 400 + 10
    assert metrics.total("inference_requests_total", door="batch", class_="bulk") > 900

    # kill -9 in the middle, several times.
    long, after = submit(lines_of(ROWS)), submit(lines_of(ROWS[:10], 7))
    kills = 0
    for share in (0.1, 0.4, 0.7):
        t.wait_until(lambda: look(long)["lines"]["done"] >= share * len(ROWS), "the batch has come so far", 120, 0.005)
        if look(long)["status"] == "running":
            kills += 1
        node.kill()
        node = stage.troupe(config)
        node.wait_ready()
    assert kills > 0
    assert ended(long)["lines"] == {"done": len(ROWS), "total": len(ROWS), "errors": 0}, look(long)
    found = results(long)
    assert [r["request_id"] for r in found] == [f"r{i}" for i in range(len(ROWS))]
    assert [r["request_id"] for r in (ended(after), results(after))[1]] == [f"r{i}" for i in range(7, 17)]

    # Drained in the middle, too; and ended ones are still there afterwards.
    long = submit(lines_of(ROWS))
    t.wait_until(lambda: look(long)["lines"]["done"] > 0, "the batch has begun", 60, 0.005)
    assert node.stop() == 0
    node = stage.troupe(config)
    node.wait_ready()
    assert ended(long)["status"] == "succeeded"
    assert [r["request_id"] for r in results(long)] == [f"r{i}" for i in range(len(ROWS))]
    assert look(first)["status"] == "succeeded" and len(results(first)) == 502
    assert node.stop() == 0

    # Without a directory there are none.
    del config["batches"]
    node = stage.troupe(config)
    node.wait_ready()
    status, answer = call("GET", "/v2/batches")
    assert status == 404 and "batches.directory" in answer.decode(), answer
