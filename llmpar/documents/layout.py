"""Hard-wrapped lines: recognise them, undo them for the model, and wrap an answer the same way. Knows no format."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from wcwidth import wcswidth, wcwidth

from llmpar.documents.document import Layout

# Nobody wraps by hand beyond this; longer lines are paragraphs of their own.
_WIDEST_WRAP = 120
# The share of line breaks that must look like wrapping before a paragraph counts as wrapped.
_WRAPPED_SHARE = 0.6
NEWLINE = re.compile(r"\r\n|\n|\r")
CLAUSE_END = (".", "!", "?", ":", ";", "。", "！", "？", "：", "؟", "۔", "।", "…", '"', "”", "»", ")")


def cells(text: str) -> int:
    """Return the columns that `text` takes on a terminal; characters without a width count as one."""
    width = wcswidth(text)
    return width if width >= 0 else sum(max(wcwidth(char), 1) for char in text)


def is_wide(char: str) -> bool:
    """Tell whether `char` belongs to a script written without spaces (Chinese, Japanese), also its punctuation."""
    return bool(char) and unicodedata.east_asian_width(char) in "WF"


def soft_breaks(lines: Sequence[str]) -> list[bool]:
    """Tell for each line break inside a paragraph whether wrapping put it there, and not the author.

    Args:
        lines: the paragraph's lines without their indentation and trailing whitespace.

    Returns:
        One value for each of the `len(lines) - 1` breaks.

    A filled line leaves no room for the next line's first word; a break also is soft when a line that ends no clause
    is followed by a lowercase letter, which is how text written one clause a line looks.
    """
    widths = [cells(line) for line in lines]
    limit = max(widths, default=0)
    fills = []
    for width, following in zip(widths, lines[1:], strict=False):
        word = 2 if is_wide(following[:1]) else cells(following.split(None, 1)[0])
        fills.append(limit <= _WIDEST_WRAP and width + 1 + word > limit * 0.9)
    wrapped = sum(fills) >= _WRAPPED_SHARE * len(fills)
    return [
        (filled and wrapped) or (following[:1].islower() and not line.endswith(CLAUSE_END))
        for filled, line, following in zip(fills, lines, lines[1:], strict=False)
    ]


def joint(left: str, right: str) -> str:
    """Return what stands for a soft line break between two lines: a space, or nothing between wide characters."""
    return "" if is_wide(left[-1:]) and is_wide(right[:1]) else " "


# A place where a line may be broken lies after a run of spaces or on either side of a wide character.
_UNBROKEN = re.compile(r"[ \t]*[^ \t]+")


def _words(line: str) -> list[str]:
    words: list[str] = []
    for match in _UNBROKEN.finditer(line):
        word = match[0]
        start = 0
        for i in range(1, len(word)):
            # Closing punctuation is wide too, but must not begin a line.
            opens = is_wide(word[i]) and unicodedata.category(word[i]) not in ("Pe", "Pf", "Po")
            if opens and not word[i - 1].isspace() and unicodedata.category(word[i - 1]) not in ("Ps", "Pi"):
                words.append(word[start:i])
                start = i
        words.append(word[start:])
    return words


def fill(text: str, layout: Layout, column: int = 0) -> str:
    """Set an answer as its paragraph was set.

    Args:
        text: the answer; its own line breaks stay.
        layout: the paragraph's.
        column: the cells already taken on the first line.

    Returns:
        `text` with the document's newlines and the paragraph's indentation, wrapped if the paragraph was.
    """
    if layout.newline == " ":
        return " ".join(line.strip() for line in NEWLINE.split(text) if line.strip())
    lines: list[str] = []
    for line in NEWLINE.split(text):
        if not layout.width:
            lines.append(line)
            column = 0
            continue
        current = ""
        for word in _words(line):
            size = cells(word)
            if (current or column) and column + size > layout.width:
                lines.append(current.rstrip())
                word, column, current = word.lstrip(), cells(layout.indent), ""
                size = cells(word)
            current += word
            column += size
        lines.append(current)
        column = cells(layout.indent)
    return layout.newline.join(
        line if i == 0 else (layout.indent + line if line else layout.indent.rstrip()) for i, line in enumerate(lines)
    )
