"""What a document is, from its name, else from how it begins. Knows what formats look like, and not what is in them.

The look at the beginning is short, so that a slow pipe is served as it speaks: it ends as soon as the first lines that
say something have come, and takes what could still become something else no further than `_MOST` bytes. What is
decided follows from the bytes alone, never from how many came at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from llmpar.documents.formats.refused import BY_MAGIC, LATEX, SVG, WORDLIKE, XML, Refused
from llmpar.documents.source import BOMS, Source

_MOST = 1 << 16  # bytes that are looked at
_HEAD = 1 << 10  # bytes that show whether an input is text
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # a letter may have any other byte, in some encoding
_BINARY = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f-\xff]")
_TIMES = re.compile(r"\s*(?:\d+:)?\d\d?:\d\d[.,]\d{1,3}[ \t]*-+>")
_PO = re.compile(r'(?:msgid|msgctxt|msgstr|msgid_plural|domain)[ \t]+"')
_FRONT_FIELD = re.compile(r"[\w\"'#-].*[:=#]")
_FENCE = re.compile(r" {0,3}(?:`{3,}[^`]*|~{3,}.*)")
_HTML = re.compile(r"<!doctype[ \t]+html|<html\b|<head\b|<body\b", re.IGNORECASE)
_XML = re.compile(r"<\?xml\b", re.IGNORECASE)
_ROOT = re.compile(r"<([a-z_][\w.:-]*)", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?-->|<!doctype[^>\[]*(?:\[.*?\]\s*)?>|<\?.*?\?>", re.IGNORECASE | re.DOTALL)
_TAG_LINE = re.compile(r"(?:</?[a-z][a-z0-9-]*(?:\s[^<>]*)?/?>|<!--).*", re.IGNORECASE)
_LATEX = re.compile(r"\\(?:documentclass|documentstyle|begin\{document\}|usepackage)\b")
_JSON_START = re.compile(r'\s*(?:\{\s*(?:"(?:[^"\\\n]|\\.)*"\s*:|\})|\[\s*(?:[\[{\]]|"(?:[^"\\\n]|\\.)*"\s*[,\]]))')
_JSON_OPENING = re.compile(r"[\[{]\s*\Z")


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The beginning of a text: its lines that are complete, and whether there is no more of it."""

    lines: tuple[str, ...]
    is_whole: bool


_Found = str | Refused | None
_Rule = Callable[[_Beginning, int], tuple[bool, _Found]]
"""Given a beginning and its first line that is not blank: whether more must be seen, and what it is."""


def recognise(source: Source) -> str | Refused:
    """Return the name of the format that an input begins like, "plain" for none, or what it is and is not read.

    Raises:
        InputUnreadable: reading failed.
    """
    count = 16
    while True:
        head = source.look(count)
        is_whole = source.ended or len(head) >= _MOST
        found = look(head[:_MOST], is_whole=is_whole)
        if found is not None:
            return found
        count = len(head) + 1


def is_binary(source: Source) -> bool:
    """Tell whether an input begins with bytes that no text has.

    Raises:
        InputUnreadable: reading failed.
    """
    head = source.look(_HEAD)[:_HEAD]
    return not head.startswith(tuple(mark for mark, _ in BOMS)) and bool(_CONTROL.search(head))


def look(head: bytes, *, is_whole: bool) -> str | Refused | None:
    """Return what an input begins like, None if more of it must be seen; see `recognise`.

    Args:
        head: how it begins.
        is_whole: whether no more is to be looked at.
    """
    for magic, kind in BY_MAGIC:
        if head.startswith(magic) and (magic not in WORDLIKE or _BINARY.search(head[:64])):
            return kind
    encoding = next((name for mark, name in BOMS if head.startswith(mark)), "utf-8-sig")
    text = head.decode(encoding, "ignore").removeprefix("\ufeff")
    lines = re.split(r"\r\n|\n|\r", text if is_whole else text.removesuffix("\r"))
    beginning = _Beginning(tuple(lines if is_whole else lines[:-1]), is_whole)
    first = next((number for number, line in enumerate(beginning.lines) if line.strip()), None)
    if first is None:
        return "plain" if is_whole else None
    for rule in _RULES:
        more, found = rule(beginning, first)
        if found is not None:
            return found
        if more and not is_whole:
            return None
    return "plain"


def _front_matter(beginning: _Beginning, first: int) -> tuple[bool, _Found]:
    """A line of dashes or plus signs at the very top, a field below, and a second such line somewhere."""
    mark = beginning.lines[0].rstrip()
    if first or mark not in ("---", "+++"):
        return False, None
    if len(beginning.lines) > 1 and not _FRONT_FIELD.match(beginning.lines[1]):
        return False, None
    closes = any(line.rstrip() in (mark, "...") for line in beginning.lines[1:])
    return True, "markdown" if closes else None


def _fence(beginning: _Beginning, first: int) -> tuple[bool, _Found]:
    return False, "markdown" if _FENCE.fullmatch(beginning.lines[first]) else None


def _subtitles(beginning: _Beginning, first: int) -> tuple[bool, _Found]:
    lines = beginning.lines
    if re.match(r"WEBVTT(?:[ \t]|\Z)", lines[0]):
        return False, "vtt"
    if _TIMES.match(lines[first]):
        return False, "srt"
    if not lines[first].strip().isdigit():
        return False, None
    if len(lines) == first + 1:
        return True, None
    return False, "srt" if _TIMES.match(lines[first + 1]) else None


def _catalogue(beginning: _Beginning, first: int) -> tuple[bool, _Found]:
    """A message, below any comments."""
    line = next((line for line in beginning.lines[first:] if line.strip() and not line.startswith("#")), None)
    if line is None:
        return True, None
    return False, "po" if _PO.match(line) else None


def _page(beginning: _Beginning, first: int) -> tuple[bool, _Found]:
    """A page of the web, XML of another kind, or Markdown that begins with a tag."""
    line = beginning.lines[first].lstrip()
    if _HTML.match(line):
        return False, "html"
    if line.startswith("<!--") or _XML.match(line):
        text = _COMMENT.sub("", "\n".join(beginning.lines[first:])).lstrip()
        if not text or text.startswith(("<!--", "<?")):
            return True, XML if beginning.is_whole and _XML.match(line) else None
        if _HTML.match(text):
            return False, "html"
        if _XML.match(line):
            root = _ROOT.match(text)
            return False, SVG if root and root[1].lower() == "svg" else XML
        return False, "markdown"
    if re.match(r"<svg[\s>]", line, re.IGNORECASE):
        return False, SVG
    return False, "markdown" if _TAG_LINE.fullmatch(line) else None


def _json(beginning: _Beginning, first: int) -> tuple[bool, _Found]:
    line = beginning.lines[first].strip()
    if not line.startswith(("{", "[")):
        return False, None
    text = "\n".join(beginning.lines[first:])
    if not _JSON_START.match(text):
        return bool(_JSON_OPENING.fullmatch(text.strip())), None
    if line.startswith("{"):
        try:
            json.loads(line)
        except (ValueError, RecursionError):
            pass
        else:
            return False, "jsonl"
        others = [other.strip() for other in beginning.lines[first + 1 :] if other.strip()]
        if line.endswith("}") and not others and not beginning.is_whole:
            return True, None
        if line.endswith("}") and others and others[0].startswith("{"):  # a first record that is damaged
            return False, "jsonl"
    return False, "json"


def _latex(beginning: _Beginning, first: int) -> tuple[bool, _Found]:
    line = next((line for line in beginning.lines[first:] if line.strip() and not line.startswith("%")), None)
    if line is None:
        return True, None
    return False, LATEX if _LATEX.match(line) else None


_RULES: tuple[_Rule, ...] = (_front_matter, _fence, _subtitles, _catalogue, _page, _json, _latex)
