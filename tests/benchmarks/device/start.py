"""The start's part: the command line from its start to its last answer, timed from outside, cold and again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.job import sentences
from harness.table import markdown_table

HEADER = ["run", "seconds", "first answer s", "answers", "answers/s"]


@dataclass(frozen=True)
class Run:
    """One run of the command; seconds count from its start. `said` is each line of its stderr, and when it came."""

    name: str
    seconds: float
    first_seconds: float
    num_lines: int
    said: list[tuple[float, str]]


def run_start(
    model: str, device: str, count: int, max_new_tokens: int, repeats: int, tell: Callable[[str], None]
) -> list[Run]:
    """Run the command with nothing compiled and the model's files out of the page cache, and again as it left things.

    Raises:
        RuntimeError: it failed.
    """
    known = [" ".join(text.split()) for text in sentences()[1:]]
    lines = [f"Entry {index + 1} says {known[index % len(known)]}" for index in range(count)]
    runs = []
    with tempfile.TemporaryDirectory() as directory:
        environment = {
            **os.environ,
            "TRITON_CACHE_DIR": f"{directory}/triton",
            "LLMPAR_CACHE": f"{directory}/cache",
            "LLMPAR_STATE": f"{directory}/state",
        }
        source = Path(directory) / "in.txt"
        source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        command = [sys.executable, "-m", "llmpar", "run", "Answer: {text}", "--unit", "line", "--model", model]
        command += ["--device", device, "--max-new-tokens", str(max_new_tokens), "--max-repeats", "0"]
        command += ["--check", "none", "--no-store", "-v"]
        for number in range(1 + repeats):
            if number == 0:
                _forget(Path(model))
            run = _run("cold" if number == 0 else "again", command, environment, source)
            tell(f"{run.name}: {run.seconds:.1f} s, the first answer after {run.first_seconds:.1f} s")
            for seconds, line in run.said:
                tell(f"    {seconds:6.2f} s  {line}")
            runs.append(run)
    return runs


def report(runs: list[Run], model: str, count: int, max_new_tokens: int) -> str:
    rows = [
        [run.name, f"{run.seconds:.1f}", f"{run.first_seconds:.1f}", f"{count:,}", f"{count / run.seconds:.1f}"]
        for run in runs
    ]
    return (
        f"{markdown_table(HEADER, rows)}\n\n`llmpar run` on {Path(model).name}: {count:,} lines, at most "
        f"{max_new_tokens} new tokens each, from the process's start to its end. Cold: no compiled kernels, no cache "
        "of llmpar's, the model's files not in memory."
    )


def _run(name: str, command: list[str], environment: dict[str, str], source: Path) -> Run:
    said: list[tuple[float, str]] = []
    started = time.monotonic()
    with source.open("rb") as stdin:
        process = subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
    assert process.stdout
    assert process.stderr
    stderr = process.stderr

    def listen() -> None:
        said.extend((time.monotonic() - started, line.decode("utf-8", "replace").rstrip()) for line in stderr)

    listener = threading.Thread(target=listen)
    listener.start()
    first = process.stdout.read(1)
    first_seconds = time.monotonic() - started
    out = first + process.stdout.read()
    code = process.wait()
    seconds = time.monotonic() - started
    listener.join()
    if code:
        raise RuntimeError(f"llmpar ended with {code}: " + " / ".join(line for _, line in said[-5:]))
    return Run(name, seconds, first_seconds, out.count(b"\n"), said)


def _forget(model: Path) -> None:
    """Let the system drop what it holds in memory of the model's files."""
    os.sync()
    for file in model.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
