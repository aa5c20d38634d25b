"""kserve's REST and gRPC clients, and `mlserver infer`."""

import asyncio
import json

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from suite import Skipped, check, refused

REST, V1, GRPC, MLSERVER = "kserve REST", "kserve REST, V1", "kserve gRPC", "mlserver infer"
CLASSES = ["setosa", "versicolor", "virginica"]


def rest():
    return InferenceRESTClient(RESTConfig(protocol="v2", timeout=20))


def grpc(c):
    return InferenceGRPCClient(c.grpc, timeout=20)


def request(rows, binary=None, model="iris-classifier", name="input", datatype="FP32", request_id=None, **more):
    one = InferInput(name, list(rows.shape), datatype)
    if binary is None:
        one.data = rows.flatten().tolist()
    else:
        one.set_data_from_numpy(rows.astype(np.float32) if datatype == "FP32" else rows, binary_data=binary)
    return InferRequest(model, [one], request_id=request_id, **more)


def right_iris(c, response, rows=150):
    outputs = {o.name: o for o in response.outputs}
    probabilities = outputs["probabilities"].as_numpy()
    assert probabilities.shape == (rows, 3), probabilities.shape
    assert np.abs(probabilities - c.iris_probabilities[:rows]).max() < 1e-6
    named = [n.decode() if isinstance(n, bytes) else str(n) for n in outputs["predicted_class"].as_numpy().flatten()]
    assert named == [CLASSES[i] for i in c.iris_probabilities[:rows].argmax(axis=1)], named[:5]


def over_rest(what, make=rest):
    async def all_of_it():
        client = make()
        try:
            return await what(client)
        finally:
            await client.close()
    return asyncio.run(all_of_it())


def over_grpc(c, what):
    async def all_of_it():
        client = grpc(c)
        try:
            return await what(client)
        finally:
            await client.close()
    return asyncio.run(all_of_it())


@check(REST)
def _(c):
    """JSON data: the values of the model's fixtures."""
    right_iris(c, over_rest(lambda client: client.infer(c.url, request(c.iris), model_name="iris-classifier")))


@check(REST)
def _(c):
    """Binary data in, JSON out."""
    right_iris(c, over_rest(lambda client: client.infer(c.url, request(c.iris, binary=True), model_name="iris-classifier")))


@check(REST)
def _(c):
    """Binary data in and out."""
    wish = [RequestedOutput(n, parameters={"binary_data": True}) for n in ("probabilities", "predicted_class")]
    right_iris(c, over_rest(lambda client: client.infer(c.url, request(c.iris, binary=True, request_outputs=wish), model_name="iris-classifier")))


@check(REST)
def _(c):
    """A request as a dict; its id comes back; headers come back."""
    seen = {}
    body = {"id": "d-1", "inputs": [{"name": "input", "shape": [150, 4], "datatype": "FP32", "data": c.iris.tolist()}]}
    got = over_rest(lambda client: client.infer(c.url, body, model_name="iris-classifier", headers={"x-request-id": "own-1"}, response_headers=seen))
    right_iris(c, got)
    assert got.id == "d-1" and {k.lower(): v for k, v in seen.items()}["x-request-id"] == "own-1", (got.id, seen)


@check(REST)
def _(c):
    """Live, ready, model ready."""
    assert over_rest(lambda client: client.is_server_live(c.url)) is True
    assert over_rest(lambda client: client.is_server_ready(c.url)) is True
    assert over_rest(lambda client: client.is_model_ready(c.url, "iris-classifier")) is True
    assert not over_rest(lambda client: client.is_model_ready(c.url, "nobody"))


def rest_refusal(words, make, model, wanted):
    def one(c):
        refused(lambda: over_rest(lambda client: client.infer(c.url, make(c), model_name=model)), str(wanted), by=lambda e: str(e.response.status_code))
    one.__doc__ = f"Refused with {wanted}: {words}"
    check(REST)(one)


rest_refusal("wrong width", lambda c: request(c.iris[:, :3]), "iris-classifier", 400)
rest_refusal("wrong name", lambda c: request(c.iris, name="inputs"), "iris-classifier", 400)
rest_refusal("BYTES for numbers", lambda c: {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "BYTES", "data": ["1", "2", "3", "4"]}]}, "iris-classifier", 400)
rest_refusal("unknown model", lambda c: request(c.iris, model="nobody"), "nobody", 404)


def first_protocol():
    """As the client is when nobody says v2."""
    return InferenceRESTClient(RESTConfig(timeout=20))


def over_v1(what):
    return over_rest(what, first_protocol)


@check(V1)
def _(c):
    """Rows as lists, to a classifier and a regressor that is not the default model: the values of the models' fixtures."""
    got = over_v1(lambda client: client.infer(c.url, {"instances": c.iris.tolist()}, model_name="iris-classifier"))
    assert [one["predicted_class"] if isinstance(one, dict) else one for one in got["predictions"]] == \
        [CLASSES[i] for i in c.iris_probabilities.argmax(axis=1)], got["predictions"][:3]
    got = over_v1(lambda client: client.infer(c.url, {"instances": c.diabetes[:50].tolist()}, model_name="diabetes-linear"))
    assert np.abs(np.array(got["predictions"]) - c.diabetes_predictions[:50, 3]).max() < 1e-3, got["predictions"][:3]


@check(V1)
def _(c):
    """Rows by the names of their features, a caller's own id, JSON as bytes."""
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    rows, seen = [dict(zip(names, row)) for row in c.iris[:5].tolist()], {}
    for data in ({"instances": rows}, json.dumps({"instances": rows}).encode()):
        got = over_v1(lambda client: client.infer(c.url, data, model_name="iris-classifier", headers={"x-request-id": "v1-1"}, response_headers=seen))
        assert len(got["predictions"]) == 5, got
    assert {k.lower(): v for k, v in seen.items()}["x-request-id"] == "v1-1", seen


@check(V1)
def _(c):
    """Live, model ready; not found for an unknown one."""
    assert over_v1(lambda client: client.is_server_live(c.url)) is True
    assert over_v1(lambda client: client.is_model_ready(c.url, "iris-classifier")) is True
    refused(lambda: over_v1(lambda client: client.is_model_ready(c.url, "nobody")), "404", by=lambda e: str(e.response.status_code))
    assert "iris-classifier" in c.get("/v1/models")[1]["models"]


@check(V1)
def _(c):
    """Refused: wrong width with 400, no instances with 400, an unknown model with 404."""
    for body, model, wanted in (({"instances": c.iris[:, :3].tolist()}, "iris-classifier", "400"), ({"rows": []}, "iris-classifier", "400"),
                                ({"instances": c.iris.tolist()}, "nobody", "404")):
        refused(lambda: over_v1(lambda client: client.infer(c.url, body, model_name=model)), wanted, by=lambda e: str(e.response.status_code))


@check(GRPC)
def _(c):
    """Typed contents: the values of the model's fixtures."""
    right_iris(c, over_grpc(c, lambda client: client.infer(request(c.iris))))


@check(GRPC)
def _(c):
    """Raw contents."""
    right_iris(c, over_grpc(c, lambda client: client.infer(request(c.iris, binary=True))))


@check(GRPC)
def _(c):
    """FP64, INT64 and INT32 in typed contents, to a regressor and a classifier; the id comes back."""
    got = over_grpc(c, lambda client: client.infer(request(c.diabetes, model="diabetes-rf-model", datatype="FP64", request_id="k-1")))
    assert np.abs(got.outputs[0].as_numpy() - c.diabetes_predictions[:, 2]).max() < 1e-3 and got.id == "k-1"
    rows = np.array([[5, 3, 1, 0], [6, 3, 5, 2]])
    wanted = over_grpc(c, lambda client: client.infer(request(rows.astype(float)))).outputs[0].as_numpy()
    for datatype in ("INT64", "INT32", "UINT8"):
        got = over_grpc(c, lambda client, datatype=datatype: client.infer(request(rows, datatype=datatype)))
        assert (got.outputs[0].as_numpy() == wanted).all(), datatype


@check(GRPC)
def _(c):
    """REST JSON, REST binary, gRPC typed and gRPC raw say the same, bit for bit."""
    def predictions(response):
        return response.outputs[0].as_numpy().flatten()
    wish = [RequestedOutput("prediction", parameters={"binary_data": True})]
    rows = c.diabetes.astype(np.float32)
    text = predictions(over_rest(lambda client: client.infer(c.url, request(rows, model="diabetes-rf-model"), model_name="diabetes-rf-model")))
    binary = predictions(over_rest(lambda client: client.infer(c.url, request(rows, binary=True, model="diabetes-rf-model", request_outputs=wish),
                                                               model_name="diabetes-rf-model")))
    typed = predictions(over_grpc(c, lambda client: client.infer(request(rows, model="diabetes-rf-model"))))
    raw = predictions(over_grpc(c, lambda client: client.infer(request(rows, binary=True, model="diabetes-rf-model"))))
    assert len(text) == len(rows) and (text == binary).all() and (text == typed).all() and (text == raw).all()


@check(GRPC)
def _(c):
    """Live, ready, model ready."""
    assert over_grpc(c, lambda client: client.is_server_live()) and over_grpc(c, lambda client: client.is_server_ready())
    assert over_grpc(c, lambda client: client.is_model_ready("iris-classifier"))


def grpc_refusal(words, make, wanted, text):
    def one(c):
        refused(lambda: over_grpc(c, lambda client: client.infer(make(c))), wanted, text, by=lambda e: str(e.code()))
    one.__doc__ = f"Refused with {wanted}: {words}"
    check(GRPC)(one)


grpc_refusal("wrong width", lambda c: request(c.iris[:, :3]), "INVALID_ARGUMENT", "4 features")
grpc_refusal("wrong name", lambda c: request(c.iris, name="inputs"), "INVALID_ARGUMENT", "inputs")
grpc_refusal("unknown model", lambda c: request(c.iris, model="nobody"), "NOT_FOUND", "nobody")


@check(GRPC)
def _(c):
    """Not found: readiness of an unknown model."""
    refused(lambda: over_grpc(c, lambda client: client.is_model_ready("nobody")), "NOT_FOUND", "nobody", by=lambda e: str(e.code()))


def mlserver(c, *more):
    if not c.mlserver:
        raise Skipped("no environment with mlserver")
    source, target = c.folder / "mlserver.in", c.folder / "mlserver.out"
    target.unlink(missing_ok=True)
    lines = [{"id": f"m-{k}", "inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": row.tolist()}]} for k, row in enumerate(c.iris)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    c.run(c.mlserver / "bin/mlserver", "infer", "-u", c.http, "-m", "iris-classifier", "-i", source, "-o", target, *more)
    answers = [json.loads(line) for line in target.read_text().splitlines()]
    assert len(answers) == 150, len(answers)
    for answer in answers:
        outputs = {o["name"]: o for o in answer["outputs"]}
        at = answer["parameters"]["inference"]["parameters"]["batch_index"] if "inference" in answer.get("parameters", {}) else answer["parameters"]["batch_index"]
        assert np.abs(np.array(outputs["probabilities"]["data"], dtype=float).flatten() - c.iris_probabilities[at]).max() < 1e-6, answer


@check(MLSERVER)
def _(c):
    """150 requests, a request each, 4 workers."""
    mlserver(c, "-w", 4)


@check(MLSERVER)
def _(c):
    """Five requests in one, 4 workers."""
    mlserver(c, "-w", 4, "-s", 5)


@check(MLSERVER)
def _(c):
    """Binary data."""
    mlserver(c, "-b")
