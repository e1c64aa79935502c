"""Subtitles of the web (WebVTT): the text of cues is prose; times, settings, notes, styles and tags are copied.

The kept library (webvtt-py, MIT) tells no places in the file, so that the lines are read here, after the W3C's
grammar (https://www.w3.org/TR/webvtt1/).
"""

from __future__ import annotations

import html
import re
from typing import ClassVar, Literal

from llmpar.documents.document import Segment
from llmpar.documents.formats.cues import (
    ARROW,
    Line,
    cue_layout,
    cue_pieces,
    lines_of,
    write_failure_in_cues,
    write_in_cues,
)
from llmpar.documents.formats.protocol import About, Piece
from llmpar.documents.formats.whole import Damage, WholeFormat

_TIME = r"(?:\d{2,}:)?\d\d:\d\d[.,]\d{3}"
_TIMES = re.compile(rf"[ \t]*{_TIME}[ \t]+-->[ \t]+{_TIME}(?:[ \t]+.*)?")
_COPIED = re.compile(r"(?:NOTE|STYLE|REGION)(?:[ \t].*)?")


class WebVtt(WholeFormat):
    """Cues of subtitles, and what describes how they look."""

    about: ClassVar[About] = About(
        "what a speaker says in a cue",
        "names, times, settings, tags, NOTE, STYLE, REGION",
        "a sentence over several tags or cues is one piece; its answer is laid over them in proportion",
    )

    what: ClassVar[str] = "subtitles"

    def find(self, text: str) -> list[Piece]:
        """Return what is said in the cues.

        Raises:
            Damage: the first line is not WEBVTT's, or a cue has no times.
        """
        cues = _cues(lines_of(text))
        layout = cue_layout(cues, text, self.reading.options.cue_width)
        return list(cue_pieces(cues, layout, html.unescape, self.reading.language))

    def write(self, segment: Segment, answer: str, column: int) -> str:
        """Return the answer as lines of its cue, or of its cues."""
        return write_in_cues(segment, answer, column, _escaped, " ")

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return a mark and the source, or nothing."""
        return write_failure_in_cues(segment, f"[llmpar: {reason}]" if fate == "mark" else "", _escaped, " ")

    def spell(self, char: str) -> str:
        """Return a character by its number."""
        return f"&#{ord(char)};"


def _escaped(text: str) -> str:
    """Return a text in which nothing is a tag or a character's name."""
    return html.escape(text, quote=False)


def _cues(lines: list[Line]) -> list[list[Line]]:
    """Return the lines of text of each cue."""
    if not any(not line.is_blank for line in lines):
        return []
    if not re.match(r"WEBVTT(?:[ \t]|\Z)", lines[0].text):
        raise Damage(0, "the first line of WebVTT subtitles must be WEBVTT")
    cues: list[list[Line]] = []
    for number, block in enumerate(_blocks(lines)):
        first = block[0]
        times = next((at for at, line in enumerate(block[:2]) if ARROW in line.text), None)
        if number == 0:
            if times is None:
                continue
            raise Damage(block[times].start, "a blank line is expected below WEBVTT and what belongs to it")
        if times is None and (_COPIED.fullmatch(first.text) or not _has_letters(block)):
            continue
        if times is None:
            raise Damage(first.start, "is neither a cue, which has times, nor a note or a style")
        if not _TIMES.fullmatch(block[times].text):
            raise Damage(
                block[times].start, "the times of a cue are not written as times are (00:01.000 --> 00:02.000)"
            )
        cues.append(block[times + 1 :])
    return cues


def _has_letters(lines: list[Line]) -> bool:
    return any(char.isalpha() for line in lines for char in line.text)


def _blocks(lines: list[Line]) -> list[list[Line]]:
    """Return the lines that stand together. Blank lines part them, of which one of spaces is none, and so do times."""
    blocks: list[list[Line]] = []
    is_open = False
    for line in lines:
        if ARROW in line.text and is_open and (len(blocks[-1]) > 1 or ARROW in blocks[-1][0].text):
            is_open = False
        if not line.text:
            is_open = False
        elif is_open:
            blocks[-1].append(line)
        else:
            blocks.append([line])
            is_open = True
    return blocks
