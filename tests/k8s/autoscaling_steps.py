"""The chart's HorizontalPodAutoscaler under the real controller: it scales by the pods' real CPU, and by a metric from outside."""

import json
import pathlib
import ssl
import sys
import time
import urllib.request

import cluster
import report
import troupe_test as t
from service_steps import NAMESPACE, ended, nothing_lost

PORT = 16490
MOST = 4


class MetricsApis:
    """metrics_apis.py, registered with the API server."""

    def __init__(self, stage: t.Stage, c: cluster.Cluster):
        pem = stage.path("metrics-apis.pem")
        cluster.command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout", stage.path("metrics-apis.key"),
                        "-out", stage.path("metrics-apis.crt"))
        pem.write_text(stage.path("metrics-apis.crt").read_text() + stage.path("metrics-apis.key").read_text())
        self.process = stage.start([sys.executable, pathlib.Path(__file__).with_name("metrics_apis.py"), PORT, f"https://{cluster.NODE}:10250/metrics/resource", pem], "metrics-apis")
        named = {"name": "metrics-apis", "namespace": "kube-system"}
        items = [{"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": PORT}]}}]
        for group in ("metrics.k8s.io", "external.metrics.k8s.io"):
            items.append({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": f"v1beta1.{group}"}, "spec": {
                "group": group, "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": True, "service": {**named, "port": PORT}}})
        c.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        t.wait_until(lambda: all(any(s["type"] == "Available" and s["status"] == "True" for s in a.get("status", {}).get("conditions", []))
                                 for a in c.get("apiservices")["items"] if a["metadata"]["name"].endswith("metrics.k8s.io")), "the metrics interfaces are available", 60)

    def external(self, value: int):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        request = urllib.request.Request(f"https://127.0.0.1:{PORT}/value/{value}", method="PUT")
        urllib.request.urlopen(request, context=context, timeout=5).close()


def run(service, apis: MetricsApis):
    c = service.c
    hpa = lambda: c.get("hpa", "troupe", namespace=NAMESPACE)
    replicas = lambda: c.get("deployment", "troupe", namespace=NAMESPACE)["spec"]["replicas"]
    # Faster than the chart's defaults, or a test would wait five minutes to see it come back.
    quick = {"scaleDown": {"stabilizationWindowSeconds": 5, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}}

    with report.step("autoscaling: by the pods' own CPU, the chart's first metric") as n:
        service.helm_install(autoscaling={"mode": "hpa", "minReplicas": 2, "maxReplicas": MOST, "behavior": quick})
        metrics = {m["resource"]["name"]: m["resource"]["target"] for m in hpa()["spec"]["metrics"]}
        assert metrics == {"cpu": {"type": "Utilization", "averageUtilization": 70}, "memory": {"type": "Utilization", "averageUtilization": 80}}, metrics
        t.wait_until(lambda: any(s["type"] == "ScalingActive" and s["status"] == "True" for s in hpa()["status"].get("conditions", [])), "the autoscaler has metrics", 120, 0.5)
        n["cpu_percent_idle"] = current(hpa(), "cpu")
        assert replicas() == 2
        load = service.troupe("load", "--http", f"http://{service.address('http')}", "--features", "10", "--connections", 32, "--seconds", 600, "--json", name="cpu-load")
        begun = time.monotonic()
        t.wait_until(lambda: replicas() == MOST, "it scales to the most", 180, 0.5)
        n["cpu_percent_loaded"] = current(hpa(), "cpu")
        n["to_most_s"] = round(time.monotonic() - begun)
        t.wait_until(lambda: len(service.pods()) == MOST, "all are ready", 120, 0.5)
        told = ended(load)
        nothing_lost(told, "HTTP while pods came")
        begun = time.monotonic()
        t.wait_until(lambda: replicas() == 2, "it scales down again", 240, 0.5)
        n["back_to_two_s"] = round(time.monotonic() - begun)

    with report.step("autoscaling: by a metric from outside (autoscaling.metrics)") as n:
        apis.external(0)
        service.helm_install(autoscaling={"cpu": 0, "memory": 0, "metrics": [
            {"type": "External", "external": {"metric": {"name": "kafka_consumergroup_lag"}, "target": {"type": "AverageValue", "averageValue": "100"}}}]})
        assert [m["type"] for m in hpa()["spec"]["metrics"]] == ["External"], hpa()["spec"]
        t.wait_until(lambda: replicas() == 2, "two replicas", 120, 0.5)
        kafka = service.load_over_kafka(300)
        for value, wanted in ((320, MOST), (100, 2)):
            apis.external(value)
            begun = time.monotonic()
            t.wait_until(lambda: replicas() == wanted and len(service.pods()) == wanted and service.all_answer(), f"{value} of lag make {wanted} pods", 240, 0.5)
            n[f"lag_{value}_to_{wanted}_s"] = round(time.monotonic() - begun)
        told = ended(kafka)
        nothing_lost(told, "Kafka while pods came and went")
        n.update(kafka_sent=told["sent"], kafka_lost=told["lost"], kafka_duplicated=told["duplicated"])


def current(hpa: dict, resource: str):
    for one in hpa["status"].get("currentMetrics", []):
        if one.get("resource", {}).get("name") == resource:
            return one["resource"]["current"].get("averageUtilization")
    return None
