#!/usr/bin/env python3
"""Troupe with a real MLflow server and a real Kafka: promotions under load, a registry that dies, answers that lie.

    suite.py --venv DIRECTORY [--torch-venv DIRECTORY] [--seconds 60] [--record FILE]     # scripts/test-mlflow runs it

PyTorch modules are imported where an environment has torch: the one of --venv, or --torch-venv.

--record writes what the server answers to the calls of Troupe's client, for tests/runtime/registry.
"""

import argparse
import base64
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import kafka_client  # noqa: E402
import troupe_test as t  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--venv", type=pathlib.Path, required=True)
parser.add_argument("--torch-venv", type=pathlib.Path, help="with torch, onnx, onnxscript; the Python of --venv, whose MLflow is used")
parser.add_argument("--seconds", type=int, default=60)
parser.add_argument("--rate", type=int, default=1000)
parser.add_argument("--record", type=pathlib.Path)
options = parser.parse_args()

MODEL, LINEAR = "diabetes-rf-model", "diabetes-linear"
USER, PASSWORD = "admin", "a-long-password-1"
POLL, TIMEOUT = 2.0, 10.0
PATIENT = ["--set", "mlflow.timeout=60s"]  # of commands, at a server on a busy machine: it is not about how quickly they answer
ADMIN = {"Authorization": "Bearer secret-of-the-test"}
BASIC = {"Authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
LOGIN = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
SEARCH = "max_results={}&order_by=version_number%20DESC&filter="


def say(what, **more):
    print(json.dumps({what: more}) if more else f"- {what}", flush=True)


def descendants(pid):
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


class Registry:
    """An MLflow server of its own: SQLite, artifacts through the server, basic authentication."""

    def __init__(self, stage):
        self.stage = stage
        (self.port,) = t.free_ports(1)
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = stage.path("mlflow")
        self.folder.mkdir()
        (self.folder / "auth.ini").write_text(
            "[mlflow]\ndefault_permission = READ\n"
            f"database_uri = sqlite:///{self.folder}/auth.db\nadmin_username = {USER}\nadmin_password = {PASSWORD}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n")
        self.start()

    def start(self):
        self.process = self.stage.start(
            [options.venv / "bin/mlflow", "server", "--host", "127.0.0.1", "--port", self.port, "--backend-store-uri",
             "sqlite:///mlflow.db", "--artifacts-destination", "./artifacts",
             "--serve-artifacts", "--workers", "1", "--app-name", "basic-auth"], "mlflow",
            {"MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-the-test",
             "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true",
             "PATH": f"{options.venv}/bin:{os.environ['PATH']}"}, cwd=self.folder)
        t.wait_until(lambda: t.http("GET", self.uri + "/health")[0] == 200, "MLflow answers", 120, every=0.2)
        for pid in descendants(self.process.pid)[1:]:
            self.stage.own(pid, brutal=True)

    def settle(self):
        """Waits until it answers a call in half of the node's time budget -> seconds. It answers /health long before that: its
        parts are loaded by the first calls, and MLflow 3 starts eight more processes meanwhile."""
        began = time.time()
        t.wait_until(lambda: t.http("GET", f"{self.uri}/api/2.0/mlflow/registered-models/get?name={MODEL}", headers=BASIC,
                                    timeout=TIMEOUT / 2)[0] == 200, "MLflow answers a call in time", 180, every=0.2)
        return round(time.time() - began, 2)

    def kill(self):
        pids = descendants(self.process.pid)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        for pid in pids[1:]:
            self.stage.disown(pid)

    def call(self, method, path, **fields):
        status, body = t.http(method, f"{self.uri}/api/2.0/mlflow/{path}", fields, BASIC, timeout=30)
        assert status == 200, (path, fields, status, body)
        return json.loads(body)

    def promote(self, version, name=MODEL):
        """-> when the registry began to be asked for it."""
        began = time.time()
        self.call("POST", "model-versions/transition-stage", name=name, version=str(version), stage="Production",
                  archive_existing_versions=True)
        return began

    def alias(self, name, alias, version):
        began = time.time()
        self.call("POST", "registered-models/alias", name=name, alias=alias, version=str(version))
        return began

    def python(self, *words, venv=None, **environment):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "MODEL_", "TROUPE_"))}
        return subprocess.run([str((venv or options.venv) / "bin/python"), *map(str, words)], text=True, capture_output=True,
                              env={**inherited, "MLFLOW_TRACKING_URI": self.uri, **LOGIN, **environment}, check=False)


class Bent(http.server.ThreadingHTTPServer):
    """Between Troupe and the registry; bends what goes by."""

    daemon_threads = True

    def __init__(self, target):
        self.target, self.mode = target, "straight"
        self.release = threading.Event()
        super().__init__(("127.0.0.1", 0), BentHandler)
        self.uri = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass


class BentHandler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        mode = self.server.mode
        if mode == "500":
            return self.give(500, b"broken", "text/plain")
        if mode == "html":
            return self.give(200, b"<!doctype html><title>Login</title>", "text/html")
        if mode == "redirect":
            return self.give(302, b"", "text/plain", [("Location", "http://127.0.0.2:9/elsewhere")])
        if mode == "hang":
            self.server.release.wait(120)
            return None
        headers = {"Authorization": self.headers["Authorization"]} if "Authorization" in self.headers else {}
        try:
            status, body = t.http("GET", self.server.target + self.path, headers=headers, timeout=30)
        except (OSError, urllib.error.URLError):
            return self.give(502, b"", "text/plain")
        if mode == "size" and "mlflow-artifacts/artifacts?" in self.path:
            said = json.loads(body)
            for file in said.get("files", []):
                file["file_size"] = file["file_size"] - 7
            body = json.dumps(said).encode()
        if mode == "garbage" and self.path.endswith("model.onnx"):
            body = bytes(len(body))
        return self.give(status, body, "application/json")

    def give(self, status, body, kind, more=()):
        self.send_response(status)
        for name, value in [("Content-Type", kind), ("Content-Length", str(len(body))), *more]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Node:
    def __init__(self, stage, process):
        self.stage, self.process = stage, process
        self.url = f"http://127.0.0.1:{process.port}"

    def get(self, path):
        status, body = t.http("GET", self.url + path, headers=ADMIN)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def production(self, model=MODEL):
        return next((v["version"] for v in self.get("/admin/models")["versions"]
                     if v["model"] == model and v["state"] == "production"), "")

    def states(self, model=MODEL):
        return {v["version"]: v["state"] for v in self.get("/admin/models")["versions"] if v["model"] == model}

    def problems(self):
        return [r["problem"] for r in self.get("/admin/registry")["references"] if "problem" in r]

    def wait_production(self, version, model=MODEL, deadline=60.0):
        t.wait_until(lambda: self.production(model) == version, f"{model} {version} answers", deadline, every=0.01)
        return time.time()

    def follow(self, version, timeline, since, model=MODEL, deadline=60.0):
        """Waits until this version answers, and notes the polls as they begin and end, in seconds after `since`."""
        def answers():
            registry = self.get("/admin/registry")  # before the version: its poll has begun by then
            now = {"begun": registry["begun"], "ended": registry["polls"]}
            there = self.production(model) == version
            if not timeline or there or {k: timeline[-1][k] for k in now} != now:
                timeline.append({"at": round(time.time() - since, 2), **now})
            return there

        t.wait_until(answers, f"{model} {version} answers", deadline, every=0.01)
        return time.time()

    def polls(self, more):
        wanted = self.get("/admin/registry")["polls"] + more
        t.wait_until(lambda: self.get("/admin/registry")["polls"] >= wanted, f"{more} polls", 120)

    def log(self, event):
        return [line for line in self.process.stderr().splitlines() + self.process.stdout().splitlines()
                if f'"event":"{event}"' in line]


def main():
    version = options.venv.joinpath("bin/mlflow")
    assert version.exists(), f"{version} is not there"
    with t.Stage() as stage:
        registry = Registry(stage)
        status, body = t.http("GET", registry.uri + "/version", headers=BASIC)
        line = body.decode().strip()
        say("MLflow", version=line)
        made = stage.path("answers.json")
        done = registry.python(HERE / "register_models.py", made)
        assert done.returncode == 0, done.stderr[-3000:]
        expected = json.loads(made.read_text())
        if options.record:
            return record(registry, options.record)
        kafka = stage.kafka()
        for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
            kafka.client.create_topic(topic, 2)
        stage.path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in expected["rows"]))
        commands(stage, registry)
        node = serve(stage, kafka, registry, registry.uri)
        agreement(kafka, node, expected)
        under_load(stage, kafka, registry, node)
        aliases_and_sync(registry, node)
        pickles(stage, kafka, registry, node, expected)
        torch_modules(stage, registry)
        node = outage(stage, kafka, registry, node)
        assert node.process.stop() == 0
        hostile(stage, kafka, registry)
    say("passed", MLflow=line)


def serve(stage, kafka, registry, uri, cache="cache", **more):
    password = stage.path("password")
    password.write_text(PASSWORD + "\n")
    process = stage.troupe(
        {"kafka": {"brokers": kafka.bootstrap}, "models": {"directory": str(stage.path("no-models"))},
         "mlflow": {"uri": uri, "models": f"models:/{MODEL}/Production, models:/{LINEAR}@champion, models:/boosted-xgboost/1, "
                                          "models:/boosted-lightgbm/latest",
                    "username": USER, "password_file": str(password), "poll_interval": f"{int(POLL * 1000)}ms",
                    "timeout": f"{int(TIMEOUT * 1000)}ms", "cache_directory": str(stage.path(cache))},
         "admin": {"token": "secret-of-the-test"}, "cache": {"mode": "off"}, "log": {"format": "json"}})
    began = time.time()
    process.wait_ready()
    node = Node(stage, process)
    say("ready", seconds=round(time.time() - began, 2), production=node.production())
    return node


def commands(stage, registry):
    place = PATIENT + ["--set", f"mlflow.uri={registry.uri}"]
    done = t.run("models", "list", MODEL, *place)
    assert done.returncode == 1 and "asks for a login (401)" in done.stderr, done
    done = t.run("models", "list", MODEL, *place, environment={**LOGIN, "MLFLOW_TRACKING_PASSWORD": "wrong"})
    assert done.returncode == 1 and "refuses the credentials" in done.stderr and "wrong" not in done.stderr, done
    done = t.run("models", "list", MODEL, "--json", *place, environment=LOGIN)
    listed = {v["version"]: v for v in json.loads(done.stdout)["versions"]}
    assert listed["2"]["stage"] == "Production" and listed["3"]["aliases"] == ["challenger"], listed
    done = t.run("models", "show", f"models:/{MODEL}@challenger", "--json", *place, environment=LOGIN)
    shown = json.loads(done.stdout)
    assert shown["version"] == "3" and shown["format"] == "onnx", shown
    done = t.run("models", "show", f"models:/{MODEL}/1", *place, environment=LOGIN)
    assert "troupe models import models:/diabetes-rf-model/1" in done.stdout, done
    done = t.run("models", "fetch", "--json", *place, "--set", f"mlflow.models=models:/{MODEL}/Production", "--set",
                 f"mlflow.cache_directory={stage.path('fetched')}", environment=LOGIN)
    assert json.loads(done.stdout)["versions"][0]["version"] == "2", done
    done = t.run("check", "--set", "kafka.brokers=embedded", "--set", "metrics.port=0", "--json", "--set",
                 f"models.directory={stage.path('no-models')}", environment={
                     **LOGIN, "MLFLOW_TRACKING_URI": registry.uri, "MODEL_NAME": MODEL, "MODEL_STAGE": "Production"})
    assert done.returncode == 0 and "version 2" in done.stdout, done
    say("list, show, fetch, check; a missing and a wrong login are said, the password is not")


def ask(kafka, rows, model, **more):
    """Answers to one request with all rows, by way of Kafka."""
    key = os.urandom(8).hex()
    before = kafka.client.end_offsets("inference-results")
    kafka.client.produce("inference-requests", [kafka_client.Record(
        value=json.dumps({"request_id": key, "model": model, "features": rows, **more}).encode())])

    def answer():
        for one in kafka.client.read("inference-results", before):
            said = json.loads(one.value)
            if said["request_id"] == key:
                return said
        return None

    return t.wait_until(answer, f"{model} answers", 30)


def agreement(kafka, node, expected):
    """Each file of the registry answers as the Python model that was registered."""
    worst = {}
    for model in (MODEL, LINEAR, "boosted-xgboost", "boosted-lightgbm"):
        said = ask(kafka, expected["rows"], model)
        wanted = expected["answers"][f"{model}/{said['model_version']}"]
        worst[f"{model}/{said['model_version']}"] = max(
            abs(got - want[0]) / (1 + abs(want[0])) for got, want in zip(said["prediction"], wanted))
    assert max(worst.values()) < 1e-5, worst
    named = dict(zip("age sex bmi bp s1 s2 s3 s4 s5 s6".split(), expected["rows"][0]))
    said = ask(kafka, named, LINEAR)
    assert "prediction" in said, said
    say("agreement with Python", rows=len(expected["rows"]), largest_difference=worst)


def load(stage, kafka, name, seconds):
    return stage.start([t.TROUPE, "load", "--brokers", kafka.bootstrap, "--records", seconds * options.rate, "--rate",
                        options.rate, "--features-file", stage.path("rows.jsonl"), "--wait-for", "30s", "--json"], name)


def finished(process):
    process.wait(options.seconds + 120)
    result = json.loads(process.stdout())
    assert result["lost"] == 0 and result["errors"] == 0 and result["sent"] == result["predicted"], result
    return {k: result[k] for k in ("sent", "predicted", "errors", "lost")}


def first_answer(kafka, before, version):
    """When the first request was sent that this version answered; results keep the request's time."""
    times = [one.timestamp for one in kafka.client.read("inference-results", before)
             if f'"model_version":"{version}"'.encode() in one.value and MODEL.encode() in one.value]
    return min(times) / 1000


def under_load(stage, kafka, registry, node):
    began = time.time()
    node.polls(1)
    node.polls(5)
    say("polls", seconds_each=round((time.time() - began) / 6, 2))
    before = kafka.client.end_offsets("inference-results")
    traffic = load(stage, kafka, "promotions", options.seconds)
    time.sleep(min(5, options.seconds / 6))
    asked, changed, polls, timelines = [], [], [], []
    for version in ("3", "2", "3"):
        asked.append(registry.promote(version))
        timeline = []
        changed.append(node.follow(version, timeline, asked[-1]))
        timelines.append(timeline)
        # Begun after the promotion was answered: a poll that ran then may have asked before it.
        polls.append(timeline[-1]["begun"] - timeline[0]["begun"])
        time.sleep(POLL)
    assert traffic.running, "it all happened under load"
    result = finished(traffic)
    seen = first_answer(kafka, before, "3") - asked[0]
    took = [round(c - a, 2) for a, c in zip(asked, changed)]
    say("promotions under load", **result, rate=options.rate, poll_seconds=POLL, seconds_until_production=took,
        polls_begun_until_production=polls, seconds_until_in_results=round(seen, 2))
    say("polls around the promotions", timelines=timelines)
    assert max(polls) <= 1, timelines


def aliases_and_sync(registry, node):
    assert node.production(LINEAR) == "1"
    token = node.stage.path("token")
    token.write_text("secret-of-the-test")
    asked = registry.alias(LINEAR, "champion", "2")
    done = t.run("models", "sync", "--url", node.url, "--token-file", str(token))
    assert done.returncode == 0 and f"models:/{LINEAR}@champion  version 2" in done.stdout, done
    assert node.production(LINEAR) == "2"
    say("an alias and troupe models sync", seconds=round(time.time() - asked, 2))


def pickles(stage, kafka, registry, node, expected):
    running = node.production()
    registry.promote("1")
    t.wait_until(lambda: any("troupe models import models:/diabetes-rf-model/1" in p for p in node.problems()),
                 "the pickle is refused", 60)
    assert node.production() == running
    assert node.process.metrics().total("troupe_registry_rejected_versions_total", model=MODEL) == 1
    refused = json.loads(node.log("registry_problem")[-1])
    say("a pickle is promoted", running=node.production(), log=refused.get("message") or refused.get("msg"))
    imported = {}
    for reference in (f"models:/{MODEL}/1", "models:/scaled-xgboost/1", "models:/bagged/1"):
        done = t.run("models", "import", reference, "--register", "--json", *PATIENT, "--set", f"mlflow.uri={registry.uri}",
                     deadline=300, environment={**LOGIN, "PATH": f"{options.venv}/bin:{os.environ['PATH']}"})
        assert done.returncode == 0, (reference, done.stderr[-2000:])
        said = json.loads(done.stdout.strip().splitlines()[-1])
        imported[reference] = {k: said[k] for k in ("file", "engine", "rows_compared", "largest_difference", "version")}
    say("imported", **imported)
    new = imported[f"models:/{MODEL}/1"]["version"]
    registry.promote(new)
    node.wait_production(str(new))
    assert not node.problems() or all(MODEL not in p for p in node.problems()), node.problems()
    said = ask(kafka, expected["rows"], MODEL)
    worst = max(abs(got - want[0]) for got, want in zip(said["prediction"], expected["answers"][f"{MODEL}/1"]))
    assert said["model_version"] == str(new) and worst < 1e-6, (said["model_version"], worst)
    say("the imported version answers", version=new, largest_difference=worst)
    if f"{MODEL}/4" in expected["answers"] and str(new) != "4":
        registry.promote("4")
        node.wait_production("4")
        said = ask(kafka, expected["rows"], MODEL)
        worst = max(abs(got - want[0]) for got, want in zip(said["prediction"], expected["answers"][f"{MODEL}/4"]))
        assert worst < 1e-6, worst
        say("a skops file answers", largest_difference=worst)
    registry.promote("3")
    node.wait_production("3")
    # Empty packages: the one line that helps.
    empty = stage.path("empty")
    empty.mkdir()
    (empty / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    (empty / "python3").chmod(0o755)
    done = t.run("models", "import", f"models:/{MODEL}/1", "--register", "--set", f"mlflow.uri={registry.uri}",
                 environment={**LOGIN, "PATH": f"{empty}:{os.environ['PATH']}"})
    assert done.returncode == 1 and "pip install mlflow" in done.stderr, done
    say("without packages", says=done.stderr.strip().splitlines()[-1])


def torch_modules(stage, registry):
    """PyTorch modules and TorchScript become ONNX, which answers torch's numbers."""
    venv, line = options.torch_venv or options.venv, {}
    if options.torch_venv:  # an MLflow 3 can't log models at a server of MLflow 2: the server's own line is imported
        packages = [str(next(one.glob("lib/python3.*/site-packages"))) for one in (options.venv, venv)]
        assert packages[0].split("/")[-2] == packages[1].split("/")[-2], f"{packages}: one version of Python, please"
        line = {"PYTHONPATH": packages[0]}
    found = registry.python("-c", "import torch, onnx, onnxscript; print(torch.__version__)", venv=venv, **line)
    if found.returncode:
        assert not options.torch_venv, found.stderr[-1000:]
        return say("PyTorch: skipped, the environment lacks torch (--torch-venv names one that has it)")
    made = stage.path("torch.json")
    done = registry.python(HERE / "register_torch.py", made, venv=venv, **line)
    assert done.returncode == 0, done.stderr[-3000:]
    place, result = PATIENT + ["--set", f"mlflow.uri={registry.uri}"], {}
    for name, expected in json.loads(made.read_text()).items():
        fetch = ["models", "fetch", "--json", *place, "--set", f"mlflow.cache_directory={stage.path('torch')}", "--set"]
        done = t.run(*fetch, f"mlflow.models=models:/{name}/1", environment=LOGIN)
        assert done.returncode and f"troupe models import models:/{name}/1" in done.stderr, done
        done = t.run("models", "import", f"models:/{name}/1", "--register", "--json", *place, deadline=300,
                     environment={**LOGIN, **line, "PATH": f"{venv}/bin:{os.environ['PATH']}"})
        if expected["answers"] is None:
            assert done.returncode == 1 and "differently among other rows" in done.stderr, done
            listed = t.run("models", "list", name, "--json", *place, environment=LOGIN)
            assert len(json.loads(listed.stdout)["versions"]) == 1, listed
            result[name] = done.stderr.strip().splitlines()[-1]
            continue
        assert done.returncode == 0, (name, done.stderr[-2000:])
        said = json.loads(done.stdout.strip().splitlines()[-1])
        done = t.run(*fetch, f"mlflow.models=models:/{name}/{said['version']}", environment=LOGIN)
        assert done.returncode == 0, done
        folder = json.loads(done.stdout)["versions"][0]["directory"]
        done = t.run("models", "score", folder, "-", "--json", stdin="".join(json.dumps(r) + "\n" for r in expected["rows"]))
        assert done.returncode == 0, done
        worst = max(abs(got - want) for row, answer in zip(json.loads(done.stdout)["rows"], expected["answers"], strict=True)
                    for got, want in zip(row, answer, strict=True))
        assert worst < 1e-5, (name, worst)
        result[name] = {**{k: said[k] for k in ("file", "engine", "rows_compared", "version")}, "largest_difference": worst}
    return say("PyTorch", version=found.stdout.strip(), **result)


def outage(stage, kafka, registry, node):
    traffic = load(stage, kafka, "outage", 10)
    time.sleep(2)
    registry.kill()
    t.wait_until(lambda: node.process.metrics().total("troupe_registry_up") == 0, "the node says that the registry is away", 60)
    result = finished(traffic)
    assert node.process.get("/ready")[0] == 200 and node.production() == "3"
    say("the registry is killed under load", **result)
    assert node.process.stop() == 0
    node = serve(stage, kafka, registry, registry.uri)
    assert node.production() == "3" and node.production(LINEAR) == "2"
    result = finished(load(stage, kafka, "cached", 5))
    say("restarted without the registry", **result, production=node.production())
    registry.start()
    settled = registry.settle()
    began, begun = time.time(), node.get("/admin/registry")["begun"]
    t.wait_until(lambda: node.process.metrics().total("troupe_registry_up") == 1, "the registry is back", 60)
    polls = node.get("/admin/registry")["polls"] - begun
    assert node.log("registry_in_step"), "that it is back is in the log"
    say("the registry is back", seconds_until_it_answers=settled, seconds_until_seen=round(time.time() - began, 2), polls=polls)
    assert polls <= 2, "the one that ran may fail, and so may its successor at a server that is still busy with its start"
    registry.promote("2")
    node.wait_production("2")
    say("a promotion is followed")
    return node


def hostile(stage, kafka, registry):
    bent = Bent(registry.uri)
    node = serve(stage, kafka, registry, bent.uri, cache="other-cache")
    running = node.production()
    traffic = load(stage, kafka, "hostile", 30)
    told = {}
    for mode in ("500", "html", "redirect", "hang", "size", "garbage"):
        bent.release.clear()
        other = {"2": "3", "3": "2"}[running]
        # Not in the cache, or there is nothing to fetch and to lie about.
        for version in stage.path("other-cache").glob(f"models/{MODEL}/{other}"):
            version.rename(version.with_name(f".gone-{mode}"))
        bent.mode = mode
        registry.promote(other)
        t.wait_until(node.problems, f"{mode} is noticed", 60)
        time.sleep(POLL)
        assert node.production() == running, f"{mode}: another version answers"
        told[mode] = node.problems()[0][:160]
        bent.mode = "straight"
        bent.release.set()
        if mode == "garbage":  # its bytes are in the cache, whole and useless; the registry has others by now
            for version in stage.path("other-cache").glob(f"models/{MODEL}/{other}"):
                version.rename(version.with_name(f".gone-{mode}-2"))
        node.wait_production(other, deadline=60)
        t.wait_until(lambda: not node.problems(), "the problem is over", 60)
        running = other
    say("hostile answers keep the running version", **finished(traffic), told=told)
    assert node.process.stop() == 0


def record(registry, file):
    """What the server answers to each call, for the tests of the client."""
    name = urllib.parse.quote(LINEAR)
    api = "/api/2.0/mlflow"
    uri = registry.call("GET", f"model-versions/get-download-uri?name={name}&version=1")["artifact_uri"]
    folder = uri[len("mlflow-artifacts:/"):].strip("/")
    files = "/api/2.0/mlflow-artifacts/artifacts"
    registry.promote("1", LINEAR)
    answers = {}
    targets = ["/version", f"{api}/registered-models/get-latest-versions?name={name}&stages=Production",
               f"{api}/registered-models/get-latest-versions?name={name}&stages=Staging",
               f"{api}/registered-models/get-latest-versions?name={name}&stages=Prod",
               f"{api}/registered-models/get-latest-versions?name=nope&stages=Production",
               f"{api}/registered-models/alias?name={name}&alias=champion", f"{api}/registered-models/alias?name={name}&alias=ghost",
               f"{api}/registered-models/alias?name=nope&alias=ghost", f"{api}/model-versions/get?name={name}&version=2",
               f"{api}/model-versions/get?name={name}&version=99",
               *(f"{api}/model-versions/search?{SEARCH.format(most)}name%3D%27{of}%27" for most in (1, 100) for of in (name, "nope")),
              
               f"{api}/registered-models/get?name={name}", f"{api}/model-versions/get-download-uri?name={name}&version=1",
               f"{files}?path={urllib.parse.quote(folder, safe='')}", f"{files}/{folder}/MLmodel", f"{files}/{folder}/model.onnx",
               f"{files}/{folder}/input_example.json", f"{files}/{folder}/nope.bin"]
    for target in targets:
        with socket.create_connection(("127.0.0.1", registry.port), 30) as connection:
            connection.sendall((f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{registry.port}\r\nConnection: close\r\n"
                                f"Authorization: {BASIC['Authorization']}\r\n\r\n").encode())
            raw = b""
            while part := connection.recv(65536):
                raw += part
        answers[target] = base64.b64encode(raw).decode()
    with socket.create_connection(("127.0.0.1", registry.port), 30) as connection:
        connection.sendall((f"GET {targets[1]} HTTP/1.1\r\nHost: 127.0.0.1:{registry.port}\r\nConnection: close\r\n\r\n").encode())
        raw = b""
        while part := connection.recv(65536):
            raw += part
    file.write_text(json.dumps({"without_login": base64.b64encode(raw).decode(), "answers": answers}, indent=1) + "\n")
    say("recorded", calls=len(answers))


if __name__ == "__main__":
    main()
