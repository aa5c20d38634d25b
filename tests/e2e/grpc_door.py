#!/usr/bin/env python3
"""The gRPC door over a real port: limits at their edge, broken messages and frames, pings, TLS with and without clients'
certificates, certificates that change."""

import contextlib
import json
import pathlib
import shutil
import signal
import ssl
import struct
import subprocess
import threading
import warnings

import http2
import troupe_test as t
from http2 import Closed, Connection, frame

SERVICE = "/inference.GRPCInferenceService/"
INFER = SERVICE + "ModelInfer"
LIMIT = 4096


def number(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(index, data):
    data = data.encode() if isinstance(data, str) else data
    return number(index << 3 | 2) + number(len(data)) + data


def infer(size=None, rows=1, shape=None, raw=None):
    """ModelInferRequest for iris-classifier; `size`: filled up to so many bytes with a field that nobody knows."""
    tensor = field(1, "input") + field(2, "FP32") + field(3, b"".join(number(n) for n in shape or [rows, 4]))
    raw = struct.pack("<4f", 5.1, 3.5, 1.4, 0.2) * rows if raw is None else raw
    message = field(1, "iris-classifier") + field(3, "r-1") + field(5, tensor) + field(7, raw)
    if size is not None:
        message += field(1000, b"\0" * (size - len(message) - 4))
    assert size in (None, len(message)), len(message)
    return message


def well(port, tls=None):
    """A new connection is served: what the others did has harmed nobody."""
    with Connection(port, tls) as c:
        reply = c.call(INFER, infer())
        assert reply.status == http2.OK and b"setosa" in reply.message, reply
        return c


with t.Stage() as stage:
    node = stage.troupe({"kafka": {"enabled": False}, "cache": {"mode": "off"},
                         "grpc": {"max_message": "4KiB", "max_streams": 4}})
    node.wait_ready()
    port = node.grpc_port
    well(port)

    # --- limits: at the edge and one beyond
    with Connection(port) as c:
        assert c.call(INFER, infer(LIMIT)).status == http2.OK
        for path in (INFER, SERVICE + "ServerReady"):
            reply = c.call(path, infer(LIMIT + 1))
            assert reply.status == http2.RESOURCE_EXHAUSTED or reply.reset is not None, reply
        assert c.call(INFER, infer(LIMIT)).status == http2.OK, "the connection goes on"
        metadata = [("x-long", "a" * (20 << 10))]
        try:
            reply = c.call(INFER, infer(), metadata)
            assert reply.status == http2.RESOURCE_EXHAUSTED or reply.reset is not None, reply
        except Closed:
            pass
    well(port)

    # --- messages whose lengths are wrong
    good = infer()
    with Connection(port) as c:
        for body, expected in (
                (http2.prefixed(good, len(good) + 1), None),           # ends too early
                (http2.prefixed(good, len(good) - 1), None),           # goes on behind its end
                (http2.prefixed(good, 0xFFFFFFFF), None),       
                (http2.prefixed(good)[:3], None),                      # not even a length
                (http2.prefixed(good) * 2, http2.OK),                  # two messages: the library reads one
                (b"", None),
                (http2.prefixed(good, packed=1), http2.OK),            # packed, it says, and is not: taken as it is
                (http2.prefixed(good, packed=9), None),
                (http2.prefixed(good[:-1]), http2.INVALID_ARGUMENT),
                (http2.prefixed(b"\xff" * 50), http2.INVALID_ARGUMENT),
                (http2.prefixed(b""), http2.INVALID_ARGUMENT),
                (http2.prefixed(infer(raw=b"\0" * 15)), http2.INVALID_ARGUMENT),
                (http2.prefixed(infer(raw=b"\0" * 17)), http2.INVALID_ARGUMENT),
                (http2.prefixed(infer(shape=[2, 4])), http2.INVALID_ARGUMENT),
                (http2.prefixed(infer(shape=[1 << 62, 4])), None),
                (http2.prefixed(infer(shape=[(1 << 64) - 1, 4])), http2.INVALID_ARGUMENT)):
            try:
                reply = c.call(INFER, body=body)
            except Closed:
                raise AssertionError(f"one bad message ended the connection: {body[:20]!r}")
            assert expected == http2.OK or reply.status not in (None, http2.OK) or reply.reset is not None, (body[:20], reply)
            assert expected in (None, reply.status) or reply.reset is not None, (body[:20], reply)
        assert c.call(INFER, good).status == http2.OK, "the connection goes on"
        assert c.call(SERVICE + "NoSuch", b"").status == http2.UNIMPLEMENTED
    well(port)

    # --- frames that are none
    def greeted(data):
        return http2.PREFACE + frame(http2.SETTINGS, 0, 0) + data

    head = http2.block([(":method", "POST"), (":scheme", "http"), (":path", INFER), (":authority", "a"),
                        ("content-type", "application/grpc"), ("te", "trailers")])
    for what, data in (
            ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("noise", bytes(range(256)) * 8),
            ("no settings", http2.PREFACE + frame(http2.PING, 0, 0, b"12345678")),
            ("a frame of 16 MiB", greeted(frame(http2.DATA, 0, 1, b"", length=0xFFFFFF) + b"\0" * 70000)),
            ("DATA on no stream", greeted(frame(http2.DATA, 0, 0, b"abc"))),
            ("HEADERS on an even stream", greeted(frame(http2.HEADERS, http2.END_HEADERS, 2, head))),
            ("a PING of 7 bytes", greeted(frame(http2.PING, 0, 0, b"1234567"))),
            ("SETTINGS of 5 bytes", greeted(frame(http2.SETTINGS, 0, 0, b"12345"))),
            ("an index beyond the table", greeted(frame(http2.HEADERS, http2.END_HEADERS, 1, b"\xff\xff\xff\xff\x0f"))),
            ("a text that goes on for ever", greeted(frame(http2.HEADERS, http2.END_HEADERS, 1, b"\0\x7f\xff\xff\xff\x7fabc"))),
            ("CONTINUATION of nothing", greeted(frame(http2.CONTINUATION, http2.END_HEADERS, 1, head))),
            ("DATA between HEADERS and CONTINUATION",
             greeted(frame(http2.HEADERS, 0, 1, head[:20]) + frame(http2.DATA, 0, 1, b"abc"))),
            ("a window beyond 2^31", greeted(frame(http2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2)),
            ("more padding than frame", greeted(frame(http2.HEADERS, http2.END_HEADERS, 1, head) +
                                                frame(http2.DATA, http2.PADDED, 1, b"\xffabc")))):
        with Connection(port, greet=False) as c:
            c.send(data)
            with contextlib.suppress(OSError):
                c.socket.shutdown(1)  # it has nothing more to say
            assert c.watch(20), f"{what}: the connection stays open"
        assert node.running, what
    well(port)

    # A client that goes away in the middle, and more calls than are allowed at a time.
    for cut in range(0, len(head), 9):
        with Connection(port) as c:
            c.send(frame(http2.HEADERS, http2.END_HEADERS, 1, head)[:cut])
    with Connection(port) as c:
        assert c.call(INFER, good).status == http2.OK  # and the settings are known
        streams = [c.begin(INFER) for _ in range(4)]
        too_many = c.begin(INFER)
        try:
            assert c.end(too_many).reset == 7, "REFUSED_STREAM"
        except Closed:
            pass  # it may take it for a breach of the protocol
    well(port)
    assert node.stop() == 0

    # --- pings: an idle client that answers stays, one that does not goes, one that asks too often is sent away
    node = stage.troupe({"kafka": {"enabled": False}, "cache": {"mode": "off"}, "grpc": {"keepalive": "500ms", "keepalive_timeout": "3s"}})
    node.wait_ready()
    port = node.grpc_port
    with Connection(port) as c:
        assert not c.watch(6) and c.pings >= 3, c.pings
        assert c.call(INFER, good).status == http2.OK
    with Connection(port) as c:
        c.answers_pings = False
        assert c.watch(20) and c.pings >= 1, "a client that does not answer is left"
    with Connection(port) as c:
        for _ in range(50):
            c.send(frame(http2.PING, 0, 0, b"12345678"))
        assert c.watch(20) and c.goaway == 11 and c.why == b"too_many_pings", (c.goaway, c.why)
    well(port)
    assert node.stop() == 0

    # --- ages of connections
    node = stage.troupe({"kafka": {"enabled": False}, "cache": {"mode": "off"},
                         "grpc": {"max_age": "2s", "idle_timeout": "1s"}})
    node.wait_ready()
    with Connection(node.grpc_port) as c:
        # gRPC 1.51 gives the idle a code of its own choice (2), with its reason.
        assert c.watch(20) and (c.goaway == 0 or c.why == b"enter idle"), (c.goaway, c.why)
    assert node.stop() == 0
    node = stage.troupe({"kafka": {"enabled": False}, "cache": {"mode": "off"}, "grpc": {"max_age": "4s"}})
    node.wait_ready()
    with Connection(node.grpc_port) as c:
        calls = 0
        try:
            while c.goaway is None:
                assert c.call(INFER, good).status == http2.OK
                calls += 1
        except Closed:
            pass
        assert c.goaway == 0 and calls > 1, (c.goaway, calls)
    node.stop()

    # --- more requests than may wait: refused, told in the log and counted
    node = stage.troupe({"kafka": {"enabled": False}, "cache": {"mode": "off"}, "grpc": {}, "log": {"format": "json"},
                         "http": {"enabled": False, "max_requests": 1}, "admin": {"token": "secret"}, "faults": {"enabled": True}})
    node.wait_ready()
    faults = (f"http://127.0.0.1:{node.port}/admin/faults", {"Authorization": "Bearer secret"})
    assert t.http("POST", faults[0], {"fault": "shard_hang", "duration": "2m"}, faults[1])[0] == 201
    ended = []

    def ask():
        with Connection(node.grpc_port) as c:
            ended.append(c.call(INFER, good).status)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    t.wait_until(lambda: len(ended) == 3, "all but one are refused")
    assert ended == [http2.UNAVAILABLE] * 3, ended
    assert t.http("DELETE", faults[0], headers=faults[1])[0] == 200
    for client in clients:
        client.join(60)
    assert ended[3] == http2.OK, ended
    assert node.metrics().total("inference_errors_total", door="grpc", code="unavailable") == 3
    (line,) = [line for line in map(json.loads, node.stdout().splitlines()) if line["event"] == "overload"]
    assert line["option"] == "http.max_requests", line
    assert node.stop() == 0, node.stderr()

    # --- a node that ends: clients are told to go elsewhere, and what they have sent by then is answered
    for _ in range(3):
        node = stage.troupe({"kafka": {"enabled": False}, "cache": {"mode": "off"}, "grpc": {}})
        node.wait_ready()
        answered, ends = [0] * 8, []

        def until_told(at):
            try:
                with Connection(node.grpc_port) as c:
                    while c.goaway is None:
                        assert c.call(INFER, good).status == http2.OK
                        answered[at] += 1
                    ends.append(c.goaway)
            except BaseException as error:  # noqa: BLE001
                ends.append(error)

        clients = [threading.Thread(target=until_told, args=(at,)) for at in range(len(answered))]
        for client in clients:
            client.start()
        t.wait_until(lambda: all(n > 20 for n in answered) or ends, "all clients are at it")
        node.signal(signal.SIGTERM)
        for client in clients:
            client.join(60)
        assert ends == [0] * len(clients), ends
        assert node.wait() == 0, node.stderr()

    # --- TLS
    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    folder = stage.path("tls")
    folder.mkdir()

    def authority(name):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2, "-subj",
                f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", folder / f"{name}.key", "-out",
                folder / f"{name}.crt")

    def certificate(name, by):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout",
                folder / f"{name}.key", "-out", folder / "request")
        # Python 3.13 verifies by RFC 5280 to the letter.
        (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nsubjectKeyIdentifier=hash\n"
                                      "authorityKeyIdentifier=keyid\n")
        openssl("x509", "-req", "-in", folder / "request", "-CA", folder / f"{by}.crt", "-CAkey", folder / f"{by}.key",
                "-CAcreateserial", "-days", 2, "-extfile", folder / "names", "-out", folder / f"{name}.crt")

    authority("root"), authority("clients"), authority("strangers")
    certificate("server", "root"), certificate("renewed", "root")
    certificate("mobile", "clients"), certificate("stranger", "strangers")

    def trusting(client=None):
        context = ssl.create_default_context(cafile=str(folder / "root.crt"))
        if client:
            context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
        return context

    def shows(node):
        with Connection(node.grpc_port, trusting("mobile")) as c:
            assert c.socket.selected_alpn_protocol() == "h2"
            assert c.call(INFER, good).status == http2.OK
            return dict(pair[0] for pair in c.socket.getpeercert()["subject"])["commonName"]

    def put(name):
        """As an orchestrator does: beside it, then in its place."""
        for kind in ("key", "crt"):
            shutil.copy(folder / f"{name}.{kind}", folder / f"new.{kind}")
            (folder / f"new.{kind}").replace(folder / f"live.{kind}")

    put("server")
    options = {"tls_cert": str(folder / "live.crt"), "tls_key": str(folder / "live.key"),
               "tls_client_ca": str(folder / "clients.crt")}
    strict = stage.troupe({"kafka": {"enabled": False}, "grpc": {**options, "tls_client_required": True}})
    lax = stage.troupe({"kafka": {"enabled": False}, "grpc": options})
    strict.wait_ready(), lax.wait_ready()
    assert shows(strict) == "server" and shows(lax) == "server"
    well(lax.grpc_port, trusting())

    def refused(port, context):
        try:
            with Connection(port, context) as c:
                c.call(INFER, good)
        except (ssl.SSLError, Closed, ConnectionError):
            return True
        return False

    old = ssl.create_default_context(cafile=str(folder / "root.crt"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT@SECLEVEL=0")  # with which this client would speak it
    assert refused(strict.grpc_port, trusting()), "without a certificate"
    assert refused(strict.grpc_port, trusting("stranger")), "with one of somebody else's"
    assert refused(lax.grpc_port, trusting("stranger")), "where one is given it must be right"
    assert refused(strict.grpc_port, None), "without TLS"
    assert refused(strict.grpc_port, old), "TLS 1.1"
    assert refused(strict.grpc_port, ssl.create_default_context()), "the client does not know the authority"
    assert shows(strict) == "server"

    # Certificates that change: new connections see the new one, those that are open go on; what can't be used changes nothing.
    with Connection(strict.grpc_port, trusting("mobile")) as c:
        assert c.call(INFER, good).status == http2.OK
        put("renewed")
        t.wait_until(lambda: shows(strict) == "renewed", "the new certificate is shown", 40, 0.5)
        assert c.call(INFER, good).status == http2.OK, "an open connection goes on"
    t.wait_until(lambda: shows(lax) == "renewed", "the other node, too", 40, 0.5)
    shutil.copy(folder / "server.key", folder / "live.key")  # not of this certificate
    assert shows(strict) == "renewed" and shows(lax) == "renewed"
    (folder / "live.key").write_text("no key")

    def told():
        said = [json.loads(line) for line in strict.stdout().splitlines() if '"tls_not_reloaded"' in line]
        return any("grpc.tls_key" in one["error"] and str(folder / "live.key") in one["error"] for one in said)

    t.wait_until(told, "the log names the option and the file", 40, 0.5)
    assert shows(strict) == "renewed", "the old one stays"
    put("server")
    t.wait_until(lambda: shows(strict) == "server", "files that are right again are taken", 40, 0.5)

    # Files that can't be used at the start: one line with the option's name.
    for change, words in (({"tls_cert": "/no/such.crt"}, ["grpc.tls_cert", "/no/such.crt"]),
                          ({"tls_key": str(folder / "mobile.key")}, ["grpc.tls_key", "not the key of"]),
                          ({"tls_client_ca": str(folder / "names")}, ["grpc.tls_client_ca"]),
                          ({"tls_key": ""}, ["grpc.tls_cert", "grpc.tls_key"])):
        bad = pathlib.Path(stage.path("bad.yaml"))
        bad.write_text(json.dumps({"kafka": {"enabled": False}, "metrics": {"port": 0}, "http": {"enabled": False},
                                                 "grpc": {**options, "port": 0, **change}}))
        done = t.run("serve", "--config", str(bad))
        lines = [line for line in done.stderr.splitlines() if line.startswith("troupe: ")]
        assert done.returncode != 0 and len(lines) == 1 and all(w in lines[0] for w in words), (change, done.returncode, done.stderr)
    strict.stop(), lax.stop()
