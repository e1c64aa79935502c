"""A page as one file: a head, totals, facts and rows, with all style and script in it. It loads nothing.

The page forbids itself everything but its own script and style, which it knows by their hashes. What the caller hands
over is data: it is escaped in the head, and what is in the rows goes into the page as text alone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from llmpar.pages.rows import Rows, script_json

View = Literal["report", "compare"]
"""What a page shows of its rows, and how: the name of the script that is run last."""

_PARTS = Path(__file__).parent / "parts"
_BLOCKS = (
    "dom.js",
    "texts.js",
    "numbers.js",
    "diff.js",
    "list.js",
    "details.js",
    "filters.js",
    "print.js",
    "pieces.js",
    "charts.js",
)
"""What pages are built of, in this order; see README.md of this room."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and what is so; `tone` tells how good that is, and is shown beside the words.

    Args:
        name: for people.
        value: for people.
        tone: "bad", "poor", or "" for what is neither.
    """

    name: str
    value: str
    tone: Literal["", "bad", "poor"] = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Facts that belong together; a page shows them when they are opened.

    Args:
        title: what they are.
        facts: each a line.
        note: a sentence on top of them; "" for none.
    """

    title: str
    facts: tuple[Fact, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page says besides its rows.

    Args:
        title: of the page, and of the browser's window.
        lead: a sentence below it.
        notice: a sentence that nobody may miss: that the page shows a part only; "" for none.
        totals: the numbers on top.
        tables: what can be opened below them.
        columns: the names of a row's values, in order.
        view: what shows the rows.
        settings: what the view is told, by name; values that JSON knows.
    """

    title: str
    lead: str
    notice: str
    totals: tuple[Fact, ...]
    tables: tuple[Table, ...]
    columns: tuple[str, ...]
    view: View
    settings: tuple[tuple[str, object], ...] = ()


def render(page: Page, rows: Rows) -> Iterator[bytes]:
    """Yield a page in UTF-8, part by part, so that it need not fit in memory."""
    # Jinja2 takes a twentieth of a second, which no other command should wait for.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_PARTS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _part("page.css"), _script(page.view)
    # Each of these is ours, or JSON in which nothing is left that HTML knows.
    trusted = {
        "style": Markup(style),  # noqa: S704
        "script": Markup(script),  # noqa: S704
        "settings": Markup(script_json({"columns": page.columns, **dict(page.settings)})),  # noqa: S704
        "arrays": map(Markup, rows.arrays()),
    }
    parts = environment.get_template("page.html").generate(
        page=page, style_hash=_hash(style), script_hash=_hash(script), num_rows=len(rows), **trusted
    )
    for part in parts:
        yield part.encode("utf-8", "replace")


@cache
def _script(view: View) -> str:
    """Return the whole script of a page: the building blocks and the view, in one scope of their own."""
    texts = "\n".join(map(_part, (*_BLOCKS, f"{view}.js")))
    return f'"use strict";\n(() => {{\n{texts}\n}})();\n'


@cache
def _part(name: str) -> str:
    return (_PARTS / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
