"""A glossary's file that grows: rows that are there stay as they are, byte for byte, and new ones come among them."""

from __future__ import annotations

import csv
import io
from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise

from llmpar.tasks.glossary import is_header, rows_of, separator_of
from llmpar.tasks.terms import sort_key

_HEADER = ("source", "target")
_FORMULA = tuple("=+-@\t\r")
_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "‘": "’", "「": "」", "`": "`", "**": "**"}
_MOST_GROWTH, _MARGIN = 4, 40  # characters of a translation


def with_rows(data: bytes, rows: Iterable[tuple[str, str]], shown: str = "") -> bytes:
    """Return a glossary's file with more rows.

    They are sorted by their source, among those that are there if these are sorted, else below them.

    Args:
        data: the file's bytes, a glossary; b"" for a new one.
        rows: source and target of each.
        shown: the file's name, for messages.
    """
    rows = sorted(rows, key=lambda row: sort_key(row[0]))
    if not rows:
        return data
    bom = b"\xef\xbb\xbf" if data.startswith(b"\xef\xbb\xbf") else b""
    text = data.decode("utf-8-sig")
    lines = list(io.StringIO(text, newline=""))
    newline = next((end for end in ("\r\n", "\n", "\r") if lines and lines[0].endswith(end)), "\n")
    separator = separator_of(next((line for line in lines if line.strip()), ""))
    known = list(rows_of(shown, text))
    starts = [line - 1 for line, _ in known] + [len(lines)]
    pieces = ["".join(lines[start:end]) for start, end in pairwise(starts)]
    if pieces and not pieces[-1].endswith(("\n", "\r")):
        pieces[-1] += newline
    head = ["".join(lines[: starts[0]])]
    keys = [sort_key(" ".join(row[0].split())) for _, row in known]
    if not known:
        head.append(_row(_HEADER, separator, newline))
    elif is_header(known[0][1]):
        head.append(pieces.pop(0))
        del keys[0]
    is_sorted = keys == sorted(keys)
    for source, target in rows:
        place = bisect_left(keys, sort_key(source)) if is_sorted else len(keys)
        keys.insert(place, sort_key(source))
        pieces.insert(place, _row((source, target), separator, newline))
    return bom + "".join([*head, *pieces]).encode()


def translation_in(answer: str, source: str) -> str | None:
    """Return the translation of a term that an answer holds; None if it holds more, or nothing to be written.

    Quotes around it, a full stop behind it and the term before it are none of it.
    """
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    said = " ".join(lines[0].split()) if len(lines) == 1 else ""
    for sign in ("=", ":", "→", "->"):
        before, found, after = said.partition(sign)
        if found and before.strip().strip("\"'“”„«»").casefold() == source.casefold():
            said = after.strip()
    for opening, closing in _QUOTES.items():
        if said.startswith(opening) and said.removesuffix(".").endswith(closing) and not source.startswith(opening):
            said = said.removesuffix(".")[len(opening) : -len(closing)].strip()
    if said.endswith((".", "。")) and not source.endswith((".", "。")) and said.count(".") < 2:
        said = said[:-1].rstrip()
    is_too_long = len(said) > _MOST_GROWTH * len(source) + _MARGIN
    return None if not said or is_too_long or said.startswith(_FORMULA) else said


def _row(cells: tuple[str, str], separator: str, newline: str) -> str:
    row = io.StringIO()
    csv.writer(row, delimiter=separator, lineterminator=newline).writerow(cells)
    return row.getvalue()
