#!/usr/bin/env python3
"""What a real Kafka can't or won't do for a node: `troupe check` finds it out by asking, without disturbing a node that
runs; a node says the same, and goes on trying, since all of it may be mended there."""

import json

import troupe_test as t

ELSEWHERE = {"http.enabled": "false", "grpc.enabled": "false", "metrics.port": "0", "metrics.bind": "127.0.0.1"}
NO_COORDINATOR = "the brokers have no coordinator for the transactional id 'scorer-0"

with t.Stage() as stage:
    kafka = stage.kafka()
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        kafka.client.create_topic(topic, 2)

    def settings(**more):
        return {"kafka": {"brokers": kafka.bootstrap, "delivery": "exactly_once", "transactional_id": "scorer-0", **more}}

    def check(status, **more):
        """-> the answers about the transactions, and all others are good."""
        flags = {**ELSEWHERE, **{f"kafka.{key}": value for key, value in settings(**more)["kafka"].items()}}
        done = t.run("check", "--json", *(f"--set={key}={value}" for key, value in flags.items()))
        assert done.returncode == status, (done.stdout, done.stderr)
        checks = json.loads(done.stdout)["checks"]
        (found,) = [one for one in checks if one["what"].startswith("transactions of ")]
        assert all(one["ok"] for one in checks if one is not found), checks
        assert found["ok"] == (status == 0), found
        print(found["detail"])
        return found["detail"]

    def says(node, part):
        status, body = node.get("/ready")
        return status == 503 and part in body.decode()

    # --- what brokers want of a group's members

    def member(name, value):
        """-> what check says of the group, and a node's reason not to be ready."""
        plain = {"kafka": {"brokers": kafka.bootstrap, "properties": {name: value}}}
        node = stage.troupe(plain)
        done = t.run("check", "--json", "--config", str(node.config), *(f"--set={key}={value}" for key, value in ELSEWHERE.items()))
        (found,) = [one for one in json.loads(done.stdout)["checks"] if one["what"] == "group inference-service"] or [None]
        key = f"kafka.properties.{name}"
        t.wait_until(lambda: says(node, key), f"/ready names {key}", 30)
        (why,) = json.loads(node.get("/ready")[1])["reasons"]
        assert node.stop() == 0, node.stderr()
        return found, why, node

    found, why, node = member("session.timeout.ms", "1")
    assert not found["ok"] and found["detail"].startswith(f"{node.config}:"), found
    assert "kafka.properties.session.timeout.ms: 1 is not allowed by the brokers; expected 1000 to 1800000" in found["detail"], found
    assert "refuse a session.timeout.ms of 1: set kafka.properties.session.timeout.ms" in why, why
    lines = [one for one in node.log() if one["event"] == "INVALID_SESSION_TIMEOUT"]  # one in 30 s
    assert lines and all("set kafka.properties.session.timeout.ms" in one["msg"] for one in lines), lines
    found, why, _ = member("group.protocol", "consumer")  # whose absence brokers of 3.9 pass over
    assert not found["ok"] and "kafka.properties.group.protocol: the brokers have no 'consumer'" in found["detail"], found
    assert "joining group inference-service; if it stays so, the brokers have no kafka.properties.group.protocol: consumer" in why, why

    # --- no room for the transaction log

    kafka.change({"transaction.state.log.replication.factor": "3", "transaction.state.log.min.isr": "2"})
    detail = check(1)
    assert NO_COORDINATOR + "-check'" in detail and detail.endswith("(here 3 and 2, with 1 broker)"), detail
    node = stage.troupe(settings(transaction_timeout="60s"))
    t.wait_until(lambda: says(node, NO_COORDINATOR + "'"), "/ready says why", 30)
    kafka.change({"transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1"})
    node.wait_ready()  # what waiting may mend

    # --- asked beside a node that runs: it keeps its transactions

    load = stage.load(kafka, 3000, 500)
    t.wait_until(lambda: node.metrics().total("troupe_transactions_total", result="committed") > 3, "transactions are committed")
    assert check(0) == "begun as 'scorer-0-check'"
    assert check(0) == "begun as 'scorer-0-check'"
    assert load.wait(60) == 0, load.stdout()
    assert node.stop() == 0
    assert "a new producer is needed" not in node.stdout(), node.stdout()

    # --- longer than the broker allows, and not ours

    kafka.change({"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                  "allow.everyone.if.no.acl.found": "true", "transaction.max.timeout.ms": "20000"})
    detail = check(1, transaction_timeout="21s")
    assert "kafka.transaction_timeout, 21 s: lower it, or raise the broker's transaction.max.timeout.ms" in detail, detail
    kafka.client.allow_transactional_ids("scorer", "somebody")
    detail = check(1)
    assert "'scorer-0-check': it needs Write and Describe on ids that begin with 'scorer-0'" in detail and "kafka-acls.sh --add" in detail, detail
    check(0, transactional_id="another")
    node = stage.troupe(settings())
    t.wait_until(lambda: says(node, "transactional id 'scorer-0': it needs Write and Describe"), "/ready says which right", 30)
    assert node.running, "somebody may give it the right"
    assert node.stop() == 0, node.stderr()

    # What reading waits for does not hide that nothing could be written, or the other way round.
    both = stage.troupe(settings(requests_topic="nowhere"))
    t.wait_until(lambda: says(both, "it needs Write and Describe") and says(both, "nowhere: "), "/ready says both", 30)
    reasons = json.loads(both.get("/ready")[1])["reasons"]
    assert len(reasons) == 2 and sorted("Kafka producer: " in why for why in reasons) == [False, True], reasons
    assert both.stop() == 0, both.stderr()

    refused = [e for e in map(json.loads, node.stdout().splitlines()) if e["event"] == "TRANSACTION"]
    assert refused and all(e["level"] == "error" and "kafka-acls.sh" in e["msg"] for e in refused), refused
