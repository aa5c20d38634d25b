"""What the chart makes of the rules and dashboards: the same rules for Prometheus' operator, with the values' overrides, and a
ConfigMap a dashboard."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import yaml

import queries

HELM = pathlib.Path(os.environ.get("HELM") or queries.ROOT / ".deps/tools/helm")
CHART = queries.ROOT / "k8s/helm/troupe"


def helm(template, *values):
    words = [HELM, "template", "troupe", CHART, "--kube-version", "1.34.0", f"--show-only=templates/{template}", "--set=monitoring.prometheusRule.enabled=true"]
    return subprocess.run([*words, *(f"--set={value}" for value in values)], text=True, capture_output=True)


def rendered(*values):
    done = helm("prometheusrule.yaml", *values)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)["spec"]


def by_name(spec):
    return {rule.get("alert") or rule["record"]: rule for group in spec["groups"] for rule in group["rules"]}


class Chart(unittest.TestCase):
    def test_the_rules_are_those_of_the_file(self):
        spec = rendered()
        self.assertEqual(spec, yaml.safe_load(queries.RULES.read_text()))
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(spec, file)
            file.flush()
            done = subprocess.run(["promtool", "check", "rules", file.name], text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_values_change_and_leave_out_alerts(self):
        base = "https://git.example.org/troupe/blob/main"
        found = by_name(rendered("monitoring.prometheusRule.disabled={TroupeSpansLost}", "monitoring.prometheusRule.overrides.TroupeLagHigh.for=7m",
                                 "monitoring.prometheusRule.overrides.TroupeLagHigh.labels.team=ml", f"monitoring.prometheusRule.runbookBaseUrl={base}/",
                                 "monitoring.prometheusRule.overrides.TroupeRedisDown.annotations.runbook_url=https://wiki.example.org/redis"))
        usual = by_name(yaml.safe_load(queries.RULES.read_text()))
        self.assertEqual(set(usual) - set(found), {"TroupeSpansLost"})
        lag = found["TroupeLagHigh"]
        self.assertEqual((lag["for"], lag["labels"]), ("7m", {"severity": "2", "team": "ml"}))
        self.assertEqual(lag["expr"], usual["TroupeLagHigh"]["expr"])
        self.assertEqual(lag["annotations"]["runbook_url"], base + "/docs/alerts.md#troupelaghigh")
        self.assertEqual(found["TroupeRedisDown"]["annotations"]["runbook_url"], "https://wiki.example.org/redis")
        self.assertNotEqual(helm("prometheusrule.yaml", "monitoring.prometheusRule.runbookBaseUrl=docs").returncode, 0, "no link")

    def test_an_alert_that_is_not_there_is_refused(self):
        for value in ("disabled={TroupeLagHihg}", "overrides.TroupeLagHihg.for=1m"):
            done = helm("prometheusrule.yaml", "monitoring.prometheusRule." + value)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("there is no alert TroupeLagHihg", done.stderr)

    def test_each_dashboard_is_a_configmap_that_the_sidecar_finds(self):
        done = helm("dashboards.yaml")
        self.assertEqual(done.returncode, 0, done.stderr)
        found = {}
        for document in yaml.safe_load_all(done.stdout):
            self.assertEqual(document["metadata"]["labels"]["grafana_dashboard"], "1")
            found.update(document["data"])
        self.assertEqual({name: json.loads(text) for name, text in found.items()},
                         {file.name: json.loads(file.read_text()) for file in queries.DASHBOARDS})


if __name__ == "__main__":
    if not HELM.exists() or not (CHART / "Chart.yaml").exists():
        print("skipped: helm is missing: scripts/deps --test installs it", file=sys.stderr)
        sys.exit(77)
    unittest.main()
