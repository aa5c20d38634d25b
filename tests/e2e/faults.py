#!/usr/bin/env python3
"""Every fault on a running node with a real Kafka and a real Redis, under load: it is listed, counted, ends by itself, and
nothing is lost; and `troupe fault run` with scenarios that pass, fail, can't be run and are interrupted.

    faults.py [--rate 500]
"""

import argparse
import json
import re
import signal
import time

import small_registry
import troupe_test as t

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=int, default=500)
options = parser.parse_args()
SECRET = "secret-of-the-test"
TOKEN = {"Authorization": f"Bearer {SECRET}"}

FAULTS = [
    {"fault": "actor_crash", "actor": "producer"},
    {"fault": "shard_delay", "probability": 0.5, "delay": "20ms"},
    {"fault": "shard_fail", "model": "diabetes-rf-model", "probability": 0.5},
    {"fault": "shard_hang", "probability": 0.2},
    {"fault": "redis_cut"},
    {"fault": "redis_slow", "delay": "50ms"},
    {"fault": "redis_corrupt"},
    {"fault": "kafka_cut"},
    {"fault": "kafka_slow", "delay": "20ms"},
    {"fault": "kafka_corrupt", "probability": 0.2},
    {"fault": "registry_cut"},
    {"fault": "registry_slow", "delay": "5s"},
    {"fault": "registry_corrupt"},
    {"fault": "report_drop", "probability": 0.1},
    {"fault": "report_duplicate", "probability": 0.5},
    {"fault": "rebalance_storm", "every": "500ms"},
    {"fault": "clock_jump", "shift": "-1h"},
    {"fault": "memory_pressure", "size": "128MiB"},
    {"fault": "freeze"},
]

with t.Stage() as stage:
    kafka, redis, node = stage.node_on_kafka_and_redis({
        "redis": {"breaker_open": "500ms"},
        "breaker": {"threshold": 0, "failure_rate": 2},  # else a fault's failures go on after it
        "models": {"default": "diabetes-rf-model"},
        "mlflow": small_registry.SmallRegistry(stage).settings,
        "faults": {"enabled": True, "max_duration": "1m"},
        "admin": {"token": SECRET},
    })

    url = f"http://127.0.0.1:{node.port}/admin/faults"

    def ask(method, body=None, path=""):
        status, answer = t.http(method, url + path, body, TOKEN)
        return status, json.loads(answer)

    def listed(one):
        (found,) = [f for f in ask("GET")[1]["faults"] if f["id"] == one]
        return found

    def cli(*words, token=SECRET):
        done = t.run("fault", *words, "--url", f"127.0.0.1:{node.port}", environment={"TROUPE_ADMIN_TOKEN": token}, deadline=120)
        return done.returncode, done.stdout, done.stderr

    # What can't be is said, and changes nothing.
    assert ask("GET") == (200, {"faults": []})
    for body, status, says in (({"fault": "redis_cutt"}, 400, "did you mean redis_cut?"), ({"fault": "freeze", "duration": "2m"}, 400, "faults.max_duration"),
                               ({"fault": "redis_cut", "model": "m"}, 400, "model: no field"), ({"fault": "clock_jump"}, 400, "shift: missing"),
                               ({"fault": "actor_crash", "actor": "nobody"}, 404, "no actor"), ({}, 400, "known: "),
                               ({"fault": "actor_crash", "actor": "produzer", "every": "1s"}, 404, "there is no actor produzer on this node; did you mean producer?"),
                               ({"fault": "shard_fail", "model": "NOBODY"}, 404, "there is no model NOBODY on this node; it has diabetes-linear (1"),
                               ({"fault": "shard_fail", "model": "diabetes-rf-model", "version": 9}, 404, "there is no version 9 of diabetes-rf-model on this node; it has 1, 2, 3")):
        for path in ("", "/check"):
            got = ask("POST", body, path)
            assert got[0] == status and says in got[1]["error"], (body, got)
    for fault in FAULTS:
        assert ask("POST", fault, "/check") == (200, {"can_be_injected": True}), fault
    assert ask("POST", {"fault": "shard_delay", "model": "diabetes-rf-model", "version": "v3", "delay": "1ms"}, "/check")[0] == 200
    assert t.http("GET", url)[0] == t.http("DELETE", url)[0] == 401
    assert b"no token was given" in t.http("GET", url)[1]
    status, out, err = cli("list", token="another")
    assert status == 1 and "the token is not the node's admin.token; what was sent comes from environment TROUPE_ADMIN_TOKEN" in err, err
    assert ask("DELETE", None, "/99")[0] == 404 and ask("DELETE", None, "/x")[0] == 400
    assert ask("GET") == (200, {"faults": []})

    # Each once, under load.
    errors = 0
    for fault in FAULTS:
        name = fault["fault"]
        before = node.metrics().total("inference_requests_total")
        load = stage.load(kafka, options.rate * 60, options.rate, fresh=True)
        t.wait_until(lambda: node.metrics().total("inference_requests_total") > before + options.rate / 4, "answers come")
        for _ in range(3):  # more than once only where all stood still for its two seconds
            status, begun = ask("POST", {**fault, "duration": "2s"})
            assert status == 201 and begun["fault"] == name, (status, begun)
            if name not in ("actor_crash", "freeze"):
                assert begun["state"] == "active"
                assert name in node.get("/ready")[1].decode() or listed(begun["id"])["state"] == "ended"
            ended = t.wait_until(lambda: (lambda f: f["state"] == "ended" and f)(listed(begun["id"])), f"{name} ends by itself")
            assert ended["ended"] == ("done" if name == "actor_crash" else "over"), ended
            if ended["strikes"] >= 1:
                break
        assert ended["strikes"] >= 1, ended
        after = node.metrics().total("inference_requests_total")
        t.wait_until(lambda: node.metrics().total("inference_requests_total") > after + options.rate * 2, "answers go on")
        load.signal(signal.SIGINT)
        assert load.wait(120) == 0, load.stdout() + load.stderr()
        report = json.loads(load.stdout())
        print(name, {key: report[key] for key in ("predicted", "errors", "dead_letters", "lost", "duplicated", "p95_ms", "longest_gap_ms")}, ended["strikes"], flush=True)
        assert report["lost"] == 0, (name, report)
        assert (report["errors"] > 0) == (name == "shard_fail"), (name, report)
        metrics = node.metrics()
        assert metrics.total("troupe_faults_active") == 0
        assert metrics.total("troupe_fault_injections_total", fault=name) >= 1
        t.wait_until(lambda: node.get("/ready")[0] == 200 and b"degraded" not in node.get("/ready")[1], f"whole again after {name}", 30)

    # By hand: inject, list, stop.
    status, out, err = cli("inject", "shard_delay", "--delay", "5ms", "--duration", "50s")
    assert status == 0 and "shard_delay: fault" in out, (status, out, err)
    status, out, err = cli("list", "--json")
    (active,) = [f for f in json.loads(out)["faults"] if f["state"] == "active"]
    assert active["delay"] == "5ms" and active["duration"] == "50s"
    shown = cli("list")[1]
    assert re.search(r" shard_delay +active +\d+\.\d s +\d+  delay=5ms\n", shown), shown
    assert re.search(r" actor_crash +ended +- +1  actor=producer; done\n", shown), shown
    assert re.search(r" redis_cut +ended +- +\d+  over after \d+\.\d s\n", shown), shown
    assert cli("stop", str(active["id"]))[:2] == (0, "stopped: 1\n")
    for one, says in ((str(active["id"]), "has ended already: stopped"), ("9999", "there is no fault 9999: troupe fault list")):
        status, out, err = cli("stop", one)
        assert status == 1 and says in err, err
    assert cli("stop", "--all")[:2] == (0, "stopped: 0\n")
    empty = stage.path("empty.yaml")
    empty.write_text("")
    for words, says in ((("inject", "shard_dely"), "did you mean shard_delay"), (("inject", "redis_cut", "--delay", "1s"), "delay: no field"),
                        (("stop",), "which fault? give its ID (troupe fault list shows them), or --all"), (("stop", "1", "--all"), "give one of them"),
                        (("run", "/nowhere.yaml"), "can't be read: No such file"), (("run", str(stage.folder)), "is a directory"),
                        (("run", str(empty)), "has no scenario in it")):
        status, out, err = cli(*words)
        assert status == 2 and says in err and err.count("\n") == 1 and not out, (words, status, err)
    status, out, err = cli("inject", "redis_slow", "--delay", "2h", "--duration", "soon")
    assert status == 2 and err == ('troupe: --delay: expected a duration from 1ms to 1m, not "2h"\n'
                                   "troupe: --duration: expected a duration from 10ms to 1d (the most that a node can set as its faults.max_duration), "
                                   'written like 200ms or 30s, not "soon"\n'), err

    # A scenario that passes, one that fails, one that finds no steady state. Without a floor quiet is steady.
    seconds = 90
    load = stage.load(kafka, options.rate * seconds, options.rate, fresh=True)

    def scenario(name, text, url=f"127.0.0.1:{node.port}", token=SECRET):
        file = stage.path(name)
        file.write_text(text)
        done = t.run("fault", "run", str(file), "--json", "--url", url, environment={"TROUPE_ADMIN_TOKEN": token}, deadline=120)
        print(done.stderr, flush=True)
        told = json.loads(done.stdout)
        assert told["file"] == str(file) and told["passed"] == (told["outcome"] == "passed"), told
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["started"]), told
        assert ("error" in told) == (told["outcome"] in ("not_run", "interrupted")), told
        return done.returncode, told, done.stderr
    objectives = "steady_state: {pipeline: {p95: 2s, p99: 5s, errors: 0}, lag: 10s, throughput: 100}\nwindow: 2s\nwarm_up: 30s\n"
    status, passed, err = scenario("pass.yaml", objectives + "recover_within: 20s\nsteps:\n"
                              "  - {fault: redis_cut, duration: 3s, wait: 1s, failed_at_most: 0}\n"
                              "  - {fault: actor_crash, actor: scheduler, failed_at_most: 0}\n")
    assert status == 0 and passed["outcome"] == "passed" and passed["name"] == "pass.yaml", passed
    assert passed["url"] == f"http://127.0.0.1:{node.port}" and passed["seconds"] > 3, passed
    assert passed["objectives"]["pipeline"] == {"p95_s": 2, "p99_s": 5, "errors": 0} and passed["objectives"]["recover_within_s"] == 20, passed
    assert "step 1 of 2: injecting redis_cut\n" in err and "step 2 of 2: actor_crash: passed\n" in err, err
    assert re.search(r"^actor_crash \(actor scheduler\) .* 1  passed  ", err, re.M), err
    redis_step, crash_step = passed["steps"]
    assert redis_step["detected_s"] > 0 and redis_step["sign"] and redis_step["failed"] == 0, redis_step
    assert crash_step["recovered_s"] is not None and crash_step["actor"] == "scheduler", crash_step
    assert redis_step["strikes"] >= 1 and crash_step["strikes"] == 1, passed
    status, failed, err = scenario("fail.yaml", "name: it fails\n" + objectives + "recover_within: 10s\nsteps: [{fault: shard_fail, duration: 2s, failed_at_most: 0}]\n")
    assert status == 1 and failed["outcome"] == "failed" and failed["name"] == "it fails", failed
    assert "requests failed" in failed["steps"][0]["why"] and failed["steps"][0]["outcome"] == "failed", failed
    assert failed["steps"][0]["failed"] > 0
    status, unsteady, err = scenario("unsteady.yaml", "steady_state: {throughput: 1000000}\nwindow: 1s\nwarm_up: 2s\nsteps: [{fault: redis_cut}]\n")
    assert status == 3 and unsteady["outcome"] == "not_run", unsteady
    assert "not steady, nothing injected: throughput" in unsteady["error"], unsteady
    assert [(one["outcome"], one["why"], one["started"], one["failed"]) for one in unsteady["steps"]] == [("not_run", "not begun", None, None)], unsteady

    # What does not recover in time ends the run: the rest is listed, and was not begun.
    status, failed, err = scenario("down.yaml", objectives + "recover_within: 0s\nsteps:\n  - {fault: shard_hang, duration: 3s}\n"
                                   "  - {fault: redis_cut, duration: 1s}\n  - {fault: actor_crash, actor: random}\n")
    assert status == 1 and failed["outcome"] == "failed", failed
    assert [one["outcome"] for one in failed["steps"]] == ["failed", "not_run", "not_run"], failed
    assert ["duration" in one for one in failed["steps"]] == [True, True, False], ("a single crash lasts no time", failed)
    assert "recovered" in failed["steps"][0]["why"] and failed["steps"][1]["why"] == "not begun: step 1 did not recover", failed
    assert re.search(r"^redis_cut  .*  not run  -\n  not begun: step 1 did not recover\n", err, re.M), err

    # Interrupted in its second step: the fault is ended, and what there is is told.
    file = stage.path("interrupted.yaml")
    file.write_text(objectives + "steps:\n  - {fault: actor_crash, actor: producer}\n  - {fault: redis_cut, duration: 40s}\n  - {fault: freeze}\n")
    running = stage.start([t.TROUPE, "fault", "run", str(file), "--json", "--url", f"127.0.0.1:{node.port}"], "interrupted",
                          environment={"TROUPE_ADMIN_TOKEN": SECRET})
    t.wait_until(lambda: any(f["fault"] == "redis_cut" and f["state"] == "active" for f in ask("GET")[1]["faults"]), "the second step is there", 60)
    running.signal(signal.SIGTERM)
    assert running.wait(90) == 3, running.stderr()
    told = json.loads(running.stdout())
    assert told["outcome"] == "interrupted" and told["error"] == "interrupted", told
    assert [(one["outcome"], one.get("why")) for one in told["steps"]] == [
        ("passed", None), ("interrupted", "interrupted"), ("not_run", "not begun: interrupted")], told
    assert all(f["state"] == "ended" for f in ask("GET")[1]["faults"])
    load.stop()

    # What can't be injected is said of every step, before anything is waited for.
    begun = time.monotonic()
    status, refused, err = scenario("refused.yaml", "warm_up: 30s\nsteps:\n  - {fault: redis_cut}\n  - {fault: shard_fail, model: NOBODY}\n"
                                    "  - {fault: actor_crash, actor: nobody}\n")
    assert status == 3 and refused["outcome"] == "not_run" and refused["error"].startswith("nothing injected:\n  "), refused
    assert "refused.yaml:4: step 2: model: there is no model NOBODY" in refused["error"], refused
    assert "refused.yaml:5: step 3: actor: there is no actor nobody" in refused["error"] and "step 1" not in refused["error"], refused
    assert [one["outcome"] for one in refused["steps"]] == ["not_run"] * 3, refused
    assert [one["why"].split(":")[0] for one in refused["steps"]] == ["not begun", "model", "actor"], refused
    assert time.monotonic() - begun < 25 and "injecting" not in err, "it did not warm up first"

    # A run that could not be is told from one that failed, and has its document too.
    (nobody,) = t.free_ports(1)
    good = "name: never begun\nsteps: [{fault: redis_cut}]\n"
    status, told, err = scenario("away.yaml", good, url=f"127.0.0.1:{nobody}")
    assert status == 3 and told["outcome"] == "not_run" and "Connection refused" in told["error"] and told["error"] in err, told
    assert told["url"] == f"http://127.0.0.1:{nobody}" and told["name"] == "never begun", told
    assert [(one["fault"], one["outcome"], one["why"]) for one in told["steps"]] == [("redis_cut", "not_run", "not begun")], told
    status, told, err = scenario("token.yaml", good, token="another")
    assert status == 3 and "the token is not the node's" in told["error"], told
    off = stage.troupe({"kafka": {"brokers": "embedded"}, "admin": {"token": SECRET}})
    off.wait_ready()
    status, told, err = scenario("off.yaml", good, url=f"127.0.0.1:{off.port}")
    assert status == 3 and told["error"] == (f"http://127.0.0.1:{off.port}: faults are off on this node: they need faults.enabled: true, "
                                             "and a restart of the node"), told
    assert off.stop() == 0, off.stderr()
    status, told, err = scenario("wrong.yaml", "window: 1ms\nsteps:\n  - fault: redis_cut\n    duration: 1s\n    duration: 2s\n  - {fault: redis_cutt}\n")
    assert status == 2 and told["outcome"] == "not_run" and told["objectives"] is None and told["name"] == "wrong.yaml", told
    assert [re.sub(r".*/", "", line).split(": ")[:2] for line in told["error"].splitlines()] == [
        ["wrong.yaml:1", "window"], ["wrong.yaml:5", "step 1"], ["wrong.yaml:6", "step 2"]], told
    assert "step 1: duration is given twice (first in line 4)\n" in told["error"] and "step 2: fault: unknown: redis_cutt" in told["error"], told
    assert told["url"] == f"http://127.0.0.1:{node.port}", ("as a URL, however it was given", told)
    assert err == "".join(f"troupe: {line}\n" for line in told["error"].splitlines()), err
    done = t.run("fault", "run", "/nowhere.yaml", "--json")
    assert done.returncode == 2 and json.loads(done.stdout)["outcome"] == "not_run", done
    done = t.run("fault", "run", str(stage.path("off.yaml")), "--json")
    assert done.returncode == 2 and "no admin token" in json.loads(done.stdout)["error"], done

    # Answers from the cache pass every objective, and show nothing of a fault at the models.
    load = stage.load(kafka, options.rate * seconds, options.rate, "--distinct", "10")
    status, idle, err = scenario("idle.yaml", objectives + "steps:\n  - {fault: shard_fail, duration: 1s}\n"
                                 "  - {fault: shard_fail, duration: 1s, strikes_at_least: 0}\n")
    assert status == 1 and not idle["passed"] and [one["passed"] for one in idle["steps"]] == [False, True], idle
    assert all(one["strikes"] == one["failed"] == 0 for one in idle["steps"]), idle
    assert all(isinstance(one[count], int) for one in idle["steps"] for count in ("failed", "answered")), idle
    assert re.match(r"not exercised, it struck nothing: \d+ of \d+ answers came from the cache.*: send rows that differ", idle["steps"][0]["why"]), idle
    load.stop()

    # A node that is told to end does not wait for its faults.
    assert ask("POST", {"fault": "shard_hang", "duration": "50s"})[0] == 201
    begun = time.monotonic()
    assert node.stop() == 0, node.stderr()
    assert time.monotonic() - begun < 30
    log = node.stdout() + node.stderr()
    for fault in FAULTS:
        for event in ("fault_started", "fault_ended"):
            assert any(f'"event":"{event}"' in line and f'"fault":"{fault["fault"]}"' in line for line in log.splitlines()), (event, fault)
