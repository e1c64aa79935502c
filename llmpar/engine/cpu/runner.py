"""One worker's computing with a Decoder: pages of its own for keys and values, weights that all workers share."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np

from llmpar.engine.cpu.decoder import Array, Decoder, Floats, Pass, Tokens
from llmpar.engine.cpu.vector import LANES
from llmpar.engine.request import Request, Sequence
from llmpar.engine.sampler import draw

_PASS_TOKENS = 256  # of prompts, read at once: enough for the products, few enough for the caches


@dataclass(frozen=True, slots=True)
class Prefix:
    """What the prompts of a job begin with: its ids, and pages with their keys and values."""

    ids: tuple[int, ...]
    keys: Array
    values: Array

    @staticmethod
    def compute(decoder: Decoder, ids: SequenceOf[int]) -> Prefix:
        """Return the keys and values of the ids that all prompts begin with, computed once for every worker."""
        num_pages = -(-len(ids) // LANES)
        keys, values = decoder.make_pages(num_pages)
        work = Pass(decoder, min(len(ids), _PASS_TOKENS), keys, values)
        tables = np.arange(num_pages, dtype=np.int32)[None]
        for start in range(0, len(ids), _PASS_TOKENS):
            some = ids[start : start + _PASS_TOKENS]
            work.forward(
                _tokens([(0, position, ids[position]) for position in range(start, start + len(some))], tables)
            )
        return Prefix(tuple(ids), keys, values)

    def begins(self, prompt_ids: SequenceOf[int]) -> bool:
        """Tell whether a prompt begins with it, and goes on."""
        return len(prompt_ids) > len(self.ids) and tuple(prompt_ids[: len(self.ids)]) == self.ids


class DecoderRunner:
    """Runs prompts and steps through a decoder, every pass as one line of tokens without padding.

    Args:
        decoder: the model.
        num_slots: how many sequences live at once.
        num_pages: for how many times 16 tokens there is room, the prefix counted once.
        stop_ids: the tokens that end an answer.
        prefix: what prompts begin with; one that does not is read whole.
    """

    continuous = True

    def __init__(
        self, decoder: Decoder, num_slots: int, num_pages: int, stop_ids: frozenset[int], prefix: Prefix
    ) -> None:
        self.num_slots = num_slots
        self._decoder = decoder
        self._num_pages = num_pages
        self._stop_ids = stop_ids
        self._prefix = prefix

    def start(self) -> None:
        """Make room, in the thread that will use it."""
        self._keys, self._values = self._decoder.make_pages(self._num_pages)
        self._pass = Pass(self._decoder, max(self.num_slots, _PASS_TOKENS), self._keys, self._values)
        num_shared = len(self._prefix.keys)
        self._keys[:num_shared], self._values[:num_shared] = self._prefix.keys, self._prefix.values
        # The last one freed is the next one taken, so that no more memory is touched than is used at once.
        self._free_pages = list(reversed(range(num_shared, self._num_pages)))
        self._free_slots = list(reversed(range(self.num_slots)))
        self._tables = np.zeros((self.num_slots, self._num_pages), np.int32)
        self._num_unreserved = len(self._free_pages)
        self._taken: dict[int, list[int]] = {}

    def reserve(self, request: Request) -> bool:
        """Set pages aside for a request to its last token; False if there are not enough now."""
        num_pages = self._num_own_pages(request)
        if num_pages > self._num_unreserved:
            return False
        self._num_unreserved -= num_pages
        return True

    def prefill(self, sequences: list[Sequence]) -> None:
        """Read the prompts of new sequences, and append the first token to each."""
        last = np.empty((len(sequences), self._decoder.hidden_size), np.float32)
        line: list[tuple[int, int, int]] = []
        ends: list[int] = []
        for sequence in sequences:
            line += self._admit(sequence)
            ends.append(len(line) - 1)
        for start in range(0, len(line), _PASS_TOKENS):
            hidden = self._pass.forward(_tokens(line[start : start + _PASS_TOKENS], self._tables))
            for index, end in enumerate(ends):
                if start <= end < start + len(hidden):
                    last[index] = hidden[end - start]
        self._choose(sequences, last)

    def decode(self, sequences: list[Sequence]) -> None:
        """Append the next token to each of the sequences, which are all that live."""
        line = [(sequence.slot, sequence.num_tokens - 1, sequence.output_ids[-1]) for sequence in sequences]
        self._choose(sequences, self._pass.forward(_tokens(line, self._tables)))

    def release(self, sequence: Sequence) -> None:
        """Free the sequence's slot and pages."""
        self._free_slots.append(sequence.slot)
        pages = self._taken.pop(sequence.slot)
        self._free_pages += reversed(pages)
        self._num_unreserved += len(pages)

    def _admit(self, sequence: Sequence) -> Iterator[tuple[int, int, int]]:
        """Give a sequence a slot and pages to its end; return its own tokens, after the prefix."""
        prompt = sequence.request.prompt_ids
        num_shared, num_begun = divmod(len(self._prefix.ids), LANES) if self._prefix.begins(prompt) else (0, 0)
        pages = [self._free_pages.pop() for _ in range(self._num_own_pages(sequence.request))]
        slot = sequence.slot = self._free_slots.pop()
        self._taken[slot] = pages
        self._tables[slot, :num_shared] = range(num_shared)
        self._tables[slot, num_shared : num_shared + len(pages)] = pages
        if num_begun:  # the prefix ends within a page, and each sequence goes on in its own
            self._keys[pages[0]], self._values[pages[0]] = self._keys[num_shared], self._values[num_shared]
        first = num_shared * LANES + num_begun
        return ((slot, position, prompt[position]) for position in range(first, len(prompt)))

    def _num_own_pages(self, request: Request) -> int:
        num_shared = len(self._prefix.ids) // LANES if self._prefix.begins(request.prompt_ids) else 0
        return -(-(len(request.prompt_ids) + request.params.max_new_tokens) // LANES) - num_shared

    def _choose(self, sequences: list[Sequence], hidden: Floats) -> None:
        next_ids = self._pass.likeliest(hidden).tolist()
        drawn = [index for index, sequence in enumerate(sequences) if sequence.request.params.temperature > 0]
        if drawn:
            for index, logits in zip(drawn, self._pass.logits(hidden[drawn]), strict=True):
                next_ids[index] = draw(logits, sequences[index])
        for sequence, token_id in zip(sequences, next_ids, strict=True):
            sequence.append(token_id, self._stop_ids)


def _tokens(line: list[tuple[int, int, int]], tables: Array) -> Tokens:
    """Return tokens given as (slot, position, id)."""
    rows, positions, ids = np.array(line, np.int32).T.copy()
    return Tokens(ids, positions, rows, tables)
