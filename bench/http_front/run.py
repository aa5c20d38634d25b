#!/usr/bin/env python3
"""CPU a request of the front beside a bare Boost.Beast server: bench_http_load drives each in turn.

run.py [--smoke] [--json] [--rounds N] [--seconds S] [--connections 1,16,64]
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

BUILD = pathlib.Path(os.environ.get("TROUPE_BUILD_DIRECTORY", "build/release"))
KINDS = ["beast", "front", "front_threaded"]
BODY = json.dumps({"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]})


def measure(kind, connections, seconds, body):
    server = subprocess.Popen([BUILD / "bench/bench_http_front", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True)
    try:
        port = int(server.stdout.readline())
        done = subprocess.run([BUILD / "bench/bench_http_load", f"http://127.0.0.1:{port}/v2/models/iris/infer",
                               "--connections", str(connections), "--seconds", str(seconds), "--warmup",
                               str(min(0.3, seconds)), "--body", body, "--pid", str(server.pid), "--json"],
                              stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{kind} at {connections}: {done.stdout}")
        return json.loads(done.stdout)
    finally:
        server.stdin.close()
        server.wait()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--smoke", action="store_true")
    options.add_argument("--json", action="store_true")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=2)
    options.add_argument("--connections", default="1,16,64")
    o = options.parse_args()
    if o.smoke:
        o.rounds, o.seconds, o.connections = 1, 0.2, "1,16"
    rows = []
    with tempfile.NamedTemporaryFile("w", suffix=".json") as body:
        body.write(BODY)
        body.flush()
        for connections in (int(n) for n in o.connections.split(",")):
            rounds = {kind: [] for kind in KINDS}
            for _ in range(o.rounds):  # in turn, so that a change of the machine's speed meets all
                for kind in KINDS:
                    rounds[kind].append(measure(kind, connections, o.seconds, body.name))
            bare = statistics.median(r["server_cpu_us_per_request"] for r in rounds["beast"])
            for kind in KINDS:
                median = {key: statistics.median(r[key] for r in rounds[kind])
                          for key in ("requests_per_second", "p50_ms", "p99_ms", "server_cpu_us_per_request")}
                rows.append({"server": kind, "connections": connections, **median,
                             "times_beast": median["server_cpu_us_per_request"] / bare if bare else None})
    if o.json:
        print(json.dumps(rows))
        return
    print(f"{'server':16}{'connections':>12}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'CPU us/request':>16}{'x beast':>9}")
    for r in rows:
        times = f"{r['times_beast']:.2f}" if r["times_beast"] else "-"
        print(f"{r['server']:16}{r['connections']:>12}{r['requests_per_second']:>12.0f}{r['p50_ms']:>9.3f}"
              f"{r['p99_ms']:>9.3f}{r['server_cpu_us_per_request']:>16.2f}{times:>9}")


main()
