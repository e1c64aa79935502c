"""What is kept goes on request: all, with a question; or what is about some documents, and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from support.program import Outcome

from llmpar.cli import store as store_command
from llmpar.store.store import Store

Call = Callable[..., Outcome]
LETTER = "My secret is blue. It stands in the second drawer.\n\nNobody else knows of it.\n"
OTHER = "The weather is fine. The boats go out at noon.\n"


@pytest.fixture
def run(llmpar: Call, tmp_path: Path) -> Callable[..., None]:
    """Asks about files, and keeps what is said in one store."""

    def asked(*arguments: str, command: tuple[str, ...] = ("run", "Say: {text}")) -> None:
        outcome = llmpar(*command, "--engine", "echo", "--store", str(tmp_path / "store"), "-q", "--", *arguments)
        assert outcome.code == 0, outcome.err

    return asked


def texts(tmp_path: Path) -> list[str]:
    return sorted(str(text) for _, _, text, _ in Store(tmp_path / "store").texts())


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    for name, text in (("letter.txt", LETTER), ("other.txt", OTHER)):
        (tmp_path / name).write_text(text)
    return str(tmp_path / "letter.txt"), str(tmp_path / "other.txt")


@pytest.mark.parametrize(
    "command",
    [
        ("run", "Say: {text}"),
        ("run", "Say: {text}", "-u", "paragraph"),
        ("run", "Say: {text}", "-u", "document"),
        ("run", "Say: {text}", "-u", "line", "--max-new-tokens", "9"),
        ("translate", "--to", "German", "--context", "1", "--check", "none"),
        ("summarize",),
    ],
)
def test_answers_about_a_document_are_forgotten(
    llmpar: Call, run: Callable[..., None], files: tuple[str, str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    letter, other = files
    run(other, command=command)
    kept = texts(tmp_path)
    assert kept
    run(letter, command=command)
    assert len(texts(tmp_path)) > len(kept)
    outcome = llmpar("store", "forget", "--store", str(tmp_path / "store"), letter)
    assert outcome.code == 0
    assert texts(tmp_path) == kept
    assert Store(tmp_path / "store").verify() == []
    data = b"".join(path.read_bytes() for path in tmp_path.glob("store*"))
    assert b"secret" not in data, "what is deleted is gone"
    assert b"weather" in data
    assert Path(letter).read_text() == LETTER


def test_answers_over_answers_go_with_them(llmpar: Call, run: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("".join(f"Paragraph {i} tells of case {i}.\n\n" for i in range(40)))
    run(str(tmp_path / "long.txt"), command=("run", "{text}", "-u", "paragraph", "--reduce", "Join: {text}"))
    assert len(texts(tmp_path)) > 40
    llmpar("store", "forget", "--store", str(tmp_path / "store"), str(tmp_path / "long.txt"))
    assert texts(tmp_path) == []


def test_without_texts_hashes_tell(llmpar: Call, files: tuple[str, str], tmp_path: Path) -> None:
    letter, _ = files
    store = ("--store", str(tmp_path / "store"))
    for file in files:
        llmpar("run", "Say {text}", "--engine", "echo", "--no-store-text", *store, "-q", file)
    outcome = llmpar("store", "forget", *store, letter)
    assert outcome.out == b"deleted 3 answers\n"
    assert "2 others are kept without their texts" in outcome.err


def test_fields_of_records(llmpar: Call, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,comment\nAnn,The lamp is broken.\nBob,All is well here.\n")
    store = ("--store", str(tmp_path / "store"))
    command = ("run", "To {name}: {text}", "--engine", "echo", "--column", "comment", *store, "-q")
    assert llmpar(*command, str(tmp_path / "a.csv")).code == 0
    outcome = llmpar("store", "forget", *store, "--column", "comment", str(tmp_path / "a.csv"))
    assert outcome.out == b"deleted 2 answers\n"


def test_a_missing_file_forgets_nothing(llmpar: Call, run: Callable[..., None], files: tuple[str, str]) -> None:
    run(*files)
    place = str(Path(files[0]).parent / "store")
    assert llmpar("store", "forget", "--store", place, files[0], "none.txt").code == 66
    with sqlite3.connect(place) as connection:
        assert connection.execute("SELECT count(*) FROM answers").fetchone() == (5,)


@pytest.mark.parametrize(("options", "asks"), [((), True), (("--yes",), False), (("--older-than", "1"), False)])
def test_a_purge_of_all_asks(
    llmpar: Call,
    run: Callable[..., None],
    files: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    asks: bool,
) -> None:
    run(*files)
    asked: list[str] = []
    monkeypatch.setattr(store_command, "agrees", lambda question, **_: asked.append(question) is not None)
    place = str(Path(files[0]).parent / "store")
    outcome = llmpar("store", "purge", "--store", place, *options)
    assert asked == (["delete all 5 answers?"] if asks else [])
    assert outcome.code == (2 if asks else 0)
    assert Store(Path(place)).info().num_answers == (0 if options == ("--yes",) else 5)


def test_a_purge_of_all_is_refused_where_nobody_can_be_asked(
    llmpar: Call, run: Callable[..., None], files: tuple[str, str]
) -> None:
    run(*files)
    place = str(Path(files[0]).parent / "store")
    outcome = llmpar("store", "purge", "--store", place)
    assert (outcome.code, outcome.out) == (2, b"")
    assert "nothing was deleted" in outcome.err
    assert Store(Path(place)).info().num_answers == 5
