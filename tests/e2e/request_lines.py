#!/usr/bin/env python3
"""log.requests from outside: a line of the log for each request over HTTP and gRPC, none for probes, none with what is in the
requests; sampled: only what failed or was slow, and a share; off: none."""

import json
import struct

import http2
import troupe_test as t

# a value with more decimals than any time that the lines tell
VALUE = 0.31640625
ROWS = json.dumps({"data": [[5.1, 3.5, 1.4, VALUE]]})


def field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


def infer_request(model):
    tensor = field(1, b"input") + field(2, b"FP32") + field(3, b"\x01\x04")
    return field(1, model) + field(5, tensor) + field(7, struct.pack("<4f", 5.1, 3.5, 1.4, VALUE))


INFER, STREAM = ("/inference.GRPCInferenceService/" + name for name in ("ModelInfer", "ModelStreamInfer"))

with t.Stage() as stage:
    def node_with(**log):
        node = stage.troupe({"http": {}, "grpc": {}, "kafka": {"enabled": False}, "cache": {"mode": "off"},
                             "models": {"default": "iris-classifier"}, "log": {"format": "json", **log}})
        node.wait_ready()
        return node

    def lines(node):
        return [one for one in map(json.loads, node.stdout().splitlines()) if one["event"] == "request"]

    def ask(node, method, path, body=None, **headers):
        return t.http(method, f"http://127.0.0.1:{node.http_port}{path}", body, {k.replace("_", "-"): v for k, v in headers.items()})[0]

    def ask_all(node):
        assert ask(node, "POST", "/score", ROWS, X_Request_ID="r-1") == 200
        assert ask(node, "POST", "/v2/models/nobody/infer?key=secret", ROWS, X_Request_ID="r-2") in (400, 404)
        assert ask(node, "GET", "/nowhere", X_Request_ID="r-3") == 404
        for probe in ("/health", "/ready", "/liveness", "/metrics", "/v2/health/ready", "/v2/models/iris-classifier/ready"):
            assert ask(node, "GET", probe) == 200, probe
        with http2.Connection(node.grpc_port) as c:
            assert c.call(INFER, infer_request(b"iris-classifier"), [("x-request-id", "r-4")]).status == http2.OK
            assert c.call(INFER, infer_request(b"nobody"), [("x-request-id", "r-5")]).status == http2.NOT_FOUND
            assert c.call(STREAM, infer_request(b"iris-classifier"), [("x-request-id", "r-6")]).status == http2.OK
            assert c.call("/inference.GRPCInferenceService/ServerReady").status == http2.OK
            assert c.call("/inference.GRPCInferenceService/RepositoryIndex").status == http2.OK
            assert c.call("/inference.GRPCInferenceService/Nothing").status == http2.UNIMPLEMENTED

    # --- all of them
    node = node_with(requests="all")
    ask_all(node)
    assert node.stop() == 0, node.stderr()
    told = [(one["component"], one.get("route", one.get("path")), one["status"], one["msg"].split()[0], one.get("request_id", "")) for one in lines(node)]
    ids = {one["request_id"] for one in lines(node) if "request_id" in one}
    assert sorted(told) == sorted([
        ("http", "/score", "200", "completed", "r-1"),
        ("http", "/v2/models/{model}/infer", next(one[2] for one in told if one[4] == "r-2"), "refused", "r-2"),
        ("http", "/nowhere", "404", "refused", "r-3"),
        ("grpc", INFER[1:], "OK", "completed", "r-4"),
        ("grpc", INFER[1:], "NOT_FOUND", "refused", "r-5"),
        ("grpc", STREAM[1:], "OK", "completed", "r-6"),
        ("grpc", "inference.GRPCInferenceService/RepositoryIndex", "OK", "completed", ""),
        ("grpc", "inference.GRPCInferenceService/Nothing", "UNIMPLEMENTED", "refused", ""),
    ]), told
    for one in lines(node):
        assert one["client"] == "127.0.0.1" and 0 <= float(one["ms"]) < 60_000, one
        assert one["level"] == ("warn" if one["msg"].startswith("failed") else "info"), one
    assert "secret" not in node.stdout() and str(VALUE)[:6] not in node.stdout(), "neither queries nor values"

    # --- a share
    node = node_with(requests="sampled", sample_ratio=0.1, slow_request="0s")
    for k in range(100):
        assert ask(node, "POST", "/score", ROWS) == 200
    assert node.stop() == 0, node.stderr()
    assert len(lines(node)) == 10, lines(node)

    # --- what was slow: all of them, at one nanosecond
    node = node_with(requests="sampled", sample_ratio=0, slow_request="1ns")
    ask_all(node)
    assert node.stop() == 0, node.stderr()
    assert len(lines(node)) == 8, lines(node)

    # --- none, as it is by default
    node = node_with()
    ask_all(node)
    assert node.stop() == 0, node.stderr()
    assert not lines(node), lines(node)
