#!/usr/bin/env python3
"""What stands against an actor is told to people: the open breaker of a model is in /ready, in `troupe tree`, in
`troupe models status`, in the model's own readiness and in the reason of a scenario that failed over it, with the time of the next
probe, and is gone once a probe has succeeded. So is an engine that hangs, which keeps no other model waiting."""

import json
import re
import signal
import threading

import http2
import troupe_test as t

SECRET = "secret-of-the-test"
MODEL = "diabetes-rf-model"

with t.Stage() as stage:
    node = stage.troupe({"kafka": {"enabled": False}, "http": {}, "grpc": {}, "models": {"default": MODEL}, "cache": {"mode": "off"},
                         "breaker": {"open": "4s"}, "admin": {"token": SECRET}, "faults": {"enabled": True}})
    node.wait_ready()

    def cli(*words):
        done = t.run(*words, "--url", f"127.0.0.1:{node.port}", environment={"TROUPE_ADMIN_TOKEN": SECRET})
        return done.returncode, done.stdout, done.stderr

    def score():
        return t.http("POST", f"http://127.0.0.1:{node.http_port}/score", {"data": [[0.01] * 10]}, {})[0]

    def degraded():
        return json.loads(node.get("/ready")[1]).get("degraded", [])

    def asked(path, body=None):
        status, answer = t.http("GET" if body is None else "POST", f"http://127.0.0.1:{node.http_port}{path}", body)
        return status, json.loads(answer)

    def listed(body):
        return {one["state"] for one in asked("/v2/repository/index", body)[1] if one["name"] == MODEL and one["version"] == version}

    def model_ready():
        """ModelReady over gRPC: the answer's only field is `bool ready = 1`."""
        with http2.Connection(node.grpc_port) as connection:
            name = MODEL.encode()
            reply = connection.call("/inference.GRPCInferenceService/ModelReady", b"\x0a" + bytes([len(name)]) + name)
            assert reply.status == http2.OK, reply
            return reply.message == b"\x08\x01"

    assert score() == 200 and degraded() == []
    version = asked(f"/v2/models/{MODEL}")[1]["versions"][-1]
    assert asked(f"/v2/models/{MODEL}/ready") == (200, {"name": MODEL, "ready": True}) and model_ready()
    assert listed({"ready": True}) == {"READY"}
    assert cli("fault", "inject", "shard_fail", "--model", MODEL)[0] == 0
    t.wait_until(lambda: score() == 503, "the breaker is open")

    def told_of_breaker():  # half-open, it says something else, until a request was let in and failed
        score()
        said = [why for why in degraded() if not why.startswith("fault active")]
        return len(said) == 1 and re.fullmatch(
            rf"(breaker {MODEL}/\d+) is open, the model keeps failing and its records wait; next probe in [1-4] s", said[0])

    actor = t.wait_until(told_of_breaker, "/ready tells of it")[1]
    assert node.get("/ready")[0] == 200

    # Half-open, the next request is let in: it is the probe, and the model counts as ready for it.
    def said_of_model():
        status, answer = asked(f"/v2/models/{MODEL}/ready")
        return answer if status == 503 else score() and None

    answer = t.wait_until(said_of_model, "the model is not ready")
    assert answer["ready"] is False and "its breaker is open; it is tried again" in answer["reason"], answer
    t.wait_until(lambda: (score(), not model_ready())[1], "nor over gRPC")
    t.wait_until(lambda: (score(), listed({}) == {"UNAVAILABLE"} and listed({"ready": True}) == set())[1], "nor in the index")
    status, out, err = cli("models", "status")
    assert status == 0 and re.search(rf"^{MODEL} +{version} .*\n    its breaker is (open|half-open)", out, re.M), out + err
    (told,) = [v for v in json.loads(cli("models", "status", "--json")[1])["versions"] if "notice" in v]
    assert told["model"] == MODEL and told["notice"].startswith("its breaker is "), told

    only = json.loads(cli("models", "status", MODEL, "--json")[1])["versions"]
    assert only and {v["model"] for v in only} == {MODEL}, only
    status, out, err = cli("models", "status", "nosuch")
    assert status == 1 and f"there is no model nosuch on this node; it has diabetes-linear, {MODEL}" in err and not out, (status, out, err)

    status, out, err = cli("tree")
    assert status == 0 and re.search(rf"{actor} +running .*  is (open|half-open).*$", out, re.M), out + err
    tree = json.loads(cli("tree", "--json")[1])
    assert [c["name"] for c in t.actors(tree["supervisor"]) if "notice" in c] == [actor], tree

    # What is worse than it should be already would hide what a fault does.
    file = stage.path("degraded.yaml")
    crash = "warm_up: %s\nwindow: 1s\nsteps: [{fault: actor_crash, actor: scheduler}]\n"
    steady = "steady_state: {api: {errors: 1}, degraded: %s}\n"
    file.write_text(steady % "false" + crash % "3s")
    status, out, err = cli("fault", "run", str(file), "--json")
    assert status == 3 and re.search(rf"not steady, nothing injected: degraded: {actor} is", json.loads(out)["error"]), out + err
    file.write_text(steady % "true" + crash % "30s")
    status, out, err = cli("fault", "run", str(file), "--json")
    assert status == 0, out + err

    assert cli("fault", "stop", "--all")[0] == 0
    t.wait_until(lambda: score() == 200, "a probe has succeeded")
    t.wait_until(lambda: degraded() == [], "/ready says nothing of it any more")
    assert "notice" not in cli("tree", "--json")[1] + cli("models", "status", "--json")[1]
    assert asked(f"/v2/models/{MODEL}/ready")[0] == 200 and model_ready() and listed({"ready": True}) == {"READY"}

    done = threading.Event()
    traffic = threading.Thread(target=lambda: [score() for _ in iter(done.is_set, True)])
    traffic.start()
    try:
        file = stage.path("scenario.yaml")
        file.write_text("steady_state: {api: {p95: 5s, p99: 5s, errors: 1}}\nwindow: 1s\nrecover_within: 1s\n"
                        f"steps: [{{fault: shard_fail, model: {MODEL}, duration: 1s}}]\n")
        status, out, err = cli("fault", "run", str(file), "--json")
    finally:
        done.set()
        traffic.join()
    (step,) = json.loads(out)["steps"]
    assert status == 1 and re.search(rf"not recovered within 1 s: .*{actor} is (open|half-open)", step["why"]), (step, err)
    assert "troupe_breaker_state" not in out, out

    # A fault that somebody else ended shows nothing, nor does a node that is gone.
    def run_with(fault, disturb):
        file.write_text("steady_state: {api: {p95: 5s, p99: 5s, errors: 1}}\nwindow: 1s\nrecover_within: 1s\nsteps: [%s]\n" % fault)
        running = stage.start([t.TROUPE, "fault", "run", str(file), "--json", "--url", f"127.0.0.1:{node.port}"], "run",
                              environment={"TROUPE_ADMIN_TOKEN": SECRET})
        t.wait_until(lambda: "step 1 of 1: injecting" in running.stderr(), "the step has begun")
        t.wait_until(lambda: "active" in cli("fault", "list")[1], "the fault is there")
        disturb()
        status = running.wait(60)
        (step,) = json.loads(running.stdout())["steps"]
        return status, step["outcome"], step["why"]

    t.wait_until(lambda: score() == 200 and degraded() == [], "the node is whole again")
    status, outcome, why = run_with("{fault: shard_delay, delay: 1ms, duration: 1m}", lambda: cli("fault", "stop", "--all"))
    assert (status, outcome) == (1, "failed") and why.startswith("somebody else stopped it after "), why
    status, outcome, why = run_with("{fault: shard_delay, delay: 1ms, duration: 10s}", lambda: node.signal(signal.SIGKILL))
    assert (status, outcome) == (1, "failed") and re.fullmatch(r"the node has not answered for \d\d s", why), why

    # --- an engine that hangs
    node = stage.troupe({"kafka": {"enabled": False}, "http": {}, "models": {"default": MODEL, "time_limit": "300ms", "max_hung": 1},
                         "cache": {"mode": "off"}, "admin": {"token": SECRET}, "faults": {"enabled": True}, "log": {"format": "json"}})
    node.wait_ready()
    assert cli("fault", "inject", "shard_hang", "--model", MODEL, "--duration", "2m")[0] == 0
    answers = []
    waiting = [threading.Thread(target=lambda: answers.append(score())) for _ in range(8)]
    for one in waiting:
        one.start()
    said = t.wait_until(lambda: [why for why in degraded() if "its engine hangs" in why], "/ready tells of it")
    hangs = r"its engine hangs, with \d of its calls not returned \(models.max_hung\): it is given nothing until one does"
    assert len(said) == 1 and re.fullmatch(rf"model {MODEL}/\d+: {hangs}", said[0]), said
    status, said = asked(f"/v2/models/{MODEL}/ready")
    assert status == 503 and re.fullmatch(hangs, said["reason"]), said
    status, out, err = cli("models", "status", MODEL)
    assert status == 0 and re.search(rf"^    {hangs}$", out, re.M), out + err
    status, body = t.http("POST", f"http://127.0.0.1:{node.http_port}/v2/models/diabetes-linear/infer", {"inputs": [
        {"name": "input", "shape": [1, 10], "datatype": "FP64", "data": [0.01] * 10}]})
    assert status == 200, (status, body)
    # Who asks for it need not wait until it returns, nor does who asked before.
    for one in waiting:
        one.join(60)
    assert answers == [503] * 8, answers
    status, body = t.http("POST", f"http://127.0.0.1:{node.http_port}/v2/models/{MODEL}/infer", {"inputs": [
        {"name": "input", "shape": [1, 10], "datatype": "FP64", "data": [0.01] * 10}]})
    assert status == 503 and re.fullmatch(rf"model {MODEL} version \d+: {hangs}", json.loads(body)["error"]), (status, body)
    assert node.metrics().total("troupe_model_hung_calls", model=MODEL) > 0
    assert "did not return within 300 ms (models.time_limit)" in node.stdout(), node.stdout()
    assert cli("fault", "stop", "--all")[0] == 0
    t.wait_until(lambda: asked(f"/v2/models/{MODEL}/ready")[0] == 200 and degraded() == [], "it is whole again")
    assert score() == 200
    assert '"event":"engine_returned"' in node.stdout()
    t.wait_until(lambda: node.metrics().total("troupe_model_hung_calls", model=MODEL) == 0, "all calls have returned")

    # --- a deadline holds, whatever the engine does
    assert cli("fault", "inject", "shard_hang", "--model", MODEL, "--duration", "2m")[0] == 0
    status, body = t.http("POST", f"http://127.0.0.1:{node.http_port}/v2/models/{MODEL}/infer", {
        "inputs": [{"name": "input", "shape": [1, 10], "datatype": "FP64", "data": [0.01] * 10}], "parameters": {"timeout": 50_000}})
    assert status == 504 and json.loads(body)["error"] == "the deadline passed before there was an answer", (status, body)
    assert cli("fault", "stop", "--all")[0] == 0
    t.wait_until(lambda: score() == 200 and degraded() == [], "it is whole again")

    # --- a new version that answers nothing is rolled back: its breaker lets through too few requests to judge it by
    spec = {"model": MODEL, "version": "2", "strategy": "canary", "percent": 50}
    assert t.http("POST", f"http://127.0.0.1:{node.port}/admin/rollout", spec, {"Authorization": f"Bearer {SECRET}"})[0] == 200
    assert cli("fault", "inject", "shard_fail", "--model", MODEL, "--version", "2", "--duration", "2m")[0] == 0

    def rolled_back():
        score()
        return '"event":"rollout_rolled_back"' in node.stdout()

    t.wait_until(rolled_back, "the canary is rolled back", every=0.01)
    (line,) = [line for line in map(json.loads, node.stdout().splitlines()) if line["event"] == "rollout_rolled_back"]
    assert (line["reason"], line["version"]) == ("unavailable", "2"), line
    t.wait_until(lambda: [score() for _ in range(20)] == [200] * 20, "the version before answers")
    assert cli("fault", "stop", "--all")[0] == 0
    assert node.stop() == 0, node.stderr()
