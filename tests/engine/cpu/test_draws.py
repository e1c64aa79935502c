"""Tokens drawn by the kernel are those of `sampler.draw`."""

from __future__ import annotations

import numpy as np
import pytest

from llmpar.engine.cpu import draws
from llmpar.engine.cpu.precision import Array, Floats
from llmpar.engine.cpu.team import ALONE
from llmpar.engine.request import Request, SamplingParams, Sequence
from llmpar.engine.sampler import draw

ALMOST_ONE = float(np.nextafter(1.0, 0.0))


class Fixed(Sequence):
    """One that draws by a number of our own."""

    def __init__(self, temperature: float, uniform: float) -> None:
        super().__init__(Request(0, [1], SamplingParams(1, temperature)), started=0.0)
        self._uniform = uniform

    def draw(self) -> float:
        return self._uniform


def by_kernel(logits: Floats, places: list[int], temperatures: list[float], uniforms: list[float]) -> list[int]:
    ids = np.full(len(places), -1, np.int64)
    peaks = logits[places].max(1)
    draws.draw(ALONE, logits, np.array(places), peaks, np.array(temperatures), np.array(uniforms), ids)
    found: list[int] = ids.tolist()
    return found


def some_logits(shape: tuple[int, int], spread: float, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * spread).astype(np.float32)


@pytest.mark.parametrize("vocabulary", [1, 2, 511, 512, 513, 1000, 49_152])
@pytest.mark.parametrize("spread", [0.5, 3, 20])
def test_they_are_those_of_the_sampler(vocabulary: int, spread: float) -> None:
    logits = some_logits((12, vocabulary), spread, vocabulary)
    logits[6:, 1::3] = -np.inf
    numbers = np.random.default_rng(vocabulary)
    places = numbers.permutation(12)[:9].tolist()
    for temperatures in ([0.01, 0.3, 0.7, 1, 1.3, 2, 10, 100, 1e-30], [1.0] * 9):
        uniforms = numbers.random(9).tolist()
        expected = [
            draw(logits[place], Fixed(temperature, uniform))
            for place, temperature, uniform in zip(places, temperatures, uniforms, strict=True)
        ]
        assert by_kernel(logits, places, temperatures, uniforms) == expected


def test_every_token_comes_as_often_as_it_is_likely() -> None:
    logits = np.log(np.array([[0.1, 0.2, 0.0, 0.7]], np.float32) + np.float32(1e-30))
    uniforms = ((np.arange(1000) + 0.5) / 1000).tolist()
    found = by_kernel(np.repeat(logits, 1000, axis=0), list(range(1000)), [1.0] * 1000, uniforms)
    assert np.bincount(found, minlength=4).tolist() == [100, 200, 0, 700]


@pytest.mark.parametrize("uniform", [0.0, ALMOST_ONE])
def test_at_both_ends_no_token_comes_that_has_no_chance(uniform: float) -> None:
    logits = np.full((1, 3000), -np.inf, np.float32)
    logits[0, [700, 1600, 2100]] = 1
    assert by_kernel(logits, [0], [0.7], [uniform]) == ([2100] if uniform else [700])
    logits[0, 700:2100] = some_logits((1, 1400), 3)[0]
    assert 700 <= by_kernel(logits, [0], [0.7], [uniform])[0] <= 2100


def test_what_is_a_little_above_the_largest_counts_as_it() -> None:
    """A logit that is bent may round to a little more than the largest of them, bent."""
    logits = np.zeros((1, 600), np.float32)
    logits[0, 5] = np.nextafter(np.float32(0), np.float32(1))
    ids = np.zeros(1, np.int64)
    draws.draw(ALONE, logits, np.array([0]), np.zeros(1, np.float32), np.array([1e-300]), np.array([0.5]), ids)
    assert ids.tolist() == [300]
