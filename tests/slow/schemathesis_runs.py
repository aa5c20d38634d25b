"""What scripts/test-schemathesis runs: Schemathesis over our own document and over the upstream ones, against nodes started here. Prints
each report; ends with 1 when one of them has a failure."""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

import troupe_test as t

options = argparse.ArgumentParser()
options.add_argument("--upstream", type=pathlib.Path, required=True)
options.add_argument("--examples", type=int, default=100)
options.add_argument("--seed", type=int, default=1)
options.add_argument("--url")
options = options.parse_args()

OWN = ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
# The upstream documents leave out many replies (a model's 404, a 503), and say nothing of what must be refused.
UPSTREAM = ["--checks", "not_a_server_error,content_type_conformance,response_schema_conformance"]
# Operations that we don't have.
MISSING = "/(infer_stream|generate|generate_stream)$"
NAMES = {"model_name": ["iris-classifier", "diabetes-linear", "diabetes-rf-model"], "model_version": ["1", "v1", "2", "9"]}
CONFIG = pathlib.Path(__file__).with_name("schemathesis.toml")
failed = []


def named(text, name):
    """A copy of the document whose names in paths are of models that are there."""
    document = json.loads(text)

    def parameters(at):
        if isinstance(at, dict):
            if at.get("in") == "path" and at.get("name") in NAMES:
                at["schema"]["enum"] = NAMES[at["name"]]
                at.pop("examples", None)
            # No type of JSON Schema.
            if at.get("type") == "bytes":
                at["type"] = "string"
            at = list(at.values())
        for below in at if isinstance(at, list) else []:
            parameters(below)

    parameters(document)
    file = stage.path(name)
    file.write_text(json.dumps(document))
    return file


def run(name, location, url, *words):
    print(f"\n=== {name}", flush=True)
    command = ["schemathesis", "--config-file", str(CONFIG), "run", str(location), "--url", url, "--max-examples", str(options.examples),
               "--seed", str(options.seed), "--generation-database", "none", "--request-timeout", "20", "--continue-on-failure",
               "--warnings", "off", *words]
    done = subprocess.run(command, cwd=stage.path("."))
    if done.returncode:
        failed.append(name)


def node(models, default, **more):
    one = stage.troupe({"http": {}, "kafka": {"enabled": False}, "models": {"directory": str(models), "default": default, **more}})
    one.wait_ready()
    return one, f"http://127.0.0.1:{one.http_port}"


with t.Stage() as stage:
    url = options.url
    if not url:
        first, url = node(t.ROOT / "models", "iris-classifier")
    run("own document", url + "/openapi.json", url, *OWN, "--exclude-path-regex", "/v2/repository/models/")
    own = named(t.http("GET", url + "/openapi.json")[1], "own.json")
    run("own document, models that are there", own, url, *OWN, "--include-path-regex", "^/v2/models/{")
    dataplane = named((options.upstream / "dataplane.json").read_text(), "dataplane.json")
    repository = named((options.upstream / "model_repository.json").read_text(), "model_repository.json")
    run("upstream dataplane", dataplane, url, *UPSTREAM, "--exclude-path-regex", MISSING)
    run("upstream repository index", repository, url, *UPSTREAM, "--include-path", "/v2/repository/index")
    if not options.url:
        assert first.stop() == 0, first.stderr()

        # Models come and go: a node of their own, and names that are there.
        one, url = node(t.ROOT / "models", "iris-classifier")
        run("own repository", own, url, *OWN, "--include-path-regex", "/v2/repository/")
        run("upstream repository", repository, url, *UPSTREAM)
        assert one.stop() == 0, one.stderr()

        if (t.ROOT / ".deps/onnxruntime/lib/libonnxruntime.so").exists():
            data = t.ROOT / "tests/runtime/model/data"
            folder = stage.path("models") / "picture" / "1"
            folder.mkdir(parents=True)
            shutil.copy(data / "onnxruntime/picture.onnx", folder / "model.onnx")
            (folder / "model.yaml").write_text("input: {type: image, size: [4, 6], fit: stretch}\nsoftmax: true\ntop_k: 2\n")
            one, url = node(folder.parent.parent, "picture")
            run("own document with pictures", url + "/openapi.json", url, *OWN, "--include-path-regex", "/(score|invocations|infer)$")
            assert one.stop() == 0, one.stderr()
        else:
            print("pictures not tried: no ONNX Runtime, run scripts/deps")
print("\nfailed: " + ", ".join(failed) if failed else "\nSchemathesis found nothing")
sys.exit(bool(failed))
