"""Grafana's dashboards: they are what their source makes, promtool understands every query, and every metric and label that
they and the rules ask for is in docs/metrics.md."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import queries


class Dashboards(unittest.TestCase):
    def test_they_are_up_to_date(self):
        done = subprocess.run([sys.executable, str(queries.ROOT / "monitoring/dashboards/dashboards.py"), "--check"], text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stdout + "run monitoring/dashboards/dashboards.py")
        self.assertEqual(sorted(file.stem for file in queries.DASHBOARDS), ["actors", "models", "pipeline", "service"])

    def test_promtool_understands_every_query(self):
        rules = [{"record": f"query:{n}", "expr": queries.filled(query)} for n, (_, query) in enumerate(queries.dashboard_queries())]
        self.assertGreater(len(rules), 100)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"groups": [{"name": "queries", "rules": rules}]}, file)
            file.flush()
            done = subprocess.run(["promtool", "check", "rules", file.name], text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_variables_are_defined(self):
        for file in queries.DASHBOARDS:
            board = json.loads(file.read_text())
            defined = {each["name"] for each in board["templating"]["list"]}
            used = set(re.findall(r"\$\{?(\w+)\}?", file.read_text())) - {"__rate_interval", "__all"}
            self.assertEqual(used, defined, file.name)

    def test_each_panel_says_what_it_shows(self):
        for file in queries.DASHBOARDS:
            for panel in json.loads(file.read_text())["panels"]:
                if panel["type"] != "row":
                    self.assertRegex(panel["description"], r"\w{2,}", f"{file.name}: {panel['title']}")

    def test_panels_do_not_overlap_and_have_their_own_ids(self):
        for file in queries.DASHBOARDS:
            taken, ids = set(), []
            for panel in json.loads(file.read_text())["panels"]:
                ids.append(panel["id"])
                at = panel["gridPos"]
                cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
                self.assertFalse(cells & taken, f"{file.name}: {panel['title']}")
                self.assertLessEqual(at["x"] + at["w"], 24)
                taken |= cells
            self.assertEqual(len(ids), len(set(ids)))

    def test_every_metric_and_label_is_in_the_catalogue(self):
        known = queries.everything()
        for where, query in queries.dashboard_queries():
            self.assertEqual(queries.wrong(query, known), [], where)
        for rule in queries.rules():
            self.assertEqual(queries.wrong(rule["expr"], known), [], rule.get("alert") or rule["record"])

    def test_every_metric_is_on_a_dashboard(self):
        shown = {name for _, query in queries.dashboard_queries() for name in queries.asked(query)[0]}
        shown |= {name for rule in queries.rules() if rule.get("record") in shown for name in queries.asked(rule["expr"])[0]}
        families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in queries.catalogue()}
        self.assertEqual(families - {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}, set())

    def test_the_reader_of_queries(self):
        self.assertEqual(queries.asked('sum by (a, le) (rate(x_total{b="{c}",d=~"e"}[5m] offset 1h)) > 0.5e-3'), ({"x_total": {"b", "d"}}, {"a", "le"}))
        self.assertEqual(queries.asked("x and on (a) y:z unless ignoring (b) absent(w)")[0].keys(), {"x", "y:z", "w"})
        known = {"x": {"a"}, "y": {"b"}}
        self.assertEqual(queries.wrong("sum by (a) (x)", known), [])
        self.assertEqual(queries.wrong('x{c="1"}', known), ["x has no label c"])
        self.assertEqual(queries.wrong("sum by (b) (x)", known), ["grouped by b, which none of x has"])
        self.assertEqual(queries.wrong("z", known), ["no metric z"])


if __name__ == "__main__":
    if not shutil.which("promtool"):
        print("skipped: promtool is missing: apt-get install prometheus", file=sys.stderr)
        sys.exit(77)
    unittest.main()
