"""A row of a review: a piece with its answer, and why somebody should look at it. Knows no file."""

from __future__ import annotations

from dataclasses import dataclass

COLUMNS = ("place", "part", "source", "answer", "confidence", "reason", "rejected", "key (do not change)")
"""The columns of a table, in order. Only `answer` is for a person to change."""
NEEDED = ("source", "answer", "key")
"""The columns without which a table cannot be taken in, by the first word of their names."""


@dataclass(frozen=True, slots=True)
class Row:
    """A piece for a person to look at.

    Args:
        place: its file and line; those of a few others that ask the same, too.
        part: its number in the document, from 1.
        source: what was asked about, as the model read it: markup stands there as marks.
        answer: what stands in its place; "" if it failed.
        confidence: from 0 to 1; None if nobody knows it.
        reason: why it is in doubt; "" if it is not.
        rejected: what the model said last of a piece that failed.
        key: see `key`.
    """

    place: str
    part: int
    source: str
    answer: str
    confidence: float | None
    reason: str
    rejected: str
    key: str


@dataclass(frozen=True, slots=True)
class Returned:
    """A row that a person gives back: the line of the file that it begins in, from 1, and what matters of it."""

    line: int
    source: str
    answer: str
    key: str
