#!/usr/bin/env python3
"""One model, one generator, one machine: Troupe beside other ways to serve it over HTTP.

run.py [--peers troupe,fastapi,...] [--rounds N] [--seconds S] [--connections 1,16,64] [--json] [--home DIRECTORY]

What is missing is installed by uv or pip into --home (default .cache/http_peers), a virtual environment each. Every server
scores scikit-learn's diabetes data with the same forest of 100 trees behind a StandardScaler, one row a request, 64 rows in
turn; cells alternate over the servers. CPU is that of all of a server's processes.
"""
import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = pathlib.Path(os.environ.get("TROUPE_BUILD_DIRECTORY", ROOT / "build/release")).resolve()
V2 = "/v2/models/diabetes/infer"
SKLEARN = "scikit-learn==1.9.1"
PACKAGES = {
    "onnx": ["fastapi", "uvicorn", "uvloop", "httptools", "orjson", "onnxruntime", "flask", "gunicorn", SKLEARN, "skl2onnx", "onnx"],
    "mlserver": ["mlserver==1.7.1", "mlserver-sklearn==1.7.1", SKLEARN, "uvloop<0.22"],
    "kserve": ["kserve==0.21.0", SKLEARN, "joblib"],
    "ray": ["ray[serve]==2.60.0", SKLEARN, "joblib"],
    # Its stub loads Debian's own libpython3.11.
    "triton": ["nvidia-pytriton==0.7.0", "onnxruntime", "numpy<2"],
}


def free_ports(n):
    with contextlib.ExitStack() as all_of:
        sockets = [all_of.enter_context(socket.socket()) for _ in range(n)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


class Home:
    def __init__(self, path):
        self.path = path

    def python(self, name):
        return self.path / "venv" / name / "bin/python"

    def tool(self, name, tool):
        return self.path / "venv" / name / "bin" / tool

    def install(self, name):
        if self.python(name).exists():
            return
        print(f"installing {name} into {self.path}", file=sys.stderr)
        base = "/usr/bin/python3.11" if name == "triton" else sys.executable
        subprocess.run([base, "-m", "venv", self.path / "venv" / name], check=True)
        subprocess.run([self.python(name), "-m", "pip", "install", "-q", *PACKAGES[name]], check=True)

    def model(self):
        """The forest as joblib and ONNX, and the rows."""
        folder = self.path / "model"
        if not (folder / "diabetes.onnx").exists():
            self.install("onnx")
            subprocess.run([self.python("onnx"), HERE / "train.py", folder], check=True)
        return folder


def v2_body(row):
    return {"inputs": [{"name": "input", "shape": [1, 10], "datatype": "FP32", "data": row}]}


def score_body(row):
    return {"data": [row]}


class Peer:
    """A server: what to install, how to start it, what to ask."""

    def __init__(self, venv, path, body, command, what, environment=None):
        self.venv, self.path, self.body, self.command, self.what = venv, path, body, command, what
        self.environment = environment or {}


def peers(home, model, work):
    def troupe(port, spare):
        models = work / "models/diabetes/1"
        models.mkdir(parents=True, exist_ok=True)
        shutil.copy(model / "diabetes.onnx", models / "model.onnx")
        return [BUILD / "troupe", "serve", "--set", "kafka.enabled=false", "--set", f"http.port={port}", "--set",
                "http.bind=127.0.0.1", "--set", "grpc.enabled=false", "--set", f"metrics.port={spare[0]}", "--set",
                f"models.directory={work / 'models'}", "--set", "cache.mode=off", "--set", "log.level=warn"]

    def fastapi(workers):
        return lambda port, spare: [home.tool("onnx", "uvicorn"), "fastapi_onnx:app", "--app-dir", HERE / "servers", "--host",
                                    "127.0.0.1", "--port", port, "--no-access-log", "--log-level", "warning", "--workers", workers]

    def gunicorn(port, spare):
        return [home.tool("onnx", "gunicorn"), "-w", "2", "-b", f"127.0.0.1:{port}", "--chdir", HERE / "servers", "flask_sklearn:app"]

    def mlserver(batch):
        return lambda port, spare: [home.python("mlserver"), HERE / "servers/mlserver_start.py", home.tool("mlserver", "mlserver"), model,
                                    tempfile.mkdtemp(dir=work), port, *spare[:2], batch]

    def kserve(port, spare):
        return [home.python("kserve"), HERE / "servers/kserve_sklearn.py", port, spare[0]]

    def ray(port, spare):
        return [home.python("ray"), HERE / "servers/ray_batched.py", port]

    def triton(port, spare):
        return [home.python("triton"), HERE / "servers/triton_start.py", home.path / "venv/triton", model, tempfile.mkdtemp(dir=work), port,
                *spare[:2]]

    single = {"MODEL_DIR": str(model), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return {
        "troupe": Peer(None, V2, v2_body, troupe, "V2 JSON"),
        "troupe-score": Peer(None, "/score", score_body, troupe, "POST /score"),
        "fastapi": Peer("onnx", V2, v2_body, fastapi(1), "FastAPI, uvloop, orjson, ONNX Runtime, one worker", single),
        "fastapi-2": Peer("onnx", V2, v2_body, fastapi(2), "the same, two workers", single),
        "triton": Peer("triton", V2, v2_body, triton, "Triton, ONNX Runtime in its Python backend, dynamic batching", single),
        "gunicorn": Peer("onnx", "/score", score_body, gunicorn, "Flask under gunicorn, scikit-learn, two workers", single),
        "mlserver": Peer("mlserver", V2, v2_body, mlserver(0), "MLServer, scikit-learn", single),
        "mlserver-batch": Peer("mlserver", V2, v2_body, mlserver(64), "MLServer, scikit-learn, adaptive batching", single),
        "kserve": Peer("kserve", V2, v2_body, kserve, "KServe's server, scikit-learn", single),
        "ray-batch": Peer("ray", V2, v2_body, ray, "Ray Serve, scikit-learn, batched", single),
    }


def processes_of(session):
    """Every process of a session: a server's daemons and workers count as well."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                if int(fields[3]) == session:
                    found.append((int(entry.name), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")))
    return found


class Running:
    def __init__(self, peer, log):
        (self.port, *spare) = free_ports(4)
        command = [str(word) for word in peer.command(self.port, spare)]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                                        env={**os.environ, **peer.environment}, cwd=HERE)

    def cpu(self):
        return sum(seconds for _, seconds in processes_of(self.process.pid))

    def stop(self):
        for how, patience in ((signal.SIGTERM, 8), (signal.SIGKILL, 5)):
            for pid, _ in processes_of(self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)
            until = time.monotonic() + patience
            while time.monotonic() < until and (self.process.poll() is None or processes_of(self.process.pid)):
                time.sleep(0.05)
        self.process.wait()


def first_prediction(reply):
    if "predictions" in reply:
        return reply["predictions"][0]
    value = reply["outputs"][0]["data"][0]
    return value[0] if isinstance(value, list) else value


def await_answer(name, running, peer, row, log_path):
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if running.process.poll() is not None:
            break
        with contextlib.suppress(OSError, ValueError, KeyError):
            asked = urllib.request.Request(f"http://127.0.0.1:{running.port}{peer.path}", json.dumps(peer.body(row)).encode(),
                                           {"Content-Type": "application/json"})
            return first_prediction(json.loads(urllib.request.urlopen(asked, timeout=10).read()))
        time.sleep(0.2)
    sys.exit(f"{name} gave no answer:\n{log_path.read_text()[-2000:]}")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--peers", default="troupe,troupe-score,fastapi,fastapi-2,triton,gunicorn,mlserver,mlserver-batch,kserve,ray-batch")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=3)
    options.add_argument("--connections", default="1,16,64")
    options.add_argument("--json", action="store_true")
    options.add_argument("--home", type=pathlib.Path, default=ROOT / ".cache/http_peers")
    o = options.parse_args()
    home = Home(o.home.resolve())
    model = home.model()
    rows = json.loads((model / "rows.json").read_text())
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        all_peers = peers(home, model, work)
        unknown = [name for name in o.peers.split(",") if name not in all_peers]
        if unknown:
            sys.exit(f"unknown peers {', '.join(unknown)}; there are {', '.join(all_peers)}")
        for name in o.peers.split(","):
            if all_peers[name].venv:
                home.install(all_peers[name].venv)
        for round_ in range(o.rounds):
            for name in o.peers.split(","):
                peer = all_peers[name]
                bodies = []
                for i, row in enumerate(rows):
                    path = work / f"{name}-{i}.json"
                    path.write_text(json.dumps(peer.body(row)))
                    bodies += ["--body", str(path)]
                log_path = work / f"{name}.log"
                with open(log_path, "w") as log:
                    running = Running(peer, log)
                    try:
                        answer = await_answer(name, running, peer, rows[0], log_path)
                        for connections in (int(n) for n in o.connections.split(",")):
                            load = [BUILD / "bench/bench_http_load", f"http://127.0.0.1:{running.port}{peer.path}", "--connections",
                                    str(connections), "--header", "Content-Type: application/json", *bodies, "--json"]
                            subprocess.run([*load, "--seconds", "0.5"], stdout=subprocess.DEVNULL)  # warm
                            before = running.cpu()
                            done = subprocess.run([*load, "--seconds", str(o.seconds)], stdout=subprocess.PIPE, text=True)
                            spent = running.cpu() - before
                            if done.returncode != 0:
                                sys.exit(f"{name} at {connections}: {done.stdout}\n{log_path.read_text()[-2000:]}")
                            seen = json.loads(done.stdout)
                            cells.append({"server": name, "connections": connections, "round": round_, "answer": answer,
                                          "cpu_us": 1e6 * spent / seen["requests"],
                                          **{k: seen[k] for k in ("requests", "requests_per_second", "p50_ms", "p99_ms")}})
                            print(json.dumps(cells[-1]), file=sys.stderr)
                    finally:
                        running.stop()
    if o.json:
        print(json.dumps(cells))
        return
    print("| server | connections | requests/s | p50 ms | p99 ms | CPU us/request |\n|---|---|---|---|---|---|")
    for name in o.peers.split(","):
        for connections in (int(n) for n in o.connections.split(",")):
            of = [c for c in cells if c["server"] == name and c["connections"] == connections]
            print(f"| {name} | {connections} | " + " | ".join(
                f"{statistics.median(c[k] for c in of):,.{digits}f}"
                for k, digits in (("requests_per_second", 0), ("p50_ms", 3), ("p99_ms", 3), ("cpu_us", 1))) + " |")


main()
