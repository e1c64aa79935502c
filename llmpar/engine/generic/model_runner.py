"""One worker's computing with a transformers model: slots of its own over weights that all workers share."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any

import torch

from llmpar.engine.finite import NO_TOKEN, likeliest
from llmpar.engine.generic.attention import DecodeBatch, PrefillBatch, RaggedBatch
from llmpar.engine.generic.kv_cache import KVCache, Layers, Room
from llmpar.engine.request import Request, Sequence
from llmpar.engine.resources import give_memory_back
from llmpar.engine.sampler import sample


@dataclass(frozen=True, slots=True)
class CachedPrefix:
    """What the prompts of a job begin with: its ids, and their keys and values by layer."""

    ids: tuple[int, ...] = ()
    layers: Layers | None = None

    def begins(self, prompt_ids: SequenceOf[int]) -> bool:
        """Tell whether a prompt begins with it, and goes on."""
        return len(prompt_ids) > len(self.ids) and tuple(prompt_ids[: len(self.ids)]) == self.ids


@torch.inference_mode()
def compute_prefix(model: Any, ids: SequenceOf[int]) -> CachedPrefix:
    """Return the keys and values of the ids that all prompts begin with, computed once for every worker.

    There is none where logits after it are not finite: masked, it would still reach rows that do not begin with it.
    """
    if not ids:
        return CachedPrefix()
    cache = KVCache(1)
    cache.reserve(len(ids))
    device = model.device
    output = model(
        input_ids=torch.tensor([list(ids)], device=device),
        position_ids=torch.arange(len(ids), device=device)[None],
        use_cache=False,
        logits_to_keep=1,
        batch=PrefillBatch(cache, 0, [len(ids)], [True], device),
    )
    if NO_TOKEN in likeliest(output.logits[0]).tolist():
        return CachedPrefix()
    return CachedPrefix(tuple(ids), cache.row_as_prefix(len(ids)))


class ModelRunner:
    """Runs prompts and steps through the model, every batch as one line of tokens (1, N) without padding.

    The live sequences occupy slots 0 to B-1, so that a step reads the cache without gathering.

    Args:
        model: a causal language model with our attention (see `attention.is_supported`).
        num_slots: how many sequences live at once.
        stop_ids: the tokens that end an answer.
        num_threads: intra-op threads for this worker.
        prefix: what prompts begin with; one that does not is read whole.
        prefill_tokens: how many prompt tokens are read in one pass, which bounds the memory of activations.
        num_cells: how many rows times columns of keys and values it may keep, the prefix not counted; None for any
            number.
    """

    continuous = True

    def __init__(
        self,
        model: Any,
        num_slots: int,
        stop_ids: frozenset[int],
        num_threads: int = 1,
        prefix: CachedPrefix | None = None,
        prefill_tokens: int = 512,
        num_cells: int | None = None,
    ) -> None:
        self.num_slots = num_slots
        self._model = model
        self._stop_ids = stop_ids
        self._num_threads = num_threads
        self._prefix = prefix or CachedPrefix()
        self._prefill_tokens = prefill_tokens
        self._room = Room(num_cells)
        self._cache = KVCache(num_slots, self._prefix.layers, num_cells)
        self._live: list[Sequence] = []
        self._shares: list[bool] = []  # by slot: whether the sequence begins with the prefix

    def start(self) -> None:
        """Give the calling thread its intra-op threads (torch keeps that number for each thread)."""
        torch.set_num_threads(self._num_threads)

    def reserve(self, request: Request) -> bool:
        """Count on a request to its last token; False if the cache would become too large with it."""
        if self._room.num_cells is not None and self._room.is_empty:
            self._cache.clear()  # its rows may be too long, and so too few
        num_shared = len(self._prefix.ids) if self._prefix.begins(request.prompt_ids) else 0
        return self._room.take(len(request.prompt_ids) - num_shared, request.params.max_new_tokens)

    def resize(self, num_slots: int) -> None:
        """Run so many sequences at once from now on, and give back all memory; called when none lives."""
        self.num_slots = num_slots
        self._cache = KVCache(num_slots, self._prefix.layers, self._room.num_cells)
        give_memory_back(self._model.device)

    @torch.inference_mode()
    def prefill(self, sequences: list[Sequence]) -> None:
        """Read the prompts of new sequences, and append the first token to each."""
        if self._room.num_cells is not None:
            self._cache.reserve(self._room.num_columns)
        for sequence in sequences:  # all, before anything can fail: what has a slot can be released
            sequence.slot = len(self._live)
            self._live.append(sequence)
            self._shares.append(self._prefix.begins(sequence.request.prompt_ids))
        batch: list[Sequence] = []
        num_tokens = 0
        for sequence in sequences:
            length = self._columns(sequence)
            if batch and num_tokens + length > self._prefill_tokens:
                self._prefill(batch)
                batch, num_tokens = [], 0
            batch.append(sequence)
            num_tokens += length
        self._prefill(batch)

    @torch.inference_mode()
    def decode(self, sequences: list[Sequence]) -> None:
        """Append the next token to each of the sequences, which are all that live."""
        live = self._live
        assert len(sequences) == len(live)
        device = self._model.device
        columns = [self._columns(sequence) - 1 for sequence in live]
        self._cache.reserve(max(columns) + 1)
        at = torch.tensor(columns, device=device)
        positions = torch.tensor([sequence.num_tokens - 1 for sequence in live], device=device)
        input_ids = torch.tensor([sequence.output_ids[-1] for sequence in live], device=device)
        shares = None if all(self._shares) else torch.tensor(self._shares, device=device)
        self._forward(input_ids, positions, DecodeBatch(self._cache, at, shares), None, live)

    @torch.inference_mode()
    def release(self, sequence: Sequence) -> None:
        """Free the sequence's slot; the last one moves there."""
        self._room.leave()
        if sequence.slot < 0:  # its prefill did not come to it
            return
        failed = sequence.finish_reason == "error"
        if failed:
            self._cache.wipe(sequence.slot)
        last, shares = self._live.pop(), self._shares.pop()
        if last is not sequence:
            self._cache.move(last.slot, sequence.slot, self._columns(last, shares))
            last.slot = sequence.slot
            self._live[last.slot] = last
            self._shares[last.slot] = shares
        if failed:  # also where it was before it moved, for one that was released before it
            self._cache.wipe(slice(len(self._live), None))

    def _columns(self, sequence: Sequence, shares: bool | None = None) -> int:
        """Return how many tokens of the sequence are its own, after the prefix."""
        shares = self._shares[sequence.slot] if shares is None else shares
        return sequence.num_tokens - (len(self._prefix.ids) if shares else 0)

    def _prefill(self, batch: list[Sequence]) -> None:
        device = self._model.device
        first = batch[0].slot
        lengths = [self._columns(sequence) for sequence in batch]
        ids: list[int] = []
        positions: list[int] = []
        for sequence, length in zip(batch, lengths, strict=True):
            prompt = sequence.request.prompt_ids
            ids += prompt[len(prompt) - length :]
            positions += range(len(prompt) - length, len(prompt))
        self._cache.reserve(max(lengths) + 1)
        last = torch.tensor(lengths, device=device).cumsum(0) - 1
        rows = PrefillBatch(self._cache, first, lengths, self._shares[first : first + len(batch)], device)
        self._forward(torch.tensor(ids, device=device), torch.tensor(positions, device=device), rows, last, batch)

    def _forward(
        self,
        input_ids: torch.Tensor,  # (N,)
        positions: torch.Tensor,  # (N,)
        batch: RaggedBatch,
        keep: torch.Tensor | None,  # (B,), the tokens whose logits are wanted; None for all
        sequences: list[Sequence],
    ) -> None:
        logits = self._model(
            input_ids=input_ids[None],
            position_ids=positions[None],
            use_cache=False,
            logits_to_keep=0 if keep is None else keep,
            batch=batch,
        ).logits[0]  # (B, V)
        for sequence, choice in zip(sequences, sample(logits, sequences), strict=True):
            sequence.append(choice.token_id, self._stop_ids, choice.logprob, choice.others)
