"""The chart before a real API server, as a dry run: everything it can render is accepted, and what a schema does not see is refused."""

import copy
import json
import pathlib

import yaml

import cluster
import report
import troupe_test as t

NAMESPACE = "admission"

# Renderings that use different parts of the chart. Kinds of other projects are left to tests/deploy, which has their schemas.
NO_FOREIGN = {"monitoring": {"serviceMonitor": {"enabled": False}, "prometheusRule": {"enabled": False}}}
VARIANTS = {
    "defaults": {},
    "statefulset with a claim, TLS, API keys, admin": {
        "workload": "statefulset", "state": {"persistent": True}, "tls": {"secretName": "tls"}, "apiKeys": {"secretName": "keys"}, "admin": {"enabled": True}},
    "all jobs": {"loadTest": {"enabled": True}, "retraining": {"enabled": True, "image": "example.org/train:1"}},
    "models from a claim, ingress": {
        "models": {"source": "pvc"}, "ingress": {"enabled": True, "hosts": [{"host": "troupe.example.org", "paths": [{"path": "/", "pathType": "Prefix"}]}]}},
    "Event Hubs and Redis": {"eventHub": {"enabled": True}, "redis": {"enabled": True}},
}


def container(manifest: dict) -> dict:
    return manifest["spec"]["template"]["spec"]["containers"][0]


def selector_of_another(d):
    d["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] = "other"


def volume_that_is_not_there(d):
    container(d)["volumeMounts"].append({"name": "nowhere", "mountPath": "/nowhere"})


def request_above_limit(d):
    container(d)["resources"]["requests"]["memory"] = "8Gi"


def probe_at_no_port(d):
    container(d)["readinessProbe"]["httpGet"]["port"] = "no_such_port_name"


def misspelt_field(d):
    d["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 60


MISTAKES = {selector_of_another: "selector", volume_that_is_not_there: "nowhere", request_above_limit: "memory", probe_at_no_port: "port",
            misspelt_field: "terminationGracePeriodSecond"}


def run(stage: t.Stage, c: cluster.Cluster, helm: str, chart: pathlib.Path):
    c.kubectl("create", "namespace", NAMESPACE)
    c.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/warn=restricted")

    # A pod names its account, which a dry run of both together does not make.
    c.kubectl("create", "serviceaccount", "troupe", "-n", NAMESPACE)

    def rendered(values: dict) -> str:
        file = stage.path("variant.json")
        file.write_text(json.dumps({**NO_FOREIGN, **values}))
        return cluster.command(helm, "template", "troupe", chart, "--namespace", NAMESPACE, "--values", file, "--kube-version", "1.34.3").stdout

    def refused(document: dict) -> str:
        done = cluster.command(c.programs / "kubectl", "--kubeconfig", c.kubeconfig, "apply", "--dry-run=server", "--validate=strict", "-n", NAMESPACE, "-f", "-",
                               stdin=json.dumps(document), check=False)
        return done.stderr if done.returncode else ""

    with report.step("admission: what the chart renders is accepted (server-side dry run)") as n:
        for name, values in VARIANTS.items():
            done = cluster.command(c.programs / "kubectl", "--kubeconfig", c.kubeconfig, "apply", "--dry-run=server", "--validate=strict", "-n", NAMESPACE, "-f", "-",
                                   stdin=rendered(values), check=False)
            assert done.returncode == 0, f"{name}: {done.stderr}"
            # The namespace wants restricted pods; a workload that would make others is warned of.
            assert "would violate PodSecurity" not in done.stderr, f"{name}: {done.stderr}"
            n[name] = done.stdout.count("dry run")

    with report.step("admission: planted mistakes are refused") as n:
        deployment = next(d for d in yaml.safe_load_all(rendered({})) if d and d["kind"] == "Deployment")
        assert not (why := refused(deployment)), why
        for plant, named in MISTAKES.items():
            wrong = copy.deepcopy(deployment)
            plant(wrong)
            why = refused(wrong)
            assert named in why, f"{plant.__name__}: {why or 'accepted'}"
        # Pod Security looks at pods themselves.
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"}, "spec": copy.deepcopy(deployment["spec"]["template"]["spec"])}
        pod["spec"]["serviceAccountName"] = "default"
        assert not (why := refused(pod)), why
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        assert "violates PodSecurity" in refused(pod)
        n["refused"] = len(MISTAKES) + 1
