"""Results → text: the document as it was with answers in it, or a line or record for each answer.

In a document, what lies between the targets of answers is copied; how an answer is written is the format's to say.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from llmpar.documents.columns import COLUMNS
from llmpar.documents.document import DEFAULT_ON_ERROR, Block, Document, Encoding, OnError, Result, Segment, Writing
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.formula import without_formula
from llmpar.documents.layout import NEWLINE, cells
from llmpar.visible import json_text, one_line, spell_surrogates

_NEWLINES = ("\n", "\r")
_LINE_REST = re.compile(r"\A[^\S\r\n]*(?:\r\n|\n|\r)?")  # what an answer below, which ends its line, has no use for


_NOTHING = ("", "")
_TEXT = TextFormat()  # of what stands in no document


class Merger(Protocol):
    """Makes text of a run's results."""

    def encoding(self, document: Document) -> Encoding:
        """Return how the text that is made of a document becomes bytes."""

    def merge(self, block: Block, segments: Iterable[Segment], results: Iterator[Result]) -> Iterator[str]:
        """Yield what is made of a block, piece by piece as results come.

        Args:
            block: the next block.
            segments: those of the block, in order.
            results: one for each of them, in the same order; all are taken.
        """

    def close(self) -> Iterator[str]:
        """Yield what follows the last block of the last document."""


@dataclass(frozen=True, slots=True)
class DocumentMerger:
    """The document as it was, answers in their segments' places, or below them (`interleaves`)."""

    on_error: OnError = DEFAULT_ON_ERROR
    interleaves: bool = False

    def encoding(self, document: Document) -> Encoding:
        """Return the document's own."""
        return document.encoding

    def merge(self, block: Block, segments: Iterable[Segment], results: Iterator[Result]) -> Iterator[str]:
        """Yield the text of the block."""
        if block.part:
            return self._of_part(block, results)
        return merge(block, segments, results, self.on_error, interleaves=self.interleaves)

    def close(self) -> Iterator[str]:
        """Yield nothing."""
        return iter(())

    def _of_part(self, block: Block, results: Iterator[Result]) -> Iterator[str]:
        """Yield a part of a record that is too long to be held: there is nowhere in it to put a mark."""
        for _ in results:  # each is to be taken
            pass
        if self.on_error != "skip":
            yield block.text


@dataclass(frozen=True, slots=True)
class LinesMerger:
    """A line for each answer; with its source on the line above, and a blank line below, if it `interleaves`."""

    on_error: OnError = DEFAULT_ON_ERROR
    interleaves: bool = False

    def encoding(self, document: Document) -> Encoding:
        """Return UTF-8, with what the document carries through."""
        return Encoding(errors=document.encoding.errors)

    def merge(self, block: Block, segments: Iterable[Segment], results: Iterator[Result]) -> Iterator[str]:  # noqa: ARG002
        """Yield a line for each result."""
        for result in results:
            if result.error is not None and self.on_error == "skip":
                continue
            answer = _flat(result.answer if result.error is None else self._failed(result))
            yield f"{_flat(result.segment.text)}\n{answer}\n\n" if self.interleaves else f"{answer}\n"

    def close(self) -> Iterator[str]:
        """Yield nothing."""
        return iter(())

    def _failed(self, result: Result) -> str:
        text = result.segment.text
        return f"[llmpar: {one_line(result.error)}] {text}" if self.on_error == "mark" else text


@dataclass(slots=True)
class RecordMerger:
    """A record for each answer: a line of JSON, or a row of a table (CSV, RFC 4180 but for newlines; see `formula`).

    Args:
        kind: "jsonl" or "csv".
        on_error: whether a segment that failed has a record, in which there is an error and no answer.
        is_json: whether answers are JSON themselves.
        heads_each: whether each document's table has a head, or only the first one's.
        columns: what stands in a record, in order; some of ALL_COLUMNS.
        has_bom: whether a table begins with a byte order mark.
    """

    kind: str
    on_error: OnError = DEFAULT_ON_ERROR
    is_json: bool = False
    heads_each: bool = False
    columns: tuple[str, ...] = COLUMNS
    has_bom: bool = False
    _has_head: bool = False

    def encoding(self, document: Document) -> Encoding:
        """Return UTF-8, with what the document carries through."""
        begins = self.has_bom and (self.heads_each or not self._has_head)
        return Encoding(bom=codecs.BOM_UTF8 if begins else b"", errors=document.encoding.errors)

    def merge(self, block: Block, segments: Iterable[Segment], results: Iterator[Result]) -> Iterator[str]:  # noqa: ARG002
        """Yield a record for each result."""
        if self.kind == "csv" and (not self._has_head or (self.heads_each and block.first)):
            self._has_head = True
            yield _row(self.columns)
        for result in results:
            if result.error is None or self.on_error != "skip":
                yield self._record(result)

    def close(self) -> Iterator[str]:
        """Yield nothing."""
        return iter(())

    def _record(self, result: Result) -> str:
        segment = result.segment
        start, end = segment.span
        answer = result.answer if result.error is None else None
        place = (segment.block.document.name, segment.index, segment.line, start, end)
        values = (*place, segment.text, answer, result.finish_reason, result.error)
        told: dict[str, object] = dict(zip(COLUMNS, values, strict=True))
        # What nobody knows has no field in a record, and an empty one in a table.
        scores = {name: value for name, value in result.scores.items() if name in ("confidence", "probabilities")}
        told |= {"confidence": None} if self.kind == "csv" else {}
        told |= scores if result.error is None else {}
        record = {name: told[name] for name in self.columns if name in told}
        if self.kind == "csv":
            return _row("" if value is None else value for value in record.values())
        if self.is_json and answer is not None and "answer" in record:
            record["answer"] = json.loads(answer)
        if self.columns == COLUMNS and result.error is None:
            record |= scores
        if result.reasoning:
            record["reasoning"] = result.reasoning
        text = json_text(record)
        if self.columns == COLUMNS and (whole := _format(segment).record(segment)):
            text = f'{text[:-1]}, "record": {spell_surrogates(whole)}}}'
        return text + "\n"


def _row(values: Iterable[object]) -> str:
    row = io.StringIO()
    # What ends a row is quoted in a cell: so a lone carriage return is, too, which ends one for many readers.
    csv.writer(row, lineterminator="\r\n").writerow(map(_cell, values))
    return row.getvalue().removesuffix("\r\n") + "\n"


def _cell(value: object) -> object:
    return without_formula(value) if isinstance(value, str) else value


def _flat(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def merge(
    block: Block,
    segments: Iterable[Segment],
    results: Iterator[Result],
    on_error: OnError = DEFAULT_ON_ERROR,
    *,
    interleaves: bool = False,
) -> Iterator[str]:
    """Yield the text of a block with an answer in each segment's target, piece by piece as results come.

    An answer that says what stands in its place leaves it as it is, line breaks included. What stands before a target
    is given out before its result is asked for.

    Args:
        block: the block.
        segments: those of the block, in order.
        results: one for each of them, in the same order.
        on_error: the target of a segment that failed stays as it is ("keep"), takes the reason and the source
            ("mark"), or says nothing ("skip").
        interleaves: a segment stays, and its answer comes on a line of its own below. The format must allow it.
    """
    cursor = 0
    segments = list(segments)
    wraps = not interleaves and any(segment.layout.width > 0 for segment in segments)
    line = ""  # what the last line holds so far, for wrapping
    for segment in segments:
        start, end = segment.target or (segment.start, segment.end)
        assert cursor <= start <= end, "targets come in order, and none overlaps another"
        gap = block.text[cursor:start]
        if interleaves and cursor:
            gap = _LINE_REST.sub("", gap, count=1)
        line = _last_line(line, gap) if wraps else ""
        cursor = end
        wrapped = segment.layout.width > 0
        space = gap if wrapped and not gap.strip(" ") else ""  # a new line break may stand for it
        yield gap[len(space) :]
        result = next(results)
        if result.error is not None:
            text = _failed(result, on_error)
        elif result.answer == segment.text and segment.target is None:
            text = segment.source
        else:
            column = cells(line) if wrapped and not interleaves else 0
            text = _format(segment).write(segment, result.answer, column)
        if text and segment.around != _NOTHING and not (result.error is not None and segment.fault):
            text = segment.around[0] + text + segment.around[1]
        text = block.document.encoding.spelled(text, _format(segment).spell)
        if interleaves:
            newline = segment.layout.newline if segment.layout.newline in ("\r\n", "\r") else "\n"
            text = f"{segment.source}{newline}{segment.layout.indent}{text}{newline}"
        line = _last_line(line, text) if wraps else ""
        yield text if text.startswith(_NEWLINES) else space + text
    yield _LINE_REST.sub("", block.text[cursor:], count=1) if interleaves and cursor else block.text[cursor:]


def _last_line(line: str, text: str) -> str:
    tail = NEWLINE.split(text[-4096:])
    return tail[-1] if len(tail) > 1 else (line + tail[0])[-4096:]


def _failed(result: Result, on_error: OnError) -> str:
    segment = result.segment
    if on_error == "keep":
        return segment.block.text[slice(*(segment.target or (segment.start, segment.end)))]
    reason = segment.block.document.encoding.spelled(one_line(result.error), lambda char: f"<U+{ord(char):04X}>")
    return _format(segment).write_failure(segment, reason, "skip" if on_error == "skip" else "mark")


def _format(segment: Segment) -> Writing:
    return segment.format or _TEXT
