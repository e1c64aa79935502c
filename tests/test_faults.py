"""Disks that are full or broken, at every step of a run in turn; the long version is tests/attack/steps.py."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attack.program import Fake
from support.attacks import attack
from support.program import Outcome
from support.users import nobody, public_directory

Call = Callable[..., Outcome]
Shell = Callable[..., "subprocess.CompletedProcess[bytes]"]
ECHO = ("run", "--engine", "echo", "--unit", "line", "x")
TEXT = "".join(f"Line {i} of a text.\n" for i in range(2000))


@pytest.mark.parametrize("scene", ["file", "stdout", "directory", "in-place", "partial"])
def test_a_fault_at_any_step_is_told_and_leaves_nothing_half_done(scene: str) -> None:
    attack("steps", "--scenes", scene, "--every", "29", "--seed", "3")


def one_line(err: str) -> str:
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("llmpar: ")]
    assert len(lines) == 1, err
    return lines[0]


class TestFullDevice:
    """/dev/full takes nothing."""

    def test_as_stdout(self, shell: Shell, tmp_path: Path) -> None:
        for text in (TEXT, "Short."):  # noticed as it is written, or only at the end
            (tmp_path / "in").write_text(text)
            with Path("/dev/full").open("wb") as full:
                command = [sys.executable, "-m", "llmpar", *ECHO, str(tmp_path / "in")]
                outcome = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
            assert outcome.returncode == 74
            assert "stdout" in one_line(outcome.stderr.decode())

    @pytest.mark.parametrize("option", ["-o", "--log", "--errors"])
    def test_as_a_file(self, llmpar: Call, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
        Fake().install(monkeypatch.setattr)
        outcome = llmpar(*ECHO, option, "/dev/full", stdin=b"Text.\n[empty] text.\n" * 100)
        assert outcome.code == 74
        assert "/dev/full" in one_line(outcome.err)


class TestLargestFile:
    """A limit on the size of files stops the kernel's write, and no patch of ours."""

    @staticmethod
    def run(limit: int, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        command = [sys.executable, "-m", "llmpar", *ECHO, *arguments]
        return subprocess.run(command, capture_output=True, preexec_fn=limited, check=False)

    def test_met_by_the_output(self, tmp_path: Path) -> None:
        (tmp_path / "in").write_text(TEXT)
        (tmp_path / "out").write_text("old")
        outcome = self.run(20_000, "-o", str(tmp_path / "out"), str(tmp_path / "in"))
        assert outcome.returncode == 74
        assert "out: writing failed: File too large" in one_line(outcome.stderr.decode())
        assert (tmp_path / "out").read_text() == "old"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]

    @pytest.mark.parametrize("limit", [1_000, 30_000, 60_000, 150_000])
    def test_met_by_the_store(self, shell: Shell, tmp_path: Path, limit: int) -> None:
        (tmp_path / "in").write_text(TEXT)
        command = ("--store", str(tmp_path / "store"), "-o", str(tmp_path / "out"), str(tmp_path / "in"))
        outcome = self.run(limit, *command)
        assert outcome.returncode == 74
        assert "store" in one_line(outcome.stderr.decode())
        assert not (tmp_path / "out").exists()
        assert shell(*ECHO, *command).returncode == 0
        assert (tmp_path / "out").read_text() == TEXT
        assert shell("store", "verify", "--store", str(tmp_path / "store")).returncode == 0


class TestPlaces:
    """What cannot be created is known before anything is computed."""

    @pytest.fixture
    def _all_is_imported(self, llmpar: Call, tmp_path: Path) -> None:
        """Run once with all options, as another user need not be able to read Python's own library."""
        (tmp_path / "in").write_text("Text.")
        files = [f"--{option}={tmp_path / option}" for option in ("output", "log", "errors", "store")]
        assert llmpar(*ECHO, *files, str(tmp_path / "in")).code == 0
        assert llmpar(*ECHO, "--output-dir", str(tmp_path / "missing"), str(tmp_path / "in")).code == 73

    @pytest.fixture(autouse=True)
    def _no_engine(self, _all_is_imported: None, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(*_: object) -> None:
            raise AssertionError("an engine was made")

        monkeypatch.setattr("llmpar.answering.echo.Echo.open", never)

    @pytest.fixture
    def furnished(self) -> Iterator[Path]:
        """A directory that another user may enter, with a file and two directories."""
        with public_directory() as directory:
            (directory / "file").touch()
            (directory / "directory").mkdir()
            (directory / "readonly").mkdir(mode=0o555)
            yield directory

    @pytest.mark.parametrize("option", ["-o", "--log", "--errors"])
    @pytest.mark.parametrize("place", ["missing/out", "file/out", "readonly/out", "directory"])
    def test_of_output(self, llmpar: Call, furnished: Path, option: str, place: str) -> None:
        with nobody():
            outcome = llmpar(*ECHO, option, str(furnished / place), stdin=b"Text.")
        assert outcome.code == 73, outcome.err
        assert place in one_line(outcome.err)

    @pytest.mark.parametrize("place", ["missing", "file", "readonly"])
    def test_of_outputs(self, llmpar: Call, furnished: Path, place: str) -> None:
        with nobody():
            outcome = llmpar(*ECHO, "--output-dir", str(furnished / place), str(furnished / "file"))
        assert outcome.code == 73, outcome.err
        assert place in one_line(outcome.err)

    @pytest.mark.parametrize("place", ["missing/store", "file/store", "readonly/store", "directory"])
    def test_of_the_store(self, llmpar: Call, furnished: Path, place: str) -> None:
        with nobody():
            outcome = llmpar(*ECHO, "--store", str(furnished / place), stdin=b"Text.")
        assert (outcome.code, outcome.out) == (74, b"")
        assert place in one_line(outcome.err)


def test_documents_may_come_late(llmpar: Call, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("One.")
    os.mkfifo(tmp_path / "b")
    (tmp_path / "done").mkdir()
    late = threading.Timer(0.4, lambda: (tmp_path / "b").write_text("Two."))
    late.start()
    outcome = llmpar(*ECHO, "--output-dir", str(tmp_path / "done"), str(tmp_path / "a"), str(tmp_path / "b"))
    late.join()
    assert outcome.code == 0
    assert {path.name: path.read_text() for path in (tmp_path / "done").iterdir()} == {"a": "One.", "b": "Two."}
