"""The chart's ScaledObject under KEDA's real operator, metrics adapter and admission webhooks, fed by the real Kafka and Prometheus: by lag from one
pod to one a partition and back, from none and back to none, by the share of busy slots, paused, and with a password."""

import base64
import functools
import json
import pathlib
import time

import yaml

import cluster
import kafka_client
import metrics_steps
import report
import troupe_test as t
from service_steps import NAMESPACE, SELECTOR, ended, nothing_lost

HOME = "keda"
OPERATOR, ADAPTER, WEBHOOKS = 16500, 16510, 16520  # the two ports after each are those of its metrics and its probes
THRESHOLD = 1000
PARTITIONS = 4
BACKLOG = 30 * THRESHOLD
# What a partition can do is some 100 records in 300 ms, whatever the machine does beside it: a backlog that lasts for seconds, and takes no CPU.
SLOW = {"credit_records": 100, "poll_records": 100, "gather_min": "300ms", "gather_max": "300ms"}


class Keda:
    """Its three programs, with the rights and the custom resources of its own installation; they take the external metrics over."""

    def __init__(self, stage: t.Stage, c: cluster.Cluster, folder: pathlib.Path):
        self.stage, self.c, self.folder = stage, c, folder
        config = folder / "config"
        c.kubectl("create", "-f", config / "general/namespace.yaml")
        parts = [*sorted((config / "crd/bases").glob("*.yaml")), config / "service_account/service_account.yaml", config / "rbac/role.yaml",
                 config / "rbac/role_binding.yaml", config / "metrics-server/role.yaml", config / "metrics-server/role_binding.yaml"]
        c.kubectl("create", *(word for part in parts for word in ("-f", part)))
        c.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd/scaledobjects.keda.sh", "crd/triggerauthentications.keda.sh")
        names = ("keda-operator", "keda-metrics-apiserver", "keda-admission-webhooks")
        self.certificates = c.certificate(HOME, cluster.NODE, *(f"{name}.{HOME}.svc" for name in names))
        self.kubeconfig = c.kubeconfig_of(HOME, "keda-operator")
        own = [f"--cert-dir={self.certificates}"]
        self._start("operator", *own, f"--metrics-service-bind-address={cluster.NODE}:{OPERATOR}", f"--metrics-bind-address={cluster.NODE}:{OPERATOR + 1}",
                    f"--health-probe-bind-address={cluster.NODE}:{OPERATOR + 2}", "--zap-log-level=info")
        self._start("adapter", *own, f"--secure-port={ADAPTER}", f"--port={ADAPTER + 1}", f"--metrics-service-address={cluster.NODE}:{OPERATOR}",
                    f"--tls-cert-file={self.certificates}/tls.crt", f"--tls-private-key-file={self.certificates}/tls.key",
                    f"--client-ca-file={self.certificates}/ca.crt", *(f"--{what}-kubeconfig={self.kubeconfig}" for what in ("authentication", "authorization", "lister")))
        self._start("webhooks", *own, f"--port={WEBHOOKS}", f"--metrics-bind-address={cluster.NODE}:{WEBHOOKS + 1}",
                    f"--health-probe-bind-address={cluster.NODE}:{WEBHOOKS + 2}")
        for port in (OPERATOR, WEBHOOKS):
            t.wait_until(lambda: t.http("GET", f"http://{cluster.NODE}:{port + 2}/readyz")[0] == 200, "KEDA's programs are ready", 60)
        c.serve(HOME, "keda-metrics-apiserver", 443, ADAPTER)
        c.serve(HOME, "keda-admission-webhooks", 443, WEBHOOKS)
        bundle = c.bundle(self.certificates)
        interface = yaml.safe_load((config / "metrics-server/api_service.yaml").read_text())
        interface["spec"].update(caBundle=bundle, insecureSkipTLSVerify=False)
        hooks = yaml.safe_load((config / "webhooks/validation_webhooks.yaml").read_text())
        for hook in hooks["webhooks"]:
            hook["clientConfig"]["caBundle"] = bundle
            hook["failurePolicy"] = "Fail"  # it ignores webhooks that do not answer, and a test would not see it
        c.apply(interface, hooks)
        c.kubectl("wait", "--for=condition=Available", "--timeout=60s", f"apiservice/{interface['metadata']['name']}")

    def _start(self, program: str, *words):
        environment = {"KUBECONFIG": str(self.kubeconfig), "POD_NAMESPACE": HOME, "KEDA_CLUSTER_OBJECT_NAMESPACE": HOME, "WATCH_NAMESPACE": ""}
        return self.stage.start([self.folder / program, *words], f"keda-{program}", environment, cwd=self.folder)

    def value(self, metric: str, name: str = "troupe") -> float:
        """What the autoscaler is told."""
        told = json.loads(self.c.kubectl("get", "--raw", f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/{metric}?labelSelector=scaledobject.keda.sh/name%3D{name}"))
        (one,) = told["items"]
        return number(one["value"])


def number(quantity: str) -> float:
    factors = {"m": 1e-3, "k": 1e3, "M": 1e6}
    return float(quantity[:-1]) * factors[quantity[-1]] if quantity[-1] in factors else float(quantity)


class Scaled:
    """The release as the autoscaler leaves it."""

    def __init__(self, service):
        self.service, self.c = service, service.c

    def object(self) -> dict:
        return self.c.get("scaledobject", "troupe", namespace=NAMESPACE)

    def is_so(self, condition: str, wanted: str = "True"):
        found = {one["type"]: one for one in self.object().get("status", {}).get("conditions", [])}
        return found.get(condition, {}).get("status") == wanted and found

    def autoscalers(self) -> dict:
        return {one["metadata"]["name"]: one for one in self.c.get("hpa", namespace=NAMESPACE)["items"]}

    def replicas(self) -> int:
        return self.c.get("deployment", "troupe", namespace=NAMESPACE)["spec"]["replicas"]

    def reaches(self, count: int, deadline: float = 180) -> int:
        """Waits until so many pods are there, all of them ready, and no others on their way out; -> the seconds that it took."""
        begun = time.monotonic()

        def there():
            pods = self.c.get("pods", "-l", SELECTOR, namespace=NAMESPACE)["items"]
            return self.replicas() == count == len(pods) == sum(cluster.is_ready(p) for p in pods)

        t.wait_until(there, f"{count} pods", deadline, 0.5)
        return round(time.monotonic() - begun)


def run(stage: t.Stage, service, folder: pathlib.Path):
    c = service.c
    scaled = Scaled(service)
    lag = "s0-kafka-inference-requests"
    with report.step("keda: operator, metrics adapter and webhooks") as n:
        begun = time.monotonic()
        keda = Keda(stage, c, folder)
        n["ready_s"] = round(time.monotonic() - begun, 1)
        n["keda"] = (folder / "stamp").read_text().strip()

    # Faster than the chart's defaults, or a test would wait five minutes to see it come back.
    quick = {"scaleDown": {"stabilizationWindowSeconds": 5, "policies": [{"type": "Pods", "value": 10, "periodSeconds": 5}]}}
    with report.step("keda: in the place of the chart's HorizontalPodAutoscaler, and back") as n:
        service.helm_install(autoscaling={"mode": "hpa", "minReplicas": 2, "maxReplicas": 6, "cpu": 70, "memory": 80, "metrics": [], "behavior": quick,
                                          "keda": {"pollingInterval": 2, "kafka": {"lagThreshold": THRESHOLD}}})
        assert list(scaled.autoscalers()) == ["troupe"]
        service.helm_install(autoscaling={"mode": "keda"})
        t.wait_until(lambda: scaled.is_so("Ready"), "the ScaledObject is ready", 60)
        (hpa,) = t.wait_until(lambda: list(scaled.autoscalers()) == ["keda-hpa-troupe"] and scaled.autoscalers().values(), "KEDA's autoscaler is the only one", 60)
        targets = {(m.get("external", {}).get("metric") or m["resource"])["name"]: (m.get("external") or m["resource"])["target"] for m in hpa["spec"]["metrics"]}
        assert targets == {lag: {"type": "AverageValue", "averageValue": "1k"}, "cpu": {"type": "Utilization", "averageUtilization": 70},
                           "memory": {"type": "Utilization", "averageUtilization": 80}}, targets
        assert (hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]) == (2, 6) and hpa["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 5, hpa["spec"]
        # What a person might do beside it is refused by KEDA's webhook.
        second = {key: value for key, value in scaled.object().items() if key in ("apiVersion", "kind", "spec")}
        second["metadata"] = {"name": "second", "namespace": NAMESPACE}
        why = c.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(second), check=False)
        assert "is already managed by the" in why, why  # ScaledObject 'troupe' or its autoscaler: whichever the webhook's cache shows first
        service.helm_install(autoscaling={"mode": "hpa"})
        t.wait_until(lambda: list(scaled.autoscalers()) == ["troupe"], "the chart's own autoscaler is the only one", 60)
        n["replicas"] = scaled.replicas()
        assert n["replicas"] >= 2

    with report.step("keda: by the lag of the group, to one pod a partition and back") as n:
        service.helm_install(autoscaling={"mode": "keda", "minReplicas": 1, "cpu": 0, "memory": 0}, config={"kafka": SLOW})
        scaled.reaches(1)
        # At most so many without an answer: so long is the backlog as long as it runs.
        load = service.troupe("load", "--brokers", service.kafka.bootstrap, "--records", 100_000_000, "--window", BACKLOG, "--wait-for", "120s", "--json", name="backlog")
        n["to_one_a_partition_s"] = scaled.reaches(PARTITIONS)
        t.wait_until(lambda: service.owners() == [1] * PARTITIONS, "each pod has a partition", 90)
        # Six would be allowed, and thirty asked for.
        assert keda.value(lag) == PARTITIONS * THRESHOLD, keda.value(lag)
        assert scaled.replicas() == PARTITIONS
        begun = time.monotonic()
        told = ended(load)
        n["backlog_gone_after_s"] = round(time.monotonic() - begun)
        n["back_to_one_s"] = scaled.reaches(1)
        nothing_lost(told, "Kafka while pods came and went")
        n.update(kafka_sent=told["sent"], kafka_lost=told["lost"], kafka_duplicated=told["duplicated"])

    with report.step("keda: to none while there is nothing, and from none to the first answer") as n:
        service.helm_install(autoscaling={"minReplicas": 0, "keda": {"cooldownPeriod": 5, "kafka": {"activationLagThreshold": 1_000_000}}})
        n["to_none_s"] = scaled.reaches(0)
        # Held back at none, the lag stands still: this is how exactly it is known and bounded.
        sent = PARTITIONS * THRESHOLD + THRESHOLD // 2
        load = service.troupe("load", "--brokers", service.kafka.bootstrap, "--records", sent, "--rate", 5000, "--wait-for", "240s", "--json", name="from-none")
        t.wait_until(lambda: keda.value(lag) == sent, f"KEDA sees {sent} records", 60)
        assert scaled.replicas() == 0
        # KEDA rounds down where it compares with the partitions, and the autoscaler up: one pod more than there are partitions.
        n["pods_asked_for_by_partitions"] = [round(keda.value(lag) / THRESHOLD, 1), PARTITIONS]
        begun = time.monotonic()
        service.helm_install(autoscaling={"keda": {"kafka": {"activationLagThreshold": 0}}})
        t.wait_until(lambda: service.pods(), "the first pod is ready", 120, 0.2)
        n["none_to_ready_s"] = round(time.monotonic() - begun, 1)
        assert load.wait(240) == 0
        told = json.loads(load.stdout())
        nothing_lost(told, "Kafka from no pod")
        n.update(kafka_sent=told["sent"], kafka_lost=told["lost"], kafka_duplicated=told["duplicated"])
        n["to_none_again_s"] = scaled.reaches(0)

    with report.step("keda: paused at a number, and by its annotation") as n:
        service.helm_install(autoscaling={"minReplicas": 1, "keda": {"annotations": {"autoscaling.keda.sh/paused-replicas": "2"}}})
        t.wait_until(lambda: scaled.is_so("Paused"), "the ScaledObject is paused", 60)
        scaled.reaches(2)
        load = service.troupe("load", "--brokers", service.kafka.bootstrap, "--records", 100_000_000, "--window", BACKLOG, "--wait-for", "120s", "--json", name="paused")
        t.wait_until(lambda: sum(service.metrics(p).total("troupe_consumer_lag_records") for p in service.pods()) > 5 * THRESHOLD, "there is a backlog", 60)
        assert scaled.replicas() == 2 and all(hpa["spec"]["maxReplicas"] == 2 for hpa in scaled.autoscalers().values()), scaled.autoscalers()
        service.values["autoscaling"]["keda"]["annotations"] = {}
        service.helm_install()
        t.wait_until(lambda: scaled.is_so("Paused", "False"), "the ScaledObject goes on", 60)
        n["goes_on_to_s"] = scaled.reaches(PARTITIONS)
        told = ended(load)
        nothing_lost(told, "Kafka with a pause")
        scaled.reaches(1)
        n.update(kafka_sent=told["sent"], kafka_lost=told["lost"], kafka_duplicated=told["duplicated"])

    with report.step("keda: as many as the fallback says while Prometheus does not answer") as n:
        service.helm_install(admin={"enabled": True}, config={"faults": {"enabled": True}, "cache": {"mode": "off"}}, autoscaling={
            "keda": {"kafka": {"enabled": False}, "prometheus": {"enabled": True, "serverAddress": metrics_steps.Prometheus.url},
                     "fallback": {"failureThreshold": 2, "replicas": 3}}})
        n["to_three_s"] = scaled.reaches(3)
        t.wait_until(lambda: scaled.is_so("Fallback"), "the ScaledObject says so", 60)
        prometheus = metrics_steps.Prometheus(stage, c)
        t.wait_until(lambda: scaled.is_so("Ready") and scaled.is_so("Fallback", "False"), "all is well", 60)
        n["back_to_one_s"] = scaled.reaches(1)

    with report.step("keda: by Prometheus, with the chart's query for busy slots") as n:
        prometheus.find_pods()
        load = service.troupe("load", "--brokers", service.kafka.bootstrap, "--records", 100_000_000, "--rate", 200, "--wait-for", "300s", "--json", name="busy")
        # Its one slot is busy with a batch that does not end.
        begun = time.monotonic()
        (pod,) = service.pods()
        token = base64.b64decode(c.get("secret", "troupe-admin", namespace=NAMESPACE)["data"]["admin-token"]).decode()
        faults = functools.partial(t.http, url=f"http://{pod['status']['podIP']}:8000/admin/faults", headers={"Authorization": f"Bearer {token}"})
        assert faults("POST", body={"fault": "shard_hang", "duration": "5m"})[0] == 201

        def more():
            prometheus.find_pods()
            return scaled.replicas() == 2 and len(service.pods()) == 2

        t.wait_until(more, "there are two pods", 240, 1)
        n["to_two_s"] = round(time.monotonic() - begun)
        n["busy_slots"] = round(keda.value("s0-prometheus"), 2)
        assert faults("DELETE")[0] == 200
        told = ended(load)
        nothing_lost(told, "Kafka with a pod that was stuck")
        n.update(kafka_sent=told["sent"], kafka_lost=told["lost"], kafka_duplicated=told["duplicated"])
        prometheus.process.stop()

    with report.step("keda: at Event Hubs, with the connection string out of a Secret") as n:
        hub = stage.kafka(tls=True, port=9091)  # SASL over TLS at 9093, as Event Hubs
        hub.client.create_topic("inference-requests", PARTITIONS)
        hub.client.produce("inference-requests", [kafka_client.Record(value=b"{}", partition=i % PARTITIONS) for i in range(700)])
        c.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "authority", "namespace": NAMESPACE}, "stringData": {"ca.crt": hub.authority.read_text()}})
        service.helm_install(
            config={"kafka": {"requests_topic": "inference-requests", "ready_timeout": "0s"}},  # the pods can't reach it: KEDA is looked at
            kafka={"ca": {"secretName": "authority"}},
            eventHub={"enabled": True, "host": "localhost", "connectionString": hub.secret.replace(hub.KEY, "d3Jvbmc=")},
            autoscaling={"keda": {"kafka": {"enabled": True}, "prometheus": {"enabled": False}}})
        t.wait_until(lambda: scaled.is_so("Ready", "False"), "with a wrong key the ScaledObject is not ready", 60)
        service.helm_install(eventHub={"connectionString": hub.secret})
        t.wait_until(lambda: scaled.is_so("Ready"), "with the right one it is", 60)
        n["lag"] = keda.value(lag)
        assert n["lag"] == 700, n

        # Triggers of CPU and memory beside a fallback, which is for the others, pass KEDA's webhook.
        service.helm_install(autoscaling={"cpu": 70, "memory": 80, "keda": {"fallback": {"failureThreshold": 3, "replicas": 3}}})
        t.wait_until(lambda: scaled.is_so("Ready") and scaled.is_so("Fallback", "False"), "all is well", 60)
