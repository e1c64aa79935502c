"""Sizes and times in words, as exactly as an estimate can be."""

from __future__ import annotations

import math


def size(number: float) -> str:
    """Return a number of bytes in words."""
    if number >= 1e9:
        return f"{number / 1e9:.1f} GB"
    if number < 1e5:
        return f"{math.ceil(number / 1e3)} KB"
    return f"{number / 1e6:.1f} MB" if number < 1e7 else f"{number / 1e6:,.0f} MB"


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def rounded(number: int) -> int:
    """Return a number with two digits that say something."""
    return int(round(number, 2 - len(str(number))))
