"""The number of requests at a time that is found for a server of known capacity, by a clock that is simulated."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable

import pytest

from llmpar.answering.endpoint.pace import Pace

MINUTE = 60.0


def simulate(
    capacity: Callable[[float], int],
    *,
    until: float = MINUTE,
    spread: float = 0.0,
    turns_away: bool = False,
    slowdown: float = 0.0,
    pace: Pace | None = None,
) -> list[tuple[float, int]]:
    """Return the levels over time, for a server that answers in half a second.

    Args:
        capacity: how many it works at, at a time; others wait.
        until: seconds.
        spread: how much answers differ in length.
        turns_away: whether it turns others away instead.
        slowdown: by how much each other request makes one slower, as where they are computed together.
        pace: that is looked at.
    """
    pace, chance = pace or Pace(), random.Random(1)
    now, levels = 0.0, [(0.0, pace.level)]
    working: list[tuple[float, float]] = []  # end, beginning
    waiting: deque[float] = deque()
    while now < until:
        while len(working) + len(waiting) < pace.level:
            if turns_away and len(working) >= capacity(now):
                pace.turned_away(now, len(working))
                break
            waiting.append(now)
            while waiting and len(working) < capacity(now):
                seconds = 0.5 * (1 + spread * chance.uniform(-1, 1)) * (1 + slowdown * len(working))
                heapq.heappush(working, (now + seconds, waiting.popleft()))
        while waiting and len(working) < capacity(now):
            heapq.heappush(working, (now + 0.5 * (1 + spread * chance.uniform(-1, 1)), waiting.popleft()))
        now, began = heapq.heappop(working)
        pace.ended(now, now - began, is_full=True)
        if levels[-1][1] != pace.level:
            levels.append((now, pace.level))
    return levels


def mean(levels: list[tuple[float, int]], since: float, until: float) -> float:
    """Return the level that there was on average between two times."""
    ends = [*(when for when, _ in levels[1:]), until]
    held = [
        (max(0.0, min(end, until) - max(since, begin)), level) for (begin, level), end in zip(levels, ends, strict=True)
    ]
    return sum(time * level for time, level in held) / sum(time for time, _ in held)


@pytest.mark.parametrize("capacity", [10, 24, 40, 60, 100])
@pytest.mark.parametrize("turns_away", [False, True])
def test_the_capacity_is_found_in_a_minute(capacity: int, turns_away: bool) -> None:
    levels = simulate(lambda _: capacity, until=90.0, turns_away=turns_away)
    assert mean(levels, MINUTE, 90.0) == pytest.approx(capacity, rel=0.1)


def test_answers_of_different_lengths_do_not_mislead() -> None:
    levels = simulate(lambda _: 40, until=90.0, spread=0.5)
    assert mean(levels, 30.0, 90.0) == pytest.approx(40, rel=0.15)


def test_it_rises_while_more_requests_bring_more_answers_though_each_takes_longer() -> None:
    # Together they take twice as long as alone, and are eight times as many.
    levels = simulate(lambda _: 64, slowdown=1 / 64)
    assert mean(levels, 30.0, MINUTE) > 45


def test_it_falls_when_answers_take_longer_and_are_fewer() -> None:
    levels = simulate(lambda now: 40 if now < MINUTE else 10, until=180.0)
    assert mean(levels, 30.0, MINUTE) == pytest.approx(40, rel=0.1)
    assert mean(levels, 120.0, 180.0) < 20


def test_a_fixed_number_stays() -> None:
    assert simulate(lambda _: 5, turns_away=True, pace=Pace(16)) == [(0.0, 16)]


def test_where_there_is_too_little_to_do_nothing_is_concluded() -> None:
    pace = Pace()
    for number in range(100):
        pace.ended(number * 1.0, 0.5, is_full=False)
    assert pace.level == Pace().level


def test_it_never_falls_to_none() -> None:
    pace = Pace()
    pace.turned_away(0.0, 0)
    assert pace.level == 1
