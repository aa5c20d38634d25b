#!/usr/bin/env python3
"""troupe demo, from a folder that has nothing to do with the source tree: it needs nothing else and loses nothing."""

import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

import troupe_test as t

KEYS = {"sent", "predicted", "errors", "lost", "duplicated", "records_per_second", "p50_ms", "p95_ms", "p99_ms",
        "cache_hit_ratio"}
RECORDS, RATE, SECONDS = 60_000, 1_000, 1


def demo(*options, **more):
    return subprocess.run([str(t.TROUPE.resolve()), "demo", *options], text=True, capture_output=True, timeout=120,
                          stdin=subprocess.DEVNULL, **more)


with tempfile.TemporaryDirectory(prefix="troupe-demo-") as elsewhere:
    sizes = ("--records", str(RECORDS), "--rate", str(RATE), "--seconds", str(SECONDS))
    done = demo(*sizes, "--json", cwd=elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)  # one document and nothing else
    assert KEYS <= report.keys(), KEYS - report.keys()
    total = RECORDS + RATE * SECONDS
    assert report["sent"] == report["predicted"] == total, report
    assert report["lost"] == report["errors"] == report["duplicated"] == 0, report
    assert report["records_per_second"] > 0, report
    assert 0 < report["p50_ms"] <= report["p95_ms"] <= report["p99_ms"], report
    assert 0 < report["cache_hit_ratio"] <= 1, report  # its rows repeat

    people = demo(*sizes, cwd=elsewhere)
    assert people.returncode == 0, people.stdout + people.stderr
    for word in ("sent", "lost", "p99", "records/s"):
        assert word in people.stdout, people.stdout

    # What it can't work with is said in one line.
    wrong = demo("--models", os.path.join(elsewhere, "nothing"), cwd=elsewhere)
    assert wrong.returncode == 2 and "nothing" in wrong.stderr, (wrong.returncode, wrong.stderr)

with t.Stage() as stage:
    # Ctrl-C: stops sending, waits for what is out, reports.
    long = stage.start([t.TROUPE.resolve(), "demo", "--records", "50000000", "--json"], "demo", cwd=pathlib.Path(stage.folder))
    t.wait_until(lambda: "ready" in long.stderr(), "the demo runs")
    port = int(re.search(r"http://127.0.0.1:(\d+)/metrics", long.stderr())[1])
    t.wait_until(lambda: t.Metrics.parse(t.http("GET", f"http://127.0.0.1:{port}/metrics")[1].decode()).total(
        "inference_requests_total") > 1000, "requests go through")
    long.signal(signal.SIGINT)
    status = long.wait(60)
    report = json.loads(long.stdout())
    assert report["lost"] == 0 and 0 < report["sent"] < 50_000_000, report
    assert status == 0, (status, long.stderr())
print(json.dumps(report))
