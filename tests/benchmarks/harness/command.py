"""The whole command over lines of text, each time in processes of its own: lines a second after the start, and that."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from harness.table import markdown_table

_ROOT = Path(__file__).parents[3]
_BENCHMARKS = Path(__file__).parents[1]
_TOKENS = re.compile(r"([\d,]+) out, ")
HEADER = ["way", "tree", "lines/s", "range", "tokens/s", "start s", "whole s", "processor s"]


@dataclass(frozen=True)
class Way:
    """What is run; "STORE" among the options stands for a store, and `again` leaves in it what was there before."""

    name: str
    options: list[str]
    program: str = "llmpar"
    environment: dict[str, str] = field(default_factory=dict)
    again: bool = False


@dataclass(frozen=True)
class Run:
    """One run: seconds of the whole command and of one over a single line, processor seconds of all its processes."""

    num_lines: int
    seconds: float
    start: float
    busy: float
    num_tokens: int

    @property
    def after_start(self) -> float:
        return max(self.seconds - self.start, 1e-9)


def lines(count: int) -> Iterator[str]:
    """Yield lines of some twenty words, no two of them alike."""
    words = (_ROOT / "sample_data" / "story.txt").read_text(encoding="utf-8").split()
    for number in range(count):
        first = (number * 7) % (len(words) - 20)
        yield f"Entry {number + 1} says {' '.join(words[first : first + 16])}.\n"


def measure(
    ways: Sequence[Way], trees: Mapping[str, str], count: int, rounds: int, tell: Callable[[str], None]
) -> dict[tuple[str, str], list[Run]]:
    """Run every way in every tree of llmpar's, alternating, and return the runs by way and tree.

    Args:
        ways: in order; one that is run again follows the one that fills the store.
        trees: name → directory in which there is a package llmpar.
        count: of lines.
        rounds: how often all of that is done.
        tell: is told of each run.
    """
    found: dict[tuple[str, str], list[Run]] = {}
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "lines").write_text("".join(lines(count)), encoding="utf-8")
        (place / "line").write_text(next(lines(1)), encoding="utf-8")
        for _ in range(rounds):
            for way in ways:
                for tree, path in trees.items():
                    starts = []
                    for source in ("line", "lines"):
                        store = place / f"{tree}-{source}.sqlite"
                        if not way.again:
                            for file in place.glob(f"{store.name}*"):
                                file.unlink()
                        starts.append(_run(way, path, place / source, store, place / "out"))
                    (start, _, _), (seconds, busy, num_tokens) = starts
                    run = Run(count, seconds, start, busy, num_tokens)
                    tell(
                        f"{way.name} ({tree}): {seconds:.2f} s, {count / run.after_start:,.0f} lines/s after the start"
                    )
                    found.setdefault((way.name, tree), []).append(run)
    return found


def report(found: Mapping[tuple[str, str], Sequence[Run]]) -> str:
    """Return a table of medians."""
    rows = []
    for (way, tree), runs in found.items():
        rates = [run.num_lines / run.after_start for run in runs]
        rows.append([
            way,
            tree,
            f"{median(rates):,.0f}",
            f"{min(rates):,.0f}–{max(rates):,.0f}",
            f"{median(run.num_tokens / run.after_start for run in runs):,.0f}",
            f"{median(run.start for run in runs):.2f}",
            f"{median(run.seconds for run in runs):.2f}",
            f"{median(run.busy for run in runs):.1f}",
        ])  # fmt: skip
    return markdown_table(HEADER, rows)


def _run(way: Way, tree: str, source: Path, store: Path, out: Path) -> tuple[float, float, int]:
    """Return the seconds and processor seconds that a command takes, and how many tokens it says came out."""
    paths = (str(Path(tree).resolve()), str(_BENCHMARKS.resolve()))
    # How fast a stand-in was is nothing that later forecasts on this machine should go by.
    state = {"LLMPAR_STATE": str(out.parent / "state")}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)} | state | way.environment
    options = [str(store) if option == "STORE" else option for option in way.options]
    command = [sys.executable, "-m", way.program, "run", "Answer: {text}", "--unit", "line", *options]
    command += ["--progress", "none", "-o", str(out), str(source)]
    before, started = _children(), time.perf_counter()
    # Elsewhere: with -m, Python looks for modules in the current directory first, which may be a tree itself.
    done = subprocess.run(command, env=environment, cwd=out.parent, stderr=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode not in (0, 3):  # 3: some lines have no good answer
        sys.exit(f"{' '.join(command)}: {done.returncode}: {done.stderr}")
    said = _TOKENS.search(done.stderr)
    return seconds, _children() - before, int(said[1].replace(",", "")) if said else 0


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
