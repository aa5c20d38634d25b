#!/usr/bin/env python3
"""troupe replay on a real Kafka: dead letters go back once each, with key, value and headers, chosen by filters, and not in
circles."""

import json
import re
import signal

import troupe_test as t
from kafka_client import Record

GOOD = json.dumps({"features": [0.038, 0.05, 0.061, 0.021, -0.044, -0.034, -0.043, -0.002, 0.019, -0.017]}).encode()
REQUESTS, LETTERS = "inference-requests", "inference-requests-dlq"


def letter(n, code="model_failed", value=GOOD, timestamp=1731650000000, more=(), key=True):
    return Record(value, b"key-%d" % n if key else None,
                  [("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("none", None), *more,
                   ("__connect.errors.topic", REQUESTS.encode()), ("__connect.errors.partition", b"%d" % (n % 4)),
                   ("__connect.errors.offset", b"%d" % (n * 10)), ("__connect.errors.stage", b"TASK_PUT"),
                   ("__connect.errors.exception.class.name", code.encode()),
                   ("__connect.errors.exception.message", b"the engine ended on letter %d" % n)],
                  timestamp + n * 1000, partition=n % 2)


with t.Stage() as stage:
    kafka = stage.kafka()
    client = kafka.client
    client.create_topic(REQUESTS, partitions=4)
    client.create_topic(LETTERS, partitions=2)
    client.create_topic("elsewhere", partitions=1)
    broker = ("--brokers", kafka.bootstrap)

    def replay(*words, status=0):
        done = t.run("replay", *broker, *words)
        assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        return done

    def summary(*words, status=0):
        return json.loads(replay(*words, "--json", status=status).stdout.splitlines()[-1])

    def sent(topic=REQUESTS):
        return client.read(topic)

    # --- usage

    for words, part in ((("--since", "soon"), "--since soon"), (("--source-offset", "9-1"), "--source-offset 9-1"),
                        (("--to", LETTERS), "--to"), (("--group", "inference-service"), "--group inference-service"),
                        (("--max-replays", "0"), "--max-replays"), (("--limit", "0"), "--limit"),
                        (("--code", "model_failed", "--code", "nonsense"), "--code nonsense: no letter has that code; known: invalid_json"),
                        (("--code", "model_faild"), "did you mean model_failed?")):
        done = replay(*words, status=2)
        assert part in done.stderr and not done.stdout and done.stderr.startswith("troupe: "), done
    assert "no-such" in replay("--from", "no-such-topic", status=1).stderr
    for words in ((), ("--dry-run",)):  # a typo is not created, nor are the letters used up by it
        assert "topic inference-requets does not exist (--to)" in replay("--to", "inference-requets", *words, status=1).stderr
    client.create_topic("results", partitions=1)
    client.produce("results", [Record(GOOD, b"k", []) for _ in range(3)])
    done = replay("--from", "results", "--to", "elsewhere", "--group", "of-results")
    assert "3 no dead letters (--any-record" in done.stderr and not sent("elsewhere"), done
    assert summary("--from", "results", "--to", "elsewhere", "--group", "of-results", "--any-record", "--dry-run")["would_send"] == 3
    assert summary()["sent"] == 0, "nothing is there"
    assert replay().stderr == f"troupe: nothing to send: {LETTERS} has no records\n"

    # --- ten letters, with and without filters: once each

    client.produce(LETTERS, [letter(n, "model_failed" if n % 2 else "invalid_json") for n in range(10)])
    done = replay("--dry-run", "--code", "model_failed")
    assert len(done.stdout.splitlines()) == 5 and "would send 5" in done.stderr and not sent(), done
    assert all("model_failed: the engine ended" in line for line in done.stdout.splitlines()), done.stdout
    done = replay("--dry-run", "--json", "--since", "2024-11-15T05:53:22Z", "--until", "2024-11-15T05:53:25Z")
    *lines, last = map(json.loads, done.stdout.splitlines())
    assert sorted(line["source_offset"] for line in lines) == [20, 30, 40] and last["would_send"] == 3, done.stdout

    # Nothing matches: what was looked at, and status 0.
    for words, parts in ((("--since", "2024-11-15T06:00:00Z"), ("10 not asked for by --since 2024-11-15T06:00:00Z",)),
                         (("--source-offset", "5000-6000"), ("10 not asked for by --source-offset 5000-6000",)),
                         (("--code", "too_large", "--dry-run"), ("10 not asked for by --code too_large",))):
        done = replay(*words)
        for part in ("nothing to send: looked at 10 of 10 records of " + LETTERS, "2024-11-15T05:53:20Z to 2024-11-15T05:53:29Z", *parts):
            assert part in done.stderr, (part, done.stderr)
    first = summary("--code", "model_failed", "--limit", "2")
    assert first["sent"] == 2 and not first["stopped"], first
    assert summary("--code", "model_failed")["sent"] == 3
    again = summary("--code", "model_failed")
    assert again["sent"] == 0, again
    assert sorted(r.key for r in sent()) == [b"key-%d" % n for n in (1, 3, 5, 7, 9)], [r.key for r in sent()]
    for record in sent():
        names = [name for name, _ in record.headers]
        assert names == ["traceparent", "none", "troupe.replays"], names
        assert record.header("troupe.replays") == b"1" and record.value == GOOD, record
        assert record.header("none") is None
        assert record.header("traceparent") == b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert summary("--source-partition", "2", "--source-offset", "20-60")["sent"] == 2  # letters 2 and 6
    assert summary("--reason", "letter 4")["sent"] == 1
    whole = summary()
    assert whole["sent"] == 2 and sorted(r.key for r in sent()) == [b"key-%d" % n for n in range(10)], whole
    done = replay("--json")
    assert json.loads(done.stdout)["sent"] == json.loads(done.stdout)["looked_at"] == 0, done.stdout
    assert "group troupe-replay is done with all 10 records" in done.stderr and "--from-beginning" in done.stderr, done.stderr
    assert summary("--group", "another", "--to", "elsewhere")["sent"] == 10 and len(sent("elsewhere")) == 10
    assert summary("--from-beginning", "--dry-run")["would_send"] == 10
    assert summary("--from-beginning", "--limit", "1", "--to", "elsewhere")["sent"] == 1
    assert summary()["sent"] == 0, "what was known before --from-beginning still is"

    # --- no value; circles

    client.produce(LETTERS, [
        letter(20, "too_large", None, more=[("troupe.dropped.value.length", b"5000000")]), letter(21, value=None),
        letter(22, more=[("troupe.replays", b"2")]), letter(23, more=[("troupe.replays", b"3")]), letter(24, key=False)])
    done = replay("--json")
    report = json.loads(done.stdout)
    assert report["sent"] == 2 and report["without_value"] == 2 and report["replayed_too_often"] == 1, report
    assert "its value of 5000000 bytes was dropped" in done.stderr and "it never had a value" in done.stderr, done.stderr
    assert "it was sent 3 times and came back; --max-replays" in done.stderr, done.stderr
    by_key = {r.key: r for r in sent()}
    assert by_key[b"key-22"].header("troupe.replays") == b"3" and None in by_key, by_key.keys()
    later = summary("--max-replays", "4")
    assert later["sent"] == 1 and later["without_value"] == 0 and later["replayed_too_often"] == 0, later
    assert {r.key: r for r in sent()}[b"key-23"].header("troupe.replays") == b"4"

    # --- against a node: what goes back and fails again comes back, three times in all

    node = stage.troupe({"kafka": {"brokers": kafka.bootstrap, "group": "scorers", "properties": {"session.timeout.ms": "45000"}}})
    node.wait_ready()
    client.produce(REQUESTS, [Record(b"no JSON", b"circle")])
    for times in range(5):
        def dead():
            return [r for r in client.read(LETTERS) if r.key == b"circle"]
        t.wait_until(lambda: len(dead()) == min(times, 3) + 1, f"the letter is dead {min(times, 3) + 1} times")
        t.wait_until(lambda: sum(client.committed("scorers", REQUESTS).values()) == len(sent()), "all is answered")
        report = summary()
        assert report["sent"] == (1 if times < 3 else 0), (times, report)
        assert report["replayed_too_often"] == (0 if times < 3 else 1), (times, report)
    done = t.run("results", *broker, "--dlq", "--json")
    circles = [one for one in map(json.loads, done.stdout.splitlines()) if one.get("key") == "circle"]
    assert sorted(one["replays"] for one in circles) == [0, 1, 2, 3], circles
    assert {(one["partition"], one["offset"]) for one in circles} == {(r.partition, r.offset) for r in dead()}, circles
    told = [line for line in t.run("results", *broker, "--dlq").stdout.splitlines() if "key=circle" in line]
    assert sum(re.search(r"^inference-requests-dlq \d/\d+  of inference-requests \d/\d+  key=circle  (replayed [123] x  )?invalid_json: ", line)
               is not None for line in told) == 4 and sum("replayed 3 x" in line for line in told) == 1, told
    assert node.stop() == 0

    # --- thousands: Ctrl-C in the middle, kill -9, and the rest later; none is missing

    many = 20_000
    client.create_topic("many", partitions=1)
    client.create_topic("many-dlq", partitions=4)
    headers = [("__connect.errors.exception.class.name", b"model_failed")]
    client.produce("many-dlq", [Record(b"v-%d" % n, b"%d" % n, headers, partition=n % 4) for n in range(many)])
    words = (*broker, "--from", "many-dlq", "--to", "many", "--group", "many")
    begun = stage.start([t.TROUPE, "replay", *words, "--json"], "replay")
    t.wait_until(lambda: client.end_offsets("many")[0] > 0 or not begun.running, "some are sent", every=0.005)
    begun.signal(signal.SIGINT)
    assert begun.wait() == 0, begun.stderr()
    report = json.loads(begun.stdout())
    assert report["sent"] == client.end_offsets("many")[0], (report, client.end_offsets("many"))
    rest = summary("--from", "many-dlq", "--to", "many", "--group", "many")
    assert report["sent"] + rest["sent"] == many, (report, rest)
    values = [int(r.key) for r in client.read("many")]
    assert sorted(values) == list(range(many)), len(values)
    print(f"stopped after {report['sent']}, then {rest['sent']}")

    # --- nobody there

    kafka.stop()
    done = replay(status=1)
    assert "Connection refused" in done.stderr and done.stderr.count("\n") == 1, done.stderr
