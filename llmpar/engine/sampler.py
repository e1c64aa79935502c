"""Logits → next token ids; each row with its own parameters and its own random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from llmpar.engine.constraint import Mask, unpack
from llmpar.engine.finite import NO_TOKEN, likeliest
from llmpar.engine.request import Sequence

if TYPE_CHECKING:
    import torch


def sample(logits: torch.Tensor, sequences: list[Sequence]) -> list[int]:
    """Return the next token id for each sequence, NO_TOKEN where the logits are not finite (see `finite`).

    Args:
        logits: (B, V), a row for each sequence.
        sequences: B of them. A row's token depends on nothing but its logits, its parameters, its constraint and its
            own draws. One whose constraint fails has a token that its `append` drops.
    """
    masks = {row: found[0] for row, sequence in enumerate(sequences) if (found := sequence.allowed())}
    if masks:
        logits = _masked(logits, masks)
    next_ids: list[int] = likeliest(logits).tolist()
    for row, sequence in enumerate(sequences):
        if next_ids[row] == NO_TOKEN:
            continue  # also where a token is forced: what its slot holds now has to be wiped
        if (token_id := sequence.forced_id) is not None:
            next_ids[row] = token_id
        elif sequence.request.params.temperature > 0:
            next_ids[row] = draw(logits[row].float().cpu().numpy(), sequence)
    return next_ids


def _masked(logits: torch.Tensor, masks: dict[int, Mask]) -> torch.Tensor:
    """Return `logits` (B, V) with nothing else left possible in the rows that have masks."""
    import torch

    allowed = torch.from_numpy(unpack(np.array(list(masks.values())), logits.shape[-1])).to(logits.device)
    rows = torch.tensor(list(masks), device=logits.device)
    return logits.index_copy(0, rows, logits[rows].masked_fill(~allowed, -torch.inf))


def draw(logits: npt.NDArray[Any], sequence: Sequence) -> int:
    """Return a token id drawn with the sequence's own parameters and next random number.

    Args:
        logits: (V,), of which the largest is finite.
        sequence: its temperature is above 0, however little.
    """
    params = sequence.request.params
    below = logits.astype(np.float64)
    below -= below.max()
    with np.errstate(over="ignore"):  # by a very low temperature: minus infinity, which has no probability
        below /= params.temperature
    probabilities = np.exp(below)
    probabilities /= probabilities.sum()
    if params.top_p < 1:
        order = np.argsort(-probabilities, kind="stable")
        ordered = probabilities[order]
        # The token that crosses top_p is the last one in.
        outside = np.cumsum(ordered) - ordered >= max(params.top_p, 1e-12)
        probabilities[order[outside]] = 0
    # In the vocabulary's order, not by probability: where rounding swaps two close ranks, the draw stays the same.
    cumulative = np.cumsum(probabilities)
    point = cumulative[-1] * sequence.draw()
    return int(min(np.searchsorted(cumulative, point, side="right"), len(cumulative) - 1))
