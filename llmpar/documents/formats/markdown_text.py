"""How an answer is written into a paragraph, a heading or a cell of Markdown, so that it parses as its source does.

What is written is parsed before it stands anywhere: an answer whose markup would be another is refused.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from markdown_it.common.utils import MD_TRIM_CHARS
from markdown_it.token import Token

from llmpar.documents.document import Layout, Segment
from llmpar.documents.formats.markdown_leaves import Kind, Leaf
from llmpar.documents.formats.markdown_parser import Env, Sign, parser_for, signs_of
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.layout import NEWLINE, fill
from llmpar.documents.marks import Place, find_lost_mark, split_at_marks

_BETWEEN_LINES = re.compile(r"(?:\r\n|\n|\r)[ \t>]*")
_BLANK, _BREAK = "\ufdd0", "\ufdd1"  # noncharacters: what must not be wrapped in markup, and markup of several lines
_SIGNS = re.compile(
    r"""
      \\(?=[!-/:-@\[-`{-~]|\Z)
    | `
    | (?<!\s)\*(?!\Z) | \*(?!\s) | \A\*
    | (?<![^\W_])_ | _(?![^\W_])
    | [\[\]]
    | <(?=[A-Za-z/!?]|\Z)
    | &(?=\#?\w{1,32};)
    | ~(?=~) | (?<=~)~ | ~\Z | \A~
    | \$(?!\d)
    | !\Z
    | (?<!\w):(?=[a-z][a-z0-9_+-]*:(?!\w))
    """,
    re.VERBOSE,
)
_ALL_SIGNS = re.compile(r"[!-/:-@\[-`{-~]")
_WAYS = ((_SIGNS, ""), (_ALL_SIGNS, ""), (_SIGNS, "entity"), (_ALL_SIGNS, "entity"), (_ALL_SIGNS, "blank"))
"""How an answer is written until it parses as its source: with few signs escaped, with all, and with what stands
outside of a pair and touches it as an entity, which is a sign and no letter for the parser, or with a blank between."""
_BRACE = re.compile(r"\{(?=[{%#:.]|\Z)")
_CONTAINERS = re.compile(r"(?:[\s>]|[-+*]\s|\d{1,9}[.)]\s)*")
_OPENING = re.compile(  # how a line begins that is no line of a paragraph
    r"(?:\#{1,6}(?=\s|\Z)|[-+*](?=\s|\Z)|>|[=-]+(?=\s*\Z)|~~~|:::|[|:-][-:|\ ]*\Z|\d{1,9}(?P<dot>[.)])(?=\s|\Z))"
)
_MODULE = re.compile(r"(?:im|ex)port\b")


@dataclass(frozen=True, slots=True)
class MarkdownText(TextFormat):
    """Writes answers to one piece.

    Args:
        reading: how the document is read.
        kind: what the piece stands in.
        before: what stands before it there and can make a difference, without the prefixes of containers.
        source: the piece, as it is written, the same.
        after: what stands behind it.
        env: what the parser knows of the document.
        is_mdx: whether that is MDX.
    """

    kind: Kind = "paragraph"
    before: str = ""
    source: str = ""
    after: str = ""
    env: Env = field(default_factory=dict, compare=False)
    is_mdx: bool = False

    def write(self, segment: Segment, answer: str, column: int) -> str:
        """Return an answer with its markup, and with what would be markup escaped; the source if it cannot be so."""
        written = self._written(segment, answer, column)
        return segment.source if written is None else written

    def objection(self, segment: Segment, answer: str) -> str | None:
        """Return why an answer cannot be written: its marks are not the source's, or it would parse otherwise."""
        if answer == segment.text:
            return None
        if fault := find_lost_mark(segment.text, answer, segment.marks):
            return fault
        return "would be other markup than its source is" if self._written(segment, answer, 0) is None else None

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return a mark and the source, or nothing; the source, where that would be other markup."""
        said = self._escaped(f"[llmpar: {reason}]", _ALL_SIGNS) + " " if fate == "mark" else ""
        if fate == "skip" and not f"{self.before[-1:]}{self.after[:1]}".strip():
            return ""
        return said + segment.source if fate == "mark" and self._is_alike(said + self.source) else segment.source

    def _written(self, segment: Segment, answer: str, column: int) -> str | None:
        if find_lost_mark(segment.text, answer, segment.marks) or not answer.strip():
            return None
        parts = _spaced(list(split_at_marks(_flat(answer, segment), segment.marks)))
        layout = segment.layout
        for signs, edge in _WAYS:
            lines = self._lines(parts, signs, edge, layout, column)
            if self.kind == "cell" and _begins_line(segment):  # of a table whose rows have no pipe before them
                lines[0] = self._as_text(lines[0])
            if self._is_alike("\n".join(_BETWEEN_LINES.sub("\n", line) for line in lines)):
                return (layout.newline + layout.indent).join(lines)
        return None

    def _lines(
        self, parts: list[str | Place], signs: re.Pattern[str], edge: str, layout: Layout, column: int
    ) -> list[str]:
        """Return the lines of an answer, without what opens them."""
        texts: list[str] = []
        kept: list[str] = []
        for index, part in enumerate(parts):
            if isinstance(part, Place):
                kept.extend([part.markup] if NEWLINE.search(part.markup) else [])
                texts.append(_BREAK if NEWLINE.search(part.markup) else part.markup.replace(" ", _BLANK))
                continue
            text = part
            first = last = ""
            if edge and index and _closes_pair(parts[index - 1]) and not text[0].isspace():
                first, text = (f"&#{ord(text[0])};", text[1:]) if edge == "entity" else (" ", text)
            if edge and text and index + 1 < len(parts) and _opens_pair(parts[index + 1]) and not text[-1].isspace():
                last, text = (f"&#{ord(text[-1])};", text[:-1]) if edge == "entity" else (" ", text)
            texts.append(first + self._escaped(text, signs) + last)
        newline = " " if layout.newline == " " else "\n"
        lines = fill("".join(texts), replace(layout, newline=newline), column).split("\n")
        lines[1:] = [line.removeprefix(layout.indent) for line in lines[1:]]
        rest = iter(kept)
        begins = not self.before or self.before.endswith("\n")
        if begins and not lines[0]:  # a first word that is too long for the line
            del lines[0]
        lines = [self._opened(line) if index or begins else line for index, line in enumerate(lines)]
        return [re.sub(_BREAK, lambda _: next(rest), line).replace(_BLANK, " ") for line in lines]

    def _escaped(self, text: str, signs: re.Pattern[str]) -> str:
        """Return a text with what would be markup escaped: the signs that a pattern finds, and those of its place."""
        text = signs.sub(lambda match: "&amp;" if match[0] == "&" else f"\\{match[0]}", text)
        text = re.sub(r"(?<!\\)[{}<]", r"\\\g<0>", text) if self.is_mdx else _BRACE.sub("&#123;", text)
        if self.kind == "underlined":  # a pipe above a line of dashes is a table's, even behind a backslash
            return re.sub(r"\\?\|", "&#124;", text)
        return re.sub(r"(?<!\\)\|", r"\\|", text) if self.kind == "cell" else text

    def _opened(self, line: str) -> str:
        """Return a line that is one of a paragraph, whatever it begins with."""
        return line if self.kind in ("heading", "cell") else self._as_text(line)

    def _as_text(self, line: str) -> str:
        """Return a line that opens nothing."""
        match = _OPENING.match(line)
        if match is None:
            return f"&#{ord(line[0])};{line[1:]}" if _MODULE.match(line) else line
        at = match.start("dot") if match["dot"] else 0
        return f"{line[:at]}\\{line[at:]}"

    def _is_alike(self, text: str) -> bool:
        """Tell whether a text in the piece's place is one block as its source is, with the same markup."""
        known = _Known(self.env)
        blocks, markup = _parsed(self.kind, self.before, text, self.after, self.is_mdx, known)
        is_heading, is_cell = self.kind == "heading", self.kind == "cell"
        wanted = "" if is_cell else "heading_open inline heading_close" if is_heading else _PARAGRAPH
        return blocks == wanted and markup == _markup(
            (self.before + self.source + self.after).strip(MD_TRIM_CHARS), self.is_mdx, known
        )


def _begins_line(segment: Segment) -> bool:
    """Tell whether nothing but what opens containers stands before a piece in its line."""
    text = segment.block.text
    first = max(text.rfind("\n", 0, segment.start), text.rfind("\r", 0, segment.start)) + 1
    return _CONTAINERS.fullmatch(text, first, segment.start) is not None


def _closes_pair(part: str | Place) -> bool:
    return isinstance(part, Place) and part.is_closing


def _opens_pair(part: str | Place) -> bool:
    return isinstance(part, Place) and part.mark.closing is not None and not part.is_closing


def _flat(answer: str, segment: Segment) -> str:
    """Return an answer without blank lines, and on one line if its source is, and without what stands for others."""
    joint = "\n" if "\n" in segment.text else " "
    lines = [line.strip() for line in NEWLINE.split(answer.replace(_BLANK, "").replace(_BREAK, ""))]
    return joint.join(line for line in lines if line)


def _spaced(parts: list[str | Place]) -> list[str | Place]:
    """Return parts in which no blank stands just inside of a pair: there it would keep the pair from being one."""
    for index, part in enumerate(parts):
        if not isinstance(part, Place) or part.mark.closing is None:
            continue
        if part.is_closing and index and isinstance(inner := parts[index - 1], str) and inner[-1:].isspace():
            parts[index - 1] = inner.rstrip()
            _give(parts, index + 1, at_start=True)
        elif not part.is_closing and index + 1 < len(parts):
            inner_part = parts[index + 1]
            if isinstance(inner_part, str) and inner_part[:1].isspace():
                parts[index + 1] = inner_part.lstrip()
                _give(parts, index - 1, at_start=False)
    return [part for part in parts if part != ""]


def _give(parts: list[str | Place], index: int, *, at_start: bool) -> None:
    """Put a blank at the end of a text that stands next to a mark, if there is a text without one."""
    if 0 <= index < len(parts) and isinstance(text := parts[index], str):
        if at_start and not text[:1].isspace():
            parts[index] = f" {text}"
        elif not at_start and not text[-1:].isspace():
            parts[index] = f"{text} "


@dataclass(frozen=True, slots=True)
class _Known:
    """What a parser knows of a document, as an argument of a function that remembers its results."""

    env: Env

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and self.env is other.env

    def __hash__(self) -> int:
        return id(self.env)


_PARAGRAPH = "paragraph_open inline paragraph_close"


def _parsed(kind: Kind, before: str, text: str, after: str, is_mdx: bool, known: _Known) -> tuple[str, object]:
    """Return the blocks that a text makes with what stands around it, "" for a cell, and the markup in the first."""
    content = before + text + after
    if kind == "cell":
        is_broken = "\n" in content or re.search(r"(?<!\\)\|", content)
        return "|" if is_broken else "", _markup(content, is_mdx, known)
    tokens: list[Token] = []
    env: Env = {"references": dict(known.env.get("references", {}))} if "]:" in content else known.env
    parser = parser_for(is_mdx=is_mdx)
    parser.block.parse(f"# {content}" if kind == "heading" else content, parser, env, tokens)
    inside = next((token.content for token in tokens if token.type == "inline"), "")
    return " ".join(token.type for token in tokens), _markup(inside, is_mdx, known)


@lru_cache(maxsize=1024)
def _markup(content: str, is_mdx: bool, known: _Known) -> object:
    """Return the markup in a content, without texts and in no order."""
    return _tree(content, signs_of(content, parser_for(is_mdx=is_mdx), known.env))


def _tree(content: str, signs: list[Sign]) -> object:
    stack: list[list[object]] = [[]]
    opened: list[str] = []
    for sign in sorted(signs, key=lambda sign: sign.start):
        source = " ".join(content[sign.start : sign.end].split())
        if sign.kind == "open":
            stack.append([])
            opened.append(source)
        elif sign.kind == "close":
            inside = stack.pop()
            stack[-1].append((opened.pop(), source, tuple(sorted(inside, key=repr))))
        elif sign.kind in ("atom", "word", "hard"):
            stack[-1].append(source)
    return tuple(sorted(stack[0], key=repr))


_SEEN = 20  # characters of a text that are looked at beside a piece


class Surroundings:
    """What stands around the pieces of a leaf, as far as it can make a difference to their markup.

    Args:
        leaf: the leaf.
    """

    def __init__(self, leaf: Leaf) -> None:
        self._leaf = leaf
        self._starts = [bit.start for bit in leaf.bits]
        self._depths = [0]  # before each bit
        for bit in leaf.bits:
            self._depths.append(self._depths[-1] + {"open": 1, "close": -1}.get(bit.kind, 0))

    def of(self, start: int, end: int) -> tuple[str, str, str]:
        """Return what stands before a piece, the piece, and what stands behind, in the content of the leaf.

        Args:
            start: the piece's, in characters from the document's start.
            end: the same.
        """
        bits, content, at = self._leaf.bits, self._leaf.content, self._leaf.places.at
        first, last = bisect_right(self._starts, start) - 1, bisect_right(self._starts, end - 1) - 1
        begin, stop = at(start), at(end - 1) + 1
        before, after = at(bits[first].start), at(bits[last].end - 1) + 1
        if not self._depths[first] and start > bits[first].start:
            before = max(before, begin - _SEEN)
        else:
            while first and (self._depths[first] or bits[first - 1].kind in _MARKUP):
                first -= 1
            before = at(bits[first].start)
            if first:
                before = max(at(bits[first - 1].start), before - _SEEN)
        if not self._depths[last + 1] and end < bits[last].end:
            after = min(after, stop + _SEEN)
        else:
            while last + 1 < len(bits) and (self._depths[last + 1] or bits[last + 1].kind in _MARKUP):
                last += 1
            after = at(bits[last].end - 1) + 1
            if last + 1 < len(bits):
                after = min(at(bits[last + 1].end - 1) + 1, after + _SEEN)
        head = content[before:begin]
        tail = content[stop:after].rstrip("\\")
        # What is cut is no beginning of a line, and no end of the block.
        found = (f"x {head}" if before else head), content[begin:stop], (f"{tail}x" if tail.endswith("\n") else tail)
        if self._leaf.kind != "cell":
            return found
        first_part, second, third = (part.replace("|", "\\|") for part in found)
        return first_part, second, third


_MARKUP = ("open", "close", "atom", "word")
