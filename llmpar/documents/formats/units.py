"""Paragraphs of prose → pieces, by unit. A format that finds paragraphs needs nothing else."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from llmpar.documents.document import INLINE, Block, Layout
from llmpar.documents.formats.protocol import Piece, Reading
from llmpar.documents.language import detect
from llmpar.documents.layout import NEWLINE, joint
from llmpar.documents.sentences import find_language, sentence_spans
from llmpar.frozen import quickly_made


@quickly_made
@dataclass(frozen=True, slots=True)
class ProseLine:
    """One line of a block: it begins at `head`, after a quote prefix at `quoted`; its prose is `start` to `end`."""

    head: int
    quoted: int
    start: int
    end: int


@quickly_made
@dataclass(frozen=True, slots=True)
class Paragraph:
    """Lines that belong together; `soft[i]` tells that wrapping, not the author, broke line i from the next."""

    text: str
    lines: tuple[ProseLine, ...]
    soft: tuple[bool, ...]
    layout: Layout

    def runs(self) -> Iterator[Paragraph]:
        """Yield the paragraph's parts between the line breaks that its author set."""
        first = 0
        for i in range(len(self.lines)):
            if i == len(self.soft) or not self.soft[i]:
                yield Paragraph(self.text, self.lines[first : i + 1], self.soft[first:i], self.layout)
                first = i + 1

    def joined(self) -> tuple[str, list[int]]:
        """Return what a model reads, and for each line the position there of its first character."""
        parts: list[str] = []
        starts: list[int] = []
        length = 0
        for i, line in enumerate(self.lines):
            content = self.text[line.start : line.end]
            if i:
                glue = joint(parts[-1], content) if self.soft[i - 1] else "\n"
                parts.append(glue)
                length += len(glue)
            starts.append(length)
            parts.append(content)
            length += len(content)
        return "".join(parts), starts


def newline_of(text: str) -> str:
    """Return the first newline in `text`, or LF where there is none."""
    match = NEWLINE.search(text)
    return match[0] if match else "\n"


def whole_piece(text: str) -> Iterator[Piece]:
    """Yield a text as one piece, but for the white space around it; nothing, if there is nothing else."""
    content = text.strip()
    if content:
        start = len(text) - len(text.lstrip())
        yield Piece(start, start + len(content), NEWLINE.sub("\n", content), Layout(newline=newline_of(text)))


class Paragraphs(Protocol):
    """Finds the paragraphs of one document, block after block. It may remember what stood in earlier blocks."""

    @property
    def atoms(self) -> re.Pattern[str] | None:
        """What stands inside a line and is no place for a sentence to end: a link, code."""

    def paragraphs(self, text: str, *, apart: bool = False) -> Iterator[Paragraph]:
        """Yield the paragraphs of a block, in order; what lies outside of them is to be copied.

        Args:
            text: the block's.
            apart: take each line for a paragraph of its own.
        """


class UnitPieces:
    """Takes the paragraphs of one document to pieces.

    Args:
        found: finds them.
        reading: says what a piece is, and in which language.

    Raises:
        UsageError: the language is unknown.
    """

    def __init__(self, found: Paragraphs, reading: Reading) -> None:
        language = find_language(reading.language)
        self._found = found
        self._unit = reading.unit
        self._follow = language == "auto"
        self._language = "english" if self._follow else language

    def pieces(self, block: Block) -> Iterator[Piece]:
        """Yield the pieces of the document's next block."""
        text = block.text
        if self._unit == "document":
            yield from whole_piece(text)
            return
        for paragraph in self._found.paragraphs(text, apart=self._unit == "line"):
            if self._unit == "line":
                line = paragraph.lines[0]
                yield Piece(line.start, line.end, text[line.start : line.end], INLINE)
            elif self._unit == "paragraph":
                first, last = paragraph.lines[0], paragraph.lines[-1]
                yield Piece(first.start, last.end, paragraph.joined()[0], paragraph.layout)
            else:
                yield from self._sentences(paragraph)

    def _sentences(self, paragraph: Paragraph) -> Iterator[Piece]:
        if self._follow:
            self._language = detect(paragraph.joined()[0], self._language)
        for run in paragraph.runs():
            joined, starts = run.joined()

            def source(position: int, run: Paragraph = run, starts: list[int] = starts) -> int:
                i = bisect_right(starts, position) - 1
                return run.lines[i].start + position - starts[i]

            for start, end in _around(sentence_spans(joined, self._language), joined, self._found.atoms):
                yield Piece(source(start), source(end - 1) + 1, joined[start:end], run.layout)


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
