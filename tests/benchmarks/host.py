"""How many pieces a second go through the host around an engine: reading, prompts, tokens, checks, store, writing.

    python tests/benchmarks/host.py [--lines 20000] [--rounds 3] [--tree before=DIR --tree after=DIR] [--only WORD,…]

Whole commands, each in a process of its own, without a GPU: the echo, and a stub (`harness/stub.py`) that computes
nothing behind the default model's tokenizer. The time is that after the start, which a run of one line takes. Trees
alternate, and medians are shown, with the processor seconds of the whole command, children included.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from harness.table import markdown_table

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_HEADER = ["way", "tree", "lines/s", "range", "start s", "processor s"]
_STUB = ["-m", "harness.stub"]
_AT_ONCE = {"STUB_STEP_MS": "0", "STUB_SLOTS": "512"}


@dataclass(frozen=True)
class Way:
    """What is run; `again` runs on the store that the one before it left."""

    name: str
    program: list[str]
    options: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    again: bool = False


_ECHO = ["-m", "llmpar"]
WAYS = [
    Way("echo", _ECHO, ["--engine", "echo", "--no-store"]),
    Way("echo, store", _ECHO, ["--engine", "echo", "--store", "STORE"]),
    Way("echo, from the store", _ECHO, ["--engine", "echo", "--store", "STORE"], again=True),
    Way("stub at once", _STUB, ["--no-store"], _AT_ONCE),
    Way("stub at once, store", _STUB, ["--store", "STORE"], _AT_ONCE),
    Way("stub, from the store", _STUB, ["--store", "STORE"], _AT_ONCE, again=True),
    Way("stub of 250,000 tokens/s", _STUB, ["--no-store"]),
    Way("stub of 250,000 tokens/s, store", _STUB, ["--store", "STORE"]),
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
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as place:
        whole, one = Path(place) / "lines.txt", Path(place) / "line.txt"
        whole.write_text("".join(lines(given.lines)), encoding="utf-8")
        one.write_text(next(lines(1)), encoding="utf-8")
        for _ in range(given.rounds):
            for way in ways:
                for tree, path in trees.items():
                    store = Path(place) / f"{tree}.sqlite"
                    if not way.again:
                        for file in store.parent.glob(f"{store.name}*"):
                            file.unlink()
                    start, _ = run(way, path, one, Path(place) / "first.sqlite", Path(place))
                    seconds, busy = run(way, path, whole, store, Path(place))
                    found.setdefault((way.name, tree), []).append((given.lines / (seconds - start), start, busy))
    rows = []
    for (way, tree), runs in found.items():
        rates, starts, busy = zip(*runs, strict=True)
        spread = f"{min(rates):,.0f}–{max(rates):,.0f}"
        rows.append([way, tree, f"{median(rates):,.0f}", spread, f"{median(starts):.2f}", f"{median(busy):.1f}"])
    print(markdown_table(_HEADER, rows))


def lines(count: int) -> Iterator[str]:
    """Yield lines of some twenty words, no two of them alike."""
    words = (_ROOT / "sample_data" / "story.txt").read_text(encoding="utf-8").split()
    for number in range(count):
        first = (number * 7) % (len(words) - 20)
        yield f"Entry {number + 1} says {' '.join(words[first : first + 16])}.\n"


def run(way: Way, tree: str, source: Path, store: Path, place: Path) -> tuple[float, float]:
    """Return the seconds and processor seconds that a command takes."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((tree, str(_HERE)))} | way.environment
    options = [str(store) if option == "STORE" else option for option in way.options]
    command = [sys.executable, *way.program, "run", "Answer: {text}", "--unit", "line", *options]
    command += ["--max-new-tokens", "32", "-o", str(place / "out"), str(source)]
    before, started = _children(), time.perf_counter()
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.returncode}: {done.stderr}")
    return seconds, _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
