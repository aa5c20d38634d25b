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

    def inhibited(self, target, *firing):
        """Whether one of those that fire mutes the target, by the example's rules: {label: value} each."""

        def fits(matchers, labels):
            for matcher in matchers:
                label, sign, value = re.fullmatch(r'(\w+) (=~|!=|=) "(.*)"', matcher).groups()
                found = labels.get(label, "")
                if not {"=": found == value, "!=": found != value, "=~": bool(re.fullmatch(value, found))}[sign]:
                    return False
            return True

        return any(fits(each["target_matchers"], target) and fits(each["source_matchers"], source) and
                   all(source.get(label) == target.get(label) for label in each["equal"])
                   for each in load("alertmanager/alertmanager.yml")["inhibit_rules"] for source in firing)

    def test_an_inhibition_ends_where_the_cause_does(self):
        def alert(alertname, **more):
            return {"alertname": alertname, "namespace": "ml", "job": "troupe", **more}

        one = alert("TroupeKafkaAway", instance="a")
        for name in ("TroupePipelineErrors", "TroupePipelineLatencyP95", "TroupeLagHigh", "TroupeThroughputLow", "TroupeTopicUnread"):
            self.assertFalse(self.inhibited(alert(name), one), f"{name} of all instances, by one")
        self.assertTrue(self.inhibited(alert("TroupeNoPartitions", instance="a"), one))
        self.assertFalse(self.inhibited(alert("TroupeNoPartitions", instance="b"), one))
        self.assertFalse(self.inhibited(alert("TroupeLagHigh"), alert("TroupeBreakerOpen", instance="a", name="m/1")))
        self.assertTrue(self.inhibited(alert("TroupeLagHigh"), alert("TroupeTopicUnread")))
        self.assertFalse(self.inhibited(alert("TroupePipelineLatencyP99"), alert("TroupeApiLatencyP95")))
        self.assertTrue(self.inhibited(alert("TroupePipelineLatencyP99"), alert("TroupePipelineLatencyP95")))
        fast = alert("TroupeErrorBudgetBurnsFast", door="http")
        self.assertTrue(self.inhibited(alert("TroupeErrorBudgetBurnsSlowly", door="http"), fast))
        self.assertFalse(self.inhibited(alert("TroupeErrorBudgetBurnsSlowly", door="kafka"), fast))
        absent = alert("TroupeAbsent")
        self.assertTrue(self.inhibited(alert("TroupeTargetDown", instance="a"), absent))
        self.assertFalse(self.inhibited({**alert("TroupeTargetDown", instance="a"), "job": "other"}, absent))
        self.assertFalse(self.inhibited(absent, absent))

    def test_no_alert_is_dropped_at_night(self):
        def routes(route):
            return [route] + [each for child in route.get("routes", []) for each in routes(child)]

        for route in routes(load("alertmanager/alertmanager.yml")["route"]):
            self.assertFalse({"active_time_intervals", "mute_time_intervals"} & set(route), route)

    def test_pods_that_are_over_are_no_targets_and_the_job_is_the_workload(self):
        (pods,) = [job for job in load("prometheus/prometheus.yml")["scrape_configs"] if job["job_name"] == "kubernetes-troupe"]

        def relabelled(**meta):
            labels = {f"__meta_kubernetes_{name}": value for name, value in meta.items()}
            for each in pods["relabel_configs"]:
                value = ";".join(labels.get(name, "") for name in each["source_labels"])
                found = re.fullmatch(each.get("regex", "(.*)"), value)
                if each.get("action") in ("keep", "drop"):
                    if bool(found) != (each["action"] == "keep"):
                        return None
                elif found:
                    labels[each["target_label"]] = found[1]
            return labels

        pod = {"pod_label_app_kubernetes_io_name": "troupe", "pod_container_port_name": "metrics", "namespace": "ml", "pod_name": "x",
               "pod_phase": "Running", "pod_controller_kind": "ReplicaSet", "pod_controller_name": "my-troupe-6498cd478c"}
        self.assertEqual(relabelled(**pod)["job"], "my-troupe")
        self.assertEqual(relabelled(**{**pod, "pod_controller_kind": "StatefulSet", "pod_controller_name": "my-troupe"})["job"], "my-troupe")
        for phase in ("Failed", "Succeeded"):
            self.assertIsNone(relabelled(**{**pod, "pod_phase": phase}))

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
