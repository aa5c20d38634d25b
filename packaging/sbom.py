"""The bill of materials of an image's root file system, or of a Debian package; scripts/sbom runs it.

debsbom writes that of Debian's packages. Added are Troupe itself, and what its package brings along that is no package of Debian:
it lists that in /usr/share/troupe/components, "NAME VERSION [SHA256]" a line.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

COMPONENTS = "usr/share/troupe/components"
# Where each comes from, who to watch for its vulnerabilities, and its licence.
KNOWN = {
    "librdkafka": {"purl": "pkg:github/confluentinc/librdkafka@v{upstream}", "license": "BSD-2-Clause", "vendor": "confluent"},
    "hiredis": {"purl": "pkg:github/redis/hiredis@v{upstream}", "license": "BSD-3-Clause", "vendor": "redis"},
    "onnxruntime": {"purl": "pkg:pypi/onnxruntime@{upstream}", "license": "MIT", "vendor": "microsoft"},
    "onnxruntime-gpu": {"purl": "pkg:pypi/onnxruntime-gpu@{upstream}", "license": "MIT", "vendor": "microsoft"},
}


def complain(text: str):
    sys.exit(f"sbom: {text}")


def debian_packages(words, stdin=None) -> dict:
    """What debsbom says."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/sbom"
        program = pathlib.Path(sys.executable).with_name("debsbom")
        done = subprocess.run([program, "generate", "-t", "cdx", "--cdx-schema-version", "1.6", "--out", out, *words],
                              input=stdin, text=True, capture_output=True)
        if done.returncode:
            complain(f"debsbom failed:\n{done.stderr}")
        return json.loads(pathlib.Path(f"{out}.cdx.json").read_text())


def extra_components(text: str) -> list:
    made = []
    for line in text.splitlines():
        name, version, *digest = line.split()
        known = KNOWN.get(name)
        if not known:
            complain(f"{COMPONENTS} names {name}, which packaging/sbom.py has no origin and licence of")
        # 2.14.2-1 is Debian's first package of 2.14.2.
        upstream = version.rpartition("-")[0] or version
        purl = known["purl"].format(upstream=upstream)
        component = {"type": "library", "bom-ref": purl, "name": name, "version": upstream, "purl": purl,
                     "cpe": f"cpe:2.3:a:{known['vendor']}:{name}:{upstream}:*:*:*:*:*:*:*", "licenses": [{"license": {"id": known["license"]}}]}
        if version != upstream:
            component["pedigree"] = {"ancestors": [{"type": "library", "name": name, "version": version,
                                                    "purl": f"pkg:deb/debian/{name}@{version}?arch=source"}]}
        if digest:
            component["properties"] = [{"name": "troupe:wheel-sha256", "value": digest[0]}]
        made.append(component)
    if not made:
        complain(f"{COMPONENTS} is empty: the package was built without scripts/deps")
    return made


def troupe_in(bill: dict) -> dict:
    found = [c for c in bill["components"] if c["name"] == "troupe" and "arch=source" not in c["bom-ref"]]
    if len(found) != 1:
        complain("the package troupe is not installed there")
    return found[0]


def of_root(root: pathlib.Path, name: str) -> dict:
    bill = debian_packages(["--root", str(root)])
    listed = root / COMPONENTS
    if not listed.exists():
        complain(f"{root} has no {COMPONENTS}: is it an image of Troupe?")
    program = troupe_in(bill)
    return finish(bill, program, extra_components(listed.read_text()), {"type": "container", "name": name})


def of_package(package: pathlib.Path) -> dict:
    def field(what):
        return subprocess.run(["dpkg-deb", "--field", package, what], check=True, text=True, capture_output=True).stdout.strip()

    version, architecture = field("Version"), field("Architecture")
    wanted = [one.split("|")[0].split("(")[0].strip() for one in field("Depends").split(",")]
    rows = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture}\\n", *wanted], text=True, capture_output=True)
    if rows.returncode:
        complain(f"what {package.name} depends on is not all installed here, so its versions are not known:\n{rows.stderr}")
    bill = debian_packages(["--from-pkglist", "--distro-arch", architecture], f"{rows.stdout}troupe {version} {architecture}\n")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
        listed = (pathlib.Path(folder) / COMPONENTS).read_text()
    program = troupe_in(bill)
    purls = [c["bom-ref"] for c in bill["components"] if c is not program and "arch=source" not in c["bom-ref"]]
    bill["dependencies"] = [d for d in bill["dependencies"] if d["ref"] != program["bom-ref"]] + [{"ref": program["bom-ref"], "dependsOn": purls}]
    return finish(bill, program, extra_components(listed), {"type": "file", "name": package.name})


def finish(bill: dict, program: dict, extra: list, subject: dict) -> dict:
    # debsbom takes it for a package of Debian's, which has a source there.
    for one in [c["bom-ref"] for c in bill["components"] if c["name"] == "troupe" and c is not program]:
        bill["components"] = [c for c in bill["components"] if c["bom-ref"] != one]
        bill["dependencies"] = [{**d, "dependsOn": [r for r in d.get("dependsOn", []) if r != one]} for d in bill["dependencies"] if d["ref"] != one]
    program["type"] = "application"
    program["purl"] = program["purl"].replace("pkg:deb/debian/", "pkg:deb/troupe/")
    program.pop("group", None)
    bill["components"] += extra
    for one in bill["dependencies"]:
        if one["ref"] == program["bom-ref"]:
            one["dependsOn"] = sorted({*one.get("dependsOn", []), *(c["bom-ref"] for c in extra)})
            break
    else:
        bill["dependencies"].append({"ref": program["bom-ref"], "dependsOn": sorted(c["bom-ref"] for c in extra)})
    bill["metadata"]["component"].update(subject, version=program["version"])
    return bill


parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--root", type=pathlib.Path)
parser.add_argument("--package", type=pathlib.Path)
parser.add_argument("--name", default="troupe")
parser.add_argument("--output", type=pathlib.Path, required=True)
options = parser.parse_args()
bill = of_package(options.package) if options.package else of_root(options.root, options.name)
text = json.dumps(bill, indent=1, sort_keys=True)
if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
    complain(f"what was made does not fit CycloneDX's schema: {error}")
options.output.parent.mkdir(parents=True, exist_ok=True)
options.output.write_text(text + "\n")
binary = sum("arch=source" not in c["bom-ref"] for c in bill["components"])
print(f"{options.output}: {binary} components ({len(bill['components'])} with the sources of Debian's packages), CycloneDX 1.6", file=sys.stderr)
