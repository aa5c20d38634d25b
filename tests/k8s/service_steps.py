"""The chart's pods on a real kubelet, with a Kafka and a Redis on the node's address: what has to hold while they come, go and die."""

import json
import os
import pathlib
import signal
import time

import cluster
import report
import troupe_test as t

NAMESPACE = "troupe"
SELECTOR = "app.kubernetes.io/name=troupe,app.kubernetes.io/component=server"
TOPICS = ("inference-requests", "inference-results", "inference-requests-dlq")


class Service:
    def __init__(self, stage: t.Stage, c: cluster.Cluster, helm: str, chart: pathlib.Path, image: str, program_root: pathlib.Path):
        self.stage, self.c, self.helm, self.chart, self.image, self.program_root = stage, c, helm, chart, image, program_root
        self.kafka = stage.kafka()
        self.redis = stage.redis("--bind", cluster.NODE, "127.0.0.1", "--protected-mode", "no")
        for topic in TOPICS:
            self.kafka.client.create_topic(topic, 4)
        repository, _, tag = image.rpartition(":")
        host, port = self.kafka.bootstrap.split(":")
        self.values = {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "config": {"kafka": {"brokers": self.kafka.bootstrap}, "cache": {"mode": "on"}},
            "redis": {"enabled": True, "host": cluster.NODE, "port": self.redis.port},
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "64Mi"},
                          "limits": {"cpu": "1000m", "memory": "384Mi", "ephemeral-storage": "512Mi"}},
            "autoscaling": {"mode": "none"}, "replicas": 2,
            "monitoring": {"serviceMonitor": {"enabled": False}, "prometheusRule": {"enabled": False}}}

    def helm_install(self, *options: str, **changes) -> float:
        """Installs or upgrades, and waits for the rollout; -> the seconds that it took."""
        self.values = merged(self.values, changes)
        return self.helm_run("upgrade", "--install", "troupe", self.chart, "--values", self.values_file(), "--wait", "--timeout", "180s", *options)

    def helm_run(self, *words, check=True):
        """-> the seconds that it took; with check=False what it printed."""
        begun = time.monotonic()
        done = cluster.command(self.helm, "--kubeconfig", self.c.kubeconfig, *words, "--namespace", NAMESPACE, check=check, deadline=240)
        return time.monotonic() - begun if check else done.stdout + done.stderr

    def values_file(self, **changes) -> pathlib.Path:
        file = self.stage.path("values.json")
        file.write_text(json.dumps(merged(self.values, changes)))
        return file

    def pods(self, ready=True):
        return self.c.pods(NAMESPACE, SELECTOR, ready)

    def address(self, port: str) -> str:
        service = self.c.get("service", "troupe", namespace=NAMESPACE)
        number = next(p["port"] for p in service["spec"]["ports"] if p["name"] == port)
        return f"{service['spec']['clusterIP']}:{number}"

    def troupe(self, *words, name: str) -> t.Process:
        """A command of the image's program, on the node and outside a container."""
        return self.stage.start(["chroot", str(self.program_root), "/usr/bin/troupe", *map(str, words)], name)

    def load_over_http(self, rate: int) -> t.Process:
        return self.troupe("load", "--http", f"http://{self.address('http')}", "--features", "10", "--rate", rate, "--connections", 8,
                           "--seconds", 600, "--json", name="http-load")

    def load_over_grpc(self, rate: int) -> t.Process:
        return self.troupe("load", "--grpc", self.address("grpc"), "--model", "diabetes-rf-model", "--features", "10", "--rate", rate,
                           "--connections", 8, "--seconds", 600, "--json", name="grpc-load")

    def load_over_kafka(self, rate: int) -> t.Process:
        return self.troupe("load", "--brokers", self.kafka.bootstrap, "--records", 100_000_000, "--rate", rate, "--distinct", 5000,
                           "--wait-for", "60s", "--json", name="kafka-load")

    def metrics(self, pod: dict) -> t.Metrics:
        status, body = t.http("GET", f"http://{pod['status']['podIP']}:8000/metrics")
        assert status == 200, status
        return t.Metrics.parse(body.decode())

    def owners(self) -> list:
        """Partitions that each ready pod answers for."""
        return [self.metrics(p).total("troupe_assigned_partitions") for p in self.pods()]

    def all_answer(self):
        """Every partition has an owner among the ready pods, and more than one of them owns some."""
        owned = self.owners()
        return sum(owned) == 4 and sum(count > 0 for count in owned) == min(4, len(owned)) and owned


def merged(into: dict, changes: dict) -> dict:
    return {**into, **{key: merged(into[key], value) if isinstance(value, dict) and isinstance(into.get(key), dict) else value
                       for key, value in changes.items()}}


def ended(load: t.Process) -> dict:
    """Stops a load, waits for its answers; its report."""
    load.signal(signal.SIGINT)
    status = load.wait(120)
    told = json.loads(load.stdout())
    told["status"] = status
    return told


def nothing_lost(told: dict, what: str):
    assert told["sent"] > 0 and told["lost"] == 0 and told["errors"] == 0 and told["predicted"] == told["sent"], (what, told)


def run(service: Service, full: bool):
    """`full`: not only what the other steps stand on."""
    c = service.c
    c.kubectl("create", "namespace", NAMESPACE)
    # The API server itself refuses pods that are not as restricted as they claim.
    c.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")

    with report.step("pods: helm install, two replicas ready") as n:
        n["helm_install_s"] = round(service.helm_install(), 1)
        pods = t.wait_until(lambda: len(service.pods()) == 2 and service.pods(), "two pods are ready", 60)
        assert all(p["status"]["containerStatuses"][0]["restartCount"] == 0 for p in pods)
        n["scheduled_to_ready_s"] = max(seconds_between(p, "PodScheduled", "Ready") for p in pods)
        t.wait_until(service.all_answer, "both own partitions", 60)
        status, body = t.http("POST", f"http://{service.address('http')}/score", {"data": [[0.01] * 10]})
        assert status == 200 and b"predictions" in body, (status, body)

    if not full:
        return
    with report.step("pods: what the kernel says of their process") as n:
        for pod in service.pods():
            pid = c.main_process(pod)
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            assert "\nUid:\t10001\t10001\t10001\t10001\n" in status and "\nCapEff:\t0000000000000000\n" in status, status
            assert "\nNoNewPrivs:\t1\n" in status and "\nSeccomp:\t2\n" in status, status
            limit = int(cluster.cgroup_file(pid, "memory", "memory.limit_in_bytes", "memory.max"))
            assert limit == 384 << 20, limit
            n["memory_limit_MiB"] = limit >> 20
            mounts = pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
            root = next(line.split() for line in mounts if line.split()[4] == "/")
            assert "ro" in root[5].split(","), root

    with report.step("pods: logs by kubectl") as n:
        name = service.pods()[0]["metadata"]["name"]
        lines = [json.loads(line) for line in c.kubectl("logs", "-n", NAMESPACE, name).splitlines() if line.startswith("{")]
        events = [line["event"] for line in lines]
        assert "ready" in events and "partitions_assigned" in events, events
        n["lines"] = len(lines)

    held_rollout(service)
    switches(service)
    helm_test(service)
    first_prediction(service)
    rolling_update(service)
    kill_nine(service)
    scale(service)
    memory(service)


def held_rollout(service: Service):
    """A configuration that ends the process: the rollout is held, and what serves goes on with what it had, also after a crash."""
    c = service.c
    deployment = lambda: c.get("deployment", "troupe", namespace=NAMESPACE)
    bad = {"models": {"default": "nowhere"}}

    def hold():
        service.helm_run("upgrade", "troupe", service.chart, "--values", service.values_file(config=bad))
        t.wait_until(lambda: any(s.get("restartCount", 0) > 0 for p in service.pods(ready=False) for s in p["status"].get("containerStatuses", [])
                                 if p["metadata"]["name"] not in old), "the new pod has ended with its configuration", 120)
        assert {p["metadata"]["name"] for p in service.pods()} == old

    def healed(how: str):
        t.wait_until(lambda: {p["metadata"]["name"] for p in service.pods(ready=False)} == old and len(service.pods()) == 2, f"{how}: the old pods, and no other", 120)
        assert "nowhere" not in deployment()["spec"]["template"]["metadata"]["annotations"]["troupe.yaml"]

    with report.step("pods: a held rollout, a crash of an old pod meanwhile, and the way back") as n:
        old = {p["metadata"]["name"] for p in service.pods()}
        hold()
        victim = service.pods()[0]
        name = victim["metadata"]["name"]
        os.kill(c.main_process(victim), signal.SIGKILL)
        begun = time.monotonic()

        def again():
            pod = c.get("pod", name, namespace=NAMESPACE)
            return pod["status"]["containerStatuses"][0]["restartCount"] == 1 and cluster.is_ready(pod)

        t.wait_until(again, "the old pod came back, with the old configuration", 90)
        n["old_pod_ready_again_after_s"] = round(time.monotonic() - begun, 1)
        assert "nowhere" not in c.kubectl("exec", "-n", NAMESPACE, name, "--", "cat", "/etc/troupe/troupe.yaml")
        c.kubectl("rollout", "undo", "deployment/troupe", "-n", NAMESPACE)
        healed("kubectl rollout undo")
        hold()
        service.helm_run("rollback", "troupe", "1")
        healed("helm rollback")
        service.helm_install()
        assert {p["metadata"]["name"] for p in service.pods()} == old, "the same values rolled the pods"


def switches(service: Service):
    """Changes of values, and what the pods make of them."""
    names = lambda: {p["metadata"]["name"] for p in service.pods(ready=False)}
    with report.step("pods: another Secret of the chart's rolls them; an autoscaler finds as many as there are") as n:
        before = names()
        n["redis_elsewhere_s"] = round(service.helm_install(redis={"port": service.redis.port + 1}), 1)
        # Helm waits for the new pods to be ready; the last old one goes minReadySeconds later.
        t.wait_until(lambda: not before & names() and len(names()) == 2, "other pods", 60)
        rolled = names()
        service.helm_install(redis={"port": service.redis.port})
        t.wait_until(lambda: not rolled & names() and len(names()) == 2, "other pods again", 60)
        before = names()
        replicas = lambda: service.c.get("deployment", "troupe", namespace=NAMESPACE)["spec"]["replicas"]
        generation = lambda: service.c.get("deployment", "troupe", namespace=NAMESPACE)["metadata"]["generation"]
        was = generation()
        service.helm_install(autoscaling={"mode": "hpa", "minReplicas": 2, "maxReplicas": 4})
        # Not one write of the Deployment: it never had another number of replicas.
        assert (generation(), replicas(), names()) == (was, 2, before), (was, generation(), replicas(), before, names())
        service.helm_install(autoscaling={"mode": "none"})
        assert names() == before


def helm_test(service: Service):
    with report.step("pods: helm test asks the service") as n:
        c = service.c
        address = c.get("service", "troupe", namespace=NAMESPACE)["spec"]["clusterIP"]
        # This cluster has no DNS.
        service.helm_install(hostAliases=[{"ip": address, "hostnames": ["troupe"]}])
        t.wait_until(lambda: len(service.pods(ready=False)) == 2, "the pods of before are gone", 60)
        n["seconds"] = round(service.helm_run("test", "troupe", "--timeout", "120s"), 1)
        told = c.kubectl("logs", "troupe-score", "-n", NAMESPACE)
        assert "predicted                1" in told, told
        c.kubectl("scale", "deployment/troupe", "-n", NAMESPACE, "--replicas=0")
        # Nor any that still drains: a Service whose pods all leave goes on sending to those that answer.
        t.wait_until(lambda: not c.get("pods", "-l", SELECTOR, namespace=NAMESPACE)["items"], "there are no pods", 90)
        refused = service.helm_run("test", "troupe", "--timeout", "120s", check=False)
        assert "troupe-score failed" in refused or "pod troupe-score" in refused, refused
        service.helm_install(hostAliases=[])
        t.wait_until(lambda: len(service.pods(ready=False)) == 2, "the pods of before are gone", 60)
        t.wait_until(lambda: len(service.pods()) == 2 and service.all_answer(), "two pods own all partitions", 90)


def first_prediction(service: Service):
    with report.step("pods: three commands to a prediction, and what helm uninstall leaves") as n:
        c = service.c
        place = ["--namespace", "first"]
        words = [service.helm, "--kubeconfig", c.kubeconfig]
        repository, _, tag = service.image.rpartition(":")
        begun = time.monotonic()
        cluster.command(*words, "install", "troupe", service.chart, "-f", service.chart / "values-minimal.yaml", "--set", f"image.repository={repository}", "--set", f"image.tag={tag}",
                        "--wait", "--timeout", "120s", *place, "--create-namespace", deadline=150)
        n["install_s"] = round(time.monotonic() - begun, 1)
        forward = service.stage.start([str(c.programs / "kubectl"), "--kubeconfig", str(c.kubeconfig), *place, "port-forward", "svc/troupe", "18080:8080"], "port-forward")
        t.wait_until(lambda: "Forwarding from" in forward.stdout(), "kubectl forwards the port", 30)
        status, body = t.http("POST", "http://127.0.0.1:18080/score", {"data": [[0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0, 0.02, -0.02]]})
        assert status == 200 and b"predictions" in body, (status, body)
        n["prediction_after_s"] = round(time.monotonic() - begun, 1)
        forward.stop()
        cluster.command(*words, "uninstall", "troupe", "--wait", *place, deadline=120)
        left = lambda: c.kubectl("get", "all,secret,pvc,networkpolicy,pdb,hpa,serviceaccount", "-l", "app.kubernetes.io/instance=troupe", "-o", "name", *place).split()
        t.wait_until(lambda: not left(), "nothing is left, once the pod has drained", 60)


def rolling_update(service: Service):
    with report.step("pods: a rolling update under load") as n:
        before = {p["metadata"]["name"] for p in service.pods()}
        http, grpc, kafka = service.load_over_http(200), service.load_over_grpc(200), service.load_over_kafka(500)
        served = lambda door: sum(service.metrics(p).total("inference_requests_total", door=door, status="success") for p in service.pods())
        t.wait_until(lambda: served("http") > 200 < served("grpc") and served("kafka") > 500, "all doors are under load", 60)
        n["seconds"] = round(service.helm_install(podAnnotations={"example.org/rolled": "1"}), 1)
        pods = lambda: {p["metadata"]["name"] for p in service.pods()}
        # Helm waits for the new pods to be ready; the last old one goes minReadySeconds later.
        t.wait_until(lambda: len(pods()) == 2 and not before & pods(), "two pods, and both new", 60)
        t.wait_until(lambda: not [p for p in service.c.get("pods", "-l", SELECTOR, namespace=NAMESPACE)["items"] if p["metadata"]["name"] in before],
                     "the old pods are gone", 90)
        t.wait_until(service.all_answer, "the new pods own all partitions", 60)
        told = ended(http)
        nothing_lost(told, "HTTP")
        n.update(http_sent=told["sent"], http_failed=told["errors"] + told["lost"], http_p99_ms=told.get("p99_ms", told.get("latency_ms", {}).get("p99")))
        told = ended(grpc)
        nothing_lost(told, "gRPC")
        n.update(grpc_sent=told["sent"], grpc_failed=told["errors"] + told["lost"])
        told = ended(kafka)
        nothing_lost(told, "Kafka")
        n.update(kafka_sent=told["sent"], kafka_lost=told["lost"], kafka_duplicated=told["duplicated"])


def kill_nine(service: Service):
    with report.step("pods: kill -9 of a process") as n:
        c = service.c
        kafka = service.load_over_kafka(500)
        answered = lambda p: service.metrics(p).total("inference_requests_total", door="kafka", status="success")
        t.wait_until(lambda: all(answered(p) > 500 for p in service.pods()), "both pods are under load", 60)
        victim = service.pods()[0]["metadata"]["name"]
        begun = time.monotonic()
        os.kill(c.main_process(service.pods()[0]), signal.SIGKILL)

        def again():
            pod = c.get("pod", victim, namespace=NAMESPACE)
            status = pod["status"]["containerStatuses"][0]
            return status["restartCount"] == 1 and cluster.is_ready(pod) and status["lastState"]["terminated"]["exitCode"] == 137 and status["lastState"]

        last = t.wait_until(again, "the container was started again and is ready", 60)
        n["ready_again_after_s"] = round(time.monotonic() - begun, 1)
        n["reason"] = last["terminated"]["reason"]
        t.wait_until(service.all_answer, "both own partitions again", 60)
        told = ended(kafka)
        nothing_lost(told, "Kafka")
        n.update(kafka_sent=told["sent"], kafka_lost=told["lost"], kafka_duplicated=told["duplicated"])


def scale(service: Service):
    with report.step("pods: two, four, two under load") as n:
        kafka = service.load_over_kafka(500)
        t.wait_until(lambda: service.owners() and sum(service.metrics(p).total("inference_requests_total", door="kafka", status="success")
                                                      for p in service.pods()) > 1000, "under load", 60)
        for replicas in (4, 2):
            service.c.kubectl("scale", "deployment/troupe", "-n", NAMESPACE, f"--replicas={replicas}")
            t.wait_until(lambda: len(service.pods()) == replicas and service.all_answer(), f"{replicas} pods own all partitions", 120, 0.2)
        told = ended(kafka)
        nothing_lost(told, "Kafka")
        n.update(kafka_sent=told["sent"], kafka_lost=told["lost"], kafka_duplicated=told["duplicated"],
                 longest_latency_ms=told.get("max_ms", told.get("latency_ms", {}).get("max")))


def memory(service: Service):
    with report.step("pods: memory stays within the limit, and the limit is one") as n:
        c = service.c
        # As fast as it goes, over both doors.
        http = service.troupe("load", "--http", f"http://{service.address('http')}", "--features", "10", "--connections", 32, "--requests", 60000, "--json", name="full-http")
        kafka = service.troupe("load", "--brokers", service.kafka.bootstrap, "--records", 300000, "--json", name="full-kafka")
        told = [(load.wait(240), json.loads(load.stdout()))[1] for load in (http, kafka)]
        for one in told:
            nothing_lost(one, "full speed")
        peaks = []
        for pod in service.pods():
            assert all("OOMKilled" not in json.dumps(s) for s in pod["status"]["containerStatuses"]), pod["status"]
            pid = c.main_process(pod)
            peaks.append(int(cluster.cgroup_file(pid, "memory", "memory.max_usage_in_bytes", "memory.peak")) >> 20)
        n["peak_MiB"] = max(peaks)
        assert max(peaks) < 384, peaks
        # The same pod with a limit below what it needs is ended by the kernel, and Kubernetes says so.
        c.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(small_pod(service.image)))

        def killed():
            status = c.get("pod", "too-small", namespace=NAMESPACE)["status"].get("containerStatuses", [{}])[0]
            ends = [status.get(which, {}).get("terminated") for which in ("state", "lastState")]
            return any(e and e["reason"] in ("OOMKilled", "StartError", "Error") and e["exitCode"] in (137, 128) and e["reason"] for e in ends) and ends

        reasons = [e["reason"] for e in t.wait_until(killed, "the pod with 12 MiB is ended for its memory", 60) if e]
        n["with_12_MiB"] = reasons[0]
        c.kubectl("delete", "pod", "too-small", "-n", NAMESPACE, "--grace-period=1")


def small_pod(image: str) -> dict:
    locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "too-small"}, "spec": {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [{
            "name": "troupe", "image": image, "imagePullPolicy": "Never", "args": ["serve", "--set", "kafka.enabled=false"],
            "securityContext": locked, "resources": {"limits": {"memory": "12Mi", "cpu": "500m"}}}]}}


def seconds_between(pod: dict, first: str, last: str) -> int:
    """Whole seconds: Kubernetes keeps no more."""
    at = {c["type"]: time.mktime(time.strptime(c["lastTransitionTime"], "%Y-%m-%dT%H:%M:%SZ")) for c in pod["status"]["conditions"]}
    return round(at[last] - at[first])
