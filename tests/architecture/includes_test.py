"""The source tree obeys the include rules; and each rule catches what is planted against it."""

import os
import pathlib
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import includes  # noqa: E402

ROOT = pathlib.Path(os.environ.get("TROUPE_SOURCE_DIRECTORY") or HERE.parent.parent)

GOOD = {
    "messages/caf.hpp": "#include <caf/all.hpp>",
    "messages/batch.hpp": "#include <string>",
    "messages/interfaces.hpp": '#include "messages/caf.hpp"\n#include "messages/batch.hpp"',
    "runtime/policy/circuit.hpp": '#include <cstdint>\n#include "messages/batch.hpp"',
    "runtime/policy/circuit.cpp": '#include "runtime/policy/circuit.hpp"',
    "runtime/model/schema.hpp": '#include "messages/batch.hpp"',
    "runtime/codec/json.hpp": '#include "runtime/model/schema.hpp"',
    "runtime/codec/json.cpp": '#include "runtime/codec/json.hpp"\n#include <simdjson.h>',
    "runtime/kafka/sink.hpp": '#include "runtime/policy/circuit.hpp"',
    "runtime/config/version.cpp": '#include "troupe_version.hpp"',
    "actors/producer.hpp": '#include "messages/interfaces.hpp"\n#include "runtime/kafka/sink.hpp"',
    "actors/producer.cpp": '#include "actors/producer.hpp"',
    "actors/node.hpp": "",
    "actors/node.cpp": '#include "actors/node.hpp"\n#include "actors/producer.hpp"',
    "cli/serve.cpp": '#include <CLI/CLI.hpp>\n#include "actors/node.hpp"',
}

# What is planted in one file -> a part of the message that must appear.
BAD = [
    ("messages/batch.hpp", '#include "runtime/policy/circuit.hpp"', "stands above"),
    ("messages/batch.hpp", "#include <caf/actor.hpp>", "messages/caf.hpp only"),
    ("messages/batch.hpp", "#include <nlohmann/json.hpp>", "vendor's header"),
    ("runtime/kafka/sink.hpp", '#include "actors/producer.hpp"', "stands above"),
    ("runtime/kafka/sink.hpp", '#include "runtime/codec/json.hpp"', "runtime/kafka may not include runtime/codec"),
    ("runtime/kafka/sink.hpp", "#include <librdkafka/rdkafka.h>", "vendor's header"),
    ("runtime/kafka/sink.cpp", "  #  include <caf/all.hpp>", "messages/caf.hpp only"),
    ("runtime/policy/circuit.hpp", "#include <xxhash.h>", "nothing but the standard library"),
    ("runtime/policy/circuit.cpp", "#include <sys/time.h>", "nothing but the standard library"),
    ("runtime/policy/circuit.cpp", "#include <chrono>", "no clock"),
    ("runtime/policy/circuit.cpp", '#include "runtime/kafka/sink.hpp"', "runtime/policy may not include"),
    ("runtime/policy/circuit.hpp", '#include "messages/interfaces.hpp"', "brings in caf/all.hpp"),
    ("actors/gateway.cpp", '#include "actors/producer.hpp"', "own .cpp"),
    ("actors/gateway.hpp", '#include "actors/producer.hpp"', "own .cpp"),
    ("cli/serve.cpp", '#include "actors/producer.hpp"', "actors/node.hpp only"),
    ("cli/serve.cpp", '#include "serve.hpp"', "no such file"),
    ("actors/producer.cpp", '#include "cli/serve.hpp"', "no such file"),
    ("runtime/config/options.hpp", '#include "troupe_version.hpp"', ".cpp files only"),
]


def plant(root: pathlib.Path, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(("#pragma once\n" if name.endswith(".hpp") else "") + text + "\n")


class Includes(unittest.TestCase):
    def test_this_tree(self):
        self.assertEqual(includes.violations(ROOT), [])
        self.assertTrue(any((ROOT / "runtime").rglob("*.hpp")), f"{ROOT} has no sources: wrong folder?")

    def test_a_good_tree_passes(self):
        with tempfile.TemporaryDirectory() as folder:
            plant(pathlib.Path(folder), GOOD)
            self.assertEqual(includes.violations(pathlib.Path(folder)), [])

    def test_every_rule_catches_its_violation(self):
        for name, line, message in BAD:
            with self.subTest(file=name, include=line), tempfile.TemporaryDirectory() as folder:
                root = pathlib.Path(folder)
                plant(root, {**GOOD, name: GOOD.get(name, "") + "\n" + line})
                found = includes.violations(root)
                self.assertTrue(any(message in one and one.startswith(name) for one in found), f"not caught: {found}")

    def test_a_header_without_pragma_once(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            plant(root, GOOD)
            (root / "messages/batch.hpp").write_text("#include <string>\n")
            self.assertIn("messages/batch.hpp: a header begins with #pragma once", includes.violations(root))


if __name__ == "__main__":
    unittest.main()
