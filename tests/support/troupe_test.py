"""What an end-to-end test needs, on Python's standard library: brokers, Redis, troupe itself, and an end for them all.

    import troupe_test

    with troupe_test.Stage() as stage:
        kafka = stage.kafka()                           # a real broker: kafka.bootstrap, kafka.client
        redis = stage.redis()
        node = stage.troupe({"kafka": {"brokers": kafka.bootstrap}, "redis": {"port": redis.port}})
        node.wait_ready()
        assert node.metrics().total("inference_requests_total", status="success") == 0

Everything lives in one temporary folder (kept when TROUPE_TEST_KEEP is set) and on free ports of the loopback. A guard
process ends what is left, by its pid, when the test ends in any way, a kill -9 included.
"""

import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

SUPPORT = pathlib.Path(__file__).resolve().parent
ROOT = SUPPORT.parent.parent
TROUPE = pathlib.Path(os.environ.get("TROUPE") or ROOT / "build/release/troupe")
SKIPPED = 77
OWN = ("TROUPE_", "KAFKA_", "REDIS_", "MLFLOW_", "MODEL_", "OTEL_", "EVENTHUB_", "USE_EVENTHUB", "CONSUMER_GROUP")


def skip(reason: str):
    """Ends the test as skipped."""
    print(f"skipped: {reason}", file=sys.stderr)
    sys.exit(SKIPPED)


def free_ports(count: int) -> List[int]:
    """Ports that nobody listens on, below the range from which the kernel takes ports for outgoing connections."""
    held: List[socket.socket] = []
    try:
        while len(held) < count:
            one = socket.socket()
            try:
                one.bind(("127.0.0.1", random.randrange(20000, 32000)))
                held.append(one)
            except OSError:
                one.close()
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def free_run(count: int) -> int:
    """The first of so many ports in a row that nobody listens on."""
    while True:
        first = random.randrange(20000, 32000 - count)
        try:
            with contextlib.ExitStack() as held:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
        except OSError:
            continue


def wait_until(condition: Callable[[], object], what: str, deadline: float = 60, every: float = 0.05):
    """Polls until the condition holds and returns its value; OSError counts as "not yet". Looks once more after the deadline:
    a machine that stood still may have slept through it."""
    end = time.monotonic() + deadline
    while True:
        late = time.monotonic() > end
        try:
            value = condition()
            if value:
                return value
        except OSError:
            value = None
        if late:
            raise AssertionError(f"not within {deadline:g} s: {what} (last: {value!r})")
        time.sleep(every)


def engines_of(pid: int) -> List[int]:
    """The processes in which engines of a node score."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            for child in (task / "children").read_text().split():
                if b"engine" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
        except OSError:  # it has just ended
            pass
    return found


def http(method: str, url: str, body: Union[None, bytes, str, dict] = None, headers: Optional[Dict[str, str]] = None,
         timeout: float = 60) -> Tuple[int, bytes]:
    """-> status and body; an HTTP error status is an answer like any other."""
    headers = dict(headers or {})
    if isinstance(body, dict):
        body = json.dumps(body)
        headers.setdefault("Content-Type", "application/json")
    data = body.encode() if isinstance(body, str) else body
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def actors(group: dict) -> List[dict]:
    """All actors beneath a group of /admin/tree."""
    return group["children"] + [a for g in group["groups"] for a in actors(g)]


class Metrics(Dict[Tuple[str, frozenset], float]):
    """One scrape: (name, frozenset of (label, value)) -> value."""

    LINE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)')
    LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')

    @classmethod
    def parse(cls, text: str) -> "Metrics":
        found = cls()
        for line in text.splitlines():
            match = None if line.startswith("#") else cls.LINE.match(line)
            if match:
                labels = frozenset(cls.LABEL.findall(match[2] or ""))
                found[(match[1], labels)] = float(match[3].replace("Inf", "inf"))
        return found

    def total(self, metric: str, **labels: str) -> float:
        """The sum over all series of the metric that carry these labels; 0 when there is none."""
        wanted = {(name.rstrip("_"), str(value)) for name, value in labels.items()}
        return sum(value for (name, has), value in self.items() if name == metric and wanted <= has)

    def names(self) -> set:
        return {name for name, _ in self}


# Reads "add PID", "brutal PID" (no SIGTERM first), "remove PID" and "folder PATH" lines, and ends what is left when its
# input closes, that is when the test is gone.
GUARD = r"""
import os, shutil, signal, sys, time
def start(pid):
    try:
        with open(f"/proc/{pid}/stat") as f: return f.read().rsplit(")", 1)[1].split()[19]
    except OSError: return None
left, folders, brutal = {}, [], set()
for line in sys.stdin:
    verb, _, rest = line.rstrip("\n").partition(" ")
    if verb in ("add", "brutal"): left[int(rest)] = start(rest)
    if verb == "brutal": brutal.add(int(rest))
    if verb == "remove": left.pop(int(rest), None)
    elif verb == "folder": folders.append(rest)
for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
    for pid, began in left.items():
        if began and start(pid) == began:
            try: os.kill(pid, signal.SIGKILL if pid in brutal else number)
            except OSError: pass
    end = time.monotonic() + patience
    while time.monotonic() < end and any(b and start(p) == b for p, b in left.items()): time.sleep(0.02)
for folder in folders: shutil.rmtree(folder, ignore_errors=True)
"""


class Stage:
    """Owns the temporary folder and every process of one test."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="troupe-test-"))
        self.count = 0
        self.telling = threading.Lock()
        self.guard = subprocess.Popen([sys.executable, "-c", GUARD], stdin=subprocess.PIPE, text=True,
                                      start_new_session=True, stdout=subprocess.DEVNULL)
        if not os.environ.get("TROUPE_TEST_KEEP"):
            self._tell(f"folder {self.folder}")
        self.processes: List["Process"] = []
        self.brokers: List["Kafka"] = []
        self.closing = contextlib.ExitStack()

    def __enter__(self):
        # A time-out of the test runner or Ctrl-C unwinds like any failure.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, kind, *_):
        self.closing.close()
        if kind and kind is not SystemExit:
            for one in (*self.processes, *self.brokers):
                one.show_log()
        self.guard.stdin.close()
        # Children must be reaped here, or the guard sees them as still there.
        while self.guard.poll() is None:
            for process in self.processes:
                process.process.poll()
            time.sleep(0.02)

    def _tell(self, line: str):
        with self.telling:
            self.guard.stdin.write(line + "\n")
            self.guard.stdin.flush()

    def own(self, pid: int, brutal: bool = False):
        """The stage ends this process when the test ends, with `brutal` by kill -9 at once."""
        self._tell(f"{'brutal' if brutal else 'add'} {pid}")

    def disown(self, pid: int):
        self._tell(f"remove {pid}")

    def path(self, name: str) -> pathlib.Path:
        return self.folder / name

    def start(self, command: Sequence[str], name: str, environment: Optional[Dict[str, str]] = None,
              cwd: Optional[pathlib.Path] = None) -> "Process":
        """Starts a process with stdout in <name>.out and stderr in <name>.err of the folder."""
        self.count += 1
        process = Process(self, [str(word) for word in command], f"{self.count}-{name}", environment or {}, cwd)
        self.processes.append(process)
        return process

    def kafka(self, nodes: int = 1, tls: bool = False, port: int = 0) -> "Kafka":
        return Kafka(self, nodes, tls, port)

    def cluster(self, topics: Sequence[str], partitions: int = 4, nodes: int = 3) -> "Kafka":
        """A cluster that survives the loss of a node: replication factor 3, min.insync.replicas 2, for these topics and for
        Kafka's own."""
        kafka = self.kafka(nodes)
        for topic in topics:
            kafka.client.create_topic(topic, partitions, replicas=min(3, nodes))
        kafka.wait_in_sync()
        return kafka

    def redis(self, *options: str) -> "Redis":
        return Redis(self, options)

    def node_on_kafka_and_redis(self, settings: dict) -> Tuple["Kafka", "Redis", "Troupe"]:
        """A node that is ready, with the cache in both levels, on brokers with the three topics of 4 partitions. `settings`
        are added to what that needs, section by section."""
        kafka, redis = self.kafka(), self.redis()
        for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
            kafka.client.create_topic(topic, 4)
        config = {"kafka": {"brokers": kafka.bootstrap}, "redis": {"host": "127.0.0.1", "port": redis.port}, "cache": {"mode": "on"}}
        for section, values in settings.items():
            config[section] = {**config.get(section, {}), **values}
        node = self.troupe(config)
        node.wait_ready()
        return kafka, redis, node

    def load(self, kafka: "Kafka", records: int, rate: int, *options: str, fresh: bool = False, wait_for: str = "60s") -> "Process":
        """`troupe load` over Kafka, begun; its report is JSON. `fresh`: every row is a new one to all caches, so that everything
        on the way of a record has work."""
        if fresh:
            rows = self.path("rows.jsonl")
            rows.write_text("".join(json.dumps([random.uniform(-0.1, 0.1) for _ in range(10)]) + "\n" for _ in range(records)))
            options = (*options, "--features-file", str(rows))
        return self.start([TROUPE, "load", "--brokers", kafka.bootstrap, "--records", records, "--rate", rate, *options, "--wait-for",
                           wait_for, "--json"], "load")

    def troupe(self, config: Optional[dict] = None, *options: str, command: str = "serve",
               environment: Optional[Dict[str, str]] = None) -> "Troupe":
        return Troupe(self, config or {}, options, command, environment or {})


class Process:
    def __init__(self, stage: Stage, command: List[str], name: str, environment: Dict[str, str],
                 cwd: Optional[pathlib.Path]):
        self.stage, self.name = stage, name
        self.out, self.err = stage.path(name + ".out"), stage.path(name + ".err")
        # Nothing of the caller's own settings may change a test.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(OWN)}
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            cwd=cwd or ROOT, env={**inherited, **environment})
        self.pid = self.process.pid
        stage.own(self.pid)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int):
        self.process.send_signal(number)

    def wait(self, deadline: float = 60) -> int:
        """-> exit status; negative: the signal that ended it."""
        try:
            status = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not ended within {deadline:g} s") from None
        self.stage.disown(self.pid)
        return status

    def stop(self, deadline: float = 60) -> int:
        """SIGTERM, then its exit status."""
        if self.running:
            self.signal(signal.SIGTERM)
        return self.wait(deadline)

    def kill(self) -> bool:
        """kill -9; whether it was still there to be killed."""
        self.process.kill()
        return self.wait() == -signal.SIGKILL

    def stdout(self) -> str:
        return self.out.read_text(errors="replace")

    def stderr(self) -> str:
        return self.err.read_text(errors="replace")

    def show_log(self, lines: int = 40):
        state = "running" if self.running else f"ended with {self.process.returncode}"
        print(f"--- {self.name} ({state})", file=sys.stderr)
        for text in (self.stdout(), self.stderr()):
            for line in text.splitlines()[-lines:]:
                print("   ", line[:500], file=sys.stderr)


class Kafka:
    """A real cluster. Node numbers begin at 1. bootstrap: the plain listeners; tls_bootstrap: SASL_SSL, with `secret` as
    password, which is the connection string of an Event Hubs namespace; with `port` at port + 2."""

    KEY = "dGhlLWtleS1vZi10aGUtdGVzdA=="

    def __init__(self, stage: Stage, nodes: int, tls: bool, port: int = 0):
        self.stage = stage
        stage.count += 1
        stage.brokers.append(self)
        self.folder = stage.path(f"{stage.count}-kafka")
        self.pids: Dict[int, int] = {}
        self.ports: Dict[int, int] = {}
        secured = []
        if tls:
            first = port or free_run(10 * nodes)
            self.secret = f"Endpoint=sb://localhost:{first + 2}/;SharedAccessKeyName=test;SharedAccessKey={self.KEY}"
            secured = ["--port", str(first), "--tls", "--secret", self.secret]
        self._run("--nodes", str(nodes), *secured)
        host = os.environ.get("KAFKA_HOST", "127.0.0.1")
        self.bootstrap = ",".join(f"{host}:{port}" for port in self.ports.values())
        if tls:
            ports = [(self.folder / f"node{node}/tls_port").read_text().strip() for node in self.ports]
            self.tls_bootstrap = ",".join(f"localhost:{port}" for port in ports)
            self.authority = self.folder / "certificates/ca.pem"
        self._client = None

    def _run(self, *options: str):
        # Output goes through a file: the brokers outlive the script and would hold a pipe open.
        result = self.stage.path("kafka-start.out")
        errors = self.stage.path("kafka-start.err")
        with open(result, "w") as out, open(errors, "w") as err:
            status = subprocess.run([str(SUPPORT / "kafka/start_kafka.sh"), "--data", str(self.folder), *options],
                                    stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=180).returncode
        for pid in self.folder.glob("node*/pid"):
            self.stage.own(int(pid.read_text()), brutal=True)
        if status:
            raise AssertionError(f"start_kafka.sh {' '.join(options)} failed:\n{errors.read_text()}")
        for line in result.read_text().splitlines():
            node, pid, port = map(int, line.split())
            self.pids[node], self.ports[node] = pid, port

    def show_log(self, lines: int = 20):
        """Warnings and errors: a broker says no more."""
        for log in sorted(self.folder.glob("node*/log")):
            print(f"--- {self.folder.name}, {log.parent.name}", file=sys.stderr)
            for line in log.read_text(errors="replace").splitlines()[-lines:]:
                print("   ", line[:500], file=sys.stderr)

    def present(self, certificate: str):
        """The nodes start again with another of make_certificates.sh's: server, expired or other."""
        self.change({"listener.name.sasl_ssl.ssl.keystore.location": f"{self.folder}/certificates/{certificate}.pem"})

    def change(self, settings: Dict[str, str]):
        """The nodes start again with these in their server.properties."""
        self.stop()
        for node in self.ports:
            properties = self.folder / f"node{node}/server.properties"
            kept = [line for line in properties.read_text().splitlines() if line.partition("=")[0] not in settings]
            properties.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in settings.items()), ""]))
        for node in list(self.ports):
            self.start(node)

    @property
    def client(self):
        """A kafka_client.Client, made when first asked for."""
        if self._client is None:
            import kafka_client
            self._client = self.stage.closing.enter_context(kafka_client.Client(self.bootstrap))
        return self._client

    def new_client(self):
        """A kafka_client.Client of the caller's own, for another thread; the caller closes it."""
        import kafka_client
        return kafka_client.Client(self.bootstrap)

    def wait_in_sync(self, client=None, deadline: float = 120):
        """Until every replica of every partition is in sync: the next node may go."""

        def all_there():
            sets = (client or self.client).in_sync()
            return sets and all(there == replicas for there, replicas in sets.values())

        wait_until(all_there, "every replica is in sync", deadline, 0.2)

    def kill(self, node: int = 1):
        """kill -9 of a node's process; its data stays."""
        os.kill(self.pids[node], signal.SIGKILL)
        wait_until(lambda: not pathlib.Path(f"/proc/{self.pids[node]}").exists() or "\nState:\tZ" in pathlib.Path(
            f"/proc/{self.pids[node]}/status").read_text(), f"Kafka node {node} is gone")
        self.stage.disown(self.pids[node])

    def freeze(self, node: int = 1):
        os.kill(self.pids[node], signal.SIGSTOP)

    def thaw(self, node: int = 1):
        os.kill(self.pids[node], signal.SIGCONT)

    def stop(self, node: Optional[int] = None):
        """An orderly stop of one node, or of all."""
        self._run("--stop", *(["--node", str(node)] if node else []))

    def start(self, node: int = 1):
        """A node that was stopped or killed, again: same ports, same data."""
        self._run("--node", str(node))


class Redis:
    def __init__(self, stage: Stage, options: Sequence[str]):
        if not shutil.which("redis-server"):
            raise AssertionError("redis-server is not installed: run scripts/deps --test")
        self.stage, self.options = stage, options
        (self.port,) = free_ports(1)
        self.start()

    def start(self):
        """Begins empty; after kill() or stop() on the same port again."""
        self.process = self.stage.start(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir",
             str(self.stage.folder), *self.options], "redis")
        wait_until(lambda: self.command("PING") or not self.process.running, "redis-server answers")

    def stop(self):
        self.process.stop()

    def kill(self):
        self.process.kill()

    def freeze(self):
        self.process.signal(signal.SIGSTOP)

    def thaw(self):
        self.process.signal(signal.SIGCONT)

    def command(self, *words: str) -> bytes:
        """One command; its reply as it came over the wire (RESP), enough for PING, DBSIZE, FLUSHALL, INFO."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            request = b"*%d\r\n" % len(words)
            for word in words:
                data = word.encode()
                request += b"$%d\r\n%s\r\n" % (len(data), data)
            connection.sendall(request)
            connection.settimeout(5)
            return connection.recv(1 << 20)


class Troupe(Process):
    """A node: its configuration is written as JSON (which YAML contains); metrics.port is set when the test did not.
    HTTP and gRPC are closed unless the test asks for them (`"http": {}`); then their ports are set as well."""

    def __init__(self, stage: Stage, config: dict, options: Sequence[str], command: str, environment: Dict[str, str]):
        config = json.loads(json.dumps(config))
        port, *door_ports = free_ports(3)
        metrics = config.setdefault("metrics", {})
        metrics.setdefault("port", port)
        metrics.setdefault("bind", "127.0.0.1")
        self.port = metrics["port"]
        for door, free in zip(("http", "grpc"), door_ports):
            if door in config:
                config[door].setdefault("port", free)
                config[door].setdefault("bind", "127.0.0.1")
            else:
                config[door] = {"enabled": False}
        self.http_port, self.grpc_port = config["http"].get("port"), config["grpc"].get("port")
        stage.count += 1
        self.config = stage.path(f"{stage.count}-troupe.yaml")
        self.config.write_text(json.dumps(config, indent=2))
        if not TROUPE.exists():
            raise AssertionError(f"{TROUPE} is not built")
        super().__init__(stage, [str(TROUPE), command, "--config", str(self.config), *options],
                         f"{stage.count}-troupe", environment, None)
        stage.processes.append(self)

    def get(self, path: str) -> Tuple[int, bytes]:
        return http("GET", f"http://127.0.0.1:{self.port}{path}")

    def log(self) -> List[dict]:
        """The lines of its log so far."""
        return [json.loads(line) for line in self.stdout().splitlines() if line.startswith("{")]

    def wait_ready(self, deadline: float = 60):
        def ready():
            if not self.running:
                raise AssertionError(f"troupe ended with {self.process.returncode} before it was ready:\n{self.stderr()}")
            return self.get("/ready")[0] == 200

        wait_until(ready, "troupe is ready", deadline)

    def metrics(self) -> Metrics:
        status, body = self.get("/metrics")
        assert status == 200, f"/metrics answered {status}"
        return Metrics.parse(body.decode())


def run(*words: str, environment: Optional[Dict[str, str]] = None, deadline: float = 180,
        stdin: Optional[str] = None) -> subprocess.CompletedProcess:
    """Runs one command of troupe to its end, with output as text."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(OWN)}
    return subprocess.run([str(TROUPE), *words], text=True, capture_output=True, timeout=deadline, cwd=ROOT, input=stdin,
                          env={**inherited, **(environment or {})})


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "free-ports":
        print(*free_ports(int(sys.argv[2])), sep="\n")
    else:
        sys.exit("usage: troupe_test.py free-ports COUNT")
