#!/usr/bin/env python3
"""What a person types: help, exit codes, errors that name their remedy, and the commands against a node with a broker
of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import troupe_test as t

COMMANDS = ("serve", "demo", "load", "results", "replay", "check", "health", "config", "version")
DOORS = ("--set", "http.port=0", "--set", "http.bind=127.0.0.1", "--set", "grpc.port=0", "--set", "grpc.bind=127.0.0.1")
ELSEWHERE = ("--set", "metrics.port=0", "--set", "metrics.bind=127.0.0.1", *DOORS)


def expect(status, *words, contains=(), environment=None):
    """Runs a command that must fail: its status, one line on stderr with these words, nothing on stdout."""
    done = t.run(*words, environment=environment)
    assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
    for part in contains:
        assert part in done.stderr, f"troupe {' '.join(words)}: {part!r} is not in {done.stderr!r}"
    return done


def told(done):
    """What is wrong, a line each."""
    return [line.removeprefix("troupe: ") for line in done.stderr.splitlines() if line.startswith("troupe: ")]


def one_line(done):
    assert len(told(done)) == 1 and done.stderr.count("\n") <= 2, (done.stdout, done.stderr)
    if "--json" in done.args:
        assert json.loads(done.stdout) == {"error": told(done)[0]}, (done.stdout, done.stderr)
    else:
        assert not done.stdout, (done.stdout, done.stderr)


# --- help and usage

overview = t.run("--help")
assert overview.returncode == 0
for command in COMMANDS:
    assert re.search(rf"^ *{command} ", overview.stdout, re.M), f"{command} is not in the overview"
    assert command == "serve" or "--json" in t.run(command, "--help").stdout, f"{command} has no --json"


def all_commands(*within):
    """Each command that the help of the one within which it is lists."""
    text = t.run(*within, "--help").stdout
    for name in re.findall(r"^  (\w+)  ", text.partition("Subcommands:")[2], re.M):
        yield (*within, name)
        yield from all_commands(*within, name)


# Every help ends in the same way: examples, what the exit status means, the page that says more, which is there.
every = list(all_commands())
assert {("fault", "run"), ("models", "show"), ("tree",), ("replay",)} <= set(every) and len(every) > 25, every
for words in every:
    done = t.run(*words, "--help")
    ending = re.search(r"\nExamples?:  (troupe|echo) (?:.*\n)+Exit status:  0 done; 1 .+; 2 .+\nMore:  (.+)\s*\Z", done.stdout)
    assert done.returncode == 0 and ending and f"troupe {' '.join(words)}" in done.stdout, (words, done.stdout)
    assert all((t.ROOT / page).exists() for page in ending[2].split(", ")), (words, ending[2])
expect(2, contains=["which command", "troupe --help"])
expect(2, "sevre", contains=["unknown command sevre", "serve"])
expect(2, "confg", contains=["config"])
expect(2, "--hlp", contains=["unknown option --hlp"])
expect(2, "load", "--recods", "5", contains=["unknown option --recods", "--records"])
expect(2, "load", "--recods=5", contains=["unknown option --recods", "--records"])
expect(2, "load", "twice", contains=["unexpected argument twice"])
expect(2, "load", "--records", "many", contains=["--records many: a whole number from 1 to 1000000000"])
for command in ("demo", "load"):
    for number in ("nan", "inf", "-1"):
        expect(2, command, "--rate", number, contains=[f"--rate {number}: a number from"])
for command in ("demo", "load", "results"):
    assert ":INT" not in t.run(command, "--help").stdout and ":FLOAT" not in t.run(command, "--help").stdout
expect(2, "demo", "--set", "kafka.brokers=broker:9092", contains=["kafka.brokers", "troupe serve", "troupe load"])
bare = expect(2)
assert all(re.search(rf"^ *{command} ", bare.stderr, re.M) for command in COMMANDS), bare.stderr
assert t.run("--version").stdout == t.run("version").stdout
expect(2, "load", "--records", "0", contains=["--records"])
expect(2, "load", "--wait-for", "soon", contains=["--wait-for"])
expect(2, "results", "--jsn", contains=["--json"])

# --- version

assert re.match(r"troupe \d+\.\d+\.\d+", t.run("version").stdout)
version = json.loads(t.run("version", "--json").stdout)
assert {"version", "revision", "compiler", "caf", "librdkafka"} <= version.keys(), version

# --- config

effective = {one["key"]: one for one in json.loads(t.run(
    "config", "--json", "--set", "kafka.group=mine", environment={
        "TROUPE_CACHE_BYTES": "1MiB", "TROUPE_REDIS_PASSWORD": "hunter2"}).stdout)}
assert effective["kafka.group"]["value"] == "mine" and effective["kafka.group"]["origin"] == "--set"
assert effective["cache.bytes"]["origin"] == "environment TROUPE_CACHE_BYTES", effective["cache.bytes"]
assert effective["redis.password"]["value"] == "***", effective["redis.password"]
shown = t.run("config", environment={"TROUPE_REDIS_PASSWORD": "hunter2", "TROUPE_ADMIN_TOKEN": "hunter2"})
assert shown.returncode == 0 and "hunter2" not in shown.stdout + shown.stderr and "kafka.brokers" in shown.stdout
schema = json.loads(t.run("config", "--schema").stdout)
assert "kafka" in schema["properties"], schema.keys()
assert t.run("config", "--markdown").stdout == (t.ROOT / "docs/configuration.md").read_text(), \
    "docs/configuration.md is not what `troupe config --markdown` prints"

# --- broken configuration: exit 2, one line, which says where, what and what instead

for words, parts in (
    (("--set", "kafka.brokes=x"), ("kafka.brokes", "kafka.brokers")),
    (("--set", "kafak.brokers=x"), ("kafak", "kafka")),
    (("--set", "metrics.port=high"), ("metrics.port", "high")),
    (("--set", "metrics.port=70000"), ("metrics.port", "65535")),
    (("--set", "cache.mode=sometimes"), ("cache.mode", "auto", "on", "off")),
    (("--set", "drain.deadline=10"), ("drain.deadline",)),
    (("--set", "kafka.delivery=exactly_once", "--set", "kafka.brokers=embedded"), ("kafka.delivery", "embedded")),
    (("--set", "kafka.brokers"), ("--set",)),
    (("--set", "kafka.properties.lingr.ms=5"), ("kafka.properties.lingr.ms", "linger.ms")),
    (("--set", "kafka.properties.group.instance.id=a"), ("kafka.properties.group.instance.id", "kafka.instance_id")),
    (("--set", "kafka.brokers=embedded,b:9092"), ("kafka.brokers", "embedded", "alone")),
    (("--set", "kafka.parking_topic=bad topic!"), ("kafka.parking_topic", "'bad topic!'", "249")),
    (("--set", "kafka.instance_id=" + "x" * 400), ("kafka.instance_id", "400 characters", "249")),
    (("--config", "/no/such/file.yaml"), ("/no/such/file.yaml",)),
):
    for command in ("serve", "check", "config", "load"):
        one_line(expect(2, command, *words, contains=parts))
one_line(expect(2, "serve", contains=["TROUPE_METRICS_PORT", "65535"], environment={"TROUPE_METRICS_PORT": "70000"}))

# A flag is named as it was typed, and given nothing it is not left out.
for command in ("serve", "check", "load", "results", "replay"):
    one_line(expect(2, command, "--brokers", "b:99999", contains=["--brokers: kafka.brokers: 'b:99999'", "host:port"]))
    for words in (("--brokers", ""), ("--config", ""), ("--set", "")):
        one_line(expect(2, command, *words, contains=[f"{words[0]}: is empty; give it a value, or leave it out"]))
one_line(expect(2, "check", "--brokers=", "--json", contains=["--brokers: is empty"]))
one_line(expect(2, "check", "--brokers", contains=["--brokers: needs a value"]))
for words in (("tree", "--url", ""), ("fault", "list", "--url", ""), ("models", "status", "--token-file", ""), ("load", "--requests-topic", ""),
              ("replay", "--reason", ""), ("batch", "x.jsonl", "--model", ""), ("serve", "--models", "")):
    one_line(expect(2, *words, contains=[f"{words[-2]}: is empty", f"troupe {words[0]} "]))
one_line(expect(2, "batch", "", contains=["FILE: is empty"]))
one_line(expect(2, "demo", "--models", "/no/such/models", contains=["/no/such/models"]))

# All mistakes in one go.
done = expect(2, "check", "--set", "metrics.prot=1", "--set", "kafka.properties.lingr.ms=5", "--brokers", "b:9092",
              environment={"TROUPE_GRPC_PORT": "x", "TROUPE_KAFKA_PROPERTIES_ACKZ": "all"})
assert [re.match(r"troupe: (environment \w+|--\w+): ", line)[1] for line in done.stderr.splitlines()] == [
    "environment TROUPE_GRPC_PORT", "environment TROUPE_KAFKA_PROPERTIES_ACKZ", "--set", "--set"], done.stderr
assert "--set: kafka.properties.lingr.ms: " in done.stderr and "did you mean 'linger.ms'?" in done.stderr, done.stderr
done = expect(2, "check", "--set", "kafka.properties.acks=1", "--set", "bare", "--set", "http.tls_cert=c.pem", "--json")
assert [line.partition(": ")[0] for line in told(done)] == ["--set bare", "--set", "--set"], done.stderr
assert {line.split(": ")[1] for line in told(done)[1:]} == {"http.tls_cert", "kafka.properties.acks"}, done.stderr
assert json.loads(done.stdout) == {"error": "\n".join(told(done))}, done.stdout
done = expect(2, "replay", "--code", "nope", "--since", "lately", "--source-offset", "q", "--limit", "none", "--max-replays", "3")
assert [line.split()[0] for line in told(done)] == ["--code", "--since", "--source-offset", "--limit"], done.stderr
done = expect(2, "replay", "--brokers", "embedded", "--group", "inference-service", "--to", "inference-requests-dlq")
assert [line.split()[0] for line in told(done)] == ["kafka.brokers", "--group", "--to"], done.stderr
done = expect(2, "load", "--records", "0", "--rate", "fast", "--wait-for", "x", "--nope")
assert [line.split()[0] for line in told(done)] == ["--records", "--rate", "--wait-for", "unknown"], done.stderr

# What a command that asks a node comes to is a document also where it comes to none.

(nowhere,) = t.free_ports(1)
for words in (("fault", "list"), ("fault", "inject", "redis_cut"), ("fault", "stop", "--all"), ("tree",), ("health",), ("models", "status")):
    there = (*words, "--url", f"127.0.0.1:{nowhere}", "--json")
    one_line(expect(1, *there, environment={"TROUPE_ADMIN_TOKEN": "t"}, contains=[f"http://127.0.0.1:{nowhere}/", ": Connection refused"]))
one_line(expect(2, "fault", "list", "--json", contains=["no admin token"]))
one_line(expect(2, "fault", "inject", "redis_cutt", "--json", contains=["did you mean redis_cut?"]))

# Help says what is meant.

for command in ("serve", "replay", "check"):
    assert re.search(r"^  --set KEY=VALUE  ", t.run(command, "--help").stdout, re.M), command
said = t.run("fault", "inject", "--help").stdout
for option, usual in (("duration", "30s"), ("delay", "200ms"), ("probability", "1"), ("model", "all"), ("every", "actor_crash strikes once")):
    assert re.search(rf"--{option} [A-Z]+ +.*\(default: {usual}", re.sub(r"\n {20,}", " ", said)), (option, said)

one_line(expect(2, "serve", contains=["USE_EVENTHUB", "'maybe'", "true"], environment={"USE_EVENTHUB": "maybe"}))

# What only a node can't do without is asked of a node, not of the commands beside it.

for command in ("serve", "check", "demo"):
    one_line(expect(2, command, "--set", "faults.enabled=true", contains=["faults.enabled", "admin.token"]))
for command in ("serve", "check"):
    one_line(expect(2, command, contains=["kafka.properties.isolation.level", "exactly_once", "remove it"], environment={
        "TROUPE_KAFKA_DELIVERY": "exactly_once", "TROUPE_KAFKA_PROPERTIES_ISOLATION_LEVEL": "read_uncommitted"}))
assert t.run("config", "--set", "faults.enabled=true").returncode == 0

# What is only idle is said, by check and in the log, and the rest goes on.

(nobody,) = t.free_ports(1)
weak = ("--set", "kafka.properties.enable.idempotence=false", "--set", f"kafka.brokers=127.0.0.1:{nobody}", *ELSEWHERE)
done = expect(1, "check", *weak, "--set", "kafka.properties.acks=1")
assert re.search(r"^warn +config: --set: kafka.properties.acks: 1 weakens at least once", done.stdout, re.M), done.stdout
assert re.search(r"^warn +config: --set: kafka.properties.enable.idempotence: ", done.stdout, re.M), done.stdout
for command in ("serve", "check"):
    one_line(expect(2, command, *weak, "--set", "kafka.properties.acks=0", contains=["--set: kafka.properties.acks: 0 is not allowed"]))
idle = ("--set", "kafka.transactional_id=scorer-0", "--set", f"kafka.brokers=127.0.0.1:{nobody}")
done = expect(1, "check", *idle, *ELSEWHERE)
assert re.search(r"^warn +config: kafka.transactional_id has no effect with kafka.delivery: at_least_once", done.stdout, re.M), done.stdout
assert "has no effect" not in done.stderr, ("said once", done.stderr)
assert "kafka.transactional_id has no effect" in t.run("config", *idle).stderr
done = expect(1, "check", *idle, *ELSEWHERE, "--set", "kafka.delivery=exactly_once")
assert "warn" not in done.stdout, done.stdout
done = expect(1, "check", *idle[2:], *ELSEWHERE, "--set", "kafka.eventhub_transactions=true")
assert re.search("^warn +config: kafka.eventhub_transactions has no effect without kafka.eventhub", done.stdout, re.M), done.stdout

# Properties of the Kafka library: where it was given, as it was written there, what it may be; before anybody is connected to.

for key, value, parts in (
    ("linger.ms", "5s", ("'5s' is not allowed; expected 0 to 900000",)),
    ("sasl.mechanism", "PIGEON", ("this build has no 'PIGEON'; take PLAIN",)),
    ("compression.type", "zip", ("'zip' is not allowed; expected none, gzip, snappy, lz4 or zstd",)),
    ("acks", "1", ("'1' is not allowed: acks must be set to all when enable.idempotence is true; correct or remove it",)),
    ("message.max.bytes", "20000000", ("fetch.max.bytes must be >= message.max.bytes", "set kafka.properties.fetch.max.bytes too (fetch.max.bytes is 8388608)")),
    ("max.poll.interval.ms", "1000", ("max.poll.interval.ms must be >= session.timeout.ms",)),
    ("delivery.timeout.ms", "30000", ("delivery.timeout.ms must be set <= transaction.timeout.ms", "set kafka.transaction_timeout too")),
):
    whole = f"kafka.properties.{key}: "
    variable = "TROUPE_KAFKA_PROPERTIES_" + key.upper().replace(".", "_")
    secured = {"TROUPE_KAFKA_PROPERTIES_SECURITY_PROTOCOL": "SASL_SSL"} if key == "sasl.mechanism" else {}
    secured["TROUPE_KAFKA_DELIVERY"] = "exactly_once"
    with t.Stage() as stage:
        file = stage.path("troupe.yaml")
        file.write_text(f"kafka:\n  brokers: 127.0.0.1:{nobody}\n  properties:\n    {key}: {value}\n")
        for command in ("serve", "check", "config", "load", "results"):
            one_line(expect(2, command, "--config", str(file), contains=(f"troupe: {file}:4: {whole}", *parts), environment=secured))
    one_line(expect(2, "serve", contains=(f"troupe: environment {variable}: {whole}", *parts), environment={**secured, variable: value}))
    one_line(expect(2, "check", "--set", f"kafka.properties.{key}={value}", contains=(f"troupe: --set: {whole}", *parts), environment=secured))

with t.Stage() as stage:
    broken = stage.path("broken.yaml")
    for text, parts in (
        ("kafka:\n  brokers: a:1\n  grup: x\n", (f"{broken}:3", "kafka.grup", "kafka.group")),
        ("metrics:\n  port: [1]\n", (f"{broken}:2", "metrics.port")),
        ("kafka: {\n", (str(broken),)),
        ("classes:\n  - {name: a, taget: 1s}\n", (f"{broken}:2", "classes.a.taget", "classes.a.target")),
        ("classes:\n  - {nme: a, target: 1s}\n", (f"{broken}:2", "classes.nme", "classes.name")),
        ("- 1\n- 2\n", (str(broken),)),
    ):
        broken.write_text(text)
        one_line(expect(2, "serve", "--config", str(broken), contains=parts))

    # --- what a node can't start with: exit 2, one line

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        taken = ("--set", f"metrics.port={port}", "--set", "metrics.bind=127.0.0.1", *DOORS)
        embedded = ("--set", "kafka.brokers=embedded")

        def refused(*words, contains):
            done = expect(2, "serve", *words, contains=contains)
            assert done.stderr.count("troupe: ") == 1, done.stderr

        refused(*embedded, *taken, contains=["metrics.port", port])
        done = expect(1, "check", *embedded, *taken, "--json")
        (found,) = [one for one in json.loads(done.stdout)["checks"] if not one["ok"]]
        assert found["what"] == f"metrics.port {port}" and "is in use" in found["detail"], found
        assert "metrics.port " + port not in found["detail"], ("said once", found)
        assert f"process {os.getpid()})" in found["detail"] and "(it is python" in found["detail"], found
    refused(*embedded, *ELSEWHERE, "--set", "models.directory=/no/such/models", contains=["/no/such/models"])
    refused(*embedded, *ELSEWHERE, "--set", "models.default=nobody", contains=["nobody"])
    refused(*embedded, *ELSEWHERE, "--set", "kafka.properties.lingr.ms=5", contains=["lingr.ms"])
    refused(*embedded, *ELSEWHERE, "--set", "kafka.properties.group.id=x", contains=["kafka.group"])
    empty = stage.path("models/half/1")
    empty.mkdir(parents=True)
    refused(*embedded, *ELSEWHERE, "--set", f"models.directory={empty.parent.parent}", contains=["model.onnx"])
    (empty / "model.onnx").write_bytes(b"no model at all")
    refused(*embedded, *ELSEWHERE, "--set", f"models.directory={empty.parent.parent}", contains=["half/1/model.onnx"])

    # --- beside a node that runs, as in its pod: its ports are its own, with TLS as well

    key, certificate = stage.path("door.key"), stage.path("door.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2", "-keyout", str(key),
                    "-out", str(certificate)], check=True, capture_output=True)
    tls = {"tls_cert": str(certificate), "tls_key": str(key)}
    beside = stage.troupe({"kafka": {"brokers": "embedded"}, "http": tls, "grpc": tls})
    beside.wait_ready()
    done = expect(0, "check", "--config", str(beside.config))
    ports = [line for line in done.stdout.splitlines() if ".port " in line]
    assert len(ports) == 3 and all(re.match(r"ok +\w+\.port \d+: a running troupe listens there \(process "
                                            f"{beside.process.pid}\\)$", line) for line in ports), ports
    assert beside.stop() == 0

    # --- a broker that can't be reached: check says so, serve stays up and says why it is not ready

    (nobody,) = t.free_ports(1)
    for brokers, reason in ((f"127.0.0.1:{nobody}", "Connection refused"), (f"no-such-host.invalid:{nobody}", "resolve")):
        unreachable = stage.troupe({"kafka": {"brokers": brokers}})
        done = t.run("check", "--set", f"kafka.brokers={brokers}", *ELSEWHERE)
        assert done.returncode == 1 and re.search(r"^FAILED +kafka.*" + reason, done.stdout, re.M), (done.stdout, done.stderr)
        assert re.search(r"^ok +models", done.stdout, re.M), done.stdout
        assert "kafka.enabled=false" in done.stdout, done.stdout
        done = t.run("check", "--json", "--set", f"kafka.brokers={brokers}", *ELSEWHERE)
        found = json.loads(done.stdout)
        assert done.returncode == 1 and found["ok"] is False, found

        def says_why():
            status, body = unreachable.get("/ready")
            return status == 503 and any(reason in why for why in json.loads(body)["reasons"])

        t.wait_until(says_why, f"/ready says: {reason}", 30)
        assert unreachable.get("/liveness")[0] == 200 and unreachable.get("/health")[0] == 200
        there = ("--url", f"127.0.0.1:{unreachable.port}")
        one_line(expect(1, "health", *there, contains=["not ready", reason]))
        assert json.loads(t.run("health", "--json", *there).stdout)["reasons"]
        assert t.run("health", "--alive", *there).stdout == "alive\n"
        assert unreachable.running
        assert unreachable.stop() == 0, unreachable.stderr()
    one_line(expect(1, "load", "--brokers", f"127.0.0.1:{nobody}", "--records", "1", "--json", contains=[f"127.0.0.1:{nobody}"]))
    done = t.run("results", "--brokers", f"127.0.0.1:{nobody}", "--json")
    assert done.returncode == 1 and f"127.0.0.1:{nobody}" in done.stderr and not done.stdout, (done.stdout, done.stderr)
    done = t.run("check", *embedded, *ELSEWHERE, "--set", "redis.host=127.0.0.1", "--set", f"redis.port={nobody}")
    assert done.returncode == 1 and re.search(r"^FAILED +redis.*Connection refused", done.stdout, re.M), done.stdout
    done = t.run("check", *embedded, *ELSEWHERE, "--set", "metrics.port=" + str(nobody), "--set", "grpc.port=" + str(nobody),
                 "--set", "grpc.enabled=true", "--set", "grpc.bind=127.0.0.1")
    assert done.returncode == 1 and re.search(rf"^ok +grpc.port {nobody}: free\nFAILED +metrics.port {nobody}: is that of grpc.port, too", done.stdout, re.M), done.stdout
    traced = (*embedded, *ELSEWHERE, "--set", f"tracing.endpoint=http://127.0.0.1:{nobody}")
    done = expect(1, "check", *traced)
    assert re.search(r"^FAILED +tracing http://127.0.0.1:\d+/v1/traces: .*Connection refused", done.stdout, re.M), done.stdout
    done = expect(1, "check", *traced, "--json")
    assert [one["ok"] for one in json.loads(done.stdout)["checks"] if one["what"].startswith("tracing ")] == [False], done.stdout
    done = expect(1, "check", *traced[:-1], "tracing.endpoint=http://[")
    assert re.search(r"^FAILED +tracing http://\[: .*use for example http://collector:4318", done.stdout, re.M), done.stdout

    # --- a node with its own broker, and the other commands against it

    node = stage.troupe({"kafka": {"brokers": "embedded"}})
    node.wait_ready()
    done = t.run("health", "--set", f"metrics.port={node.port}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ready\n", ""), done
    one_line(expect(1, "health", "--url", f"http://127.0.0.1:{nobody}", contains=[f"127.0.0.1:{nobody}", "Connection refused"]))
    def address():
        lines = map(json.loads, node.stdout().splitlines())
        return next((line["brokers"] for line in lines if line["event"] == "started"), None)

    brokers = t.wait_until(address, "the log says where the broker is")
    broker = ("--brokers", brokers)
    done = t.run("check", "--set", f"kafka.brokers={brokers}", *ELSEWHERE, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["ok"] is True, found
    assert any("diabetes-rf-model/3" in one["detail"] for one in found["checks"]), found

    for words in (("--rate", "2000"), ("--window", "500", "--keyed")):
        done = t.run("load", *broker, "--records", "2000", *words, "--json")
        report = json.loads(done.stdout)
        assert done.returncode == 0, (report, done.stderr)
        assert report["sent"] == report["predicted"] == 2000, report
        assert report["lost"] == report["errors"] == report["dead_letters"] == report["duplicated"] == 0, report
        assert 0 < report["p50_ms"] <= report["p95_ms"] <= report["p99_ms"] <= report["max_ms"], report
    done = t.run("load", *broker, "--records", "50", "--model", "nobody", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["errors"] == 50 and report["error_codes"] == {"model_not_found": 50}, report
    assert "nobody" in report["error_examples"]["model_not_found"], report
    expect(1, "load", *broker, "--records", "1", "--features", "10", "--model", "nobody", "--fail-on-errors")
    done = expect(1, "load", *broker, "--records", "3", "--model", "iris-classifier", contains=["--features"])
    assert "such as: " in done.stdout, done.stdout

    rows = stage.path("rows.csv")
    rows.write_text("a,b,c,d\n5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n")
    done = t.run("load", *broker, "--records", "20", "--model", "iris-classifier", "--features-file", str(rows), "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["predicted"] == 20, (report, done.stderr)
    rows.write_text("1,2\nx,y\n")
    expect(2, "load", *broker, "--features-file", str(rows), contains=["rows.csv:2"])

    raw = "\n".join(json.dumps(line) for line in (
        {"key": "first", "value": {"request_id": "first", "features": [0.01] * 10}, "headers": {"ce_id": "77"}},
        {"key": "second", "value": "no JSON"},
        {"key": "third", "value": None})) + "\n"
    # A node's address may lack http://, for every command that takes one; a token that is missing is not one that is wrong.
    address_alone = f"127.0.0.1:{node.port}"
    done = t.run("load", *broker, "--records", "20", "--metrics", address_alone, "--json")
    assert done.returncode == 0 and "cache_hit_ratio" in done.stdout, (done.stdout, done.stderr)
    for words in (("tree",), ("models", "status"), ("fault", "list")):
        for url in (address_alone, f"http://{address_alone}/"):
            done = expect(1, *words, "--url", url, contains=["admin.token"], environment={"TROUPE_ADMIN_TOKEN": "x"})
            assert "/admin is closed: set admin.token" in done.stderr, done.stderr
        one_line(expect(2, *words, "--url", f"https://{address_alone}", contains=["--url https://", "expected http://host:port"],
                        environment={"TROUPE_ADMIN_TOKEN": "x"}))
        one_line(expect(2, *words, "--url", address_alone, contains=["no admin token", "--token-file"]))
        one_line(expect(2, *words, "--token-file", str(stage.folder), contains=["--token-file", "is a directory"]))

    done = t.run("load", *broker, "--raw", "-", "--json", stdin=raw)
    assert done.returncode == 0 and json.loads(done.stdout)["sent"] == 3, (done.stdout, done.stderr)
    expect(2, "load", *broker, "--raw", "/no/such/file", contains=["/no/such/file"])
    for line, parts in (('{"valu": 1}', ("--raw -:1", "'valu'", "'value'")), ('{"key": "k"}', ("--raw -:1", "no value"))):
        done = t.run("load", *broker, "--raw", "-", stdin=line + "\n")
        assert done.returncode == 2 and all(part in done.stderr for part in parts), done.stderr

    def printed(*words):
        done = t.run("results", *broker, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def dead():
        return [json.loads(line) for line in printed("--dlq", "--json")]

    t.wait_until(lambda: len(dead()) == 2, "both dead letters are shown")
    assert {one["key"] for one in dead()} == {"second", "third"} and all(one["reason"] for one in dead()), dead()
    for one in dead():
        assert one["source_topic"] == "inference-requests" and one["source_offset"] >= 0 and one["code"], one
        assert one["topic"] == "inference-requests-dlq" and one["offset"] in (0, 1) and one["replays"] == 0, one
    assert any(re.match(r"inference-requests-dlq 0/[01]  of inference-requests \d+/\d+  key=second  invalid_json: ", line)
               for line in printed("--dlq"))
    answered = 4000 + 50 + 1 + 3 + 20 + 20 + 1
    t.wait_until(lambda: len(printed("--json")) >= answered, "what was sent last is answered, too")
    lines = [json.loads(line) for line in printed("--json")]
    assert len(lines) == answered, len(lines)
    assert all({"topic", "partition", "offset", "value"} <= one.keys() for one in lines)
    assert len(printed("--json", "--max", "7")) == 7
    people = printed()
    assert len(people) == len(lines) and any(line.startswith("first ") and "diabetes-rf-model/3" in line for line in people)
    assert any("nobody" in line and "model_not_found" in line for line in people)

    following = stage.start([t.TROUPE, "results", *broker, "--follow", "--from-beginning", "--json"], "results")
    t.wait_until(lambda: following.stdout().count("\n") >= len(lines), "what is there is shown")
    t.run("load", *broker, "--records", "10", "--json")
    t.wait_until(lambda: following.stdout().count("\n") >= len(lines) + 10, "what comes is shown")
    assert following.stop() == 0

    # --- generated rows: the same each time, unless another seed is asked for

    def rows(topic, *words):
        t.run("load", *broker, "--records", "50", "--distinct", "50", "--no-wait", "--requests-topic", topic, *words, "--json")
        return {json.dumps(json.loads(line)["value"]["features"]) for line in printed("--topic", topic, "--json")}

    usual = rows("usual")
    assert len(usual) == 50 and usual == rows("again") == rows("seven", "--seed", "7")
    assert not usual & rows("eight", "--seed", "8")
    expect(2, "load", *broker, "--seed", "8", "--features-file", "rows.csv", contains=["--seed"])

    # --- exactly once needs a Kafka: this broker takes every request of a transaction, and keeps none of what it means

    once = ("--set", f"kafka.brokers={brokers}", "--set", "kafka.delivery=exactly_once", "--set", "kafka.group=once", *ELSEWHERE)
    done = expect(1, "check", *once)
    assert re.search(r"^FAILED +transactions of .*: this broker is one of `kafka.brokers: embedded`.*at_least_once$", done.stdout, re.M), done.stdout
    done = expect(1, "serve", *once, "--set", "log.format=json", contains=["troupe: Kafka: this broker is one of `kafka.brokers: embedded`"])
    assert "kafka_broken" in [json.loads(line)["event"] for line in done.stdout.splitlines()], done.stdout

    # --- signals: the first ends in order, the second at once

    def pending(*words):
        load = stage.start([t.TROUPE, "load", *broker, "--rate", "200", "--records", "1000000", "--wait-for", "60s", "--json",
                            *words], "load")
        end = node.metrics().total("inference_requests_total")
        t.wait_until(lambda: node.metrics().total("inference_requests_total") > end + 50, "requests flow")
        return load

    load = pending()
    load.signal(signal.SIGINT)
    assert load.wait() == 0, load.stderr()
    report = json.loads(load.stdout())
    assert report["interrupted"] and 0 < report["predicted"] == report["sent"] < 1_000_000, report

    load = pending("--results-topic", "elsewhere")  # where no answer will come
    load.signal(signal.SIGINT)
    time.sleep(0.5)  # it waits for answers now; at any earlier moment the outcome is the same
    assert load.running

    def ended_by_another():  # two that come at once are one
        if load.running:
            load.signal(signal.SIGINT)
        return not load.running

    t.wait_until(ended_by_another, "a second signal ends it", 30, 0.5)
    assert load.wait() == 130, load.stderr()

    # Answers that never come are losses, and the exit status says so.
    done = t.run("load", *broker, "--records", "5", "--results-topic", "elsewhere", "--wait-for", "500ms", "--json")
    assert done.returncode == 1 and json.loads(done.stdout)["lost"] == 5, (done.returncode, done.stdout)

    assert node.stop() == 0, node.stderr()
    said = [json.loads(line)["event"] for line in node.stdout().splitlines()]
    assert {"started", "ready", "drain_started", "drain_finished"} <= set(said), said
    assert said.index("drain_started") < said.index("drain_finished")
print("commands behave as documented")
