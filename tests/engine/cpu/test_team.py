"""Workers that help one another: no bit of a result changes, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.engines import collected
from support.pinned_answers import made

from llmpar.engine.build import build_engine
from llmpar.engine.cpu import team
from llmpar.engine.cpu.compiled import kernel
from llmpar.engine.cpu.decoder import Decoder, Pass, Tokens
from llmpar.engine.cpu.model import CpuModel
from llmpar.engine.cpu.precision import PRECISIONS
from llmpar.engine.cpu.team import ALONE, Seat, help_others, make_board, part, share
from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.request import SamplingParams

Board = npt.NDArray[np.int64]


@contextmanager
def helped(board: Board, most: int = 1) -> Iterator[list[bool]]:
    """Let a thread help those on the other seats of a board; the list is filled when it has."""
    done: list[bool] = []
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            if help_others(board, len(board) - 1, most):
                done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        ended.set()
        thread.join(30)
        assert not thread.is_alive(), "a helper hangs"


def computed(decoder: Decoder, seat: Seat) -> tuple[Any, ...]:
    """Return hidden states and next tokens of 40 tokens of one sequence and 9 of another."""
    keys, values = decoder.make_pages(8)
    work = Pass(decoder, 64, keys, values, seat)
    positions = np.concatenate([np.arange(40), np.arange(9)]).astype(np.int32)
    rows = np.repeat(np.array([0, 1], np.int32), [40, 9])
    tables = np.arange(8, dtype=np.int32).reshape(2, 4)
    hidden = work.forward(Tokens((positions * 7 % 500).astype(np.int32), positions, rows, tables))
    ids, scores, _ = work.likeliest(hidden.copy())
    return hidden.tobytes(), ids.tolist(), scores.tobytes(), keys.tobytes(), values.tobytes()


@pytest.mark.parametrize("name", PRECISIONS)
def test_help_changes_no_bit(name: PrecisionName) -> None:
    decoder, board = made(name), make_board(3)
    alone = computed(decoder, ALONE)
    with helped(board) as done:
        until = time.monotonic() + 60
        while len(done) < 3 and time.monotonic() < until:
            assert computed(decoder, (board, 0)) == alone
            assert computed(decoder, (board, 1)) == alone
            board[:2, team._WITHOUT] = 0  # whatever else this machine does
    assert len(done) >= 3, "nobody helped"


def test_two_workers_and_two_helpers() -> None:
    decoder, board = made("int8"), make_board(4)
    alone, found = computed(decoder, ALONE), []

    def work(seat: int) -> None:
        found.extend(computed(decoder, (board, seat)) == alone for _ in range(10))

    workers = [threading.Thread(target=work, args=(seat,)) for seat in range(2)]
    with helped(board, 2), helped(board[:], 2):
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
    assert found == [True] * 20


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (4, 1), (3, 8)])
def test_an_engine_answers_the_same_with_idle_workers(workers: int, batch: int) -> None:
    asked = [[5, 9, 300, 7], [11] * 50]
    engine = build_engine([CpuModel(made("int8"))], 256, frozenset({2}), workers, batch, ())
    found = collected(engine, asked, SamplingParams(24))
    engine = build_engine([CpuModel(made("int8"))], 256, frozenset({2}), 1, 1, ())
    assert found == collected(engine, asked, SamplingParams(24))


def test_no_more_help_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    board = make_board(2)
    board[0, team._FREE] = 1  # as if another helped
    begun = time.monotonic()
    assert not help_others(board, 1, 1)
    assert board[0, team._FREE] == 1
    assert time.monotonic() - begun < 5


@part
def _squares(begin: Any, end: Any, x: Any, out: Any) -> None:
    for k in range(begin, end):
        out[k] = x[k] * x[k]


@part
def _greedy(begin: Any, end: Any, size: Any, out: Any) -> None:
    for k in range(begin, end):
        out[k] = np.empty(size, np.float64)[0]


@kernel
def _squared(seat: Any, x: Any, out: Any, grain: Any) -> Any:
    return share(seat, len(x), grain, _squares, (x, out))


@kernel
def _is_out_of_memory(seat: Any, size: Any, out: Any) -> Any:
    return share(seat, len(out), 1, _greedy, (size, out))


def test_each_item_is_computed_once_whatever_the_grain() -> None:
    x, board = np.arange(1000.0), make_board(2)
    with helped(board):
        for grain in (1, 3, 7, 1000, 5000):
            out = np.full(1000, -1.0)
            assert not _squared((board, 0), x, out, grain)
            assert np.array_equal(out, x * x)


@pytest.mark.parametrize("seat", [ALONE, (make_board(2), 0)], ids=["alone", "helped"])
def test_memory_that_runs_out_is_told_by_whoever_helps(seat: Seat) -> None:
    with helped(seat[0] if len(seat[0]) else make_board(2)):
        assert _is_out_of_memory(seat, 1 << 60, np.zeros(4))
        assert not _is_out_of_memory(seat, 10, np.zeros(4))


def test_who_waited_too_often_goes_without_help_for_a_while() -> None:
    x, board = np.arange(64.0), make_board(2)
    out = np.empty(64)
    board[0, team._WITHOUT] = 5
    with helped(board) as done:
        while not board[0, team._FREE]:
            time.sleep(0.001)
        for _ in range(5):
            _squared((board, 0), x, out, 1)
        assert board[0, team._WITHOUT] == 0
        assert not done
        assert board[0, team._COUNT] == 0, "nothing was posted"
        until = time.monotonic() + 60
        while not board[0, team._COUNT] and time.monotonic() < until:
            _squared((board, 0), x, out, 1)
    assert board[0, team._COUNT] == 64
