#!/usr/bin/env python3
"""Traces from outside: a request over HTTP, one over gRPC and a record from Kafka each end as one connected trace at a
receiver of OTLP/HTTP, under the caller's span; what is not sampled is not sent; exemplars on /metrics lead to traces; a
receiver that is dead, hangs or refuses costs no answer and is counted."""

import http.server
import json
import re
import socket
import struct
import threading
import time
import urllib.error
import urllib.request

import troupe_test as t
from kafka_client import Record

V2 = json.dumps({"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]})
ROW = [0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0, 0.02, -0.02]
CALLER = "00f067aa0ba902b7"
SERVER, PRODUCER, CONSUMER = 2, 4, 5


def trace_id(n):
    return f"4bf92f3577b34da6a3ce929d{n:08x}"


def parent(n, flags="01"):
    return f"00-{trace_id(n)}-{CALLER}-{flags}"


class Receiver:
    """Of OTLP/HTTP. `mode`: take, refuse (503) or hang."""

    def __init__(self):
        self.requests, self.mode, self.release = [], "take", threading.Event()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if owner.mode == "hang":
                    owner.release.wait(60)
                    return
                if owner.mode == "take":
                    owner.requests.append((self.path, dict(self.headers), json.loads(body)))
                self.send_response(200 if owner.mode == "take" else 503)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self):
        return [span for _, _, body in list(self.requests) for resource in body["resourceSpans"]
                for scope in resource["scopeSpans"] for span in scope["spans"]]

    def trace(self, n, count):
        """The spans of a trace once there are so many."""
        def there():
            found = [s for s in self.spans() if s["traceId"] == trace_id(n)]
            return found if len(found) >= count else None
        return t.wait_until(there, f"{count} spans of trace {n}")


def attributes(span):
    return {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}


def check(spans, kind, children):
    """One span of that kind under the caller's, and all others are its children, within its time."""
    (own,) = [s for s in spans if s["kind"] == kind]
    assert own["parentSpanId"] == CALLER and own["flags"] & 0x301 == 0x301, own
    rest = [s for s in spans if s is not own]
    assert sorted(s["name"] for s in rest) == sorted(children), [s["name"] for s in spans]
    for s in rest:
        assert s["parentSpanId"] == own["spanId"], s
        assert int(own["startTimeUnixNano"]) <= int(s["startTimeUnixNano"]) <= int(s["endTimeUnixNano"]), (own, s)
        assert int(s["endTimeUnixNano"]) <= int(own["endTimeUnixNano"]), (own, s)
    assert abs(int(own["startTimeUnixNano"]) / 1e9 - time.time()) < 60, own
    assert len({s["spanId"] for s in spans}) == len(spans)
    return own


def ask(node, path, body, **headers):
    """-> status, headers, body"""
    names = {"Content-Type": "application/json", **{n.replace("_", "-"): v for n, v in headers.items()}}
    request = urllib.request.Request(f"http://127.0.0.1:{node.http_port}{path}", body.encode() if body else None, names)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def field(number, data):
    return bytes([number << 3 | 2]) + bytes([len(data)]) + data


def infer_request():
    """inference.ModelInferRequest of one row of irises, raw."""
    tensor = field(1, b"input") + field(2, b"FP32") + field(3, b"\x01\x04")
    return field(1, b"iris-classifier") + field(5, tensor) + field(7, struct.pack("<4f", 5.1, 3.5, 1.4, 0.2))


def grpc(port, metadata):
    """One ModelInfer over bare HTTP/2 (RFC 9113), its header fields as literals (RFC 7541). -> bytes of the reply's data."""
    def frame(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    def literal(name, value):
        return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()

    fields = {":method": "POST", ":scheme": "http", ":path": "/inference.GRPCInferenceService/ModelInfer", ":authority": "test",
              "te": "trailers", "content-type": "application/grpc", **metadata}
    message = infer_request()
    data = b"\x00" + struct.pack(">I", len(message)) + message
    with socket.create_connection(("127.0.0.1", port), 20) as link:
        link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
                     + frame(1, 4, 1, b"".join(literal(n, v) for n, v in fields.items())) + frame(0, 1, 1, data))
        stream, reply = link.makefile("rb"), b""
        while True:
            head = stream.read(9)
            assert len(head) == 9, "the connection ended"
            size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            payload = stream.read(size)
            if kind == 4 and not flags & 1:
                link.sendall(frame(4, 1, 0, b""))
            if kind == 0:
                reply += payload
            if kind in (0, 1) and flags & 1 and head[5:9] == b"\x00\x00\x00\x01":
                return reply
            assert kind not in (3, 7), (kind, payload)


def spans_counted(node, result):
    return node.metrics().total("troupe_trace_spans_total", result=result)


with t.Stage() as stage:
    receiver = Receiver()
    kafka = stage.kafka()
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        kafka.client.create_topic(topic, 1)
    node = stage.troupe({"http": {}, "grpc": {}, "kafka": {"brokers": kafka.bootstrap}, "cache": {"mode": "off"},
                         "tracing": {"sample_ratio": 0, "interval": "50ms"}},
                        environment={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_SERVICE_NAME": "scores",
                                     "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret%20word"})
    node.wait_ready()

    # --- HTTP
    status, headers, _ = ask(node, "/v2/models/iris-classifier/infer", V2, traceparent=parent(1), tracestate="a=1,b=2",
                             X_Request_ID="r-1")
    assert status == 200
    own = check(receiver.trace(1, 3), SERVER, ["queue", "score"])
    assert headers["traceresponse"] == f"00-{trace_id(1)}-{own['spanId']}-01", headers
    assert own["name"] == "POST /v2/models/{model}/infer" and own["traceState"] == "a=1,b=2", own
    said = attributes(own)
    assert said["http.response.status_code"] == "200" and said["http.route"] == "/v2/models/{model}/infer", said
    assert said["url.path"] == "/v2/models/iris-classifier/infer" and said["troupe.request_id"] == "r-1", said
    (score,) = [s for s in receiver.trace(1, 3) if s["name"] == "score"]
    said = attributes(score)
    assert said["troupe.model.name"] == "iris-classifier" and said["troupe.batch.rows"] == "1", said
    path, sent, body = receiver.requests[0]
    assert path == "/v1/traces" and sent["Content-Type"] == "application/json" and sent["x-key"] == "secret word", (path, sent)
    resource = attributes(body["resourceSpans"][0]["resource"])
    assert resource["service.name"] == "scores" and resource["service.version"] and resource["host.name"], resource
    assert resource["service.instance.id"].endswith(f"/{node.pid}"), resource

    # What is refused is traced as well; only 5xx are errors of the server.
    assert ask(node, "/score", "{", traceparent=parent(2))[0] == 400
    own = check(receiver.trace(2, 1), SERVER, [])
    assert attributes(own)["http.response.status_code"] == "400" and "status" not in own, own
    assert ask(node, "/nowhere", None, traceparent=parent(3))[0] == 404
    assert check(receiver.trace(3, 1), SERVER, [])["name"] == "GET"

    # --- gRPC
    assert b"setosa" in grpc(node.grpc_port, {"traceparent": parent(4), "tracestate": "c=3"})
    own = check(receiver.trace(4, 3), SERVER, ["queue", "score"])
    said = attributes(own)
    assert own["name"] == "inference.GRPCInferenceService/ModelInfer" and own["traceState"] == "c=3", own
    assert (said["rpc.system"], said["rpc.service"], said["rpc.method"], said["rpc.grpc.status_code"]) == (
        "grpc", "inference.GRPCInferenceService", "ModelInfer", "0"), said

    # --- Kafka
    def record(n, value):
        return Record(value, f"k-{n}".encode(), [("traceparent", parent(n).encode()), ("tracestate", b"d=4")])

    good = json.dumps({"request_id": "r-5", "features": ROW}).encode()
    kafka.client.produce("inference-requests", [record(5, good), record(6, b"no json"), Record(good, b"plain")])
    spans = receiver.trace(5, 4)
    own = check(spans, CONSUMER, ["queue", "score", "send inference-results"])
    said = attributes(own)
    assert own["name"] == "process inference-requests" and own["traceState"] == "d=4", own
    assert said["messaging.system"] == "kafka" and said["messaging.consumer.group.name"] == "inference-service", said
    assert said["messaging.kafka.offset"] == "0" and said["messaging.destination.partition.id"] == "0", said
    (send,) = [s for s in spans if s["kind"] == PRODUCER]
    results = t.wait_until(lambda: (r := kafka.client.read("inference-results")) and len(r) == 2 and r, "two results")
    (result,) = [r for r in results if r.key == b"k-5"]
    assert result.header("traceparent").decode() == f"00-{trace_id(5)}-{send['spanId']}-01", result.headers
    assert result.header("tracestate") == b"d=4"
    (plain,) = [r for r in results if r.key == b"plain"]
    assert plain.header("traceparent") is None, "records begin no traces unless that is asked for"

    own = check(receiver.trace(6, 2), CONSUMER, ["send inference-requests-dlq"])
    assert own["status"]["code"] == 2 and attributes(own)["error.type"] == "invalid_json", own
    (dead,) = kafka.client.read("inference-requests-dlq")
    assert dead.header("traceparent").decode() == parent(6), "a dead letter keeps what it had"

    # --- not sampled
    for n, flags in ((7, "00"), (8, "02")):
        assert ask(node, "/score", json.dumps({"data": [ROW]}), traceparent=parent(n, flags))[0] == 200
    assert ask(node, "/score", json.dumps({"data": [ROW]}))[1]["traceresponse"] is None
    assert ask(node, "/score", json.dumps({"data": [ROW]}), traceparent="00-nonsense")[1]["traceresponse"] is None
    assert ask(node, "/score", json.dumps({"data": [ROW]}), traceparent=parent(9))[0] == 200
    receiver.trace(9, 3)
    assert not {trace_id(7), trace_id(8)} & {s["traceId"] for s in receiver.spans()}
    assert {s["traceId"] for s in receiver.spans()} == {trace_id(n) for n in (1, 2, 3, 4, 5, 6, 9)}

    # --- exemplars
    accept = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    for port in (node.port, node.http_port):
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})) as got:
            assert got.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8", got.headers
            text = got.read().decode()
        assert text.endswith("# EOF\n")
        shown = re.findall(r'^(\w+)_bucket\{[^}]*\} \d+ # \{trace_id="([0-9a-f]{32})"\} [0-9.e-]+ \d+\.\d{3}$', text, re.M)
        assert {name for name, _ in shown} == {"inference_latency_seconds", "inference_request_duration_seconds"}, shown
        assert {i for _, i in shown} <= {trace_id(n) for n in range(1, 10)}, shown
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as got:
            assert got.headers["Content-Type"].startswith("text/plain") and b"trace_id" not in got.read()
    t.wait_until(lambda: spans_counted(node, "exported") == len(receiver.spans()), "all that arrived is counted")
    assert "secret word" not in node.stdout() + t.run("config", "--config", str(node.config), environment={
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret word"}).stdout

    # --- what is left is sent at the end
    assert ask(node, "/score", json.dumps({"data": [ROW]}), traceparent=parent(10))[0] == 200
    assert node.stop() == 0, node.stderr()
    check(receiver.trace(10, 3), SERVER, ["queue", "score"])

    # --- every request begins a trace; a receiver that refuses, then hangs, then is gone
    node = stage.troupe({"http": {}, "kafka": {"enabled": False}, "cache": {"mode": "on"},
                         "tracing": {"endpoint": receiver.url, "sample_ratio": 1, "interval": "20ms", "timeout": "5s",
                                     "queue": 64}})
    node.wait_ready()
    before = len(receiver.spans())
    status, headers, _ = ask(node, "/score", json.dumps({"data": [ROW]}))
    mine = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-03", headers["traceresponse"])
    assert mine, headers["traceresponse"]
    begun = t.wait_until(lambda: (f := [s for s in receiver.spans() if s["traceId"] == mine[1]]) and len(f) == 4 and f, "a trace")
    (own,) = [s for s in begun if "parentSpanId" not in s]
    assert own["spanId"] == mine[2] and own["kind"] == SERVER and own["flags"] == 0x103, own
    assert {s["name"] for s in begun} == {"POST /score", "cache", "queue", "score"}, begun
    for path in ("/health", "/metrics", "/v2/health/ready"):
        assert ask(node, path, None)[0] == 200
    assert len(receiver.spans()) == before + 4, "probes begin no traces"

    def burst(count):
        for k in range(count):
            assert ask(node, "/score", json.dumps({"data": [[0.001 * k] + ROW[1:]]}))[0] == 200

    receiver.mode = "hang"
    burst(60)
    t.wait_until(lambda: spans_counted(node, "dropped") > 0, "spans are dropped while the receiver hangs")
    t.wait_until(lambda: '"event":"spans_not_exported"' in node.stdout(), "the log tells of it")
    receiver.mode = "refuse"
    receiver.release.set()
    burst(20)
    receiver.mode = "take"
    taken = len(receiver.spans())

    def again():
        burst(1)
        return len(receiver.spans()) > taken
    t.wait_until(again, "spans are sent again", every=0.2)

    # `troupe check` asks for the same as the node: once while there is a receiver, once when it is gone.
    def checked():
        done = t.run("check", "--json", "--config", str(node.config), "--set", "http.port=0", "--set", "metrics.port=0")
        found = json.loads(done.stdout)
        assert done.returncode == (0 if found["ok"] else 1), done
        return next(one for one in found["checks"] if one["what"] == f"tracing {receiver.url}/v1/traces")

    assert checked() == {"what": f"tracing {receiver.url}/v1/traces", "ok": True, "detail": "takes spans"}
    receiver.server.shutdown()
    receiver.server.server_close()
    assert not checked()["ok"] and "Connection refused" in checked()["detail"], checked()
    burst(20)
    assert node.get("/ready")[0] == 200 and b"degraded" not in node.get("/ready")[1], "traces are not what makes a node ready"
    assert node.stop() == 0, node.stderr()
    assert '"event":"actor_restarted"' not in node.stdout()

    # --- a wrong option says so
    wrong = t.run("serve", "--set", "kafka.enabled=false", "--set", "tracing.endpoint=collector:4317")
    assert wrong.returncode == 2 and "tracing.endpoint" in wrong.stderr and "http://collector:4318" in wrong.stderr, wrong
    wrong = t.run("serve", "--set", "kafka.enabled=false", "--set", "http.port=0", "--set", "grpc.port=0", "--set", "metrics.port=0",
                  "--set", "tracing.endpoint=http://x:1", "--set", "tracing.headers=secret")
    assert wrong.returncode == 2 and "tracing.headers" in wrong.stderr and "secret" not in wrong.stderr, wrong
