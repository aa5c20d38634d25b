#!/usr/bin/env python3
"""A real Prometheus scrapes a running node with the rules of the chart: every rule evaluates, every metric and label that rules
and dashboards ask for is exposed, every query of the dashboards returns data, alerts fire and resolve, and the lag in seconds
reaches behind what was read."""

import collections
import hashlib
import http.server
import json
import random
import re
import shutil
import threading
import time

import queries
import small_registry
import troupe_test as t
from kafka_client import Client, Record
from prometheus import Prometheus

if not shutil.which("prometheus"):
    t.skip("prometheus is missing: apt-get install prometheus")

SECRET, KEY = "secret-of-the-test", "tk_key-of-the-test"
# What this node can't be brought to show, and why.
NOT_HERE = {
    "troupe_transactions_total": "kafka.delivery: exactly_once, which the broker in the process does not have",
    "troupe_transaction_records_total": "the same",
    "troupe_transaction_commit_seconds": "the same",
    "troupe_actor_stuck": "an actor hangs that can't be replaced: one that can be is, at once, and counts as abandoned",
    "troupe_registry_rejected_versions_total": "a version of the registry that can't be served",
}
SILENT = {
    "pipeline: Transactions": NOT_HERE["troupe_transactions_total"],
    "pipeline: Commit": NOT_HERE["troupe_transactions_total"],
    "actors: Stuck actors": NOT_HERE["troupe_actor_stuck"],
    "models: Polls, and versions that can't be served": NOT_HERE["troupe_registry_rejected_versions_total"],
}


class Evaluation(http.server.BaseHTTPRequestHandler):
    """What an evaluation of the models' accuracy pushes, as a Pushgateway shows it."""

    def do_GET(self):
        body = b'ml_accuracy_ratio{model="iris-classifier",version="1"} 0.93\n'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def quoted(query):
    """The query as a dashboard's variables make it, with all and with one chosen."""
    return [queries.filled(query), queries.filled(query, namespace="ml", job="troupe")]


with t.Stage() as stage:
    redis, registry = stage.redis(), small_registry.SmallRegistry(stage)
    keys = stage.path("keys.yaml")
    keys.write_text(f"- name: test\n  sha256: {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    nobody, port = t.free_ports(2)
    evaluation = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evaluation)
    stage.closing.callback(evaluation.shutdown)
    threading.Thread(target=evaluation.serve_forever, daemon=True).start()

    # --- before there is anything: no rule fails, none fires
    prometheus = Prometheus(stage, {"troupe": port, "evaluation": evaluation.server_address[1]})
    for rule in prometheus.evaluated():
        assert rule["health"] == "ok", (rule["name"], rule.get("lastError"))
    t.wait_until(lambda: prometheus.query('up{job="troupe"} == 0'), "the target is down")
    assert not prometheus.alerts() and not prometheus.alerts("pending"), prometheus.ask("alerts")

    node = stage.troupe({
        "metrics": {"port": port}, "http": {}, "grpc": {}, "log": {"format": "json"},
        "kafka": {"brokers": "embedded", "credit_records": 50, "parking_topic": "inference-requests-parked", "output_order": "partition"},
        "models": {"directory": str(t.ROOT / "models"), "default": "diabetes-rf-model", "stall_limit": "500ms"},
        "breaker": {"open": "2s"}, "supervision": {"stuck_after": "1s"},
        "redis": {"host": "127.0.0.1", "port": redis.port}, "cache": {"mode": "on"}, "mlflow": registry.settings,
        "batches": {"directory": str(stage.path("batches"))}, "auth": {"mode": "required", "keys_file": str(keys)},
        "tracing": {"endpoint": f"http://127.0.0.1:{nobody}", "sample_ratio": 1},
        "faults": {"enabled": True}, "admin": {"token": SECRET},
    })
    node.wait_ready()
    brokers = t.wait_until(lambda: re.search(r'"brokers":"([^"]+)"', node.stdout()), "the log tells of the start")[1]
    door, admin = f"http://127.0.0.1:{node.http_port}", f"http://127.0.0.1:{node.port}"
    environment = {"TROUPE_ADMIN_TOKEN": SECRET, "TROUPE_API_KEY": KEY}

    def load(*words):
        done = t.run("load", *map(str, words), "--json", environment=environment, deadline=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def fault(name, seconds, **fields):
        status, body = t.http("POST", f"{admin}/admin/faults", {"fault": name, "duration": f"{seconds}s", **fields}, {"Authorization": f"Bearer {SECRET}"})
        assert status == 201, body
        return json.loads(body)["id"]

    def end(fault):
        status, body = t.http("DELETE", f"{admin}/admin/faults/{fault}", None, {"Authorization": f"Bearer {SECRET}"})
        assert status == 200, body

    def post(path, **fields):
        status, body = t.http("POST", admin + path, fields, {"Authorization": f"Bearer {SECRET}"})
        assert status in (200, 202), (path, body)

    def over_kafka(count, partition=0, age_ms=0, **more):
        with Client(brokers) as client:
            stamp = int(time.time() * 1000) - age_ms
            client.produce("inference-requests", [
                Record(value=json.dumps({"request_id": f"r-{stamp}-{n}", "features": [random.random()] * (4 if "model" in more else 10), **more}).encode(),
                       timestamp=stamp, partition=partition) for n in range(count)])

    # --- traffic over every door, good and bad, for more than two scrapes
    load("--brokers", brokers, "--records", 800, "--rate", 200)
    load("--http", door, "--seconds", 4, "--rate", 50)
    load("--http", door, "--seconds", 4, "--rate", 50, "--model", "iris-classifier", "--features", 4)
    load("--grpc", f"127.0.0.1:{node.grpc_port}", "--requests", 100, "--connections", 2, "--model", "diabetes-rf-model")
    load("--brokers", brokers, "--raw", str(stage.path("bad.jsonl"))) if stage.path("bad.jsonl").write_text('{"value": "no request"}\n') else None
    assert t.http("POST", f"{door}/score", {"data": [[1, 2, 3]]}, {"X-API-Key": KEY})[0] == 400
    assert t.http("POST", f"{door}/score", {"data": [[1, 2, 3]]})[0] == 401
    rows = "".join(json.dumps({"features": [0.01 * n] * 10}) + "\n" for n in range(50))
    assert t.http("POST", f"{door}/v2/batches?model=diabetes-rf-model", rows, {"X-API-Key": KEY, "Content-Type": "application/x-ndjson"})[0] == 202

    # --- what only happens when it happens
    post("/admin/rollout", model="diabetes-rf-model", version="2", strategy="shadow")
    over_kafka(50)
    t.wait_until(lambda: node.metrics().total("troupe_rollout_shadow_requests_total") > 0, "the shadow has requests")
    post("/admin/models/promote", model="diabetes-rf-model")
    post("/admin/rollout", model="diabetes-rf-model", version="3", strategy="canary", percent=50)
    over_kafka(50)
    t.wait_until(lambda: node.metrics().total("troupe_rollout_requests_total") > 0, "the rollout has requests")
    slow = fault("shard_delay", 300, model="iris-classifier", delay="500ms")

    def one_waited():
        over_kafka(1, model="iris-classifier")
        over_kafka(1)
        return node.metrics().total("troupe_output_order_wait_seconds_count") > 0

    t.wait_until(one_waited, "an answer waits for the one before it", 60, 0.5)
    end(slow)
    fault("actor_crash", 1, actor="producer")
    redis_away = fault("redis_cut", 300)
    load("--brokers", brokers, "--records", 100, "--rate", 200, "--distinct", 100)
    fails = fault("shard_fail", 300, model="iris-classifier")
    over_kafka(20, model="iris-classifier")
    t.wait_until(lambda: node.metrics().total("troupe_breaker_openings_total", name="iris-classifier/1") > 0, "the breaker opens")
    over_kafka(20, model="iris-classifier")
    t.wait_until(lambda: node.metrics().total("troupe_parked_records_total") > 0, "records are parked", 60)

    # --- alerts fire
    expected = {"TroupeFaultsActive", "TroupeActorRestarts", "TroupeDeadLetters", "TroupeRecordsParked"}
    t.wait_until(lambda: expected <= prometheus.alerts(), f"{expected} fire", 60, 0.2)
    waiting = {"TroupeRedisDown"}
    t.wait_until(lambda: waiting <= prometheus.alerts("pending"), f"{waiting} are pending", 60, 0.2)
    for alert in prometheus.ask("alerts")["alerts"]:
        assert "error expanding" not in json.dumps(alert), alert

    # --- a hang: the lag in seconds is that of the records, unread ones included
    hang = fault("shard_hang", 300)
    over_kafka(200, partition=1, age_ms=60_000)

    try:  # a caller that does not wait
        t.http("POST", f"{door}/score", {"data": [[random.random() for _ in range(10)]]}, {"X-API-Key": KEY}, timeout=0.5)
    except OSError:
        pass

    def lag(name):
        return node.metrics().total(name, partition="1")

    t.wait_until(lambda: lag("troupe_consumer_lag_records") > 100, "records wait unread", 60)
    seen = {name: lag(f"troupe_{name}") for name in ("consumer_lag_seconds", "consumer_lag_records", "credit_in_use_records", "credit_oldest_age_seconds")}
    print(seen, flush=True)
    assert 60 <= seen["consumer_lag_seconds"] < 120 and 0 < seen["credit_in_use_records"] <= 50 and seen["credit_oldest_age_seconds"] < 55, seen
    t.wait_until(lambda: prometheus.query("max by (namespace, job) (troupe_consumer_lag_seconds) > 60"), "Prometheus sees the lag")
    t.wait_until(lambda: node.metrics().total("troupe_actors_abandoned") > 0, "an actor is stuck, and replaced", 60)

    end(hang)
    t.wait_until(lambda: lag("troupe_consumer_lag_records") == lag("troupe_consumer_lag_seconds") == 0, "the partition is worked off", 60)

    # --- every rule, name, label and query
    going_on = stage.start([t.TROUPE, "load", "--brokers", brokers, "--records", 100_000, "--rate", 50, "--distinct", 100_000], "load")
    for rule in prometheus.evaluated():
        assert rule["health"] == "ok", (rule["name"], rule.get("lastError"))
    catalogue = queries.catalogue()

    def shown():
        """-> {sample name: labels}; families that are to come have come."""
        found = collections.defaultdict(set)
        for name, has in node.metrics():
            found[name] |= {label for label, _ in has}
        absent = {re.sub(r"_(bucket|sum|count)$", "", name) for name in catalogue.keys() - found.keys()}
        assert set(NOT_HERE) <= absent, f"is exposed after all: {set(NOT_HERE) - absent}"
        missing.clear()
        missing.update(absent - set(NOT_HERE))
        return not missing and found

    missing = set()
    try:
        labels = t.wait_until(shown, "every metric of docs/metrics.md is exposed", 60)
    except AssertionError:
        raise AssertionError(f"never exposed: {sorted(missing)}") from None
    for name, has in labels.items():
        assert has == catalogue.get(name), f"{name} has {sorted(has)}, docs/metrics.md says {sorted(catalogue.get(name, ()))}"

    def without_data():
        return {where for where, query in queries.dashboard_queries() for filled in quoted(query) if not prometheus.query(filled)}

    try:
        t.wait_until(lambda: without_data() <= SILENT.keys(), "every query of the dashboards returns data", 60, 1)
    except AssertionError:
        raise AssertionError(f"no data: {sorted(without_data() - SILENT.keys())}") from None
    t.wait_until(lambda: without_data() >= SILENT.keys(), f"none of {SILENT.keys()} has data after all", 60, 1)
    t.wait_until(lambda: not {rule["name"] for rule in prometheus.rules() if rule["type"] == "recording" and not prometheus.query(rule["name"])},
                 "every recording rule has data", 60, 1)

    # --- alerts resolve
    going_on.kill()
    for active in (redis_away, fails):
        end(active)
    t.wait_until(lambda: not {"TroupeFaultsActive"} & prometheus.alerts() and not waiting & prometheus.alerts("pending"), "what is over is no alert", 60, 0.2)

    # --- a node that is gone is seen
    node.stop()
    for name in ("TroupeTargetDown", "TroupeAbsent"):
        expression = next(rule["expr"] for rule in queries.rules() if rule.get("alert") == name)
        t.wait_until(lambda: prometheus.query(expression), f"{name} sees it", 30, 0.2)
    print(f"{len(queries.rules())} rules, {len(queries.dashboard_queries())} queries, {len(labels)} names")
