"""What PromQL of the rules and dashboards asks for, and the catalogue of docs/metrics.md that it is held against (a unit test
holds that one against the program)."""

import json
import os
import pathlib
import re

import yaml

ROOT = pathlib.Path(os.environ.get("TROUPE_SOURCE_DIRECTORY") or pathlib.Path(__file__).resolve().parents[2])
RULES = ROOT / "k8s/helm/troupe/files/rules/troupe.rules.yaml"
DASHBOARDS = sorted((ROOT / "k8s/helm/troupe/files/dashboards").glob("*.json"))

TARGET = {"namespace", "job", "instance"}  # of every series that is scraped
# Not of the program: Prometheus' own, and what an evaluation pushes (docs/alerts.md, TroupeAccuracyLow).
FOREIGN = {"kube_deployment_spec_replicas": TARGET | {"deployment"}, "kube_statefulset_replicas": TARGET | {"statefulset"},  # kube-state-metrics
           "kube_pod_container_status_restarts_total": TARGET | {"pod", "container"},
           "up": TARGET, "ALERTS": TARGET | {"alertname", "alertstate", "severity", "model"}, "ml_accuracy_ratio": TARGET | {"model", "version"}}
WORDS = {"and", "or", "unless", "on", "ignoring", "by", "without", "group_left", "group_right", "offset", "bool", "inf", "nan"}
VALUES = {"$__rate_interval": "30s", "$__interval": "30s", "$__range": "1h"}

STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
LISTED = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?(?!\s*\(|[a-zA-Z0-9_:])")
NUMBER = re.compile(r"(?<![\w:])\d[\d.]*(?:[eE][-+]?\d+)?")
MATCHER = re.compile(r"([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)")


def asked(expression):
    """-> {metric: labels that its matchers name}, labels that the expression groups or joins by."""
    bare = NUMBER.sub("0", re.sub(r"\[[^\]]*\]", "", STRING.sub('""', expression)))
    bare = re.sub(r"\boffset\s+\w+", "", bare)
    grouped = {label.strip() for found in LISTED.findall(bare) for label in found.split(",") if label.strip()}
    bare = LISTED.sub(" ", bare)
    metrics = {}
    for name, matchers in SELECTOR.findall(bare):
        if name not in WORDS and not name[0].isdigit():
            metrics.setdefault(name, set()).update(MATCHER.findall(matchers))
    return metrics, grouped


def filled(expression, namespace=".*", job=".*", instance=".*", model=".*"):
    """A dashboard's query with its variables replaced, as Grafana does."""
    for name, value in {**VALUES, "$namespace": namespace, "$job": job, "$instance": instance, "$model": model}.items():
        expression = expression.replace(name, value)
    return expression


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard_queries():
    """-> (where, query) of every target and annotation."""
    found = []
    for file in DASHBOARDS:
        board = json.loads(file.read_text())
        for panel in board["panels"]:
            found += [(f"{file.stem}: {panel['title']}", target["expr"]) for target in panel.get("targets", [])]
        found += [(f"{file.stem}: annotations", each["expr"]) for each in board["annotations"]["list"]]
    return found


def catalogue():
    """-> {sample name: labels}, as docs/metrics.md has them; a histogram has its three names."""
    found = {}
    row = re.compile(r"^\| `([a-z_]+)` \| (counter|gauge|histogram|summary) \|([^|]*)\|", re.M)
    for name, kind, column in row.findall((ROOT / "docs/metrics.md").read_text()):
        labels = set(re.findall(r"`([a-z_]+)`", column))
        if kind in ("histogram", "summary"):
            found[name + "_sum"] = found[name + "_count"] = labels
        if kind == "histogram":
            found[name + "_bucket"] = labels | {"le"}
        if kind in ("counter", "gauge"):
            found[name] = labels
    return found


def recorded(known):
    """-> {name: labels} of what the rules record, from the labels that they are grouped by."""
    found = {}
    for rule in rules():
        if "record" not in rule:
            continue
        metrics, grouped = asked(rule["expr"])
        found[rule["record"]] = grouped - {"le"} or set().union(*({**known, **found}.get(name, set()) for name in metrics))
    return found


def everything():
    """-> {name: labels, those of the target included} of all that a query may ask for."""
    own = {name: labels | TARGET for name, labels in catalogue().items()}
    return {**own, **FOREIGN, **recorded({**own, **FOREIGN})}


def wrong(expression, known):
    """What the expression asks for that is not there, in words."""
    metrics, grouped = asked(expression)
    found = [f"no metric {name}" for name in metrics if name not in known]
    for name, matched in metrics.items():
        found += [f"{name} has no label {label}" for label in sorted(matched - known.get(name, matched))]
    there = set().union(*(known.get(name, set()) for name in metrics)) if metrics else set()
    found += [f"grouped by {label}, which none of {', '.join(sorted(metrics))} has" for label in sorted(grouped - there)]
    return found
