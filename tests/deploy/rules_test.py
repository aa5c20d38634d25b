"""The Prometheus rules: promtool finds nothing wrong, their unit tests pass, each alert is tested both ways, and the run-book
has a section for each alert and for no other."""

import re
import shutil
import subprocess
import sys
import unittest

import yaml

from queries import ROOT, RULES, everything, rules

TESTS = sorted((ROOT / "monitoring/rules").glob("*.test.yaml"))
BOOK = ROOT / "docs/alerts.md"
# Other programs ask for these names.
PROMISED = {"ml:predictions:rate1m", "ml:latency:p95", "ml:latency:p99", "ml:accuracy:avg", "ml:confidence:avg"}


def alerts():
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


class Rules(unittest.TestCase):
    def promtool(self, *words):
        done = subprocess.run(["promtool", *words], text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_promtool_finds_nothing(self):
        self.promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))

    def test_unit_tests_pass(self):
        self.promtool("test", "rules", *map(str, TESTS))

    def test_the_promised_names_are_recorded(self):
        self.assertLessEqual(PROMISED, {rule.get("record") for rule in rules()})

    def test_each_alert_is_seen_firing_and_silent(self):
        seen = {True: set(), False: set()}
        for case in (case for file in TESTS for case in yaml.safe_load(file.read_text())["tests"]):
            for expected in case.get("alert_rule_test", []):
                seen[bool(expected["exp_alerts"])].add(expected["alertname"])
        self.assertEqual(set(alerts()) - seen[True], set(), "never expected to fire")
        self.assertEqual(set(alerts()) - seen[False], set(), "never expected to be silent")

    def test_each_alert_says_what_is_wrong_and_where_to_read_on(self):
        for name, rule in alerts().items():
            with self.subTest(name):
                self.assertRegex(name, "^Troupe[A-Z]")
                self.assertIn(rule["labels"]["severity"], ("1", "2", "3"))
                self.assertEqual(set(rule["annotations"]), {"summary", "description", "runbook_url"})
                self.assertIn("{{", rule["annotations"]["description"], "no number and no name in it")
                self.assertEqual(rule["annotations"]["runbook_url"], f"docs/alerts.md#{name.lower()}")

    def test_the_run_book_has_a_section_an_alert_and_no_other(self):
        sections = re.split(r"^### ", BOOK.read_text(), flags=re.M)[1:]
        heads = [section.splitlines()[0] for section in sections]
        self.assertEqual(sorted(heads), sorted(alerts()))
        for head, section in zip(heads, sections):
            self.assertRegex(section, "Look first", f"{head}: what to look at")
            self.assertRegex(section, r"(?m)^Do: |[dD]o: |\| do \|", f"{head}: what to do")

    def test_the_run_book_names_metrics_and_recorded_series_that_exist(self):
        known = {re.sub(r"_(bucket|sum|count)$", "", name) for name in everything()}
        for name in re.findall(r"\b(?:troupe|inference)_[a-z_]+|\bml:[a-z0-9:]+|\bml_[a-z_]+", BOOK.read_text()):
            self.assertIn(re.sub(r"_(bucket|sum|count)$", "", name), known)

    def test_the_run_book_names_events_reasons_and_codes_that_exist(self):
        pages = "".join((ROOT / "docs" / page).read_text() for page in ("operations.md", "rollout.md", "onnxruntime.md", "metrics.md", "formats.md", "faults.md"))
        known = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", pages))
        for name in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", BOOK.read_text()):
            if not name.startswith("kube_") and name not in ("runbook_url", "rule_files", "honor_labels", "evicted_keys", "ml_accuracy_ratio", "container_cpu_cfs_throttled_periods_total"):
                self.assertTrue(name in known, name)


if __name__ == "__main__":
    if not shutil.which("promtool"):
        print("skipped: promtool is missing: apt-get install prometheus", file=sys.stderr)
        sys.exit(77)
    unittest.main()
