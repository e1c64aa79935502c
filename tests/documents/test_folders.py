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


def test_a_rerun_touches_only_what_changed(tree: Path, tmp_path: Path, llmpar: Call) -> None:
    out = tmp_path / "out"
    out.mkdir()
    command = (*ECHO, "--copy-others", "--output-dir", str(out), str(tree))
    assert llmpar(*command).code == 0
    places = [path for path in sorted(out.rglob("*")) if path.is_file()]

    def states() -> list[tuple[int, int]]:
        return [(path.stat().st_ino, path.stat().st_mtime_ns) for path in places]

    before = states()
    assert llmpar(*command).code == 0
    assert states() == before
    (tree / "index.md").write_text("# Won\n")  # as long as before
    (tree / "a" / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n\1")
    (out / "a" / "notes.txt").chmod(0o600)
    assert llmpar(*command).code == 0
    changed = [path for path, was, now in zip(places, before, states(), strict=True) if was != now]
    assert [path.relative_to(out).as_posix() for path in changed] == ["a/logo.png", "index.md"]
    assert (out / "index.md").read_bytes() == b"# Won\n"
    assert not [path for path in out.rglob(".*") if path.is_file()]


def test_what_git_ignores_is_left_out_on_request(tree: Path, tmp_path: Path, llmpar: Call) -> None:
    (tree / ".gitignore").write_text("*.txt\n/data.csv\nbuild/\n")
    (tree / "a" / ".gitignore").write_text("!notes.txt\nb/film.*\n# index.md\n")
    (tree / "build").mkdir()
    (tree / "build" / "x.md").write_text("# No\n")
    (tree / "x.txt").write_text("No.\n")
    (tree.parent / ".gitignore").write_text("index.md\n")  # of no repository
    for below, names in ((tree, ("index.md", "a/index.md", "a/notes.txt")), (tree / "a", ("index.md", "notes.txt"))):
        out = tmp_path / f"out-{below.name}"
        out.mkdir()
        outcome = llmpar(*ECHO, "--gitignore", "--copy-others", "--output-dir", str(out), str(below))
        assert outcome.code == 0, outcome.err
        assert {name for name in written(out) if not name.endswith((".png", ".py"))} == set(names)
    outcome = llmpar("split", str(tree), stdin=b"")
    assert b"No" in outcome.out


def test_above_the_folder_the_repository_counts(tree: Path, tmp_path: Path, llmpar: Call) -> None:
    (tree / ".gitignore").write_text("notes.txt\n")
    assert (tree / ".git").is_dir()
    assert llmpar("split", "--gitignore", str(tree / "a"), stdin=b"").out == b"Two\nThree.\n"
    (tree / "a" / "index.md").unlink()
    (tree / "a" / "b" / "film.srt").unlink()
    assert llmpar("split", "--gitignore", str(tree / "a"), stdin=b"").code == 66


def test_patterns_of_paths(tree: Path, tmp_path: Path, llmpar: Call) -> None:
    out = tmp_path / "out"
    out.mkdir()
    outcome = llmpar(*ECHO, "--output-dir", str(out), str(tree / "**" / "*.md"), str(tree / "a" / "n?tes.txt"))
    assert outcome.code == 0, outcome.err
    assert written(out) == {
        "index.md": FILES["index.md"],
        "a/index.md": FILES["a/index.md"],
        "notes.txt": FILES["a/notes.txt"],
    }
    outcome = llmpar(*ECHO, "--exclude", "a/*", str(tree / "**" / "*.md"))
    assert outcome.out == b"# One\n"
    outcome = llmpar(*ECHO, str(tree / "*.rst"))
    assert (outcome.code, "no file matches" in outcome.err) == (66, True), outcome.err
    (tree / "[x].md").write_bytes(b"# Named so\n")
    assert llmpar(*ECHO, str(tree / "[x].md")).out == b"# Named so\n"


def test_files_are_told_one_by_one(tmp_path: Path, llmpar: Call) -> None:
    for number in range(25):
        (tmp_path / f"{number:02}.jsonl").write_text(
            '{"text": "One."}\n{"text": null}\n' if number else '{"text": "One."}\n'
        )
    outcome = llmpar("run", "{text}", "--engine", "echo", "-v", str(tmp_path))
    assert outcome.code == 3
    lines = outcome.err.splitlines()
    assert f"llmpar: {tmp_path}/00.jsonl: 1 piece" in lines
    assert f"llmpar: {tmp_path}/24.jsonl: 2 pieces, 1 failed" in lines
    summary = lines[lines.index(f"  {tmp_path}/01.jsonl: 1 of 2 pieces failed") - 1 :]
    assert summary[0].startswith("llmpar run: 49 pieces of 25 documents, 24 failed")
    assert [*summary[20:]] == [f"  {tmp_path}/20.jsonl: 1 of 2 pieces failed", "  and in 4 other documents"]
    quiet = llmpar("run", "{text}", "--engine", "echo", str(tmp_path / "01.jsonl"))
    assert "of 2 pieces failed" not in quiet.err
