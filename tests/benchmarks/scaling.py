"""How llmpar's speed grows with N threads and batch size, and what a segment costs when there are many.

Run it with llmpar's interpreter:

    python tests/benchmarks/scaling.py speed --precision int8 --rounds 3 --markdown speed.md
    python tests/benchmarks/scaling.py growth --markdown growth.md

`speed` does compare.py's job with the real model, each setting in a process of its own. Efficiency is speed against
that of one worker held to one core, divided by the number of workers, or of cores where there are fewer. `growth` puts
100 to 100,000 distinct sentences through `llmpar run --engine echo`, from file to file: everything but the model.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median

from harness.job import Job, make_job, sentences
from harness.machine import describe_machine
from harness.table import markdown_table
from harness.turn import Contender, TurnFailed, take_turn

_PARAGRAPH = 5  # sentences


def main() -> int:
    options = _options()
    machine = describe_machine()
    print(machine, flush=True)
    report = _speed(options) if options.what == "speed" else _growth(options)
    print("\n" + report)
    if options.markdown:
        options.markdown.write_text(f"{machine}\n\n{report}\n", encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    shown = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="what", required=True)
    speed = commands.add_parser("speed", help="against N threads and batch size", formatter_class=shown)
    speed.add_argument("--model", default="smollm2-135m", help="as llmpar's --model")
    speed.add_argument("--precision", default="int8", help="as llmpar's --precision")
    speed.add_argument("--threads", type=_numbers, default=[1, 2, 4], help="values of -j")
    speed.add_argument("--batch-size", type=_numbers, default=[1, 8, 32, 64, 128], help="values of --batch-size")
    speed.add_argument("--sentences", type=int, default=400, help="how many of the story's are asked")
    speed.add_argument("--max-new-tokens", type=int, default=64, help="where an answer is cut")
    speed.add_argument("--rounds", type=int, default=1, help="turns for each setting; medians are shown")
    growth = commands.add_parser("growth", help="of cost with the number of segments", formatter_class=shown)
    growth.add_argument("--segments", type=_numbers, default=[100, 1_000, 10_000, 100_000], help="how many")
    growth.add_argument("--threads", type=int, default=2, help="of the echo engine")
    for command in (speed, growth):
        command.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _speed(options: argparse.Namespace) -> str:
    job = make_job(options.model, options.sentences, options.max_new_tokens)
    print(job, flush=True)
    cores = frozenset(os.sched_getaffinity(0))
    lone_core = frozenset({min(cores)})
    # The first row is what efficiency is measured against.
    settings = [(1, lone_core), *((threads, cores) for threads in options.threads if len(cores) > 1 or threads > 1)]
    rates: dict[tuple[int, int], list[float]] = {}
    for _ in range(options.rounds):
        for row, (threads, held_to) in enumerate(settings):
            for size in options.batch_size:
                setting = {"precision": options.precision, "threads": threads, "batch_size": size}
                rate = _rate(Contender(f"-j {threads} --batch-size {size}", "llmpar", setting, cores=held_to), job)
                rates.setdefault((row, size), []).append(rate)
    rows = []
    for row, (threads, held_to) in enumerate(settings):
        cells = []
        for size in options.batch_size:
            rate, alone = median(rates[row, size]), median(rates[0, size])
            efficiency = rate / alone / min(threads, len(held_to))
            cells.append(f"{rate:.2f}" if row == 0 or threads == 1 else f"{rate:.2f} ({efficiency:.0%})")
        rows.append([f"{threads} on {len(held_to)} core{'s' if len(held_to) > 1 else ''}", *cells])
    header = ["workers", *(f"batch {size}" for size in options.batch_size)]
    return (
        f"{job}; {options.precision}, {options.rounds} round(s)\n\n{markdown_table(header, rows)}\n\n"
        "Sentences/s, and efficiency against one worker on one core with the same batch size."
    )


def _rate(contender: Contender, job: Job) -> float:
    try:
        turn = take_turn(contender, job)
    except TurnFailed as error:
        sys.exit(f"{contender.name}: {error}")
    print(f"{contender.name}: {turn.rate:.2f} sentences/s; {turn.settings}", flush=True)
    return turn.rate


@dataclass(frozen=True)
class _Run:
    num_segments: int
    seconds: float
    peak_memory: int


def _growth(options: argparse.Namespace) -> str:
    known = sentences()[1:]
    start_up = min(_echo(1, known, options.threads).seconds for _ in range(3))
    rows = []
    for wanted in options.segments:
        run = _echo(wanted, known, options.threads)
        each = (run.seconds - start_up) / run.num_segments
        rows.append(
            [f"{run.num_segments:,}", f"{run.seconds:.2f}", f"{1000 * each:.3f}", f"{run.peak_memory / 1e6:,.0f}"]
        )
        print(*rows[-1], flush=True)
    header = ["segments", "seconds", "seconds per 1,000 after start-up", "peak MB"]
    return (
        f"{markdown_table(header, rows)}\n\n`llmpar run --engine echo -j {options.threads}`, file to file; "
        f"a single sentence takes {start_up:.2f} s, which is start-up."
    )


def _echo(num_segments: int, known: list[str], num_threads: int) -> _Run:
    with tempfile.TemporaryDirectory() as directory:
        source, target, log = (Path(directory) / name for name in ("in.txt", "out.txt", "log.txt"))
        source.write_text("".join(_paragraphs(num_segments, known)), encoding="utf-8")
        command = [sys.executable, "-m", "llmpar", "run", "Answer: {text}", "--engine", "echo", "-j", str(num_threads)]
        with log.open("wb") as stderr:
            started = time.perf_counter()
            process = subprocess.Popen(
                [*command, "--unit", "sentence", "--language", "english", "-o", str(target), str(source)], stderr=stderr
            )
            _, status, usage = os.wait4(process.pid, 0)  # of this child, unlike getrusage
            seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said = log.read_text(encoding="utf-8", errors="replace")
        counted = re.search(r"([\d,]+) pieces?", said)
        if process.returncode or not counted:
            sys.exit(f"llmpar ended with {process.returncode}: {said[-1000:]}")
        return _Run(int(counted[1].replace(",", "")), seconds, usage.ru_maxrss * 1024)


def _paragraphs(num_sentences: int, known: list[str]) -> Iterator[str]:
    """Yield so many sentences, no two alike: what is asked twice need not be computed twice."""
    numbered = (f"Entry {number} says {' '.join(text.split())}" for number, text in zip(count(1), cycle(known)))
    for first in range(0, num_sentences, _PARAGRAPH):
        yield " ".join(islice(numbered, min(_PARAGRAPH, num_sentences - first))) + "\n\n"


if __name__ == "__main__":
    sys.exit(main())
