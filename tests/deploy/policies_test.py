"""The policies of k8s/policies, by Kyverno's own matcher and the Pod Security admission that Kyverno calls: everything that the
chart renders passes each rule, and each rule refuses what it is there for. Kyverno makes the rules for pods hold for what makes
pods; here the pods of those are looked at."""

import copy
import json

import deploy

deploy.need("helm", "kustomize", "kyvernomatch", "podsecurity")

policies = list(deploy.yaml.safe_load_all(deploy.command(deploy.TOOLS / "kustomize", "build", deploy.ROOT / "k8s/policies").stdout))
rules = {rule["name"]: rule["validate"] for policy in policies for rule in policy["spec"]["rules"]}
by_profile = {name for name, validate in rules.items() if "podSecurity" in validate}
assert all(set(validate) & {"podSecurity", "pattern"} for validate in rules.values()), "a rule of a kind that is not looked at here"
assert all(rules[name]["podSecurity"] == {"level": "restricted", "version": "latest"} for name in by_profile)


def judged(documents):
    """-> {rule: what it refuses}, and how often a rule was asked."""
    made = [{"kind": "Pod", "metadata": {**metadata, "name": name}, "spec": spec} for name, metadata, spec in deploy.pods(documents)]
    done = deploy.command(deploy.TOOLS / "kyvernomatch", stdin=json.dumps({"policies": policies, "resources": documents + made}))
    assert done.returncode == 0, done.stderr
    verdicts = json.loads(done.stdout)
    refused = {}
    for verdict in verdicts:
        if verdict["refused"]:
            refused.setdefault(verdict["rule"], []).append(f"{verdict['resource']}: {verdict['refused']}")
    for problem in deploy.pod_security(documents):
        for name in by_profile:
            refused.setdefault(name, []).append(problem)
    return refused, {verdict["rule"] for verdict in verdicts} | by_profile, len(verdicts)


values = {"loadTest": {"enabled": True}, "retraining": {"enabled": True, "image": "trainer:1"}, "redis": {"enabled": True},
          "models": {"source": "image", "image": {"reference": "models:3"}}}
rows = []
for workload in ("deployment", "statefulset"):
    refused, asked, count = judged(deploy.render({**values, "workload": workload}))
    assert not refused, refused
    assert asked == set(rules), asked ^ set(rules)
    rows.append((workload, f"passes {count} times"))

BREAK = {
    "restricted": lambda pod, container: container["securityContext"].pop("capabilities"),
    "read-only-root": lambda pod, container: container["securityContext"].update(readOnlyRootFilesystem=False),
    "no-service-account-token": lambda pod, container: pod.pop("automountServiceAccountToken"),
    "no-service-variables": lambda pod, container: pod.update(enableServiceLinks=True),
    "resources": lambda pod, container: container["resources"].pop("limits"),
    "three-probes": lambda pod, container: container.pop("startupProbe"),
    "alive-is-not-ready": lambda pod, container: container["livenessProbe"]["httpGet"].update(path="/ready"),
    "time-to-drain": lambda pod, container: pod.update(terminationGracePeriodSeconds=30),
    "no-moving-tags": lambda pod, container: container.update(image="troupe:latest"),
}
assert set(BREAK) == set(rules), set(BREAK) ^ set(rules)
documents = deploy.each(deploy.render(values), "Deployment")
for rule, change in BREAK.items():
    broken = copy.deepcopy(documents)
    pod = broken[0]["spec"]["template"]["spec"]
    change(pod, pod["containers"][0])
    refused, _, _ = judged(broken)
    assert set(refused) == {rule}, (rule, refused)
    rows.append((rule, refused[rule][0][:120]))
broken = copy.deepcopy(documents)
broken[0]["spec"]["template"]["spec"]["initContainers"][0].update(image="models")
assert set(judged(broken)[0]) == {"no-moving-tags"}, judged(broken)[0]
deploy.report(rows, ("pods, or the rule that was broken", "says"))
