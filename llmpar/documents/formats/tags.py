"""HTML and XHTML → tags and texts, with the place of each. Follows HTML's tokenizer (https://html.spec.whatwg.org).

The kept libraries tell no places of attributes and texts (html5lib, lxml, selectolax), and html.parser of Python reads
comments and scripts otherwise from version to version. Nothing is expanded or nested here, so that the time that a
page takes is in proportion to its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from llmpar.documents.formats.whole import Damage

_NAME = re.compile(r"</?([a-zA-Z][^\s/>]*)")
_SPACE = re.compile(r"[\s/]*")
_BLANK = re.compile(r"\s*")
_ATTRIBUTE = re.compile(r"=?[^\s/>=]*")
_BARE_VALUE = re.compile(r"[^\s>]*")
COPIED = frozenset(("script", "style", "pre", "code", "kbd", "samp", "var", "textarea", "svg", "math", "xmp", "iframe"))
"""Elements whose texts are no prose."""
_RAW = ("script", "style", "xmp", "iframe", "noembed", "noframes", "title", "textarea")
_ENDS = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in _RAW}
_SCRIPT = re.compile(r"<script[\s/>]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute: its name in lower case, and where its value stands, quotes included."""

    name: str
    start: int
    end: int

    def value(self, text: str) -> str:
        """Return the value as it is written."""
        found = text[self.start : self.end]
        return found[1:-1] if found[:1] in ('"', "'") else found


@dataclass(frozen=True, slots=True)
class Token:
    """A tag or a text: the characters `start` to `end`. A tag's name is in lower case."""

    kind: Literal["start", "end", "text"]
    start: int
    end: int
    name: str = ""
    attributes: tuple[Attribute, ...] = ()
    is_closed: bool = False
    """Whether a start tag ends in />."""


def tokens(text: str) -> Iterator[Token]:
    """Yield the tags and texts of a page, in order. Comments, declarations and what scripts hold are left out.

    Raises:
        Damage: something is opened and never closed.
    """
    at = begin = 0
    while True:
        at = text.find("<", at)
        if at < 0:
            break
        following = text[at + 1 : at + 2]
        after = _declared(text, at) if following in ("!", "?") else None
        name = _NAME.match(text, at) if after is None else None
        if after is None and name is None:
            if following == "/":  # no letter follows: a comment, for HTML
                after = _closing(text, at, ">", "a tag")
            else:
                at += 1
                continue
        if begin < at:
            yield Token("text", begin, at)
        if after is not None:
            at = begin = after
            continue
        assert name is not None
        token = _tag(text, at, name)
        yield token
        at = begin = token.end
        if token.kind == "start" and token.name in _ENDS and not token.is_closed:
            end = _end_of_raw(text, token)
            if token.name in ("title", "textarea") and begin < end:
                yield Token("text", begin, end)
            at = begin = end
    if begin < len(text):
        yield Token("text", begin, len(text))


def tag_name(tag: str) -> tuple[str, bool, bool]:
    """Return the name in a tag, "" for none, whether the tag closes, and whether it stands for itself (`<x/>`)."""
    name = _NAME.match(tag)
    return name[1] if name else "", tag.startswith("</"), tag.endswith("/>")


def _closing(text: str, at: int, sign: str, what: str, behind: int = 2) -> int:
    """Return the place behind the sign that closes what opens at a place."""
    found = text.find(sign, at + behind)
    if found < 0:
        raise Damage(at, f"{what} is never closed")
    return found + len(sign)


def _declared(text: str, at: int) -> int:
    """Return where a comment, a declaration or an instruction ends."""
    if text.startswith("<!--", at):
        if text.startswith((">", "->"), at + 4):
            return text.index(">", at) + 1
        found = re.compile(r"--!?>").search(text, at + 4)
        if found is None:
            raise Damage(at, "a comment is never closed")
        return found.end()
    if text.startswith("<![CDATA[", at):
        return _closing(text, at, "]]>", "a CDATA section")
    if text.startswith(("<?php", "<?=", "<?xml"), at):
        return _closing(text, at, "?>", "an instruction")
    return _closing(text, at, ">", "a declaration")


def _tag(text: str, start: int, name: re.Match[str]) -> Token:
    attributes: list[Attribute] = []
    at = name.end()
    while True:
        gap = _SPACE.match(text, at)
        assert gap is not None
        at = gap.end()
        if at >= len(text):
            raise Damage(start, f"the tag <{name[1][:20]} is never closed")
        if text[at] == ">":
            break
        found = _ATTRIBUTE.match(text, at)
        assert found is not None
        at = found.end()
        sign = _blank(text, at)
        if not text.startswith("=", sign):
            attributes.append(Attribute(found[0].lower(), at, at))
            continue
        begin = _blank(text, sign + 1)
        quote = text[begin : begin + 1]
        if quote in ('"', "'") and quote:
            end = text.find(quote, begin + 1) + 1
            if not end:
                raise Damage(begin, "an attribute's quote is never closed")
        else:
            bare = _BARE_VALUE.match(text, begin)
            assert bare is not None
            end = bare.end()
        attributes.append(Attribute(found[0].lower(), begin, end))
        at = end
    is_closed = text[at - 1] == "/" and (not attributes or attributes[-1].end < at)
    kind: Literal["start", "end"] = "end" if text[start + 1] == "/" else "start"
    return Token(kind, start, at + 1, name[1].lower(), tuple(attributes), is_closed)


def _blank(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    assert blank is not None
    return blank.end()


def _end_of_raw(text: str, token: Token) -> int:
    """Return where the end tag of a script and the like begins."""
    at = token.end
    while found := _ENDS[token.name].search(text, at):
        opened = text.find("<!--", token.end, found.start()) if token.name == "script" else -1
        hidden = opened >= 0 and text.find("-->", opened, found.start()) < 0
        if not hidden or not _SCRIPT.search(text, opened, found.start()):
            return found.start()
        comment = text.find("-->", found.end())
        if comment < 0:
            return found.start()
        at = comment
    raise Damage(token.start, f"<{token.name}> is never closed")
