"""The version stands in CMakeLists.txt; whatever has to repeat it says the same, and the changelog and the page of releases know it."""

import os
import pathlib
import re
import subprocess
import unittest

ROOT = pathlib.Path(os.environ.get("TROUPE_SOURCE_DIRECTORY") or pathlib.Path(__file__).resolve().parents[2])
# Files that cannot ask CMakeLists.txt: where in them the version stands.
REPEATED = {
    "k8s/helm/troupe/Chart.yaml": r"^(?:version|appVersion): \"?([^\"\n]+)",
    "Dockerfile": r"^ARG VERSION=(\S+)",
    "docs/azure/README.md": r"\bVERSION=(\d\S*)",
}


def asked(*words):
    return subprocess.run([str(ROOT / "scripts/version"), *words], capture_output=True, text=True)


class Version(unittest.TestCase):
    def test_it_is_the_same_everywhere(self):
        version = asked().stdout.strip()
        self.assertRegex(version, r"^\d+\.\d+\.\d+$")
        self.assertRegex((ROOT / "CMakeLists.txt").read_text(), rf"project\(troupe VERSION {re.escape(version)}\b")
        for name, pattern in REPEATED.items():
            if (ROOT / name).exists():
                found = re.findall(pattern, (ROOT / name).read_text(), re.M)
                self.assertTrue(found, f"{name}: no version")
                self.assertEqual(set(found), {version}, name)

    def test_the_program_says_it(self):
        troupe = pathlib.Path(os.environ.get("TROUPE") or ROOT / "build/release/troupe")
        if troupe.exists():
            said = subprocess.run([str(troupe), "version"], capture_output=True, text=True).stdout
            self.assertTrue(said.startswith(f"troupe {asked().stdout.strip()} "), said)

    def test_the_changelog_has_it(self):
        text = (ROOT / "CHANGELOG.md").read_text()
        self.assertIn("## [Unreleased]", text)
        self.assertTrue(asked("--changes", asked().stdout.strip()).stdout.strip())
        self.assertEqual(asked("--changes", "99.0.0").returncode, 1)
        # Keep a Changelog's own heads, and no others.
        self.assertLessEqual(set(re.findall(r"^### (.*)$", text, re.M)), {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"})


if __name__ == "__main__":
    unittest.main()
