"""Plain text: paragraphs between blank lines; list markers, headings, quote prefixes and separators are not prose."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import ClassVar

from llmpar.documents.document import INLINE, Block, Layout
from llmpar.documents.formats.protocol import About, Piece
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.formats.units import Paragraph, ProseLine, UnitPieces
from llmpar.documents.layout import CLAUSE_END, NEWLINE, cells, soft_breaks

# A ruler, an underline, a lone marker: nothing that a model could say something about.
_SEPARATOR = re.compile(r"[\s\-=*_~#+.·•|─━═—–]*")
_FENCE = re.compile(r"[ \t>]*(?:(`{3,})[^`]*|(~{3,}).*)")
_QUOTE = re.compile(r"[ \t]*(?:>[ \t]?)+")
_BULLET = re.compile(r"[ \t]*(?:[-*+•‣◦▪]|#{1,6})[ \t]+(?:\[[ xX]\][ \t]+)?")
# These also occur inside prose, so they count only where a list can stand.
_ORDINAL = re.compile(r"[ \t]*\(?(?:(\d{1,3})[.)]|[a-z]\)|[ivx]{1,4}\))[ \t]+")
_LONGEST_ORDINAL = 5  # characters of a letter or a Roman number and its bracket
_DASH = re.compile(r"[ \t]*[–—][ \t\u00a0\u202f]+")


class Plain(TextFormat):
    """Text without markup."""

    about: ClassVar[About] = About(
        "paragraphs, by unit", "list markers, quote prefixes, rulers; code between fences, unless the user says plain"
    )

    def pieces(self) -> Callable[[Block], Iterator[Piece]]:
        """Return what yields the pieces of a document's blocks."""
        found = PlainParagraphs() if self.reading.format == "plain" else UnnamedParagraphs()
        return UnitPieces(found, self.reading).pieces


class PlainParagraphs:
    """Finds the paragraphs of plain text (`units.Paragraphs`)."""

    atoms: re.Pattern[str] | None = None
    """What stands inside a line and is no place for a sentence to end: a link, code."""

    def __init__(self) -> None:
        self._ordinals = {0}
        self._newline = "\n"  # the last one seen; a paragraph that ends without one is set with it

    def paragraphs(self, text: str, *, apart: bool = False) -> Iterator[Paragraph]:
        """Yield the paragraphs of a block, in order; what lies outside of them is to be copied.

        Args:
            text: the block's.
            apart: take each line for a paragraph of its own.
        """
        newline = self._newline
        gathered: list[ProseLine] = []
        for head, end, following in _lines(text):
            self._newline = following or self._newline
            cut_out = self.verbatim(text, head, end)
            if cut_out is not None or _is_separator(text, head, end):
                yield from _close(text, gathered, newline)
                gathered = []
                for cell in cut_out or ():
                    yield Paragraph(text, (cell,), (), INLINE)
                continue
            line = self._line(text, head, end, gathered)
            if apart:
                yield Paragraph(text, (line,), (), INLINE)
                continue
            if gathered and _begins_anew(text, gathered, line):
                yield from _close(text, gathered, newline)
                gathered = []
            # A paragraph's own, and not its block's: where blocks end is a matter of the input's pace.
            newline = newline if gathered else self._newline
            gathered.append(line)
        yield from _close(text, gathered, newline)

    def verbatim(self, text: str, head: int, end: int) -> tuple[ProseLine, ...] | None:  # noqa: ARG002 (formats use them)
        """Tell whether a line is no prose: the parts of it that are, or None if it is an ordinary line."""
        return None

    def _line(self, text: str, head: int, end: int, above: list[ProseLine]) -> ProseLine:
        if _is_prose(text, head, end):
            return ProseLine(head, head, head, head + len(text[head:end].rstrip()))
        quoted = start = _after_quote(text, head, end)
        end = head + len(text[head:end].rstrip())
        if bullet := _BULLET.match(text, start, end):
            start = bullet.end()
        can_begin = not above or _marker(text, above[0]) or text.endswith(CLAUSE_END, above[-1].start, above[-1].end)
        if can_begin and (dash := _DASH.match(text, start, end)):
            start = dash.end()
        if can_begin and (ordinal := _ORDINAL.match(text, start, end)):
            # "3. Oktober" opens a sentence, not a list, unless 2 stood before it.
            number = int(ordinal[1] or 1)
            if number <= 1 or number - 1 in self._ordinals:
                self._ordinals.add(number)
                start = ordinal.end()
        return ProseLine(head, quoted, start + len(text[start:end]) - len(text[start:end].lstrip()), end)


class UnnamedParagraphs(PlainParagraphs):
    """Finds the paragraphs of a text that nobody said is plain: it may have code between fences, which is copied."""

    def __init__(self) -> None:
        super().__init__()
        self._closing = ""

    def verbatim(self, text: str, head: int, end: int) -> tuple[ProseLine, ...] | None:
        """Return nothing for the lines of a fenced block, None for all others."""
        if not self._closing and _is_prose(text, head, end):
            return None
        line = text[head:end]
        if self._closing:
            if closes_fence(line, self._closing):
                self._closing = ""
            return ()
        self._closing = opening_fence(line)
        return () if self._closing else None


def opening_fence(line: str) -> str:
    """Return the signs with which a line opens a block of code, "" if it opens none."""
    fence = _FENCE.fullmatch(line)
    return (fence[1] or fence[2]) if fence else ""


def closes_fence(line: str, opening: str) -> bool:
    """Tell whether a line ends the block of code that these signs opened."""
    line = line.strip(" \t>")
    return line.startswith(opening) and not line.strip(opening[0])


def _lines(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield where each line begins and ends, and its newline, which the last one may not have."""
    start = 0
    for match in NEWLINE.finditer(text):
        yield start, match.start(), match[0]
        start = match.end()
    if start < len(text):
        yield start, len(text), ""


def _is_prose(text: str, head: int, end: int) -> bool:
    """Tell whether a line begins as most do: with a word, before which there is no marker, quote or fence.

    All of these begin otherwise, but for a list's "a)" or "iv)".
    """
    return head < end and text[head].isalpha() and text.find(")", head, head + _LONGEST_ORDINAL) < 0


def _is_separator(text: str, head: int, end: int) -> bool:
    if _is_prose(text, head, end):
        return False
    return _SEPARATOR.fullmatch(text, _after_quote(text, head, end), end) is not None


def _after_quote(text: str, head: int, end: int) -> int:
    quote = _QUOTE.match(text, head, end)
    return quote.end() if quote else head


def _marker(text: str, line: ProseLine) -> str:
    return text[line.quoted : line.start].strip()


def _begins_anew(text: str, gathered: list[ProseLine], line: ProseLine) -> bool:
    above = gathered[-1]
    return (
        bool(_marker(text, line))
        or _marker(text, gathered[0]).startswith("#")
        or text.count(">", line.head, line.quoted) != text.count(">", above.head, above.quoted)
    )


def _close(text: str, lines: list[ProseLine], newline: str) -> Iterator[Paragraph]:
    if not lines:
        return
    contents = [text[line.start : line.end] for line in lines]
    soft = [
        (is_soft or _continues_item(text, lines, i)) and not _hard_break(text, lines, i)
        for i, is_soft in enumerate(soft_breaks(contents))
    ]
    if _marker(text, lines[0]).startswith("#"):
        yield Paragraph(text, tuple(lines), (), INLINE)
        return
    width = max(cells(text[line.head : line.end]) for line in lines) if any(soft) else 0
    yield Paragraph(text, tuple(lines), tuple(soft), Layout(width, _indent(text, lines), newline))


def _hard_break(text: str, lines: list[ProseLine], i: int) -> bool:
    line, below = lines[i], lines[i + 1]
    if text.startswith(("  ", "\\"), line.end) or text[line.start : line.end].endswith("\\"):
        return True  # Markdown's own sign for a break, also common in plain text
    deeper = below.start - below.head > line.start - line.head
    return i > 0 and deeper and not text[below.start].islower()


def _continues_item(text: str, lines: list[ProseLine], i: int) -> bool:
    """Tell whether the line below line i stands under a list item's text, which is in mid-sentence."""
    item, line, below = lines[0], lines[i], lines[i + 1]
    return (
        bool(_marker(text, item))
        and below.start - below.head >= item.start - item.head
        and not text.endswith(CLAUSE_END, line.start, line.end)
    )


def _indent(text: str, lines: list[ProseLine]) -> str:
    if len(lines) > 1:
        return text[lines[1].head : lines[1].start]
    line = lines[0]
    lead = text[line.quoted : line.start]
    return text[line.head : line.quoted] + " " * cells(lead.expandtabs(8))
