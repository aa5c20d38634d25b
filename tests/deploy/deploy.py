"""What the tests of the manifests share: the chart rendered, and the checkers, each a function from manifests to the list of
what it finds wrong. Values are written as a nested dictionary, like a values file."""

import copy
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import troupe_test as t

ROOT = pathlib.Path(os.environ.get("TROUPE_SOURCE_DIRECTORY") or pathlib.Path(__file__).resolve().parents[2])
CHART = ROOT / "k8s/helm/troupe"
TOOLS = pathlib.Path(os.environ.get("TROUPE_DEPLOY_TOOLS") or ROOT / ".deps/tools")
TROUPE = os.environ.get("TROUPE", str(ROOT / "build/release/troupe"))
KUBERNETES = "1.34.0"
WITH_OPERATORS = ["--api-versions", "monitoring.coreos.com/v1"]

try:
    import yaml
except ImportError:
    t.skip("needs PyYAML (Debian: python3-yaml)")


def need(*tools):
    for tool in tools:
        if not (TOOLS / tool).exists():
            t.skip(f"needs {TOOLS / tool}: scripts/deps --test installs it")


def command(*words, stdin=None):
    return subprocess.run([str(word) for word in words], input=stdin, capture_output=True, text=True)


class Refused(Exception):
    """Helm's, by the schema of the values or by the chart's own validation."""


def helm(action, values, presets=(), *options):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(values, file)
        file.flush()
        words = [TOOLS / "helm", action, *(["troupe"] if action == "template" else []), CHART, "--kube-version", KUBERNETES, *options]
        for preset in presets:
            words += ["-f", CHART / f"values-{preset}.yaml"]
        done = command(*words, "-f", file.name)
    if done.returncode:
        raise Refused((done.stdout + done.stderr).strip())
    return done.stdout


def notes(values):
    """What `helm install` says at its end. It asks a cluster first, so the text is had through a template that includes it."""
    with tempfile.TemporaryDirectory() as folder:
        chart = pathlib.Path(shutil.copytree(CHART, pathlib.Path(folder, "troupe")))
        (chart / "templates/notes.yaml").write_text('kind: Notes\ntext: {{ include "troupe/templates/NOTES.txt" . | quote }}\n')
        (chart / "one.yaml").write_text(json.dumps(values))
        done = command(TOOLS / "helm", "template", "troupe", chart, "--kube-version", KUBERNETES, "-f", chart / "one.yaml",
                       "--show-only", "templates/notes.yaml")
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)["text"]


def render(values=None, presets=(), *options):
    return [document for document in yaml.safe_load_all(helm("template", values or {}, presets, *options)) if document]


def each(documents, *kinds):
    return [document for document in documents if document["kind"] in kinds]


def one(documents, kind, name=None):
    (found,) = [document for document in each(documents, kind) if name in (None, document["metadata"]["name"])]
    return found


def changed(documents, kind, change, name=None):
    """A copy in which `change` was done to the one of that kind."""
    out = copy.deepcopy(documents)
    change(one(out, kind, name))
    return out


def label(document):
    return f"{document['kind']} {document['metadata']['name']}"


def pods(documents):
    """-> (name, metadata, spec) of each pod that a document leads to."""
    for document in documents:
        spec = document.get("spec") or {}
        if document["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if document["kind"] in ("Deployment", "StatefulSet", "Job", "CronJob"):
            yield label(document), spec["template"].get("metadata") or {}, spec["template"]["spec"]
        elif document["kind"] == "Pod":
            yield label(document), document["metadata"], spec


# --- checkers


def kubeconform(documents):
    """Unknown and misspelt fields, wrong types, missing fields; of custom resources, too."""
    done = command(TOOLS / "kubeconform", "-strict", "-output", "json", "-kubernetes-version", KUBERNETES,
                   "-schema-location", f"{TOOLS}/schemas/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", "-",
                   stdin=yaml.safe_dump_all(documents))
    found = json.loads(done.stdout or "{}").get("resources") or []
    problems = [f"{f['kind']} {f['name']}: {f['msg']}" for f in found if f["status"] not in ("statusValid", "statusSkipped")]
    if done.returncode and not problems:
        problems = [(done.stdout + done.stderr).strip()]
    return problems


# Always pulling makes pods depend on the registry's being up whenever they start; tags here name one release.
SCORE_IGNORES = ("container-image-pull-policy",)


def kube_score(documents):
    """What a pod should have and lacks: probes, limits, policies, a budget."""
    ours = [d for d in documents if "." not in d["apiVersion"].split("/")[0] or d["apiVersion"].split("/")[0].endswith("k8s.io")]
    words = [TOOLS / "kube-score", "score", "--kubernetes-version", "v1.34", "--output-format", "json"]
    for check in SCORE_IGNORES:
        words += ["--ignore-test", check]
    done = command(*words, "-", stdin=yaml.safe_dump_all(ours))
    try:
        found = json.loads(done.stdout)
    except json.JSONDecodeError:
        return [(done.stdout + done.stderr).strip()]
    critical = 1
    return [f"{o['type_meta']['kind']} {o['object_meta']['name']}: {check['check']['name']}: {comment['path']} {comment['summary']}"
            for o in found or [] for check in o["checks"] if check["grade"] <= critical and not check["skipped"]
            for comment in check["comments"] or [{"path": "", "summary": ""}]]


def pod_security(documents):
    """The restricted Pod Security Standard, by the code of the API server's admission."""
    listed = [{"name": name, "metadata": {"annotations": metadata.get("annotations") or {}}, "spec": spec}
              for name, metadata, spec in pods(documents)]
    done = command(TOOLS / "podsecurity", "restricted", stdin=json.dumps(listed))
    return (done.stdout + done.stderr).strip().splitlines()


def quantity(text):
    text = str(text)
    for suffix, factor in (("Ki", 2**10), ("Mi", 2**20), ("Gi", 2**30), ("Ti", 2**40), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("m", 1e-3)):
        if text.endswith(suffix):
            return float(text[: -len(suffix)]) * factor
    return float(text)


def chosen(selector, labels):
    return all(labels.get(key) == value for key, value in (selector or {}).items())


def references(documents):
    """Names that lead nowhere, selectors that choose nothing, two autoscalers: what schemas can't see and the API server stores."""
    problems = []
    seen = set()
    for document in documents:
        key = (document["kind"], document["metadata"]["name"], document["metadata"].get("namespace"))
        if key in seen:
            problems.append(f"{label(document)}: there are two of them")
        seen.add(key)
    made = {(kind, name) for kind, name, _ in seen}
    all_pods = list(pods(documents))
    pod_labels = [metadata.get("labels") or {} for _, metadata, _ in all_pods]

    for document in each(documents, "Deployment", "StatefulSet"):
        spec = document["spec"]
        if not chosen(spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]):
            problems.append(f"{label(document)}: its selector does not choose its own pods")
        if document["kind"] == "StatefulSet" and ("Service", spec["serviceName"]) not in made:
            problems.append(f"{label(document)}: there is no Service {spec['serviceName']}")
        scalers = [s for s in each(documents, "HorizontalPodAutoscaler", "ScaledObject")
                   if s["spec"]["scaleTargetRef"]["name"] == document["metadata"]["name"]]
        if len(scalers) > 1:
            problems.append(f"{label(document)}: {len(scalers)} autoscalers ({', '.join(label(s) for s in scalers)})")
        if scalers and "replicas" in spec:
            problems.append(f"{label(document)}: has replicas, which each upgrade would set against the autoscaler")

    for document in each(documents, "HorizontalPodAutoscaler", "ScaledObject"):
        target = document["spec"]["scaleTargetRef"]
        if (target.get("kind", "Deployment"), target["name"]) not in made:
            problems.append(f"{label(document)}: there is no {target.get('kind', 'Deployment')} {target['name']} to scale")

    for name, metadata, spec in all_pods:
        volumes = {volume["name"]: volume for volume in spec.get("volumes") or []}
        for claim in (c for d in documents if label(d) == name for c in d["spec"].get("volumeClaimTemplates") or []):
            volumes[claim["metadata"]["name"]] = {}
        for volume in volumes.values():
            wanted = volume.get("configMap", {}).get("name")
            if wanted and ("ConfigMap", wanted) not in made:
                problems.append(f"{name}: there is no ConfigMap {wanted}")
            for item in volume.get("downwardAPI", {}).get("items") or []:
                key = re.fullmatch(r"metadata\.annotations\['(.*)'\]", item["fieldRef"]["fieldPath"])
                if key and key[1] not in (metadata.get("annotations") or {}):
                    problems.append(f"{name}: the volume {volume['name']} shows the annotation {key[1]}, which the pod has not")
        mounted = set()
        for container in (spec.get("initContainers") or []) + spec["containers"]:
            for mount in container.get("volumeMounts") or []:
                mounted.add(mount["name"])
                if mount["name"] not in volumes:
                    problems.append(f"{name}: there is no volume {mount['name']}")
            paths = [mount["mountPath"] for mount in container.get("volumeMounts") or []]
            for path in {path for path in paths if paths.count(path) > 1}:
                problems.append(f"{name}: two volumes at {path}")
            resources = container.get("resources") or {}
            for what, limit in (resources.get("limits") or {}).items():
                request = (resources.get("requests") or {}).get(what)
                if request is not None and quantity(request) > quantity(limit):
                    problems.append(f"{name}: requests {request} of {what}, and its limit is {limit}")
            ports = {port.get("name") for port in container.get("ports") or []}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                port = container.get(probe, {}).get("httpGet", {}).get("port")
                if isinstance(port, str) and port not in ports:
                    problems.append(f"{name}: {probe} asks the port {port}, which the container has not")
        for unused in sorted(set(volumes) - mounted):
            problems.append(f"{name}: nothing mounts the volume {unused}")
        pause = next((c["lifecycle"]["preStop"].get("sleep", {}).get("seconds", 0) for c in spec["containers"] if "lifecycle" in c), 0)
        if any(label(d) == name for d in each(documents, "Deployment", "StatefulSet")):
            drain = seconds(configuration(documents).get("drain", {}).get("deadline", "30s"))
            if spec.get("terminationGracePeriodSeconds", 30) <= pause + drain:
                problems.append(f"{name}: terminationGracePeriodSeconds {spec.get('terminationGracePeriodSeconds', 30)} ends it "
                                f"before preStop ({pause} s) and drain.deadline ({drain:g} s) are over")

    for document in each(documents, "Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = document["spec"]
        selector = spec.get("selector") or spec.get("podSelector") or {}
        if document["kind"] != "Service":
            selector = selector.get("matchLabels") or {}
        hit = [pod for pod, labels in zip(all_pods, pod_labels) if chosen(selector, labels)]
        if not hit:
            problems.append(f"{label(document)}: its selector chooses no pod")
        if document["kind"] == "Service":
            ports = {p.get("name") for _, _, s in hit for c in s["containers"] for p in c.get("ports") or []}
            for port in spec["ports"]:
                if isinstance(port.get("targetPort"), str) and port["targetPort"] not in ports:
                    problems.append(f"{label(document)}: its pods have no port {port['targetPort']}")
    for document in each(documents, "ServiceMonitor"):
        hit = [s for s in each(documents, "Service") if chosen(document["spec"]["selector"]["matchLabels"], s["metadata"].get("labels") or {})]
        for endpoint in document["spec"]["endpoints"]:
            count = sum(port["name"] == endpoint["port"] for s in hit for port in s["spec"]["ports"])
            if count != 1:
                problems.append(f"{label(document)}: {count} Services have the port {endpoint['port']}")
    services = {s["metadata"]["name"]: s["spec"]["ports"] for s in each(documents, "Service")}
    for document in each(documents, "Ingress"):
        for rule in document["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                if backend["port"]["name"] not in {port["name"] for port in services.get(backend["name"], [])}:
                    problems.append(f"{label(document)}: there is no Service {backend['name']} with the port {backend['port']['name']}")
    for document in each(documents, "HTTPRoute", "GRPCRoute"):
        for rule in document["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                if backend["port"] not in {port["port"] for port in services.get(backend["name"], [])}:
                    problems.append(f"{label(document)}: there is no Service {backend['name']} with the port {backend['port']}")
    return problems


def seconds(text):
    total, number = 0.0, ""
    units = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
    text = str(text)
    while text:
        number = ""
        while text and (text[0].isdigit() or text[0] == "."):
            number, text = number + text[0], text[1:]
        unit = next((u for u in ("ns", "us", "ms", "s", "m", "h", "d") if text.startswith(u)), "s")
        total, text = total + float(number) * units[unit], text[len(unit):]
    return total


def configuration_text(documents):
    """troupe.yaml as the server's pods see it: an annotation of theirs."""
    for document in each(documents, "Deployment", "StatefulSet"):
        return (document["spec"]["template"]["metadata"].get("annotations") or {}).get("troupe.yaml")
    return None


def configuration(documents):
    return yaml.safe_load(configuration_text(documents) or "") or {}


def program(documents):
    """The program's own opinion of the configuration, with the environment of the pod. Secrets are there, with some text in them."""
    text = configuration_text(documents)
    if text is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        config = yaml.safe_load(text) or {}
        for section in config.values():
            for option, path in (section.items() if isinstance(section, dict) else ()):
                if isinstance(path, str) and path.startswith("/run/secrets/troupe/"):
                    here = pathlib.Path(folder, path.lstrip("/"))
                    here.parent.mkdir(parents=True, exist_ok=True)
                    here.write_text("Endpoint=sb://n.servicebus.windows.net/;SharedAccessKeyName=k;SharedAccessKey=c2VjcmV0"
                                    if "eventhub" in path else "secret")
        file = pathlib.Path(folder, "troupe.yaml")
        file.write_text(text.replace("/run/secrets/troupe/", f"{folder}/run/secrets/troupe/"))
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("TROUPE_", "KAFKA_"))}
        known = {"POD_NAME": "troupe-0", "POD_NAMESPACE": "prod"}
        for workload in each(documents, "Deployment", "StatefulSet"):
            for variable in workload["spec"]["template"]["spec"]["containers"][0].get("env") or []:
                value = known.get(variable["name"]) or variable.get("value") or "6379"
                for name, text in known.items():
                    value = value.replace(f"$({name})", text)
                environment[variable["name"]] = value
        done = subprocess.run([TROUPE, "config", "--config", str(file), "--json"], capture_output=True, text=True, env=environment)
    if done.returncode:
        return [done.stderr.strip().replace(folder, "")]
    program.effective = {entry["key"]: entry["value"] for entry in json.loads(done.stdout)}
    return []


CHECKERS = {f.__name__: f for f in (kubeconform, references, kube_score, pod_security, program)}


def report(rows, head):
    """A table on standard output, for who reads the test's."""
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())
    sys.stdout.flush()
