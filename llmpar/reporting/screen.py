"""What a terminal is given: lines at its bottom that are drawn again and again, and lines that fit. Knows no run."""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
from collections.abc import Callable, Sequence

_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"
_UP, _ERASE = "\x1b[1A", "\x1b[2K"
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_SMALLEST = (20, 4)  # columns and rows of a terminal that tells no size, or a silly one


def terminal_size() -> tuple[int, int]:
    """Return how many columns and rows stderr has."""
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        columns, rows = 80, 24
    return max(columns, _SMALLEST[0]), max(rows, _SMALLEST[1])


def fitted(text: str) -> str:
    """Return lines that are broken between words where stderr is a terminal on which they would not fit."""
    if sys.stderr is None or sys.stderr.closed or not sys.stderr.isatty():
        return text
    width = terminal_size()[0] - 1
    lines = [
        textwrap.wrap(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    ]
    return "\n".join("\n".join(line) for line in lines)


class Screen:
    """Lines on stderr, which must be a terminal that can move its cursor."""

    def __init__(self) -> None:
        self._drawn: list[int] = []  # the lengths of the lines that are there
        self._has_color = not os.environ.get("NO_COLOR")

    def draw(self, lines: Sequence[str]) -> None:
        """Draw lines in the place of those that are there; the first stands out, where colours are welcome."""
        columns, rows = terminal_size()
        shown = [line[: columns - 1] for line in lines[: rows - 1]]
        styled = shown
        if self._has_color and shown:
            styled = [f"{_BOLD}{shown[0]}{_PLAIN}", *(f"{_DIM}{line}{_PLAIN}" for line in shown[1:])]
        self._write(_HIDE + self._erasure(columns) + "".join(f"{line}\n" for line in styled))
        self._drawn = list(map(len, shown))

    def erase(self) -> None:
        """Take the lines away."""
        self._write(self._erasure(terminal_size()[0]) + _SHOW)
        self._drawn = []

    def aside(self, action: Callable[[], None]) -> None:
        """Do something to the terminal without the lines; whoever draws them draws them again."""
        self.erase()
        action()

    def _erasure(self, columns: int) -> str:
        """Return what erases the lines: a terminal that became narrower has broken them into several rows."""
        num_rows = sum(max(1, -(-length // columns)) for length in self._drawn)
        return "\r" + f"{_UP}{_ERASE}" * num_rows

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # where nobody can be shown anything, nobody is
            if sys.stderr is not None:
                sys.stderr.write(text)
                sys.stderr.flush()
