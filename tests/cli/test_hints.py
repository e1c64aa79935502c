"""What a run tells beforehand: that lines look like pieces, and that a model is not made for what it is to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.places import ROOT
from support.program import Outcome

from llmpar.cli.hints import is_of_lines, warn_of_model
from llmpar.models.names import DEFAULT_MODEL
from llmpar.reporting.progress import Progress

Call = Callable[..., Outcome]
MESSAGES = "".join(f"My lamp number {number} is broken. Please help\n" for number in range(8))
HINT = "-u line asks about each line"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MESSAGES, True),
        ("\n".join(["Broken lamp", "Where is my chair", "Love it. Really", "Too expensive", "Nice"]), True),
        (MESSAGES.replace("\n", "\n\n"), False),
        ("".join(MESSAGES.splitlines(keepends=True)[:4]), False),
        ("\n".join(["A long line of prose. " * 40] * 8), False),
    ],
)
def test_lines_that_look_like_pieces(text: str, expected: bool) -> None:
    assert is_of_lines(text) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("messages.txt", True),
        ("article.txt", False),
        ("story.txt", False),
        ("german.txt", False),
        ("french.txt", False),
    ],
)
def test_the_samples(name: str, expected: bool) -> None:
    assert is_of_lines((ROOT / "sample_data" / name).read_text("utf-8")) is expected


def test_wrapped_prose_is_one_text() -> None:
    words = "the lamp that I bought is broken and now nobody wants to say when the other one will come to my house"
    lines = [" ".join(words.split()[start:] + words.split()[:start])[:70].rsplit(" ", 1)[0] for start in range(12)]
    assert not is_of_lines("\n".join(lines))


def test_it_is_told_one_time_where_sentences_are_asked_about(llmpar: Call, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.txt", "b.txt")]
    for path in paths:
        path.write_text(MESSAGES)
    files = list(map(str, paths))
    told = llmpar("run", "{text}", "--engine", "echo", *files).err
    assert told.count(HINT) == 1
    assert "a.txt seems to hold one text on each line" in told
    for look in (("--sample", "2"), ("--dry-run",)):
        assert HINT in llmpar("run", "{text}", "--engine", "echo", *look, *files).err, "before it costs anything"
    for more in (("-q",), ("-u", "sentence"), ("-u", "line")):
        assert HINT not in llmpar("run", "{text}", "--engine", "echo", *more, *files).err


def test_lines_that_are_pieces_anyway_need_no_hint(llmpar: Call) -> None:
    text = "".join(f"My lamp number {number} is broken.\n" for number in range(8)).encode()
    assert HINT not in llmpar("run", "{text}", "--engine", "echo", stdin=text).err


def test_the_rows_of_a_table_are_no_lines(llmpar: Call) -> None:
    table = "id,text\n" + "".join(f"{number},My lamp is broken. Why?\n" for number in range(8))
    for options in (("--column", "text"), ("--input-format", "csv", "--column", "text", "--into", "answer")):
        assert HINT not in llmpar("run", "{text}", "--engine", "echo", *options, stdin=table.encode()).err


def test_a_task_says_itself_what_a_piece_is(llmpar: Call) -> None:
    translate = ("translate", "--to", "French", "--engine", "echo")
    assert HINT not in llmpar(*translate, stdin=MESSAGES.encode()).err
    assert HINT in llmpar(*translate, "-v", stdin=MESSAGES.encode()).err


def test_the_default_model_does_not_translate() -> None:
    warning = warn_of_model("translate", DEFAULT_MODEL)
    assert warning is not None
    assert "llmpar help models" in warning
    assert warn_of_model("translate", "facebook/nllb-200-distilled-600M") is None
    assert warn_of_model("run", DEFAULT_MODEL) is None


def test_the_warning_is_for_people(llmpar: Call, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmpar.cli.hints.DEFAULT_MODEL", str(tiny_model))
    look = ("translate", "--to", "French", "-m", str(tiny_model), "--dry-run")
    assert "does not translate" not in llmpar(*look, stdin=b"One.\n").err, "a job that nobody watches is not told"
    monkeypatch.setattr(Progress, "is_watched", True)
    assert llmpar(*look, stdin=b"One.\n").err.count("does not translate") == 1
    assert llmpar(*look, "-q", stdin=b"One.\n").err == ""
