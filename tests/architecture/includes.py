"""The rules about who may include whom, as a function from a source tree to a list of violations.

    messages < runtime < actors < cli          an include points down, or stays on its floor
    runtime/policy                             the standard library, itself and messages that are as pure; no clock, no thread
    runtime/<part>                             policy and messages, its own part, and what PARTS names
    actors/<actor>.hpp                         included by its own .cpp and by node.cpp, which wires the tree; cli sees node.hpp
    vendor headers                             in .cpp files only; CAF through messages/caf.hpp only
"""

import pathlib
import re
from typing import Dict, List, Tuple

FLOORS = ["messages", "runtime", "actors", "cli"]
# A part of the runtime that knows another one besides policy.
PARTS = {"batches": {"codec", "model"}, "codec": {"model"}, "door": {"batches", "codec", "guard", "http", "model", "observe"},
         "faults": {"config", "kafka"}, "grpc": {"codec", "door", "guard", "model", "observe"}, "registry": {"config", "model"}}
# Headers of the actors' floor that are not an actor's: any file of the floor may include them.
SHARED_ACTOR_HEADERS = {"actors/answering.hpp", "actors/gateway_desk.hpp", "actors/overload.hpp",
                        "actors/sending.hpp", "actors/tally.hpp"}
GENERATED = {"troupe_version.hpp"}
CAF_SEAM = "messages/caf.hpp"
VENDORS = {
    "caf", "boost", "CLI", "prometheus", "nlohmann", "simdjson.h", "yaml-cpp", "spdlog", "fmt", "librdkafka", "hiredis",
    "openssl", "curl", "xxhash.h", "grpcpp", "grpc", "google", "inference.pb.h", "inference.grpc.pb.h", "health.pb.h",
    "health.grpc.pb.h", "reflection.pb.h", "sqlite3.h", "libpq-fe.h", "zlib.h",
}
IMPURE_STANDARD_HEADERS = {
    "chrono", "ctime", "thread", "mutex", "shared_mutex", "condition_variable", "future", "semaphore", "latch", "barrier",
    "stop_token", "iostream", "fstream", "filesystem",
}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def vendor_of(header: str) -> str:
    first = header.split("/")[0]
    return first if first in VENDORS else ""


class Tree:
    def __init__(self, root: pathlib.Path):
        self.root = root
        self.includes: Dict[str, List[Tuple[str, bool, int]]] = {}  # file -> (header, in quotes, line)
        self.once: Dict[str, bool] = {}
        for floor in FLOORS:
            for path in sorted((root / floor).rglob("*")):
                if path.suffix not in (".hpp", ".cpp"):
                    continue
                text = path.read_text()
                name = path.relative_to(root).as_posix()
                self.includes[name] = [(match[1] or match[2], match[1] is not None, text.count("\n", 0, match.start()) + 1)
                                       for match in INCLUDE.finditer(text)]
                self.once[name] = "#pragma once" in text

    def reaches(self, header: str) -> Dict[str, str]:
        """Everything outside that a header of ours brings in, with the header of ours that names it."""
        found, seen, left = {}, set(), [header]
        while left:
            name = left.pop()
            if name in seen or name not in self.includes:
                continue
            seen.add(name)
            for included, quoted, _ in self.includes[name]:
                if quoted:
                    left.append(included)
                else:
                    found.setdefault(included, name)
        return found


def violations(root: pathlib.Path) -> List[str]:
    tree = Tree(root)
    found = []
    for name, includes in tree.includes.items():
        floor, part, stem = name.split("/")[0], "/".join(name.split("/")[:2]), pathlib.PurePosixPath(name).stem
        is_header, pure = name.endswith(".hpp"), part == "runtime/policy"
        if is_header and not tree.once[name]:
            found.append(f"{name}: a header begins with #pragma once")
        for header, quoted, line in includes:
            def report(what: str, header=header, line=line):
                found.append(f"{name}:{line}: {header}: {what}")

            vendor = vendor_of(header)
            if quoted:
                if header in GENERATED:
                    if is_header or pure:
                        report("the version is included by .cpp files only")
                    continue
                if header not in tree.includes:
                    report("no such file: an include in quotes is a path from the repository's root")
                    continue
                target_floor, target_part = header.split("/")[0], "/".join(header.split("/")[:2])
                if FLOORS.index(target_floor) > FLOORS.index(floor):
                    report(f"{floor} may not include {target_floor}, which stands above it")
                    continue
                if target_floor == "runtime" and floor == "runtime" and target_part != part and target_part != "runtime/policy":
                    if pure or target_part.split("/")[1] not in PARTS.get(part.split("/")[1], set()):
                        report(f"{part} may not include {target_part}")
                if target_floor == "actors" and header not in SHARED_ACTOR_HEADERS:
                    own = header == f"actors/{stem}.hpp" and name.endswith(".cpp")
                    if floor == "actors" and not own and stem != "node":
                        report("an actor's header is for its own .cpp and for node.cpp: know the interface instead")
                    if floor == "cli" and header != "actors/node.hpp":
                        report("the commands see the tree through actors/node.hpp only")
                if pure and target_floor == "messages":
                    for outside, where in tree.reaches(header).items():
                        if vendor_of(outside) or "/" in outside:
                            report(f"policy is pure, and {where} brings in {outside}")
            else:
                if vendor == "caf":
                    if name != CAF_SEAM:
                        report(f"CAF is included through {CAF_SEAM} only")
                elif vendor and is_header:
                    report("a vendor's header belongs into a .cpp file, behind an interface of ours")
                if pure and (vendor or "/" in header or header.endswith(".h")):
                    report("policy includes nothing but the standard library")
                if pure and header in IMPURE_STANDARD_HEADERS:
                    report("policy has no clock, no thread and no file: time is an argument")
    return found
