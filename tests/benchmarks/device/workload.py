"""The workload: prompts with a common beginning, each to be answered with a number of tokens of its own.

As for vLLM in earlier measurements: 45 common tokens, 10 to 60 of each prompt's own, 16 to 96 new ones, and no token
ends an answer. The same numbers always give the same workload.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

_NUM_PREFIX = 45
_OWN = (10, 60)
_NEW = (16, 96)
_LOWEST_ID = 259  # below are control tokens and bytes


@dataclass(frozen=True)
class Workload:
    """`limits` tells of each prompt how many tokens its answer has."""

    prompts: list[list[int]]
    limits: list[int]
    prefix_ids: list[int]

    @property
    def num_new_tokens(self) -> int:
        return sum(self.limits)

    def __str__(self) -> str:
        own = sum(map(len, self.prompts)) / len(self.prompts) - len(self.prefix_ids)
        return (
            f"{len(self.prompts):,} requests: {len(self.prefix_ids)} common tokens, {own:.0f} own ones on average, "
            f"{self.num_new_tokens / len(self.limits):.0f} new ones on average, {self.num_new_tokens:,} in all; greedy"
        )


def make_workload(count: int, vocabulary: int, seed: int) -> Workload:
    """Draw so many requests; the common beginning is the same for every seed."""
    prefix_draw, draw = random.Random("prefix"), random.Random(seed)
    prefix_ids = [prefix_draw.randrange(_LOWEST_ID, vocabulary) for _ in range(_NUM_PREFIX)]
    lengths = [draw.randint(*_OWN) for _ in range(count)]
    return Workload(
        [prefix_ids + [draw.randrange(_LOWEST_ID, vocabulary) for _ in range(length)] for length in lengths],
        [draw.randint(*_NEW) for _ in range(count)],
        prefix_ids,
    )


def make_even_workload(count: int, vocabulary: int, seed: int, num_new_tokens: int, num_lengths: int = 8) -> Workload:
    """Draw requests of few lengths, so that some can be computed side by side without padding."""
    drawn = make_workload(count, vocabulary, seed)
    low, high = _OWN
    lengths = [
        _NUM_PREFIX + low + (high - low) * (index % num_lengths) // max(1, num_lengths - 1) for index in range(count)
    ]
    draw = random.Random(seed + 1)
    prompts = [
        (prompt + [draw.randrange(_LOWEST_ID, vocabulary) for _ in range(high)])[:length]
        for prompt, length in zip(drawn.prompts, lengths, strict=True)
    ]
    return Workload(prompts, [num_new_tokens] * count, drawn.prefix_ids)
