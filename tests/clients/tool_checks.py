"""Command-line tools: grpcurl, ghz, h2load, perf_analyzer, wrk, hey, curl."""

import json
import re
import struct

import numpy as np
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2

from suite import check

SERVICE = "inference.GRPCInferenceService"
ROW = [5.1, 3.5, 1.4, 0.2]


# --- grpcurl

GRPCURL = "grpcurl"


def grpcurl(c, *words, check_status=True):
    return c.run(c.tool("grpcurl"), "-plaintext", "-max-time", "20", *words, check=check_status)


def typed(rows, model="iris-classifier", request_id="g-1"):
    return json.dumps({"model_name": model, "id": request_id, "inputs": [
        {"name": "input", "datatype": "FP32", "shape": list(rows.shape), "contents": {"fp32_contents": rows.flatten().tolist()}}]})


def right_grpcurl(c, text, rows):
    answer = json.loads(text)
    assert answer["id"] == "g-1" and [o["name"] for o in answer["outputs"]] == ["probabilities", "predicted_class"], answer
    if "raw_output_contents" in answer:
        import base64
        found = np.frombuffer(base64.b64decode(answer["raw_output_contents"][0]), dtype=np.float32)
    else:
        found = np.array(answer["outputs"][0]["contents"]["fp32_contents"])
    assert np.abs(found.reshape(-1, 3) - c.iris_probabilities[:rows]).max() < 1e-6, found


def protoset(c):
    """The protocol as tritonclient has it, in a file."""
    files = descriptor_pb2.FileDescriptorSet()
    for module in (model_config_pb2, service_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    path = c.folder / "v2.protoset"
    path.write_bytes(files.SerializeToString())
    return path


@check(GRPCURL)
def _(c):
    """list, by reflection."""
    services = grpcurl(c, c.grpc, "list").stdout.split()
    assert {SERVICE, "grpc.health.v1.Health"} <= set(services), services


@check(GRPCURL)
def _(c):
    """list and describe a service and a message, by reflection."""
    methods = grpcurl(c, c.grpc, "list", SERVICE).stdout.split()
    assert {f"{SERVICE}.{m}" for m in ("ModelInfer", "ModelStreamInfer", "ModelConfig", "ModelStatistics", "RepositoryIndex")} <= set(methods), methods
    assert "rpc ModelInfer" in grpcurl(c, c.grpc, "describe", SERVICE).stdout
    assert "raw_input_contents" in grpcurl(c, c.grpc, "describe", ".inference.ModelInferRequest").stdout


@check(GRPCURL)
def _(c):
    """grpc.health.v1: the server, the service, a model; NOT_FOUND for another."""
    for body in ("{}", json.dumps({"service": SERVICE}), '{"service": "iris-classifier"}'):
        assert json.loads(grpcurl(c, "-d", body, c.grpc, "grpc.health.v1.Health/Check").stdout) == {"status": "SERVING"}
    no = grpcurl(c, "-d", '{"service": "nobody"}', c.grpc, "grpc.health.v1.Health/Check", check_status=False)
    assert no.returncode != 0 and "NotFound" in no.stderr, no.stderr


@check(GRPCURL)
def _(c):
    """ModelInfer with typed contents, by reflection."""
    right_grpcurl(c, grpcurl(c, "-d", typed(c.iris[:10]), c.grpc, f"{SERVICE}/ModelInfer").stdout, 10)


@check(GRPCURL)
def _(c):
    """ModelInfer and ModelConfig by the protocol file of tritonclient (-protoset)."""
    file = protoset(c)
    right_grpcurl(c, grpcurl(c, "-protoset", file, "-d", typed(c.iris[:10]), c.grpc, f"{SERVICE}/ModelInfer").stdout, 10)
    config = json.loads(grpcurl(c, "-protoset", file, "-d", '{"name": "iris-classifier"}', c.grpc, f"{SERVICE}/ModelConfig").stdout)
    assert config["config"]["input"][0]["dims"] == ["4"], config


@check(GRPCURL)
def _(c):
    """ModelStreamInfer: two requests, two answers, the end."""
    said = grpcurl(c, "-d", typed(c.iris[:1]) + typed(c.iris[:1]), c.grpc, f"{SERVICE}/ModelStreamInfer").stdout
    assert said.count('"infer_response"') == 2, said


@check(GRPCURL)
def _(c):
    """Refused with InvalidArgument and NotFound."""
    for body, code in ((typed(c.iris[:1, :3]), "InvalidArgument"), (typed(c.iris[:1], model="nobody"), "NotFound")):
        no = grpcurl(c, "-d", body, c.grpc, f"{SERVICE}/ModelInfer", check_status=False)
        assert no.returncode != 0 and code in no.stderr, no.stderr


# --- load generators

@check("ghz 0.93")
def _(c):
    """2,000 calls of ModelInfer, 8 at a time: all OK, all counted."""
    before = c.answered()
    said = json.loads(c.run(c.tool("ghz"), "--insecure", "--protoset", protoset(c), "--call", f"{SERVICE}/ModelInfer", "-d", typed(c.iris[:1]),
                            "-n", 2000, "-c", 8, "--connections", 2, "-O", "json", c.grpc).stdout)
    assert said["statusCodeDistribution"] == {"OK": 2000}, said["statusCodeDistribution"]
    assert c.answered() >= before + 2000


@check("h2load")
def _(c):
    """5,000 calls of ModelInfer, 16 at a time: all answered, all counted."""
    request = service_pb2.ModelInferRequest(model_name="iris-classifier")
    one = request.inputs.add(name="input", datatype="FP32", shape=[1, 4])
    one.contents.fp32_contents.extend(ROW)
    text = request.SerializeToString()
    body = c.folder / "h2load.body"
    body.write_bytes(struct.pack(">BI", 0, len(text)) + text)
    tool = c.tool("h2load")
    before = c.answered()
    said = c.run(tool, "-n", 5000, "-c", 2, "-m", 8, "-d", body, "-H", "content-type: application/grpc", "-H", "te: trailers",
                 f"http://{c.grpc}/{SERVICE}/ModelInfer").stdout
    assert "5000 succeeded, 0 failed, 0 errored, 0 timeout" in said, said
    assert c.answered() >= before + 5000


@check("wrk 4.1")
def _(c):
    """POST /score for 2 s over 8 connections: no reply but 200."""
    script = c.folder / "score.lua"
    script.write_text('wrk.method = "POST"\nwrk.body = \'{"data": [' + json.dumps(c.diabetes[0].tolist()) + "]}'\n"
                      'wrk.headers["Content-Type"] = "application/json"\n')
    before = c.answered("diabetes-rf-model")
    said = c.run(c.tool("wrk"), "-d", "2s", "-c", 8, "-t", 1, "-s", script, c.url + "/score", environment={"LD_LIBRARY_PATH": str(c.tools / "lib")}).stdout
    requests = int(re.search(r"(\d+) requests in", said)[1])
    assert requests > 100 and "Non-2xx" not in said and "Socket errors" not in said, said
    assert c.answered("diabetes-rf-model") > before + 100


@check("hey 0.1.4")
def _(c):
    """2,000 of POST /score, 8 at a time: all 200."""
    body = json.dumps({"data": [c.diabetes[0].tolist()]})
    said = c.run(c.tool("hey"), "-n", 2000, "-c", 8, "-m", "POST", "-T", "application/json", "-d", body, c.url + "/score").stdout
    assert re.search(r"\[200\]\s+2000 responses", said), said


# --- perf_analyzer

PERF = "perf_analyzer 2.51"


def perf_analyzer(c, where, *more):
    tool = c.tool("perf_analyzer")
    said = c.run(tool, "-m", "iris-classifier", "-u", where, "--concurrency-range", 2, "--measurement-mode", "count_windows",
                 "--measurement-request-count", 200, "-p", 1000, "-r", 3, "-s", 999, *more,
                 environment={"LD_LIBRARY_PATH": str(c.tools / "lib")})
    rate = re.search(r"Throughput: ([\d.]+) infer/sec", said.stdout)
    assert rate and float(rate[1]) > 10, said.stdout + said.stderr


def perf_check(words, which, *more):
    def one(c):
        perf_analyzer(c, c.http if which == "http" else c.grpc, "-i", which, *more)
    one.__doc__ = words
    check(PERF)(one)


perf_check("-i http, binary tensors", "http")
perf_check("-i http, JSON tensors", "http", "--input-tensor-format", "json", "--output-tensor-format", "json")
perf_check("-i grpc", "grpc")
perf_check("-i grpc --streaming", "grpc", "--streaming")
perf_check("-i http, 16 rows a request", "http", "-b", "16")
perf_check("-i grpc --async, 16 rows a request", "grpc", "-b", "16", "--async")


# --- curl

CURL = "curl"


def curl(c, path, *words):
    said = c.run(c.tool("curl"), "-sS", "-m", 20, "-w", "\n%{http_code}", *words, c.url + path).stdout
    text, _, status = said.rpartition("\n")
    return int(status), text


@check(CURL)
def _(c):
    """-d without a content type (curl says it is a form): V2, /score, /invocations."""
    status, text = curl(c, "/v2/models/iris-classifier/infer", "-d",
                        json.dumps({"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": ROW}]}))
    assert status == 200 and json.loads(text)["outputs"][1]["data"] == ["setosa"], text
    status, text = curl(c, "/score", "-d", json.dumps({"data": c.diabetes[:2].tolist()}))
    assert status == 200 and len(json.loads(text)["predictions"]) == 2, text
    status, text = curl(c, "/invocations", "-d", json.dumps({"instances": c.diabetes[:2].tolist()}))
    assert status == 200 and len(json.loads(text)["predictions"]) == 2, text


@check(CURL)
def _(c):
    """A body from a pipe (chunked), HTTP/1.0, an empty content type, --compressed."""
    body = json.dumps({"data": [c.diabetes[0].tolist()]})
    for words in (["-T", "-", "-X", "POST"], ["--http1.0", "-d", "@-"], ["-H", "Content-Type:", "-d", "@-"], ["--compressed", "-d", "@-"],
                  ["-H", "Expect: 100-continue", "-d", "@-"]):
        said = c.run(c.tool("curl"), "-sS", "-m", 20, *words, c.url + "/score", stdin=body).stdout
        assert abs(json.loads(said)["predictions"][0] - c.diabetes_predictions[0, 2]) < 1e-3, (words, said)


@check(CURL)
def _(c):
    """What is refused is refused with a JSON error: 400, 404, 405, 413."""
    for words, path, wanted in ((["-d", "{"], "/v2/models/iris-classifier/infer", 400), ([], "/nobody", 404),
                                (["-d", "{}"], "/v2/models/nobody/infer", 404), ([], "/v2/models/iris-classifier/infer", 405)):
        status, text = curl(c, path, *words)
        assert status == wanted and json.loads(text)["error"], (path, status, text)
