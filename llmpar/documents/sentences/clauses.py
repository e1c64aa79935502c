"""Pieces that are too long for one answer are cut at clauses; Thai and Lao, which mark no sentence's end, at spaces."""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 1000
"""Characters that a piece may have where there is a clause to cut it at."""
LONGEST_WIDE = 400
"""The same for Chinese, Japanese and their like, whose characters say more."""
SHORT = LONGEST_UNMARKED = 160
"""The same for Thai and Lao, where a space ends a clause, and nothing more is written at a sentence's end."""
WIDEST = 65_536
"""What is cut anywhere, if it has not one space."""

_WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")
_UNMARKED = re.compile("[\u0e01-\u0e5b\u0e81-\u0edf]")
# What a cut is made behind, best first; a comma in a number has no space behind it.
_CUTS = (
    re.compile(r"[;:；：;](?=\s|[\u3400-\u9fff])\s*|\s[—–]\s"),
    re.compile(r"[,،、，၊՝]\s+|[、，၊]"),
    re.compile(r"\s+"),
)
# Polite particles, repetition and "and so on" in Thai: what follows them begins anew.
_THAI_ENDS = re.compile(r"(?:ครับ|ค่ะ|คะ|จ้ะ|จ๊ะ|นะ|ฯลฯ|แล้ว|ແລ້ວ|เลย)\s+")


def cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a piece: one if it is not too long. White space between them belongs to none."""
    longest = limit(text, start, end)
    while end - start > longest:
        at = _place(text, start, min(start + longest, end), longest)
        if at is None:  # nothing in reach: the next space
            space = _CUTS[-1].search(text, start + longest, min(end, start + WIDEST))
            at = space.end() if space else start + WIDEST
        if at >= end:
            break
        last = at
        while last > start and text[last - 1].isspace():
            last -= 1
        yield start, last
        start = at
        while text[start].isspace():
            start += 1
    yield start, end


def limit(text: str, start: int, end: int) -> int:
    """Return how many characters a piece may have, by the script that it is in."""
    if end - start <= LONGEST_UNMARKED:
        return LONGEST
    middle = text[start : start + LONGEST_UNMARKED]
    if len(_UNMARKED.findall(middle)) > len(middle) // 2:
        return LONGEST_UNMARKED
    return LONGEST_WIDE if len(_WIDE.findall(middle)) > len(middle) // 2 else LONGEST


def _place(text: str, start: int, stop: int, longest: int) -> int | None:
    """Return where the best cut is in the later part of what fits."""
    patterns = (_THAI_ENDS, *_CUTS) if longest == LONGEST_UNMARKED else _CUTS
    for pattern in patterns:
        at = None
        for found in pattern.finditer(text, start + longest // 3, stop):
            at = found.end()
        if at is not None:
            return at
    return None
