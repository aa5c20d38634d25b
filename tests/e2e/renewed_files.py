#!/usr/bin/env python3
"""Certificates and API keys of the HTTP door that are renewed while a node runs, as Kubernetes does it with a mounted Secret
(a link is turned to another folder, nobody sends a signal): the door takes them by itself, and keeps what it has as long
as the new ones can't be used."""

import hashlib
import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request

import troupe_test as t

ROW = {"data": [[0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0, 0.02, -0.02]]}

with t.Stage() as stage:
    secret = stage.path("secret")
    secret.mkdir()

    def certificate(name):
        folder = secret / f"..{name}"
        folder.mkdir()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-days", "2", "-addext",
                        "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")],
                       check=True, capture_output=True)
        return folder

    def keys(folder, key):
        (folder / "keys.yaml").write_text(json.dumps([{"name": "portal", "sha256": hashlib.sha256(key.encode()).hexdigest()}]))

    def mount(folder):
        """What the kubelet does: all files of the volume change at one moment."""
        os.symlink(folder.name, secret / "..new")
        os.rename(secret / "..new", secret / "..data")

    def served():
        return ssl.get_server_certificate(("127.0.0.1", node.http_port))

    def status(key):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        asked = urllib.request.Request(f"https://127.0.0.1:{node.http_port}/score", json.dumps(ROW).encode(),
                                       {"Content-Type": "application/json", "X-API-Key": key})
        try:
            with urllib.request.urlopen(asked, context=context, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as refused:
            return refused.code

    def events(name):
        return [line for line in map(json.loads, node.stdout().splitlines()) if line["event"] == name]

    first, second, third = map(certificate, ("first", "second", "third"))
    keys(first, "tk_first")
    keys(second, "tk_second")
    keys(third, "tk_third")
    mount(first)
    for name in ("tls.crt", "tls.key", "keys.yaml"):
        os.symlink(f"..data/{name}", secret / name)
    node = stage.troupe({"kafka": {"enabled": False}, "log": {"format": "json"},
                         "http": {"tls_cert": str(secret / "tls.crt"), "tls_key": str(secret / "tls.key")},
                         "auth": {"mode": "required", "keys_file": str(secret / "keys.yaml")}})
    node.wait_ready()
    assert served() == (first / "tls.crt").read_text() and (status("tk_first"), status("tk_second")) == (200, 401)

    mount(second)
    t.wait_until(lambda: served() == (second / "tls.crt").read_text(), "the new certificate is served", 60, 0.2)
    t.wait_until(lambda: status("tk_second") == 200, "the new key is taken", 60, 0.2)
    assert status("tk_first") == 401
    t.wait_until(lambda: {e["applied"] for e in events("config_reloaded")} == {"http.tls_cert", "auth.keys_file"}, "the log says so")

    # --- what can't be used changes nothing, is said once, and does not keep the next from being taken
    other = secret / "..other"
    other.mkdir()
    (other / "tls.crt").write_text((third / "tls.crt").read_text())
    (other / "tls.key").write_text((first / "tls.key").read_text())
    (other / "keys.yaml").write_text("no keys at all")
    mount(other)
    t.wait_until(lambda: events("tls_not_reloaded") and events("guard_not_reloaded"), "the log says why", 60)
    assert "key values mismatch" in events("tls_not_reloaded")[0]["error"]
    assert served() == (second / "tls.crt").read_text() and status("tk_second") == 200
    mount(third)
    t.wait_until(lambda: served() == (third / "tls.crt").read_text() and status("tk_third") == 200, "the mended ones are taken", 60, 0.2)
    assert len(events("tls_not_reloaded")) == len(events("guard_not_reloaded")) == 1
    assert node.stop() == 0
