"""The commands of the run-book and of the page about rollouts can be given as they stand: the program has the subcommands and their
flags, and the chart with its default values makes what kubectl and helm are asked for."""

import functools
import os
import pathlib
import re
import shlex
import subprocess
import sys
import unittest

import yaml

ROOT = pathlib.Path(os.environ.get("TROUPE_SOURCE_DIRECTORY") or pathlib.Path(__file__).resolve().parents[2])
TROUPE = os.environ.get("TROUPE") or str(ROOT / "build/release/troupe")
PAGES = ("docs/alerts.md", "docs/rollout.md")
KINDS = {"deploy": "Deployment", "deployment": "Deployment", "svc": "Service", "service": "Service"}


def commands(text):
    """Each command of the fenced blocks and code spans, as words: parts of a pipe and of a loop apart."""
    found = []
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.M | re.S)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S))
    for line in [line for block in blocks for line in block.replace("\\\n", " ").splitlines()] + spans:
        for nested in re.findall(r"\$\(([^)]*)\)", line):
            found.append(shlex.split(nested))
        try:
            words = shlex.split(re.sub(r"\$\([^)]*\)", "X", line), comments=True)
        except ValueError:  # a span that is no command: a quotation
            continue
        part = []
        for word in [*words, "|"]:
            if word in ("|", "&&", "do", "done", ";"):
                found.append(part)
                part = []
            else:
                part.append(word.rstrip(";") if word != ";" else word)
    return [words for words in found if words and words[0] in ("troupe", "kubectl", "helm") and len(words) > 1]


@functools.lru_cache(maxsize=None)
def help_of(*words):
    done = subprocess.run([TROUPE, *words, "--help"], text=True, capture_output=True)
    return done.stdout if done.returncode == 0 else None


def wrong_troupe(words):
    """What is wrong with a command of the program, or None."""
    path = []
    for word in words[1:]:
        if not re.fullmatch(r"[a-z]+", word):
            break
        shown = help_of(*path)
        if not re.search(rf"^  {word}\b", shown.split("Commands" if "Commands" in shown else "commands")[-1], re.M):
            break
        path.append(word)
    if not path:
        return f"no command {words[1]}"
    shown, rest = help_of(*path), words[1 + len(path):]
    if re.search(r"^(sub)?commands:", shown, re.M | re.I) and "--help" not in rest:
        return f"{' '.join(path)}: no command {' '.join(rest[:1])}"
    unknown = [flag for flag in rest if flag.startswith("-") and not re.search(rf"(?<![\w-]){flag.split('=')[0]}(?![\w-])", shown)]
    return f"{' '.join(path)}: no flag {', '.join(unknown)}" if unknown else None


def documents():
    return [each for each in yaml.safe_load_all((ROOT / "k8s/base/troupe.yaml").read_text()) if each]


def wrong_kubectl(words):
    made = documents()
    labels = next(each for each in made if each["kind"] == "Deployment")["spec"]["template"]["metadata"]["labels"]
    for place, word in enumerate(words):
        if word == "-l":
            for pair in words[place + 1].split(","):
                name, value = pair.split("=")
                if labels.get(name) != value:
                    return f"the pods have no label {pair}"
        kind, _, name = word.partition("/")
        if kind in KINDS and name and not any(each["kind"] == KINDS[kind] and each["metadata"]["name"] == name for each in made):
            return f"the chart makes no {word}"
    if words[1] in ("rollout", "describe", "get", "logs", "debug", "delete", "scale"):
        return None
    if words[1] == "exec":
        if "--" not in words:
            return "no -- before what is run"
        at = words.index("--")
        if words[at - 1] not in ("POD", "$pod") and "/" not in words[at - 1]:
            return f"{words[at - 1]} is no pod of a default installation"
        return wrong_troupe(words[at + 1:]) if words[at + 1] == "troupe" else f"the image has no {words[at + 1]}"
    if words[1] == "port-forward":
        port, (kind, _, name) = int(words[3].rsplit(":")[-1]), words[2].partition("/")
        if kind == "svc":
            ports = [p["port"] for each in made if each["kind"] == "Service" and each["metadata"]["name"] == name for p in each["spec"]["ports"]]
        else:
            pods = next(each for each in made if each["kind"] == "Deployment")["spec"]["template"]["spec"]
            ports = [p["containerPort"] for each in pods["containers"] for p in each.get("ports", [])]
        return None if port in ports else f"{words[2]} has no port {port}"
    return f"kubectl {words[1]} is not looked at here"


def wrong(words):
    if words[0] == "troupe":
        return wrong_troupe(words)
    if words[0] == "kubectl":
        return wrong_kubectl(words)
    return None if words[1] in ("history", "rollback", "install", "upgrade", "test") else f"helm {words[1]} is not looked at here"


class Commands(unittest.TestCase):
    def test_each_command_works_as_it_stands(self):
        for page in PAGES:
            found = commands((ROOT / page).read_text())
            self.assertGreater(len(found), 5, page)
            for words in found:
                with self.subTest(page=page, command=" ".join(words)):
                    self.assertIsNone(wrong(words))

    def test_the_run_book_asks_nothing_that_a_laptop_or_the_image_can_t_do(self):
        text = (ROOT / "docs/alerts.md").read_text()
        self.assertNotRegex(text, r"POD:8000", "a pod's address is not reached from a laptop")
        self.assertNotRegex(text, r"`kubectl logs deploy\w*/", "of one pod, and of no one that was replaced")

    def test_the_reader_finds_what_is_wrong(self):
        for command in ("troupe modles status", "troupe models stauts", "troupe tree --deep", "kubectl exec troupe-0 -- troupe tree", "kubectl exec deploy/troupe -- curl x",
                        "kubectl exec deploy/other -- troupe tree", "kubectl exec deploy/troupe troupe tree", "kubectl logs -l app=troupe", "kubectl port-forward svc/troupe 9999",
                        "kubectl port-forward svc/troupe 8000", "kubectl rollout undo deploy/other"):
            self.assertIsNotNone(wrong(shlex.split(command)), command)
        self.assertEqual(commands("a `troupe tree | grep x` b\n```sh\nfor pod in $(kubectl get pods -o name); do\n  kubectl exec \"$pod\" -- troupe tree  # it\ndone\n```\n"),
                         [["kubectl", "get", "pods", "-o", "name"], ["kubectl", "exec", "$pod", "--", "troupe", "tree"], ["troupe", "tree"]])


if __name__ == "__main__":
    unittest.main()
