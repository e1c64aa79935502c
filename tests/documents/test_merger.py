"""What is made of answers: lines, records, tables, answers below their sources; each parsed back."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support.places import SAMPLES
from support.program import Outcome

Call = Callable[..., Outcome]
_UNTOUCHED = re.compile(r"\A'(?='*[=+\-@\t\r＝＋－＠])")  # what a table puts before a cell that begins like a formula
TEXT = 'One is short. Two is "longer", with a comma.\n\n- Three\n  goes on.\n'


def run(llmpar: Call, *options: str, stdin: str = TEXT) -> str:
    outcome = llmpar("run", "{text}", "--engine", "echo", "-q", *options, stdin=stdin.encode())
    assert outcome.code == 0, outcome.err
    return outcome.out.decode()


def test_lines(llmpar: Call) -> None:
    assert run(llmpar, "--merge", "lines") == 'One is short.\nTwo is "longer", with a comma.\nThree goes on.\n'


def test_records(llmpar: Call) -> None:
    records = [json.loads(line) for line in run(llmpar, "--merge", "jsonl").splitlines()]
    assert [record["answer"] for record in records] == [
        "One is short.",
        'Two is "longer", with a comma.',
        "Three goes on.",
    ]
    last = records[-1]
    assert TEXT[last["start"] : last["end"]] == "Three\n  goes on."
    assert {key: last[key] for key in ("document", "index", "line", "source", "finish_reason", "error")} == {
        "document": "<stdin>",
        "index": 2,
        "line": 3,
        "source": "Three goes on.",
        "finish_reason": "stop",
        "error": None,
    }


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_tables_and_records_say_the_same(llmpar: Call, path: Path) -> None:
    outcome = llmpar("run", "{text}", "--engine", "echo", "-q", "--merge", "csv", str(path))
    rows = list(csv.DictReader(io.StringIO(outcome.out.decode("utf-8"), newline="")))
    outcome = llmpar("run", "{text}", "--engine", "echo", "-q", "--merge", "jsonl", str(path))
    records = [json.loads(line) for line in outcome.out.decode().split("\n") if line]
    for row, record in zip(rows, records, strict=True):
        cells = {key: re.sub(r"^'(?='*[=+@-])", "", cell) for key, cell in row.items()}  # as the README tells programs
        assert cells == {key: "" if record[key] is None else str(record[key]) for key in row}
        assert record["source"] == record["answer"]


@pytest.mark.parametrize("ending", ["\r", "\n", "\r\n"])
def test_a_line_ending_in_a_cell_ends_no_row(llmpar: Call, ending: str) -> None:
    cell = f"One{ending}two."
    asked = ("run", "{text}", "--engine", "echo", "-q", "--field", "text", "--merge", "csv")
    table = llmpar(*asked, "--columns", "source,answer", stdin=json.dumps({"text": cell}).encode()).out.decode()
    assert f'"{cell}","{cell}"' in table


def test_a_table_has_one_head_or_one_in_each_file(llmpar: Call, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"{name} says.\n")
    names = [str(tmp_path / name) for name in ("a.txt", "b.txt")]
    assert run(llmpar, "--merge", "csv", *names).count("document,index") == 1
    (tmp_path / "out").mkdir()
    run(llmpar, "--merge", "csv", "--output-dir", str(tmp_path / "out"), *names)
    for name in ("a.txt.csv", "b.txt.csv"):
        assert (tmp_path / "out" / name).read_text().count("document,index") == 1


def test_answers_below_their_sources(llmpar: Call) -> None:
    assert run(llmpar, "--interleave", "-u", "line", stdin="One\n\n- Two\n") == "One\nOne\n\n- Two\nTwo\n"
    assert run(llmpar, "--interleave", stdin="One. Two.\nThree.\n") == "One.\nOne.\nTwo.\nTwo.\nThree.\nThree.\n"
    assert run(llmpar, "--interleave", "--merge", "lines", stdin="One. Two.") == "One.\nOne.\n\nTwo.\nTwo.\n\n"


def test_what_fails_has_a_record_without_an_answer(llmpar: Call, tiny_model: Path) -> None:
    arguments = (
        "run",
        "{text}",
        "-u",
        "line",
        "--model",
        str(tiny_model),
        "--overflow",
        "error",
        "--max-new-tokens",
        "2",
    )
    text = f"a\n{'long ' * 300}\n".encode()
    keep = llmpar(*arguments, "--merge", "jsonl", stdin=text)
    assert keep.code == 3
    records = [json.loads(line) for line in keep.out.splitlines()]
    assert [record["error"] is None for record in records] == [True, False]
    assert records[1]["answer"] is None
    skip = llmpar(*arguments, "--merge", "jsonl", "--on-error", "skip", stdin=text)
    assert len(skip.out.splitlines()) == 1
    lines = llmpar(*arguments, "--merge", "lines", stdin=text).out.splitlines()
    assert lines[1] == b"long " * 299 + b"long"


def test_bytes_that_are_no_text_come_through(llmpar: Call) -> None:
    options = ("run", "{text}", "--engine", "echo", "-q", "--encoding-errors", "surrogateescape", "--merge")
    assert llmpar(*options, "lines", stdin=b"a \xff b\n").out == b"a \xff b\n"
    assert json.loads(llmpar(*options, "jsonl", stdin=b"a \xff b\n").out)["answer"] == "a \udcff b"


@pytest.mark.parametrize(
    "options",
    [("--merge", "jsonl", "--interleave"), ("--merge", "csv", "--in-place"), ("--merge", "lines", "--in-place=.bak")],
)
def test_what_cannot_be_meant(llmpar: Call, tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "a").write_text("A.")
    outcome = llmpar("run", "{text}", "--engine", "echo", *options, "--", str(tmp_path / "a"))
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1), outcome.err
