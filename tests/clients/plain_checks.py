"""Plain HTTP with requests: /score, MLflow's scoring protocol, SageMaker's container contract, KServe's and Triton's pages."""

import io
import json

import numpy as np
import requests

from suite import check

SCORE, MLFLOW, SAGEMAKER = "requests, /score", "requests, MLflow's /invocations", "requests, SageMaker's /ping and /invocations"
NAMES = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]


def right(c, answer, rows):
    assert answer.status_code == 200, answer.text
    found = np.array(answer.json()["predictions"])
    assert found.shape == (rows,), found.shape
    assert np.abs(found - c.diabetes_predictions[:rows, 2]).max() < 1e-3, found[:5]


def post(c, path, body=None, **more):
    return requests.post(c.url + path, json=body, timeout=20, **more)


@check(SCORE)
def _(c):
    """Rows as lists and as objects."""
    right(c, post(c, "/score", {"data": c.diabetes[:20].tolist()}), 20)
    right(c, post(c, "/score", {"data": [dict(zip(NAMES, row)) for row in c.diabetes[:20].tolist()]}), 20)


@check(SCORE)
def _(c):
    """The metadata names the model and the request."""
    said = post(c, "/score", {"data": c.diabetes[:3].tolist()}, headers={"X-Request-ID": "own-7"})
    metadata = said.json()["metadata"]
    assert (metadata["model_name"], metadata["request_id"], metadata["num_predictions"]) == ("diabetes-rf-model", "own-7", 3), metadata
    assert said.headers["X-Request-ID"] == "own-7"


@check(SCORE)
def _(c):
    """A session's one connection, gzip and deflate."""
    import gzip
    import zlib
    body = json.dumps({"data": c.diabetes[:20].tolist()}).encode()
    with requests.Session() as session:
        for _ in range(20):
            right(c, session.post(c.url + "/score", data=body, timeout=20), 20)
        right(c, session.post(c.url + "/score", data=gzip.compress(body), headers={"Content-Encoding": "gzip"}, timeout=20), 20)
        right(c, session.post(c.url + "/score", data=zlib.compress(body), headers={"Content-Encoding": "deflate"}, timeout=20), 20)
        right(c, session.post(c.url + "/score", data=(body[k:k + 100] for k in range(0, len(body), 100)), timeout=20), 20)


@check(SCORE)
def _(c):
    """Refused in words: no JSON, no data, too few features."""
    for body, wanted in ((b"{", 400), (b"{}", 400), (b'{"data": [[1, 2]]}', 400), (b"", 400)):
        said = requests.post(c.url + "/score", data=body, timeout=20)
        assert said.status_code == wanted and said.json()["error"], (body, said.status_code, said.text)


for key in ("instances", "inputs"):
    def rows_of(c, key=key):
        right(c, post(c, "/invocations", {key: c.diabetes[:20].tolist()}), 20)
    rows_of.__doc__ = f"{key}: rows"
    check(MLFLOW)(rows_of)


@check(MLFLOW)
def _(c):
    """inputs: columns by name."""
    right(c, post(c, "/invocations", {"inputs": {n: c.diabetes[:20, k].tolist() for k, n in enumerate(NAMES)}}), 20)


@check(MLFLOW)
def _(c):
    """dataframe_split, with columns in any order, an index, and parameters."""
    order = list(reversed(range(10)))
    frame = {"columns": [NAMES[k] for k in order], "index": list(range(20)), "data": c.diabetes[:20, order].tolist()}
    right(c, post(c, "/invocations", {"dataframe_split": frame}), 20)
    right(c, post(c, "/invocations", {"dataframe_split": frame, "params": {}}), 20)


@check(MLFLOW)
def _(c):
    """dataframe_records."""
    right(c, post(c, "/invocations", {"dataframe_records": [dict(zip(NAMES, row)) for row in c.diabetes[:20].tolist()]}), 20)


@check(MLFLOW)
def _(c):
    """The pages of MLflow's server: /ping, /health, /version."""
    for path in ("/ping", "/health", "/version"):
        assert requests.get(c.url + path, timeout=20).status_code == 200, path


def csv_body(c, header):
    text = io.StringIO()
    np.savetxt(text, c.diabetes[:20], delimiter=",", header=",".join(NAMES) if header else "", comments="", fmt="%.17g")
    return text.getvalue().lstrip("\n")


@check(SAGEMAKER)
def _(c):
    """/ping answers 200."""
    assert requests.get(c.url + "/ping", timeout=20).status_code == 200


@check(SAGEMAKER)
def _(c):
    """text/csv with a line of names."""
    for content_type in ("text/csv", "text/csv; charset=utf-8"):
        right(c, requests.post(c.url + "/invocations", data=csv_body(c, True), headers={"Content-Type": content_type}, timeout=20), 20)


@check(SAGEMAKER)
def _(c):
    """text/csv of numbers only, as SageMaker's own algorithms take it (and with header=absent)."""
    for content_type in ("text/csv", "text/csv; header=absent"):
        right(c, requests.post(c.url + "/invocations", data=csv_body(c, False), headers={"Content-Type": content_type}, timeout=20), 20)


@check(SAGEMAKER)
def _(c):
    """A CSV that does not fit is refused in words."""
    for body in ("a,b\n1,2\n", "age\n", ""):
        said = requests.post(c.url + "/invocations", data=body, headers={"Content-Type": "text/csv"}, timeout=20)
        assert said.status_code == 400 and said.json()["error"], (body, said.status_code, said.text)
