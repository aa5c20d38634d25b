#!/usr/bin/env python3
"""CPU a request of a whole node over HTTP and gRPC, the 100-tree forest, beside a bare Boost.Beast server that answers a
constant and a bare gRPC echo: one generator, alternating, in one run.

run.py [--smoke] [--json] [--rounds N] [--seconds S] [--connections 1,16,64] [--cache auto|off]
"""
import argparse
import json
import os
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("TROUPE_BUILD_DIRECTORY", ROOT / "build/release"))
ROWS = 512  # different rows, in turn


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Beast:
    def __enter__(self):
        self.process = subprocess.Popen([BUILD / "bench/bench_http_front", "beast"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


class Troupe:
    def __init__(self, cache):
        self.cache = cache

    def __enter__(self):
        port, metrics = free_port(), free_port()
        self.process = subprocess.Popen(
            [BUILD / "troupe", "serve", "--set", "kafka.enabled=false", "--set", "grpc.enabled=false", "--set",
             f"http.port={port}", "--set", "http.bind=127.0.0.1", "--set", f"metrics.port={metrics}", "--set",
             f"models.directory={ROOT / 'models'}", "--set", f"cache.mode={self.cache}", "--set", "log.level=warn"],
            stdout=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{port}"
        for _ in range(400):
            try:
                urllib.request.urlopen(self.url + "/ready", timeout=2).read()
                return self
            except OSError:
                time.sleep(0.05)
        sys.exit("troupe serve was not ready within 20 s")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def bodies(folder):
    """The same rows as each kind of request."""
    seeded = random.Random(7)
    kinds = {"score": [], "v2": []}
    for i in range(ROWS):
        row = [round(seeded.gauss(0, 0.05), 6) for _ in range(10)]
        texts = {"score": {"data": [row]},
                 "v2": {"inputs": [{"name": "input", "shape": [1, 10], "datatype": "FP64", "data": row}]}}
        for kind, text in texts.items():
            path = pathlib.Path(folder) / f"{kind}-{i}.json"
            path.write_text(json.dumps(text))
            kinds[kind] += ["--body", str(path)]
    return kinds


def load(server, path, body, connections, seconds):
    done = subprocess.run([BUILD / "bench/bench_http_load", server.url + path, "--connections", str(connections), "--seconds",
                           str(seconds), "--warmup", str(min(0.5, seconds)), *body, "--pid", str(server.process.pid), "--json"],
                          stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{path} at {connections}: {done.stdout}")
    return json.loads(done.stdout)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--smoke", action="store_true")
    options.add_argument("--json", action="store_true")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=2)
    options.add_argument("--connections", default="1,16,64")
    options.add_argument("--cache", default="off", help="off: every row is scored")
    o = options.parse_args()
    if o.smoke:
        o.rounds, o.seconds, o.connections = 1, 0.2, "1,16"
    rows = []
    with tempfile.TemporaryDirectory() as folder, Beast() as beast, Troupe(o.cache) as troupe:
        body = bodies(folder)
        cells = {"beast": (beast, "/score", body["score"]), "/score": (troupe, "/score", body["score"]),
                 "V2 JSON": (troupe, "/v2/models/diabetes-rf-model/infer", body["v2"])}
        for connections in (int(n) for n in o.connections.split(",")):
            rounds = {name: [] for name in cells}
            for _ in range(o.rounds):  # in turn, so that a change of the machine's speed meets all
                for name, (server, path, of) in cells.items():
                    rounds[name].append(load(server, path, of, connections, o.seconds))
            bare = [r["server_cpu_us_per_request"] for r in rounds["beast"]]
            for name in cells:
                cpu = [r["server_cpu_us_per_request"] for r in rounds[name]]
                ratios = [a / b for a, b in zip(cpu, bare) if b]
                rows.append({"server": name, "connections": connections, "cpu_us": statistics.median(cpu),
                             "times_beast": statistics.median(ratios) if ratios else None,
                             "times_beast_range": [min(ratios), max(ratios)] if ratios else None,
                             **{key: statistics.median(r[key] for r in rounds[name])
                                for key in ("requests_per_second", "p50_ms", "p99_ms")}})
    if o.json:
        print(json.dumps(rows))
        return
    print(f"{'server':12}{'connections':>12}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'CPU us/request':>16}{'x beast':>9}")
    for r in rows:
        times = f"{r['times_beast']:.2f}" if r["times_beast"] else "-"
        print(f"{r['server']:12}{r['connections']:>12}{r['requests_per_second']:>12.0f}{r['p50_ms']:>9.3f}{r['p99_ms']:>9.3f}"
              f"{r['cpu_us']:>16.2f}{times:>9}")


main()
