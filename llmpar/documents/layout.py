"""Hard-wrapped lines: recognise them, undo them for the model, and wrap an answer the same way. Knows no format."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence

from wcwidth import wcswidth, wcwidth

from llmpar.documents.document import Layout

# Nobody wraps by hand beyond the widest; what is narrower is an address, a poem or a list of words.
_NARROWEST_WRAP, _WIDEST_WRAP = 30, 120
# From here on a paragraph that is filled to the last word is taken for wrapped, whatever letters its lines begin with.
_TYPICAL_WRAP = 60
_MEASURED_AT_ONCE = 256  # characters; no line that was wrapped by hand has more
NEWLINE = re.compile(r"\r\n|\n|\r")
CLAUSE_END = (".", "!", "?", ":", ";", "。", "！", "？", "：", "؟", "۔", "।", "…", '"', "”", "»", ")")


# Chinese and Japanese with their punctuation and full-width forms. Korean is as wide, but has spaces.
_SPACELESS = re.compile(
    "[\u2e80-\u30ff\u3190-\u319f\u31c0-\ua4cf\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff9f\U00020000-\U0003fffd]"
)
_COLUMNS = re.compile(r"\S(?: {3,}|\t)\s*\S")


def cells(text: str) -> int:
    """Return the columns that `text` takes on a terminal from the first one on; control characters count as one."""
    if text.isascii() and text.isprintable():
        return len(text)
    if len(text) > _MEASURED_AT_ONCE:  # wcwidth's time grows with the square of a row of flags
        starts = range(0, len(text), _MEASURED_AT_ONCE)
        return sum(cells(text[start : start + _MEASURED_AT_ONCE]) for start in starts)
    text = text.expandtabs(8)
    width = wcswidth(text)
    return width if width >= 0 else sum(1 if (cell := wcwidth(char)) < 0 else cell for char in text)


def is_wide(char: str) -> bool:
    """Tell whether `char` belongs to a script written without spaces (Chinese, Japanese), also its punctuation."""
    return bool(_SPACELESS.match(char))


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
    if len(lines) < 2:
        return []
    # The width that each line would have had with the next line's first word.
    tried = [
        width + (2 if is_wide(following[0]) else 1 + cells(following.split(None, 1)[0]))
        for width, following in zip(widths, lines[1:], strict=False)
    ]
    closed = [line.endswith(CLAUSE_END) for line in lines[:-1]]
    lower = [line[0].islower() for line in lines[1:]]
    full = limit * 0.9 if _is_wrapped(lines, limit, tried, closed, lower) else math.inf
    ragged = full * 0.8  # reached in mid-sentence, a line wrapped by hand may end earlier
    if limit < _NARROWEST_WRAP:
        # Too narrow to tell by width: sentences go on in lowercase, but so do lists of words, which end in no stop.
        prose = lines[-1].endswith(CLAUSE_END)
        return [prose and lower[i] and not closed[i] for i in range(len(tried))]
    columns = [bool(_COLUMNS.search(line)) for line in lines]
    return [
        not columns[i]
        and not columns[i + 1]
        and (tried[i] > full or (not closed[i] and (lower[i] or tried[i] > ragged)))
        for i in range(len(tried))
    ]


def _is_wrapped(
    lines: Sequence[str], limit: int, tried: Sequence[int], closed: Sequence[bool], lower: Sequence[bool]
) -> bool:
    num_breaks = len(tried)
    likely = [tried[i] > limit * 0.9 or (lower[i] and not closed[i]) for i in range(num_breaks)]
    if limit > _WIDEST_WRAP or sum(likely) < 0.6 * num_breaks:
        return False
    if num_breaks > 1 and sum(closed) > 0.7 * num_breaks:
        return False  # a sentence a line
    # Lines that all begin with a capital are verse or an address, unless they are filled exactly.
    if sum(lower) >= 0.25 * num_breaks or (limit >= _TYPICAL_WRAP and min(tried) > limit):
        return True
    # Where capitals say nothing, the width must.
    capitals = any(line[0].isupper() for line in lines[1:]) and any(char.islower() for line in lines for char in line)
    return not capitals and (is_wide(lines[0][-1]) or limit >= _TYPICAL_WRAP)


def joint(left: str, right: str) -> str:
    """Return what stands for a soft line break between two lines: a space, or nothing between wide characters."""
    return "" if is_wide(left[-1:]) and is_wide(right[:1]) else " "


# A place where a line may be broken lies after a run of spaces or on either side of a wide character.
_UNBROKEN = re.compile(r"[ \t]*[^ \t]+")


def words_of(line: str) -> list[str]:
    """Return the parts of a line between which it may be broken, each with the spaces before it."""
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
    text = text.strip()
    if layout.newline == " ":
        return " ".join(line.strip() for line in NEWLINE.split(text) if line.strip())
    lines: list[str] = []
    for line in NEWLINE.split(text):
        if layout.width:
            lines.extend(_wrap(line, layout.width, column, cells(layout.indent)))
            column = cells(layout.indent)
        else:
            lines.append(line)
    return layout.newline.join(
        line if i == 0 else (layout.indent + line if line else layout.indent.rstrip()) for i, line in enumerate(lines)
    )


def _wrap(line: str, width: int, column: int, indent: int) -> Iterator[str]:
    current = ""
    fresh = column <= indent  # where nothing precedes a word, a new line would not help it
    for word in words_of(line):
        size = cells(word)
        if not fresh and column + cells(word.rstrip()) > width:
            yield current.rstrip()
            word, column, current = word.lstrip(), indent, ""
            size = cells(word)
        current += word
        column += size
        fresh = False
    yield current.rstrip()
