"""Jobs that nobody watches: dated records that are added to, failures that are said to be old, the readme's line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from support.places import ROOT
from support.program import Outcome

Call = Callable[..., Outcome]
ECHO = ("run", "{text}", "--engine", "echo", "-u", "line", "-q")
RECIPE = re.search(r"^ +0 2 \* \* \* (.*)$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_have_dates(llmpar: Call, tmp_path: Path) -> None:
    before = datetime.now().astimezone().replace(microsecond=0)
    llmpar(*ECHO, "--log", str(tmp_path / "log"), stdin=b"One.\n")
    (record,) = records(tmp_path / "log")
    assert before <= datetime.fromisoformat(str(record["date"])) <= datetime.now().astimezone()


def test_records_begin_anew_or_are_added_to(llmpar: Call, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for options, count in (((), 1), ((), 1), (("--append",), 2), (("--append",), 3)):
        assert llmpar(*ECHO, "--log", str(log), *options, stdin=b"One.\n").code == 0
        assert len(records(log)) == count
    log.write_text(log.read_text() + '{"date": "2')  # what a killed run leaves
    assert llmpar(*ECHO, "--log", str(log), "--append", stdin=b"One.\n").code == 0
    assert [line[:9] for line in log.read_text().splitlines()] == ['{"date": '] * 5
    assert llmpar(*ECHO, "--append", stdin=b"One.\n").code == 2


@pytest.mark.parametrize("option", ["--log", "--errors"])
@pytest.mark.parametrize("append", [(), ("--append",)])
@pytest.mark.parametrize("held", ["My only copy.\n", '{"text": "My only copy."}\n'])
def test_a_file_that_holds_something_else_is_left_alone(
    llmpar: Call, tmp_path: Path, option: str, append: tuple[str, ...], held: str
) -> None:
    place = tmp_path / "notes.txt"
    place.write_text(held)
    outcome = llmpar(*ECHO, option, str(place), *append, stdin=b"One.\n")
    assert outcome.code == 73
    assert "holds something else than records" in outcome.err
    assert place.read_text() == held


def test_an_old_failure_is_said_to_be_old(llmpar: Call, tmp_path: Path) -> None:
    options = (*ECHO[:-1], "--check", "echo", "--store", str(tmp_path / "store"))
    text = b"This sentence is repeated.\n"
    first, again = (llmpar(*options, stdin=text).err.splitlines() for _ in range(2))
    reason = "llmpar run: <stdin>:1 'This sentence is repeated.': the answer repeats its source"
    assert (first[0], again[0]) == (f"{reason}; kept as it was", f"{reason} (as in an earlier run); kept as it was")
    assert again[2].endswith("as in an earlier run, and not asked again")


def test_a_failure_is_recorded_in_the_night_when_it_came(llmpar: Call, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    options = (*ECHO, "--check", "echo", "--store", str(tmp_path / "store"), "--append", "--errors", str(errors))
    text = b"This sentence is repeated.\n"
    for night, more, count in ((text, (), 1), (text, (), 1), (text + b"And so is this one.\n", (), 2), (text, (), 2)):
        assert llmpar(*options, *more, stdin=night).code == 3
        assert len(records(errors)) == count
    errors.write_text("".join(errors.read_text().splitlines(keepends=True)[1:]) + '{"date": "2')
    assert llmpar(*options, stdin=text).code == 3
    assert len(errors.read_text().splitlines()) == 3, "what is no longer there is told again"
    assert llmpar(*options, "--retry-failed", stdin=text).code == 3
    assert len(errors.read_text().splitlines()) == 4, "and what was asked again and failed again"


def test_the_line_of_the_readme(tmp_path: Path, tiny_model: Path) -> None:
    assert RECIPE
    program = tmp_path / "llmpar" / ".venv" / "bin" / "llmpar"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llmpar "$@"\n')
    program.chmod(0o700)
    mails = tmp_path / "mails"
    for directory in (mails / "new", mails / "answers"):
        directory.mkdir(parents=True)
    (mails / "new" / "a.txt").write_text("My lamp is broken.\n")
    # A crontab knows few variables, and one line is one command.
    environment = {
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), *sys.path))),
        "LLMPAR_MODEL": str(tiny_model),
        "LLMPAR_MAX_NEW_TOKENS": "5",
        "LLMPAR_STATE": str(tmp_path / "state"),
        "LLMPAR_CACHE": os.environ.get("LLMPAR_CACHE", str(tmp_path / "cache")),
        "NUMBA_CACHE_DIR": os.environ["NUMBA_CACHE_DIR"],
    }
    for night in (1, 2):
        if night == 2:
            (mails / "new" / "b.txt").write_text("Where is my parcel?\n")
        done = subprocess.run(
            ["/bin/sh", "-c", RECIPE[1]], env=environment, cwd="/", capture_output=True, timeout=120, check=False
        )
        said = (mails / "run.err").read_text()
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), said
        assert len(records(mails / "log.jsonl")) == (1 if night == 1 else 3)
        assert sorted(path.name for path in (mails / "answers").iterdir()) == ["a.txt", "b.txt"][:night]
    assert "1 from the store" in said.splitlines()[-1]
    assert (mails / "errors.jsonl").read_text() == ""
    dated = [line for line in said.splitlines() if re.search(r"\b\d\d:\d\d:\d\d\b", line)]
    assert len(dated) == 2, "each night begins with its date"
