#!/usr/bin/env python3
"""The guard of the HTTP door over a real port: API keys, tokens with a key set that changes, rates, quotas in Redis, who
may use what, and what a reload changes."""

import base64
import hashlib
import http.server
import json
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import troupe_test as t

ROWS = json.dumps({"data": [[5.1, 3.5, 1.4, 0.2]]})
V2 = json.dumps({"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]})
IRIS, OTHER = "/v2/models/iris-classifier", "/v2/models/diabetes-rf-model"


def ask(node, path, body=None, **headers):
    """-> status, headers, body"""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        names.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(f"http://127.0.0.1:{node.http_port}{path}", body.encode() if body else None, names)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def base64url(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else data.encode()).rstrip(b"=").decode()


class Signer:
    """An RSA key, made and used with the openssl program."""

    def __init__(self, stage, name):
        self.name, self.file = name, stage.path(name + ".pem")
        subprocess.run(["openssl", "genrsa", "-out", self.file, "2048"], check=True, capture_output=True)
        said = subprocess.run(["openssl", "rsa", "-in", self.file, "-noout", "-modulus"], check=True, capture_output=True)
        self.n = bytes.fromhex(said.stdout.decode().strip().split("=")[1])

    def jwk(self):
        return {"kty": "RSA", "kid": self.name, "use": "sig", "alg": "RS256", "n": base64url(self.n), "e": "AQAB"}

    def token(self, header=None, **claims):
        claims = {"iss": "https://id.test", "aud": "troupe", "sub": "mobile", "exp": int(time.time()) + 600, **claims}
        text = base64url(json.dumps(header or {"alg": "RS256", "kid": self.name})) + "." + base64url(json.dumps(claims))
        done = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.file], input=text.encode(), check=True,
                              capture_output=True)
        return text + "." + base64url(done.stdout)


class KeySet(http.server.BaseHTTPRequestHandler):
    keys, status = [], 200

    def do_GET(self):
        body = json.dumps({"keys": KeySet.keys}).encode()
        self.send_response(KeySet.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def entry(name, key, **more):
    return {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), **more}


with t.Stage() as stage:
    certificate, tls_key = stage.path("redis.crt"), stage.path("redis.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", tls_key, "-out", certificate], check=True,
                   capture_output=True)
    (tls_port,) = t.free_ports(1)
    redis = stage.redis("--tls-port", str(tls_port), "--tls-cert-file", str(certificate), "--tls-key-file", str(tls_key),
                        "--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no")
    provider = http.server.ThreadingHTTPServer(("127.0.0.1", 0), KeySet)
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    first, second = Signer(stage, "first"), Signer(stage, "second")
    KeySet.keys = [first.jwk()]

    made = json.loads(t.run("key", "billing", "--json").stdout)
    keys_file = stage.path("keys.yaml")

    def write_keys(*entries):
        keys_file.write_text(json.dumps([{**made["entry"], "per_minute": 100000, "admin": True}, *entries]))

    write_keys(entry("portal", "tk_portal", models=["iris-classifier"], classes=["interactive"], per_minute=100000),
               entry("small", "tk_small", per_minute=100000, per_month=5),
               entry("both", "tk_both", per_minute=100000, per_month=5),
               entry("bulk", "tk_bulk", models=["iris-classifier"], classes=["bulk"], per_minute=100000),
               entry("slow2", "tk_slow2", per_minute=100000),
               entry("ten", "tk_ten", per_minute=100000, per_month=10),
               entry("slow", "tk_slow", per_minute=1, burst=2))
    config = {
        "kafka": {"enabled": False}, "http": {"trusted_proxies": "127.0.0.0/8"},
        "redis": {"host": "127.0.0.1", "port": redis.port}, "cache": {"mode": "off"},
        "models": {"default": "iris-classifier"},
        "batches": {"directory": str(stage.path("batches"))},
        "auth": {"mode": "required", "keys_file": str(keys_file), "jwt_issuer": "https://id.test",
                 "jwt_audience": "troupe", "jwks_url": f"http://127.0.0.1:{provider.server_port}/jwks"},
        "rate_limit": {"enabled": True, "per_minute": 6, "burst": 50},
    }
    node = stage.troupe(config)
    node.wait_ready()
    key = made["key"]

    # --- who is let in
    status, headers, body = ask(node, "/score", ROWS)
    assert status == 401 and headers["WWW-Authenticate"].startswith("Bearer"), (status, headers)
    said = json.loads(body)
    assert said["trace"] == "authentication" and said["metadata"]["request_id"], said
    status, headers, body = ask(node, IRIS + "/infer", V2)
    assert status == 401 and json.loads(body).keys() == {"error"}, body
    for given in ({"Authorization": f"Bearer {key}"}, {"X_API_Key": key}):
        assert ask(node, IRIS + "/infer", V2, **given)[0] == 200, given
        assert ask(node, OTHER, **given)[0] == 200, given
    status, headers, body = ask(node, IRIS + "/infer", V2, X_API_Key=key[:-1])
    assert status == 401 and "invalid_token" in headers["WWW-Authenticate"], (status, headers)
    assert key.encode() not in body and b"tk_" not in body
    for path in ("/health", "/ready", "/v2/health/ready", "/v2/health/live"):
        assert ask(node, path)[0] == 200, path
    # The page is anybody's and has a field for the key; the document needs it.
    for path, accept in (("/docs", "text/html"), ("/", "text/html")):
        status, _, body = ask(node, path, Accept=accept)
        assert status == 200 and b'id="key"' in body and b"iris" not in body, (path, status)
    assert ask(node, "/openapi.json")[0] == ask(node, "/")[0] == 401
    assert json.loads(ask(node, "/openapi.json", X_API_Key=key)[2])["security"] == [{"apiKey": []}, {"bearer": []}]
    assert ask(node, "/metrics")[0] == 401 and ask(node, "/v2/repository/index", "{}")[0] == 401

    # --- who may use what
    assert ask(node, IRIS + "/infer", V2, X_API_Key="tk_portal")[0] == 200
    for path, body in ((OTHER + "/infer", V2), (OTHER, None), ("/v2/models/no-such-model/infer", V2)):
        status, _, said = ask(node, path, body, X_API_Key="tk_portal")
        assert status == 403 and json.loads(said).keys() == {"error"}, (path, status, said)
    urgent = json.loads(V2)
    urgent["parameters"] = {"priority": 3}
    status, _, said = ask(node, IRIS + "/infer", json.dumps(urgent), X_API_Key="tk_portal")
    assert status == 403 and b"'bulk'" in said and b"1 (interactive)" in said, said
    # Without a priority it is the most urgent class that the client may use.
    for path, body in ((IRIS + "/infer", V2), ("/score", ROWS), ("/invocations", json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]}))):
        assert ask(node, path, body, X_API_Key="tk_bulk")[0] == 200, path
        if path[1] != "v":
            assert ask(node, path, body, X_API_Key="tk_bulk", X_Priority="3")[0] == 200, path
            assert ask(node, path, body, X_API_Key="tk_bulk", X_Priority="1")[0] == 403, path
            assert ask(node, path, body, X_API_Key="tk_bulk", X_Priority="-1")[0] == 400, path
    assert ask(node, "/v2/repository/models/iris-classifier/unload", "{}", X_API_Key="tk_portal")[0] == 403
    for given, expected in ((key, {"iris-classifier", "diabetes-rf-model", "diabetes-linear"}), ("tk_portal", {"iris-classifier"})):
        status, _, body = ask(node, "/v2/repository/index", "{}", X_API_Key=given)
        assert status == 200 and {m["name"] for m in json.loads(body)} == expected, body
        status, _, body = ask(node, "/v2/models/stats", X_API_Key=given)
        assert status == 200 and {m["name"] for m in json.loads(body)["model_stats"]} == expected, body

    # --- batches belong to whom they are of
    lines = "".join(json.dumps({"request_id": name, "model": name, "features": features}) + "\n" for name, features in (
        ("iris-classifier", [5.1, 3.5, 1.4, 0.2]), ("diabetes-rf-model", [0.1] * 10), ("no-such-model", [1])))

    def submit(who, query="", body=lines):
        return ask(node, "/v2/batches" + query, body, X_API_Key=who, Content_Type="application/x-ndjson")

    def remove(path, who):
        request = urllib.request.Request(f"http://127.0.0.1:{node.http_port}{path}", None, {"X-API-Key": who}, method="DELETE")
        try:
            return urllib.request.urlopen(request, timeout=20).status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def batch_of(who, body=lines):
        status, _, said = submit(who, body=body)
        assert status == 202, (status, said)
        path = "/v2/batches/" + json.loads(said)["id"]
        t.wait_until(lambda: json.loads(ask(node, path, X_API_Key=who)[2])["status"] == "succeeded", "the batch ends")
        return path, [json.loads(line) for line in ask(node, path + "/results", X_API_Key=who)[2].splitlines()]

    status, _, said = submit("tk_portal")
    assert status == 403 and b"bulk" in said, (status, said)
    assert submit("tk_bulk", "?model=diabetes-rf-model")[0] == submit("tk_bulk", "?model=no-such-model")[0] == 403
    mine, answers = batch_of("tk_bulk")
    assert answers[0]["prediction"] is not None, answers
    assert [a["error"]["message"] for a in answers[1:]] == ["this client may not use this model"] * 2, answers
    theirs, answers = batch_of("tk_slow2")
    assert "prediction" in answers[1] and "error" not in answers[1], answers
    for path in (theirs, theirs + "/results", "/v2/batches/none"):
        assert ask(node, path, X_API_Key="tk_bulk")[0] == 404 and ask(node, path.replace(theirs, mine), X_API_Key="tk_slow2")[0] == 404
    assert remove(theirs, "tk_bulk") == 404
    for who, expected in (("tk_bulk", {mine}), ("tk_slow2", {theirs}), (key, {mine, theirs})):
        status, _, body = ask(node, "/v2/batches", X_API_Key=who)
        assert status == 200 and {"/v2/batches/" + b["id"] for b in json.loads(body)["batches"]} == expected, (who, body)
    assert ask(node, theirs + "/results", X_API_Key=key)[0] == 200, "administrators see all"
    assert remove(theirs, "tk_slow2") == 204
    # Each line is a request of the month's quota: all of them, or the batch is refused.
    batch_of("tk_ten", lines + lines)
    status, headers, said = submit("tk_ten", body=lines + lines)
    assert status == 429 and int(headers["Retry-After"]) > 60 and b"6 lines" in said, (status, said)
    batch_of("tk_ten")
    assert ask(node, IRIS + "/infer", V2, X_API_Key="tk_ten")[0] == 200
    assert ask(node, IRIS + "/infer", V2, X_API_Key="tk_ten")[0] == 429

    # --- tokens
    good = first.token()
    assert ask(node, IRIS + "/infer", V2, Authorization="Bearer " + good)[0] == 200
    now = int(time.time())
    for what in (first.token(exp=now - 100), first.token(nbf=now + 500), first.token(aud="other"),
                 first.token(iss="https://evil.test"), good[:-3] + "AAA", second.token({"alg": "RS256", "kid": "first"}),
                 base64url('{"alg":"none"}') + "." + good.split(".")[1] + ".",
                 first.token({"alg": "HS256", "kid": "first"})):
        assert ask(node, IRIS + "/infer", V2, Authorization="Bearer " + what)[0] == 401, what
    KeySet.status = 500
    assert ask(node, IRIS + "/infer", V2, Authorization="Bearer " + first.token(sub="web"))[0] == 200, "the keys are kept"
    KeySet.status, KeySet.keys = 200, [first.jwk(), second.jwk()]
    turned = second.token()
    t.wait_until(lambda: ask(node, IRIS + "/infer", V2, Authorization="Bearer " + turned, X_Forwarded_For="192.0.2.250")
                 [0] == 200, "an unknown key makes the node look for new ones", 60, 1)

    # --- rates
    answers = [ask(node, IRIS + "/infer", V2, X_API_Key="tk_slow") for _ in range(6)]
    assert [a[0] for a in answers].count(200) == 2, [a[0] for a in answers]
    assert answers[-1][0] == 429 and 1 <= int(answers[-1][1]["Retry-After"]) <= 60, answers[-1][1]
    for client in ("203.0.113.1", "203.0.113.2"):  # by a proxy that is trusted
        bad = [ask(node, IRIS, X_API_Key="guess", X_Forwarded_For=f"1.1.1.1, {client}")[0] for _ in range(60)]
        assert bad[0] == 401 and bad[-1] == 429 and 50 <= bad.count(401) <= 58, bad

    # --- quotas
    answers = [ask(node, IRIS + "/infer", V2, X_API_Key="tk_small") for _ in range(7)]
    assert [a[0] for a in answers] == [200] * 5 + [429] * 2, [a[0] for a in answers]
    assert int(answers[-1][1]["Retry-After"]) > 0 and b"quota" in answers[-1][2]
    month = time.strftime("%Y%m", time.gmtime())
    t.wait_until(lambda: redis.command("GET", f"troupe:quota:small:{month}") == b"$1\r\n5\r\n", "the count is in Redis")
    assert int(redis.command("TTL", f"troupe:quota:small:{month}")[1:]) > 6 * 86400
    # Another node, which speaks TLS to the same Redis.
    other = stage.troupe({**config, "batches": {}, "redis": {"host": "localhost", "port": tls_port, "tls": True, "tls_ca": str(certificate)}})
    other.wait_ready()
    t.wait_until(lambda: ask(other, IRIS + "/infer", V2, X_API_Key="tk_small")[0] == 429,
                 "another node learns of the count", 30, 0.2)
    for at in (node, other, other):
        assert ask(at, IRIS + "/infer", V2, X_API_Key="tk_both")[0] == 200
    t.wait_until(lambda: redis.command("GET", f"troupe:quota:both:{month}") == b"$1\r\n3\r\n", "both have counted")
    t.wait_until(lambda: ask(node, IRIS + "/infer", V2, X_API_Key="tk_both")[0] == 429 or
                 ask(other, IRIS + "/infer", V2, X_API_Key="tk_both")[0] == 429, "together they use the quota up")
    redis.kill()
    assert ask(node, IRIS + "/infer", V2, X_API_Key=key)[0] == 200, "without Redis"
    assert ask(node, IRIS + "/infer", V2, X_API_Key="tk_small")[0] == 429, "and with what was counted"
    other.stop()

    # --- metrics
    seen = node.metrics()
    for reason in ("no_credentials", "bad_key", "expired_token", "token_audience", "token_issuer",
                   "token_signature", "token_algorithm", "token_key", "model", "class", "admin", "address_rate",
                   "client_rate", "quota"):
        assert seen.total("troupe_guard_refusals_total", door="http", reason=reason) > 0, reason

    # --- reload
    write_keys(entry("fresh", "tk_fresh", per_minute=100000))
    node.signal(signal.SIGHUP)
    t.wait_until(lambda: ask(node, IRIS + "/infer", V2, X_API_Key="tk_fresh", X_Forwarded_For="192.0.2.9")[0] == 200,
                 "the new key is taken")
    assert ask(node, IRIS + "/infer", V2, X_API_Key="tk_portal", X_Forwarded_For="192.0.2.10")[0] == 401, "the old one is gone"
    keys_file.write_text("- {name: a, key: hunter2}")
    node.signal(signal.SIGHUP)
    t.wait_until(lambda: "config_partly_reloaded" in node.stdout() + node.stderr(), "a bad file is told")
    log = node.stdout() + node.stderr()
    assert "guard_not_reloaded" in log and log.count("config_reloaded") == 1, log[-2000:]
    assert re.search(r"config_reloaded.*auth\.keys_file", log), "what was applied is named"
    assert ask(node, IRIS + "/infer", V2, X_API_Key="tk_fresh")[0] == 200, "what was in force stays"
    assert node.stop() == 0, node.stderr()
    log = node.stdout() + node.stderr()
    for secret in (key, "tk_portal", "hunter2", good):
        assert secret not in log, "a secret is in the log"

    # --- what leaves a door open is said, too
    half = stage.path("half.yaml")
    half.write_text(json.dumps({"kafka": {"enabled": False}, "http": {"port": 0}, "metrics": {"port": 0},
                                "auth": {"jwks_file": str(stage.path("jwks.json")), "jwt_issuer": "https://id.test"}}))
    stage.path("jwks.json").write_text(json.dumps({"keys": [first.jwk()]}))
    done = t.run("check", "--config", str(half))
    for words in ("auth.jwks_file has no effect", "auth.jwt_audience is empty"):
        assert "warn    config: " + words in done.stdout and words not in done.stderr, ("said once", done.stdout, done.stderr)

    # --- what can't be used is said at once
    for change, words in (({"keys_file": "/no/such/file"}, ["auth.keys_file", "can't be read"]),
                          ({"keys_file": str(keys_file)}, ["only their sha256"]),
                          ({"keys_file": "", "jwks_url": "", "jwt_issuer": "", "jwt_audience": ""}, ["auth.mode", "auth.keys_file"]),
                          ({"jwks_url": "ftp://x"}, ["auth.jwks_url"]),
                          ({"keys_file": "", "jwks_url": "", "jwks_file": "/nope"}, ["auth.jwks_file", "/nope"]),
                          ({"exempt": "health,all"}, ["auth.exempt", "'all'"])):
        bad = stage.path("bad.yaml")
        bad.write_text(json.dumps({**config, "auth": {**config["auth"], **change}, "metrics": {"port": 0}, "http": {"port": 0},
                                   "grpc": {"enabled": False}}))
        done = t.run("serve", "--config", str(bad))
        lines = [line for line in done.stderr.splitlines() if line.startswith("troupe: ")]
        assert done.returncode == 2 and len(lines) == 1, (change, done.returncode, done.stderr)
        assert all(word in lines[0] for word in words) and "hunter2" not in done.stderr, lines
    provider.shutdown()
