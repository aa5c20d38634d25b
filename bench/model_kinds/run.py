#!/usr/bin/env python3
"""Every kind of model through Troupe: does it load, which engine scores it, how far from the library it comes from, what a row costs.

    $(bench/model_kinds/peer.sh) bench/model_kinds/run.py [--only TEXT] [--rounds 3] [--batch 64] [--json FILE] [--smoke]

peer.sh makes an interpreter with the packages of requirements.txt. See README.md.
"""
import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
import warnings

os.environ["OMP_NUM_THREADS"] = "1"
warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
try:
    import importlib.metadata

    import kinds
    import numpy as np
    import onnxruntime
except ImportError as e:
    sys.exit(f"run.py: {e}; bench/model_kinds/peer.sh makes an interpreter that has the packages, and says where it is")

SHORT = {"model.skops": "skops", "model.json": "JSON", "model.ubj": "UBJSON", "model.txt": "text", "model.onnx": "ONNX"}


def find_bench():
    build = pathlib.Path(os.environ.get("TROUPE_BUILD_DIRECTORY", ROOT / "build/release"))
    for path in (build / "bench/bench_model_kinds", build / "bench_model_kinds"):
        if path.exists():
            return path
    sys.exit("run.py: bench_model_kinds is not built; run scripts/build")


def measure(call, parts, batch, smoke):
    """Nanoseconds a row: the lower quartile of rounds of this thread's processor time."""
    found, at = [], 0
    for _ in range(1 if smoke else 3):
        rows, begin = 0, time.thread_time()
        while True:
            call(parts[at % len(parts)])
            at, rows = at + 1, rows + batch
            took = time.thread_time() - begin
            if took > (0.001 if smoke else 0.03):
                break
        found.append(1e9 * took / rows)
    return sorted(found)[len(found) // 4]


def difference(got, wanted):
    """The largest |a - b| / max(1, |b|), and how many rows are more than 1e-5 off."""
    off = np.abs(got - wanted) / np.maximum(1, np.abs(wanted))
    off = np.where(np.isnan(off), np.inf, off)
    return {"difference": float(off.max()), "rows_off": int((off.max(axis=1) > 1e-5).sum())}


def as_table(answers, width):
    return np.asarray(answers, dtype=float).reshape(-1, width)


def score(bench, folder, rows, batch, smoke):
    command = [str(bench), str(folder), "--rows", str(rows), "--batch", str(batch), "--rounds", "3", "--json"]
    done = subprocess.run(command + (["--smoke"] if smoke else []), capture_output=True, text=True)
    if done.returncode:
        return {"refused": done.stderr.strip().replace(str(folder) + "/", "")}
    return json.loads(done.stdout)


def examine(kind, bench, work, batch, rounds, smoke):
    wanted = np.asarray(kind.predict(kind.table), dtype=float)
    wanted = wanted.reshape(len(wanted), -1)
    width = wanted.shape[1]
    rows = work / "rows.jsonl"
    rows.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kind.cells))
    found = {"name": kind.name, "from": kind.library, "trees": kind.trees, "rows": len(wanted), "files": {}}
    for name, write in kind.files.items():
        folder = work / name.split(".")[1]
        folder.mkdir()
        write(str(folder / name))
        if kind.yaml:
            (folder / "model.yaml").write_text(kind.yaml)
    parts = [kind.table[i:i + batch] for i in range(0, len(kind.table) - batch + 1, batch)]
    session = None
    if kind.graph is not None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(kind.graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        ask = lambda feed: session.run(None, feed)[-1]  # the label comes first
        found["onnxruntime"] = difference(as_table(ask(kind.feeds(kind.table)), width), wanted)
        feeds = [kind.feeds(p) for p in parts]
    times = {}
    for turn in range(rounds):
        for name in kind.files:
            at = found["files"].setdefault(name, {})
            if "refused" in at:
                continue
            made = score(bench, work / name.split(".")[1], rows, batch, smoke)
            if "refused" in made:
                at.update(made)
                continue
            if turn == 0:
                at.update({"engine": made["engine"], "why": made["why"]}, **difference(as_table(made["answers"], width), wanted))
            times.setdefault(name, []).append(made["ns_per_row"])
        if session:
            times.setdefault("onnxruntime", []).append(measure(ask, feeds, batch, smoke))
        times.setdefault("library", []).append(measure(kind.predict, parts, batch, smoke))
    middle = lambda values: sorted(values)[len(values) // 2]
    for name, values in times.items():
        (found["files"][name] if name in found["files"] else found.setdefault(name, {}))["ns_per_row"] = middle(values)
    return found


def joined(values):
    return values[0] if len(set(values)) == 1 else " / ".join(values)


def number(value):
    return "0" if value == 0 else f"{value:.0e}"


def off(of):
    return number(of["difference"]) + (f" ({of['rows_off']:,})" if of["rows_off"] else "")


def markdown(found):
    refused = []
    lines = ["| model | file | engine | largest difference | its graph in ONNX Runtime | ns a row | ONNX Runtime | its own library |",
             "|---|---|---|---|---|---|---|---|"]
    for k in found:
        for name, f in k["files"].items():
            if "refused" in f:
                refused.append(f"- {k['name']}, {SHORT[name]}: {f['refused']}")
        loaded = lambda make: joined([("refused" if make is engine else "") if "refused" in f else make(f) for f in k["files"].values()])
        engine = lambda f: f["engine"]
        files = " / ".join(SHORT[n] for n in k["files"])
        ort = k.get("onnxruntime")
        lines.append(f"| {k['name']} | {files} | {loaded(engine)} | {loaded(off)} | {off(ort) if ort else ''} | "
                     f"{loaded(lambda f: format(f['ns_per_row'], ',.0f'))} | {format(ort['ns_per_row'], ',.0f') if ort else ''} | "
                     f"{k['library']['ns_per_row']:,.0f} |")
    return "\n".join(lines + ([""] + refused if refused else []))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TEXT", help="kinds whose name has this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    bench, found = find_bench(), []
    for name, make in kinds.all_kinds(options.smoke):
        if options.only and options.only.lower() not in name.lower():
            continue
        kind = make(name)
        with tempfile.TemporaryDirectory() as work:
            found.append(examine(kind, bench, pathlib.Path(work), options.batch, 1 if options.smoke else options.rounds, options.smoke))
        print(f"{kind.name}: done", file=sys.stderr, flush=True)
    print(markdown(found))
    slow = [f"{k['name']} ({SHORT[n]})" for k in found if k["trees"] and k.get("onnxruntime") for n, f in k["files"].items()
            if f.get("ns_per_row", 0) >= k["onnxruntime"]["ns_per_row"]]
    if not options.smoke:
        print("\nTrees slower than ONNX Runtime: " + (", ".join(slow) or "none"))
    if options.json:
        versions = {p: importlib.metadata.version(p) for p in ("scikit-learn", "skops", "xgboost-cpu", "lightgbm", "onnxruntime", "skl2onnx", "onnxmltools")}
        text = json.dumps({"versions": versions, "python": platform.python_version(), "batch": options.batch, "kinds": found}, indent=1)
        pathlib.Path(options.json).write_text(text + "\n")


if __name__ == "__main__":
    main()
