#!/usr/bin/env python3
"""SASL_SSL on a real Kafka: what each command says, in one line, of a wrong password, an expired certificate, one of an
unknown authority and one for another host, a listener that speaks something else, settings that can't work; that a
broker which only ends connections ends nobody; and Event Hubs mode from a connection string, end to end."""

import json
import re
import socket
import threading

import troupe_test as t

GOOD = {"features": [0.038, 0.05, 0.061, 0.021, -0.044, -0.034, -0.043, -0.002, 0.019, -0.017]}
NODE = {"http.enabled": "false", "grpc.enabled": "false", "metrics.port": "0", "metrics.bind": "127.0.0.1"}
COMMANDS = {
    "serve": (),
    "check": (),
    "load": ("--records", "1"),
    "results": (),
    "replay": (),
}


def refused(what, environment, secrets, *parts, commands=tuple(COMMANDS), status=1):
    """The commands end with 1 (or the status, where check tells it among others) and one line that has all the parts;
    nothing of a secret is said anywhere, and nothing of doing without a broker, which would not help."""
    for command, words in ((name, COMMANDS[name]) for name in commands):
        node = {f"TROUPE_{key.replace('.', '_').upper()}": value for key, value in NODE.items()}
        done = t.run(command, *words, environment={**node, **environment}, deadline=60)
        told = done.stdout + done.stderr
        assert done.returncode == (1 if command == "check" and done.stdout else status), (what, command, done.returncode, told)
        if command == "check" and done.stdout:
            lines = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
        else:
            lines = [line for line in done.stderr.splitlines() if line.startswith("troupe: ")]
        assert len(lines) == 1, (what, command, told)
        print(f"{what:18} {command:8} {lines[0]}")
        for part in parts:
            assert part in lines[0], (what, command, part, lines[0])
        assert "without a broker" not in told, (what, command, told)
        for secret in secrets:
            assert secret not in told, (what, command)


def properties(kafka, password=None, authority=None):
    return {"TROUPE_KAFKA_BROKERS": kafka.tls_bootstrap,
            "TROUPE_KAFKA_PROPERTIES_SECURITY_PROTOCOL": "SASL_SSL",
            "TROUPE_KAFKA_PROPERTIES_SASL_MECHANISM": "PLAIN",
            "TROUPE_KAFKA_PROPERTIES_SASL_USERNAME": "$ConnectionString",
            "TROUPE_KAFKA_PROPERTIES_SASL_PASSWORD": password or kafka.secret,
            "TROUPE_KAFKA_PROPERTIES_SSL_CA_LOCATION": str(authority or kafka.authority)}


class Cutter:
    """A port whose listener ends every connection as soon as it was spoken to, as a broker that goes does; forward()
    makes it pass what it gets on to another port."""

    def __init__(self, stage):
        self.count, self.to = 0, None
        self.listener = stage.closing.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def forward(self, port):
        self.to = port

    def _accept(self):
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            self.count += 1
            if self.to is None:
                threading.Thread(target=self._cut, args=(one,), daemon=True).start()
                continue
            other = socket.create_connection(("127.0.0.1", self.to))
            for pair in ((one, other), (other, one)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    @staticmethod
    def _cut(one):
        with one:
            try:
                one.recv(65536)
            except OSError:
                pass

    @staticmethod
    def _pass_on(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def hub(kafka, connection=None):
    return {"USE_EVENTHUB": "true", "EVENTHUB_CONNECTION": connection or kafka.secret, "EVENTHUB_NAME": "scoring",
            "KAFKA_BROKER": "old.example:9092",
            "TROUPE_KAFKA_PROPERTIES_SSL_CA_LOCATION": str(kafka.authority)}


with t.Stage() as stage:
    kafka = stage.kafka(tls=True)
    secrets = (kafka.KEY, kafka.KEY.rstrip("="), "hunter2", kafka.secret)
    for topic in ("scoring", "scoring-results", "scoring-dlq"):
        kafka.client.create_topic(topic, partitions=2)

    # --- refused

    refused("wrong password", properties(kafka, password="hunter2"), secrets,
            kafka.tls_bootstrap, "refuses the credentials", "sasl.password")
    refused("wrong key", hub(kafka, kafka.secret[:-6] + "hunter2="), secrets,
            kafka.tls_bootstrap, "refuses the credentials", "kafka.eventhub_connection")
    stranger = kafka.authority.parent / "stranger.pem"
    refused("unknown authority", properties(kafka, authority=stranger), secrets,
            kafka.tls_bootstrap, "authority that is not trusted", "kafka.properties.ssl.ca.location")

    # --- a listener that speaks something else

    def spoken(protocol, brokers):
        return {**properties(kafka), "TROUPE_KAFKA_BROKERS": brokers, "TROUPE_KAFKA_PROPERTIES_SECURITY_PROTOCOL": protocol}

    some = ("serve", "check", "results")
    key = "set kafka.properties.security.protocol to "
    refused("no TLS there", spoken("SASL_SSL", kafka.bootstrap), secrets, kafka.bootstrap, "speaks no TLS", key + "PLAINTEXT,")
    refused("no TLS there", spoken("SSL", kafka.bootstrap), secrets, kafka.bootstrap, "speaks no TLS", key + "PLAINTEXT,", commands=some)
    refused("only TLS there", spoken("PLAINTEXT", kafka.tls_bootstrap), secrets,
            kafka.tls_bootstrap, "speaks only TLS", key + "SSL (SASL_SSL where")
    refused("only TLS there", spoken("SASL_PLAINTEXT", kafka.tls_bootstrap), secrets,
            kafka.tls_bootstrap, "speaks only TLS", key + "SASL_SSL,", commands=some)
    refused("no SASL there", spoken("SASL_PLAINTEXT", kafka.bootstrap), secrets,
            kafka.bootstrap, "takes no credentials", key + "PLAINTEXT,")
    refused("SASL there", spoken("SSL", kafka.tls_bootstrap), secrets,
            kafka.tls_bootstrap, "wants credentials", "kafka.properties.security.protocol", commands=("check", "results"))

    cutter = Cutter(stage)
    topics = {"requests_topic": "scoring", "results_topic": "scoring-results", "dead_letter_topic": "scoring-dlq"}
    waiting = stage.troupe({"kafka": {"group": "waiting", **topics}}, environment=spoken("SASL_SSL", f"localhost:{cutter.port}"))
    t.wait_until(lambda: cutter.count >= 30 or not waiting.running, "it is tried again and again", 120)
    assert waiting.running, ("a broker that ends connections may be one that restarts", waiting.stderr())
    cutter.forward(int(kafka.tls_bootstrap.rsplit(":", 1)[1]))
    waiting.wait_ready()
    assert waiting.stop() == 0

    # --- what can't work anywhere, with no broker asked

    (nobody,) = t.free_ports(1)
    nowhere = f"127.0.0.1:{nobody}"
    unnamed = {name: value for name, value in spoken("SASL_PLAINTEXT", nowhere).items() if "MECHANISM" not in name}
    refused("no mechanism", unnamed, secrets, "kafka.properties.sasl.mechanisms: security.protocol is SASL_PLAINTEXT", "PLAIN", status=2)
    nameless = {name: value for name, value in spoken("SASL_SSL", nowhere).items() if "USERNAME" not in name}
    refused("no user", nameless, secrets, "kafka.properties.sasl.username: needed", status=2, commands=some)
    missing = {**spoken("SASL_SSL", nowhere), "TROUPE_KAFKA_PROPERTIES_SSL_CA_LOCATION": "/no/such/ca.pem"}
    refused("no CA file", missing, secrets, "kafka.properties.ssl.ca.location: '/no/such/ca.pem': No such file", status=2)
    no_pem = stage.path("no.pem")
    no_pem.write_text("nothing\n")
    refused("CA no PEM", {**missing, "TROUPE_KAFKA_PROPERTIES_SSL_CA_LOCATION": str(no_pem)}, secrets,
            f"kafka.properties.ssl.ca.location: '{no_pem}': holds no certificate in PEM format", status=2, commands=some)
    done = t.run("check", environment=spoken("SASL_SSL", nowhere))
    assert done.returncode == 1 and f"{nowhere}: Connection refused; without a broker: " in done.stdout, done

    two = {**properties(kafka), "TROUPE_KAFKA_BROKERS": f"{kafka.tls_bootstrap},{kafka.bootstrap}"}
    done = t.run("results", "--topic", "scoring", environment=two)
    assert done.returncode == 0, ("one of two broker addresses is enough", done)

    # --- a connection string that can't be read: 2, and nothing of it shows

    for broken, part in ((kafka.secret.replace("Endpoint=", ""), "NAME=VALUE"), (f'"{kafka.secret}"', "quotes"),
                         (kafka.secret.split(";SharedAccessKey=")[0], "no SharedAccessKey;"),
                         (kafka.secret.replace("sb://", "https://"), "sb://")):
        for command, words in COMMANDS.items():
            done = t.run(command, *words, environment=hub(kafka, broken))
            lines = done.stderr.splitlines()
            assert done.returncode == 2 and len(lines) == 1 and not done.stdout, (command, done)
            assert "EVENTHUB_CONNECTION: kafka.eventhub_connection: " in lines[0] and part in lines[0], lines
            assert not any(secret in lines[0] for secret in secrets), lines

    # --- Event Hubs mode: the variables of the older services and nothing else, and the right ones

    shown = t.run("config", environment=hub(kafka))
    assert shown.returncode == 0 and not any(secret in shown.stdout + shown.stderr for secret in secrets), shown
    file = stage.path("connection")
    file.write_text(kafka.secret + "\n")
    from_file = {**hub(kafka), "EVENTHUB_CONNECTION_FILE": str(file)}
    del from_file["EVENTHUB_CONNECTION"]
    done = t.run("check", environment={**from_file, **{f"TROUPE_{k.replace('.', '_').upper()}": v for k, v in NODE.items()}})
    assert done.returncode == 0 and "topic scoring-results: 2 partitions" in done.stdout, done
    assert "KAFKA_BROKER has no effect" in done.stdout and not any(s in done.stdout + done.stderr for s in secrets), done

    node = stage.troupe({}, environment=hub(kafka))
    node.wait_ready()
    done = t.run("load", "--records", "500", "--rate", "100", "--json", environment=hub(kafka))
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["predicted"] == 500 and report["lost"] == 0, (report, done.stderr)
    lines = [{"key": f"k-{i}", "value": {"request_id": f"k-{i}", **GOOD}, "timestamp_ms": 1731650000123 + i} for i in range(3)]
    lines += [{"key": "nobody", "value": {"request_id": "nobody", "model": "nobody", **GOOD}, "timestamp_ms": 1731650000000},
              {"key": "dead", "value": "no JSON"}]
    done = t.run("load", "--raw", "-", environment=hub(kafka), stdin="\n".join(map(json.dumps, lines)))
    assert done.returncode == 0, done

    def answers():
        found = {record.key.decode(): json.loads(record.value) for record in kafka.client.read("scoring-results") if record.key}
        return found if len(found) == 4 else None

    found = t.wait_until(answers, "the keyed requests are answered in scoring-results")
    for i in range(3):
        assert found[f"k-{i}"]["timestamp"] == f"2024-11-15T05:53:20.{123 + i}Z", found
    assert found["nobody"]["error"]["code"] == "model_not_found", found
    assert found["nobody"]["timestamp"] == "2024-11-15T05:53:20.000Z", found
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", json.loads(r.value)["timestamp"])
               for r in kafka.client.read("scoring-results"))
    t.wait_until(lambda: [r.key for r in kafka.client.read("scoring-dlq")] == [b"dead"], "the dead letter is in scoring-dlq")
    done = t.run("results", "--dlq", "--json", environment=hub(kafka))
    (letter,) = map(json.loads, done.stdout.splitlines())
    assert letter["key"] == "dead" and letter["code"] == "invalid_json" and letter["source_topic"] == "scoring", letter
    done = t.run("results", "--json", environment=hub(kafka))
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 504, (len(done.stdout.splitlines()), done.stderr)
    done = t.run("replay", "--json", environment=hub(kafka))
    assert done.returncode == 0 and json.loads(done.stdout)["sent"] == 1, done
    t.wait_until(lambda: len(kafka.client.read("scoring-dlq")) == 2, "the replayed letter is dead again")
    t.wait_until(lambda: sum(kafka.client.committed("$Default", "scoring").values()) == 506, "all is committed by $Default")
    assert node.stop() == 0

    # Event Hubs takes four commits a second of a partition.
    times = {}
    for record in kafka.client.read("__consumer_offsets"):
        if record.value is not None and record.key[:2] in (b"\0\0", b"\0\1") and b"$Default" in record.key:
            times.setdefault(record.key, []).append(record.timestamp)
    assert len(times) == 2, times.keys()  # partitions
    for of in map(sorted, times.values()):
        assert all(later - earlier >= 1000 for earlier, later in zip(of, of[4:])), of
    assert not any(secret in node.stdout() + node.stderr() for secret in secrets)

    # --- certificates that clients refuse

    kafka.present("expired")
    refused("expired", properties(kafka), secrets, kafka.tls_bootstrap, "certificate has expired")
    kafka.present("other")
    refused("another host", properties(kafka), secrets, kafka.tls_bootstrap, "for another host name", "kafka.brokers")
    unchecked = {**properties(kafka), "TROUPE_KAFKA_PROPERTIES_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "none"}
    done = t.run("results", "--topic", "scoring", "--max", "1", environment=unchecked)
    assert done.returncode == 0, done
