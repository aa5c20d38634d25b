#!/usr/bin/env python3
"""What a version switch does to those who are being served: hot load, promotion and unloading under half of the load that the
node takes on a real broker; README.md says what the figures mean.

    bench/rollout/switch.py [--seconds 20] [--switches 3] [--rate N] [--json FILE] [--smoke]
"""

import argparse
import json
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/support"))
import troupe_test as t  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seconds", type=float, default=20, help="of load for each switch")
parser.add_argument("--switches", type=int, default=3)
parser.add_argument("--rate", type=float, default=0, help="records/s (default: half of what a closed loop reaches)")
parser.add_argument("--json", help="file for the figures")
parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all")
options = parser.parse_args()
if options.smoke:
    options.seconds, options.switches, options.rate = 4, 1, 1000

TOKEN = "bench"
INTERVAL = 0.2

with t.Stage() as stage:
    models = stage.path("models")
    versions = sorted(p for p in (t.ROOT / "models/diabetes-rf-model").iterdir() if p.is_dir())
    (models / "forest").mkdir(parents=True)
    shutil.copytree(versions[0], models / "forest/1")
    kafka = stage.kafka()
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        kafka.client.create_topic(topic, 4)
    node = stage.troupe({"kafka": {"brokers": kafka.bootstrap}, "models": {"directory": str(models)}, "cache": {"mode": "off"},
                         "admin": {"token": TOKEN}})
    node.wait_ready()

    def load(*words):
        return stage.start([t.TROUPE, "load", "--brokers", kafka.bootstrap, "--wait-for", "20s", "--json", *map(str, words)], "load")

    def finished(process):
        assert process.wait(options.seconds + 60) == 0, process.stderr()
        return json.loads(process.stdout())

    def admin(verb, version):
        status, body = t.http("POST", f"http://127.0.0.1:{node.port}/admin/models/{verb}", {"model": "forest", "version": version},
                              {"Authorization": "Bearer " + TOKEN})
        assert status in (200, 202), (verb, status, body)

    def state():
        status, body = t.http("GET", f"http://127.0.0.1:{node.port}/admin/models", headers={"Authorization": "Bearer " + TOKEN})
        return {v["version"]: v["state"] for v in json.loads(body)["versions"]}

    finished(load("--records", 2_000 if options.smoke else 300_000, "--window", 20_000))  # connections and memory are warm
    rate = options.rate
    if not rate:
        rate = finished(load("--records", 1_000_000, "--window", 20_000))["records_per_second"] / 2
    print(f"{rate:,.0f} records/s", file=sys.stderr)
    runs = []
    for i in range(options.switches):
        new, old = i + 2, i + 1
        shutil.copytree(versions[new % len(versions)], models / f"forest/{new}")
        running = load("--records", int(rate * options.seconds), "--rate", rate, "--interval", f"{INTERVAL}s")
        before = node.metrics().total("inference_requests_total", status="success")
        third = rate * options.seconds / 3
        t.wait_until(lambda: node.metrics().total("inference_requests_total", status="success") - before > third, "a third is answered",
                     options.seconds + 30)
        admin("load", str(new))
        t.wait_until(lambda: state().get(str(new)) == "loaded", "the new version is loaded", every=0.02)
        at = (node.metrics().total("inference_requests_total", status="success") - before) / rate
        admin("promote", str(new))
        t.wait_until(lambda: state().get(str(new)) == "production", "the new version answers")
        admin("unload", str(old))
        report = finished(running)
        assert report["lost"] == 0 and report["errors"] == 0, report
        # The first second is the clients'; the last interval is cut short.
        parts = [p for p in report["intervals"] if p["from_s"] >= 1][:-1]
        usual = sorted(p["p99_ms"] for p in parts if p["from_s"] < at - 0.5) or [parts[0]["p99_ms"]]
        usual = usual[len(usual) // 2]
        after = [p for p in parts if p["from_s"] >= at - 0.5]
        slow = [p for p in after if p["p99_ms"] > 2 * usual]
        before_slow = [p for p in parts if p["from_s"] < at - 0.5 and p["p99_ms"] > 2 * usual]
        def most_in(intervals, seconds=3.0):
            """The longest time above within so many seconds on end."""
            flags = [p["p99_ms"] > 2 * usual for p in intervals]
            width = round(seconds / INTERVAL)
            return round(max(sum(flags[i:i + width]) for i in range(max(1, len(flags) - width + 1))) * INTERVAL, 1)

        runs.append({"sent": report["sent"], "errors": report["errors"], "lost": report["lost"], "switch_at_s": round(at, 1),
                     "p99_before_ms": usual, "worst_p99_after_ms": max(p["p99_ms"] for p in after),
                     "seconds_above_twice_after": round(len(slow) * INTERVAL, 1), "seconds_after": round(len(after) * INTERVAL, 1),
                     "seconds_above_twice_before": round(len(before_slow) * INTERVAL, 1),
                     "of_3s_from_switch": most_in([p for p in after if p["from_s"] < at + 2.5]),
                     "of_worst_3s_before": most_in([p for p in parts if p["from_s"] < at - 0.5]),
                     "of_worst_3s_later": most_in([p for p in after if p["from_s"] >= at + 2.5])})
        print(json.dumps(runs[-1]), file=sys.stderr)
    figures = {"rate": rate, "switches": runs}
    text = json.dumps(figures, indent=1)
    print(text)
    if options.json:
        pathlib.Path(options.json).write_text(text + "\n")
    assert node.stop() == 0, node.stderr()
