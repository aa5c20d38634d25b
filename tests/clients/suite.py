#!/usr/bin/env python3
"""Clients of today's inference servers against a node of Troupe with both doors open, unchanged.

    suite.py [--venv-mlserver DIRECTORY] [--tools DIRECTORY] [--only TEXT] [--skip-nobody]

Run by scripts/test-clients, which makes the environments. Every check runs twice: first against ports where nobody
listens, where it must fail (a check that cannot fail proves nothing), then against the node. Prints a table; the exit
status is 1 when a check failed, or passed against nobody. Tools that are not installed are named and left out.
"""

import argparse
import csv
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

    def inferences(self, model="iris-classifier"):
        """Rows that the model has scored."""
        status, said = self.get(f"/v2/models/{model}/stats")
        assert status == 200, said
        return sum(s["inference_count"] for s in said["model_stats"])


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
            box["how"] = ("FAIL", f"{type(error).__name__}: {error} ({pathlib.Path(own[-1].filename).name}:{own[-1].lineno})")

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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--venv-mlserver", type=pathlib.Path)
    parser.add_argument("--tools", type=pathlib.Path, default=pathlib.Path("/nonexistent"))
    parser.add_argument("--only", default="", help="checks whose client or name has this text")
    parser.add_argument("--skip-nobody", action="store_true", help="do not show first that every check fails without a server")
    options = parser.parse_args()
    import kserve_checks  # noqa: F401
    import plain_checks  # noqa: F401
    import tool_checks  # noqa: F401
    import triton_checks  # noqa: F401
    wanted = [c for c in CHECKS if options.only in c[0] + " " + c[1]]
    failed = 0
    with t.Stage() as stage:
        empty = {}
        if not options.skip_nobody:
            ports = t.free_ports(2)
            nobody = Context(*(f"127.0.0.1:{p}" for p in ports), stage.folder, options.tools, options.venv_mlserver)
            for client, name, function in wanted:
                empty[client, name] = run_check(function, nobody)[0]
        models_for_the_suite(stage.path("models"))
        node = stage.troupe({"http": {}, "grpc": {}, "kafka": {"enabled": False},
                             "models": {"directory": str(stage.path("models")), "default": "diabetes-rf-model"}})
        node.wait_ready()
        context = Context(f"127.0.0.1:{node.http_port}", f"127.0.0.1:{node.grpc_port}", stage.folder, options.tools,
                          options.venv_mlserver)
        counts = {"pass": 0, "FAIL": 0, "skip": 0}
        last = ""
        for client, name, function in wanted:
            how, why, seconds = run_check(function, context)
            if how == "pass" and empty.get((client, name)) == "pass":
                how, why = "FAIL", "passes when nobody listens, too"
            counts[how] += 1
            if client != last:
                print(f"\n{client}")
            last = client
            print(f"  {how}  {name}  ({seconds:.1f} s)" + (f"\n        {why}" if why else ""), flush=True)
            if not node.running:
                print("  the node has ended", flush=True)
                break
        failed = counts["FAIL"]
        if not options.skip_nobody:
            passed = sum(1 for how in empty.values() if how == "pass")
            print(f"\nagainst nobody: {sum(1 for how in empty.values() if how == 'FAIL')} fail, {passed} pass")
            failed += passed
        assert node.running, node.stderr()
        print(f"{counts['pass']} pass, {counts['FAIL']} fail, {counts['skip']} left out")
        status = node.stop()
        if status:
            print(f"the node ended with {status}")
            failed += 1
    sys.stdout.flush()
    os._exit(1 if failed else 0)  # past clients' threads that may still wait


if __name__ == "__main__":
    sys.modules["suite"] = sys.modules["__main__"]
    main()
