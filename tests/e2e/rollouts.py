#!/usr/bin/env python3
"""Versions change under load, on a real Kafka: a hot load, switch and unload without one failed request; canaries with
wrong weights, with errors and too slow, each rolled back with its reason; a hundred loads and unloads.

    rollouts.py [--loads 100]
"""

import argparse
import json
import pathlib
import random
import re
import shutil
import signal
import time

import onnx_files
import troupe_test as t

parser = argparse.ArgumentParser()
parser.add_argument("--loads", type=int, default=100)
options = parser.parse_args()

TOKEN = {"Authorization": "Bearer secret-of-the-test"}
WEIGHTS = [50.0, -20.0, 30.0, 5.0]
chance = random.Random(4)


def row(missing: float = 0) -> list:
    values = [round(chance.random(), 4) for _ in WEIGHTS]
    if chance.random() < missing:
        values[0] = None
    return values


with t.Stage() as stage:
    models = stage.path("models")
    onnx_files.linear(models / "m" / "1", WEIGHTS, 10, imputed=0.5)
    kafka = stage.kafka()
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        kafka.client.create_topic(topic, 2)
    (stage.path("rows.jsonl")).write_text("".join(json.dumps(row(0.05)) + "\n" for _ in range(2000)))
    (stage.path("lists.jsonl")).write_text("".join(json.dumps([row() for _ in range(5000)]) + "\n" for _ in range(20)))
    node = stage.troupe({"kafka": {"brokers": kafka.bootstrap}, "models": {"directory": str(models), "poll_interval": "200ms"},
                         "admin": {"token": "secret-of-the-test"}, "cache": {"mode": "off"}, "log": {"format": "json"}})
    node.wait_ready()
    url = f"http://127.0.0.1:{node.port}"

    def report() -> dict:
        status, body = t.http("GET", url + "/admin/models", headers=TOKEN)
        assert status == 200, body
        return json.loads(body)

    def post(path: str, **fields) -> str:
        status, body = t.http("POST", url + path, fields, TOKEN)
        assert status in (200, 202), (path, fields, status, body)
        return body.decode()

    def state(version: str) -> str:
        return next((v["state"] for v in report()["versions"] if v["version"] == version), "")

    def wait_state(version: str, *wanted: str):
        t.wait_until(lambda: state(version) in wanted, f"version {version} is {wanted}", every=0.02)

    def rows_of(version: str) -> int:
        return next((v["rows"] for v in report()["versions"] if v["version"] == version), 0)

    def wait_rows(version: str, more: int):
        wanted = rows_of(version) + more
        t.wait_until(lambda: rows_of(version) >= wanted, f"version {version} scored {more} rows more", every=0.02)

    def load(name: str, rate: int, rows: str = "rows.jsonl", records: int = 1_000_000):
        return stage.start([t.TROUPE, "load", "--brokers", kafka.bootstrap, "--records", records, "--rate", rate,
                            "--features-file", stage.path(rows), "--wait-for", "30s", "--json"], name)

    def finished(process, failed: bool = False, interrupt: bool = True) -> dict:
        if interrupt:
            assert process.running, "it all happened under load"
            process.signal(signal.SIGINT)
        process.wait(120)
        result = json.loads(process.stdout())
        assert result["lost"] == 0 and result["sent"] == result["predicted"] + result["errors"], result
        assert failed or result["errors"] == 0, result
        return result

    # --- loaded, promoted, the old one unloaded, all under load: nothing fails
    traffic = load("hot", 2000)
    wait_rows("1", 1000)
    assert state("2") == ""
    onnx_files.linear(models / "m" / "2", WEIGHTS, 10.01, imputed=0.5)
    wait_state("2", "loaded")
    post("/admin/models/promote", model="m", version="2")
    wait_rows("2", 1000)
    post("/admin/models/unload", model="m", version="1")
    wait_state("1", "unloaded")
    post("/admin/models/load", model="m", version="1")
    wait_state("1", "loaded")
    post("/admin/models/promote", model="m", version="1")
    print(json.dumps({"hot load": finished(traffic)}))
    assert rows_of("2") >= 1000

    # --- a version that can't be read leaves everything as it is
    broken = models / "m" / ".9.tmp"
    broken.mkdir()
    (broken / "model.onnx").write_bytes((models / "m" / "2" / "model.onnx").read_bytes()[:-40])
    broken.rename(models / "m" / "9")
    wait_state("9", "failed")
    assert state("1") == "production"
    shutil.rmtree(models / "m" / "9")

    # --- three bad canaries
    def canary(version: str, reason: str, rate: int, file: str = "rows.jsonl", errors: bool = False, **more):
        wait_state(version, "loaded")
        traffic = load(reason, rate, file)
        wait_rows("1", 10)
        post("/admin/rollout", model="m", version=version, strategy="canary", **more)
        t.wait_until(lambda: not report()["rollouts"], f"the canary is rolled back for {reason}", 60, every=0.02)
        ended = report()["history"][0]
        assert (ended["ended"], ended["reason"]) == ("rolled_back", reason), ended
        assert state("1") == "production" and state(version) == "loaded"
        took = (ended["ended_ms"] - ended["since_ms"]) / 1000
        result = finished(traffic, errors)
        print(json.dumps({reason: {"detected after s": took, "text": ended["text"], "requests of it": ended["new"]["requests"],
                                   "errors": result["errors"], "lost": result["lost"]}}))
        assert node.metrics().total("troupe_rollout_rollbacks_total", model="m", reason=reason) == 1
        return result

    onnx_files.linear(models / "m" / "3", [-w for w in WEIGHTS], 10, imputed=0.5)
    canary("3", "drift", 1000, percent=10)
    onnx_files.linear(models / "m" / "4", WEIGHTS, 10)  # no imputer: it can't take the rows with a missing value
    result = canary("4", "error_rate", 1000, errors=True, percent=20)
    assert 0 < result["errors"] < 200, result
    onnx_files.forest(models / "m" / "5", len(WEIGHTS), trees=4000, depth=6, leaf=0.01)
    # Its predictions are of course others, too: only its latency is looked at.
    canary("5", "latency", 60, "lists.jsonl", percent=20, min_samples=50, max_psi=1000)

    # --- the commands
    token = stage.path("token")
    token.write_text("secret-of-the-test\n")
    told = ["--url", url, "--token-file", str(token)]
    assert "production" in t.run("models", "status", *told).stdout
    assert "p95" in t.run("models", "compare", "m", *told).stdout
    done = t.run("models", "promote", "m", "2", *told)
    assert done.returncode == 0 and state("2") == "production", done
    assert t.run("models", "rollback", "m", *told).returncode == 0 and state("1") == "production"
    refused = t.run("models", "unload", "m", "1", *told)
    assert refused.returncode == 1 and "production version" in refused.stderr, refused
    assert t.http("GET", url + "/admin/models")[0] == 401

    # --- SIGHUP: what can change does, the rest is said
    config = json.loads(node.config.read_text())
    config["kafka"]["group"] = "another"
    config["rollout"] = [{"model": "m", "version": 2, "strategy": "shadow"}]
    node.config.write_text(json.dumps(config))
    node.signal(signal.SIGHUP)
    t.wait_until(lambda: state("2") == "candidate", "the rollout of the new configuration runs")
    lines = [json.loads(line) for line in node.stdout().splitlines()]
    assert [l["key"] for l in lines if l["event"] == "config_needs_restart"] == ["kafka.group"], lines[-5:]
    before = report()["versions"]
    finished(load("shadow", 1000, records=2000), interrupt=False)
    shadow = report()["rollouts"][0]
    assert shadow["new"]["requests"] > 0 and shadow["share"] == 0, shadow
    assert [v["rows"] for v in report()["versions"] if v["version"] == "2"] == \
           [v["rows"] for v in before if v["version"] == "2"], "a shadow answers nobody"
    post("/admin/rollout", model="m", strategy="off")

    # --- memory: what the process has of its own. Pages of its libraries' files come and go as the kernel likes.
    def anonymous(pid):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024

    without, resident = [], []
    began = time.monotonic()
    for i in range(options.loads + 10):
        post("/admin/models/unload", model="m", version="5")
        wait_state("5", "unloaded")
        t.wait_until(lambda: not any(v["state"] == "draining" for v in report()["versions"]), "it is drained", every=0.02)
        without.append(anonymous(node.pid))
        post("/admin/models/load", model="m", version="5")
        wait_state("5", "loaded")
        resident.append(anonymous(node.pid))
    first = max(resident[5:10])
    # The trees, and not what reading them took: several times the file.
    held = first - min(without[5:10])
    assert held < 2 * (models / "m" / "5" / "model.onnx").stat().st_size, (without, resident)
    # The allocator gives memory back a moment after a version has gone.
    t.wait_until(lambda: anonymous(node.pid) <= first * 1.05, f"memory comes back to {first / 2**20:.1f} MiB, {resident}", 10)
    last = anonymous(node.pid)
    print(json.dumps({"loads": options.loads, "anonymous MiB": [round(first / 2**20, 1), round(last / 2**20, 1)],
                      "MiB of the version": round(held / 2**20, 1),
                      "seconds a load and unload": round((time.monotonic() - began) / len(resident), 3)}))
    assert node.stop() == 0, node.stderr()
