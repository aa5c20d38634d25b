#!/usr/bin/env python3
"""A network that is not built in, scored by ONNX Runtime in a child that is killed again and again: a prediction for every
record."""

import json
import os
import shutil
import signal
import threading

import troupe_test as t

if not (t.ROOT / ".deps/onnxruntime/lib/libonnxruntime.so").exists():
    t.skip("no ONNX Runtime: run scripts/deps")

RECORDS, RATE, KILLS = 12_000, 2_000, 4


with t.Stage() as stage:
    folder = stage.path("models") / "mlp" / "1"
    folder.mkdir(parents=True)
    shutil.copy(t.ROOT / "tests/runtime/model/data/onnxruntime/mlp.onnx", folder / "model.onnx")
    node = stage.troupe({"kafka": {"brokers": "embedded"}, "models": {"directory": str(stage.path("models"))},
                         "onnxruntime": {"timeout": "2m"}, "cache": {"mode": "off"}, "log": {"format": "json"}})
    node.wait_ready()

    def lines(event):
        found = [json.loads(line) for line in (node.stderr() + node.stdout()).splitlines() if line.startswith("{")]
        return [line for line in found if line.get("event") == event]

    loaded = lines("model_loaded")[0]
    assert loaded["engine"] == "onnxruntime" and "Elu" in loaded["why"], loaded
    brokers = t.wait_until(lambda: lines("started"), "the node has logged its start")[0]["brokers"]
    assert len(t.engines_of(node.pid)) == 1, t.engines_of(node.pid)
    load = stage.start([t.TROUPE, "load", "--brokers", brokers, "--records", RECORDS, "--rate", RATE, "--features", 10,
                        "--wait-for", "30s", "--json"], "load")
    for i in range(KILLS):
        done = lambda: node.metrics().total("inference_requests_total", status="success")
        t.wait_until(lambda: done() > (i + 0.5) * RECORDS / (KILLS + 1), "requests are answered")
        (child,) = t.wait_until(lambda: t.engines_of(node.pid), "a child is there")
        os.kill(child, signal.SIGKILL)
        t.wait_until(lambda: [c for c in t.engines_of(node.pid) if c != child], "another child is there")
    status = load.wait(120)
    report = json.loads(load.stdout())
    print(json.dumps(report))
    assert status == 0, load.stderr()
    assert report["sent"] == report["predicted"] == RECORDS and report["lost"] == 0, report
    assert len([line for line in lines("engine_process") if "signal 9" in line["msg"]]) == KILLS, lines("engine_process")
    (child,) = t.engines_of(node.pid)
    assert node.stop() == 0, node.stderr()
    assert not os.path.exists(f"/proc/{child}"), "the child is left behind"

    # An orphan would hold memory and cores: the child ends with a node that is killed.
    node = stage.troupe({"kafka": {"brokers": "embedded"}, "models": {"directory": str(stage.path("models"))}})
    node.wait_ready()
    (child,) = t.engines_of(node.pid)
    node.kill()
    t.wait_until(lambda: not os.path.exists(f"/proc/{child}"), "the child is gone")

    # An engine that hangs when the node ends: the end waits for it in vain, and says for whom.
    for model in ("m1", "m2", "m3"):
        shutil.copytree(folder, stage.path("stuck") / model / "1")
    node = stage.troupe({"kafka": {"enabled": False}, "http": {}, "models": {"directory": str(stage.path("stuck"))},
                         "onnxruntime": {"timeout": "10m"}, "drain": {"deadline": "1s"}, "cache": {"mode": "off"}, "log": {"format": "json"}})
    node.wait_ready()
    children = t.engines_of(node.pid)
    assert len(children) == 3, children
    for child in children:
        os.kill(child, signal.SIGSTOP)
    answers = []

    def ask(model):
        answers.append(t.http("POST", f"http://127.0.0.1:{node.http_port}/v1/models/{model}:predict", {"instances": [[0.1] * 10]})[0])

    callers = [threading.Thread(target=ask, args=(model,)) for model in ("m1", "m2", "m3")]
    for one in callers:
        one.start()
    t.wait_until(lambda: node.metrics().total("troupe_scheduler_slots_busy") == 3, "all three hang")
    node.signal(signal.SIGTERM)
    assert node.wait(60) == 1, node.stderr()
    for one in callers:
        one.join(60)
    assert answers == [503] * 3, answers
    (drained,), (left,) = lines("drain_finished"), lines("actors_left")
    assert drained["level"] == "warn" and drained["calls"] == "3" and drained["in_flight"] == "0", drained
    assert sorted(name.split("#")[0] for name in left["actors"].split(", ")) == [f"model_shard m{n}/1" for n in (1, 2, 3)], left
    t.wait_until(lambda: not any(os.path.exists(f"/proc/{child}") for child in children), "the children are gone")
