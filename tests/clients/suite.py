#!/usr/bin/env python3
"""Clients of today's inference servers against a node of Troupe with both doors open, unchanged.

    suite.py [--venv-mlserver DIRECTORY] [--tools DIRECTORY] [--only TEXT] [--skip-nobody]

Run by scripts/test-clients, which makes the environments. Every check runs twice: first against ports where nobody
listens, where it must fail (a check that cannot fail proves nothing), then against the node. Prints a table; the exit
status is 1 when a check failed, or passed against nobody. Tools that are not installed are named and left out.
"""

import argparse
import csv
import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
import traceback
import urllib.request

import numpy as np
import troupe_test as t

DATA = t.ROOT / "tests/runtime/model/data"
LONGEST = 120  # seconds of a check
MODULES = ("triton_checks", "kserve_checks", "tool_checks", "plain_checks")


class Skipped(Exception):
    """A tool that is not here."""


class Context:
    """Where the node is, and what it has to say: rows with the answers that the models' own tests expect."""

    def __init__(self, host_http, host_grpc, folder, tools, mlserver):
        self.http, self.grpc = host_http, host_grpc
        self.url = "http://" + host_http
        self.folder, self.tools, self.mlserver = folder, tools, mlserver

        def columns(name, inputs):
            with open(DATA / name) as file:
                rows = list(csv.DictReader(file))
            names = list(rows[0])
            all_rows = np.array([[float(r[n]) for n in names] for r in rows])
            return all_rows[:, :inputs], all_rows[:, inputs:]

        self.iris, self.iris_probabilities = columns("iris.csv", 4)
        self.diabetes, self.diabetes_predictions = columns("diabetes.csv", 10)

    def tool(self, name):
        found = self.tools / "bin" / name
        found = found if found.exists() else shutil.which(name)
        if not found:
            raise Skipped(f"{name} is not installed")
        return str(found)

    def run(self, *command, deadline=90, environment=None, stdin=None, check=True):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=deadline, input=stdin,
                              env={**os.environ, **(environment or {})})
        if check:
            assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-600:]}"
        return done

    def post(self, path, body, headers=None):
        """-> status, body; JSON is read. Only for what another check's client cannot say."""
        status, text = t.http("POST", self.url + path, body, headers)
        return status, json.loads(text)

    def get(self, path):
        status, text = t.http("GET", self.url + path)
        return status, json.loads(text)

    def answered(self, model="iris-classifier"):
        """Requests that got a prediction of the model."""
        status, said = self.get(f"/v2/models/{model}/stats")
        assert status == 200, said
        return sum(s["inference_stats"]["success"]["count"] for s in said["model_stats"])


CHECKS = []


def check(client):
    """Registers a function(context) under its docstring's first line."""
    def register(function):
        CHECKS.append((client, function.__doc__.splitlines()[0].rstrip("."), function))
        return function
    return register


def refused(call, wanted, *texts, by=lambda e: str(e.status())):
    """The call must raise with this status, in words that have these texts."""
    try:
        call()
    except Exception as error:  # noqa: BLE001: each client has its own
        said = by(error)
        assert wanted in said, f"ended with {said}: {error}, not {wanted}"
        for text in texts:
            assert text in str(error), f"{error!s} lacks {text!r}"
        return
    raise AssertionError(f"was answered, not refused with {wanted}")


def run_check(function, context):
    """-> "pass", "skip" or "FAIL", what was wrong, seconds. A check that hangs fails, and is left behind."""
    box = {}

    def work():
        try:
            function(context)
            box["how"] = ("pass", "")
        except Skipped as why:
            box["how"] = ("skip", str(why))
        except BaseException as error:  # noqa: BLE001
            frame = traceback.extract_tb(error.__traceback__)
            own = [f for f in frame if "tests/clients" in f.filename] or frame
            box["how"] = ("FAIL", f"{type(error).__name__}: {' '.join(str(error).split())[:600]} ({pathlib.Path(own[-1].filename).name}:{own[-1].lineno})")

    began = time.monotonic()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(LONGEST)
    how = box.get("how") or ("FAIL", f"still runs after {LONGEST} s")
    return how[0], how[1], time.monotonic() - began


def models_for_the_suite(folder):
    """The shipped models; one with a category, for BYTES; one to load and unload; two that tell their names apart."""
    shutil.copytree(t.ROOT / "models", folder)
    shutil.copytree(folder / "iris-classifier", folder / "iris-words")
    (folder / "iris-words/1/model.yaml").write_text(
        "features: [sepal_length, sepal_width, petal_length, {name: petal_width, categories: [narrow, middle, wide]}]\n"
        "classes: [setosa, versicolor, virginica]\n")
    shutil.copytree(folder / "diabetes-linear", folder / "spare")


def run_module(name, context, only):
    """Runs one file's checks and says a JSON line for each."""
    importlib.import_module(name)
    for client, words, function in CHECKS:
        if only in client + " " + words:
            how, why, seconds = run_check(function, context)
            print(json.dumps({"client": client, "name": words, "how": how, "why": why, "seconds": round(seconds, 1)}), flush=True)
    os._exit(0)  # past clients' threads that may still wait


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--venv-mlserver", type=pathlib.Path)
    parser.add_argument("--tools", type=pathlib.Path, default=pathlib.Path("tools"))
    parser.add_argument("--only", default="", help="checks whose client or name has this text")
    parser.add_argument("--skip-nobody", action="store_true", help="do not show first that every check fails without a server")
    parser.add_argument("--run", nargs=4, metavar=("MODULE", "HTTP", "GRPC", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        module, http, grpc, folder = options.run
        return run_module(module, Context(http, grpc, pathlib.Path(folder), options.tools, options.venv_mlserver), options.only)

    def checks_at(http, grpc, folder):
        # A process each: kserve's and tritonclient's messages have the same names and do not go into one.
        for module in MODULES:
            command = [sys.executable, __file__, "--run", module, http, grpc, str(folder), "--tools", str(options.tools), "--only", options.only]
            if options.venv_mlserver:
                command += ["--venv-mlserver", str(options.venv_mlserver)]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
            stage.own(child.pid)
            for line in child.stdout:
                if line.startswith('{"client"'):
                    yield json.loads(line)
            status = child.wait()
            stage.disown(child.pid)
            if status:
                yield {"client": module, "name": "runs to its end", "how": "FAIL", "why": f"ended with {status}", "seconds": 0}

    with t.Stage() as stage, open(stage.path("clients.err"), "wb") as errors:
        empty = {}
        if not options.skip_nobody:
            empty = {(one["client"], one["name"]): one["how"] for one in checks_at(*(f"127.0.0.1:{p}" for p in t.free_ports(2)), stage.folder)}
        models_for_the_suite(stage.path("models"))
        node = stage.troupe({"http": {}, "grpc": {}, "kafka": {"enabled": False},
                             "models": {"directory": str(stage.path("models")), "default": "diabetes-rf-model"}})
        node.wait_ready()
        counts = {"pass": 0, "FAIL": 0, "skip": 0}
        last = ""
        for one in checks_at(f"127.0.0.1:{node.http_port}", f"127.0.0.1:{node.grpc_port}", stage.folder):
            if one["how"] == "pass" and empty.get((one["client"], one["name"])) == "pass":
                one.update(how="FAIL", why="passes when nobody listens, too")
            counts[one["how"]] += 1
            if one["client"] != last:
                print(f"\n{one['client']}")
            last = one["client"]
            print(f"  {one['how']}  {one['name']}  ({one['seconds']} s)" + (f"\n        {one['why']}" if one["why"] else ""), flush=True)
        if not options.skip_nobody:
            print("\nwhen nobody listens: " + ", ".join(f"{sum(h == how for h in empty.values())} {how}" for how in counts))
        print(f"{counts['pass']} pass, {counts['FAIL']} fail, {counts['skip']} left out")
        assert node.running, "the node has ended"
        assert node.stop() == 0, "the node did not end well"
        assert counts["pass"] > 0
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.modules["suite"] = sys.modules["__main__"]
    sys.exit(main())
