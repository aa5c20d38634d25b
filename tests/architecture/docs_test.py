"""Every event id that the code logs stands in the run-books, and every page that a page links to is there."""

import os
import pathlib
import re
import unittest

ROOT = pathlib.Path(os.environ.get("TROUPE_SOURCE_DIRECTORY") or pathlib.Path(__file__).resolve().parents[2])
PAGES = ("operations.md", "rollout.md", "onnxruntime.md")
CALL = re.compile(r"\bobserve::log(?:_every)?\(|\blog\((?=level::)")
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
# The Kafka library names these itself.
FOREIGN = {"facility"}


def arguments(text, start):
    """The top-level arguments of the call whose parenthesis ends before `start`."""
    found, depth, begin, i = [], 0, start, start
    while True:
        literal = LITERAL.match(text, i)
        if literal:
            i = literal.end()
            continue
        c = text[i]
        if c in "([{":
            depth += 1
        elif c in ")]}" and depth:
            depth -= 1
        elif c == ")" or (c == "," and not depth):
            found.append(text[begin:i].strip())
            begin = i + 1
            if c == ")":
                return found
        i += 1


def events(text):
    """-> event ids of a source file, and the expressions that could not be resolved."""
    ids, unknown = set(), []
    for call in CALL.finditer(text):
        given = arguments(text, call.end())
        # A helper of its own, log(level, event, ...), adds the component.
        if call[0].startswith("log"):
            event = given[1]
        elif given[0] == "l":
            continue
        else:
            event = given[2]
        if re.fullmatch(r"\w+", event) and event not in FOREIGN:
            assigned = re.search(rf"\b{event} = ([^;]*);", text)
            event = assigned[1] if assigned else event
        literals = LITERAL.findall(event)
        ids.update(literals)
        if not literals and event not in FOREIGN:
            unknown.append(event)
    return ids, unknown


def sources():
    for folder in ("actors", "cli", "runtime"):
        for path in sorted((ROOT / folder).rglob("*.cpp")):
            if path.parent.name != "observe":
                yield path


class Docs(unittest.TestCase):
    def test_every_event_is_explained(self):
        book = "".join((ROOT / "docs" / page).read_text() for page in PAGES)
        explained = set(re.findall(r"`(\w+)`", book))
        seen = set()
        for path in sources():
            ids, unknown = events(path.read_text())
            self.assertFalse(unknown, f"{path}: the event is not a literal")
            seen |= ids
            self.assertFalse(ids - explained, f"{path}: not in {', '.join(PAGES)}")
        self.assertGreater(len(seen), 40)

    def test_the_reader_of_calls(self):
        self.assertEqual(events('observe::log(level::warn, "a", x(1, 2) ? "b" : "c", "d, e", {{"f", g}});'), ({"b", "c"}, []))
        self.assertEqual(events('log(level::info, "b", "c");')[0], {"b"})
        self.assertEqual(events('observe::log(level::warn, "a", name, "d");'), (set(), ["name"]))

    def test_links_lead_somewhere(self):
        pages = [*sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
        for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *pages]:
            for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
                path, _, anchor = target.partition("#")
                if ":" in path:
                    continue
                there = (page.parent / path).resolve() if path else page
                self.assertTrue(there.exists(), f"{page}: {target}")
                if anchor:
                    heads = re.findall(r"^#+ (.*)$", there.read_text(), re.M)
                    known = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}
                    self.assertIn(anchor, known, f"{page}: {target}")


if __name__ == "__main__":
    unittest.main()
