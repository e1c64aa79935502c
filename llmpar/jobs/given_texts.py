"""Texts that a program gives, as documents have them: parts with questions, or the blocks of one document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath

from llmpar.answering.flow import Part
from llmpar.documents.document import INLINE, Block, Document, Segment, text_document, text_segment
from llmpar.errors import UsageError
from llmpar.tasks.question import Question
from llmpar.tasks.task import Task


def listed(texts: Iterable[str], what: str = "texts") -> Iterator[str]:
    """Yield texts.

    Args:
        texts: what was given.
        what: its argument's name.

    Raises:
        UsageError: it is one text, whose letters nobody means, or a path; (where it is yielded) one is no text.
    """
    if isinstance(texts, (str, bytes)):
        raise UsageError(f"{what}: is a single {type(texts).__name__}; put it into a list")
    if isinstance(texts, PurePath):
        raise UsageError(
            f"{what}: is a path; read the file first, and make a list of it: llmpar.split(path.read_text())"
        )

    def yield_texts() -> Iterator[str]:
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                remedy = "; read the file first: Path.read_text()" if isinstance(text, PurePath) else ""
                raise UsageError(f"{what}: number {index + 1} is no str, but {type(text).__name__}{remedy}")
            yield text

    return yield_texts()


def parts_of(texts: Iterator[str], task: Task, terms_in: Callable[[str], str] | None = None) -> Iterator[Part]:
    """Yield a part for each text, with a question about all of it.

    Args:
        texts: which.
        task: what is asked.
        terms_in: returns the terms that matter in a text, as the prompt says them; None for none.
    """
    for index, text in enumerate(texts):
        segment = text_segment(text_document(f"text {index + 1}", index), text)
        fields = (("terms", terms_in(text)),) if terms_in else ()
        yield Part(segment.block, [Question(segment, task, fields)])


def blocks_of(document: Document, texts: Iterator[str]) -> Iterator[tuple[Block, list[Segment]]]:
    """Yield texts as the blocks of one document, each with the segment that is all of it, if it says anything."""
    offset = 0
    for index, text in enumerate(texts):
        block = Block(document, offset, f"{text}\n\n", 0, first=not offset, last=False)
        offset += len(block.text)
        yield block, [Segment(block, index, 0, len(text), text, INLINE)] if text.strip() else []
    yield Block(document, offset, "", 0, first=not offset, last=True), []
