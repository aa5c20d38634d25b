"""A real Prometheus with the chart's rules, in the folder of a test."""

import json
import urllib.parse

import queries
import troupe_test as t


class Prometheus:
    """Scrapes {job: port} of this machine, in namespace `ml`."""

    def __init__(self, stage, targets, every="1s"):
        (self.port,) = t.free_ports(1)
        jobs = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": "ml"}}]} for job, port in targets.items()]
        config = stage.path("prometheus.json")  # YAML contains it
        config.write_text(json.dumps({"global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
                                      "rule_files": [str(queries.RULES)], "scrape_configs": jobs}))
        self.process = stage.start(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={stage.path('prometheus')}",
                                    f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"], "prometheus")
        t.wait_until(lambda: t.http("GET", f"http://127.0.0.1:{self.port}/-/ready")[0] == 200, "Prometheus is ready", 60)

    def ask(self, path, **fields):
        status, body = t.http("GET", f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(fields)}")
        answer = json.loads(body)
        assert status == 200 and answer["status"] == "success", (path, fields, body)
        return answer["data"]

    def query(self, expression):
        return self.ask("query", query=expression)["result"]

    def rules(self):
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def evaluated(self):
        """All rules, once each has been evaluated."""

        def all_of_them():
            found = self.rules()
            return len(found) == len(queries.rules()) and all(rule["health"] != "unknown" for rule in found) and found

        return t.wait_until(all_of_them, "every rule was evaluated", 60, 0.2)

    def alerts(self, state="firing"):
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == state}
