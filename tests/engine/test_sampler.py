"""Drawing takes what its definition says, though it does not sort a whole vocabulary for it."""

from __future__ import annotations

import numpy as np
import pytest

from llmpar.engine.request import Request, SamplingParams, Sequence
from llmpar.engine.sampler import draw


def _by_definition(logits: np.ndarray, temperature: float, top_p: float, point: float) -> int:
    below = logits.astype(np.float64) - logits.max()
    probabilities = np.exp(below / temperature)
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    probabilities[order[np.cumsum(ordered) - ordered >= max(top_p, 1e-12)]] = 0
    cumulative = np.cumsum(probabilities)
    return int(min(np.searchsorted(cumulative, cumulative[-1] * point, side="right"), len(logits) - 1))


@pytest.mark.parametrize("top_p", [0.0, 1e-12, 0.1, 0.5, 0.9, 0.999999, 1 - 1e-10, 1 - 1e-16])
@pytest.mark.parametrize("size", [1, 7, 5000])
def test_a_draw_is_what_sorting_everything_would_give(size: int, top_p: float) -> None:
    numbers = np.random.default_rng(size)
    for spread in (0.0, 0.1, 3.0, 100.0):
        for decimals in (0, 6):  # without decimals, many are equal
            logits = np.round(numbers.normal(size=size) * spread, decimals).astype(np.float32)
            for seed in range(8):
                params = SamplingParams(8, temperature=0.7, top_p=top_p, seed=seed)
                point = Sequence(Request(0, [1], params)).draw()
                assert draw(logits, Sequence(Request(0, [1], params))) == _by_definition(logits, 0.7, top_p, point)
