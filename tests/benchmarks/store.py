"""What keeping answers costs: `python tests/benchmarks/store.py [--segments 10000] [--rate 1000] [--rounds 5]`.

A runner that answers a given number of segments a second, which is more than a CPU does, stands for the engine; runs
with the store and without alternate. Besides wall-clock time, processor time is given: an engine that keeps all cores
busy loses that much.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from llmpar.answering.answers import Answers
from llmpar.answering.attempts import Policy
from llmpar.answering.flow import Flow, Part
from llmpar.answering.local import Codec, LocalBackend
from llmpar.documents.document import Block, text_document
from llmpar.documents.formats.plain import Plain
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.merger import DocumentMerger
from llmpar.documents.output import SingleOutput
from llmpar.documents.segments import Splitter
from llmpar.engine.echo import EchoRunner
from llmpar.engine.engine import Engine
from llmpar.engine.request import Sequence
from llmpar.jobs.pipeline import Pipeline
from llmpar.reporting.report import Report
from llmpar.store.job import NoStore
from llmpar.store.store import Store
from llmpar.tasks.question import Question, Sampling
from llmpar.tasks.task import Task

_SLOTS = 32
_DOCUMENT = text_document("benchmark")
_TASK = Task("benchmark", "{text}")


class _Paced(EchoRunner):
    """Answers with the prompt, a full batch at a time, at a given rate."""

    def __init__(self, rate: float) -> None:
        super().__init__(_SLOTS)
        self._rate = rate
        self._due = 0.0

    def prefill(self, sequences: list[Sequence]) -> None:
        now = time.perf_counter()
        self._due = max(self._due, now) + len(sequences) / self._rate
        time.sleep(self._due - now)
        super().prefill(sequences)


class _Nowhere:
    """A writer that takes everything."""

    def write(self, data: bytes) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...


def _parts(num_segments: int) -> Iterator[Part]:
    splitter = Splitter(Plain(Reading("line")))
    for start in range(0, num_segments, 500):
        lines = [
            f"{i} A sentence of about a hundred characters, as they are in texts, number {i}.\n"
            for i in range(start, start + 500)
        ]
        block = Block(_DOCUMENT, start, "".join(lines), 0, start == 0, start + 500 >= num_segments)
        yield Part(block, [Question(segment, _TASK) for segment in splitter.split(block)])


def _run(num_segments: int, rate: float, store: Store | None) -> tuple[float, float]:
    """Return wall-clock and processor seconds."""
    report = Report()
    codec = Codec(lambda prompt: prompt.text.encode(), lambda ids: bytes(ids).decode())
    backend = LocalBackend(Engine([_Paced(rate)], 1 << 20), codec)
    answers = Answers(
        Sampling(max_repeats=0),
        Policy(),
        lambda task: (task, store.job({"benchmark": time.time()}) if store else NoStore()),
        lambda _: backend,
        report,
    )
    started, busy = time.perf_counter(), time.process_time()
    Pipeline(Flow(answers, report), DocumentMerger(), report).run(_parts(num_segments), SingleOutput(_Nowhere()))
    return time.perf_counter() - started, time.process_time() - busy


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="where the store lies; default: a temporary one")
    given = parser.parse_args()
    times: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory(dir=given.directory) as place:
        store = Store(Path(place) / "answers.sqlite")
        for _ in range(given.rounds):
            for keeps in (False, True):
                times[keeps].append(_run(given.segments, given.rate, store if keeps else None))
    wall, busy = ({keeps: statistics.median(pair[i] for pair in times[keeps]) for keeps in times} for i in (0, 1))
    for keeps, name in ((False, "without store"), (True, "with store")):
        print(
            f"{name:<14} {wall[keeps]:7.3f} s {given.segments / wall[keeps]:8.1f} segments/s {busy[keeps]:6.3f} s busy"
        )
    print(f"the store costs {wall[True] / wall[False] - 1:.2%} of the time at this rate, and of one processor")
    print(f"{(busy[True] - busy[False]) / given.segments * 1e6:.1f} µs for each segment")


if __name__ == "__main__":
    main()
