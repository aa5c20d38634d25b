"""A real Prometheus scrapes the pods, evaluates the chart's rules and answers the dashboards' queries."""

import json
import pathlib
import re
import tempfile
import urllib.parse

import cluster
import report
import troupe_test as t
from service_steps import NAMESPACE

PORT = 9090


class Prometheus:
    def __init__(self, stage: t.Stage, c: cluster.Cluster, rules=()):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="prometheus-", dir=stage.folder))
        self.c, self.targets = c, folder / "targets.json"
        self.find_pods()
        (folder / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "2s", "evaluation_interval": "2s"}, "rule_files": [str(r) for r in rules],
            "scrape_configs": [{"job_name": "troupe", "file_sd_configs": [{"files": [str(self.targets)]}]}]}))
        self.process = stage.start(["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                                    f"--web.listen-address={cluster.NODE}:{PORT}"], "prometheus")
        t.wait_until(lambda: t.http("GET", f"{self.url}/-/ready")[0] == 200, "Prometheus is ready", 30)

    url = f"http://{cluster.NODE}:{PORT}"

    def find_pods(self):
        """Debian's Prometheus is built without the discovery of Kubernetes. Its targets are what that would find for the chart's
        ServiceMonitor: the endpoints of the service at the port `metrics`."""
        targets = []
        for one in self.c.get("endpointslices", "-l", "kubernetes.io/service-name=troupe-metrics", namespace=NAMESPACE)["items"]:
            for port in [p["port"] for p in one["ports"] or [] if p["name"] == "metrics"]:
                for endpoint in one["endpoints"] or []:
                    targets.append({"targets": [f"{endpoint['addresses'][0]}:{port}"],
                                    "labels": {"namespace": NAMESPACE, "service": "troupe", "pod": endpoint["targetRef"]["name"]}})
        new = self.targets.with_suffix(".new")
        new.write_text(json.dumps(targets))
        new.rename(self.targets)

    def ask(self, path: str, **words) -> dict:
        status, body = t.http("GET", f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(words)}")
        told = json.loads(body)
        assert status == 200 and told["status"] == "success", (path, words, told)
        return told["data"]

    def query(self, expression: str) -> list:
        return self.ask("query", query=expression)["result"]


def run(stage: t.Stage, service):
    rules = sorted((service.chart / "files/rules").glob("*.yaml")) if (service.chart / "files/rules").exists() else []
    with report.step("metrics: scraped by Prometheus") as n:
        prometheus = Prometheus(stage, service.c, rules)
        names = {p["metadata"]["name"] for p in service.pods()}
        http, kafka = service.load_over_http(100), service.load_over_kafka(200)

        def scraped():
            up = prometheus.query("up == 1")
            return {one["metric"]["pod"] for one in up} == names and len(up)

        n["pods_up"] = t.wait_until(scraped, "both pods are scraped", 60)
        t.wait_until(lambda: all(any(float(one["value"][1]) > 0 for one in prometheus.query(f'rate(inference_requests_total{{door="{door}"}}[10s])'))
                                 for door in ("http", "kafka")), "requests of both doors are seen", 60)
        n["series"] = int(prometheus.query('count({job="troupe"})')[0]["value"][1])

    if rules:
        with report.step("metrics: every rule of the chart evaluates") as n:
            def evaluated():
                groups = prometheus.ask("rules")["groups"]
                every = [r for g in groups for r in g["rules"]]
                return every and all(r["health"] != "unknown" for r in every) and every

            every = t.wait_until(evaluated, "every rule has been evaluated", 120)
            bad = [(r["name"], r.get("lastError")) for r in every if r["health"] != "ok"]
            assert not bad, bad
            n["rules"] = len(every)
            n["alerts_firing"] = sorted({a["labels"]["alertname"] for a in prometheus.ask("alerts")["alerts"] if a["state"] == "firing"})
            t.wait_until(lambda: prometheus.query("ml:predictions:rate1m"), "ml:predictions:rate1m has a value", 60)
    dashboards = sorted((service.chart / "files/dashboards").glob("*.json"))
    if dashboards:
        with report.step("metrics: every query of the dashboards is one, and most have data") as n:
            every = [q for file in dashboards for q in queries(json.loads(file.read_text()))]

            def answered():
                silent = [q for q in every if not prometheus.query(with_values(q))]
                return len(silent) < len(every) / 2 and (silent,)

            # Errors, sheds, restarts, transactions and the like have no series before the first one happens.
            (silent,) = t.wait_until(answered, "most queries have data", 60, 1)
            n["queries"], n["without_data"] = len(every), len(silent)
            if silent:
                report.note("none of: " + " ".join(sorted({re.search(r"((?:troupe|inference|ml)[\w:]+|ALERTS)", one)[1] for one in silent})))
    for load in (http, kafka):
        load.signal(2)
        load.wait(120)
    prometheus.process.stop()


def queries(node) -> list:
    if isinstance(node, list):
        return [q for one in node for q in queries(one)]
    if isinstance(node, dict):
        return ([node["expr"]] if isinstance(node.get("expr"), str) else []) + [q for one in node.values() for q in queries(one)]
    return []


def with_values(expression: str) -> str:
    """What Grafana puts in for its variables."""
    for name, value in (("__rate_interval", "20s"), ("__interval", "20s"), ("__range", "1m")):
        expression = re.sub(rf"\$(\{{{name}\}}|{name}\b)", value, expression)
    return re.sub(r"\$(\{\w+(:\w+)?\}|\w+)", ".*", expression)
