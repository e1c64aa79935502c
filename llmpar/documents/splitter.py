"""A block's text → its Segments, by unit. Every segment is a span, so that a merge loses nothing."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

from llmpar.documents.document import INLINE, Block, Document, Layout, Segment, Unit
from llmpar.documents.formats import find_format, format_for
from llmpar.documents.formats.jsonl import JSON_STRING, SHOWN, records, too_long
from llmpar.documents.formats.plain import Paragraph, newline_of
from llmpar.documents.language import detect
from llmpar.documents.layout import NEWLINE
from llmpar.documents.sentences import find_language, sentence_spans


class Splitter:
    """Splits the blocks of one document, in order.

    Args:
        document: the document.
        unit: what a segment is.
        language: the Punkt model for sentences, or "auto" to follow the text.
        format: "plain", "markdown", "jsonl", or "auto" for what the file's name says.
        field: in JSON lines, the field of a record that is its text; None for the first of `jsonl.FIELDS`.

    Raises:
        UsageError: the language is unknown.
    """

    def __init__(
        self,
        document: Document,
        unit: Unit,
        language: str = "auto",
        format: str = "auto",  # noqa: A002
        field: str | None = None,
    ) -> None:
        language = find_language(language)
        self._unit = unit
        self._follow = language == "auto"
        self._language = "english" if self._follow else language
        self._field = field
        self._is_records = find_format(format, document.path) == "jsonl"
        self._format = format_for("plain" if self._is_records else format, document.path)
        self._count = 0

    def split(self, block: Block) -> list[Segment]:
        """Return the segments of the document's next block.

        Raises:
            InputError: a line of JSON lines is no record with a text.
        """
        if block.part:
            return self._refused(block)
        segments = []
        pieces = records(block, self._field) if self._is_records else self._pieces(block.text)
        for start, end, text, layout in pieces:
            segments.append(Segment(block, self._count, start, end, text, layout))
            self._count += 1
        return segments

    def _refused(self, block: Block) -> list[Segment]:
        """Return the segment of a record that nobody can be asked about, as it is too long to be held."""
        if block.part == "rest":
            return []
        self._count += 1
        text = block.text.lstrip()[:SHOWN]
        return [Segment(block, self._count - 1, 0, len(block.text), text, JSON_STRING, too_long(block))]

    def _pieces(self, text: str) -> Iterator[tuple[int, int, str, Layout]]:
        if self._unit == "document":
            content = text.strip()
            if content:
                start = len(text) - len(text.lstrip())
                yield start, start + len(content), NEWLINE.sub("\n", content), Layout(newline=newline_of(text))
            return
        for paragraph in self._format.paragraphs(text, apart=self._unit == "line"):
            if self._unit == "line":
                line = paragraph.lines[0]
                yield line.start, line.end, text[line.start : line.end], INLINE
            elif self._unit == "paragraph":
                yield (paragraph.lines[0].start, paragraph.lines[-1].end, paragraph.joined()[0], paragraph.layout)
            else:
                yield from self._sentences(paragraph)

    def _sentences(self, paragraph: Paragraph) -> Iterator[tuple[int, int, str, Layout]]:
        if self._follow:
            self._language = detect(paragraph.joined()[0], self._language)
        for run in paragraph.runs():
            joined, starts = run.joined()

            def source(position: int, run: Paragraph = run, starts: list[int] = starts) -> int:
                i = bisect_right(starts, position) - 1
                return run.lines[i].start + position - starts[i]

            for start, end in _around(sentence_spans(joined, self._language), joined, self._format.atoms):
                yield source(start), source(end - 1) + 1, joined[start:end], run.layout


def _around(spans: Iterator[tuple[int, int]], text: str, atoms: re.Pattern[str] | None) -> Iterator[tuple[int, int]]:
    """Yield `spans`, those joined between which an atom would be torn."""
    found = atoms.finditer(text) if atoms else iter(())
    atom = next(found, None)
    held: tuple[int, int] | None = None
    for start, end in spans:
        while atom and atom.end() <= start:
            atom = next(found, None)
        if held and atom and atom.start() < start:
            held = held[0], end
            continue
        if held:
            yield held
        held = start, end
    if held:
        yield held
