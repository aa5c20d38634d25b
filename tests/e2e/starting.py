#!/usr/bin/env python3
"""Readiness at the start of a node on a real Kafka: it is not ready before the brokers have let it in, so that a rollout
with a wrong broker, certificate, password or right ends nothing that works; after kafka.ready_timeout it is ready without
them, and once it was let in it stays ready when they go."""

import json
import subprocess

import troupe_test as t

TOPICS = ("inference-requests", "inference-results", "inference-requests-dlq")
NEVER = "24h"
ROW = {"data": [[0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0, 0.02, -0.02]]}
HELD = "starting: Kafka has not let this node in yet: "

with t.Stage() as stage:
    def node_on(brokers, environment=None, **kafka):
        return stage.troupe({"kafka": {"brokers": brokers, **kafka}, "http": {}, "grpc": {}, "models": {"default": "diabetes-rf-model"},
                             "log": {"format": "json"}}, environment=environment)

    def ready(node):
        status, body = node.get("/ready")
        return status, json.loads(body)

    def held(node, *parts):
        status, said = ready(node)
        return status == 503 and any(why.startswith(HELD) and all(part in why for part in parts) for why in said["reasons"])

    def events(node):
        return [json.loads(line)["event"] for line in node.stdout().splitlines()]

    def post(node):
        return t.http("POST", f"http://127.0.0.1:{node.http_port}/score", ROW)[0]

    # --- nobody listens at the address: not ready, and why; after the bound ready without Kafka
    (nobody,) = t.free_ports(1)
    node = node_on(f"127.0.0.1:{nobody}", ready_timeout=NEVER)
    t.wait_until(lambda: held(node, f"127.0.0.1:{nobody}: Connection refused"), "/ready says why", every=0.01)
    assert node.get("/liveness")[0] == 200 and node.get("/health")[0] == 200
    door = f"http://127.0.0.1:{node.http_port}"
    assert json.loads(t.http("GET", f"{door}/v2/health/ready")[1]) == {"ready": False}
    assert t.http("GET", f"{door}/ready")[0] == 503
    told = t.run("health", "--url", f"127.0.0.1:{node.port}")
    assert told.returncode == 1 and HELD in told.stderr and "Connection refused" in told.stderr, told.stderr
    assert node.metrics().total("troupe_ready") == 0
    assert post(node) == 200, "who asks all the same is answered"
    t.wait_until(lambda: "kafka_awaited" in events(node), "the log says that it waits")
    assert "ready" not in events(node)
    assert node.stop() == 0, node.stderr()
    node = node_on(f"127.0.0.1:{nobody}", ready_timeout="3s")
    t.wait_until(lambda: held(node, "Connection refused") or "ready" in events(node), "it waits", every=0.01)
    node.wait_ready()
    status, said = ready(node)
    assert status == 200 and any("Connection refused" in why for why in said["degraded"]), said
    assert t.run("health", "--url", f"127.0.0.1:{node.port}").stdout.startswith("ready, degraded: Kafka: "), said
    t.wait_until(lambda: {"ready", "kafka_away"} <= set(events(node)), "the log says both")
    assert post(node) == 200 and node.stop() == 0

    # --- 0: not waited for
    node = node_on(f"127.0.0.1:{nobody}", ready_timeout="0s")
    t.wait_until(lambda: node.get("/liveness")[0] == 200, "the node answers")
    node.wait_ready()
    assert "not_ready" not in events(node) and "kafka_awaited" not in events(node), events(node)
    assert node.stop() == 0

    kafka = stage.kafka(tls=True)
    for topic in TOPICS:
        kafka.client.create_topic(topic, 2)

    # --- what no broker will ever let in ends, and was not ready before
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=another authority", "-days", "2",
                    "-keyout", str(stage.path("other.key")), "-out", str(stage.path("other.pem"))], check=True, capture_output=True)

    def secured(password=kafka.secret, authority=kafka.authority):
        return {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "$ConnectionString",
                "sasl.password": password, "ssl.ca.location": str(authority)}

    wrong = {"authority": (kafka.tls_bootstrap, secured(authority=stage.path("other.pem")), "ssl.ca.location"),
             "password": (kafka.tls_bootstrap, secured(password="wrong"), "sasl.password"),
             "TLS to plaintext": (kafka.bootstrap, {"security.protocol": "SSL"}, "security.protocol")}
    nodes = {what: node_on(brokers, properties=properties, ready_timeout=NEVER) for what, (brokers, properties, _) in wrong.items()}
    seen = {what: set() for what in wrong}

    def all_ended():
        for what, one in nodes.items():
            try:
                seen[what].add(one.get("/ready")[0])
            except OSError:  # not open yet, or gone
                pass
        return not any(one.running for one in nodes.values())

    t.wait_until(all_ended, "the nodes have given up", 60, every=0.005)
    for what, one in nodes.items():
        assert one.wait() == 1 and wrong[what][2] in one.stderr(), (what, one.stderr())
        assert seen[what] == {503}, (what, seen[what])
        assert "ready" not in events(one), (what, events(one))
        print(f"{what:18} {one.stderr().strip().splitlines()[-1]}")

    # --- let in: ready, also where the topics are not there yet, and it stays so without brokers
    good = {"plain": node_on(kafka.bootstrap, ready_timeout=NEVER),
            "secured": node_on(kafka.tls_bootstrap, group="second", properties=secured(), ready_timeout=NEVER),
            "named": node_on(kafka.bootstrap, group="third", instance_id="scorer-0", ready_timeout=NEVER),
            "exactly once": node_on(kafka.bootstrap, group="fourth", delivery="exactly_once", ready_timeout=NEVER),
            "no topics": node_on(kafka.bootstrap, group="fifth", requests_topic="none-yet", ready_timeout=NEVER)}
    for one in good.values():
        one.wait_ready()
    t.wait_until(lambda: "partitions_assigned" in events(good["plain"]), "the partitions are there")
    kafka.stop()
    t.wait_until(lambda: "degraded" in ready(good["plain"])[1], "the node misses the brokers")
    assert ready(good["plain"])[0] == 200 and "not_ready" not in events(good["plain"])
    for what, one in good.items():
        assert one.stop() == 0, (what, one.stderr())

    # --- a right that is missing: not ready until somebody gives it (the library asks for topics again after minutes)
    kafka.start()
    kafka.change({"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                  "allow.everyone.if.no.acl.found": "true"})
    rights = {"transactional id": ({"delivery": "exactly_once", "transactional_id": "mine-0"}, "transactional id 'mine-0': it needs Write"),
              "group": ({"group": "mine"}, "Group authorization failed"),
              "topic": ({"requests_topic": "mine-requests"}, "Topic authorization failed")}
    kafka.client.create_topic("mine-requests", 2)
    for kind, (settings, reason) in rights.items():
        kafka.client.allow(kind, "mine", "somebody")
        node = node_on(kafka.bootstrap, ready_timeout=NEVER, **settings)
        t.wait_until(lambda: held(node, reason), f"/ready says which right: {kind}")
        print(f"{kind:18} {ready(node)[1]['reasons']}")
        if kind != "topic":
            kafka.client.allow(kind, "mine", "ANONYMOUS")
            node.wait_ready()
            t.wait_until(lambda: "ready" in events(node), "the log says it too")
        assert events(node).count("ready") == (kind != "topic"), (kind, events(node))
        assert node.stop() == 0, node.stderr()
