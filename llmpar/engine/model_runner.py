"""One worker's computing with a transformers model: slots of its own over weights that all workers share."""

from __future__ import annotations

from typing import Any

import torch

from llmpar.engine.attention import Batch, DecodeBatch, PrefillBatch
from llmpar.engine.kv_cache import KVCache
from llmpar.engine.request import Sequence
from llmpar.engine.sampler import sample


class ModelRunner:
    """Runs prompts and steps through the model, every batch as one line of tokens (1, N) without padding.

    The live sequences occupy slots 0 to B-1, so that a step reads the cache without gathering.

    Args:
        model: a causal language model with our attention (see `attention.is_supported`).
        num_slots: how many sequences live at once.
        stop_ids: the tokens that end an answer.
        num_threads: intra-op threads for this worker.
        prefill_tokens: how many prompt tokens are read in one pass, which bounds the memory of activations.
    """

    continuous = True

    def __init__(
        self,
        model: Any,
        num_slots: int,
        stop_ids: frozenset[int],
        num_threads: int = 1,
        prefill_tokens: int = 2048,
    ) -> None:
        self.num_slots = num_slots
        self._model = model
        self._stop_ids = stop_ids
        self._num_threads = num_threads
        self._prefill_tokens = prefill_tokens
        self._cache = KVCache(num_slots)
        self._live: list[Sequence] = []

    def start(self) -> None:
        """Give the calling thread its intra-op threads (torch keeps that number for each thread)."""
        torch.set_num_threads(self._num_threads)

    @torch.inference_mode()
    def prefill(self, sequences: list[Sequence]) -> None:
        """Read the prompts of new sequences, and append the first token to each."""
        batch: list[Sequence] = []
        for sequence in sequences:
            sequence.slot = len(self._live)
            self._live.append(sequence)
            if batch and sum(s.num_tokens for s in batch) + sequence.num_tokens > self._prefill_tokens:
                self._prefill(batch)
                batch = []
            batch.append(sequence)
        self._prefill(batch)

    @torch.inference_mode()
    def decode(self, sequences: list[Sequence]) -> None:
        """Append the next token to each of the sequences, which are all that live."""
        live = self._live
        assert len(sequences) == len(live)
        positions = [sequence.num_tokens - 1 for sequence in live]
        self._cache.reserve(max(positions) + 1)
        device = self._model.device
        columns = torch.tensor(positions, device=device)
        input_ids = torch.tensor([sequence.output_ids[-1] for sequence in live], device=device)
        self._forward(input_ids, columns, DecodeBatch(self._cache, columns), None, live)

    @torch.inference_mode()
    def release(self, sequence: Sequence) -> None:
        """Free the sequence's slot; the last one moves there."""
        last = self._live.pop()
        if last is not sequence:
            self._cache.move(last.slot, sequence.slot, last.num_tokens)
            last.slot = sequence.slot
            self._live[last.slot] = last

    def _prefill(self, batch: list[Sequence]) -> None:
        prompts = [list(sequence.request.prompt_ids) for sequence in batch]
        self._cache.reserve(max(len(prompt) for prompt in prompts) + 1)
        rows = []
        start = 0
        for sequence, prompt in zip(batch, prompts, strict=True):
            rows.append((sequence.slot, start, len(prompt)))
            start += len(prompt)
        device = self._model.device
        input_ids = torch.tensor([token for prompt in prompts for token in prompt], device=device)
        positions = torch.tensor([column for prompt in prompts for column in range(len(prompt))], device=device)
        last = torch.tensor([first + length - 1 for _, first, length in rows], device=device)
        self._forward(input_ids, positions, PrefillBatch(self._cache, rows), last, batch)

    def _forward(
        self,
        input_ids: torch.Tensor,  # (N,)
        positions: torch.Tensor,  # (N,)
        batch: Batch,
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
        next_ids = sample(logits, sequences)
        for sequence, token_id in zip(sequences, next_ids, strict=True):
            sequence.append(token_id, self._stop_ids)
