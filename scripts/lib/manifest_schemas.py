#!/usr/bin/env python3
"""JSON schemas for kubeconform, strict: a field that the API server would drop or refuse is an error.

usage: manifest_schemas.py OUTPUT KUBERNETES_VERSION WHEEL CRD.yaml...

WHEEL is the Python package kubernetes-validate, which has the schemas of the built-in kinds. Custom resources are described by
their definitions, which say which fields there are but not that there are no others.
"""
import json
import pathlib
import sys
import zipfile

import yaml

# An enum of one definition has a plain `=`, which PyYAML knows no value for.
yaml.SafeLoader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)

TEXT = {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
METADATA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"name": TEXT, "generateName": TEXT, "namespace": TEXT, "labels": TEXTS, "annotations": TEXTS,
                   "finalizers": {"type": "array", "items": TEXT}, "ownerReferences": {"type": "array"}},
}


def next_to_each_other(schema):
    """Their identities and references are web addresses: the files lie in one folder."""
    if isinstance(schema, list):
        return [next_to_each_other(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    out = {}
    for key, value in schema.items():
        if key in ("$id", "id") and isinstance(value, str):
            continue
        if key == "$ref" and "_definitions.json#" in value:
            value = "_definitions.json#" + value.split("#", 1)[1]
        out[key] = next_to_each_other(value)
    return out


def closed(schema):
    """Of a custom resource: objects with named fields have no others, unless the definition keeps unknown ones."""
    if not isinstance(schema, dict):
        return schema
    keeps_unknown = schema.get("x-kubernetes-preserve-unknown-fields", False)
    out = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    if schema.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
        out["anyOf"] = [{"type": "integer"}, TEXT]
    elif out.get("nullable") and isinstance(out.get("type"), str):
        out["type"] = [out["type"], "null"]
    out.pop("nullable", None)
    if "properties" in out:
        out["properties"] = {name: closed(field) for name, field in out["properties"].items()}
        if not keeps_unknown:
            out.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if key in out:
            out[key] = closed(out[key])
    return out  # allOf, anyOf, oneOf and not only narrow what is above: they stay open


def main(output, version, wheel, *definitions):
    out = pathlib.Path(output)
    out.mkdir(parents=True)
    folder = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict/"
    count = 0
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(folder) and name.endswith(".json"):
                (out / name[len(folder):]).write_text(json.dumps(next_to_each_other(json.loads(archive.read(name)))))
                count += 1
    if not count:
        sys.exit(f"{wheel} has no schemas of Kubernetes {version}")
    for path in definitions:
        for definition in yaml.safe_load_all(pathlib.Path(path).read_text()):
            if not definition or definition.get("kind") != "CustomResourceDefinition":
                continue
            spec = definition["spec"]
            for served in spec["versions"]:
                schema = closed(served["schema"]["openAPIV3Schema"])
                schema["properties"].update(apiVersion=TEXT, kind=TEXT, metadata=METADATA)
                kind, group = spec["names"]["kind"].lower(), spec["group"].split(".")[0]
                (out / f"{kind}-{group}-{served['name']}.json").write_text(json.dumps(schema))
                count += 1
    print(f"{count} schemas in {out}")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__.strip())
    main(*sys.argv[1:])
