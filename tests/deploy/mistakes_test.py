"""Mistakes that people make, planted one by one, and who says so. What is right is passed by all of them (presets_test.py)."""

import copy

import deploy

deploy.need("helm", "kubeconform", "kube-score", "podsecurity", "kustomize", "schemas")

# Values that helm refuses: what the message must name, and the values.
VALUES = [
    ("an unknown value", "'replicaCount' not allowed", {"replicaCount": 3}),
    ("a misspelt value of a part", "'enable' not allowed", {"networkPolicy": {"enable": False}}),
    ("a misspelt option of Troupe's", "'request_topic' not allowed", {"config": {"kafka": {"request_topic": "x"}}}),
    ("an unknown section of Troupe's", "'kakfa' not allowed", {"config": {"kakfa": {}}}),
    ("an option of the wrong type", "/config/http/port", {"config": {"http": {"port": "8080"}}}),
    ("an option that is none of its words", "/config/kafka/delivery", {"config": {"kafka": {"delivery": "exactly-once"}}}),
    ("a duration without unit", "/config/drain/deadline", {"config": {"drain": {"deadline": 30}}}),
    ("both autoscalers", "/autoscaling/mode", {"autoscaling": {"mode": ["hpa", "keda"]}}),
    ("an unknown autoscaler", "/autoscaling/mode", {"autoscaling": {"mode": "vpa"}}),
    ("a quantity with a misspelt unit", "/resources/limits/memory", {"resources": {"limits": {"memory": "2GiB"}}}),
    ("a limit below the request", "resources.requests.memory (1Gi) is above resources.limits.memory (512Mi)", {"resources": {"limits": {"memory": "512Mi"}}}),
    ("a CPU limit below the request", "resources.requests.cpu (500m) is above", {"resources": {"limits": {"cpu": 0.25}}}),
    ("buffers beyond the container", "config.memory.limit (4096 MiB", {"config": {"memory": {"limit": "4GiB"}}}),
    ("fewer pods at most than at least", "autoscaling.minReplicas (30) is above", {"autoscaling": {"minReplicas": 30}}),
    ("more consumers than partitions", "is above the 6 partitions", {"autoscaling": {"partitions": 6}, "config": {"http": {"enabled": False}, "grpc": {"enabled": False}}}),
    ("no pods, by CPU", "needs autoscaling.mode: keda", {"autoscaling": {"minReplicas": 0}}),
    ("an autoscaler without anything to go by", "has nothing to scale by", {"autoscaling": {"cpu": 0, "memory": 0}}),
    ("KEDA without a trigger", "has no trigger", {"autoscaling": {"mode": "keda", "cpu": 0, "memory": 0, "keda": {"kafka": {"enabled": False}}}}),
    ("KEDA's fallback with nothing to fall back from", "there is none besides cpu and memory", {"autoscaling": {"mode": "keda", "keda": {
        "kafka": {"enabled": False}, "fallback": {"failureThreshold": 3, "replicas": 3}}}}),
    ("KEDA and a broker inside the pod", "can't see a broker inside the pod", {"autoscaling": {"mode": "keda"}, "config": {"kafka": {"brokers": "embedded"}}}),
    ("KEDA and Event Hubs without its host", "needs eventHub.host", {"autoscaling": {"mode": "keda"}, "eventHub": {"enabled": True}}),
    ("one identity for all pods", "config.kafka.instance_id would be the same in every pod", {"config": {"kafka": {"instance_id": "troupe"}}}),
    ("any free port", "config.http.port is 0", {"config": {"http": {"port": 0}}}),
    ("two doors at one port", "config.grpc.port 8080 is taken", {"config": {"grpc": {"port": 8080}}}),
    ("no door at all", "nothing could be asked", {"config": {"kafka": {"enabled": False}, "http": {"enabled": False}, "grpc": {"enabled": False}}}),
    ("a claim for pods that share it", "state.persistent needs workload: statefulset", {"state": {"persistent": True}}),
    ("MLflow without its address", "needs config.mlflow.uri", {"models": {"source": "mlflow"}}),
    ("faults without a token", "needs a token", {"config": {"faults": {"enabled": True}}}),
    ("a fault test of no pod in particular", "faultTest watches one pod", {"faultTest": {"enabled": True}, "admin": {"enabled": True}, "config": {"faults": {"enabled": True}}}),
    ("a canary of more than everything", "canaryTrafficPercent", {"kserve": {"inferenceService": {"canaryTrafficPercent": 110}}}),
    ("an Ingress for nobody", "needs ingress.hosts", {"ingress": {"enabled": True}}),
    ("a route without a Gateway", "needs gateway.parentRefs", {"gateway": {"enabled": True}}),
    ("a Secret's misspelt name of a key", "'secret' not allowed", {"tls": {"secret": "x"}}),
    ("a load over gRPC without a model", "needs loadTest.model", {"loadTest": {"enabled": True, "door": "grpc"}}),
    ("a claim that nothing mounts", "set models.source: pvc", {"models": {"pvc": {"claimName": "models"}}}),
    ("an image of models that nothing copies", "set models.source: image", {"models": {"image": {"reference": "models:3"}}}),
    ("Redis' address without its switch", "redis.host does nothing without redis.enabled", {"redis": {"host": "redis"}}),
    ("a password for a Secret that is not made", "name its key as redis.passwordKey", {"redis": {"enabled": True, "password": "p"}}),
    ("a connection string without its switch", "eventHub.connectionString does nothing", {"eventHub": {"connectionString": "Endpoint=x"}}),
    ("a token's Secret without its switch", "admin.secretName does nothing", {"admin": {"secretName": "x"}}),
    ("clients' authority without TLS", "tls.clientCaKey is a key of tls.secretName", {"tls": {"clientCaKey": "ca.crt"}}),
    ("a route without its switch", "gateway.grpc does nothing", {"gateway": {"grpc": True}}),
    ("source ranges of no load balancer", "it is for LoadBalancer", {"service": {"loadBalancerSourceRanges": ["192.0.2.0/24"]}}),
    ("a misspelt alert", "there is no alert TroupeLagHihg", {"monitoring": {"prometheusRule": {"disabled": ["TroupeLagHihg"]}}}),
    ("a port by the environment", "set config.metrics.port", {"env": [{"name": "TROUPE_METRICS_PORT", "value": "9000"}]}),
    ("one identity by the environment", "TROUPE_KAFKA_INSTANCE_ID would be the same", {"env": [{"name": "TROUPE_KAFKA_INSTANCE_ID", "value": "x"}]}),
    ("Redis' password in clear", "config.redis.password is a secret in clear", {"config": {"redis": {"password": "p"}}}),
    ("the token in clear", "config.admin.token is a secret in clear", {"config": {"admin": {"token": "t"}}}),
    ("MLflow's password in clear", "models.mlflow.passwordKey", {"config": {"mlflow": {"password": "p"}}}),
    ("the connection string in clear", "set eventHub.enabled", {"config": {"kafka": {"eventhub_connection": "Endpoint=x"}}}),
    ("Kafka's password in clear", "kafka.auth.secretName", {"config": {"kafka": {"properties": {"sasl.password": "p"}}}}),
    ("a key's password in clear", "TROUPE_KAFKA_PROPERTIES_SSL_KEY_PASSWORD", {"config": {"kafka": {"properties": {"ssl.key.password": "p"}}}}),
    ("a broker at a port that is none", "ports are 1 to 65535", {"config": {"kafka": {"brokers": "a:9092,b:92000"}}}),
    ("a tag with the image's name in it", "/image/tag", {"image": {"tag": "troupe:1"}}),
    ("a misspelt affinity", "'nodeaffinity' not allowed", {"affinity": {"nodeaffinity": {}}}),
    ("an InferenceService without a runtime", "needs a runtime", {"workload": "none", "kserve": {"inferenceService": {"enabled": True, "storageUri": "pvc://m/iris"}}}),
    ("a configuration too large for a pod", "room for 256 KiB", {"config": {"models": {"default": "x" * 200000}}}),
    ("retraining without an image", "needs retraining.image", {"retraining": {"enabled": True}}),
]


def container(document):
    return document["spec"]["template"]["spec"]["containers"][0]


def misspelt(path, wrong):
    """A change that gives the field at the end of `path` the name `wrong`."""
    def change(document):
        *steps, last = path
        for step in steps:
            document = document[step]
        document[wrong] = document.pop(last)
    return change


def put(path, value):
    def change(document):
        *steps, last = path
        for step in steps:
            document = document[step]
        document[last] = value
    return change


def drop(path):
    def change(document):
        *steps, last = path
        for step in steps:
            document = document[step]
        del document[last]
    return change


POD = ["spec", "template", "spec"]
FIRST = [*POD, "containers", 0]
CONFIGURATION = ["spec", "template", "metadata", "annotations", "troupe.yaml"]
# Manifests: what is changed in which kind, who must say so, and the words in it.
MANIFESTS = [
    ("a misspelt field of a Deployment", "Deployment", misspelt([*FIRST, "readinessProbe"], "readynessProbe"), "kubeconform", "readynessProbe"),
    ("of a Service", "Service", misspelt(["spec", "selector"], "selectors"), "kubeconform", "selectors"),
    ("of a HorizontalPodAutoscaler", "HorizontalPodAutoscaler", misspelt(["spec", "maxReplicas"], "maxReplica"), "kubeconform", "maxReplica"),
    ("of a PodDisruptionBudget", "PodDisruptionBudget", misspelt(["spec", "maxUnavailable"], "maxUnavailible"), "kubeconform", "maxUnavailible"),
    ("of a NetworkPolicy", "NetworkPolicy", misspelt(["spec", "policyTypes"], "policyType"), "kubeconform", "policyType"),
    ("of a CronJob", "CronJob", misspelt(["spec", "concurrencyPolicy"], "concurencyPolicy"), "kubeconform", "concurencyPolicy"),
    ("of a ScaledObject", "ScaledObject", misspelt(["spec", "maxReplicaCount"], "maxReplicas"), "kubeconform", "maxReplicas"),
    ("of a ServiceMonitor", "ServiceMonitor", misspelt(["spec", "endpoints", 0, "interval"], "intervall"), "kubeconform", "intervall"),
    ("of an HTTPRoute", "HTTPRoute", misspelt(["spec", "parentRefs"], "parents"), "kubeconform", "parents"),
    ("of an InferenceService", "InferenceService", misspelt(["spec", "predictor", "canaryTrafficPercent"], "canaryPercent"), "kubeconform", "canaryPercent"),
    ("of a ServingRuntime", "ServingRuntime", misspelt(["spec", "supportedModelFormats"], "modelFormats"), "kubeconform", "modelFormats"),
    ("a number as text", "Deployment", put([*FIRST, "ports", 0, "containerPort"], "8080"), "kubeconform", "containerPort"),
    ("a selector that is not the pods' label", "Deployment", put(["spec", "selector", "matchLabels", "app.kubernetes.io/component"], "servers"), "references", "its selector does not choose its own pods"),
    ("a Service for other pods", "Service", put(["spec", "selector", "app.kubernetes.io/component"], "web"), "references", "its selector chooses no pod"),
    ("a budget for other pods", "PodDisruptionBudget", put(["spec", "selector", "matchLabels", "app.kubernetes.io/name"], "group"), "references", "its selector chooses no pod"),
    ("a request above the limit", "Deployment", put([*FIRST, "resources", "requests", "cpu"], "3"), "references", "requests 3 of cpu, and its limit is 1000m"),
    ("a mount without a volume", "Deployment", put([*FIRST, "volumeMounts", 0, "name"], "conf"), "references", "there is no volume conf"),
    ("a volume of a ConfigMap that is not there", "Deployment", put([*POD, "volumes", 0], {"name": "config", "configMap": {"name": "troupe-config"}}), "references", "there is no ConfigMap troupe-config"),
    ("a probe of an unknown port", "Deployment", put([*FIRST, "livenessProbe", "httpGet", "port"], "admin"), "references", "livenessProbe asks the port admin"),
    ("a Service's unknown port", "Service", put(["spec", "ports", 0, "targetPort"], "web"), "references", "its pods have no port web"),
    ("an autoscaler of nothing", "HorizontalPodAutoscaler", put(["spec", "scaleTargetRef", "name"], "group"), "references", "there is no Deployment group to scale"),
    ("replicas beside the autoscaler", "Deployment", put(["spec", "replicas"], 3), "references", "has replicas"),
    ("a ServiceMonitor of another port", "ServiceMonitor", put(["spec", "endpoints", 0, "port"], "http-metrics"), "references", "0 Services have the port http-metrics"),
    ("a grace period shorter than the drain", "Deployment", put([*POD, "terminationGracePeriodSeconds"], 30), "references", "terminationGracePeriodSeconds 30 ends it before"),
    ("a route to another port", "HTTPRoute", put(["spec", "rules", 0, "backendRefs", 0, "port"], 80), "references", "with the port 80"),
    ("no readiness probe", "Deployment", drop([*FIRST, "readinessProbe"]), "kube_score", "Pod Probes"),
    ("no memory limit", "Deployment", drop([*FIRST, "resources", "limits", "memory"]), "kube_score", "Container Resources"),
    ("an image without a tag", "Deployment", put([*FIRST, "image"], "troupe"), "kube_score", "Container Image Tag"),
    ("a root file system to write to", "Deployment", put([*FIRST, "securityContext", "readOnlyRootFilesystem"], False), "kube_score", "Container Security Context ReadOnlyRootFilesystem"),
    ("root", "Deployment", put([*FIRST, "securityContext", "runAsNonRoot"], False), "pod_security", "runAsNonRoot"),
    ("a way to more rights", "Deployment", put([*FIRST, "securityContext", "allowPrivilegeEscalation"], True), "pod_security", "allowPrivilegeEscalation"),
    ("kept capabilities", "Deployment", drop([*FIRST, "securityContext", "capabilities"]), "pod_security", "capabilities"),
    ("no seccomp profile", "Deployment", drop([*POD, "securityContext", "seccompProfile"]), "pod_security", "seccompProfile"),
    ("a folder of the node", "Deployment", put([*POD, "volumes", 1], {"name": "tmp", "hostPath": {"path": "/tmp"}}), "pod_security", "hostPath"),
    ("no configuration", "Deployment", drop(CONFIGURATION), "references", "shows the annotation troupe.yaml, which the pod has not"),
    ("an option that is none, in the configuration", "Deployment", put(CONFIGURATION, "kafka:\n  broker: kafka:9092\n"), "program", "broker"),
    ("an option out of its bounds", "Deployment", put(CONFIGURATION, "kafka:\n  credit_records: 0\n"), "program", "credit_records"),
    ("a variable with a value that is none", "Deployment", put([*FIRST, "env", 2], {"name": "TROUPE_LOG_LEVEL", "value": "verbose"}), "program", "log.level"),
]

problems, rows = [], []
for name, words, values in VALUES:
    try:
        deploy.helm("template", values)
        problems.append(f"{name}: helm took it")
        continue
    except deploy.Refused as refused:
        text = str(refused)
    if words not in text:
        problems.append(f"{name}: {words!r} is not in: {text}")
    who = "values.schema.json" if "don't meet the specifications of the schema" in text else "the chart's validation"
    rows.append((name, who))

rich = {"retraining": {"enabled": True, "image": "trainer:1"}, "gateway": {"enabled": True, "parentRefs": [{"name": "g"}]},
        "kserve": {"servingRuntime": {"enabled": True}, "inferenceService": {"enabled": True, "storageUri": "pvc://m/iris"}}}
hpa = deploy.render(rich, (), *deploy.WITH_OPERATORS)
keda = deploy.render({**rich, "autoscaling": {"mode": "keda"}}, (), *deploy.WITH_OPERATORS)


def who_says(name, documents, checker, words):
    found = {key: check(documents) for key, check in deploy.CHECKERS.items()}
    if not any(words in problem for problem in found[checker]):
        problems.append(f"{name}: {checker} should say {words!r}; it says {found[checker]}")
    rows.append((name, ", ".join(key.replace("program", "troupe config") for key, said in found.items() if said) or "nobody"))


for documents in (hpa, keda):
    assert not any(check(documents) for check in deploy.CHECKERS.values())
for name, kind, change, checker, words in MANIFESTS:
    documents = copy.deepcopy(keda if kind == "ScaledObject" else hpa)
    change(next(d for d in documents if d["kind"] == kind))
    who_says(name, documents, checker, words)
who_says("both autoscalers in one release", hpa + deploy.each(keda, "ScaledObject"), "references", "2 autoscalers")
who_says("an object twice", hpa + deploy.each(hpa, "Service"), "references", "there are two of them")

deploy.report(rows, ("planted", "said by"))
print(f"{len(rows)} mistakes")
assert not problems, "\n".join(["", *problems])
