"""What is derived from the chart is what it renders now, and every overlay of k8s/ builds and passes the checkers."""

import deploy

deploy.need("helm", "kustomize", "kubeconform", "kube-score", "podsecurity", "schemas")

done = deploy.command("python3", deploy.ROOT / "scripts/manifests", "--check")
assert done.returncode == 0, done.stdout + done.stderr

# One pod for a laptop, without what several pods need.
EXCEPT = {"development": ("anti-affinity", "PodDisruptionBudget")}
folders = [deploy.ROOT / "k8s/base", *sorted(p.parent for p in deploy.ROOT.glob("k8s/*/*/kustomization.yaml") if p.parent.parent.name == "overlays")]
assert len(folders) >= 3, folders
failed, rows = [], []
for folder in folders:
    built = deploy.command(deploy.TOOLS / "kustomize", "build", folder)
    assert built.returncode == 0, built.stderr
    documents = [d for d in deploy.yaml.safe_load_all(built.stdout) if d]
    for checker, check in deploy.CHECKERS.items():
        failed += [f"{folder.name}: {checker}: {problem}" for problem in check(documents)
                   if checker != "kube_score" or not any(word in problem for word in EXCEPT.get(folder.name, ()))]
    scalers = [deploy.label(d) for d in deploy.each(documents, "HorizontalPodAutoscaler", "ScaledObject")]
    rows.append((folder.name, len(documents), ", ".join(scalers) or "-"))
for path in sorted([*deploy.ROOT.glob("k8s/kserve/*.yaml"), *deploy.ROOT.glob("k8s/examples/*.yaml"), *deploy.ROOT.glob("k8s/policies/[!k]*.yaml")]):
    documents = [d for d in deploy.yaml.safe_load_all(path.read_text()) if d]
    failed += [f"{path.name}: {problem}" for check in (deploy.kubeconform, deploy.pod_security) for problem in check(documents)]
    rows.append((f"{path.parent.name}/{path.name}", len(documents), "-"))
deploy.report(rows, ("built", "objects", "autoscaler"))
assert not failed, "\n".join(["", *failed])

# A mistake in an overlay, seen.
patched = deploy.command("bash", "-c", f"""set -e
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cp -r '{deploy.ROOT}/k8s/.' "$work"
sed -i 's/name: troupe$/name: group/' "$work/overlays/development/one-pod.yaml"
'{deploy.TOOLS}/kustomize' build "$work/overlays/development" 2>&1""")
assert patched.returncode != 0 and "no matches for" in patched.stdout, patched.stdout[:500]
