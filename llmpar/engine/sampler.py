"""Logits → next token ids; each row with its own parameters and its own random numbers."""

from __future__ import annotations

import torch

from llmpar.engine.request import Sequence


def sample(logits: torch.Tensor, sequences: list[Sequence]) -> list[int]:
    """Return the next token id for each sequence.

    Args:
        logits: (B, V), a row for each sequence.
        sequences: B of them. A row's token depends on nothing but its logits, its parameters and its own draws.
    """
    next_ids: list[int] = logits.argmax(dim=-1).tolist()
    for row, sequence in enumerate(sequences):
        if sequence.request.params.temperature > 0:
            next_ids[row] = _draw(logits[row], sequence)
    return next_ids


def _draw(logits: torch.Tensor, sequence: Sequence) -> int:
    params = sequence.request.params
    probabilities = torch.softmax(logits.double() / params.temperature, dim=-1)
    if params.top_p < 1:
        ordered, token_ids = probabilities.sort(descending=True, stable=True)
        # The token that crosses top_p is the last one in.
        outside = ordered.cumsum(dim=-1) - ordered >= max(params.top_p, 1e-12)
        probabilities[token_ids[outside]] = 0
    # In the vocabulary's order, not by probability: where rounding swaps two close ranks, the draw stays the same.
    cumulative = probabilities.cumsum(dim=-1)
    point = cumulative[-1] * sequence.draw()
    return int(torch.searchsorted(cumulative, point, right=True).clamp(max=len(cumulative) - 1))
