"""tritonclient: HTTP and gRPC, blocking, asynchronous and streaming."""

import asyncio
import functools
import queue

import numpy as np
import tritonclient.grpc as tg
import tritonclient.http as th
from tritonclient.utils import np_to_triton_dtype

from suite import check, refused

HTTP, GRPC = "tritonclient HTTP", "tritonclient gRPC"
CLASSES = [b"setosa", b"versicolor", b"virginica"]
TYPES = {"BOOL": bool, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "INT8": np.int8,
         "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64}


def http(c):
    return th.InferenceServerClient(c.http, concurrency=4, connection_timeout=10, network_timeout=20)


def grpc(c):
    return tg.InferenceServerClient(c.grpc)


def http_input(rows, name="input", datatype=None, binary=True):
    one = th.InferInput(name, list(rows.shape), datatype or np_to_triton_dtype(rows.dtype))
    return one.set_data_from_numpy(rows, binary_data=binary)


def grpc_input(rows, name="input", datatype=None):
    one = tg.InferInput(name, list(rows.shape), datatype or np_to_triton_dtype(rows.dtype))
    return one.set_data_from_numpy(rows)


def labels(c, rows):
    return [CLASSES[i] for i in c.iris_probabilities[:rows].argmax(axis=1)]


def right_iris(c, result, rows=150):
    probabilities = result.as_numpy("probabilities")
    assert probabilities.shape == (rows, 3) and probabilities.dtype == np.float32, (probabilities.shape, probabilities.dtype)
    assert np.abs(probabilities - c.iris_probabilities[:rows]).max() < 1e-6
    named = result.as_numpy("predicted_class")
    assert named.shape == (rows,), named.shape
    assert [n if isinstance(n, bytes) else n.encode() for n in named] == labels(c, rows), named


def right_diabetes(c, result, version, rows):
    prediction = result.as_numpy("prediction")
    assert prediction.shape == (rows,) and prediction.dtype == np.float64, (prediction.shape, prediction.dtype)
    assert np.abs(prediction - c.diabetes_predictions[:rows, version - 1]).max() < 1e-3


# --- HTTP

def iris_over_http(c, binary_in, binary_out, **more):
    wishes = [th.InferRequestedOutput(name, binary_data=binary_out) for name in ("probabilities", "predicted_class")]
    with http(c) as client:
        return client.infer("iris-classifier", [http_input(c.iris.astype(np.float32), binary=binary_in)], outputs=wishes, **more)


def every_road(binary_in, binary_out, words):
    def one(c):
        right_iris(c, iris_over_http(c, binary_in, binary_out))
    one.__doc__ = words
    return one


for b_in in (False, True):
    for b_out in (False, True):
        check(HTTP)(every_road(b_in, b_out, f"{'binary' if b_in else 'JSON'} in, {'binary' if b_out else 'JSON'} out: the values of the model's fixtures"))


@check(HTTP)
def _(c):
    """No outputs named: all, binary as the client asks by default."""
    with http(c) as client:
        right_iris(c, client.infer("iris-classifier", [http_input(c.iris.astype(np.float32))]))


@check(HTTP)
def _(c):
    """FP64 rows to every version of a regressor."""
    with http(c) as client:
        for version in (1, 2, 3):
            got = client.infer("diabetes-rf-model", [http_input(c.diabetes[:100])], model_version=str(version))
            right_diabetes(c, got, version, 100)
            assert got.get_response()["model_version"] == str(version)
        right_diabetes(c, client.infer("diabetes-rf-model", [http_input(c.diabetes[:100])]), 3, 100)


@check(HTTP)
def _(c):
    """A raw body of the input's bytes, without JSON."""
    with http(c) as client:
        rows = c.iris[:3].astype(np.float32)
        body = rows.tobytes()
        answer = client._post("v2/models/iris-classifier/infer", body, {"Inference-Header-Content-Length": "0",
                                                                       "Content-Type": "application/octet-stream"}, None)
        assert answer.status_code == 200, answer.read()
        right_iris(c, th.InferResult(answer, False), 3)


@check(HTTP)
def _(c):
    """Bodies made and read apart from the client (generate_request_body, parse_response_body)."""
    body, size = th.InferenceServerClient.generate_request_body([http_input(c.iris.astype(np.float32))])
    headers = {"Inference-Header-Content-Length": str(size)} if size is not None else {}
    with http(c) as client:
        answer = client._post("v2/models/iris-classifier/infer", body, headers, None)
        assert answer.status_code == 200
        length = answer.get("inference-header-content-length")
        right_iris(c, th.InferenceServerClient.parse_response_body(answer.read(), header_length=int(length) if length else None))


@check(HTTP)
def _(c):
    """One input object, sent again and again over one connection."""
    shared = http_input(c.iris.astype(np.float32))
    with http(c) as client:
        for _ in range(20):
            right_iris(c, client.infer("iris-classifier", [shared]))


@check(HTTP)
def _(c):
    """Classification: the likeliest classes with their scores, JSON and binary."""
    for binary in (False, True):
        with http(c) as client:
            wish = th.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
            got = client.infer("iris-classifier", [http_input(c.iris[:5].astype(np.float32))], outputs=[wish]).as_numpy("probabilities")
        assert got.shape == (5, 2), got.shape
        for row, wanted in zip(got, c.iris_probabilities):
            text = row[0] if isinstance(row[0], str) else row[0].decode()
            score, at, label = text.split(":")
            assert int(at) == wanted.argmax() and abs(float(score) - wanted.max()) < 1e-6 and label == CLASSES[int(at)].decode(), text


def compressed(algorithm):
    def one(c):
        right_iris(c, iris_over_http(c, True, True, request_compression_algorithm=algorithm, response_compression_algorithm=algorithm))
        right_iris(c, iris_over_http(c, False, False, request_compression_algorithm=algorithm, response_compression_algorithm=algorithm))
    one.__doc__ = f"Bodies in {algorithm}, and replies asked for in it"
    return one


for a in ("gzip", "deflate"):
    check(HTTP)(compressed(a))


@check(HTTP)
def _(c):
    """Request ids come back, and only when they were given."""
    assert iris_over_http(c, True, True, request_id="id \"7\" \u00e9").get_response()["id"] == "id \"7\" \u00e9"
    assert "id" not in iris_over_http(c, False, False).get_response()


@check(HTTP)
def _(c):
    """Priority and timeout are taken; a timeout that is over ends with 504."""
    right_iris(c, iris_over_http(c, True, True, priority=1, timeout=5_000_000))
    right_iris(c, iris_over_http(c, True, True, priority=3, timeout=5_000_000))
    refused(lambda: iris_over_http(c, True, True, timeout=1), "504")


@check(HTTP)
def _(c):
    """Headers, query and parameters of the caller's own do no harm."""
    with http(c) as client:
        got = client.infer("iris-classifier", [http_input(c.iris.astype(np.float32))], headers={"x-own": "1"}, query_params={"q": 1},
                           parameters={"own": "x", "number": 3, "truth": True})
        right_iris(c, got)


@check(HTTP)
def _(c):
    """async_infer, 16 at a time."""
    with http(c) as client:
        waiting = [client.async_infer("iris-classifier", [http_input(c.iris[: k + 1].astype(np.float32))]) for k in range(16)]
        for k, one in enumerate(waiting):
            right_iris(c, one.get_result(timeout=20), k + 1)


@check(HTTP)
def _(c):
    """The asyncio client, 16 at a time."""
    import tritonclient.http.aio as aio

    async def all_of_it():
        async with aio.InferenceServerClient(c.http) as client:
            assert await client.is_server_live() and await client.is_server_ready() and await client.is_model_ready("iris-classifier")
            got = await asyncio.gather(*(client.infer("iris-classifier", [http_input(c.iris.astype(np.float32))]) for _ in range(16)))
            for one in got:
                right_iris(c, one)
    asyncio.run(all_of_it())


def integers(datatype):
    if datatype == "BOOL":
        return np.array([[1, 0, 1, 0], [0, 1, 1, 1]], dtype=bool)
    return np.array([[5, 3, 1, 0], [6, 3, 4, 1], [6, 3, 5, 2]], dtype=TYPES[datatype])


def of_type_http(datatype):
    def one(c):
        rows = integers(datatype)
        with http(c) as client:
            wanted = client.infer("iris-classifier", [http_input(rows.astype(np.float64))]).as_numpy("probabilities")
            for binary in (True, False):
                if not binary and datatype == "FP16":
                    continue  # the client has no JSON for it
                got = client.infer("iris-classifier", [http_input(rows, binary=binary)]).as_numpy("probabilities")
                assert (got == wanted).all(), (binary, got, wanted)
    one.__doc__ = f"{datatype} rows, binary and JSON: as the same numbers in FP64"
    return one


for d in TYPES:
    check(HTTP)(of_type_http(d))


@check(HTTP)
def _(c):
    """BF16 rows: as the same numbers in FP64."""
    import ml_dtypes
    rows = integers("FP32")
    with http(c) as client:
        wanted = client.infer("iris-classifier", [http_input(rows)]).as_numpy("probabilities")
        got = client.infer("iris-classifier", [http_input(rows.astype(ml_dtypes.bfloat16), datatype="BF16")]).as_numpy("probabilities")
        assert (got == wanted).all()


def words_inputs(rows, make):
    """The columns of iris-words, each as an input of its own, the last one as texts."""
    names = ("sepal_length", "sepal_width", "petal_length")
    inputs = [make(rows[:, k:k + 1].astype(np.float32), name=n) for k, n in enumerate(names)]
    text = np.array([[("narrow", "middle", "wide")[int(x)].encode()] for x in rows[:, 3]], dtype=np.object_)
    return inputs + [make(text, name="petal_width", datatype="BYTES")]


@check(HTTP)
def _(c):
    """BYTES inputs beside numbers, a column each, binary and JSON."""
    rows = integers("FP64")
    with http(c) as client:
        wanted = client.infer("iris-classifier", [http_input(rows)])
        for binary in (True, False):
            got = client.infer("iris-words", words_inputs(rows, functools.partial(http_input, binary=binary)))
            assert (got.as_numpy("probabilities") == wanted.as_numpy("probabilities")).all()


@check(HTTP)
def _(c):
    """Columns by name, of shape [n] and [n, 1]."""
    names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    with http(c) as client:
        for shape in ((-1,), (-1, 1)):
            right_iris(c, client.infer("iris-classifier", [http_input(c.iris[:, k].reshape(shape).astype(np.float32), name=n) for k, n in enumerate(names)]))


@check(HTTP)
def _(c):
    """Live, ready, model ready; not ready for an unknown model or version."""
    with http(c) as client:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("iris-classifier") and client.is_model_ready("diabetes-rf-model", "2")
        assert not client.is_model_ready("nobody") and not client.is_model_ready("iris-classifier", "9")


@check(HTTP)
def _(c):
    """Metadata of the server and of models."""
    with http(c) as client:
        server = client.get_server_metadata()
        assert {"binary_tensor_data", "classification", "model_repository", "statistics", "schedule_policy"} <= set(server["extensions"]), server
        model = client.get_model_metadata("diabetes-rf-model")
        assert model["versions"] == ["1", "2", "3"] and model["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 10]}], model
        refused(lambda: client.get_model_metadata("nobody"), "404", "nobody")


@check(HTTP)
def _(c):
    """Configuration."""
    with http(c) as client:
        config = client.get_model_config("iris-classifier")
        assert config["max_batch_size"] >= 1 and config["input"][0] == {"name": "input", "data_type": "TYPE_FP32", "dims": [4]}, config


@check(HTTP)
def _(c):
    """Statistics count what was scored."""
    with http(c) as client:
        before = client.get_inference_statistics("iris-classifier")["model_stats"][0]
        client.infer("iris-classifier", [http_input(c.iris.astype(np.float32))])
        after = client.get_inference_statistics("iris-classifier")["model_stats"][0]
        assert after["inference_count"] == before["inference_count"] + 150, (before, after)
        assert after["inference_stats"]["success"]["count"] == before["inference_stats"]["success"]["count"] + 1
        assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
        assert len(client.get_inference_statistics()["model_stats"]) >= 6


@check(HTTP)
def _(c):
    """The repository: index, unload, load."""
    with http(c) as client:
        def state():
            return {(m["name"], m.get("version")): m.get("state") for m in client.get_model_repository_index()}
        assert state()["spare", "1"] == "READY"
        client.unload_model("spare")
        assert not client.is_model_ready("spare") and state().get(("spare", "1")) != "READY"
        refused(lambda: client.infer("spare", [http_input(c.diabetes[:1])]), "404")
        client.load_model("spare")
        assert client.is_model_ready("spare") and state()["spare", "1"] == "READY"
        assert client.infer("spare", [http_input(c.diabetes[:1])]).as_numpy("prediction").shape == (1,)
        refused(lambda: client.load_model("nobody"), "404")
        refused(lambda: client.load_model("spare", config="{}"), "400", "not supported")
        refused(lambda: client.unload_model("nobody"), "404")


def bad_requests(c, client, make, wrong, unknown):
    """What is refused, over either protocol: (words, call, status, texts of the message)."""
    good = c.iris[:2].astype(np.float32)
    return [
        ("wrong width", lambda: client.infer("iris-classifier", [make(c.iris[:2, :3].astype(np.float32))]), wrong, ["4"]),
        ("wrong rank", lambda: client.infer("iris-classifier", [make(good.reshape(2, 2, 2))]), wrong, ["[2, 2, 2]"]),
        ("wrong name", lambda: client.infer("iris-classifier", [make(good, name="inputs")]), wrong, ["inputs"]),
        ("wrong datatype", lambda: client.infer("iris-classifier", [make(np.full((2, 4), b"x", dtype=np.object_), datatype="BYTES")]), wrong, ["BYTES"]),
        ("no rows", lambda: client.infer("iris-classifier", [make(good[:0])]), wrong, []),
        ("infinite", lambda: client.infer("iris-classifier", [make(np.full((1, 4), np.inf, dtype=np.float32))]), wrong, ["finite"]),
        ("unknown model", lambda: client.infer("nobody", [make(good)]), unknown, ["nobody"]),
        ("unknown version", lambda: client.infer("iris-classifier", [make(good)], model_version="9"), unknown, ["9"]),
        ("one column missing", lambda: client.infer("iris-classifier", [make(good[:, 0:1], name="sepal_length")]), wrong, ["sepal_width"]),
        ("numbers for texts", lambda: client.infer("iris-words", [make(good[:, k:k + 1], name=n) for k, n in enumerate(
            ("sepal_length", "sepal_width", "petal_length", "petal_width"))]), wrong, ["petal_width"]),
    ]


def check_refusals(client_name, connect, make, wrong, unknown):
    words = ("wrong width", "wrong rank", "wrong name", "wrong datatype", "no rows", "infinite", "unknown model", "unknown version",
             "one column missing", "numbers for texts")
    for at, what in enumerate(words):
        def one(c, at=at, what=what):
            with connect(c) as client:
                name, call, status, texts = bad_requests(c, client, make, wrong, unknown)[at]
                assert name == what
                refused(call, status, *texts)
        one.__doc__ = f"Refused with {wrong if 'unknown' not in what else unknown}: {what}"
        check(client_name)(one)


check_refusals(HTTP, http, http_input, "400", "404")


@check(HTTP)
def _(c):
    """Refused with 400: an output that the model does not have."""
    with http(c) as client:
        refused(lambda: client.infer("iris-classifier", [http_input(c.iris.astype(np.float32))], outputs=[th.InferRequestedOutput("probability")]), "400", "probabilit")


@check(HTTP)
def _(c):
    """Shared memory, trace and log settings are refused in words, not with a broken reply."""
    with http(c) as client:
        for call in (lambda: client.register_system_shared_memory("r", "/r", 64), client.get_trace_settings, client.get_log_settings,
                     lambda: client.get_system_shared_memory_status()):
            refused(call, "404")


# --- gRPC

@check(GRPC)
def _(c):
    """Infer with raw contents: the values of the model's fixtures."""
    with grpc(c) as client:
        right_iris(c, client.infer("iris-classifier", [grpc_input(c.iris.astype(np.float32))]))


@check(GRPC)
def _(c):
    """FP64 rows to every version of a regressor; outputs by name."""
    with grpc(c) as client:
        for version in (1, 2, 3):
            got = client.infer("diabetes-rf-model", [grpc_input(c.diabetes[:100])], model_version=str(version),
                               outputs=[tg.InferRequestedOutput("prediction")])
            right_diabetes(c, got, version, 100)
            assert got.get_response().model_version == str(version)


@check(GRPC)
def _(c):
    """HTTP JSON, HTTP binary and gRPC say the same, bit for bit."""
    with http(c) as one, grpc(c) as other:
        binary = one.infer("diabetes-rf-model", [http_input(c.diabetes)]).as_numpy("prediction")
        text = one.infer("diabetes-rf-model", [http_input(c.diabetes, binary=False)],
                         outputs=[th.InferRequestedOutput("prediction", binary_data=False)]).as_numpy("prediction")
        raw = other.infer("diabetes-rf-model", [grpc_input(c.diabetes)]).as_numpy("prediction")
        assert (binary == text).all() and (binary == raw).all()


@check(GRPC)
def _(c):
    """Classification."""
    with grpc(c) as client:
        got = client.infer("iris-classifier", [grpc_input(c.iris[:5].astype(np.float32))],
                           outputs=[tg.InferRequestedOutput("probabilities", class_count=3)]).as_numpy("probabilities")
        assert got.shape == (5, 3) and got[0][0].split(b":")[1:] == [b"0", b"setosa"], got


@check(GRPC)
def _(c):
    """Request ids come back, and only when they were given."""
    with grpc(c) as client:
        rows = [grpc_input(c.iris.astype(np.float32))]
        assert client.infer("iris-classifier", rows, request_id="id \"7\" \u00e9").get_response().id == "id \"7\" \u00e9"
        assert client.infer("iris-classifier", rows).get_response().id == ""


@check(GRPC)
def _(c):
    """Priority and timeout are taken; one that is over ends with DEADLINE_EXCEEDED."""
    with grpc(c) as client:
        rows = [grpc_input(c.iris.astype(np.float32))]
        right_iris(c, client.infer("iris-classifier", rows, priority=1, timeout=5_000_000, client_timeout=10))
        refused(lambda: client.infer("iris-classifier", rows, timeout=1), "DEADLINE_EXCEEDED")


@check(GRPC)
def _(c):
    """Messages in gzip and deflate."""
    with grpc(c) as client:
        for algorithm in ("gzip", "deflate"):
            right_iris(c, client.infer("iris-classifier", [grpc_input(c.iris.astype(np.float32))], compression_algorithm=algorithm))


@check(GRPC)
def _(c):
    """Metadata and parameters of the caller's own do no harm."""
    with grpc(c) as client:
        right_iris(c, client.infer("iris-classifier", [grpc_input(c.iris.astype(np.float32))], headers={"x-own": "1"},
                                   parameters={"own": "x", "number": 3, "truth": True}))


@check(GRPC)
def _(c):
    """async_infer, 16 at a time."""
    done = queue.Queue()
    with grpc(c) as client:
        for k in range(16):
            client.async_infer("iris-classifier", [grpc_input(c.iris[: k + 1].astype(np.float32))],
                               functools.partial(lambda k, result, error: done.put((k, result, error)), k))
        for _ in range(16):
            k, result, error = done.get(timeout=20)
            assert error is None, error
            right_iris(c, result, k + 1)


@check(GRPC)
def _(c):
    """A stream of 64 requests: all answered with their ids before stop_stream's half-close comes back."""
    done = queue.Queue()
    with grpc(c) as client:
        client.start_stream(lambda result, error: done.put((result, error)))
        for k in range(64):
            client.async_stream_infer("iris-classifier", [grpc_input(c.iris[: k + 1].astype(np.float32))], request_id=str(k))
        client.stop_stream()
        seen = set()
        while not done.empty():
            result, error = done.get()
            assert error is None, error
            k = int(result.get_response().id)
            seen.add(k)
            right_iris(c, result, k + 1)
        assert len(seen) == 64, len(seen)


@check(GRPC)
def _(c):
    """A stream goes on behind a request that is refused."""
    done = queue.Queue()
    with grpc(c) as client:
        client.start_stream(lambda result, error: done.put((result, error)))
        good = grpc_input(c.iris[:1].astype(np.float32))
        client.async_stream_infer("iris-classifier", [good])
        client.async_stream_infer("iris-classifier", [grpc_input(c.iris[:1, :3].astype(np.float32))])
        client.async_stream_infer("nobody", [good])
        client.async_stream_infer("iris-classifier", [good])
        client.stop_stream()
        got = [done.get(timeout=1) for _ in range(4)]
        assert sum(1 for _, error in got if error is None) == 2, got


@check(GRPC)
def _(c):
    """The asyncio client: infer and a stream."""
    import tritonclient.grpc.aio as aio

    async def all_of_it():
        async with aio.InferenceServerClient(c.grpc) as client:
            assert await client.is_server_live() and await client.is_model_ready("iris-classifier")
            rows = [grpc_input(c.iris.astype(np.float32))]
            for one in await asyncio.gather(*(client.infer("iris-classifier", rows) for _ in range(16))):
                right_iris(c, one)

            async def requests():
                for _ in range(8):
                    yield {"model_name": "iris-classifier", "inputs": rows}
            got = 0
            async for result, error in client.stream_infer(requests()):
                assert error is None, error
                right_iris(c, result)
                got += 1
            assert got == 8, got
    asyncio.run(all_of_it())


def of_type_grpc(datatype):
    def one(c):
        rows = integers(datatype)
        with grpc(c) as client:
            wanted = client.infer("iris-classifier", [grpc_input(rows.astype(np.float64))]).as_numpy("probabilities")
            got = client.infer("iris-classifier", [grpc_input(rows)]).as_numpy("probabilities")
            assert (got == wanted).all(), (got, wanted)
    one.__doc__ = f"{datatype} rows: as the same numbers in FP64"
    return one


for d in TYPES:
    check(GRPC)(of_type_grpc(d))


@check(GRPC)
def _(c):
    """BF16 rows, and BYTES inputs beside numbers."""
    import ml_dtypes
    rows = integers("FP32")
    with grpc(c) as client:
        wanted = client.infer("iris-classifier", [grpc_input(rows)]).as_numpy("probabilities")
        short = grpc_input(rows.astype(ml_dtypes.bfloat16), datatype="BF16")
        assert (client.infer("iris-classifier", [short]).as_numpy("probabilities") == wanted).all()
        assert (client.infer("iris-words", words_inputs(rows, grpc_input)).as_numpy("probabilities") == wanted).all()


@check(GRPC)
def _(c):
    """Live, ready, model ready; not ready for an unknown version, NOT_FOUND or not ready for an unknown model."""
    with grpc(c) as client:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("iris-classifier") and client.is_model_ready("diabetes-rf-model", "2")
        assert not client.is_model_ready("iris-classifier", "9")
        refused(lambda: client.is_model_ready("nobody"), "NOT_FOUND")


@check(GRPC)
def _(c):
    """Metadata, configuration, statistics."""
    with grpc(c) as client:
        assert client.get_server_metadata().name == "troupe"
        model = client.get_model_metadata("diabetes-rf-model", as_json=True)
        assert model["versions"] == ["1", "2", "3"] and model["inputs"][0]["shape"] == ["-1", "10"], model
        config = client.get_model_config("iris-classifier").config
        assert config.input[0].dims == [4] and config.max_batch_size >= 1
        before = client.get_inference_statistics("iris-classifier").model_stats[0]
        client.infer("iris-classifier", [grpc_input(c.iris.astype(np.float32))])
        after = client.get_inference_statistics("iris-classifier").model_stats[0]
        assert after.inference_count == before.inference_count + 150
        assert len(client.get_inference_statistics().model_stats) >= 6
        for call in (client.get_model_metadata, client.get_model_config, client.get_inference_statistics):
            refused(lambda call=call: call("nobody"), "NOT_FOUND", "nobody")


@check(GRPC)
def _(c):
    """The configuration says the same over HTTP and gRPC."""
    with http(c) as one, grpc(c) as other:
        for name in ("iris-classifier", "diabetes-rf-model", "iris-words"):
            text = one.get_model_config(name)
            message = other.get_model_config(name, as_json=True)["config"]
            assert text["max_batch_size"] == message["max_batch_size"] and text["platform"] == message["platform"]
            for side in ("input", "output"):
                for a, b in zip(text[side], message[side], strict=True):
                    assert (a["name"], a["data_type"], [str(d) for d in a["dims"]]) == (b["name"], b["data_type"], b["dims"]), (a, b)
                    assert ("reshape" in a) == ("reshape" in b), (a, b)


@check(GRPC)
def _(c):
    """The repository: index, unload, load."""
    with grpc(c) as client:
        def state():
            return {(m.name, m.version): m.state for m in client.get_model_repository_index().models}
        assert state()["spare", "1"] == "READY"
        client.unload_model("spare")
        assert state().get(("spare", "1")) != "READY"
        refused(lambda: client.infer("spare", [grpc_input(c.diabetes[:1])]), "NOT_FOUND")
        client.load_model("spare")
        assert client.is_model_ready("spare") and state()["spare", "1"] == "READY"
        refused(lambda: client.load_model("nobody"), "NOT_FOUND")
        refused(lambda: client.load_model("spare", config="{}"), "INVALID_ARGUMENT", "not supported")
        refused(lambda: client.unload_model("nobody"), "NOT_FOUND")


check_refusals(GRPC, grpc, grpc_input, "INVALID_ARGUMENT", "NOT_FOUND")


@check(GRPC)
def _(c):
    """Refused: an output that the model does not have, more elements than are taken, what the server does not offer."""
    with grpc(c) as client:
        refused(lambda: client.infer("iris-classifier", [grpc_input(c.iris.astype(np.float32))],
                                     outputs=[tg.InferRequestedOutput("probability")]), "INVALID_ARGUMENT", "probabilit")
        refused(lambda: client.infer("iris-classifier", [grpc_input(np.zeros((25_001, 4), dtype=np.float32))]), "RESOURCE_EXHAUSTED")
        refused(lambda: client.get_system_shared_memory_status(), "UNIMPLEMENTED")
