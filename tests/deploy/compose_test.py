#!/usr/bin/env python3
"""docker-compose.yaml as docker compose reads it, and what that does not look at: names that refer to nothing, files that are not
there, versions that differ from the build's. Each checker is shown a mistake, too."""

import json
import os
import pathlib
import re
import subprocess

import troupe_test as t

ROOT = pathlib.Path(os.environ.get("TROUPE_SOURCE_DIRECTORY") or pathlib.Path(__file__).resolve().parents[2])
READER = pathlib.Path(os.environ.get("TROUPE_DEPLOY_TOOLS") or ROOT / ".deps/tools") / "compose-spec"
FILE = ROOT / "docker-compose.yaml"
if not READER.exists():
    t.skip(f"needs {READER}: scripts/deps --test installs it")


def read(text: str):
    """-> the project, or the reader's complaint."""
    # It stands where the real one does, for what is relative to it.
    copy = ROOT / f".docker-compose-test-{os.getpid()}.yaml"
    copy.write_text(text)
    try:
        done = subprocess.run([READER, "--format", "json", copy], capture_output=True, text=True, cwd=ROOT,
                              env={k: v for k, v in os.environ.items() if not k.startswith("TROUPE_")})
    finally:
        copy.unlink()
    return json.loads(done.stdout) if done.returncode == 0 and done.stdout else done.stderr or "no project"


def problems(project) -> list:
    if isinstance(project, str):
        return [project]
    found = []
    services = project["services"]
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            if other not in services:
                found.append(f"{name} depends on {other}, which is no service")
            elif service["depends_on"][other]["condition"] == "service_healthy" and "healthcheck" not in services[other]:
                found.append(f"{name} waits for {other} to be healthy, which has no health check")
        for volume in service.get("volumes", []):
            if volume["type"] == "volume" and volume["source"] not in project.get("volumes", {}):
                found.append(f"{name}: no volume {volume['source']}")
            if volume["type"] == "bind" and not pathlib.Path(volume["source"]).exists():
                found.append(f"{name}: {volume['source']} is not there")
        image = service.get("image", "")
        if ":" not in image or image.endswith(":latest"):
            found.append(f"{name}: {image} says no version")
    version = re.search(r"project\(troupe VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())[1]
    for name in ("troupe", "load"):
        if services[name]["image"] != f"localhost/troupe:{version}":
            found.append(f"{name}: {services[name]['image']} is not what scripts/image builds, localhost/troupe:{version}")
    if f"ARG VERSION={version}\n" not in (ROOT / "Dockerfile").read_text():
        found.append(f"the Dockerfile's VERSION, which compose builds with, is not {version}")
    broker = next(iter(services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(","))).partition("://")[2]
    if services["troupe"]["environment"]["TROUPE_KAFKA_BROKERS"] != broker:
        found.append(f"troupe asks another broker than {broker}")
    allowed = re.search(r"--allowed-hosts[ ',\"]+([^\s'\"]+)", str(services["mlflow"]["command"]))
    if services["troupe"]["environment"]["TROUPE_MLFLOW_URI"].partition("//")[2] not in (allowed[1].split(",") if allowed else []):
        found.append("MLflow does not allow the name that troupe asks it by")
    start = version_of_kafka()
    for name in ("kafka", "topics"):
        if services[name]["image"] != f"apache/kafka:{start}":
            found.append(f"{name}: the tests run Kafka {start}")
    # What a pod of the chart may not do, the container may not either.
    for name in ("troupe", "load"):
        one = services[name]
        if not (one.get("read_only") and one.get("cap_drop") == ["ALL"] and "no-new-privileges:true" in one.get("security_opt", [])):
            found.append(f"{name} may do more than a pod of the chart")
    return found


def version_of_kafka() -> str:
    return re.search(r"^version=(\S+)", (ROOT / "tests/support/kafka/start_kafka.sh").read_text(), re.M)[1]


text = FILE.read_text()
assert problems(read(text)) == [], problems(read(text))

PLANTED = (  # a mistake, and what the complaint names
    ("mem_limit:", "mem_limt:", "mem_limt"),
    ("condition: service_completed_successfully", "condition: service_done", "topics.condition"),
    ("cpus: 2", "cpus: two", "two"),
    ('["29092:29092"]', '["29092:abc"]', "abc"),
    ("      redis: {condition", "      rediss: {condition", "rediss"),
    ('["kafka:/var', '["kafkaa:/var', "kafkaa"),
    ("./models:/models:ro", "./modells:/models:ro", "modells"),
    ("TROUPE_KAFKA_BROKERS: kafka:9092", "TROUPE_KAFKA_BROKERS: kafka:29092", "another broker"),
    ("--allowed-hosts mlflow:5000,", "--allowed-hosts ", "does not allow"),
    ("localhost/troupe:0.1.0}\n    build", "localhost/troupe:0.0.9}\n    build", "0.0.9"),
    ("cap_drop: [ALL]", "cap_drop: [NET_RAW]", "may do more"),
    ("redis:7.4", "redis", "says no version"),
)
for before, after, named in PLANTED:
    assert before in text, before
    told = problems(read(text.replace(before, after, 1)))
    assert any(named in one for one in told), (before, after, told)
