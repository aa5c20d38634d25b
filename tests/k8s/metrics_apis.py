#!/usr/bin/env python3
"""The two metrics interfaces that an autoscaler reads, behind the API server's aggregation:

metrics.k8s.io: CPU and memory of pods, as a metrics-server gives them, out of the real kubelet's /metrics/resource;
external.metrics.k8s.io: one value that the test sets by PUT /value/N, in the place of an adapter of Prometheus or of KEDA.

    metrics_apis.py PORT KUBELET_URL CERTIFICATE_AND_KEY.pem
"""

import datetime
import http.server
import json
import re
import ssl
import sys
import threading
import time
import urllib.request

WINDOW = 5.0
value = ["0"]
usage = {}  # (namespace, pod) -> {container: {"cpu": n, "memory": bytes}}, the last window's
lock = threading.Lock()
LINE = re.compile(r'^(container_cpu_usage_seconds_total|container_memory_working_set_bytes)\{([^}]*)\} (\S+)(?: (\d+))?')


def read_kubelet(url: str) -> dict:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with urllib.request.urlopen(url, context=context, timeout=5) as answer:
        text = answer.read().decode()
    found = {}
    for match in filter(None, map(LINE.match, text.splitlines())):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
        one = found.setdefault((labels["namespace"], labels["pod"]), {}).setdefault(labels["container"], {})
        one[match[1]] = (float(match[3]), int(match[4] or 0) / 1000)
    return found


def follow(url: str):
    readings = {}  # (namespace, pod, container) -> CPU seconds and when, of the last reading that was a new one
    while True:
        try:
            now = read_kubelet(url)
        except OSError:
            now = {}
        with lock:
            for pod, containers in now.items():
                for name, one in containers.items():
                    cpu, at = one.get("container_cpu_usage_seconds_total", (0, 0))
                    old, then = readings.get((*pod, name), (0, 0))
                    if at <= then:
                        continue  # the kubelet measures every ten seconds or so: until then the last rate stands
                    readings[(*pod, name)] = (cpu, at)
                    if then and cpu >= old:
                        usage.setdefault(pod, {})[name] = {"cpu": (cpu - old) / (at - then), "memory": one.get("container_memory_working_set_bytes", (0, 0))[0]}
            for pod in [p for p in usage if now and p not in now]:
                del usage[pod]
        time.sleep(WINDOW / 2)


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_PUT(self):
        value[0] = self.path.rpartition("/")[2]
        self.answer({})

    def do_GET(self):
        parts = self.path.partition("?")[0].strip("/").split("/")
        stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        if parts == ["apis", "external.metrics.k8s.io", "v1beta1"]:
            return self.answer({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "external.metrics.k8s.io/v1beta1", "resources": []})
        if parts == ["apis", "metrics.k8s.io", "v1beta1"]:
            return self.answer({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "metrics.k8s.io/v1beta1", "resources": [
                {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}]})
        if parts[1:2] == ["metrics.k8s.io"] and parts[3:4] == ["namespaces"]:
            with lock:
                items = [{"metadata": {"name": pod, "namespace": namespace}, "timestamp": stamp, "window": f"{WINDOW:g}s", "containers": [
                    {"name": name, "usage": {"cpu": f"{one['cpu'] * 1e9:.0f}n", "memory": f"{one['memory']:.0f}"}} for name, one in containers.items()]}
                    for (namespace, pod), containers in usage.items() if namespace == parts[4]]
            return self.answer({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items})
        if parts[1:2] == ["external.metrics.k8s.io"] and "namespaces" in parts:
            return self.answer({"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": {}, "items": [
                {"metricName": parts[-1], "metricLabels": {}, "timestamp": stamp, "value": value[0]}]})
        self.answer({"paths": []})

    def answer(self, document: dict):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    threading.Thread(target=follow, args=(sys.argv[2],), daemon=True).start()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Api)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(sys.argv[3])
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
