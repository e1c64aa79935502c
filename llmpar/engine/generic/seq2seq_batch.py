"""Batches of an encoder-decoder: prompts are read once by the encoder, answers begin with ids that are given.

A prompt is one list of ids: the encoder's, then those the decoder opens with, then what was answered earlier.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from itertools import groupby
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutput

from llmpar.engine.generic.padded_runner import cache_name, last_ids
from llmpar.engine.request import Sequence


class Seq2SeqBatch:
    """Sequences whose decoders are equally far; the encoder's side is padded on the right.

    When half of the rows have ended, they are dropped: one answer without end should not make all others costly.

    Args:
        model: an encoder-decoder of transformers.
        sequences: all with as many ids given to the decoder, because some models count its columns as positions.
        num_opening: how many ids the decoder opens with.
        suppressed: ids that never come out.
    """

    def __init__(
        self, model: Any, sequences: list[Sequence], num_opening: int, suppressed: SequenceOf[int] = ()
    ) -> None:
        self.rows: list[Sequence | None] = list(sequences)
        self._model = model
        self._prompts = [sequence.request.prompt_ids for sequence in sequences]
        self._num_given = num_given(sequences[0], num_opening)
        self._suppressed = list(suppressed)
        self._encoded: Any = None  # (B, S, D), as the model's own output
        self._mask = torch.empty(0)  # (B, S): 1 for a token of the encoder's, 0 for padding
        self._cache_name = ""
        self._cache: Any = None

    def forward(self) -> torch.Tensor:
        """Return the logits (B, V) of each row's next token."""
        device = self._model.device
        if self._encoded is None:
            self._cache_name = cache_name(self._model)
            self._encode()
            ids = torch.tensor([list(prompt[-self._num_given :]) for prompt in self._prompts], device=device)
            self._read(ids[:, :-1])
            ids = ids[:, -1:]
        else:
            self._drop()
            ids = torch.tensor(last_ids(self.rows), device=device)
        output = self._model(
            encoder_outputs=self._encoded,
            attention_mask=self._mask,
            decoder_input_ids=ids,
            **{self._cache_name: self._cache},
            use_cache=True,
        )
        self._cache = getattr(output, self._cache_name)
        logits: torch.Tensor = output.logits[:, -1]
        logits[:, self._suppressed] = -torch.inf
        return logits

    def _encode(self) -> None:
        sources = [list(prompt[: len(prompt) - self._num_given]) for prompt in self._prompts]
        width = max(len(source) for source in sources)
        padding = self._model.config.pad_token_id or 0
        device = self._model.device
        ids = torch.tensor([source + [padding] * (width - len(source)) for source in sources], device=device)
        mask = [[1] * len(source) + [0] * (width - len(source)) for source in sources]
        self._mask = torch.tensor(mask, device=device)
        self._encoded = self._model.get_encoder()(input_ids=ids, attention_mask=self._mask, return_dict=True)

    def _drop(self) -> None:
        live = [index for index, row in enumerate(self.rows) if row]
        if 2 * len(live) <= len(self.rows):
            index = torch.tensor(live, device=self._mask.device)
            self._encoded = BaseModelOutput(last_hidden_state=self._encoded[0][index])
            self._mask = self._mask[index]
            self._cache.batch_select_indices(index)
            self.rows = [self.rows[index] for index in live]

    def _read(self, ids: torch.Tensor) -> None:
        """Take in what the decoder has been given (B, T), without logits, which are as long as the vocabulary."""
        if ids.shape[1]:
            output = self._model.get_decoder()(
                input_ids=ids,
                encoder_hidden_states=self._encoded[0],
                encoder_attention_mask=self._mask,
                use_cache=True,
            )
            self._cache = getattr(output, self._cache_name)


def form_batches(
    model: Any, sequences: list[Sequence], num_opening: int, suppressed: SequenceOf[int] = ()
) -> list[Seq2SeqBatch]:
    """Return batches of the sequences whose decoders begin equally far; the arguments are a batch's."""

    def far(sequence: Sequence) -> int:
        return num_given(sequence, num_opening)

    return [
        Seq2SeqBatch(model, list(group), num_opening, suppressed)
        for _, group in groupby(sorted(sequences, key=far), key=far)
    ]


def num_given(sequence: Sequence, num_opening: int) -> int:
    """Return how many of a prompt's last ids are the decoder's."""
    return num_opening + sequence.request.num_answered


def suppressed_ids(model: Any, stop_ids: frozenset[int]) -> list[int]:
    """Return the ids that a model's generation config forbids by themselves; what ends an answer is never forbidden."""
    config = model.generation_config
    listed = [getattr(config, name, None) or () for name in ("bad_words_ids", "suppress_tokens")]
    words = [word for words in listed if isinstance(words, list | tuple) for word in words]
    single = [word[0] if isinstance(word, list) and len(word) == 1 else word for word in words]
    size = model.get_output_embeddings().weight.shape[0]
    ids = {word for word in single if isinstance(word, int) and 0 <= word < size}
    return sorted(ids - stop_ids)
