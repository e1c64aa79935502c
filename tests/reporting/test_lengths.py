"""What is made of answers of which most are still being written, against samples of which all is known."""

from __future__ import annotations

import math
import random

import pytest

from llmpar.reporting.courses import courses
from llmpar.reporting.lengths import Lengths, fitted_lengths


@pytest.mark.parametrize("spread", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_few_that_are_done_tell_how_long_the_others_will_be(spread: float, share: float) -> None:
    draw = random.Random(5)
    whole = sorted(draw.lognormvariate(4.0, spread) for _ in range(4000))
    done = whole[: round(share * len(whole))]
    logs = [math.log(length) for length in done]
    found = fitted_lengths(len(done), sum(logs), sum(x * x for x in logs), [(len(whole) - len(done), done[-1])])
    assert sum(done) / len(done) < 0.9 * sum(whole) / len(whole), "the shortest are done first"
    assert courses(found, 0.0).mean == pytest.approx(sum(whole) / len(whole), rel=0.1)
    rest = whole[len(done) :]
    assert courses(found, 0.0, done[-1]).mean == pytest.approx(sum(rest) / len(rest), rel=0.1)


def test_lengths_that_are_all_alike() -> None:
    found = fitted_lengths(1000, 1000 * math.log(50), 1000 * math.log(50) ** 2, [])
    assert courses(found, 0.0).mean == pytest.approx(50, rel=0.01)


def test_the_longest_of_many_is_about_what_it_is_in_samples() -> None:
    draw, lengths = random.Random(7), Lengths(4.0, 0.6)
    found = courses(lengths, 0.0)
    for number in (1, 4, 64):
        longest = [max(draw.lognormvariate(4.0, 0.6) for _ in range(number)) for _ in range(3000)]
        assert found.longest(number) == pytest.approx(sum(longest) / len(longest), rel=0.1)
    assert courses(lengths, 0.0, 10_000).lengths[0] >= 10_000
    assert courses(Lengths(4.0, 0.6, 64), 0.0).longest(64) == pytest.approx(64)


@pytest.mark.parametrize("again", [0.1, 0.3, 0.5])
def test_what_is_asked_for_again_is_written_again(again: float) -> None:
    draw, lengths = random.Random(3), Lengths(4.0, 0.5)

    def course() -> float:
        return draw.lognormvariate(4.0, 0.5) + (draw.lognormvariate(4.0, 0.5) if draw.random() < again else 0.0)

    found = courses(lengths, again)
    assert found.num_drawn == pytest.approx(1 + again, rel=0.02)
    drawn = [course() for _ in range(20_000)]
    assert found.mean == pytest.approx(sum(drawn) / len(drawn), rel=0.05)
    longest = [max(drawn[at : at + 8]) for at in range(0, len(drawn), 8)]
    assert found.longest(8) == pytest.approx(sum(longest) / len(longest), rel=0.1)


def test_what_has_no_room_takes_turns() -> None:
    found = courses(Lengths(4.0, 0.01), 0.0)
    assert found.steps(80, 8) == pytest.approx(10 * found.mean, rel=0.02)
    assert found.steps(8, 8) == found.longest(8)


@pytest.mark.parametrize("least", [0, 0.5, 1, 50, 1e4, 1e9])
def test_any_length_can_be_asked_about(least: float) -> None:
    for lengths in (Lengths(4.0, 0.05), Lengths(0.0, 2.0), fitted_lengths(1, 0.0, 0.0, [(500, least), (3, 0.0)])):
        found = courses(lengths, 0.5, least)
        assert math.isfinite(found.mean)
        assert found.lengths[0] >= least
