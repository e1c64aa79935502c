"""A run of text with markup in it → pieces of prose. What a sentence's edges are enclosed in stays outside of it.

Knows no syntax: a format says which characters are text, which are markup, and which pairs there are.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from llmpar.documents.document import Layout, Unit
from llmpar.documents.formats.protocol import Piece, Reading
from llmpar.documents.language import detect
from llmpar.documents.layout import NEWLINE
from llmpar.documents.marks import Mark, first_number
from llmpar.documents.placeholders import placeholder_spans
from llmpar.documents.sentences import find_language, sentence_spans

_TAG = re.compile(r"<(?P<end>/?)(?P<name>[A-Za-z][A-Za-z0-9-]{0,30})(?:\s[^<>]*?)?(?P<alone>/?)>")
_EMPTY = ("br", "hr", "img", "wbr")
_WORD = "Code"  # what sentences are looked for with, where a word stands that is copied


@dataclass(frozen=True, slots=True)
class Bit:
    """The characters `start` to `end` of a block: text, or markup.

    Args:
        kind: what is read (`text`), what opens or closes a pair, what is copied and no sentence misses (`atom`), or is
            a part of its sentence (`word`), a line's end that wrapping made (`soft`), one that the author set
            (`set`), and one that the markup says (`hard`).
        start: in characters from the block's start.
        end: the same.
        shown: what a reader sees, which of `text` may be another than what is written; "" for markup.
        pair: equal for what opens and what closes it.
        is_one: whether what is in the pair stays together, as a link's text does, and a picture's.
    """

    kind: Literal["text", "open", "close", "atom", "word", "soft", "set", "hard"]
    start: int
    end: int
    shown: str = ""
    pair: int = -1
    is_one: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether what is read is what is written, character by character."""
        return self.kind == "text" and len(self.shown) == self.end - self.start

    def cut(self, first: int, last: int) -> Bit:
        """Return the part of a text from character to character of what is shown."""
        if (first, last) == (0, len(self.shown)):
            return self
        if not self.is_plain:
            return replace(self, shown=self.shown[first:last])
        return Bit("text", self.start + first, self.start + last, self.shown[first:last])


class Languages:
    """Finds the sentences of one document's texts; what is too short to tell its language has the last one's.

    Args:
        given: the language, or "auto" to follow the text.

    Raises:
        UsageError: the language is unknown.
    """

    def __init__(self, given: str) -> None:
        named = find_language(given)
        self._follows = named == "auto"
        self._language = "english" if self._follows else named

    def spans(self, text: str, told: str) -> Iterator[tuple[int, int]]:
        """Yield start and end of each sentence of `text`, whose language is that of `told`."""
        if self._follows:
            self._language = detect(told, self._language)
        return sentence_spans(text, self._language)


@dataclass(slots=True)
class Run:
    """Bits as one text: what sentences are looked for in, and where in it each bit begins."""

    bits: list[Bit]
    text: str = ""
    starts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts: list[str] = []
        length = 0
        for bit in self.bits:
            self.starts.append(length)
            parts.append(_WORD if bit.kind == "word" else bit.shown)
            length += len(parts[-1])
        self.text = "".join(parts)
        self.starts.append(length)

    def edge(self, place: int) -> int:
        """Return the first place from this one on that is not inside of what is written otherwise, as a reference is.

        What is too long for one piece is cut anywhere.
        """
        index = bisect_right(self.starts, place) - 1
        if index < len(self.bits) and self.bits[index].kind == "text" and not self.bits[index].is_plain:
            return place if place == self.starts[index] else self.starts[index + 1]
        return place


def pieces_of(
    bits: Sequence[Bit], block: str, reading: Reading, languages: Languages, layout: Layout
) -> Iterator[Piece]:
    """Yield the pieces of a run of text: a paragraph, a heading, a cell.

    Args:
        bits: all of it, in order.
        block: the text that it stands in.
        reading: says what a piece is.
        languages: finds sentences.
        layout: how it stands on the page.
    """
    told = "".join(bit.shown for bit in bits)
    if reading.marks != "none":
        bits = list(with_placeholders(bits))
    for part in _between_breaks(bits, reading.unit):
        run = Run(part)
        if reading.unit == "sentence":
            spans = _joined(run, list(languages.spans(run.text, told)))
        else:
            spans = [(0, len(run.text))]
        for start, end in spans:
            inside = _inside(run, run.edge(start), run.edge(end))
            if any(char.isalpha() for bit in inside if bit.kind == "text" for char in bit.shown):
                said, marks = marked(inside, block) if reading.marks != "none" else (as_written(inside, block), ())
                yield Piece(inside[0].start, inside[-1].end, said, layout, marks=marks)


def with_placeholders(bits: Iterable[Bit]) -> Iterator[Bit]:
    """Yield bits, of which addresses and placeholders in texts are words that are copied."""
    for bit in bits:
        at = 0
        for start, end in placeholder_spans(bit.shown) if bit.is_plain else ():
            if at < start:
                yield bit.cut(at, start)
            yield Bit("word", bit.start + start, bit.start + end)
            at = end
        if at < len(bit.shown) or not bit.shown:
            yield bit.cut(at, len(bit.shown)) if at else bit


def marked(bits: Sequence[Bit], block: str) -> tuple[str, tuple[Mark, ...]]:
    """Return what a reader sees of bits, with marks for markup, and what the marks stand for.

    What opens and closes in these bits is a pair; all other markup stands for itself.
    """
    closings = {bit.pair: bit for bit in bits if bit.kind == "close"}
    number = first_number("".join(bit.shown for bit in bits))
    parts: list[str] = []
    marks: dict[int, Mark] = {}  # those of pairs by pair, others by what no pair is
    for index, bit in enumerate(bits):
        if bit.kind in ("text", "soft", "set"):
            parts.append(bit.shown)
            continue
        source = block[bit.start : bit.end]
        if bit.kind == "close" and bit.pair in marks:
            parts.append(marks[bit.pair].closes)
            continue
        if bit.kind == "open" and bit.pair in closings:
            closing = closings[bit.pair]
            mark = marks[bit.pair] = Mark(number, source, block[closing.start : closing.end])
        else:
            mark = marks[-1 - index] = Mark(number, source)
        parts.append(mark.opens)
        number += 1
    return "".join(parts), tuple(marks.values())


def marked_piece(piece: Piece, reading: Reading) -> Piece:
    """Return a piece of a format without markup of its own: placeholders, addresses and tags in its text are marks."""
    if reading.marks == "none":
        return piece
    said, marks = _marked_text(piece.text)
    return replace(piece, text=said, marks=marks)


def marked_fields(pieces: Iterable[Piece], reading: Reading) -> Iterator[Piece]:
    """Yield pieces that are fields of data, as `marked_piece` makes them if marks are wanted there, too."""
    for piece in pieces:
        yield marked_piece(piece, reading) if reading.marks == "all" and piece.fault is None else piece


def _marked_text(text: str) -> tuple[str, tuple[Mark, ...]]:
    bits: list[Bit] = []
    opened: list[tuple[str, int]] = []
    at = 0
    for tag in [*_TAG.finditer(text), None]:
        end = tag.start() if tag else len(text)
        if at < end:
            bits.append(Bit("text", at, end, text[at:end]))
        if tag is None:
            break
        at = tag.end()
        name = tag["name"].lower()
        if tag["end"] and any(name == other for other, _ in opened):
            while (other := opened.pop())[0] != name:
                bits[other[1]] = replace(bits[other[1]], kind="atom", pair=-1)
            bits.append(Bit("close", *tag.span(), pair=other[1]))
        elif tag["end"] or tag["alone"] or name in _EMPTY:
            bits.append(Bit("atom", *tag.span()))
        else:
            opened.append((name, len(bits)))
            bits.append(Bit("open", *tag.span(), pair=len(bits)))
    return marked(list(with_placeholders(bits)), text)


def as_written(bits: Sequence[Bit], block: str) -> str:
    """Return bits as they stand in their block, lines joined that wrapping broke."""
    parts = []
    for bit in bits:
        source = block[bit.start : bit.end]
        if bit.kind in ("soft", "set", "hard"):
            parts.append(bit.shown)
        elif bit.kind == "text":
            parts.append(source)
        else:  # a code span or an address may go on in the next line
            parts.append(" ".join(line.strip(" \t>") for line in NEWLINE.split(source)) if "\n" in source else source)
    return "".join(parts)


def _between_breaks(bits: Sequence[Bit], unit: Unit) -> Iterator[list[Bit]]:
    """Yield the parts of a run between the line breaks that part it: all for lines, those outside of pairs else."""
    if unit not in ("sentence", "line"):
        yield list(bits)
        return
    part: list[Bit] = []
    depth = 0
    for bit in bits:
        depth += {"open": 1, "close": -1}.get(bit.kind, 0)
        is_end = bit.kind in ("set", "hard") and not depth
        if is_end or (unit == "line" and bit.kind in ("soft", "set", "hard")):
            yield part
            part = []
        else:
            part.append(bit)
    yield part


def _joined(run: Run, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans of sentences, those joined between which a pair would be torn that does not enclose them whole."""
    while len(spans) > 1:
        firsts, lasts = [start for start, _ in spans], [end for _, end in spans]
        joints: set[int] = set()
        openings: dict[int, int] = {}
        for index, bit in enumerate(run.bits):
            at = run.starts[index]
            if bit.kind == "open":
                openings[bit.pair] = at
            elif bit.kind == "close":
                opening = openings.get(bit.pair, at)
                first = bisect_right(lasts, opening)  # the first that ends behind it
                last = bisect_left(firsts, at) - 1  # the last that begins before
                if first < last and (bit.is_one or opening > firsts[first] or at < lasts[last]):
                    joints.update(range(first, last))
                # "See **A. B.** and go on.": what goes on in lower case is the same sentence.
                if last + 1 < len(spans) and lasts[last] == at and run.text[firsts[last + 1]].islower():
                    joints.add(last)
            # Where nothing but markup parts two sentences, it is neither's.
            if not bit.shown and bit.kind != "word":
                touching = bisect_left(lasts, at)
                if touching + 1 < len(spans) and lasts[touching] == at == firsts[touching + 1]:
                    joints.add(touching)
        if not joints:
            break
        kept = [spans[0]]
        for index, span in enumerate(spans[1:]):
            if index in joints:
                kept[-1] = kept[-1][0], span[1]
            else:
                kept.append(span)
        spans = kept
    return spans


def _inside(run: Run, start: int, end: int) -> list[Bit]:
    """Return the bits of a span of a run, without what its edges are enclosed in."""
    first = bisect_left(run.starts, start, 0, len(run.bits))
    while first and run.starts[first] > start:
        first -= 1
    while first and run.starts[first - 1] == start:
        first -= 1
    found: list[Bit] = []
    for index in range(first, len(run.bits)):
        bit, at = run.bits[index], run.starts[index]
        if at > end:
            break
        if bit.kind == "text":
            begin, stop = max(start - at, 0), min(end - at, len(bit.shown))
            if begin < stop:
                found.append(bit.cut(begin, stop))
        elif bit.shown or bit.kind == "word":
            if start <= at < end:
                found.append(bit)
        elif at < end or (at == end and bit.kind != "open"):
            found.append(bit)
    return _trimmed(found)


def _trimmed(bits: list[Bit]) -> list[Bit]:
    """Return bits without the blanks, the atoms and the line breaks at their edges, and pairs that enclose them."""
    first, last = 0, len(bits)
    opened = {bit.pair for bit in bits if bit.kind == "open"}
    closed = {bit.pair for bit in bits if bit.kind == "close"}
    while first < last:
        head, tail = bits[first], bits[last - 1]
        if head.kind in ("atom", "soft", "set", "hard", "close") or (head.kind == "open" and head.pair not in closed):
            first += 1
        elif tail.kind in ("atom", "soft", "set", "hard", "open") or (tail.kind == "close" and tail.pair not in opened):
            last -= 1
        elif head.kind == "open" and tail.kind == "close" and head.pair == tail.pair:
            first, last = first + 1, last - 1
        elif head.kind == "text" and head.shown[0].isspace():
            blank = len(head.shown) - len(head.shown.lstrip())
            bits[first] = head.cut(blank, len(head.shown))
            first += not bits[first].shown
        elif tail.kind == "text" and tail.shown[-1].isspace():
            bits[last - 1] = tail.cut(0, len(tail.shown.rstrip()))
            last -= not bits[last - 1].shown
        else:
            break
    return bits[first:last]
