"""Logits → next token ids; each row with its own parameters and its own random numbers."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from llmpar.engine.constraint import Mask, unpack
from llmpar.engine.finite import NO_TOKEN, likeliest
from llmpar.engine.request import Sequence
from llmpar.engine.scores import NOT_SCORED, Choice, Others, allowed_others, likeliest_others, log_total

if TYPE_CHECKING:
    import torch

_ROUNDED = 1e-9  # more than sums of probabilities are off


def sample(logits: torch.Tensor, sequences: list[Sequence]) -> list[Choice]:
    """Return the next token of each sequence, NO_TOKEN where the logits are not finite (see `finite`).

    Args:
        logits: (B, V), a row for each sequence.
        sequences: B of them. A row's token depends on nothing but its logits, its parameters, its constraint and its
            own draws. One whose constraint fails has a token that its `append` drops.
    """
    masks = {row: found[0] for row, sequence in enumerate(sequences) if (found := sequence.allowed())}
    next_ids = _next_ids(_masked(logits, masks) if masks else logits, sequences)
    open_rows = [
        row
        for row, sequence in enumerate(sequences)
        if next_ids[row] != NO_TOKEN and sequence.forced_id is None and sequence.finish_reason is None
    ]
    scored = [row for row in open_rows if sequences[row].request.params.is_scored]
    logprobs = dict(zip(scored, _logprobs(logits, scored, next_ids), strict=True)) if scored else {}
    others: dict[int, Others] = {}
    if beside := [row for row in open_rows if sequences[row].wants_others]:
        known = others_of_rows(logits[beside], [sequences[row] for row in beside], [masks.get(row) for row in beside])
        others = dict(zip(beside, known, strict=True))
    return [
        Choice(token_id, logprobs.get(row, NOT_SCORED), others.get(row, ())) for row, token_id in enumerate(next_ids)
    ]


def others_of(logits: npt.NDArray[Any], sequence: Sequence, mask: Mask | None) -> Others:
    """Return what a sequence wants to know of other tokens than the next one.

    Args:
        logits: (V,), the model's own, of which the largest is finite.
        sequence: says what is wanted.
        mask: (V / 32,), what its constraint leaves here; None for anything.
    """
    total = log_total(logits)
    if sequence.is_weighed:
        return () if mask is None else allowed_others(logits, total, mask)
    return likeliest_others(logits, total, sequence.request.params.num_others)


def others_of_rows(
    logits: torch.Tensor, sequences: SequenceOf[Sequence], masks: SequenceOf[Mask | None]
) -> list[Others]:
    """Return what sequences want to know of other tokens, as `others_of`, for `logits` (B, V) on any device."""
    import torch

    wide = logits.float()
    logprobs = wide - wide.logsumexp(-1, keepdim=True)
    wanted = [
        _allowed(mask, logits.shape[-1]) if sequence.is_weighed else None
        for sequence, mask in zip(sequences, masks, strict=True)
    ]
    counts = [
        sequence.request.params.num_others if ids is None else len(ids)
        for sequence, ids in zip(sequences, wanted, strict=True)
    ]
    width = max([1, *counts])
    places = logprobs.topk(min(width, logits.shape[-1]), -1).indices if None in wanted else None
    table = np.zeros((len(counts), width), np.int64)
    for row, ids in enumerate(wanted):
        if ids is not None:
            table[row, : len(ids)] = ids
        elif places is not None:
            table[row, : places.shape[1]] = places[row].cpu().numpy()
    values = logprobs.gather(1, torch.from_numpy(table).to(logits.device)).clamp(max=0).cpu().tolist()
    return [
        tuple(sorted(zip(ids[:count], line[:count], strict=True), key=lambda pair: -pair[1]))
        for ids, line, count in zip(table.tolist(), values, counts, strict=True)
    ]


def _allowed(mask: Mask | None, vocabulary: int) -> list[int]:
    """Return the tokens that a mask leaves; none without one, as that leaves all."""
    return [] if mask is None else np.flatnonzero(unpack(mask, vocabulary)).tolist()


def _logprobs(logits: torch.Tensor, rows: list[int], next_ids: list[int]) -> list[float]:
    """Return the log-probability of the next token of each of some rows of `logits` (B, V)."""
    import torch

    # Mostly all rows are wanted, and to take some would copy them.
    wide = (logits if len(rows) == len(next_ids) else logits[rows]).float()
    chosen = torch.tensor([[next_ids[row]] for row in rows], device=wide.device)
    found: list[float] = (wide.gather(1, chosen)[:, 0] - wide.logsumexp(-1)).clamp(max=0).tolist()
    return found


def _next_ids(logits: torch.Tensor, sequences: list[Sequence]) -> list[int]:
    """Return the next token id of each sequence, of those whose `logits` (B, V) leave them possible."""
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
    # All in one array: one of a megabyte takes as long to make as to fill.
    probabilities = np.exp(below, out=below)
    if params.top_p < 1:
        probabilities /= probabilities.sum()
        _leave_likeliest(probabilities, max(params.top_p, 1e-12))
    # In the vocabulary's order, not by probability: where rounding swaps two close ranks, the draw stays the same.
    cumulative = np.cumsum(probabilities, out=probabilities)
    point = cumulative[-1] * sequence.draw()
    return int(min(np.searchsorted(cumulative, point, side="right"), len(cumulative) - 1))


def _leave_likeliest(probabilities: npt.NDArray[np.float64], share: float) -> None:
    """Set all to 0 but the likeliest of some probabilities (V,) that have this share together."""
    # Those below this have too little, all together, for one of them to be wanted. To sort the others alone takes a
    # fraction of the time, and the sums are the same.
    least = (1 - share - _ROUNDED) / len(probabilities)
    some = np.flatnonzero(probabilities >= least)
    order = some[np.argsort(-probabilities[some], kind="stable")]
    ordered = probabilities[order]
    # The token that crosses the share is the last one in.
    inside = order[np.cumsum(ordered) - ordered < share]
    left = probabilities[inside]
    probabilities[:] = 0
    probabilities[inside] = left
