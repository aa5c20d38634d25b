"""The image by itself, run by podman and runc as a platform would: limits, a read-only root, no rights, not root."""

import json
import os
import pathlib
import re
import time

import cluster
import report
import troupe_test as t

PORT = 18000
COMPRESSED_GOAL = 120e6


class Podman:
    def __init__(self, storage: pathlib.Path, stage: t.Stage, cgroup: str):
        self.stage, self.cgroup = stage, cgroup
        # /run is in memory and of this run alone.
        self.base = ["podman", "--root", storage / "root", "--runroot", "/run/podman", "--tmpdir", "/run/podman-tmp", "--storage-driver",
                     "overlay", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        # A container's usual limits on open files may be above what this machine may give.
        self.inside = ["--cgroup-parent", f"{cgroup}/podman", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]
        self("rm", "--all", "--force")  # of a run that was interrupted

    def __call__(self, *words, check=True, deadline=120):
        return cluster.command(*self.base, *words, check=check, deadline=deadline)

    def start(self, image: str, *options, name: str) -> float:
        """-> the monotonic time at which podman was asked."""
        asked = time.monotonic()
        self("run", "--detach", "--name", name, *self.inside, "--network", "host", *options, image)
        return asked

    def inspect(self, name: str) -> dict:
        return json.loads(self("inspect", name).stdout)[0]


LOCKED = ["--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "256m", "--cpus", "1",
          "--pids-limit", "200", "--tmpfs", "/tmp:rw,size=16m", "--tmpfs", "/var/lib/troupe:rw,size=64m"]
# As variables: what is asked within the container (`troupe health`) has to know of them, too.
ALONE = [word for name, value in (
    ("KAFKA_ENABLED", "false"), ("METRICS_BIND", "127.0.0.1"), ("METRICS_PORT", PORT), ("HTTP_BIND", "127.0.0.1"), ("HTTP_PORT", PORT + 1),
    ("GRPC_BIND", "127.0.0.1"), ("GRPC_PORT", PORT + 2)) for word in ("--env", f"TROUPE_{name}={value}")]


def ready(port: int = PORT) -> bool:
    return t.http("GET", f"http://127.0.0.1:{port}/ready", timeout=2)[0] == 200


def status_field(pid: int, name: str) -> str:
    return re.search(rf"^{name}:\s*(.*)$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)[1]


def run(stage: t.Stage, podman: Podman, image: str, archive: pathlib.Path, revision: str):
    """`revision`: the commit that it was built of; empty: whatever its label says."""
    with report.step("image: what it is") as n:
        about = json.loads(podman("image", "inspect", image).stdout)[0]
        config = about["Config"]
        assert config["User"] == "10001:10001", config["User"]
        assert config["Entrypoint"] == ["troupe"] and config["Cmd"] == ["serve"], config
        assert {p.partition("/")[0] for p in config["ExposedPorts"]} == {"8080", "8081", "8000"}, config["ExposedPorts"]
        assert config.get("StopSignal", "SIGTERM") in ("SIGTERM", "15"), config
        labels = config["Labels"]
        for label in ("title", "description", "version", "revision", "created", "base.name"):
            assert labels.get(f"org.opencontainers.image.{label}"), (label, labels)
        assert re.fullmatch(r"[0-9a-f]{12}", labels["org.opencontainers.image.revision"]), labels
        told = json.loads(podman("run", "--rm", *podman.inside, "--network", "none", image, "version", "--json").stdout)
        labelled = labels["org.opencontainers.image.revision"]
        assert told["revision"] == labelled == (revision or labelled), (told, labelled, revision)
        health = about.get("Healthcheck") or config.get("Healthcheck")
        assert health["Test"] == ["CMD", "troupe", "health", "--alive"], health
        folder = stage.path("oci")
        podman("push", image, f"oci:{folder}:troupe", deadline=300)
        manifest = json.loads((folder / "index.json").read_text())["manifests"][0]["digest"].partition(":")[2]
        layers = json.loads((folder / "blobs/sha256" / manifest).read_text())["layers"]
        n["compressed_MB"] = round(sum(layer["size"] for layer in layers) / 1e6, 1)
        n["base_compressed_MB"] = round(layers[0]["size"] / 1e6, 1)
        n["unpacked_MB"] = round(about["Size"] / 1e6, 1)
        n["layers"] = len(layers)
        assert n["compressed_MB"] * 1e6 < COMPRESSED_GOAL, n
        archive.unlink(missing_ok=True)
        podman("push", image, f"docker-archive:{archive}:{image}", deadline=300)

    with report.step("image: what is in it") as n:
        root = pathlib.Path(podman("image", "mount", image).stdout.strip())
        binary = root / "usr/bin/troupe"
        sections = cluster.command("readelf", "-SW", binary).stdout
        assert ".debug_line" not in sections and ".symtab" not in sections, "the program is not stripped"
        n["program_MB"] = round(binary.stat().st_size / 1e6, 1)
        for needed in ("usr/lib/troupe/libonnxruntime.so.1", "etc/ssl/certs/ca-certificates.crt", "usr/share/troupe/licenses/librdkafka/LICENSES.txt",
                       "usr/share/troupe/licenses/hiredis/COPYING", "usr/share/doc/troupe/copyright"):
            assert (root / needed).exists(), f"{needed} is missing"
        tools = [name for name in ("gcc", "g++", "cc", "make", "cmake", "git", "python3", "pip", "curl", "wget", "ccache") if (root / "usr/bin" / name).exists()]
        assert not tools, f"tools of the build are in the image: {tools}"
        leaks = [name for name in ("src", "package", "root/.cache/ccache", "run/secrets/ca.crt", "usr/local/share/ca-certificates/build.crt") if (root / name).exists()]
        assert not leaks, f"left over from the build: {leaks}"
        setuid = cluster.command("find", root, "-xdev", "-perm", "/6000", "-type", "f").stdout.split()
        assert not setuid, f"programs that make somebody root: {setuid}"
        n["packages"] = cluster.command("dpkg-query", "--admindir", root / "var/lib/dpkg", "-W", "-f", "${Package}\\n").stdout.count("\n")
        writable = cluster.command("find", root, "-xdev", "-perm", "-0002", "-type", "f").stdout.split()
        assert not writable, f"files that everybody can write: {writable}"

    with report.step("image: a container with everything taken away") as n:
        # Timings of a first start are those of the disk: the second is told.
        for turn in ("first", "second"):
            asked = podman.start(image, *LOCKED, *ALONE, name=f"locked-{turn}")
            t.wait_until(ready, "the container is ready", 30, 0.002)
            n[f"podman_run_to_ready_ms_{turn}"] = round((time.monotonic() - asked) * 1e3)
            seen = time.time()
            about = podman.inspect(f"locked-{turn}")
            pid = about["State"]["Pid"]
            if turn == "first":
                podman("stop", "-t", "20", "locked-first")
        started = float(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        n["exec_to_ready_ms"] = round((seen - boot_time() - started) * 1e3)
        assert status_field(pid, "Uid").split() == ["10001"] * 4 and status_field(pid, "Gid").split() == ["10001"] * 4
        assert int(status_field(pid, "CapEff"), 16) == 0 and int(status_field(pid, "CapBnd"), 16) == 0
        assert status_field(pid, "NoNewPrivs") == "1" and status_field(pid, "Seccomp") == "2"
        assert int(cluster.cgroup_file(pid, "memory", "memory.limit_in_bytes", "memory.max")) == 256 << 20
        quota = cluster.cgroup_file(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0]
        assert int(quota) == 100000, quota
        assert int(cluster.cgroup_file(pid, "pids", "pids.max", "pids.max")) == 200
        refused = podman("exec", "locked-second", "sh", "-c", "echo x > /etc/troupe/x", check=False)
        assert refused.returncode and "Read-only file system" in refused.stderr, refused
        status, body = t.http("POST", f"http://127.0.0.1:{PORT + 1}/v2/models/iris-classifier/infer",
                              {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]})
        assert status == 200 and b"setosa" in body, (status, body)
        assert podman("healthcheck", "run", "locked-second", check=False).returncode == 0
        asked = podman("exec", "locked-second", "troupe", "health", check=False)
        assert (asked.returncode, asked.stdout.strip()) == (0, "ready"), asked
        n["threads"] = int(status_field(pid, "Threads"))
        n["resident_MiB"] = int(status_field(pid, "VmRSS").split()[0]) >> 10

    with report.step("image: SIGTERM drains and ends with status 0") as n:
        begun = time.monotonic()
        podman("stop", "-t", "20", "locked-second")
        n["stopped_after_ms"] = round((time.monotonic() - begun) * 1e3)
        state = podman.inspect("locked-second")["State"]
        assert state["ExitCode"] == 0 and not state["OOMKilled"], state
        log = podman("logs", "locked-second").stdout
        events = [json.loads(line)["event"] for line in log.splitlines() if line.startswith("{")]
        assert "drain_started" in events and "drain_finished" in events, events

    with report.step("image: a model that ONNX Runtime scores, in its process, within the limits") as n:
        podman.start(image, *LOCKED, *ALONE, "--env", "TROUPE_MODELS_ENGINE=onnxruntime", name="onnxruntime")
        t.wait_until(ready, "the container is ready", 60, 0.01)
        status, body = t.http("POST", f"http://127.0.0.1:{PORT + 1}/v2/models/iris-classifier/infer",
                              {"inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]})
        assert status == 200 and b"setosa" in body, (status, body)
        log = podman("logs", "onnxruntime").stdout
        engines = {json.loads(line).get("engine") for line in log.splitlines() if '"model_loaded"' in line}
        assert engines and all("onnx" in str(engine).lower() for engine in engines), log
        podman("stop", "-t", "20", "onnxruntime")

    with report.step("image: the demo, one command, nothing mounted"):
        done = podman("run", "--rm", *podman.inside, "--network", "none", "--read-only", image, "demo", "--records", "20000", "--json")
        told = json.loads(done.stdout)
        assert told["lost"] == 0 and told["predicted"] > 20000, told


    with report.step("image: another user, in a folder that is closed to it"):
        done = podman("run", "--rm", *podman.inside, "--network", "none", "--read-only", "--user", "1000650000", "--workdir", "/root", image, "config", "--json")
        assert {"key": "models.directory", "value": "/models", "origin": "/etc/troupe/troupe.yaml"} in [
            {**one, "origin": one["origin"].partition(":")[0]} for one in json.loads(done.stdout)], done.stdout[-2000:]

    with report.step("package: removed it keeps the configuration, purged nothing is left"):
        script = """set -e
            test "$(dpkg-query -W -f '${db:Status-Status}' troupe)" = installed
            mkdir -p /var/lib/troupe/models/mine
            dpkg --remove troupe
            test ! -e /usr/bin/troupe && test ! -e /usr/lib/troupe && test -f /etc/troupe/troupe.yaml && test -d /var/lib/troupe/models/mine
            dpkg --purge troupe
            test ! -e /etc/troupe && test ! -e /var/lib/troupe
            getent passwd troupe && ! dpkg-query -W troupe"""
        podman("run", "--rm", *podman.inside, "--network", "none", "--user", "0", "--workdir", "/", "--entrypoint", "/bin/sh", image, "-c", script)
    podman("rm", "--all", "--force")


def boot_time() -> float:
    """As the process start times in /proc count it, to a hundredth of a second."""
    with open("/proc/uptime") as f:
        return time.time() - float(f.read().split()[0])
