"""The commands in README and in the pages of `llmpar help`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.places import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "llmpar" / "help").glob("*.md")))
_FENCED = re.compile(r"^```(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)


@dataclass(frozen=True)
class Shown:
    """A block of lines for a shell that a page shows.

    Args:
        page: where.
        lines: what is typed, continued lines joined.
        is_run: whether a test runs them; else they need what a test has not, such as a network, and are only parsed.
    """

    page: Path
    lines: tuple[str, ...]
    is_run: bool


def steps_of(line: str) -> list[list[list[str]]]:
    """Return the words of each program, in pipes, which follow one another."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    steps: list[list[list[str]]] = [[[]]]
    for word in lexer:
        if word in ("&&", ";"):
            steps.append([[]])
        elif word == "|":
            steps[-1].append([])
        else:
            steps[-1][-1].append(word)
    return steps


def blocks_shown(page: Path) -> Iterator[Shown]:
    """Yield what a page shows after a `$ ` in blocks marked `console`; those marked `console parsed` are not run."""
    for kind, block in _FENCED.findall(page.read_text("utf-8")):
        if kind in ("console", "console parsed"):
            lines = block.replace("\\\n", " ").splitlines()
            yield Shown(page, tuple(line[2:] for line in lines if line.startswith("$ ")), kind == "console")


def kinds_of_blocks(page: Path) -> list[str]:
    """Return what the fenced blocks of a page are marked as."""
    return [kind for kind, _ in _FENCED.findall(page.read_text("utf-8"))]
