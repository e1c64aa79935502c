"""Cells that a spreadsheet would run, whoever wrote them: the document's author, or the model."""

from __future__ import annotations

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d+)*|[.,]\d+)(?:[eE][+-]?\d+)? ?%?")


def without_formula(text: str) -> str:
    """Return a text as a table holds it: what begins like a formula gets a ' before it, by which it is none.

    So does one that begins with ' and would then look like it, so that a program can take the first ' away again.
    Numbers stay as they are.
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def with_formula(cell: str) -> str:
    """Return the text that `without_formula` made a cell of: exactly its ' is taken away."""
    return cell[1:] if cell.startswith("'") and without_formula(cell[1:]) == cell else cell
