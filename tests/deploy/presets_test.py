"""Every preset, and each choice of the chart with its neighbours: rendered, linted, and passed by every checker."""

import itertools

import deploy

deploy.need("helm", "kubeconform", "kube-score", "podsecurity", "schemas")

PRESETS = sorted(path.stem.removeprefix("values-") for path in deploy.CHART.glob("values-*.yaml"))
assert {"minimal", "production", "port-5001", "port-8080", "port-9999"} <= set(PRESETS), PRESETS
SECRETS = {"redis": {"enabled": True, "host": "redis", "password": "p"}, "admin": {"enabled": True},
           "apiKeys": {"secretName": "keys"}, "kafka": {"auth": {"secretName": "kafka-user"}, "ca": {"secretName": "kafka-ca"}}}
SASL = {"security.protocol": "SASL_SSL", "sasl.mechanisms": "SCRAM-SHA-512"}
EVENT_HUB = {"eventHub": {"enabled": True, "connectionString": "Endpoint=sb://n.servicebus.windows.net/;SharedAccessKeyName=k;SharedAccessKey=c2VjcmV0",
                          "host": "n.servicebus.windows.net"},
             "config": {"kafka": {"requests_topic": "requests"}}}
PARTS = {
    "tls": {"tls": {"secretName": "troupe-tls", "clientCaKey": "ca.crt"}},
    "jobs": {"loadTest": {"enabled": True, "door": "kafka"}, "retraining": {"enabled": True, "image": "trainer:1", "command": ["python", "train.py"]}},
    "roads in": {"ingress": {"enabled": True, "className": "nginx", "hosts": [{"host": "troupe.example.org"}]},
                 "gateway": {"enabled": True, "grpc": True, "parentRefs": [{"name": "gateway"}], "hostnames": ["troupe.example.org"]}},
    "kserve": {"kserve": {"servingRuntime": {"enabled": True},
                          "inferenceService": {"enabled": True, "storageUri": "pvc://models/iris", "canaryTrafficPercent": 10}}},
    "models of a claim": {"models": {"source": "pvc"}},
    "models of an image": {"models": {"source": "image", "image": {"reference": "models:3"}}},
    "models of MLflow": {"models": {"source": "mlflow", "mlflow": {"secretName": "mlflow", "passwordKey": "password"}},
                         "config": {"mlflow": {"uri": "http://mlflow:5000", "models": ["models:/churn@champion"], "username": "troupe"}}},
    "Event Hubs": EVENT_HUB,
    "Event Hubs and KEDA": {**EVENT_HUB, "autoscaling": {"mode": "keda"}},
    "KEDA by Prometheus alone": {"autoscaling": {"mode": "keda", "cpu": 0, "memory": 0, "minReplicas": 0, "keda": {
        "kafka": {"enabled": False}, "prometheus": {"enabled": True}, "fallback": {"failureThreshold": 3, "replicas": 6}}}},
    "KEDA with SASL": {**SECRETS, "config": {"kafka": {"properties": SASL}}, "autoscaling": {"mode": "keda"}},
    "tracing": {"config": {"tracing": {"endpoint": "http://collector:4318"}}},
    "Kafka alone": {"config": {"http": {"enabled": False}, "grpc": {"enabled": False}}, "autoscaling": {"partitions": 20}},
    "no policies": {"networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}},
    "hard": {"antiAffinity": "hard", "priorityClassName": "high", "nodeSelector": {"disk": "ssd"},
             "tolerations": [{"key": "inference", "operator": "Exists"}], "commonLabels": {"team": "ml"}, "podLabels": {"a": "b"}},
    "a GPU": {"resources": {"requests": {"cpu": 1, "memory": "2Gi", "ephemeral-storage": "1Gi"},
                            "limits": {"cpu": 4, "memory": "8Gi", "ephemeral-storage": "4Gi", "nvidia.com/gpu": 1}}},
}


def cases():
    yield "default", {}, ()
    for preset in PRESETS:
        yield f"preset {preset}", {}, (preset,)
    for workload, mode in itertools.product(("deployment", "statefulset"), ("hpa", "keda", "none")):
        values = {"workload": workload, "autoscaling": {"mode": mode}, **SECRETS}
        if workload == "statefulset":
            values["state"] = {"persistent": True}
            values["faultTest"] = {"enabled": True}
            values["config"] = {"faults": {"enabled": True}}
        yield f"{workload}, {mode}", values, ()
    for name, values in PARTS.items():
        yield name, values, ()
    yield "KServe alone", {"workload": "none", **PARTS["kserve"]}, ()


# Without a budget or a policy there is what kube-score misses; one pod needs neither, and OpenShift gives the users.
EXCEPT = {"no policies": ("NetworkPolicy", "PodDisruptionBudget"), "preset minimal": ("PodDisruptionBudget", "anti-affinity"),
          "preset openshift": ("User Group ID",)}

failed, rows = [], []
for name, values, presets in cases():
    try:
        deploy.helm("lint", values, presets, "--strict")
        documents = deploy.render(values, presets, *deploy.WITH_OPERATORS)
    except deploy.Refused as refused:
        failed.append(f"{name}: {refused}")
        continue
    scalers = deploy.each(documents, "HorizontalPodAutoscaler", "ScaledObject")
    wanted = {"none": 0}.get((values.get("autoscaling") or {}).get("mode"), 0 if name in ("preset minimal", "KServe alone") else 1)
    if len(scalers) != wanted:
        failed.append(f"{name}: {len(scalers)} autoscalers, wanted {wanted}")
    for checker, check in deploy.CHECKERS.items():
        for problem in check(documents):
            if checker == "kube_score" and any(word in problem for word in EXCEPT.get(name, ())):
                continue
            failed.append(f"{name}: {checker}: {problem}")
    if deploy.each(documents, "StatefulSet"):
        instance = deploy.program.effective.get("kafka.instance_id")
        if instance != "prod.troupe-0":
            failed.append(f"{name}: kafka.instance_id is {instance!r}")
    rows.append((name, len(documents), ", ".join(deploy.label(s).split()[0] for s in scalers) or "-"))

deploy.report(rows, ("rendered", "objects", "autoscaler"))

# Numbers that others rely on.
default = deploy.render({}, (), *deploy.WITH_OPERATORS)
scaler = deploy.one(default, "HorizontalPodAutoscaler")["spec"]
assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 20), scaler
assert [m["resource"]["target"]["averageUtilization"] for m in scaler["metrics"]] == [70, 80], scaler
assert scaler["behavior"] == {
    "scaleDown": {"stabilizationWindowSeconds": 300, "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}]},
    "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
        {"type": "Percent", "value": 100, "periodSeconds": 15}, {"type": "Pods", "value": 4, "periodSeconds": 15}]}}, scaler
for preset, port, kind, least, most in (("port-5001", 5001, "HorizontalPodAutoscaler", 2, 10), ("port-8080", 8080, "HorizontalPodAutoscaler", 1, 10)):
    documents = deploy.render({}, (preset,))
    spec = deploy.one(documents, kind)["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (least, most), spec
    assert deploy.one(documents, "Service", "troupe")["spec"]["ports"][0]["port"] == port
documents = deploy.render({}, ("port-9999",))
spec = deploy.one(documents, "ScaledObject")["spec"]
assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 5), spec
assert {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}} in spec["triggers"], spec
assert deploy.one(documents, "Service", "troupe")["spec"]["ports"][0]["port"] == 9999

# Event Hubs has names of its own where the values leave them open.
documents = deploy.render({**EVENT_HUB, "autoscaling": {"mode": "keda"}})
assert not deploy.program(documents)
wanted = {"kafka.group": "$Default", "kafka.results_topic": "requests-results", "kafka.brokers": "n.servicebus.windows.net:9093"}
assert {key: deploy.program.effective[key] for key in wanted} == wanted, deploy.program.effective
trigger = deploy.one(documents, "ScaledObject")["spec"]["triggers"][0]["metadata"]
assert (trigger["consumerGroup"], trigger["topic"]) == ("$Default", "requests"), trigger

# A number of a million, which Helm reads as a float, stays one that KEDA can read.
spec = deploy.one(deploy.render({"autoscaling": {"mode": "keda", "keda": {"cooldownPeriod": 1_000_000, "fallback": {"failureThreshold": 3, "replicas": 6},
                                                                          "kafka": {"lagThreshold": 1_000_000, "activationLagThreshold": 2_500_000}}}}), "ScaledObject")["spec"]
trigger = spec["triggers"][0]["metadata"]
assert (spec["cooldownPeriod"], trigger["lagThreshold"], trigger["activationLagThreshold"]) == (1_000_000, "1000000", "2500000"), spec
# KEDA's webhook refuses a ScaledObject beside an autoscaler that does not say this, as it is for a moment in an upgrade from one to the other.
annotations = deploy.one(default, "HorizontalPodAutoscaler")["metadata"]["annotations"]
assert annotations == {"validations.keda.sh/hpa-ownership": "false"}, annotations
documents = deploy.render({"autoscaling": {"mode": "keda", "keda": {"annotations": {"autoscaling.keda.sh/paused-replicas": "4"}}}})
assert deploy.one(documents, "ScaledObject")["metadata"]["annotations"] == {"autoscaling.keda.sh/paused-replicas": "4"}

# The drain, the grace period and the threads follow from what they depend on.
spec = deploy.one(deploy.render({"config": {"drain": {"deadline": "1m30s"}}, "preStopDelay": 15}), "Deployment")["spec"]["template"]["spec"]
assert spec["terminationGracePeriodSeconds"] == 115, spec["terminationGracePeriodSeconds"]
assert spec["containers"][0]["lifecycle"]["preStop"] == {"sleep": {"seconds": 15}}
for cpu, slots, threads in (("500m", 1, 1), ("2500m", 3, 1), (8, 8, 2)):
    config = deploy.configuration(deploy.render({"resources": {"limits": {"cpu": cpu}, "requests": {"cpu": "100m"}}}))
    assert (config["scheduler"]["slots"], config["http"]["threads"]) == (slots, threads), (cpu, config)
assert deploy.configuration(deploy.render({"config": {"scheduler": {"slots": 7}}}))["scheduler"]["slots"] == 7

policies = {p["metadata"]["name"] for p in deploy.each(deploy.render(
    {"redis": {"enabled": True}, "config": {"mlflow": {"uri": "http://m:5000"}, "tracing": {"endpoint": "http://c:4318"}}}), "NetworkPolicy")}
assert policies == {"troupe", "troupe-from-clients", *(f"troupe-to-{d}" for d in ("dns", "kafka", "redis", "mlflow", "tracing"))}, policies

# With --reuse-values a newer chart finds the values of an older release, without its own new ones: what protects the pods is there all the same.
GONE = ("minReadySeconds", "revisionHistoryLimit", "strategy", "preStopDelay", "terminationMargin", "podSecurityContext", "securityContext",
        "hostAliases", "dnsConfig", "runtimeClassName", "initContainers", "extraContainers", "extraObjects")
documents = deploy.render({**{value: None for value in GONE}, "check": {"features": None, "score": None, "args": None, "env": None},
                           "service": {value: None for value in ("labels", "ipFamilies", "ipFamilyPolicy", "loadBalancerSourceRanges", "externalTrafficPolicy")}})
assert documents == deploy.render(), "values of an older release make other objects"
assert deploy.render({"config": {"kafka": None}}) and deploy.render({"config": None}), "no section at all is no mistake"

# The doors may be published; metrics, health and /admin stay inside.
documents = deploy.render({"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"], "externalTrafficPolicy": "Local", "labels": {"a": "b"},
                                       "ipFamilies": ["IPv6"]}, "monitoring": {"serviceMonitor": {"enabled": True}}})
doors, metrics = (deploy.one(documents, "Service", name) for name in ("troupe", "troupe-metrics"))
assert [port["name"] for port in doors["spec"]["ports"]] == ["http", "grpc"] and doors["spec"]["loadBalancerSourceRanges"] == ["192.0.2.0/24"], doors
assert metrics["spec"]["type"] == "ClusterIP" and [port["name"] for port in metrics["spec"]["ports"]] == ["metrics"], metrics
assert {"targetLabel": "job", "replacement": "troupe"} in deploy.one(documents, "ServiceMonitor")["spec"]["endpoints"][0]["relabelings"]
assert {deploy.configuration(documents)[door]["bind"] for door in ("http", "grpc", "metrics")} == {"::"}
assert not deploy.program(documents)

# What the chart's Secrets hold is part of the pods' revision; a random token is not. Two releases have Secrets of their own.
annotations = lambda values: deploy.one(deploy.render(values), "Deployment")["spec"]["template"]["metadata"]["annotations"]
redis = lambda host: {"redis": {"enabled": True, "host": host}, "admin": {"enabled": True}}
assert annotations(redis("a")) == annotations(redis("a")) != annotations(redis("b"))
assert {s["metadata"]["name"] for s in deploy.each(deploy.render({**redis("a"), **EVENT_HUB}), "Secret")} == {"troupe-redis", "troupe-eventhub", "troupe-admin"}
environment = deploy.one(deploy.render({"redis": {"enabled": True}}), "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]
assert {"name": "TROUPE_REDIS_HOST", "valueFrom": {"secretKeyRef": {"name": "redis-config", "key": "host"}}} in environment, environment

# The rest of what a pod may want.
documents = deploy.render({"strategy": {"type": "Recreate"}, "revisionHistoryLimit": 3, "minReadySeconds": 0, "runtimeClassName": "gvisor",
                           "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["kafka"]}], "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
                           "initContainers": [{"name": "wait", "image": "wait:1"}], "extraContainers": [{"name": "beside", "image": "beside:1"}],
                           "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}}],
                           "podDisruptionBudget": {"minAvailable": "50%"}, "serviceAccount": {"labels": {"a": "b"}},
                           "models": {"source": "image", "image": {"reference": "models:3"}}})
assert not deploy.kubeconform(documents)
spec = deploy.one(documents, "Deployment")["spec"]
assert (spec["strategy"], spec["revisionHistoryLimit"], spec["minReadySeconds"]) == ({"type": "Recreate"}, 3, 0), spec
spec = spec["template"]["spec"]
assert [c["name"] for c in spec["initContainers"]] == ["wait", "models"] and [c["name"] for c in spec["containers"]] == ["troupe", "beside"], spec
assert spec["hostAliases"] and spec["dnsConfig"] and spec["runtimeClassName"] == "gvisor"
assert "maxUnavailable" not in deploy.one(documents, "PodDisruptionBudget")["spec"]
assert deploy.one(documents, "ConfigMap", "troupe-more") and deploy.one(documents, "ServiceAccount")["metadata"]["labels"]["a"] == "b"
assert not {"runAsUser", "fsGroup"} & set(deploy.one(deploy.render({}, ("openshift",)), "Deployment")["spec"]["template"]["spec"]["securityContext"])

# helm test asks the service where it can; KServe's names, ports and runtime.
score = lambda values: [p["spec"]["containers"][0]["args"] for p in deploy.each(deploy.render(values), "Pod") if p["metadata"]["name"] == "troupe-score"]
assert "--http=http://troupe:80" in score({"service": {"httpPort": 80}})[0] and not score({"config": {"http": {"enabled": False}}})
for values in ({"check": {"model": "m"}}, {"config": {"models": {"default": "m"}}}):
    (args,) = score({**values, "config": {**values.get("config", {}), "http": {"enabled": False}}})
    assert {"--grpc=troupe:8081", "--model=m"} <= set(args), args
assert not score({"tls": {"secretName": "t"}}) and "--http=https://troupe:8080" in score({"tls": {"secretName": "t"}, "check": {"args": ["--tls-ca=/x"]}})[0]
assert not score({"apiKeys": {"secretName": "k"}}) and not score(PARTS["Kafka alone"])
documents = deploy.render({"workload": "none", "kserve": {"servingRuntime": {"enabled": True, "grpc": True}, "inferenceService": {"enabled": True, "storageUri": "pvc://m/iris"}}},
                          (), *deploy.WITH_OPERATORS)
assert sorted(d["kind"] for d in documents) == ["InferenceService", "ServingRuntime"], documents
runtime = deploy.one(documents, "ServingRuntime")["spec"]
assert runtime["protocolVersions"] == ["grpc-v2"] and runtime["containers"][0]["ports"][0]["containerPort"] == 8081, runtime

# What helm says when it is done.
for values, words in (
    ({}, "Consumers beyond the partition count sit idle: up to 20 pods share the partitions of inference-requests."),
    ({"autoscaling": {"partitions": 12}}, "WARNING: it has 12, so that 8 of 20 pods would get requests over HTTP and gRPC only."),
    ({"autoscaling": {"mode": "none", "partitions": 2}}, "WARNING: 3 pods share 2 partitions; 1 of them read nothing from Kafka."),
    ({"config": {"kafka": {"brokers": "embedded"}}}, "each pod has a broker of its own"),
    ({"config": {"scheduler": {"slots": 4}}}, "WARNING: config.scheduler.slots is 4, the CPU limit 1000m"),
    ({"resources": {"limits": {"cpu": None}}}, "WARNING: without resources.limits.cpu"),
    ({}, "WARNING: without image.registry that is docker.io/library/troupe"),
    ({}, "Those of Troupe's image are examples."),
    ({}, "port-forward svc/troupe-metrics 8000:8000"),
):
    notes = deploy.notes(values)
    if words not in notes:
        failed.append(f"NOTES with {values}: {words!r} is not in\n{notes}")

assert not failed, "\n".join(["", *failed])
