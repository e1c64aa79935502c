"""Reviews as files: what a run writes, a person gets, and what the person gives back is read as it was meant."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpar.documents.formula import with_formula, without_formula
from llmpar.review import catalogue, table
from llmpar.review.key import RowKey, answer_hash, read, spell
from llmpar.review.row import COLUMNS, Returned, Row

HOSTILE = [
    "=HYPERLINK(\"http://x\")", "'=1", "''+1", "-5", "+1 of them", "@SUM(A1)", "\tx", "\rx", "'quoted'", "a,b;c\td|e",
    'say "no"', '"', "two\nlines", "two\r\nlines", "a\\nb", "\\", "line\n", "a\x0bb\x0cc\x85d\u2028e", "\udc80 byte",
    "#~ msgid", "msgid \"x\"", "<1>a</1>", "１＝２", "＝1", "\u202eabc", "🙂", "x" * 200_000,
]  # fmt: skip
KEY = RowKey(bytes(32), bytes(range(32)), b"12345678", frozenset({"empty", "invariants"}), 4)
Written = Callable[[list[Row]], str]


def as_table(delimiter: str) -> Written:
    return lambda rows: b"".join(table.written(rows, delimiter)).decode("utf-8", "surrogatepass").removeprefix("\ufeff")


def as_catalogue(rows: list[Row]) -> str:
    return b"".join(catalogue.written(rows)).decode("utf-8", "surrogatepass")


KINDS = [(as_table(","), table.returned), (as_table("\t"), table.returned), (as_catalogue, catalogue.returned)]


def row(source: str, answer: str, number: int = 0) -> Row:
    key = RowKey(KEY.job, number.to_bytes(32, "big"), KEY.known, KEY.checks, KEY.first_mark)
    return Row("a b:c.txt:3", 1, source, answer, 0.25, "failed: x", "rejected", spell(key, source, answer))


@pytest.mark.parametrize(("written", "returned"), KINDS, ids=["csv", "tsv", "po"])
def test_hostile_cells_come_back_as_they_were(written: Written, returned: Callable[[str], list[Returned]]) -> None:
    rows = [row(text, other, number) for number, (text, other) in enumerate(zip(HOSTILE, HOSTILE[::-1], strict=True))]
    found = list(returned(written(rows)))
    assert [(one.source, one.answer) for one in found] == [(one.source, one.answer) for one in rows]
    for one, told in zip(rows, found, strict=True):
        key, was = read(told.key, told.source)
        assert (key.known, key.checks, key.first_mark, key.job) == (KEY.known, KEY.checks, 4, KEY.job)
        assert answer_hash(told.answer) == was
        assert told.key == one.key


@given(st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=4))
def test_any_text_comes_back(pairs: list[tuple[str, str]]) -> None:
    rows = [row(source, answer, number) for number, (source, answer) in enumerate(pairs)]
    for written, returned in KINDS:
        assert [(one.source, one.answer) for one in returned(written(rows))] == pairs


@given(st.text(alphabet="'=+-@ab1\t", max_size=6))
def test_a_guarded_cell_is_undone_exactly(text: str) -> None:
    assert with_formula(without_formula(text)) == text


def test_no_cell_begins_like_a_formula() -> None:
    rows = [row(text, text, number) for number, text in enumerate(HOSTILE)]
    text = as_table(",")(rows)
    csv.field_size_limit(1_000_000)
    for cells in csv.reader(io.StringIO(text, newline="")):
        assert not any(cell.startswith(tuple("=+@\t\r＝")) for cell in cells)
        assert not any(cell.startswith("-") and cell != "-5" for cell in cells)


def test_a_line_is_the_one_that_the_row_begins_in() -> None:
    text = as_table(",")([row("two\nlines", "x"), row("other", "y")])
    assert [one.line for one in table.returned(text)] == [2, 4]
    with pytest.raises(ValueError, match="line 4: a cell's quote is never closed"):
        list(table.returned(text.rstrip()[:-1]))


def test_columns_may_be_moved_and_added_and_saved_with_other_signs() -> None:
    reader = csv.DictReader(io.StringIO(as_table(",")([row("a, b", "c; d")]), newline=""))
    made = io.StringIO()
    writer = csv.DictWriter(made, ["note", *sorted(COLUMNS)], delimiter=";", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({"note": "", **cells} for cells in reader)
    (found,) = table.returned(made.getvalue())
    assert (found.source, found.answer) == ("a, b", "c; d")
    assert read(found.key, found.source)[0].known == KEY.known


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "it is empty"),
        ("a,b\n", "no column named source"),
        ("source,source,answer,key\n", "several columns named source"),
        ("source,answer,key\na\n", "line 2: the row has 1 cells"),
    ],
)
def test_what_is_no_review_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        list(table.returned(text))


@pytest.mark.parametrize(
    ("tag", "head"), [("de", b"Language: de\\n"), ("pt-BR", b"Language: pt_BR\\n"), ("tlh", b"Language: tlh\\n")]
)
def test_a_catalogue_says_its_language(tag: str, head: bytes) -> None:
    assert head in b"".join(catalogue.written([], tag))
    assert b"Language: " not in b"".join(catalogue.written([]))


@pytest.mark.parametrize("text", ['msgid "a"\n', "msgid nothing\n", 'msgid "a"\nmsgid_plural "b"\nmsgstr[0] "c"\n'])
def test_a_damaged_catalogue_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (babel's words)
        list(catalogue.returned(text))


def test_two_entries_of_one_piece_are_both_seen() -> None:
    text = as_catalogue([row("a", "b")])
    twice = text + text[text.index("msgctxt") :].replace('msgstr "b"', 'msgstr "c"')
    assert [one.answer for one in catalogue.returned(twice)] == ["b", "c"]


def test_a_key_knows_its_source_and_every_other_change() -> None:
    cell = spell(KEY, "source", "answer")
    assert read(cell, " source\r\n")[0] == KEY  # what a spreadsheet does to line ends is no change
    for changed in (cell[:-1], cell[:10] + ("A" if cell[10] != "A" else "B") + cell[11:], cell.lower(), "", "r1", "x"):
        with pytest.raises(ValueError, match="key"):
            read(changed, "source")
    with pytest.raises(ValueError, match="do not belong together"):
        read(cell, "another source")
