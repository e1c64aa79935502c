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
    """A line for a shell that a page shows.

    Args:
        page: where.
        line: what is typed, continued lines joined.
        is_run: whether a test runs it; else it needs what a test has not, such as a network, and is only parsed.
    """

    page: Path
    line: str
    is_run: bool

    @property
    def steps(self) -> list[list[list[str]]]:
        """The words of each program, in pipes, which follow one another."""
        lexer = shlex.shlex(self.line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        steps: list[list[list[str]]] = [[[]]]
        for word in lexer:
            if word in ("&&", ";"):
                steps.append([[]])
            elif word == "|":
                steps[-1].append([])
            else:
                steps[-1][-1].append(word)
        return steps


def commands_shown(page: Path) -> Iterator[Shown]:
    """Yield what a page shows after a `$ ` in blocks marked `console`; those marked `console parsed` are not run."""
    for kind, block in _FENCED.findall(page.read_text("utf-8")):
        if kind in ("console", "console parsed"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("$ "):
                    yield Shown(page, line[2:].partition(" # ")[0].strip(), kind == "console")


def kinds_of_blocks(page: Path) -> list[str]:
    """Return what the fenced blocks of a page are marked as."""
    return [kind for kind, _ in _FENCED.findall(page.read_text("utf-8"))]
