"""How long work takes follows from what its passes took, whatever the work that they were measured on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from llmpar.engine.worker import Timing, WorkerStatus
from llmpar.reporting.pace import Level, Machine, Pace, Work, measured

_MACHINE = Machine("a", "cpu", "int8", None, None)
_READ, _ROW, _STEP = 0.001, 0.002, 0.01  # seconds


def _worker(num_read: int, rows: Sequence[int], num_done: int = 0) -> WorkerStatus:
    """Return a worker that has read so much, and then written with so many rows in its steps."""
    timing = Timing(reading=num_read * _READ)
    for number in rows:
        timing.add_step(number, _STEP + _ROW * number)
    return WorkerStatus(num_read=num_read, num_tokens=sum(rows), num_done=num_done, timing=timing)


def _pace(*workers: WorkerStatus, tokens: tuple[int, int] | None = None) -> Pace:
    came = sum(worker.num_read for worker in workers), sum(worker.num_tokens for worker in workers)
    pace = measured(_MACHINE, "", 0.0, tokens or came, workers)
    assert pace
    return pace


def test_what_a_row_and_a_step_take_is_told_apart() -> None:
    pace = _pace(_worker(500, [8] * 20 + [1] * 30), _worker(500, [6] * 20))
    assert (pace.reading, pace.writing, pace.step) == pytest.approx((_READ, _ROW, _STEP))
    assert (pace.num_workers, pace.read_again, pace.written_again, pace.num_rows) == (2, 1.0, 1.0, 0)


def test_steps_that_are_all_alike_are_divided_as_usual() -> None:
    pace = _pace(_worker(1000, [10] * 50))
    assert 10 * pace.writing + pace.step == pytest.approx(_STEP + 10 * _ROW)
    assert pace.writing > 0 < pace.step


def test_a_short_trial_foretells_a_full_batch() -> None:
    """What a token took in a trial of few rows was three times as much as it takes among many."""
    pace = _pace(_worker(1000, [8, 8, 8, 4, 2, 1, 1]))
    work = Work([Level(64, 6400, 64 * 50)])
    truth = 6400 * _READ + 50 * (_STEP + 64 * _ROW)
    assert pace.expected(work) == pytest.approx(truth, rel=0.01)


def test_levels_come_one_by_one() -> None:
    pace = _pace(_worker(1000, [8] * 20 + [1] * 20))
    level = Level(8, 800, 400)
    assert pace.expected(Work([level] * 3)) == pytest.approx(3 * pace.expected(Work([level])))


def test_what_was_asked_again_will_be_asked_again() -> None:
    workers = _worker(1500, [8, 4, 2, 1] * 20)
    once, again = _pace(workers, tokens=(1500, 300)), _pace(workers, tokens=(1000, 200))
    assert (again.read_again, again.written_again) == pytest.approx((1.5, 1.5))
    work = Work([Level(1, 800, 400)])
    assert again.expected(work) == pytest.approx(1.5 * once.expected(work))


def test_the_longest_answer_is_waited_for() -> None:
    pace = _pace(_worker(1000, [8, 4, 2, 1] * 20))
    levels = [Level(64, 6400, 6400)]
    more = pace.expected(Work(levels, spread=30)) - pace.expected(Work(levels))
    assert 2 * 30 * _STEP < more < 4 * 30 * _STEP


def test_what_has_no_room_takes_turns() -> None:
    full = _pace(_worker(1000, [8] * 100 + [1] * 20, num_done=100))
    assert full.num_rows == 8
    work = Work([Level(80, 0, 80 * 10)])
    assert full.expected(work) == pytest.approx(10 * 10 * (_STEP + 8 * _ROW))


def test_who_was_not_timed_has_no_pace() -> None:
    assert measured(_MACHINE, "", 0.0, (1000, 500), [WorkerStatus(num_read=1000, num_tokens=500)]) is None
    assert measured(_MACHINE, "", 0.0, (0, 0), [_worker(10, [1])]) is None
