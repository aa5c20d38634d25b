#!/usr/bin/env python3
"""The curl examples of docs/http.md, run as they stand against a node with the models of this repository; the pages of the door; and
pictures sent to /score. Without Kafka."""

import json
import re
import shutil
import subprocess

import troupe_test as t

if not shutil.which("curl"):
    t.skip("no curl")
PAGE = (t.ROOT / "docs/http.md").read_text()
EXAMPLES = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)
UPLOADS = re.findall(r"^```\n(curl .*?)^```", PAGE, re.M | re.S)


def commands(block):
    """The block's commands, as bash takes them: a quoted text may go over lines."""
    left, found = "", []
    for line in block.splitlines(True):
        left += line
        if left.count("'") % 2 == 0:
            found.append(left)
            left = ""
    assert not left, block
    return found


with t.Stage() as stage:
    here = stage.path("examples")
    here.mkdir()

    def shell(command, port):
        done = subprocess.run(["bash", "-ec", command.replace("localhost:8080", f"127.0.0.1:{port}")], cwd=here, capture_output=True, timeout=60)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    node = stage.troupe({"http": {}, "kafka": {"enabled": False}, "models": {"directory": str(t.ROOT / "models"), "default": "iris-classifier"}})
    node.wait_ready()
    url = f"http://127.0.0.1:{node.http_port}"
    answers = []
    for block in EXAMPLES:
        for command in commands(block):
            out = shell(command, node.http_port)
            if "curl" not in command:
                continue
            answer = json.loads(out)
            assert "error" not in answer, (command, answer)
            if isinstance(answer, dict):
                answers.append(answer)
            else:
                assert "iris-classifier" in [m["name"] for m in answer], answer  # the repository's index
    assert len(answers) >= 11, len(answers)
    two = next(a for a in answers if a.get("id") == "7")
    assert two["outputs"][1] == {"name": "predicted_class", "datatype": "BYTES", "shape": [2], "data": ["setosa", "virginica"]}, two
    binary = [a for a in answers if a.get("outputs", [{}])[-1].get("data") == ["setosa"]]
    assert len(binary) >= 2 and binary[0]["outputs"] == binary[1]["outputs"], "binary and JSON inputs give the same answer"
    rows = next(a for a in answers if "metadata" in a)
    assert rows["predictions"] == ["setosa", "virginica"] and rows["metadata"]["num_predictions"] == 2, rows
    assert [a for a in answers if a == {"predictions": ["setosa"]}], "an /invocations reply"

    # The limits' defaults are those of the program.
    written = dict(re.findall(r"^\| [^|]+\| `([a-z_.]+)` \| ([^|]+) \|$", PAGE, re.M))
    reference = (t.ROOT / "docs/configuration.md").read_text()
    for option, value in written.items():
        row = re.search(rf"^\| `{re.escape(option)}` \| `([^`]*)`", reference, re.M)
        if row:
            plain = lambda text: re.sub(r"[ ,]", "", text)  # noqa: E731
            assert plain(row[1]) == plain(value), (option, row[1], value)

    # What the page says of errors.
    for method, path, body, status in (("POST", "/v2/models/none/infer", "{}", 404), ("POST", "/v2/models/iris-classifier/versions/9/infer", "{}", 404),
                                       ("POST", "/v2/models/iris-classifier/infer", "{", 400), ("GET", "/score", None, 405), ("GET", "/nothing", None, 404),
                                       ("POST", "/v2/repository/index", "x" * 70_000, 413), ("POST", "/score", json.dumps({"data": [[0] * 4] * 10_001}), 413)):
        found, text = t.http(method, url + path, body)
        assert found == status and json.loads(text)["error"], (method, path, found, text[:200])

    # Browsers are sent to the page, programs to the metadata.
    status, body = t.http("GET", url + "/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert status == 200 and body.startswith(b"<!doctype html>"), (status, body[:80])
    status, body = t.http("GET", url + "/")
    assert status == 200 and json.loads(body)["name"] == "troupe", (status, body)

    # Every example of the document is answered 200.
    document = json.loads(t.http("GET", url + "/openapi.json")[1])
    names = [m["name"] for m in document["x-models"]]
    assert names[0] == "iris-classifier" and len(names) == 3, names
    for name, example in document["components"]["requestBodies"]["Infer"]["content"]["application/json"]["examples"].items():
        status, body = t.http("POST", f"{url}/v2/models/{name}/infer", example["value"])
        assert status == 200, (name, status, body)
    for path in ("/score", "/invocations"):
        for media, content in document["paths"][path]["post"]["requestBody"]["content"].items():
            for name, example in content["examples"].items():
                value = example["value"] if isinstance(example["value"], str) else json.dumps(example["value"])
                status, body = t.http("POST", url + path, value, {"Content-Type": media})
                assert status == 200, (path, name, status, body)
    assert node.stop() == 0, node.stderr()
    print(f"{len(answers)} examples of docs/http.md answered as they stand")

    if not (t.ROOT / ".deps/onnxruntime/lib/libonnxruntime.so").exists():
        print("pictures not tried: no ONNX Runtime, run scripts/deps")
        raise SystemExit(0)
    data = t.ROOT / "tests/runtime/model/data"
    folder = stage.path("models") / "picture" / "1"
    folder.mkdir(parents=True)
    shutil.copy(data / "onnxruntime/picture.onnx", folder / "model.onnx")
    (folder / "model.yaml").write_text("input: {type: image, size: [4, 6], fit: stretch}\nsoftmax: true\ntop_k: 2\n")
    shutil.copy(data / "pictures/photo.jpg", here / "photo.jpg")
    node = stage.troupe({"http": {}, "kafka": {"enabled": False}, "models": {"directory": str(folder.parent.parent)}})
    node.wait_ready()
    url = f"http://127.0.0.1:{node.http_port}"
    uploads = [json.loads(shell(line, node.http_port)) for block in UPLOADS for line in block.splitlines()]
    assert len(uploads) == 2, UPLOADS
    for answer in uploads:
        (top,) = answer["top_k"]
        assert len(top) == 2 and answer["predictions"] == [top[0]["class"]] and top[0]["probability"] >= top[1]["probability"], answer
    assert uploads[0]["top_k"] == uploads[1]["top_k"]
    document = json.loads(t.http("GET", url + "/openapi.json")[1])
    assert "multipart/form-data" in document["paths"]["/score"]["post"]["requestBody"]["content"]
    example = document["components"]["requestBodies"]["Infer"]["content"]["application/json"]["examples"]["picture"]["value"]
    status, body = t.http("POST", url + "/v2/models/picture/infer", example)
    assert status == 200, (status, body)
    photo = (here / "photo.jpg").read_bytes()
    for body, kind in ((photo[:300], "image/jpeg"), (b"", "image/png"), (photo, "multipart/form-data"), (photo, "multipart/form-data; boundary=x")):
        status, text = t.http("POST", url + "/score", body, {"Content-Type": kind})
        assert status == 400 and json.loads(text)["trace"] in ("parse", "validate", "predict"), (kind, status, text)
    assert node.stop() == 0, node.stderr()
    print("pictures: as the body and as a form, the same answer")
