#!/usr/bin/env python3
"""The HTTP door of a running node from outside, over plain sockets: connections, the formats, what is refused and how, the
limits to the byte, callers that leave, and an orderly end while requests are on their way."""

import csv
import json
import socket
import struct
import threading
import time

import troupe_test as t

INFER = "/v2/models/iris-classifier/infer"
MIB = 1 << 20
LIMIT = 10 * MIB


def rows_of(name, width):
    with open(t.ROOT / "tests/runtime/model/data" / name) as file:
        rows = [[float(x) for x in row] for row in list(csv.reader(file))[1:]]
    return [r[:width] for r in rows], [r[width:] for r in rows]


IRIS, PROBABILITIES = rows_of("iris.csv", 4)
DIABETES, PREDICTIONS = rows_of("diabetes.csv", 10)
CLASSES = ["setosa", "versicolor", "virginica"]


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Connection:
    """One connection, byte by byte as the test wants it."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.left = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def _more(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError
        self.left += data

    def read(self, head=False):
        """The next reply; EOFError when the connection ends before it is whole."""
        while b"\r\n\r\n" not in self.left:
            self._more()
        text, _, self.left = self.left.partition(b"\r\n\r\n")
        first, *lines = text.decode().split("\r\n")
        status = int(first.split()[1])
        headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
        if status == 100:
            return Reply(status, headers, b"")
        size = 0 if head else int(headers["content-length"])
        while len(self.left) < size:
            self._more()
        body, self.left = self.left[:size], self.left[size:]
        return Reply(status, headers, body)

    def ended(self):
        """Whether the node closes, with nothing more said."""
        try:
            return not self.left and not self.socket.recv(1)
        except ConnectionResetError:
            return True

    def ask(self, method, path, body=b"", **headers):
        self.send(request(method, path, body, **headers))
        return self.read(head=method == "HEAD")


def request(method, path, body=b"", **headers):
    text = f"{method} {path} HTTP/1.1\r\nHost: x\r\n"
    if body or method == "POST":
        headers.setdefault("Content_Length", len(body))
    return (text + "".join(f"{n.replace('_', '-')}: {v}\r\n" for n, v in headers.items()) + "\r\n").encode() + body


def tensor(name, shape, data, datatype="FP32", **more):
    return {"name": name, "shape": shape, "datatype": datatype, "data": data, **more}


def v2(*inputs, **more):
    return json.dumps({"inputs": list(inputs), **more}).encode()


def outputs_of(reply):
    assert reply.status == 200, (reply.status, reply.body[:400])
    return {o["name"]: o for o in reply.json["outputs"]}


def right_iris(reply, rows):
    outputs = outputs_of(reply)
    assert outputs["probabilities"]["shape"] == [rows, 3] and outputs["predicted_class"]["shape"] == [rows], reply.json
    for k in range(rows):
        found = outputs["probabilities"]["data"][3 * k:3 * k + 3]
        assert max(abs(a - b) for a, b in zip(found, PROBABILITIES[k])) < 1e-6, (k, found)
        assert outputs["predicted_class"]["data"][k] == CLASSES[PROBABILITIES[k].index(max(PROBABILITIES[k]))], k


def right_diabetes(predictions, rows, version=3):
    assert len(predictions) == rows, len(predictions)
    assert all(abs(p - PREDICTIONS[k][version - 1]) < 1e-3 for k, p in enumerate(predictions))


ONE = v2(tensor("input", [1, 4], IRIS[0]))


def connections(port):
    with Connection(port) as c:
        for _ in range(5):  # keep-alive
            right_iris(c.ask("POST", INFER, ONE), 1)
        # Pipelined: answered in order, whatever takes longer.
        many = [v2(tensor("input", [1 + k % 3, 4], [x for r in IRIS[:1 + k % 3] for x in r]), id=f"p-{k}") for k in range(20)]
        c.send(b"".join(request("POST", INFER, body) + request("GET", "/ping") for body in many))
        for k in range(20):
            reply = c.read()
            right_iris(reply, 1 + k % 3)
            assert reply.json["id"] == f"p-{k}"
            assert c.read().status == 200
        # Chunks, of which one splits the head of the next, and trailers.
        c.send(b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for k in range(0, len(ONE), 7):
            piece = ONE[k:k + 7]
            c.send(b"%x\r\n" % len(piece) + piece[:3])
            c.send(piece[3:] + b"\r\n")
        c.send(b"0\r\nX-Sum: 1\r\n\r\n")
        right_iris(c.read(), 1)
        # The body is asked for.
        c.send(request("POST", INFER, b"", Content_Length=len(ONE), Expect="100-continue"))
        assert c.read().status == 100
        c.send(ONE)
        right_iris(c.read(), 1)
        # A byte at a time.
        for byte in request("POST", INFER, ONE):
            c.send(bytes([byte]))
        right_iris(c.read(), 1)
        head = c.ask("HEAD", "/v2/health/live")
        assert head.status == 200 and head.headers["content-length"] == str(len('{"live":true}')), head.headers
        reply = c.ask("POST", INFER, ONE, X_Request_ID="own-7", Connection="close")
        assert reply.headers["x-request-id"] == "own-7" and reply.headers["connection"] == "close", reply.headers
        assert c.ended()
    with Connection(port) as c:  # one that ends its own side
        c.send(request("POST", INFER, ONE))
        c.socket.shutdown(socket.SHUT_WR)
        right_iris(c.read(), 1)
        assert c.ended()
    with Connection(port) as c:
        c.send(f"POST {INFER} HTTP/1.0\r\nContent-Length: {len(ONE)}\r\n\r\n".encode() + ONE)
        right_iris(c.read(), 1)
        assert c.ended()


def formats(port):
    with Connection(port) as c:
        flat = [x for r in IRIS for x in r]
        right_iris(c.ask("POST", INFER, v2(tensor("input", [150, 4], IRIS))), 150)  # nested
        right_iris(c.ask("POST", INFER, v2(tensor("input", [150, 4], flat, "FP64"))), 150)
        names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
        right_iris(c.ask("POST", INFER, v2(*(tensor(n, [150], [r[k] for r in IRIS]) for k, n in enumerate(names)))), 150)
        right_iris(c.ask("POST", INFER, v2(*(tensor(n, [150, 1], [r[k] for r in IRIS], "FP64") for k, n in enumerate(names)))), 150)
        right_iris(c.ask("POST", "/v2/models/iris-classifier/versions/1/infer", ONE), 1)
        only = c.ask("POST", INFER, json.dumps({"id": "x", "inputs": [tensor("input", [1, 4], IRIS[0])], "outputs": [{"name": "predicted_class"}]}).encode())
        assert only.json == {"model_name": "iris-classifier", "model_version": "1", "id": "x",
                             "outputs": [{"name": "predicted_class", "datatype": "BYTES", "shape": [1], "data": ["setosa"]}]}, only.body
        # Binary both ways; the content type says nothing.
        raw = struct.pack("<600f", *flat)
        for content_type in ("application/octet-stream", "application/json", "application/x-www-form-urlencoded"):
            head = json.dumps({"inputs": [{"name": "input", "shape": [150, 4], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}],
                               "parameters": {"binary_data_output": True}}).encode()
            reply = c.ask("POST", INFER, head + raw, Inference_Header_Content_Length=len(head), Content_Type=content_type)
            size = int(reply.headers["inference-header-content-length"])
            first, second = json.loads(reply.body[:size])["outputs"]
            n = first["parameters"]["binary_data_size"]
            found = struct.unpack(f"<{n // 4}f", reply.body[size:size + n])
            assert n == 150 * 12 and all(abs(x - PROBABILITIES[i // 3][i % 3]) < 1e-6 for i, x in enumerate(found))
            assert second["parameters"]["binary_data_size"] == len(reply.body) - size - n
            assert reply.body[size + n:size + n + 10] == struct.pack("<I", 6) + b"setosa"
        # HTTP says it in every format: V2 of a regressor, /score, /invocations.
        body = v2(tensor("input", [442, 10], [x for r in DIABETES for x in r], "FP64"))
        for version in (1, 2, 3):
            right_diabetes(outputs_of(c.ask("POST", f"/v2/models/diabetes-rf-model/versions/{version}/infer", body))["prediction"]["data"], 442, version)
        right_diabetes(c.ask("POST", "/score", json.dumps({"data": DIABETES}).encode()).json["predictions"], 442)
        right_diabetes(c.ask("POST", "/invocations", json.dumps({"instances": DIABETES}).encode()).json["predictions"], 442)
        lines = "\n".join(",".join(map(repr, r)) for r in DIABETES).encode()
        named = b"age,sex,bmi,bp,s1,s2,s3,s4,s5,s6\n" + lines
        for text in (named, lines):
            right_diabetes(c.ask("POST", "/invocations", text, Content_Type="text/csv").json["predictions"], 442)
        for path, wanted in (("/v2/health/live", {"live": True}), ("/v2/health/ready", {"ready": True}), ("/liveness", {"status": "alive"}), ("/ping", {})):
            assert c.ask("GET", path).json == wanted, path
        assert c.ask("GET", "/v2").json["name"] == "troupe"


def refusals(port):
    iris, score = INFER, "/score"
    four = [1, 2, 3, 4]
    table = [
        ("no JSON", iris, b"{", 400, "JSON"),
        ("nothing", iris, b"", 400, ""),
        ("no object", iris, b"[]", 400, "object"),
        ("no inputs", iris, b"{}", 400, "inputs"),
        ("too narrow", iris, v2(tensor("input", [1, 3], [1, 2, 3])), 400, "4 features"),
        ("shape and data differ", iris, v2(tensor("input", [2, 4], four)), 400, "shape"),
        ("a negative dimension", iris, v2(tensor("input", [-1, 4], four)), 400, "shape"),
        ("wrong name", iris, v2(tensor("inputs", [1, 4], four)), 400, "inputs"),
        ("wrong datatype", iris, v2(tensor("input", [1, 4], ["a"] * 4, "BYTES")), 400, "BYTES"),
        ("unknown datatype", iris, v2(tensor("input", [1, 4], four, "FP33")), 400, "FP33"),
        ("texts as numbers", iris, v2(tensor("input", [1, 4], ["1"] * 4)), 400, "number"),
        ("beyond FP32", iris, v2(tensor("input", [1, 4], [1, 2, 3, 1e39])), 400, "range of FP32"),
        ("twice", iris, v2(tensor("input", [1, 4], four), tensor("input", [1, 4], four)), 400, "twice"),
        ("unknown output", iris, v2(tensor("input", [1, 4], four), outputs=[{"name": "probability"}]), 400, "probabilities"),
        ("a broken priority", iris, v2(tensor("input", [1, 4], four), parameters={"priority": -1}), 400, "priority"),
        ("unknown model", "/v2/models/nobody/infer", ONE, 404, "nobody"),
        ("unknown version", "/v2/models/iris-classifier/versions/9/infer", ONE, 404, "9"),
        ("expired", iris, v2(tensor("input", [1, 4], four), parameters={"timeout": 1}), 504, "expired"),
        ("too narrow", score, b'{"data": [[1, 2, 3]]}', 400, "10 features"),
        ("no data", score, b"{}", 400, "data"),
        ("one dimension", score, b'{"data": [1, 2, 3]}', 400, "list of single values"),
        ("no rows", "/invocations", b'{"instances": []}', 400, "no rows"),
        ("unknown path", "/v2/nobody", b"{}", 404, "/v2/nobody"),
        ("unknown path", "/v2/models//infer", ONE, 404, ""),
    ]
    with Connection(port) as c:
        for what, path, body, status, text in table:
            reply = c.ask("POST", path, body)
            assert (reply.status, text in reply.json["error"]) == (status, True), (what, path, reply.status, reply.body[:400])
            if path == score:
                assert {"trace", "metadata"} <= set(reply.json), reply.json
        wrong = c.ask("GET", INFER)
        assert (wrong.status, wrong.headers["allow"]) == (405, "POST"), wrong.headers
        assert c.ask("GET", "/v2/models/nobody").status == 404 and c.ask("GET", "/v2/models/nobody/ready").status == 404
        assert c.ask("DELETE", "/v2/models/iris-classifier").status == 405
        # None of them harmed the connection.
        right_iris(c.ask("POST", INFER, ONE), 1)
    for text in (b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", b"nonsense\r\n\r\n",
                 b"GET /v2 HTTP/1.1\r\n\r\n", b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"):
        with Connection(port) as c:
            c.send(text)
            assert c.read().status == 400, text
            assert c.ended(), text


def limits(port):
    with Connection(port) as c:
        right_iris(c.ask("POST", INFER, ONE.ljust(LIMIT)), 1)
        chunk = b" " * MIB
        c.send(b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(ONE) + ONE + b"\r\n")
        for _ in range(9):
            c.send(b"%x\r\n" % MIB + chunk + b"\r\n")
        c.send(b"%x\r\n" % (MIB - len(ONE)) + chunk[len(ONE):] + b"\r\n0\r\n\r\n")
        right_iris(c.read(), 1)
    with Connection(port) as c:  # refused by its length, before it is sent
        c.send(request("POST", INFER, b"", Content_Length=LIMIT + 1))
        reply = c.read()
        assert reply.status == 413 and "error" in reply.json, (reply.status, reply.body)
    with Connection(port) as c:
        full = [x for k in range(10_000) for x in DIABETES[k % 442]]
        path = "/v2/models/diabetes-rf-model/infer"
        found = outputs_of(c.ask("POST", path, v2(tensor("input", [10_000, 10], full))))["prediction"]["data"]
        assert len(found) == 10_000 and len(set(found)) > 100
        raw = struct.pack("<100000f", *full)
        head = json.dumps({"inputs": [{"name": "input", "shape": [10_000, 10], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}]}).encode()
        assert outputs_of(c.ask("POST", path, head + raw, Inference_Header_Content_Length=len(head)))["prediction"]["data"] == found
        reply = c.ask("POST", path, v2(tensor("input", [100_001], full + [0])))
        assert reply.status == 413 and "100000 elements" in reply.json["error"], (reply.status, reply.body[:300])
        reply = c.ask("POST", INFER, v2(tensor("input", [10_001, 4], IRIS[0] * 10_001)))
        assert reply.status == 413 and "10001 rows" in reply.json["error"], (reply.status, reply.body[:300])
        reply = c.ask("POST", "/score", json.dumps({"data": [DIABETES[0]] * 10_001}).encode())
        assert reply.status == 413, (reply.status, reply.body[:300])


def callers_that_leave(node):
    full = v2(tensor("input", [10_000, 10], [x for k in range(10_000) for x in DIABETES[k % 442]]))

    def noticed():
        for _ in range(8):
            c = Connection(node.http_port)
            c.send(request("POST", "/v2/models/diabetes-rf-model/infer", full))
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.socket.close()
        return node.metrics().total("troupe_callers_gone_total", door="http") > 0

    t.wait_until(noticed, "a caller that left is counted")
    with Connection(node.http_port) as c:
        right_iris(c.ask("POST", INFER, ONE), 1)


def drain_under_load(node):
    """What the node has begun to read is answered; nobody gets half a reply."""
    accepted = [Connection(node.http_port) for _ in range(16)]
    for c in accepted:
        c.send(request("POST", INFER, b"", Content_Length=len(ONE), Expect="100-continue"))
        assert c.read().status == 100
    idle = Connection(node.http_port)
    right_iris(idle.ask("POST", INFER, ONE), 1)
    ends, answered = [], []

    def load():
        try:
            with Connection(node.http_port) as c:
                for _ in range(1_000_000):
                    right_iris(c.ask("POST", INFER, ONE), 1)
                    answered.append(1)
        except (EOFError, ConnectionError) as end:
            ends.append(b"" if not isinstance(end, EOFError) else c.left)
        except BaseException as error:  # noqa: BLE001
            ends.append(error)

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    t.wait_until(lambda: len(answered) > 200 or ends, "the load runs")
    for c in accepted[::2]:
        c.send(ONE)
    node.signal(15)

    def refuses():
        try:
            Connection(node.http_port).socket.close()
        except ConnectionError:
            return True

    t.wait_until(refuses, "the door is closed")
    assert idle.ended()
    for c in accepted[1::2]:
        c.send(ONE)
    for at, c in enumerate(accepted):
        reply = c.read()
        right_iris(reply, 1)
        assert at % 2 == 0 or reply.headers["connection"] == "close", reply.headers
        assert c.ended()
        c.socket.close()
    for thread in threads:
        thread.join(30)
    assert len(ends) == 8 and all(end == b"" for end in ends), ends
    assert node.wait() == 0, node.stderr()
    (finished,) = [json.loads(line) for line in node.stdout().splitlines() if '"event":"drain_finished"' in line]
    assert finished["in_flight"] == "0", finished


with t.Stage() as stage:
    node = stage.troupe({"http": {}, "kafka": {"enabled": False}})
    node.wait_ready()
    for step in (connections, formats, refusals, limits):
        began = time.monotonic()
        step(node.http_port)
        print(f"{step.__name__}: {time.monotonic() - began:.1f} s")
    callers_that_leave(node)
    drain_under_load(node)
