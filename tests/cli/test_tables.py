"""Tables and records for other programs: the columns that are wanted, a byte order mark, and what a piece is."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.program import Outcome

Call = Callable[..., Outcome]
ECHO = ("run", "{text}", "--engine", "echo", "-u", "line", "-q")


def test_columns_stand_in_the_order_that_is_named(llmpar: Call) -> None:
    table = llmpar(*ECHO, "--merge", "csv", "--columns", "answer, line,source", stdin=b"=One\nTwo\n").out.decode()
    assert list(csv.reader(io.StringIO(table))) == [
        ["answer", "line", "source"],
        ["'=One", "1", "'=One"],
        ["Two", "2", "Two"],
    ]
    lines = llmpar(*ECHO, "--merge", "jsonl", "--columns", "line,answer", stdin=b"One\n").out.decode()
    assert lines == '{"line": 1, "answer": "One"}\n'
    assert set(json.loads(llmpar(*ECHO, "--merge", "jsonl", stdin=b"One\n").out)) >= {"document", "error"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--merge", "csv", "--columns", "answer,colour"), "'colour' is no column; there are document, "),
        (("--merge", "csv", "--columns", "answer,answer"), "named twice"),
        (("--merge", "csv", "--columns", ""), "is no column"),
        (("--columns", "answer"), "--columns needs --merge csv or jsonl"),
        (("--merge", "jsonl", "--bom"), "--bom needs --merge csv"),
    ],
)
def test_what_cannot_be_meant(llmpar: Call, options: tuple[str, ...], reason: str) -> None:
    outcome = llmpar(*ECHO, *options, stdin=b"One\n")
    assert (outcome.code, outcome.out) == (2, b"")
    assert reason in outcome.err


def test_a_byte_order_mark_begins_each_table_and_no_row(llmpar: Call, tmp_path: Path) -> None:
    files = []
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"{name}\n")
        files.append(str(tmp_path / name))
    table = llmpar(*ECHO, "--merge", "csv", "--bom", *files).out
    assert table.startswith(b"\xef\xbb\xbfdocument,")
    assert table.count(b"\xef\xbb\xbf") == 1
    assert table.count(b"document,") == 1
    (tmp_path / "out").mkdir()
    assert llmpar(*ECHO, "--merge", "csv", "--bom", "--output-dir", str(tmp_path / "out"), *files).code == 0
    made = [path.read_bytes() for path in sorted((tmp_path / "out").iterdir())]
    assert [data[:12] for data in made] == [b"\xef\xbb\xbfdocument,"] * 2
    assert not llmpar(*ECHO, "--merge", "csv", files[0]).out.startswith(b"\xef")
