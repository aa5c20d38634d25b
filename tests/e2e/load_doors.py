#!/usr/bin/env python3
"""troupe load over HTTP and gRPC, from outside: what it sends is what a node counts, whatever goes wrong is counted and named."""

import http.server
import json
import os
import signal
import subprocess
import threading
import time

import troupe_test as t

FOREST, IRIS = "diabetes-rf-model", "iris-classifier"
REFUSING = t.free_ports(1)[0]


def load(*words, status=0, **more):
    done = t.run("load", *map(str, words), "--json", **more)
    assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


def complains(status, *words, contains, **more):
    done = t.run("load", *map(str, words), **more)
    assert done.returncode == status, (words, done.returncode, done.stderr)
    assert len(done.stderr.strip().splitlines()) <= 2 and "terminate" not in done.stderr, done.stderr
    for part in contains:
        assert part in done.stderr, (words, part, done.stderr)


class Stub(http.server.ThreadingHTTPServer):
    """Answers 200, but every third with 503, and every `breaks`th by closing; keeps what it was sent."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, refuse=3, breaks=0, stall=None):
        self.refuse, self.breaks, self.stall, self.seen, self.lock = refuse, breaks, stall, [], threading.Lock()
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with stub.lock:
                    stub.seen.append((self.path, dict(self.headers), body))
                    n = len(stub.seen)
                if stub.breaks and n % stub.breaks == 0:
                    self.close_connection = True
                    return
                if stub.stall and n == stub.stall[0]:
                    time.sleep(stub.stall[1])
                bad = stub.refuse and n % stub.refuse == 0
                text = b'{"error":"too much to do"}' if bad else b"{}"
                self.wfile.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (b"503 No" if bad else b"200 OK", len(text), text))

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


# --- what can't be done as asked

for words, contains in (
        (["--http", "ftp://localhost:8080"], ["--http ftp://localhost:8080", "expected http://"]),
        (["--http", "http://localhost:0"], ["port"]),
        (["--http", "http://h ost:80/"], ["percent-encoded"]),
        (["--grpc", "localhost", "--model", "m"], ["--grpc localhost", "host:port"]),
        (["--grpc", "localhost:8081"], ["--model"]),
        (["--grpc", "localhost:8081", "--http", "http://localhost"], ["--http", "--grpc"]),
        (["--http", "http://localhost", "--brokers", "b:1"], ["--brokers"]),
        (["--http", "http://localhost", "--window", "5"], ["--window"]),
        (["--connections", "5"], ["--connections", "--http or --grpc"]),
        (["--http", "http://localhost", "--format", "xml"], ["--format", "xml"]),
        (["--http", "http://localhost", "--format", "v2"], ["--model"]),
        (["--http", "http://localhost", "--format", "score", "--model", "m"], ["--model", "/score"]),
        (["--http", "http://localhost", "--priority", "1"], ["--priority", "/score"]),
        (["--http", "http://localhost", "--header", "nothing"], ["--header", "Name: value"]),
        (["--http", "http://localhost", "--tls-ca", "ca.pem"], ["--tls-ca", "https://"]),
        (["--http", "http://localhost", "--api-key-file", "/none"], ["--api-key-file /none"]),
        (["--http", "http://localhost", "--connections", "0"], ["--connections"]),
        (["--http", "http://localhost", "--seconds", "1", "--warmup", "2s"], ["--warmup"]),
        (["--http", "http://localhost", "--tls-cert", "a.pem"], ["--tls-key"])):
    complains(2, *words, contains=contains)

# --- nobody there

complains(1, "--http", f"http://127.0.0.1:{REFUSING}", contains=[f"127.0.0.1:{REFUSING}", "Connection refused"])
complains(1, "--http", f"127.0.0.1:{REFUSING}", contains=[f"127.0.0.1:{REFUSING}", "Connection refused"])
complains(1, "--grpc", f"127.0.0.1:{REFUSING}", "--model", "m", contains=[f"127.0.0.1:{REFUSING}", "Connection refused"])
complains(1, "--http", "http://no-such-host.invalid:80", contains=["no-such-host.invalid"])
complains(1, "--grpc", "no-such-host.invalid:80", "--model", "m", contains=["no-such-host.invalid"])

# --- refusals, breaks and a stall are counted

stub = Stub()
report = load("--http", stub.url, "--requests", 300, "--connections", 4)
assert (report["sent"], report["answered"], report["predicted"], report["errors"], report["lost"]) == (300, 300, 200, 100, 0), report
assert report["error_codes"] == {"503": 100} and "too much to do" in report["error_examples"]["503"], report
assert report["in_time"] <= report["predicted"] and len(stub.seen) == 300
load("--http", stub.url, "--requests", 30, "--fail-on-errors", status=1)

stub = Stub(refuse=1)
assert load("--http", stub.url, "--requests", 20, status=1)["predicted"] == 0

stub = Stub(refuse=0, breaks=10)
report = load("--http", stub.url, "--requests", 100, "--connections", 1)
assert (report["sent"], report["predicted"], report["error_codes"]) == (100, 90, {"connection_closed": 10}), report

# One connection, 200 requests/s, and a server that once stops for half a second: what was due meanwhile was late.
stub = Stub(refuse=0, stall=(50, 0.5))
report = load("--http", stub.url, "--rate", 200, "--requests", 200, "--connections", 1, "--target", "100ms")
assert report["predicted"] == 200 and report["max_ms"] >= 500 and report["p90_ms"] >= 100, report
assert report["in_time"] <= 200 - 0.4 * 200 + 5, report

# A server that never answers: the wait ends.
silent = t.socket.socket()
silent.bind(("127.0.0.1", 0))
silent.listen(16)
report = load("--http", f"http://127.0.0.1:{silent.getsockname()[1]}", "--requests", 3, "--connections", 3, "--wait-for", "300ms", status=1)
assert (report["sent"], report["lost"], report["answered"]) == (3, 3, 0), report
silent.close()

# --- what is sent

stub = Stub(refuse=0)
environment = {"TROUPE_API_KEY": "tk_of_the_test"}
load("--http", stub.url + "/other/path", "--requests", 1, "--header", "X-Team: blue", environment=environment)
path, headers, body = stub.seen[-1]
assert path == "/other/path" and headers["X-Team"] == "blue" and headers["X-API-Key"] == "tk_of_the_test", stub.seen
assert len(json.loads(body)["data"][0]) == 10
load("--http", stub.url, "--model", "a/b", "--model-version", "3", "--requests", 1, "--priority", 2, "--timeout-ms", 250, "--rows", 3)
path, headers, body = stub.seen[-1]
assert path == "/v2/models/a%2Fb/versions/3/infer", path
document = json.loads(body)
assert document["parameters"] == {"priority": 2, "timeout": 250000} and document["inputs"][0]["shape"] == [3, 10], document
stub.shutdown()

with t.Stage() as stage:
    rows = stage.path("rows.jsonl")
    rows.write_text('[5.1, 3.5, 1.4, 0.2]\n[6.7, 3.0, 5.2, 2.3]\n')
    named = stage.path("named.jsonl")
    named.write_text('{"sepal length (cm)": 5.1}\n')
    complains(2, "--http", "http://localhost", "--model", IRIS, "--features-file", named, contains=["row 1", "tensor"])

    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                    "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", stage.path("key.pem"), "-out",
                    stage.path("cert.pem")], check=True, capture_output=True)
    tls = {"tls_cert": str(stage.path("cert.pem")), "tls_key": str(stage.path("key.pem"))}
    common = {"kafka": {"enabled": False}, "models": {"directory": str(t.ROOT / "models"), "default": FOREST}}
    node = stage.troupe({**common, "http": {}, "grpc": {}})
    secured = stage.troupe({**common, "http": tls, "grpc": tls})
    node.wait_ready()
    secured.wait_ready()
    url, address = f"http://127.0.0.1:{node.http_port}", f"127.0.0.1:{node.grpc_port}"

    # --- what is sent is what the node counts
    counted = {"http": 0, "grpc": 0}
    for door, words in (("http", ["--http", url]),
                        ("http", ["--http", url, "--model", FOREST]),
                        ("http", ["--http", url, "--model", FOREST, "--format", "binary", "--model-version", "3"]),
                        ("http", ["--http", url, "--model", IRIS, "--features-file", rows, "--rows", 2]),
                        ("grpc", ["--grpc", address, "--model", FOREST]),
                        ("grpc", ["--grpc", address, "--model", IRIS, "--features-file", rows, "--priority", 1]),
                        ("grpc", ["--grpc", address, "--model", FOREST, "--rate", 2000])):
        report = load(*words, "--requests", 500, "--connections", 8, "--target", "5m")
        assert (report["sent"], report["predicted"], report["in_time"]) == (500, 500, 500), (words, report)
        assert 0 < report["p50_ms"] <= report["p95_ms"] <= report["p99_ms"] <= report["max_ms"], report
        counted[door] += 500
        t.wait_until(lambda: node.metrics().total("inference_requests_total", door=door, status="success") == counted[door],
                     f"the node has counted {counted[door]} over {door}")
    report = load("--http", url, "--rate", 500, "--seconds", 1, "--interval", "250ms", "--metrics", f"http://127.0.0.1:{node.port}")
    assert report["sent"] == 500 and len(report["intervals"]) == 4 and sum(i["predicted"] for i in report["intervals"]) == 500, report
    assert report["cache_hit_ratio"] is not None, report
    report = load("--http", url, "--rate", 500, "--seconds", 1, "--warmup", "500ms")
    assert report["sent"] == 250, report
    done = t.run("load", "--http", url, "--requests", "10", "--target", "5m")
    assert "in time            100.000 % within 300000 ms" in done.stdout and "predicted               10" in done.stdout, done.stdout

    # --- refusals of a node
    report = load("--grpc", address, "--model", "nobody", "--requests", 40, "--connections", 2, status=1)
    assert report["error_codes"] == {"NOT_FOUND": 40} and "nobody" in report["error_examples"]["NOT_FOUND"], report
    report = load("--http", url, "--model", FOREST, "--features", 3, "--requests", 10, status=1)
    assert report["error_codes"] == {"400": 10}, report
    complains(1, "--grpc", f"127.0.0.1:{secured.grpc_port}", "--model", FOREST, contains=["TLS"], deadline=90)

    # --- TLS
    secure_url, ca = f"https://localhost:{secured.http_port}", stage.path("cert.pem")
    for words in (["--http", secure_url], ["--http", f"https://127.0.0.1:{secured.http_port}"],
                  ["--grpc", f"localhost:{secured.grpc_port}", "--model", FOREST]):
        report = load(*words, "--tls-ca", ca, "--requests", 200, "--connections", 4)
        assert report["predicted"] == 200, (words, report)
    complains(1, "--http", secure_url, contains=["TLS", "certificate"])
    complains(1, "--http", secure_url, "--tls-ca", rows, contains=[str(rows)])

    # --- Ctrl-C: what is out is waited for, and reported
    for words in (["--http", url], ["--http", url, "--rate", "200"], ["--grpc", address, "--model", FOREST, "--rate", "200"]):
        before = node.metrics().total("inference_requests_total", status="success")
        process = stage.start([t.TROUPE, "load", *words, "--seconds", "600", "--json"], "load")
        t.wait_until(lambda: node.metrics().total("inference_requests_total", status="success") > before + 20, "requests flow")
        process.signal(signal.SIGINT)
        assert process.wait() == 0, process.stderr()
        report = json.loads(process.stdout())
        assert report["interrupted"] and report["sent"] == report["predicted"] > 20 and report["lost"] == 0, report

    # --- a node that dies is no reason to hang, and its errors are named
    before = node.metrics().total("inference_requests_total", status="success")
    process = stage.start([t.TROUPE, "load", "--http", url, "--rate", "400", "--seconds", "15", "--connections", "64", "--json"], "load")
    t.wait_until(lambda: node.metrics().total("inference_requests_total", status="success") > before + 50, "requests flow")
    node.kill()
    assert process.wait(90) == 0, process.stderr()
    report = json.loads(process.stdout())
    assert report["sent"] == 6000 == report["answered"] + report["lost"] or report["lost"] > 0, report
    assert report["error_codes"].get("connection_refused", 0) > 0, report
