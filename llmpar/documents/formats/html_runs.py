"""A page of HTML → runs of text with the inline tags in them, which end where something else begins than such a tag."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from llmpar.documents.formats.inline import Bit
from llmpar.documents.formats.tags import Token

INLINE_TAGS = frozenset(
    (
        *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "br", "cite", "code", "data", "del", "dfn", "em", "font"),
        *("i", "img", "ins", "kbd", "mark", "math", "q", "s", "samp", "small", "span", "strike", "strong", "sub"),
        *("sup", "svg", "time", "tt", "u", "var", "wbr"),
    )
)
"""Elements that stand in sentences."""
_EMPTY = frozenset(("br", "img", "wbr"))
_SPACE = " \t\r\n\f"
_PART = re.compile(
    r"(?P<template>\{%.{0,2000}?%\}|\{\{.{0,2000}?\}\}|\{#.{0,2000}?#\})"
    r"|(?P<entity>&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);?)"
    r"|(?P<space>[ \t\r\n\f]{2,}|[\t\r\n\f])|(?P<plain>(?:[^&{ \t\r\n\f]| (?![ \t\r\n\f]))+)|.",
    re.DOTALL,
)


@dataclass(slots=True)
class Runs:
    """Gathers the bits of one run after another.

    Args:
        text: the page.
    """

    text: str
    _bits: list[Bit] = field(default_factory=list)
    _opened: list[tuple[str, int]] = field(default_factory=list)  # names of elements, and their pairs; -1 for no pair
    _end: int = 0  # of what was gathered last
    _copied: int = -1  # where an element begins that is copied, -1 outside of any
    _num_pairs: int = 0

    def add_text(self, token: Token) -> None:
        """Take in a text."""
        self._add_gap(token.start)
        self._end = token.end
        for match in _PART.finditer(self.text, token.start, token.end):
            start, end = match.span()
            if match["template"]:
                self._bits.append(Bit("word", start, end))
            elif match["entity"]:
                self._bits.append(Bit("text", start, end, html.unescape(match[0])))
            else:
                self._bits.append(Bit("text", start, end, " " if match["space"] else match[0]))

    def add_tag(self, token: Token, *, was_copied: bool, is_copied: bool, parts: bool) -> Iterator[list[Bit]]:
        """Take in a tag, and yield the run that it ends, if it ends one.

        Args:
            token: the tag.
            was_copied: whether what stands before it is copied as a whole.
            is_copied: whether what stands behind is.
            parts: whether it parts a sentence, though its name does not.
        """
        if token.name not in INLINE_TAGS:
            yield self.end()
            self._opened.clear()
            self._copied = token.start if is_copied else -1
        elif was_copied or is_copied:
            self._add_copied(token, was_copied=was_copied, is_copied=is_copied)
        elif token.kind == "end":
            if self._closes(token) is None:
                yield self.end()
        elif parts:
            yield self.end()
            if token.name not in _EMPTY:
                self._opened.append((token.name, -1))
        else:
            self._add_gap(token.start)
            kind = "hard" if token.name == "br" else "atom" if token.name in _EMPTY else "open"
            if kind == "open":
                self._num_pairs += 1
                self._opened.append((token.name, self._num_pairs))
                self._bits.append(Bit("open", token.start, token.end, pair=self._num_pairs))
            elif kind == "hard":
                self._bits.append(Bit("hard", token.start, token.end, "\n"))
            else:
                self._bits.append(Bit("atom", token.start, token.end))
        self._end = token.end

    def end(self) -> list[Bit]:
        """Return the run that ends here, and begin another."""
        bits, self._bits = self._bits, []
        return bits

    def _add_gap(self, start: int) -> None:
        """Take in what stands before and is no token: a comment."""
        if self._bits and self._end < start:
            self._bits.append(Bit("atom", self._end, start))

    def _add_copied(self, token: Token, *, was_copied: bool, is_copied: bool) -> None:
        if not was_copied:
            self._add_gap(token.start)
            self._copied = token.start
        if not is_copied and self._copied >= 0:
            self._bits.append(Bit("word", self._copied, token.end))
            self._copied = -1

    def _closes(self, token: Token) -> int | None:
        """Take in an end tag, and return its pair, 0 if it has none; None if it ends a run as its start tag did."""
        self._add_gap(token.start)
        for depth in range(len(self._opened) - 1, -1, -1):
            name, pair = self._opened[depth]
            if name == token.name:
                del self._opened[depth:]
                if pair < 0:
                    return None
                self._bits.append(Bit("close", token.start, token.end, pair=pair))
                return pair
        self._bits.append(Bit("atom", token.start, token.end))
        return 0


def nested(bits: list[Bit]) -> list[Bit]:
    """Return bits in which all pairs stand in each other, or beside: others are no pairs."""
    opened: list[int] = []
    kept: set[int] = set()
    for bit in bits:
        if bit.kind == "open":
            opened.append(bit.pair)
        elif bit.kind == "close" and bit.pair in opened:
            del opened[opened.index(bit.pair) + 1 :]
            kept.add(opened.pop())
    return [replace(bit, kind="atom") if bit.pair >= 0 and bit.pair not in kept else bit for bit in bits]
