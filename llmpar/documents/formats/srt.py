"""Subtitles in SubRip's format (SRT): the text of cues is prose; numbers, times and tags are copied.

The kept libraries (srt and pysubs2, both MIT; pysrt is GPL) tell no places in the file, so lines are read here.
"""

from __future__ import annotations

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

_TIME = r"-?(?:\d+:)?\d{1,2}:\d{1,2}(?:[,.:]\d{1,3})?"
_TIMES = re.compile(rf"\s*{_TIME}[ \t]*-->[ \t]*{_TIME}(?:[ \t].*)?")
_TAG = re.compile(r"<(?=[a-zA-Z/]|[^>\s]*>)")
_LIKE_TIMES = re.compile(r"\s*\d+:\d{1,2}(?::\d{1,2})?[,.:]\d+[ \t]*(?:-|–|—|=)")
_AFTER_NUMBER = re.compile(r"\s*\d+:\d")


class SubRip(WholeFormat):
    """Cues of subtitles."""

    about: ClassVar[About] = About(
        "what a speaker says in a cue",
        "numbers, times, tags",
        "a sentence over several tags or cues is one piece; its answer is laid over them in proportion",
    )

    what: ClassVar[str] = "subtitles"

    def find(self, text: str) -> list[Piece]:
        """Return what is said in the cues.

        Raises:
            Damage: a cue has no times, or they are not what times look like.
        """
        cues = _cues(lines_of(text))
        layout = cue_layout(cues, text, self.reading.options.cue_width)
        return list(cue_pieces(cues, layout, str, self.reading.language))

    def write(self, segment: Segment, answer: str, column: int) -> str:
        """Return the answer as lines of its cue, or of its cues."""
        return write_in_cues(segment, answer, column, _harmless)

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return a mark and the source, or nothing."""
        return write_failure_in_cues(segment, f"[llmpar: {reason}]" if fate == "mark" else "", _harmless)


def _harmless(answer: str) -> str:
    """Return an answer in which nothing is a tag, and no line the times of a cue: SubRip cannot write these as text."""
    lines = _TAG.sub("‹", answer).replace("{\\", "(\\").split("\n")
    for number, line in enumerate(lines):
        after_number = number > 0 and lines[number - 1].strip().isdigit()
        if _LIKE_TIMES.match(line) or (after_number and _AFTER_NUMBER.match(line)):
            lines[number] = line.replace(":", "∶", 1)  # the sign of a ratio
    return "\n".join(lines)


def _cues(lines: list[Line]) -> list[list[Line]]:
    """Return the lines of text of each cue. Blank ones may stand between them: a cue ends where the next begins."""
    cues: list[list[Line]] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        if begins := _begins(lines, number):
            cues.append([])
            number += begins
            continue
        if not cues and not line.is_blank:
            raise Damage(line.start, "is no beginning of subtitles: the number and the times of a cue are expected")
        is_number = line.text.strip().isdigit() and number + 1 < len(lines)
        if ARROW in line.text or _LIKE_TIMES.match(line.text):
            raise Damage(line.start, "the times of a cue are not written as times are (00:00:01,000 --> 00:00:02,000)")
        if is_number and _AFTER_NUMBER.match(lines[number + 1].text):
            raise Damage(lines[number + 1].start, "the times of a cue are not written as times are")
        if cues:
            cues[-1].append(line)
        number += 1
    return cues


def _begins(lines: list[Line], number: int) -> int:
    """Return how many lines stand before the text of a cue that begins here, 0 if none does."""
    if _TIMES.fullmatch(lines[number].text):
        return 1
    is_number = lines[number].text.strip().isdigit()
    return 2 if is_number and number + 1 < len(lines) and _TIMES.fullmatch(lines[number + 1].text) else 0
