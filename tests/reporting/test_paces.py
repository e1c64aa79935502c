"""Which of the runs that are remembered foretells another."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from llmpar.reporting.pace import Machine, Pace
from llmpar.reporting.paces import file_of_paces, recall, recall_most, remember

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
    for job, again in (("a job", 1.0), ("a second", 4.0), ("a job", 1.2)):
        remember(replace(_USUAL, job=job, read_again=again, num_read=300, num_written=300))
    same, other = recall(_MACHINE, "a second", 300, 300), recall(_MACHINE, "another", 300, 300)
    assert same is not None
    assert other is not None
    assert (same.read_again, other.read_again) == (4.0, 1.2), "its own; the middle one of all"
    both = recall(_MACHINE, "a job", 300, 300)
    assert both is not None
    assert both.read_again == pytest.approx(1.1), "of two alike"


def test_a_trial_and_the_rest_are_taken_together() -> None:
    """The answers that join others come with the rest, and are asked for again more often than pieces."""
    trial = replace(_USUAL, num_read=600, num_written=200, written_again=1.0, reading=2.0, num_drawn=16, length=4.0)
    rest = replace(_USUAL, num_read=600, num_written=200, written_again=1.6, reading=4.0, num_drawn=16, length=5.0)
    far = replace(_USUAL, num_read=90_000, num_written=9000, written_again=9.0, num_drawn=999)
    for pace in (far, trial, rest):
        remember(pace)
    found = recall(_MACHINE, "a job", 1200, 400)
    assert found is not None
    assert (found.num_read, found.num_written, found.num_drawn) == (1200, 400, 32)
    assert found.written_again == pytest.approx(1.3)
    assert (found.reading, found.length) == (3.0, 4.5)
    assert found.spread == pytest.approx((1.0 + 0.25) ** 0.5), "each run's own, and how far apart they are"


def test_no_more_than_a_few_runs_are_taken_together() -> None:
    for reading in (100.0, 1.0, 2.0, 3.0, 4.0):
        remember(replace(_USUAL, num_read=600, num_written=200, reading=reading))
    found = recall(_MACHINE, "a job", 600, 200)
    assert found is not None
    assert found.reading == 2.5, "the last ones"


@pytest.mark.parametrize("number", ["Infinity", "1e200", "9" * 400, "-1", "NaN", "null"])
def test_what_damage_has_made_of_a_figure_foretells_nothing(number: str) -> None:
    good = replace(_USUAL, num_read=600, num_written=200)
    remember(good)
    line = file_of_paces().read_text()
    for name in ("num_read", "num_written", "length", "reading"):
        damaged = json.loads(line) | {name: "here"}
        file_of_paces().write_text(json.dumps(damaged).replace('"here"', number) + "\n" + line)
        assert recall(_MACHINE, "a job", 600, 200) == recall_most(_MACHINE, "a job", 600) == good


@pytest.mark.parametrize("damage", [b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"[1]\n5\nnull\n"])
def test_lines_that_are_none_are_passed_over(damage: bytes) -> None:
    remember(replace(_USUAL, num_read=600, num_written=200))
    file_of_paces().write_bytes(damage + file_of_paces().read_bytes() + damage)
    remember(replace(_USUAL, job="another", num_read=600, num_written=200))
    for job in ("a job", "another"):
        found = recall(_MACHINE, job, 600, 200)
        assert found is not None
        assert found.job == job
