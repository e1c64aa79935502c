"""The slower path for models that do not take our attention: padded batches with transformers' own cache."""

from __future__ import annotations

from typing import Any

import torch

from llmpar.engine.kv_cache import Room, give_memory_back
from llmpar.engine.request import Request, Sequence
from llmpar.engine.sampler import sample


class PaddedRunner:
    """Runs batches padded on the left, each to its end before the next begins.

    Args:
        model: any causal language model of transformers.
        num_slots: how many sequences make a batch.
        stop_ids: the tokens that end an answer.
        num_threads: intra-op threads for this worker.
        num_cells: how many rows times columns of keys and values it may keep; None for any number.
    """

    continuous = False

    def __init__(
        self,
        model: Any,
        num_slots: int,
        stop_ids: frozenset[int],
        num_threads: int = 1,
        num_cells: int | None = None,
    ) -> None:
        self.num_slots = num_slots
        self._model = model
        self._stop_ids = stop_ids
        self._num_threads = num_threads
        self._room = Room(num_cells)
        self._rows: list[Sequence | None] = []
        self._mask = torch.empty(0)  # (B, T): 1 for a token, 0 for padding
        self._cache: Any = None

    def start(self) -> None:
        """Give the calling thread its intra-op threads (torch keeps that number for each thread)."""
        torch.set_num_threads(self._num_threads)

    def reserve(self, request: Request) -> bool:
        """Count on a request to its last token; False if the batch would become too large with it."""
        return self._room.take(len(request.prompt_ids), request.params.max_new_tokens)

    def resize(self, num_slots: int) -> None:
        """Take so many rows from now on, and give back all memory; called when none lives."""
        self.num_slots = num_slots
        give_memory_back(self._model.device)

    @torch.inference_mode()
    def prefill(self, sequences: list[Sequence]) -> None:
        """Read the prompts, and append the first token to each."""
        self._rows, self._cache = list(sequences), None
        prompts = [list(sequence.request.prompt_ids) for sequence in sequences]
        width = max(len(prompt) for prompt in prompts)
        padded = [[prompt[0]] * (width - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        self._mask = torch.tensor(mask, device=self._model.device)
        self._forward(torch.tensor(padded, device=self._model.device), (self._mask.cumsum(-1) - 1).clamp(min=0))

    @torch.inference_mode()
    def decode(self, sequences: list[Sequence]) -> None:  # noqa: ARG002 (the rows of the batch, less those that ended)
        """Append the next token to each row; rows that ended are computed along and ignored."""
        last = [[row.output_ids[-1] if row else 0] for row in self._rows]
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._rows), 1)], dim=1)
        self._forward(torch.tensor(last, device=self._model.device), self._mask.sum(-1, keepdim=True) - 1)

    def release(self, sequence: Sequence) -> None:
        """Mark the sequence's row as ended, and drop the batch with the last."""
        self._room.leave()
        self._rows[self._rows.index(sequence)] = None
        if not any(self._rows):
            self._cache = None

    def _forward(self, input_ids: torch.Tensor, positions: torch.Tensor) -> None:
        output = self._model(
            input_ids=input_ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        rows = [(index, row) for index, row in enumerate(self._rows) if row]
        sequences = [row for _, row in rows]
        next_ids = sample(output.logits[[index for index, _ in rows], -1], sequences)
        for sequence, token_id in zip(sequences, next_ids, strict=True):
            sequence.append(token_id, self._stop_ids)
