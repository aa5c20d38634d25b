#!/usr/bin/env python3
"""When crashes outrun the default restart budget, the process ends with a message that says so; the next one goes on
where it stopped, and nothing is lost. So it does when there are no threads for all versions."""

import json
import shutil
import time

import troupe_test as t

with t.Stage() as stage:
    # Stacks of half a gigabyte in 16 of them: no room for three threads a version.
    for version in range(1, 16):
        shutil.copytree(t.ROOT / "models/diabetes-linear/1", stage.path("models") / "many" / str(version))
    options = ("models.directory=" + str(stage.path("models")), "kafka.enabled=false", "grpc.enabled=false",
               "http.bind=127.0.0.1", "http.port=0", "metrics.bind=127.0.0.1", "metrics.port=0", "scheduler.slots=2")
    cramped = stage.start(["sh", "-c", 'ulimit -s 524288 && ulimit -v 16777216 && exec "$@"', "sh", t.TROUPE, "serve",
                           *(word for option in options for word in ("--set", option))], "cramped")
    assert cramped.wait(60) == 1, cramped.stderr()
    assert "no thread to be had" in cramped.stderr() and "set scheduler.slots lower" in cramped.stderr(), cramped.stderr()

    kafka = stage.kafka()
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        kafka.client.create_topic(topic, 4)
    config = {"kafka": {"brokers": kafka.bootstrap}, "faults": {"enabled": True}, "admin": {"token": "x" * 20}}
    node = stage.troupe(config)
    node.wait_ready()
    load = stage.start([t.TROUPE, "load", "--brokers", kafka.bootstrap, "--records", 20000, "--rate", 4000,
                        "--wait-for", "60s", "--json"], "load")
    for _ in range(3000):  # a group gives up after its 10 restarts, the node after 3 of groups
        try:
            t.http("POST", f"http://127.0.0.1:{node.port}/admin/faults", {"crash": "random"},
                   {"Authorization": "Bearer " + "x" * 20})
        except OSError:
            pass
        if not node.running:
            break
        time.sleep(0.02)
    assert node.wait() == 1, node.process.returncode
    said = node.stderr()
    assert "budget" in said and "supervision.intensity" in said, said
    again = stage.troupe(config)
    again.wait_ready()
    assert load.wait(120) == 0, load.stdout() + load.stderr()
    report = json.loads(load.stdout())
    print(json.dumps(report))
    assert report["lost"] == 0 and report["predicted"] == 20000, report
    assert again.stop() == 0
