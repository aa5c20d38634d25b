#!/usr/bin/env python3
"""kafka.instance_id: the older of two processes with one id ends, says why, and the newer goes on; an instance that was
killed has its partitions again when it is back, and the other is not disturbed (kill_nine.py --named)."""

import json
import os
import pathlib
import sys

import troupe_test as t

ID = "the-only-one"

with t.Stage() as stage:
    kafka = stage.kafka()
    for delivery in ("at_least_once", "exactly_once"):
        names = {f"{topic}_topic": f"{delivery}-{topic}" for topic in ("requests", "results", "dead_letter")}
        for topic in names.values():
            kafka.client.create_topic(topic, 4)
        config = {"kafka": {"brokers": kafka.bootstrap, "instance_id": ID, "delivery": delivery, "group": delivery, **names}}
        older = stage.troupe(config)
        older.wait_ready()
        newer = stage.troupe(config)
        assert older.wait(60) == 1, older.stderr()
        said = older.stderr().splitlines()
        assert len(said) == 1 and said[0].startswith(f"troupe: Kafka: kafka.instance_id '{ID}' is another process's too"), said
        events = [json.loads(line) for line in older.stdout().splitlines()]
        (fenced,) = (e for e in events if e["event"] == "instance_fenced")
        assert fenced["level"] == "error" and fenced["instance_id"] == ID and fenced["group"] == delivery, fenced
        assert not any(e["event"] in ("FATAL", "_FATAL") for e in events), events
        newer.wait_ready()
        t.wait_until(lambda: newer.metrics().total("troupe_assigned_partitions") == 4, "the newer one has all partitions")
        done = t.run("load", "--brokers", kafka.bootstrap, "--records", "200", "--json",
                     *(f"--set=kafka.{name}={topic}" for name, topic in names.items()))
        report = json.loads(done.stdout)
        assert done.returncode == 0 and report["predicted"] == 200, (report, done.stderr)
        assert newer.stop() == 0, newer.stderr()

here = pathlib.Path(__file__).parent
os.execv(sys.executable, [sys.executable, str(here / "kill_nine.py"), "--named", "--seconds", "15", "--kills", "1"])
