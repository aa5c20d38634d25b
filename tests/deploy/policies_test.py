"""Kyverno's own program, with the policies of k8s/policies: everything that the chart renders passes each rule, and each rule
refuses what it is there for."""

import copy
import json
import tempfile

import deploy

deploy.need("helm", "kustomize")
if not (deploy.TOOLS / "kyverno").exists():
    deploy.t.skip(f"needs {deploy.TOOLS}/kyverno: scripts/test-policies builds it, which takes long")

policies = deploy.command(deploy.TOOLS / "kustomize", "build", deploy.ROOT / "k8s/policies").stdout
RULES = {rule["name"] for policy in deploy.yaml.safe_load_all(policies) for rule in policy["spec"]["rules"]}


def refused(documents):
    """-> {rule: messages} of the rules that refuse something, and how many results passed."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("policies.yaml", policies), ("resources.yaml", deploy.yaml.safe_dump_all(documents))):
            with open(f"{folder}/{name}", "w") as file:
                file.write(text)
        done = deploy.command(deploy.TOOLS / "kyverno", "apply", f"{folder}/policies.yaml", "--resource", f"{folder}/resources.yaml",
                              "--policy-report", "--output-format", "json")
    start = done.stdout.find("{")
    assert start >= 0, done.stdout + done.stderr
    report, _ = json.JSONDecoder().raw_decode(done.stdout[start:])
    out, passed = {}, 0
    for result in report["results"]:
        rule = result["rule"].removeprefix("autogen-cronjob-").removeprefix("autogen-")
        if result["result"] == "pass":
            passed += 1
        elif result["result"] != "skip":
            out.setdefault(rule, []).append(result["message"])
    return out, passed


values = {"loadTest": {"enabled": True}, "retraining": {"enabled": True, "image": "trainer:1"}, "redis": {"enabled": True},
          "models": {"source": "image", "image": {"reference": "models:3"}}}
rows = []
for workload in ("deployment", "statefulset"):
    documents = deploy.render({**values, "workload": workload})
    problems, passed = refused(documents)
    assert not problems, problems
    assert passed >= len(RULES), (passed, RULES)
    rows.append((workload, f"{passed} results, all passed"))

BREAK = {
    "restricted": lambda pod, container: container["securityContext"].pop("capabilities"),
    "read-only-root": lambda pod, container: container["securityContext"].update(readOnlyRootFilesystem=False),
    "no-service-account-token": lambda pod, container: pod.pop("automountServiceAccountToken"),
    "no-service-variables": lambda pod, container: pod.update(enableServiceLinks=True),
    "resources": lambda pod, container: container["resources"].pop("limits"),
    "three-probes": lambda pod, container: container.pop("startupProbe"),
    "probes-differ": lambda pod, container: container["livenessProbe"]["httpGet"].update(path="/ready"),
    "time-to-drain": lambda pod, container: pod.update(terminationGracePeriodSeconds=30),
    "no-moving-tags": lambda pod, container: container.update(image="troupe:latest"),
}
assert set(BREAK) == RULES, set(BREAK) ^ RULES
for rule, change in BREAK.items():
    documents = deploy.each(deploy.render(values), "Deployment")
    broken = copy.deepcopy(documents)
    pod = broken[0]["spec"]["template"]["spec"]
    change(pod, pod["containers"][0])
    problems, _ = refused(broken)
    assert set(problems) == {rule}, (rule, problems)
    rows.append((rule, problems[rule][0][:110]))
deploy.report(rows, ("pods, or the rule that was broken", "Kyverno"))
