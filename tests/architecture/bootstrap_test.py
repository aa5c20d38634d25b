"""scripts/bootstrap-minikube as far as that goes without a cluster: what it prints is what it runs, twice the same, and parts can be left out."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(os.environ.get("TROUPE_SOURCE_DIRECTORY") or pathlib.Path(__file__).resolve().parents[2])
SCRIPT = ROOT / "scripts/bootstrap-minikube"
# Notes its command line; what comes on standard input goes to a file of its own.
STAND_IN = """#!/bin/bash
echo "${0##*/} $*" >> "$NOTES"
case "$*" in *"--filename -"*) cat >> "$NOTES.yaml"; echo --- >> "$NOTES.yaml" ;; esac
"""


def run(*words, path=None, **more):
    environment = {**os.environ, "PATH": path or os.environ["PATH"], **more}
    return subprocess.run([str(SCRIPT), *words], text=True, capture_output=True, env=environment, timeout=50)


class Bootstrap(unittest.TestCase):
    def test_says_what_it_does(self):
        self.assertIn("--dry-run", run("--help").stdout)
        for words, part in ((["--nonsense"], "--dry-run"), (["--without", "kserv"], "kserve"), (["--without", "istio"], "needs istio"), (["--image", "troupe"], "tag")):
            done = run(*words)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(part, done.stderr)

    def test_what_it_prints_is_what_it_runs(self):
        with tempfile.TemporaryDirectory() as name:
            for tool in ("minikube", "kubectl", "helm", "docker", "podman"):
                (pathlib.Path(name) / tool).write_text(STAND_IN)
                (pathlib.Path(name) / tool).chmod(0o755)
            notes = pathlib.Path(name) / "notes"
            path = f"{name}:{os.environ['PATH']}"
            seen = []
            for _ in range(2):
                done = run("--image", "localhost/troupe:1", path=path, NOTES=str(notes))
                self.assertEqual(done.returncode, 0, done.stderr)
                seen.append([line for line in notes.read_text().splitlines() if not line.startswith("docker")])
                notes.unlink()
            self.assertEqual(*seen)
            printed = run("--image", "localhost/troupe:1", "--dry-run", path=path, NOTES=str(notes))
            self.assertFalse(notes.exists(), "a dry run ran something")
            words = [line.strip().replace(" <<'END'", "").replace("\\", "") for line in printed.stdout.splitlines() if re.match("(minikube|kubectl|helm) ", line)]
            self.assertEqual(words, [line.strip() for line in seen[0]])
            self.assertEqual([line for line in words if "upgrade" in line and "--install" not in line], [])
            # Every chart has its version.
            for line in words:
                if "upgrade --install" in line and "k8s/helm/troupe" not in line:
                    self.assertRegex(line, r"--version v?\d+\.\d+\.\d+")
            manifests = (pathlib.Path(name) / "notes.yaml").read_text()
            self.assertIn("namespace: inference", manifests)
            self.check_manifests(manifests)
            self.check_chart(next(line for line in words if "k8s/helm/troupe" in line))

    def check_manifests(self, manifests):
        checker, schemas = ROOT / ".deps/tools/kubeconform", ROOT / ".deps/tools/schemas"
        if checker.exists() and schemas.exists():
            done = subprocess.run([str(checker), "-strict", "-schema-location", f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"],
                                  input=manifests, text=True, capture_output=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def check_chart(self, line):
        helm = ROOT / ".deps/tools/helm"
        if helm.exists() and (ROOT / "k8s/helm/troupe").exists():
            settings = [word for pair in re.findall(r"(--set(?:-string)?) (\S+)", line) for word in pair]
            self.assertGreater(len(settings), 10)
            done = subprocess.run([str(helm), "template", "troupe", str(ROOT / "k8s/helm/troupe"), *settings], text=True, capture_output=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            for part in ("kind: ScaledObject", "kind: ServingRuntime", "localhost/troupe:1", "kafka:9092"):
                self.assertIn(part, done.stdout)

    def test_parts_are_left_out(self):
        words = [word for part in ("kserve", "istio", "keda", "prometheus", "kafka", "troupe") for word in ("--without", part)]
        said = run("--dry-run", *words).stdout
        self.assertIn("minikube start", said)
        self.assertNotIn("helm", said)
        self.assertIn("minikube delete --profile other", run("--dry-run", "--delete", "--profile", "other").stdout)


if __name__ == "__main__":
    unittest.main()
