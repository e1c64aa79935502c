"""How many pieces a second go through the host around an engine: reading, prompts, tokens, checks, store, writing.

    python tests/benchmarks/host.py [--lines 20000] [--rounds 3] [--tree before=DIR --tree after=DIR] [--only WORD,…]

Whole commands, without a GPU: the echo, and a stub (`harness/stub.py`) that computes nothing behind the default
model's tokenizer, in the process that a GPU has. The time is that after the start, which a run of one line takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.command import Way, measure, report
from harness.machine import describe_machine

_ROOT = Path(__file__).parents[2]
_STUB = "harness.stub"
_AT_ONCE = {"STUB_STEP_MS": "0", "STUB_SLOTS": "512"}
_SHORT = ["--max-new-tokens", "32"]
WAYS = [
    Way("echo", ["--engine", "echo", "--no-store"]),
    Way("echo, store", ["--engine", "echo", "--store", "STORE"]),
    Way("echo, from the store", ["--engine", "echo", "--store", "STORE"], again=True),
    Way("stub at once", [*_SHORT, "--no-store"], _STUB, _AT_ONCE),
    Way("stub at once, store", [*_SHORT, "--store", "STORE"], _STUB, _AT_ONCE),
    Way("stub, from the store", [*_SHORT, "--store", "STORE"], _STUB, _AT_ONCE, again=True),
    Way("stub of 250,000 tokens/s", [*_SHORT, "--no-store"], _STUB),
    Way("stub of 250,000 tokens/s, store", [*_SHORT, "--store", "STORE"], _STUB),
]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tree", action="append", default=[], metavar="NAME=DIR", help="whose llmpar is run")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help="ways by a part of their name")
    given = parser.parse_args()
    trees = dict(tree.partition("=")[::2] for tree in given.tree) or {"this": str(_ROOT)}
    ways = [way for way in WAYS if not given.only or any(word in way.name for word in given.only)]
    print(describe_machine(), flush=True)
    print(report(measure(ways, trees, given.lines, given.rounds, lambda line: print(line, flush=True))))


if __name__ == "__main__":
    main()
