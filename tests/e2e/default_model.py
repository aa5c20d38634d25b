#!/usr/bin/env python3
"""The default model stays the default while it is unloaded, and what is said about models names the right one: health, logs,
`troupe batch`, `troupe models`."""

import json
import shutil

import troupe_test as t

ROW = [0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0, 0.02, -0.02]

with t.Stage() as stage:
    models = stage.path("models")
    for name in ("diabetes-linear", "diabetes-rf-model"):
        shutil.copytree(t.ROOT / "models" / name, models / name)
    version = max(int(p.name.lstrip("v")) for p in (models / "diabetes-linear").iterdir() if p.is_dir())

    def node_of(default, folder=models):
        made = {"kafka": {"enabled": False}, "http": {"max_body": "64KiB"}, "admin": {"token": "secret-of-the-test"},
                "models": {"directory": str(folder), "default": default, "poll_interval": "100ms"}}
        node = stage.troupe(made, environment={"DEPLOYMENT_NAME": "blue"})
        node.wait_ready()
        return node

    def ask(node, method, path, body=None):
        status, text = t.http(method, f"http://127.0.0.1:{node.http_port}{path}", body)
        return status, json.loads(text) if text else None

    def events(node, name):
        return [line for line in map(json.loads, node.stdout().splitlines()) if line["event"] == name]

    # --- an explicit default, and one that the start chose

    for configured, default, other in (("diabetes-linear", "diabetes-linear", "diabetes-rf-model"),
                                       ("", "diabetes-rf-model", "diabetes-linear")):
        node = node_of(configured)
        before = ask(node, "POST", "/score", {"data": [ROW]})[1]["metadata"]
        assert before["model_name"] == default and before["deployment"] == "blue", before
        assert ask(node, "GET", "/health")[1]["model_name"] == default
        assert ask(node, "POST", f"/v2/repository/models/{default}/unload", {})[0] == 200
        for path, body in (("/score", {"data": [ROW]}), ("/invocations", {"inputs": [ROW]})):
            status, said = ask(node, "POST", path, body)
            assert status == 404 and f"the default model '{default}' is not loaded" in said["error"], (path, status, said)
        status, said = ask(node, "GET", "/health")
        assert status == 503 and said["model_loaded"] is False and said["model_name"] is None, (status, said)
        assert ask(node, "GET", "/ping")[0] == 503
        status, said = ask(node, "GET", "/ready")
        assert status == 200 and said["degraded"] == [f"the default model {default} is not loaded"], (status, said)
        infer = {"inputs": [{"name": "input", "shape": [1, 10], "datatype": "FP64", "data": ROW}]}
        assert ask(node, "POST", f"/v2/models/{other}/infer", infer)[0] == 200, "the other one is served by its name"
        assert ask(node, "POST", f"/v2/repository/models/{default}/load", {})[0] == 200
        after = lambda: ask(node, "POST", "/score", {"data": [ROW]})[1]["metadata"]
        t.wait_until(lambda: (after()["model_name"], after()["model_version"]) == (default, before["model_version"]),
                     "the production version of before is it again")
        assert ask(node, "GET", "/health")[0] == ask(node, "GET", "/ping")[0] == 200

    # --- what a request that can't be taken is told

    status, said = ask(node, "POST", "/score", b"{'data': [[1]]}")
    assert status == 400 and "line 1, column 2" in said["error"], (status, said)
    status, said = ask(node, "POST", "/score", {"data": [ROW], "model": other})
    assert status == 400 and "'model'" in said["error"], (status, said)
    status, said = ask(node, "POST", "/score", b" " * 70_000)
    assert status == 413 and "65536 bytes (http.max_body)" in said["error"], (status, said)
    assert "POST /v2/repository/index" in ask(node, "GET", "/v2/models")[1]["error"]

    # --- a model file without a version, and a version that is none, while the node runs

    (models / "bad").mkdir()
    (models / "bad/model.onnx").write_bytes(b"no model")
    t.wait_until(lambda: any(str(models / "bad/model.onnx") in e["msg"] for e in events(node, "models_directory_problem")),
                 "the log names the file without a version")
    shutil.rmtree(models / "bad")
    (models / ".9.tmp").mkdir()
    (models / ".9.tmp/model.onnx").write_bytes(b"no model")
    (models / ".9.tmp").rename(models / "diabetes-linear/9")
    failed = t.wait_until(lambda: events(node, "model_load_failed"), "the broken version is told")
    assert failed[0]["version"] == "9" and failed[0]["running"] == str(version), failed
    (models / "bad").mkdir()
    (models / "bad/model.onnx").write_bytes(b"no model")
    t.wait_until(lambda: node.metrics().total("troupe_models_failed") == 2, "both are counted as long as they are there")
    wrong = json.loads(node.get("/ready")[1])["degraded"]
    assert any(one.startswith("model diabetes-linear/9 can't be loaded: ") for one in wrong), wrong
    assert any(str(models / "bad") in one for one in wrong), wrong
    shutil.rmtree(models / "diabetes-linear/9")
    shutil.rmtree(models / "bad")
    t.wait_until(lambda: node.metrics().total("troupe_models_failed") == 0, "they are gone")
    assert b"can't be loaded" not in node.get("/ready")[1]

    # --- a roll-back where there is nothing to go back to says what can be done

    done = t.run("models", "rollback", "diabetes-rf-model", "--url", f"http://127.0.0.1:{node.port}",
                 environment={"TROUPE_ADMIN_TOKEN": "secret-of-the-test"})
    assert done.returncode == 1 and "no version that answered before version 3 is known" in done.stderr, done.stderr
    assert "(loaded: 1, 2): troupe models promote diabetes-rf-model VERSION" in done.stderr, done.stderr

    # --- the admin commands on the port of the HTTP door

    done = t.run("models", "status", "--url", f"http://127.0.0.1:{node.http_port}", environment={"TROUPE_ADMIN_TOKEN": "secret-of-the-test"})
    assert done.returncode == 1 and "metrics.port" in done.stderr, done.stderr

    # --- commands that need one model read only that one, and choose as the node does

    (models / "broken/1").mkdir(parents=True)
    (models / "broken/1/model.onnx").write_bytes(b"no model")
    where = ("--models", str(models))
    done = t.run("models", "explain", *where, "--model", "diabetes-linear", "--features", json.dumps(ROW), "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["model"] == "diabetes-linear", done.stderr
    rows = stage.path("rows.jsonl")
    rows.write_text(json.dumps({"features": ROW}) + "\n")
    out = stage.path("out.jsonl")
    done = t.run("batch", *where, str(rows), "-o", str(out), "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["model"] == "diabetes-rf-model", done.stderr
    done = t.run("batch", *where, "--model", "diabetes-linear", "--version", "99", str(rows), "-o", str(out))
    assert done.returncode == 2 and f"it has version {version}" in done.stderr, done.stderr
    print("the default model stays")
