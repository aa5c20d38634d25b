#!/usr/bin/env python3
"""Batches on a disk that is full: what does not fit is refused and leaves nothing, what runs halts and says so, and goes on
with every line once when there is room again. On a small file system of its own, for which it must be root."""

import json
import subprocess

import troupe_test as t

LINES = 12_000
NDJSON = {"Content-Type": "application/x-ndjson"}


def lines(count):
    return "".join(json.dumps({"request_id": f"r{i}", "features": [i / 1e6, 0.05, 0.061, 0.02, -0.04, -0.03, -0.04, 0, 0.02, -0.02]})
                   + "\n" for i in range(count))


with t.Stage() as stage:
    disk = stage.path("disk")
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        t.skip("a small file system can't be mounted here: " + mounted.stderr.strip())
    stage.closing.callback(subprocess.run, ["umount", "-l", str(disk)], check=False)
    config = {"kafka": {"enabled": False}, "http": {"max_body": "32MiB"}, "batches": {"directory": str(disk)}}
    node = stage.troupe(config)
    node.wait_ready()

    def call(method, path, body=None, headers=None):
        return t.http(method, f"http://127.0.0.1:{node.http_port}{path}", body, headers, timeout=30)

    def submit(body):
        return call("POST", "/v2/batches?model=diabetes-rf-model", body, NDJSON)

    def look(name):
        status, answer = call("GET", f"/v2/batches/{name}")
        assert status == 200, (status, answer)
        return json.loads(answer)

    # What does not fit leaves nothing.
    before = sorted(p.name for p in disk.iterdir())
    status, answer = submit(lines(40_000))
    assert status == 507 and b"batches.directory" in answer, (status, answer)
    assert json.loads(call("GET", "/v2/batches")[1]) == {"batches": []}
    assert sorted(p.name for p in disk.iterdir()) == before

    # The input fits, its results do not.
    status, answer = submit(lines(LINES))
    assert status == 202, (status, answer)
    name = json.loads(answer)["id"]
    halted = t.wait_until(lambda: (lambda s: s.get("problem") and s)(look(name)), "the batch halts", 60)
    assert halted["status"] == "running" and "No space left" in halted["problem"], halted
    assert 0 < halted["lines"]["done"] < LINES, halted
    assert submit(lines(1000) * 8)[0] == 507
    status, answer = call("POST", "/v2/models/iris-classifier/infer",
                          {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]})
    assert status == 200, "all else goes on: " + answer.decode()
    assert "batch_problem" in node.stdout() + node.stderr()

    # A crash on the full disk loses nothing of it.
    node.kill()
    node = stage.troupe(config)
    node.wait_ready()
    t.wait_until(lambda: look(name).get("problem"), "it halts again", 60)
    assert look(name)["status"] == "running"

    subprocess.run(["mount", "-o", "remount,size=32m", disk], check=True)
    done = t.wait_until(lambda: (lambda s: s["status"] not in ("queued", "running") and s)(look(name)), "it goes on", 120)
    assert done["status"] == "succeeded" and done["lines"] == {"done": LINES, "total": LINES, "errors": 0}, done
    status, answer = call("GET", f"/v2/batches/{name}/results")
    assert status == 200
    results = [json.loads(line) for line in answer.splitlines()]
    assert [r["request_id"] for r in results] == [f"r{i}" for i in range(LINES)]
    assert all("prediction" in r for r in results)
    assert submit(lines(1000) * 8)[0] == 202
    assert node.stop() == 0, node.stderr()
