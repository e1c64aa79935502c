"""Folders among the inputs: which files are documents, and where they go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.program import Outcome

Call = Callable[..., Outcome]
ECHO = ("run", "{text}", "--engine", "echo", "-q")
FILES = {
    "index.md": b"# One\n",
    "a/index.md": b"# Two\n",
    "a/b/film.srt": b"1\n00:00:01,000 --> 00:00:02,000\nThree.\n",
    "a/notes.txt": b"Four.\n",
    "a/logo.png": b"\x89PNG\r\n\x1a\n\0",
    "data.csv": b"id,text\n1,Five.\n",
    ".git/config.md": b"# None\n",
    "a/.hidden.md": b"# None\n",
    "setup.py": b"import os\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "docs"


def written(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def taken(*names: str) -> dict[str, bytes]:
    return {name: FILES[name] for name in names}


DOCUMENTS = ("index.md", "a/index.md", "a/b/film.srt", "a/notes.txt")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), DOCUMENTS),
        (("--column", "text"), (*DOCUMENTS, "data.csv")),
        (("--exclude", "*.srt", "--exclude", "a/notes*"), ("index.md", "a/index.md")),
        (("--include", "*.md"), ("index.md", "a/index.md")),
        (("--include", "a/*", "--exclude", "*.png"), ("a/index.md", "a/b/film.srt", "a/notes.txt")),
        (("--copy-others",), (*DOCUMENTS, "a/logo.png", "data.csv", "setup.py")),
    ],
)
def test_a_tree_keeps_its_shape(
    options: tuple[str, ...], names: tuple[str, ...], tree: Path, tmp_path: Path, llmpar: Call
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    outcome = llmpar(*ECHO, *options, "--output-dir", str(out), str(tree))
    assert outcome.code == 0, outcome.err
    assert written(out) == taken(*names)
    again = llmpar(*ECHO, *options, "--output-dir", str(out), str(tree))
    assert (again.code, written(out)) == (0, taken(*names))


def test_the_output_may_be_inside(tree: Path, llmpar: Call) -> None:
    (tree / "out").mkdir()
    for _ in range(2):
        assert llmpar(*ECHO, "--output-dir", str(tree / "out"), str(tree)).code == 0
        assert written(tree / "out") == taken(*DOCUMENTS)


def test_in_the_order_of_names_to_stdout(tree: Path, llmpar: Call) -> None:
    assert llmpar(*ECHO, "--include", "*.md", str(tree)).out == b"# One\n# Two\n"
    assert llmpar("split", "--include", "*.md", str(tree), stdin=b"").out == b"One\nTwo\n"
    assert llmpar(*ECHO, "--in-place", "--include", "*.md", str(tree)).code == 0


def test_what_cannot_be_meant(tree: Path, tmp_path: Path, llmpar: Call) -> None:
    (tmp_path / "empty").mkdir()
    outcome = llmpar(*ECHO, str(tmp_path / "empty"))
    assert (outcome.code, "is a directory in which no file is a document" in outcome.err) == (66, True), outcome.err
    assert llmpar(*ECHO, "--copy-others", str(tree)).code == 2
    (tmp_path / "out").mkdir()
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.md").write_text("# Other\n")
    outcome = llmpar(*ECHO, "--output-dir", str(tmp_path / "out"), str(tree), str(other))
    assert outcome.code == 2, outcome.err
    assert written(tmp_path / "out") == {}


def test_nothing_leads_out_of_the_directory(tree: Path, tmp_path: Path, llmpar: Call) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "a").symlink_to(elsewhere)
    assert llmpar(*ECHO, "--copy-others", "--output-dir", str(out), str(tree)).code == 73
    assert written(elsewhere) == {}
    (out / "a").unlink()
    (tree / "c").mkdir()
    (tree / "c" / "logo.png").write_bytes(b"\x89PNG")
    (out / "c").symlink_to(elsewhere)
    outcome = llmpar(*ECHO, "--copy-others", "--output-dir", str(out), str(tree))
    assert (outcome.code, written(elsewhere)) == (73, {}), outcome.err


def test_a_folder_is_not_copied_onto_itself(tree: Path, llmpar: Call) -> None:
    before = written(tree)
    outcome = llmpar(*ECHO, "--copy-others", "--output-dir", str(tree), str(tree / "a"), str(tree))
    assert outcome.code != 0, outcome.err
    assert written(tree) == before
