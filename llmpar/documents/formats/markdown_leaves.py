"""A document of Markdown → the blocks that hold text, each with its text and markup, by their places in it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from markdown_it import MarkdownIt
from markdown_it.common.utils import MD_TRIM_CHARS
from markdown_it.token import Token

from llmpar.documents.document import INLINE, Layout
from llmpar.documents.formats.inline import Bit
from llmpar.documents.formats.markdown_parser import ROWS, Env, Sign, parser_for, signs_of
from llmpar.documents.formats.units import newline_of
from llmpar.documents.layout import NEWLINE, cells, joint, soft_breaks

_ALERT = re.compile(r"\[![A-Za-z]+\][+-]?(?=[ \t]|\n|\Z)")

Kind = Literal["paragraph", "underlined", "heading", "cell", "html"]
_TASK = re.compile(r"\[[ xX]\](?=[ \t])")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A block that holds text, or one of HTML (`html`): the characters `start` to `end`, container prefixes included.

    Args:
        kind: what it is; a heading is one that begins with #, or one whose lines are `underlined`.
        start: in characters from the document's start.
        end: the same.
        bits: its text and its markup; none of HTML.
        layout: how it stands on the page.
        content: the same without the prefixes of containers, as the parser has it.
        places: where in the document that stands.
    """

    kind: Kind
    start: int
    end: int
    bits: tuple[Bit, ...] = ()
    layout: Layout = INLINE
    content: str = ""
    places: Places = field(default_factory=lambda: Places())


def leaves_of(text: str, start: int, *, is_mdx: bool) -> tuple[Iterator[Leaf], Env]:
    """Return the leaves of a document, in order, and what its parser knows of it.

    Args:
        text: the document.
        start: where its Markdown begins, behind front matter.
        is_mdx: whether it is MDX.
    """
    parser, env = parser_for(is_mdx=is_mdx), Env()
    lines = _Lines(text, start)
    tokens: list[Token] = []
    parser.block.parse(lines.normalized, parser, env, tokens)
    return _leaves(tokens, lines, parser, env), env


@dataclass(slots=True)
class _Lines:
    """The lines of a document from a place on, without their newlines."""

    text: str
    start: int
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    newline: str = "\n"

    def __post_init__(self) -> None:
        at = self.start
        self.newline = newline_of(self.text)
        for newline in NEWLINE.finditer(self.text, self.start):
            self.starts.append(at)
            self.ends.append(newline.start())
            at = newline.end()
        self.starts.append(at)
        self.ends.append(len(self.text))

    @property
    def normalized(self) -> str:
        """The lines as the parser wants them."""
        return NEWLINE.sub("\n", self.text[self.start :]).replace("\0", "\ufffd")

    def of(self, line: int) -> str:
        """Return a line."""
        return self.text[self.starts[line] : self.ends[line]]


@dataclass(slots=True)
class Places:
    """Where the characters of a block's content stand in the document: runs that are the same in both."""

    firsts: list[int] = field(default_factory=list)  # of each run in the content
    places: list[int] = field(default_factory=list)  # of each run in the document

    def add(self, first: int, place: int) -> None:
        """Begin a run."""
        self.firsts.append(first)
        self.places.append(place)

    def of(self, at: int) -> int:
        """Return where a character of the content stands."""
        index = bisect_right(self.firsts, at) - 1
        return self.places[index] + at - self.firsts[index]

    def at(self, place: int) -> int:
        """Return which character of the content stands there."""
        index = max(bisect_right(self.places, place) - 1, 0)
        return self.firsts[index] + place - self.places[index]

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of a span of the content that are the same in the document."""
        index = bisect_right(self.firsts, start)
        while start < end:
            stop = min(self.firsts[index], end) if index < len(self.firsts) else end
            yield start, stop
            start, index = stop, index + 1


def _leaves(tokens: list[Token], lines: _Lines, parser: MarkdownIt, env: Env) -> Iterator[Leaf]:
    row: Iterator[Places] = iter(())
    row_starts: dict[int, int] = {}
    for index, token in enumerate(tokens):
        if token.type == "table_open":
            row_starts = token.meta[ROWS]
        elif token.type == "tr_open" and token.map:
            line = token.map[0]
            row = _cells(lines.of(line), row_starts[line], lines.starts[line])
        elif token.type == "html_block" and token.map:
            start, end = lines.starts[token.map[0]], lines.ends[token.map[1] - 1]
            if NEWLINE.sub("\n", lines.text[start:end]).strip() == token.content.strip():  # no prefix of a container
                yield Leaf("html", start, end)
        elif token.type == "inline" and token.map and token.content:
            opening = tokens[index - 1].type
            signs = signs_of(token.content, parser, env)
            if opening in ("th_open", "td_open"):
                yield _leaf("cell", token.content, next(row), lines, signs)
            elif opening == "heading_open" and tokens[index - 1].markup.startswith("#"):
                places = _of_heading(token, lines, tokens[index - 1].markup)
                yield _leaf("heading", token.content, places, lines, signs)
            else:
                places = _of_paragraph(token, lines)
                kind: Kind = "underlined" if opening == "heading_open" else "paragraph"
                yield _leaf(kind, token.content, places, lines, signs, above=tokens[index - 2].type)


def _of_paragraph(token: Token, lines: _Lines) -> Places:
    assert token.map is not None
    places, at, line = Places(), 0, token.map[0]
    for content in token.content.split("\n"):
        body = content.lstrip(" \t")
        # A line of the content ends as the line of the document does, but for blanks.
        while (place := lines.of(line).replace("\0", "\ufffd").rfind(body)) < 0:
            line += 1  # above the first line there may be some that are blank for the parser alone
        places.add(at, lines.starts[line] + place - (len(content) - len(body)))
        at += len(content) + 1
        line += 1
    return places


def _of_heading(token: Token, lines: _Lines, markup: str) -> Places:
    assert token.map is not None
    line = lines.of(token.map[0]).replace("\0", "\ufffd")
    places = Places()
    places.add(0, lines.starts[token.map[0]] + line.index(token.content, line.index(markup) + len(markup)))
    return places


def _cells(line: str, start: int, place: int) -> Iterator[Places]:
    """Yield the places of a row's cells, in which a backslash before a pipe is no part of the content.

    Args:
        line: the row's.
        start: where in the line the row begins, behind the prefixes of containers.
        place: where the line begins in the document.
    """
    end = len(line.rstrip(MD_TRIM_CHARS))
    row: list[list[int]] = [[]]  # for each cell where its characters stand in the line
    for at in range(start, end):
        if line[at] != "|":
            row[-1].append(at)
        elif at > start and line[at - 1] == "\\":
            row[-1][-1] = at
        else:
            row.append([])
    if not row[0]:
        del row[0]
    if row and not row[-1]:
        del row[-1]
    for cell in row:
        while cell and line[cell[0]] in MD_TRIM_CHARS:
            del cell[0]
        while cell and line[cell[-1]] in MD_TRIM_CHARS:
            del cell[-1]
        places = Places()
        for index, at in enumerate(cell):
            if index == 0 or at != cell[index - 1] + 1:
                places.add(index, place + at)
        if cell:
            yield places


def _leaf(
    kind: Kind,
    content: str,
    places: Places,
    lines: _Lines,
    signs: list[Sign],
    *,
    above: str = "",
) -> Leaf:
    alert = _ALERT.match(content) if above == "blockquote_open" else None
    if begins := alert or (_TASK.match(content) if above == "list_item_open" else None):
        signs = [Sign("atom", 0, begins.end()), *(sign for sign in signs if sign.start >= begins.end())]
    bits = list(_bits(content, signs, places))
    start, end = places.of(0), places.of(len(content) - 1) + 1
    if kind in ("heading", "cell"):
        return Leaf(kind, start, end, tuple(bits), INLINE, content, places)
    contents = [line.strip() or "-" for line in content.split("\n")]
    is_soft = soft_breaks(contents)
    if alert and is_soft:
        is_soft[0] = False
    first = bisect_right(lines.starts, start) - 1
    for index, bit in enumerate(bits):
        if bit.kind == "soft":
            line = bisect_right(lines.starts, bit.start) - 1 - first
            glue = joint(contents[line], contents[line + 1])
            bits[index] = replace(bit, shown=glue) if is_soft[line] else replace(bit, kind="set", shown="\n")
    head = lines.text[lines.starts[first] : start]
    indent = lines.text[lines.starts[first + 1] : places.of(content.index("\n") + 1)] if is_soft else ""
    width = max(cells(lines.of(line)) for line in range(first, first + len(contents))) if any(is_soft) else 0
    layout = Layout(width, indent if is_soft else _below(head), lines.newline)
    return Leaf(kind, start, end, tuple(bits), layout, content, places)


def _below(head: str) -> str:
    """Return what opens the line below one that begins with the prefixes of containers: those of quotes stay."""
    return "".join(char if char in "> \t" else " " for char in head)


def _bits(content: str, signs: list[Sign], places: Places) -> Iterator[Bit]:
    at = 0
    for sign in sorted(signs, key=lambda sign: sign.start):
        if sign.start < at:
            continue  # inside of what is copied
        yield from _texts(content, at, sign.start, places)
        at = sign.end
        start, end = places.of(sign.start), places.of(sign.end - 1) + 1
        if sign.kind == "special":
            yield Bit("text", start, end, sign.shown)
        else:
            yield Bit(sign.kind, start, end, "\n" if sign.kind == "hard" else sign.shown, sign.pair, sign.is_one)
    yield from _texts(content, at, len(content), places)


def _texts(content: str, start: int, end: int, places: Places) -> Iterator[Bit]:
    for first, last in places.runs(start, end):
        begin = first
        # In a cell, behind a backslash; a line of text may begin with one.
        if first in places.firsts[1:] and content[first] == "|" and content[first - 1] != "\n":
            yield Bit("text", places.of(first) - 1, places.of(first) + 1, "|")
            begin += 1
        if begin < last:
            yield Bit("text", places.of(begin), places.of(last - 1) + 1, content[begin:last])
