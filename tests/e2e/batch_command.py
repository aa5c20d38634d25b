#!/usr/bin/env python3
"""troupe batch: files of requests, scored without a server; a kill -9 in the middle leaves no trace in the results."""

import json
import os
import random
import shutil
import signal
import subprocess

import troupe_test as t

random.seed(11)


def batch(*words, **how):
    return t.run("batch", *[str(word) for word in words], "--models", "models", **how)


def summary(result):
    return json.loads(result.stdout)


with t.Stage() as stage:
    big, small = stage.path("big.jsonl"), stage.path("small.jsonl")
    rows = [[round(random.uniform(-0.1, 0.1), 4) for _ in range(10)] for _ in range(300_000)]
    with open(big, "w") as file:
        for i, row in enumerate(rows):
            file.write(json.dumps({"request_id": f"r{i}", "features": row}) + "\n")
    whole, killed = stage.path("whole.jsonl"), stage.path("killed.jsonl")

    # Undisturbed.
    result = batch("--model", "diabetes-rf-model", big, "--output", whole, "--json")
    assert result.returncode == 0, result.stderr
    assert summary(result)["lines"] == 300_000 and summary(result)["errors"] == 0, result.stdout
    assert not os.path.exists(f"{whole}.checkpoint")
    results = [json.loads(line) for line in open(whole)]
    assert [r["request_id"] for r in results] == [f"r{i}" for i in range(300_000)]

    # The same from Kafka's reader of one row, by `models score`.
    few = stage.path("few.jsonl")
    few.write_text("".join(json.dumps(row) + "\n" for row in rows[:50]))
    version = results[0]["model_version"]
    scored = t.run("models", "score", f"models/diabetes-rf-model/{version}", str(few))
    assert [json.loads(line)[0] for line in scored.stdout.splitlines()] == [r["prediction"] for r in results[:50]], scored.stderr

    # kill -9, again and again, then to the end: the same bytes.
    command = [str(t.TROUPE), "batch", "--models", "models", "--model", "diabetes-rf-model", str(big), "--output", str(killed)]
    kills = 0
    for written in (5_000_000, 20_000_000, 28_000_000):
        process = stage.start(command, "batch")
        t.wait_until(lambda: not process.running or (killed.exists() and killed.stat().st_size > written), "it has written some", 60, 0.001)
        if process.running and process.kill():
            kills += 1
            # What another run wrote behind the checkpoint, half a line even, does not stay.
            with open(killed, "a") as file:
                file.write('{"request_id":"r')
    assert kills > 0
    if kills == 3:
        assert json.load(open(f"{killed}.checkpoint"))["done"] > 0
    # Ctrl-C keeps what was done.
    process = stage.start(command, "batch")
    before = killed.stat().st_size
    t.wait_until(lambda: not process.running or killed.stat().st_size != before, "it has begun", 60, 0.001)
    if process.running:
        process.signal(signal.SIGINT)
        assert process.wait() in (0, 1), process.stderr()
    if os.path.exists(f"{killed}.checkpoint"):
        done = json.load(open(f"{killed}.checkpoint"))["done"]
        result = batch("--model", "diabetes-rf-model", big, "--output", killed, "--json")
        assert result.returncode == 0, result.stderr
        assert summary(result)["resumed_after"] == done and summary(result)["lines"] == 300_000, result.stdout
    assert killed.read_bytes() == whole.read_bytes()

    # A result that is there already, a checkpoint of another input or model, and --restart.
    result = batch("--model", "diabetes-rf-model", big, "--output", whole)
    assert result.returncode == 2 and "--restart" in result.stderr, result.stderr
    small.write_text('{"features":' + json.dumps(rows[0]) + "}\n")
    out = stage.path("out.jsonl")
    mark = {"version": 1, "input_size": small.stat().st_size, "input_modified_ns": small.stat().st_mtime_ns, "model": "another",
            "input_offset": 0, "input_lines": 0, "output_offset": 0, "done": 0, "errors": 0}
    for change, says in (({}, "another"), ({"input_size": 1}, "has changed"), ({"version": 9}, "version")):
        stage.path("out.jsonl.checkpoint").write_text(json.dumps({**mark, **change}))
        result = batch("--model", "diabetes-rf-model", small, "--output", out)
        assert result.returncode == 2 and says in result.stderr and "--restart" in result.stderr, (change, result.stderr)
    result = batch("--model", "diabetes-rf-model", small, "--output", out, "--restart")
    assert result.returncode == 0 and not stage.path("out.jsonl.checkpoint").exists(), result.stderr

    # Lines that are wrong are answered in their place; standard input and output.
    lines = '\ufeff{"features":' + json.dumps(rows[0]) + '}\r\n\n{"features":[1]}\nno json\n{"request_id":7,"features":' + json.dumps(rows[1]) + "}"
    result = batch("--model", "diabetes-rf-model", "-", stdin=lines)
    assert result.returncode == 1, result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [a["request_id"] for a in answers] == ["line-1", "line-3", "line-4", "7"], answers
    assert [a.get("error", {}).get("code") for a in answers] == [None, "invalid_features", "invalid_json", None], answers
    assert answers[0]["prediction"] == results[0]["prediction"] and answers[3]["prediction"] == results[1]["prediction"]
    assert "4 lines, 2 errors" in result.stderr and "first error: line 3" in result.stderr, result.stderr
    assert batch("--model", "diabetes-rf-model", "-", "--allow-errors", stdin=lines).returncode == 0

    # A long line costs no memory and is one error.
    huge = stage.path("huge.jsonl")
    huge.write_text('{"features":[' + "1," * 2_000_000 + "1]}\n" + small.read_text())
    result = batch("--model", "diabetes-rf-model", huge, "--allow-errors")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [a.get("error", {}).get("code") for a in answers] == ["too_large", None], answers

    # CSV by its name, in any order of columns.
    names = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
    order = random.sample(range(10), 10)
    table = stage.path("table.csv")
    table.write_text(",".join(names[k] for k in order) + "\n" + "".join(",".join(str(row[k]) for k in order) + "\n" for row in rows[:100]) + "1,2\n")
    result = batch("--model", "diabetes-rf-model", table, "--allow-errors")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [a["prediction"] for a in answers[:100]] == [r["prediction"] for r in results[:100]], result.stderr
    assert answers[100]["request_id"] == "line-102" and answers[100]["error"]["message"] == "2 fields, the header has 10", answers[100]

    # A pipe by a name, as a shell's <(...) gives one, is read once, from its first byte.
    piped = batch("--model", "diabetes-rf-model", "--format", "csv", "/dev/stdin", "--allow-errors", stdin=table.read_text())
    assert [json.loads(line)["request_id"] for line in piped.stdout.splitlines()] == [a["request_id"] for a in answers], piped.stderr

    # The first line may be a row.
    for count in (1, 2):
        bare = stage.path(f"bare{count}.csv")
        bare.write_text("".join(",".join(map(str, row)) + "\n" for row in rows[:count]))
        for given in ([bare], ["-", "--format", "csv"]):
            result = batch("--model", "diabetes-rf-model", *given, **({"stdin": bare.read_text()} if given[0] == "-" else {}))
            answers = [json.loads(line) for line in result.stdout.splitlines()]
            assert [a["prediction"] for a in answers] == [r["prediction"] for r in results[:count]], result.stderr
            assert answers[0]["request_id"] == "line-1", answers
    # Other columns are refused at once.
    (stage.path("index.csv")).write_text("," + ",".join(names) + "\n0," + ",".join(map(str, rows[0])) + "\n")
    (stage.path("others.csv")).write_text("petal,sepal\n1,2\n")

    # What can't be done is said in one line, before anything is written.
    for words, says in ((["--model", "diabetes-rf-modl", small], "did you mean diabetes-rf-model?"),
                        (["--model", "diabetes-rf-model", "--version", "99", small], "version 99 is not in"),
                        (["--model", "diabetes-rf-model", stage.path("none.jsonl")], "No such file"),
                        (["--model", "diabetes-rf-model", small, "-o", small], "is the input itself"),
                        (["--model", "diabetes-rf-model", stage.path("index.csv"), "-o", stage.path("none-out.jsonl")], "index=False"),
                        (["--model", "diabetes-rf-model", stage.path("others.csv")], "'petal'"),
                        (["--format", "xml", small], "jsonl, csv or parquet"),
                        ([small, "--model", "diabetes-rf-model", "-o", stage.path("no/where")], "No such file")):
        result = batch(*words)
        assert result.returncode == 2 and says in result.stderr and result.stderr.count("\n") == 1, (words, result.stderr)

    # A full disk is said, and the same command goes on.
    if os.path.exists("/dev/full"):
        result = batch("--model", "diabetes-rf-model", small, "-o", "/dev/full")
        assert result.returncode == 1 and "No space left" in result.stderr and "same command" in result.stderr, result.stderr
