#!/usr/bin/env python3
"""docs/azure, as far as that goes without Azure: see scripts/test-azure-docs, which makes what this needs.

The blocks of the page run as one script in which az, kubectl, helm and what else reaches outside are stand-ins that note how they were called; then
azure-cli parses what az was given. It is not logged in, so that nothing is done: a command or option that it does not know ends with 2.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/azure"
TOOLS = pathlib.Path(sys.argv[1])
STAND_IN = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["NOTES"], "a") as notes:
    print(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]), file=notes)
print("x")
"""
OUTSIDE = ("az", "kubectl", "helm", "docker", "curl", "scripts/image", "examples/python/request_producer.py", "examples/python/result_consumer.py")

blocks = re.findall(r"^```sh\n(.*?)^```", (PAGE / "README.md").read_text(), re.M | re.S)
script = "#!/bin/bash\n" + "\n".join(blocks)
failed = []


def check(what, good, found=""):
    print("ok    " if good else "FAILED", what, flush=True)
    if not good:
        failed.append(what)
        print(found, flush=True)


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    page = folder / "page.sh"
    page.write_text(script)
    done = subprocess.run(["shellcheck", str(page)], capture_output=True, text=True)
    check(f"shellcheck of {len(blocks)} blocks", done.returncode == 0, done.stdout)

    (folder / "bin").mkdir()
    for one in OUTSIDE:
        at = folder / (one if "/" in one else f"bin/{one}")
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(STAND_IN)
        at.chmod(0o755)
    (folder / "docs").mkdir()
    (folder / "docs/azure").symlink_to(PAGE)
    kept = re.sub("^rm .*$", "true", script, flags=re.M)
    done = subprocess.run(["bash", "-eu", "-c", kept], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          env={"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": name, "NOTES": f"{folder}/notes"})
    check("the blocks run with stand-ins", done.returncode == 0, done.stderr)
    calls = [json.loads(line) for line in (folder / "notes").read_text().splitlines()]
    check("the policy goes into one JSON document", "<policies>" in json.loads((folder / "policy.json").read_text())["properties"]["value"])

    # --- the cache's documents
    import azure.mgmt.redisenterprise.models as models
    documents = {one: json.loads((folder / f"{one}.json").read_text()) for one in ("redis", "redis-database")}
    for one, known in (("redis", models.Cluster), ("redis-database", models.Database)):
        names = {value["key"].split(".")[-1] for value in known._attribute_map.values() if value["key"].startswith("properties.")}
        unknown = set(documents[one]["properties"]) - names
        check(f"properties of {one}.json", not unknown, unknown)
    given = documents["redis-database"]["properties"]
    for key, values in (("clientProtocol", models.Protocol), ("clusteringPolicy", models.ClusteringPolicy), ("evictionPolicy", models.EvictionPolicy),
                        ("accessKeysAuthentication", models.AccessKeysAuthentication)):
        check(f"{key}: {given[key]}", given[key] in [value.value for value in values])
    sku = documents["redis"]["sku"]["name"]
    check(f"sku: {sku}", sku in [value.value for value in models.SkuName])

    # --- az
    environment = {**os.environ, "HOME": name, "AZURE_CONFIG_DIR": f"{name}/azure", "AZURE_CORE_COLLECT_TELEMETRY": "0", "AZURE_EXTENSION_USE_DYNAMIC_INSTALL": "no",
                   "PATH": f"{folder}/bin:{os.environ['PATH']}", "NOTES": f"{folder}/notes"}

    def az(words):
        return subprocess.run([str(TOOLS / "venv/bin/az"), *words], capture_output=True, text=True, cwd=folder, env=environment, stdin=subprocess.DEVNULL, timeout=300)

    check("az refuses an option that it does not know", az(["group", "create", "--name", "x", "--location", "x", "--nonsense"]).returncode == 2)
    seen = set()
    for tool, *words in calls:
        if tool != "az" or words == ["login"] or tuple(words) in seen:
            continue
        seen.add(tuple(words))
        done = az(words)
        parsed = done.returncode != 2 and "az login" in done.stderr
        check("az " + " ".join(words)[:110], parsed, done.stderr[-600:])

    # --- the queries
    done = subprocess.run(["node", str(ROOT / "tests/slow/azure_queries.js"), str(TOOLS / "node_modules"), str(PAGE / "queries.kql")], capture_output=True, text=True)
    check("queries.kql:" + done.stdout.strip(), done.returncode == 0, done.stderr)

print(f"{len(failed)} failed")
sys.exit(1 if failed else 0)
