#!/usr/bin/env python3
"""docs/azure against what the program and the chart are, without Azure: events and fields of the queries against the sources and a node's log,
the chart's values against its schema and the program, the policy's XML, and that the secrets are called the same wherever they are named."""

import json
import re
import subprocess
import xml.etree.ElementTree

import troupe_test as t

PAGE = t.ROOT / "docs/azure"
queries = (PAGE / "queries.kql").read_text()
values = (PAGE / "values.yaml").read_text()
provider = (PAGE / "secret-provider-class.yaml").read_text()
text = (PAGE / "README.md").read_text()

# --- queries: events that there are, fields that a line has
book = "".join((t.ROOT / "docs" / page).read_text() for page in ("operations.md", "rollout.md", "onnxruntime.md"))
named = {event for group in re.findall(r"(?:Line\.event\)|Event) in \(([^)]*)\)", queries) for event in re.findall(r'"(\w+)"', group)}
named |= set(re.findall(r'Line\.event\) == "(\w+)"', queries))
assert len(named) > 20
assert not named - set(re.findall(r"`(\w+)`", book)), named - set(re.findall(r"`(\w+)`", book))

with t.Stage() as stage:
    node = stage.troupe({"http": {}, "kafka": {"brokers": "embedded"}, "models": {"default": "iris-classifier"}, "log": {"format": "json", "requests": "all"}})
    node.wait_ready()
    for number in range(3):
        assert t.http("POST", f"http://127.0.0.1:{node.http_port}/score", json.dumps({"data": [[5.1, 3.5, 1.4, 0.2]]}), {"X-Correlation-ID": f"id-{number}"})[0] == 200
    assert node.stop() == 0
    lines = [json.loads(line) for line in node.stdout().splitlines()]
real = {key for line in lines for key in line}
request = next(line for line in lines if line["event"] == "request")
assert request["request_id"] == "id-0" and float(request["ms"]) >= 0 and {"route", "status", "client"} <= set(request), request
assert next(line for line in lines if line["event"] == "drain_finished")["in_flight"] == "0"
# What a good run does not log stands in the sources, as the name of a field.
sources = "".join(path.read_text() for folder in ("actors", "runtime", "cli") for path in (t.ROOT / folder).rglob("*.cpp"))
fields = set(re.findall(r"\bLine\.(\w+)", queries))
unknown = {one for one in fields - real if f'{{"{one}", ' not in sources and f'"{one}"' not in sources}
assert len(fields) > 10 and not unknown, unknown

# --- values: the program reads `config`, as the chart hands it on with Event Hubs switched on
block = re.search(r"^config:\n((?:  .*\n)+)", values, re.M)[1]
with t.Stage() as stage:
    file = stage.path("troupe.yaml")
    file.write_text(re.sub("^  ", "", block, flags=re.M))
    secret = "Endpoint=sb://contoso.servicebus.windows.net/;SharedAccessKeyName=troupe;SharedAccessKey=c2VjcmV0"
    done = t.run("config", "--config", str(file), "--json",
                 environment={"USE_EVENTHUB": "true", "EVENTHUB_CONNECTION": secret, "TROUPE_REDIS_HOST": "contoso", "TROUPE_REDIS_PORT": "10000"})
    assert done.returncode == 0, done.stderr
    assert "contoso.servicebus.windows.net:9093" in done.stdout and secret not in done.stdout
topics = dict(re.findall(r"(\w+)_topic: (\S+)", block))
exports = dict(re.findall(r"(\w+)=(\S+)", re.search(r"^export (NAMESPACE=.*\nexport REQUESTS=.*)$", text, re.M)[1]))
assert topics == {"requests": exports["REQUESTS"], "results": exports["RESULTS"], "dead_letter": exports["DEAD_LETTERS"]}, (topics, exports)
# Without being told, Event Hubs mode derives the same names (docs/eventhubs.md).
assert (topics["results"], topics["dead_letter"]) == (topics["requests"] + "-results", topics["requests"] + "-dlq")

# --- secrets: put into the vault, fetched from it, made into the keys that the chart reads
stored = set(re.findall(r"keyvault secret set .*?--name (\S+)", text))
fetched = set(re.findall(r"^ +objectName: (\S+)", provider, re.M))
used = dict(re.findall(r"objectName: ([\w-]+), key: ([\w-]+)", provider))
assert stored == fetched == set(used), (stored, fetched, used)
made = set(re.findall(r"secretName: (\S+)", provider))
assert made == set(re.findall(r"^  secretName: (\S+)", values, re.M)) == {"eventhub-secret", "redis-config"}, made
assert set(used.values()) == {"connection-string", "host", "port", "password"}
assert set(re.findall(r"\$\{(\w+)\}", provider)) <= set(re.findall(r"\b([A-Z_]+)=", text))

# --- the chart
chart = t.ROOT / "k8s/helm/troupe"
helm = t.ROOT / ".deps/tools/helm"
if chart.exists() and helm.exists():
    done = subprocess.run([str(helm), "template", "troupe", str(chart), "--values", str(PAGE / "values.yaml"), "--set", "image.registry=contoso.azurecr.io",
                           "--set", "eventHub.host=contoso.servicebus.windows.net", "--set", "autoscaling.partitions=12",
                           "--set-string", r"serviceAccount.annotations.azure\.workload\.identity/client-id=7"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for part in ("eventhub_connection_file: ", "secrets-store.csi.k8s.io", "azure.workload.identity/client-id: \"7\"", "azure-load-balancer-internal",
                 "contoso.azurecr.io/troupe", "password_file: "):
        assert part in done.stdout, part
    refused = subprocess.run([str(helm), "template", "troupe", str(chart), "--values", str(PAGE / "values.yaml"), "--set", "redis.pasword=x"], capture_output=True, text=True)
    assert refused.returncode, "the chart's schema takes an unknown key"
else:
    print("without helm and the chart: values.yaml is not rendered")

# --- the policy
policy = xml.etree.ElementTree.parse(PAGE / "apim-policy.xml").getroot()
assert [section.tag for section in policy] == ["inbound", "backend", "outbound", "on-error"]
assert {one.get("name") for one in policy.iter("set-header")} == {"X-Correlation-ID", "Ocp-Apim-Subscription-Key"}
limits = [policy.find(f"inbound/{name}") for name in ("rate-limit-by-key", "quota-by-key")]
assert [one.get("calls") for one in limits] == ["100", "1000000"] and limits[0].get("renewal-period") == "60"
defaults = json.loads(t.run("config", "--schema").stdout)["properties"]["rate_limit"]["properties"]
assert (defaults["per_minute"]["default"], defaults["per_month"]["default"]) == (100, 1000000), defaults
