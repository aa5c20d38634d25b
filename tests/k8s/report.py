"""Lines for people on stderr while it runs, one JSON document on stdout at the end."""

import contextlib
import json
import sys
import time

results = {}
begun = time.monotonic()


@contextlib.contextmanager
def step(name: str):
    """A step of the suite: `numbers` is filled with what it measured."""
    numbers = {}
    start = time.monotonic()
    print(f"[{start - begun:5.0f} s] {name} ...", file=sys.stderr, flush=True)
    yield numbers
    results[name] = numbers
    told = ", ".join(f"{key} {value}" for key, value in numbers.items())
    print(f"[{time.monotonic() - begun:5.0f} s] ok: {name}{': ' + told if told else ''}", file=sys.stderr, flush=True)


def note(text: str):
    print(f"           {text}", file=sys.stderr, flush=True)


def finish():
    print(json.dumps(results, indent=1))
