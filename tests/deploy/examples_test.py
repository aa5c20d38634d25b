"""The examples beside the rules: Prometheus' and Alertmanager's own tools take their configurations, alerts go where they should,
and what the others name is there."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

from queries import ROOT, rules

HERE = ROOT / "monitoring"


def load(path):
    return yaml.safe_load((HERE / path).read_text())


class Examples(unittest.TestCase):
    def accepted(self, *words):
        done = subprocess.run([str(word) for word in words], text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_prometheus_takes_its_configurations(self):
        for file in (HERE / "prometheus").glob("*.yml"):
            # Debian's Prometheus is built without the discovery of pods.
            config = re.sub(r"kubernetes_sd_configs: \[\{role: pod\}\]", 'static_configs: [{targets: ["pod:8000"]}]', file.read_text())
            with tempfile.NamedTemporaryFile("w", suffix=".yml") as copy:
                copy.write(config)
                copy.flush()
                self.accepted("promtool", "check", "config", "--syntax-only", copy.name)

    def test_alertmanager_takes_its_configuration(self):
        self.accepted("amtool", "check-config", HERE / "alertmanager/alertmanager.yml")

    def test_alerts_go_where_they_should(self):
        for severity, receivers in (("1", "on-call,mail"), ("2", "mail"), ("3", "mail"), ("none", "mail")):
            self.accepted("amtool", "config", "routes", "test", f"--config.file={HERE / 'alertmanager/alertmanager.yml'}",
                          f"--verify.receivers={receivers}", f"severity={severity}", "namespace=ml", "job=troupe", "alertname=TroupeLagHigh")

    def test_inhibitions_name_alerts_that_exist(self):
        names = [rule["alert"] for rule in rules() if "alert" in rule]
        for each in load("alertmanager/alertmanager.yml")["inhibit_rules"]:
            for matcher in each["source_matchers"] + each["target_matchers"]:
                if not matcher.startswith("alertname") or "!=" in matcher:
                    continue
                for pattern in re.search(r'"(.*)"', matcher)[1].split("|"):
                    self.assertTrue(any(re.fullmatch(pattern, name) for name in names), f"{matcher}: {pattern}")

    def test_promtail_asks_for_members_that_log_lines_have(self):
        header = (ROOT / "runtime/observe/log.hpp").read_text()
        line = json.loads(re.search(r'^//\s+(\{"ts".*\})$', header, re.M)[1])
        stages = {name: stage for each in load("loki/promtail.yml")["scrape_configs"][0]["pipeline_stages"] for name, stage in each.items()}
        self.assertLessEqual(set(stages["json"]["expressions"].values()), set(line))
        self.assertLessEqual(set(stages["labels"]), set(stages["json"]["expressions"]))

    def test_the_collector_listens_where_traces_are_sent(self):
        config = load("otel/collector.yml")
        self.assertIn("http://collector:4318", (ROOT / "docs/tracing.md").read_text())
        self.assertEqual(config["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rsplit(":")[-1], "4318")
        pipeline = config["service"]["pipelines"]["traces"]
        for kind in ("receivers", "processors", "exporters"):
            self.assertLessEqual(set(pipeline[kind]), set(config[kind]))
            self.assertLessEqual(set(config[kind]), set(pipeline[kind]), "defined and not used")

    def test_grafana_s_data_sources_are_those_that_they_refer_to(self):
        for file in (HERE / "grafana").rglob("*.yml"):
            config = yaml.safe_load(file.read_text())
            known = {each["uid"] for each in config.get("datasources", [])}
            self.assertLessEqual(set(re.findall(r"datasourceUid: (\w+)", file.read_text())), known, file)

    def test_links_lead_somewhere(self):
        for target in re.findall(r"\]\(([^)#\s]+)", (HERE / "README.md").read_text()):
            self.assertTrue((HERE / target).exists(), target)


if __name__ == "__main__":
    if not shutil.which("promtool") or not shutil.which("amtool"):
        print("skipped: promtool or amtool is missing: apt-get install prometheus prometheus-alertmanager", file=sys.stderr)
        sys.exit(77)
    unittest.main()
