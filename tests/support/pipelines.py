"""A pipeline over fake runners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from llmpar.answering.answers import Answers
from llmpar.answering.attempts import Policy
from llmpar.answering.backend import Backend
from llmpar.answering.flow import Flow, Part
from llmpar.answering.local import Codec, LocalBackend
from llmpar.documents.document import Block, OnError, text_document
from llmpar.documents.formats.plain import Plain
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.merger import DocumentMerger
from llmpar.documents.segments import Splitter
from llmpar.engine.engine import Engine
from llmpar.errors import LlmparError
from llmpar.jobs.pipeline import Pipeline
from llmpar.reporting.report import Report
from llmpar.store.job import NoStore
from llmpar.tasks.question import Question, Sampling
from llmpar.tasks.task import Task
from support.fakes import FakeRunner

DOCUMENT = text_document("test")


DEFAULTS = Sampling(max_repeats=0)


POLICY = Policy(retries=0)


TASK = Task("test", "{text}", growth=0, margin=64)


class Collected:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.data = b""
        self.flushed = b""
        self.ending = ""

    def write(self, data: bytes) -> None:
        self.data += data

    def flush(self) -> None:
        self.flushed = self.data

    def close(self) -> None:
        self.ending = "closed"

    def abandon(self) -> None:
        self.ending = "abandoned"


def parts(text: str, size: int = 200, task: Task = TASK) -> Iterator[Part]:
    splitter = Splitter(Plain(Reading("line")))
    lines = text.splitlines(keepends=True)
    blocks = ["".join(lines[i : i + size]) for i in range(0, len(lines), size)] or [""]
    offset = 0
    for index, block_text in enumerate(blocks):
        block = Block(DOCUMENT, offset, block_text, len(block_text), index == 0, index == len(blocks) - 1)
        yield Part(block, [Question(segment, task) for segment in splitter.split(block)])
        offset += len(block_text)


def backend(runners: list[FakeRunner], context: int = 100_000) -> Callable[[Question], Backend]:
    def decode(ids: object) -> str:
        return bytes(ids).decode().strip()  # type: ignore[call-overload, no-any-return]

    return lambda _: LocalBackend(Engine(runners, context), Codec(lambda prompt: prompt.text.encode(), decode))


def pipeline(
    open_backend: Callable[[Question], Backend],
    report: Report | None = None,
    sampling: Sampling = DEFAULTS,
    policy: Policy = POLICY,
    on_error: OnError = "keep",
    damaged: Callable[[LlmparError], None] = lambda _: None,
    **more: Any,
) -> Pipeline:
    report = report or Report()
    answers = Answers(sampling, policy, lambda task: (task, NoStore()), open_backend, report)
    return Pipeline(Flow(answers, report, on_error, **more), DocumentMerger(on_error), report, damaged)
