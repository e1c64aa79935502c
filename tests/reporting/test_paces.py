"""Which of the runs that are remembered foretells another."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from llmpar.reporting.pace import Machine, Pace
from llmpar.reporting.paces import recall, remember

_MACHINE = Machine("a", "cpu", "int8", None, None)
_USUAL = Pace(**{field.name: 1.0 for field in fields(Pace)} | {"machine": _MACHINE, "job": "a job", "start": 0.9})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMPAR_STATE", str(tmp_path))


def test_a_run_that_compiled_first_foretells_no_other() -> None:
    remember(replace(_USUAL, start=20.0, num_read=9000, num_written=9000))
    first = recall(_MACHINE, "another", 9000, 9000)
    assert first is not None, "better than nothing"
    remember(replace(_USUAL, num_read=300, num_written=300))
    found = recall(_MACHINE, "another", 9000, 9000)
    assert found is not None
    assert found.start == 0.9


def test_how_often_another_job_asks_again_is_what_is_usual() -> None:
    for again in (1.0, 4.0, 1.2):
        remember(replace(_USUAL, read_again=again, num_read=300, num_written=300))
    same, other = recall(_MACHINE, "a job", 300, 300), recall(_MACHINE, "another", 300, 300)
    assert same is not None
    assert other is not None
    assert (same.read_again, other.read_again) == (1.2, 1.2), "the last of the same job; the middle one of all"
    remember(replace(_USUAL, read_again=4.0, num_read=300, num_written=300))
    remember(replace(_USUAL, job="a third", read_again=1.0, num_read=300, num_written=300))
    same, other = recall(_MACHINE, "a job", 300, 300), recall(_MACHINE, "another", 300, 300)
    assert same is not None
    assert other is not None
    assert (same.read_again, other.read_again) == (4.0, 1.2)
