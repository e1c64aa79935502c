"""What is made of answers of which most are still being written, against samples of which all is known."""

from __future__ import annotations

import math
import random

import pytest

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
    assert found.expected(0) == pytest.approx(sum(whole) / len(whole), rel=0.1)
    rest = whole[len(done) :]
    assert found.expected(done[-1]) == pytest.approx(sum(rest) / len(rest), rel=0.1)


def test_lengths_that_are_all_alike() -> None:
    found = fitted_lengths(1000, 1000 * math.log(50), 1000 * math.log(50) ** 2, [])
    assert found.expected(0) == pytest.approx(50, rel=0.01)


def test_the_longest_of_many_is_about_what_it_is_in_samples() -> None:
    draw, lengths = random.Random(7), Lengths(4.0, 0.6)
    longest = [max(draw.lognormvariate(4.0, 0.6) for _ in range(64)) for _ in range(300)]
    assert lengths.longest(64, 0) == pytest.approx(sorted(longest)[150], rel=0.15)
    assert lengths.longest(1, 40) == lengths.expected(40)
    assert lengths.longest(64, 10_000) >= 10_000


@pytest.mark.parametrize("least", [0, 0.5, 1, 50, 1e4, 1e9])
def test_any_length_can_be_asked_about(least: float) -> None:
    for lengths in (Lengths(4.0, 0.05), Lengths(0.0, 2.0), fitted_lengths(1, 0.0, 0.0, [(500, least), (3, 0.0)])):
        assert math.isfinite(lengths.expected(least))
        assert lengths.expected(least) >= least
