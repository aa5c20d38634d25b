#!/usr/bin/env python3
"""What docs/operations.md and docs/metrics.md say of the node's HTTP paths, checked on a running node: the families it
exposes, /health, /ready, /liveness, and every answer of /admin/faults.
"""

import json
import re

import troupe_test as t

TOKEN = {"Authorization": "Bearer secret-of-the-test"}


def families(text):
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))


with t.Stage() as stage:
    written = dict(re.findall(r"^\| `([a-z_]+)` \| (counter|gauge|histogram|summary) \|", (t.ROOT / "docs/metrics.md").read_text(), re.M))
    assert len(written) > 40, written
    node = stage.troupe({"kafka": {"brokers": "embedded"}, "faults": {"enabled": True}, "admin": {"token": "secret-of-the-test"}})
    node.wait_ready()
    assert node.metrics().total("troupe_ready") == 1
    # Some show with the first sweep of their actor.
    t.wait_until(lambda: len(families(node.get("/metrics")[1].decode())) > 25, "more than 25 families are exposed")
    exposed = families(node.get("/metrics")[1].decode())
    missing = {name: kind for name, kind in exposed.items() if written.get(name) != kind}
    assert not missing, f"docs/metrics.md lacks or mistypes {missing}"

    health = json.loads(node.get("/health")[1])
    assert list(health) == ["status", "model_loaded", "model_name", "model_version", "uptime_seconds", "total_requests",
                            "error_count", "error_rate_percent"], health
    assert json.loads(node.get("/ready")[1]) == json.loads(node.get("/readiness")[1]) == {"status": "ready"}
    assert json.loads(node.get("/liveness")[1]) == {"status": "alive"}

    url = f"http://127.0.0.1:{node.port}/admin/faults"
    # As `curl -d` sends it.
    form = {**TOKEN, "Content-Type": "application/x-www-form-urlencoded"}
    assert t.http("POST", url, '{"crash": "producer"}', form) == (200, b'{"crashed":"producer"}\n')
    assert t.http("POST", url, {"crash": "nobody"}, TOKEN)[0] == 404
    assert t.http("POST", url, {"explode": "producer"}, TOKEN)[0] == 400
    assert t.http("POST", url, {"crash": "producer"})[0] == 401

    def healed():
        tree = json.loads(t.http("GET", f"http://127.0.0.1:{node.port}/admin/tree", None, TOKEN)[1])
        (producer,) = [c for c in t.actors(tree["supervisor"]) if c["name"] == "producer"]
        return producer["running"] and producer["restarts"] == 1 and producer["last_reason"] == "injected fault"

    t.wait_until(healed, "the producer runs again")
    assert node.metrics().total("troupe_actor_restarts_total", actor="producer") == 1
    assert '"event":"actor_restarted"' in node.stdout()
    assert node.stop() == 0, node.stderr()

    plain = stage.troupe({"kafka": {"brokers": "embedded"}, "admin": {"token": "secret-of-the-test"}})
    plain.wait_ready()
    assert t.http("POST", f"http://127.0.0.1:{plain.port}/admin/faults", {"crash": "random"}, TOKEN)[0] == 403
    assert plain.stop() == 0, plain.stderr()
