#!/usr/bin/env python3
"""troupe batch of Parquet files: the same predictions as of the CSV, whatever happens on the way. What needs no pyarrow is
checked with a reader that this test plays; the rest is skipped without."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys

import troupe_test as t

random.seed(12)
NAMES = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]

# The reader, held up behind some 3,500 rows.
SLOW = """
import os, runpy, sys, time
write, left = os.write, 250_000
def slow(to, data):
    global left
    if left <= 0:
        time.sleep(600)
    n = write(to, data[:50_000])
    left -= n
    return n
os.write = slow
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def python(stage, name, text):
    """A folder to put first in PATH, whose python3 is this."""
    folder = stage.path(name)
    folder.mkdir()
    (folder / "python3").write_text("#!/bin/sh\n" + text + "\n")
    (folder / "python3").chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def batch(*words, environment=None, model="diabetes-rf-model", models="models"):
    return t.run("batch", "--models", str(models), "--model", model, *[str(word) for word in words], environment=environment, deadline=120)


def results(path):
    return [json.loads(line) for line in open(path)]


with t.Stage() as stage:
    file, out = stage.path("rows.parquet"), stage.path("out.jsonl")
    file.write_bytes(b"PAR1 and what only the reader knows PAR1")
    rows = [[round(random.uniform(-0.1, 0.1), 4) for _ in range(10)] for _ in range(5000)]
    table = stage.path("rows.csv")
    header = ",".join(NAMES) + "\n"
    table.write_text(header + "".join(",".join(map(str, row)) + "\n" for row in rows))
    assert batch(table, "-o", stage.path("csv.jsonl")).returncode == 0
    wanted = [r["prediction"] for r in results(stage.path("csv.jsonl"))]

    def refused(result, *words):
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result
        assert all(word in result.stderr for word in words), (words, result.stderr)
        assert not out.exists() and not os.path.exists(f"{out}.checkpoint")

    # No Python, and one without pyarrow.
    refused(batch(file, "-o", out, environment={"PATH": str(stage.folder)}), "rows.parquet", "python3 is not installed")
    refused(batch(file, "-o", out, environment=python(stage, "bare", f'exec {sys.executable} -I -S "$@"')), "lacks pyarrow", "pip install pyarrow")
    # A reader that fails at row 3000 after a while; the next one goes on there; ids are rows, wherever it began.
    reader = f"""for skip; do :; done
echo "$skip" >> {stage.folder}/skips
echo '{{"rows": 5000}}'
head -1 {table}
tail -n +$((skip + 2)) {table} | head -$((ROWS - skip))
[ "$ROWS" = 5000 ] && exit 0
echo "can't be read behind row $ROWS" >&2
exit 1"""
    broken = batch(file, "-o", out, environment={**python(stage, "broken", "ROWS=3000\n" + reader)})
    assert broken.returncode == 1 and "rows.parquet: can't be read behind row 3000" in broken.stderr, broken
    assert os.path.exists(f"{out}.checkpoint")
    mark = json.load(open(f"{out}.checkpoint"))
    # As if it had been killed before.
    lines = open(out, "rb").read().splitlines(True)
    assert len(lines) == 3000 == mark["done"], (len(lines), mark)
    del lines[1700:]
    mark.update(input_lines=len(lines), done=len(lines), output_offset=sum(map(len, lines)))
    json.dump(mark, open(f"{out}.checkpoint", "w"))
    with open(out, "a") as more:
        more.write('{"request_id":"r')
    whole = python(stage, "whole", "ROWS=5000\n" + reader)
    result = batch(file, "-o", out, "--json", environment=whole)
    assert result.returncode == 0, result
    assert json.loads(result.stdout)["resumed_after"] == len(lines) and json.loads(result.stdout)["lines"] == 5000, result.stdout
    assert stage.path("skips").read_text().split() == ["0", "0", str(len(lines))]
    assert [r["request_id"] for r in results(out)] == [f"line-{i + 1}" for i in range(5000)]
    assert [r["prediction"] for r in results(out)] == wanted and not os.path.exists(f"{out}.checkpoint")
    # Another input, and a checkpoint of the CSV, are noticed.
    json.dump(mark, open(f"{out}.checkpoint", "w"))
    os.utime(file, (1, 1))
    result = batch(file, "-o", out, environment=whole)
    assert result.returncode == 2 and "has changed" in result.stderr, result
    json.dump({**mark, "input_modified_ns": 10**9, "model": mark["model"].replace("parquet", "csv")}, open(f"{out}.checkpoint", "w"))
    result = batch(file, "-o", out, environment=whole)
    assert result.returncode == 2 and "parquet; --restart begins anew" in result.stderr, result
    os.unlink(f"{out}.checkpoint")
    out.unlink()
    # By its first bytes, or by --format; the other formats are not tried on it.
    hidden = stage.path("rows.data")
    hidden.write_bytes(file.read_bytes())
    assert batch(hidden, environment=whole).stdout.count("\n") == 5000
    refused(batch(hidden, "--format", "csv", "-o", out), "is a Parquet file")
    refused(batch("-", "--format", "parquet", "-o", out), "from a file only")
    refused(batch(stage.folder, "--format", "parquet", "-o", out), "Is a directory")
    refused(batch(stage.path("none.parquet"), "-o", out), "No such file")

    if not importlib.util.find_spec("pyarrow"):
        t.skip("the rest needs pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq
    real = python(stage, "real", f'exec {sys.executable} "$@"')

    # The same predictions as of the CSV: floats, several row groups, another order, columns besides.
    columns = {name: pa.array([row[i] for row in rows]) for i, name in enumerate(NAMES)}
    order = random.sample(NAMES, 10)
    pq.write_table(pa.table({"id": list(range(5000)), **{name: columns[name] for name in order}, "when": pa.array([0] * 5000, pa.timestamp("us")),
                             "tags": [[1]] * 5000}), file, row_group_size=700)
    assert batch(file, "-o", out, environment=real).returncode == 0
    assert [r["prediction"] for r in results(out)] == wanted
    whole_bytes = out.read_bytes()
    # Killed, and stopped by Ctrl-C, the reader held up in the middle: the same bytes, and no reader is left.
    for number in (signal.SIGKILL, signal.SIGINT):
        out.unlink()
        slow = stage.path(f"slow-{number}")
        slow.mkdir()
        (slow / "python3").write_text(f"#!/bin/sh\necho $$ > {slow}/pid\nexec {sys.executable} {slow}/slow.py \"$@\"\n")
        (slow / "python3").chmod(0o755)
        (slow / "slow.py").write_text(SLOW)
        process = stage.start([t.TROUPE, "batch", "--models", "models", "--model", "diabetes-rf-model", "--threads", "1", file, "-o", out],
                              "slow", {"PATH": f"{slow}:/usr/bin:/bin"}, t.ROOT)
        t.wait_until(lambda: out.exists() and out.stat().st_size > 0, "it has begun")
        reader_pid = int((slow / "pid").read_text())
        stage.own(reader_pid, brutal=True)
        process.signal(number)
        status = process.wait()
        if number == signal.SIGINT:
            assert status == 1 and not os.path.exists(f"/proc/{reader_pid}"), process.stderr()
        else:
            os.kill(reader_pid, signal.SIGKILL)
        assert os.path.exists(f"{out}.checkpoint")
        result = batch(file, "-o", out, environment=real)
        assert result.returncode == 0 and out.read_bytes() == whole_bytes, result
    out.unlink()

    # What a cell may be.
    kinds = stage.path("kinds.parquet")
    one, nothing = pa.array([0.1, None, float("nan"), float("inf"), 1e-300]), pa.array([0.0] * 5)
    pq.write_table(pa.table({**{name: nothing for name in NAMES}, "age": one, "sex": pa.array([True, False, True, False, True]), "bmi": pa.array([1, 2, 3, 4, 5], pa.int8()),
                             "bp": pa.array([0.1] * 5, pa.float32()), "s1": pa.array(["0.5", "1", "2", "3", "4"]).dictionary_encode(),
                             "s2": pa.array([0.25] * 5).cast(pa.decimal128(9, 3)), "s3": pa.array([2**53] * 5, pa.uint64())}), kinds)
    answers = [json.loads(line) for line in batch(kinds, environment=real).stdout.splitlines()]
    assert [a.get("error", {}).get("message") for a in answers[:4]] == [None, answers[1]["error"]["message"], answers[1]["error"]["message"], "column 'age' must be a finite number"], answers
    assert "'age' is missing" in answers[1]["error"]["message"] and "error" not in answers[4], answers
    lines = stage.path("kinds.jsonl")
    as_double = pa.array([0.1], pa.float32()).cast(pa.float64())[0].as_py()
    lines.write_text(json.dumps({"features": [0.1, 1, 1, as_double, 0.5, 0.25, 2**53, 0, 0, 0]}) + "\n")
    assert json.loads(batch(lines).stdout)["prediction"] == answers[0]["prediction"]
    # To the last bit, by hand. A row of one column that has nothing in it is still a row.
    def as_csv(**columns):
        pq.write_table(pa.table(columns), stage.path("hand.parquet"))
        done = subprocess.run([sys.executable, t.ROOT / "scripts/batch/parquet.py", stage.path("hand.parquet")], capture_output=True, text=True)
        assert done.returncode == 0, done
        return done.stdout

    tenth = pa.array([0.1, None], pa.float32())
    assert as_csv(a=tenth, **{'b,"': pa.array(["x\"\n", None])}) == f'"a","b,"""\n{as_double!r},"x""\n"\n,\n'
    assert as_csv(a=pa.array([-0.0, 5e-324]), b=pa.array([2**63, 0], pa.uint64()), c=pa.array([True, None])) == f'"a","b","c"\n-0,{2**63},1\n5e-324,0,\n'
    assert as_csv(a=tenth) == f'"a"\n"{as_double!r}"\n""\n'
    assert as_csv(a=pa.array(["", " ", None]).dictionary_encode()) == '"a"\n""\n" "\n""\n'

    # What is refused, each in one line, before anything is written.
    def table_of(name, **instead):
        path = stage.path(name + ".parquet")
        pq.write_table(pa.table({**columns, **instead}), path)
        return path

    cut = stage.path("cut.parquet")
    cut.write_bytes(file.read_bytes()[:-9])
    noise = stage.path("noise.parquet")
    noise.write_bytes(b"PAR1" + bytes(500) + b"PAR1")
    missing = stage.path("missing.parquet")
    pq.write_table(pa.table({name: columns[name] for name in NAMES[1:]}), missing)
    misspelt = stage.path("misspelt.parquet")
    pq.write_table(pa.table({("bmj" if name == "bmi" else name): columns[name] for name in NAMES}), misspelt)
    numbers = stage.path("numbers.parquet")
    pq.write_table(pa.table({str(i + 1): columns[name] for i, name in enumerate(NAMES)}), numbers)
    empty_file = stage.path("empty.parquet")
    empty_file.write_bytes(b"")
    for path, *words in ((cut, "not a whole one"), (noise, "not a Parquet file"), (empty_file, "not a Parquet file"),
                         (missing, "'age' is missing"), (misspelt, "'bmj' is not a feature", "did you mean 'bmi'?"),
                         (table_of("list", bmi=[[1.0]] * 5000), "'bmi' is nested"), (table_of("bytes", s1=[b"1"] * 5000), "'s1' is of the type binary"),
                         (table_of("time", s6=pa.array([0] * 5000, pa.timestamp("us"))), "'s6' is of the type timestamp[us]"), (numbers, "columns")):
        refused(batch(path, "-o", out, environment=real), path.name, *words)
    # Damaged in the middle: what is before it is answered.
    damaged = stage.path("damaged.parquet")
    data = bytearray(file.read_bytes())
    at = pq.ParquetFile(file).metadata.row_group(5).column(1).data_page_offset
    data[at:at + 64] = b"\xff" * 64
    damaged.write_bytes(data)
    result = batch(damaged, "-o", out, environment=real)
    assert result.returncode == 1 and "can't be read behind row" in result.stderr and os.path.exists(f"{out}.checkpoint"), result
    # No rows are no lines.
    pq.write_table(pa.table(columns).slice(0, 0), stage.path("norows.parquet"))
    result = batch(stage.path("norows.parquet"), "--json", "-o", stage.path("norows.jsonl"), environment=real)
    assert result.returncode == 0 and json.loads(result.stdout)["lines"] == 0, result
