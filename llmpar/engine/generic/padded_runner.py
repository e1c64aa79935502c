"""The slower path for models that do not take our attention: padded batches with transformers' own cache."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from inspect import signature
from typing import Any, Protocol

import torch

from llmpar.engine.generic.kv_cache import Room
from llmpar.engine.request import Request, Sequence
from llmpar.engine.resources import give_memory_back
from llmpar.engine.sampler import sample


class PaddedBatch(Protocol):
    """Sequences that are computed together, from their prompts to the end of the last one."""

    rows: list[Sequence | None]
    """Its sequences; None for one that ended, which is computed along and ignored."""

    def forward(self) -> torch.Tensor:
        """Read the prompts, and later each row's last token; return the logits (B, V) of the next."""


FormBatches = Callable[[Any, list[Sequence]], SequenceOf[PaddedBatch]]


class PromptBatch:
    """A batch for any causal language model, padded on the left."""

    def __init__(self, model: Any, sequences: list[Sequence]) -> None:
        self.rows: list[Sequence | None] = list(sequences)
        self._model = model
        self._prompts = [list(sequence.request.prompt_ids) for sequence in sequences]
        self._mask = torch.empty(0)  # (B, T): 1 for a token, 0 for padding
        self._cache_name = cache_name(model)
        self._cache: Any = None

    def forward(self) -> torch.Tensor:
        """Return the logits (B, V) of each row's next token."""
        device = self._model.device
        if self._cache is None:
            width = max(len(prompt) for prompt in self._prompts)
            ids = [[prompt[0]] * (width - len(prompt)) + prompt for prompt in self._prompts]
            mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in self._prompts]
            self._mask = torch.tensor(mask, device=device)
            positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        else:
            ids = last_ids(self.rows)
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(self.rows), 1)], dim=1)
            positions = self._mask.sum(-1, keepdim=True) - 1
        output = self._model(
            input_ids=torch.tensor(ids, device=device),
            attention_mask=self._mask,
            position_ids=positions,
            **{self._cache_name: self._cache},
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = getattr(output, self._cache_name)
        logits: torch.Tensor = output.logits[:, -1]
        return logits


def cache_name(model: Any) -> str:
    """Return by what name a model takes and returns its cache: with transformers 5.24 the old one warns of its end."""
    return "cache" if "cache" in signature(model.forward).parameters else "past_key_values"


def last_ids(rows: list[Sequence | None]) -> list[list[int]]:
    """Return the last token of each row (B, 1)."""
    return [[row.output_ids[-1] if row else 0] for row in rows]


def form_one(model: Any, sequences: list[Sequence]) -> SequenceOf[PaddedBatch]:
    """Return sequences as one batch for a causal language model."""
    return [PromptBatch(model, sequences)]


class PaddedRunner:
    """Runs padded batches, each to its end before the next begins.

    Args:
        model: any language model of transformers.
        num_slots: how many sequences are run at once.
        stop_ids: the tokens that end an answer.
        num_threads: intra-op threads for this worker.
        num_cells: how many rows times columns of keys and values it may keep; None for any number.
        form_batches: makes sequences that begin together the batches they are computed in; nothing is computed yet.
    """

    continuous = False

    def __init__(
        self,
        model: Any,
        num_slots: int,
        stop_ids: frozenset[int],
        num_threads: int = 1,
        num_cells: int | None = None,
        form_batches: FormBatches = form_one,
    ) -> None:
        self.num_slots = num_slots
        self._model = model
        self._stop_ids = stop_ids
        self._num_threads = num_threads
        self._room = Room(num_cells)
        self._form_batches = form_batches
        self._batches: list[PaddedBatch] = []

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

    def prefill(self, sequences: list[Sequence]) -> None:
        """Read the prompts, and append the first token to each."""
        self._batches = list(self._form_batches(self._model, sequences))
        self.decode(sequences)

    @torch.inference_mode()
    def decode(self, sequences: list[Sequence]) -> None:  # noqa: ARG002 (the rows of the batches, less those that ended)
        """Append the next token to each row."""
        for batch in self._batches:
            logits = batch.forward()
            live = [(index, row) for index, row in enumerate(batch.rows) if row]
            choices = sample(logits[[index for index, _ in live]], [row for _, row in live])
            for (_, row), choice in zip(live, choices, strict=True):
                row.append(choice.token_id, self._stop_ids, choice.logprob, choice.others)

    def release(self, sequence: Sequence) -> None:
        """Mark the sequence's row as ended, and drop a batch with its last."""
        self._room.leave()
        for batch in self._batches:
            batch.rows = [None if row is sequence else row for row in batch.rows]
        self._batches = [batch for batch in self._batches if any(batch.rows)]
