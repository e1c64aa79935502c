"""Which part of a job's questions a run answers, where several share it: told by their contents, whoever begins first.

A shard makes no document. Its answers are in its store; when all stores have been merged, a run over everything finds
them there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmpar.documents.document import Block, Document, Encoding, Result, Segment
from llmpar.errors import UsageError, setting

if TYPE_CHECKING:
    from llmpar.answering.flow import Part
    from llmpar.tasks.question import Question


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` parts of a job's questions. Number 0 is the same as number `count`: some count from 0.

    Raises:
        UsageError: there is no such part.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.number <= self.count:
            raise UsageError(
                f"{setting('shard', f'{self.number}/{self.count}')}: there is no such part; take 1/8 to 8/8"
            )

    def has(self, question: Question) -> bool:
        """Tell whether a question is in this part. Equal ones are in one, so that none is asked twice."""
        digest = hashlib.sha256(question.material.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number % self.count

    def of(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Yield parts of documents with those of their questions that are in this part of the job."""
        for part in parts:
            yield replace(part, questions=[question for question in part.questions if self.has(question)])


@dataclass(frozen=True, slots=True)
class NoMerger:
    """Makes nothing of results, which are in the store."""

    def encoding(self, document: Document) -> Encoding:  # noqa: ARG002
        """Return UTF-8."""
        return Encoding()

    def merge(self, block: Block, segments: Iterable[Segment], results: Iterator[Result]) -> Iterator[str]:  # noqa: ARG002
        """Wait for a block's results, and yield nothing."""
        for _ in results:
            pass
        yield from ()

    def close(self) -> Iterator[str]:
        """Yield nothing."""
        return iter(())
