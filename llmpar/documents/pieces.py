"""Where a text that is too long for one question is best cut in two. Knows no format and no token."""

from __future__ import annotations

import re

from llmpar.documents.layout import NEWLINE

# White space, or the place after a mark that needs none behind it.
_PLACE = re.compile(r"\s+|(?<=[。！？｡，、；：])(?=[^\s。！？｡，、；：」』”’）])")
_STOPS = frozenset(".!?…。！？｡؟۔।॥።")
_PAUSES = frozenset(",;:–—，、；：،؛")
_CLOSERS = "\"'»”’)]」』）"


def halve(text: str) -> tuple[str, str, str] | None:
    """Return a text's first half, what stands between, and its second half; None if it has but one character.

    The cut is the best there is in the middle half of the text (a blank line, a line's end, a sentence's, a clause's, a
    word's), and of equal ones the one nearest to the middle. It follows from the text alone.
    """
    start, end = len(text) // 4, len(text) - len(text) // 4
    places = [match.span() for match in _PLACE.finditer(text, start, end)]
    places = [(first, last) for first, last in places if first > 0 and last < len(text)]
    if places:
        first, last = min(places, key=lambda place: (_rank(text, *place), abs(sum(place) - len(text))))
        return text[:first], text[first:last], text[last:]
    middle = len(text) // 2
    return (text[:middle], "", text[middle:]) if middle else None


def _rank(text: str, start: int, end: int) -> int:
    """Return how good a place is to cut at, 0 for the best."""
    num_newlines = len(NEWLINE.findall(text, start, end))
    if num_newlines:
        return 0 if num_newlines > 1 else 1
    before = text[max(0, start - 4) : start].rstrip(_CLOSERS)[-1:]
    return 2 if before in _STOPS else 3 if before in _PAUSES else 4
