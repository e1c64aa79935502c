"""What the prefix tree is worth: `ask` with four questions over many passages, `batch` with five system prompts.

    python tests/benchmarks/tree.py [--passages 100] [--requests 1000] [--rounds 3] [--tree before=DIR] [--only batch]

Each is the whole command in a process of its own on this machine's processor, without a store; `ask --quote` is `ask`
without the last step, which makes one answer of those to all passages. The ways alternate:

- on, off: this checkout, and the same with the tree turned off, so that only what all prompts begin with is shared.
- before=DIR and the like: other checkouts, as they are.
- passage first (not for `batch`): on, with a prompt that has the passage before the question, and all questions about
  one passage together. Its answers are others, and how good they are is told in PROMPTS.md.

"asked" are prompts, those included that are asked again after a bad answer; "tokens" all that they have, "read" those
that were computed. No other work on the machine changes these. "same" says whether answers are those of the first way,
to the byte. Passages are paragraphs of sample_data's story, system prompts are stretches of its handbook.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median

from harness.machine import describe_machine
from harness.table import markdown_table
from messages import support_messages
from novel import blocks

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_QUESTIONS = (
    "Who speaks in this passage?",
    "Where does this passage take place?",
    "What do the people in this passage want?",
    "What is said about houses or water in this passage?",
)
_NUM_SYSTEMS, _SYSTEM_WORDS = 5, 150
_NEW_TOKENS = 8  # of each answer to a request
_PASSAGE_FIRST = 'description = "Passage first."\nunit = "paragraph"\nchunk = 120\n'  # the rest is one of the wordings
_WRITTEN = re.compile(r"([\d,]+) out, ")


@dataclass(frozen=True)
class _Way:
    name: str
    tree: Path
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Run:
    seconds: float
    busy: float  # of all processors
    num_asked: int
    num_tokens: int  # of all prompts
    num_read: int
    num_written: int
    answers: str  # a hash


def main() -> None:
    """Measure, and print a table for each job."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--passages", type=int, default=100)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tree", action="append", default=[], metavar="NAME=DIR", help="another checkout")
    parser.add_argument("--only", type=lambda text: text.split(","), default=["ask", "quote", "batch"], help="jobs")
    given = parser.parse_args()
    print(f"{describe_machine()}, load {os.getloadavg()[0]:.1f}", flush=True)
    ways = [_Way("on", _ROOT), _Way("off", _ROOT, {"READING_TREE": "off"})]
    ways += [_Way(name, Path(path).resolve()) for name, _, path in (tree.partition("=") for tree in given.tree)]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        options = ["--model", given.model, "--device", "cpu", "--no-store", "--progress", "none"]
        requests = list(_requests(given.requests))
        file = directory / "requests.jsonl"
        file.write_text(requests[0], encoding="utf-8")
        for way in ways:  # kernels are compiled, and the model is packed
            _run(way, ["batch", str(file), *options], directory)
        story = directory / "story.txt"
        story.write_text("\n\n".join(_passages(given.passages)), encoding="utf-8")
        parts = [option for question in _QUESTIONS for option in ("--part", question)]
        ask = ["ask", " ".join(_QUESTIONS), *parts, "--top", "all", "--format", "jsonl", str(story), *options]
        told = f"{len(_QUESTIONS)} questions over {given.passages} passages"
        passage_first = _passage_first(directory)
        if "ask" in given.only:
            _report(f"`ask`, {told}", [*ways, passage_first], ask, directory, given.rounds)
        if "quote" in given.only:
            _report(f"`ask --quote`, {told}", [*ways, passage_first], [*ask, "--quote"], directory, given.rounds)
        if "batch" in given.only:
            file.write_text("".join(requests), encoding="utf-8")
            told = f"{given.requests:,} requests with {_NUM_SYSTEMS} system prompts"
            _report(f"`batch`, {told}", ways, ["batch", str(file), *options], directory, given.rounds)


def _passage_first(directory: Path) -> _Way:
    config = directory / "passage-first"
    (config / "tasks").mkdir(parents=True)
    wording = (_HERE / "prompts" / "ask" / "passage-first.toml").read_text(encoding="utf-8")
    (config / "tasks" / "ask.toml").write_text(_PASSAGE_FIRST + wording, encoding="utf-8")
    return _Way("passage first", _ROOT, {"READING_ORDER": "passages", "LLMPAR_CONFIG": str(config)})


def _passages(count: int) -> Iterator[str]:
    """Yield paragraphs that are long enough to be a passage each."""
    return islice((block for block in blocks(1_000_000) if len(block.split()) > 100), count)


def _requests(count: int) -> Iterator[str]:
    words = (_ROOT / "sample_data" / "handbook.md").read_text(encoding="utf-8").split()
    starts = range(0, len(words) - _SYSTEM_WORDS, len(words) // _NUM_SYSTEMS)
    systems = [" ".join(words[start : start + _SYSTEM_WORDS]) for start in starts]
    chance = random.Random(17)
    for number, (message, _) in enumerate(support_messages(count, 0)):
        messages = [{"role": "system", "content": chance.choice(systems)}, {"role": "user", "content": message}]
        body = {"model": "any", "messages": messages, "max_completion_tokens": _NEW_TOKENS, "temperature": 0}
        request = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
        yield f"{json.dumps(request)}\n"


def _report(title: str, ways: list[_Way], command: list[str], directory: Path, rounds: int) -> None:
    found: dict[str, list[_Run]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            run = _run(way, command, directory)
            found[way.name].append(run)
            print(f"{command[0]} ({way.name}): {run.seconds:.1f} s, {run.num_read:,} tokens read", flush=True)
    first = found[ways[0].name]
    rows = []
    for name, runs in found.items():
        pairs = list(zip(runs, first, strict=True))
        rows.append([
            name,
            f"{median(run.seconds for run in runs):.1f}",
            f"{median(run.seconds / other.seconds for run, other in pairs):.2f}",
            f"{median(run.busy for run in runs):.1f}",
            f"{median(run.busy / other.busy for run, other in pairs):.2f}",
            f"{median(run.num_asked for run in runs):,.0f}",
            f"{median(run.num_tokens for run in runs):,.0f}",
            f"{median(run.num_read for run in runs):,.0f}",
            f"{median(run.num_read / other.num_read for run, other in pairs):.2f}",
            f"{median(run.num_written for run in runs):,.0f}",
            "yes" if {run.answers for run in runs} == {first[0].answers} else "no",
        ])  # fmt: skip
    header = ["way", "seconds", "ratio", "processor s", "ratio", "asked", "tokens", "read", "ratio", "written", "same"]
    print(f"\n{title}; ratios to the first way\n\n{markdown_table(header, rows)}\n", flush=True)


def _run(way: _Way, command: list[str], directory: Path) -> _Run:
    read, out = directory / "read", directory / "out"
    read.unlink(missing_ok=True)
    own = {f"LLMPAR_{name.upper()}": str(directory / name) for name in ("config", "state")}  # nothing of the user's
    paths = os.pathsep.join((str(way.tree), str(_HERE)))
    environment = {**os.environ, **own, "PYTHONPATH": paths, "READING_FILE": str(read), **way.environment}
    whole = [sys.executable, "-m", "harness.reading", *command, "-o", str(out)]
    before, started = _children(), time.perf_counter()
    done = subprocess.run(whole, env=environment, cwd=directory, stderr=subprocess.PIPE, text=True, check=False)
    seconds, busy = time.perf_counter() - started, _children() - before
    if done.returncode not in (0, 3):  # 3: some have no good answer
        sys.exit(f"{way.name}: {' '.join(whole)}: {done.returncode}: {done.stderr}")
    counts = [tuple(map(int, line.split())) for line in read.read_text(encoding="ascii").splitlines()]
    written = _WRITTEN.search(done.stderr)
    if written is None:
        sys.exit(f"{way.name}: the run's last line does not tell its tokens: {done.stderr}")
    return _Run(
        seconds,
        busy,
        sum(num_tokens > 0 for num_tokens, _ in counts),
        sum(num_tokens for num_tokens, _ in counts),
        sum(num_read for _, num_read in counts),
        int(written[1].replace(",", "")),
        hashlib.sha256("\n".join(_answers(out)).encode()).hexdigest(),
    )


def _answers(out: Path) -> Iterator[str]:
    """Yield what was answered, without what tells when."""
    for line in out.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        yield json.dumps(record["response"]["body"]["choices"]) if "response" in record else line


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
