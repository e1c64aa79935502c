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
    ordered, token_ids = probabilities.sort(descending=True, stable=True)
    cumulative = ordered.cumsum(dim=-1)
    if params.top_p < 1:
        # The token that crosses top_p is the last one in.
        kept = int((cumulative < params.top_p).sum()) + 1
        cumulative = cumulative[:kept]
    point = torch.tensor(sequence.draw(), dtype=cumulative.dtype, device=cumulative.device) * cumulative[-1]
    index = int(torch.searchsorted(cumulative, point, right=True).clamp(max=len(cumulative) - 1))
    return int(token_ids[index])
