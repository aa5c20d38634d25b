#!/usr/bin/env python3
"""A registry that is scripted here, with MLflow's answers: a promotion under load, versions that are no good, lies, an outage,
a start without the registry. scripts/test-mlflow does it with real servers."""

import http.server
import json
import signal
import threading
import time
import urllib.parse

import onnx_files
import troupe_test as t

TOKEN = {"Authorization": "Bearer secret-of-the-test"}
WEIGHTS = [50.0, -20.0, 30.0, 5.0]


class Registry(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, files, port=0):
        self.files, self.production, self.mode = files, "1", ""
        self.release = threading.Event()
        super().__init__(("127.0.0.1", port), Answers)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass

    def close(self):
        self.shutdown()
        self.server_close()


class Answers(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        registry = self.server
        url = urllib.parse.urlsplit(self.path)
        asked = {key: value[0] for key, value in urllib.parse.parse_qs(url.query).items()}
        if registry.mode == "hang":
            registry.release.wait(60)
            return
        if registry.mode == "500":
            self.give(500, b"broken", "text/plain")
        elif registry.mode == "html":
            self.give(200, b"<!doctype html>", "text/html")
        elif registry.mode == "redirect":
            self.give(302, b"", "text/plain", Location="http://127.0.0.2:9/")
        elif url.path.endswith("get-latest-versions"):
            self.json({"model_versions": [{"name": "m", "version": registry.production, "creation_timestamp": 17,
                                           "current_stage": "Production", "status": "READY"}]})
        elif url.path.endswith("get-download-uri"):
            self.json({"artifact_uri": f"mlflow-artifacts:/1/{asked['version']}/artifacts"})
        elif url.path.endswith("mlflow-artifacts/artifacts"):
            files = registry.files[asked["path"].split("/")[1]]
            lie = 3 if registry.mode == "size" else 0
            self.json({"files": [{"path": name, "is_dir": False, "file_size": len(data) + lie} for name, data in files.items()]})
        else:
            version, _, name = url.path.split("/artifacts/1/")[1].split("/", 2)
            self.give(200, registry.files[version][name], "application/octet-stream")

    def json(self, said):
        self.give(200, json.dumps(said).encode(), "application/json")

    def give(self, status, body, kind, **more):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def version(stage, number):
    folder = stage.path("made") / str(number)
    onnx_files.linear(folder, WEIGHTS, float(number))
    return {"MLmodel": b"flavors:\n  onnx:\n    data: model.onnx\n", "model.onnx": (folder / "model.onnx").read_bytes()}


with t.Stage() as stage:
    files = {str(n): version(stage, n) for n in range(1, 12)}
    files["3"]["model.onnx"] = files["3"]["model.onnx"][:-40]
    files["4"]["MLmodel"] = b"flavors:\n  sklearn:\n    pickled_model: model.pkl\n    serialization_format: cloudpickle\n"
    registry = Registry(files)
    port = registry.server_address[1]
    models = stage.path("models")
    onnx_files.linear(models / "m" / "99", WEIGHTS, 1)  # the registry's model of that name wins
    onnx_files.linear(models / "other" / "1", WEIGHTS, 1)
    stage.path("rows.jsonl").write_text("".join(json.dumps([i / 100, 1, 2, 3]) + "\n" for i in range(100)))

    def serve():
        node = stage.troupe({"kafka": {"brokers": "embedded"}, "models": {"directory": str(models), "poll_interval": "100ms"},
                             "mlflow": {"uri": f"http://127.0.0.1:{port}", "models": "models:/m/Production", "poll_interval": "200ms",
                                        "timeout": "3s", "cache_directory": str(stage.path("cache"))},
                             "admin": {"token": "secret-of-the-test"}, "cache": {"mode": "off"}, "log": {"format": "json"}})
        node.wait_ready()
        return node

    def get(path):
        status, body = t.http("GET", f"http://127.0.0.1:{node.port}{path}", headers=TOKEN)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def states(model="m"):
        return {v["version"]: v["state"] for v in get("/admin/models")["versions"] if v["model"] == model}

    def wait_production(wanted):
        t.wait_until(lambda: states().get(wanted) == "production", f"version {wanted} answers", 30, every=0.02)

    def problem():
        return get("/admin/registry")["references"][0].get("problem", "")

    def polls(more):
        wanted = get("/admin/registry")["polls"] + more
        t.wait_until(lambda: get("/admin/registry")["polls"] >= wanted, f"{more} polls", 30)

    node = serve()
    assert states() == {"1": "production"} and states("other") == {"1": "production"}, (states(), states("other"))
    started = t.wait_until(lambda: [line for line in node.stdout().splitlines() if '"event":"started"' in line], "the log tells of the start")
    broker = json.loads(started[0])["brokers"]
    traffic = stage.start([t.TROUPE, "load", "--brokers", broker, "--records", 1_000_000, "--rate", 500, "--model", "m",
                           "--features-file", stage.path("rows.jsonl"), "--wait-for", "30s", "--json"], "load")
    t.wait_until(lambda: node.metrics().total("inference_requests_total", status="success") > 500, "it flows")

    # --- a promotion, and back: the version before is still loaded
    registry.production = "2"
    wait_production("2")
    assert states() == {"1": "loaded", "2": "production"}, states()
    registry.production = "1"
    wait_production("1")
    registry.production = "2"
    wait_production("2")
    assert traffic.running, "it happened under load"
    traffic.signal(signal.SIGINT)
    assert traffic.wait() == 0, traffic.stderr()
    result = json.loads(traffic.stdout())
    assert result["lost"] == result["errors"] == 0 and result["predicted"] == result["sent"] > 500, result

    # --- versions that are no good
    for bad, why in (("3", "model.onnx"), ("4", "troupe models import models:/m/4 --register")):
        registry.production = bad
        t.wait_until(lambda: why in problem(), f"version {bad} is refused", 30)
        polls(2)
        assert states() == {"1": "loaded", "2": "production"}, states()
    assert node.metrics().total("troupe_registry_rejected_versions_total", model="m") == 2
    t.wait_until(lambda: node.metrics().total("troupe_registry_up") == 1, "it is reached")

    # --- a command, and SIGHUP's way
    registry.production = "5"
    token = stage.path("token")
    token.write_text("secret-of-the-test")
    done = t.run("models", "sync", "--url", f"http://127.0.0.1:{node.port}", "--token-file", str(token))
    assert done.returncode == 0 and "models:/m/Production  version 5" in done.stdout, done
    t.wait_until(lambda: states().get("5") == "production" and states().get("2") == "loaded", "version 5 is production")

    # --- answers that lie
    running = 5
    for mode in ("500", "html", "redirect", "hang", "size"):
        registry.release.clear()
        registry.mode = mode
        registry.production = str(running + 1)
        t.wait_until(problem, f"{mode} is noticed", 30)
        polls(1)
        assert states().get(str(running)) == "production", (mode, states())
        registry.mode = ""
        registry.release.set()
        running += 1
        wait_production(str(running))
        t.wait_until(lambda: not problem(), f"{mode} is over", 30)

    # --- the registry dies; a start without it
    registry.close()
    t.wait_until(lambda: node.metrics().total("troupe_registry_up") == 0, "that it is away is seen", 30)
    assert states()[str(running)] == "production"
    assert node.stop() == 0
    began = time.monotonic()
    node = serve()
    assert states() == {str(running): "production"}, states()
    print(json.dumps({"ready without the registry, seconds": round(time.monotonic() - began, 2)}))
    registry = Registry(files, port)
    registry.production = "2"
    wait_production("2")
    assert node.stop() == 0

    # --- nothing in the cache
    registry.close()
    done = t.run("serve", "--set", "kafka.brokers=embedded", "--set", "metrics.port=0", "--set", f"mlflow.uri=http://127.0.0.1:{port}",
                 "--set", "mlflow.models=models:/m/Production", "--set", f"mlflow.cache_directory={stage.path('empty')}",
                 "--set", "mlflow.timeout=200ms")
    assert done.returncode == 2 and "there is no model of the registry to serve" in done.stderr, done
