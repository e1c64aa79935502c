"""One worker's computing with a Decoder: pages of its own for keys and values, weights that all workers share."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from itertools import islice, zip_longest

import numpy as np

from llmpar.engine.cpu.decoder import Array, Decoder, Floats, Pass, Tokens, round_up
from llmpar.engine.cpu.vector import LANES, TILE_ROWS
from llmpar.engine.lookup import Lookup
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
        self._pass = Pass(
            self._decoder, max(round_up(self.num_slots, TILE_ROWS), _PASS_TOKENS), self._keys, self._values
        )
        num_shared = len(self._prefix.keys)
        self._keys[:num_shared], self._values[:num_shared] = self._prefix.keys, self._prefix.values
        # The last one freed is the next one taken, so that no more memory is touched than is used at once.
        self._free_pages = list(reversed(range(num_shared, self._num_pages)))
        self._free_slots = list(reversed(range(self.num_slots)))
        self._tables = np.zeros((self.num_slots, self._num_pages), np.int32)
        self._num_unreserved = len(self._free_pages)
        self._taken: dict[int, list[int]] = {}  # pages, by slot
        self._lookups: dict[int, Lookup] = {}  # by slot

    def reserve(self, request: Request) -> bool:
        """Set pages aside for a request to its last token; False if there are not enough now."""
        num_pages = self._num_own_pages(request)
        if num_pages > self._num_unreserved:
            return False
        self._num_unreserved -= num_pages
        return True

    def resize(self, num_slots: int) -> None:
        """Run so many sequences at once from now on, no more than at first; called when none lives."""
        self.num_slots = num_slots
        self._free_slots = list(reversed(range(num_slots)))

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
        """Append the next token to each of the sequences, which are all that live; more, where a guess was right.

        Products take TILE_ROWS rows at once. Rows of a tile that would be computed for nothing try what may come next:
        with few sequences that is most of them, with many there is nothing to gain.
        """
        spare = -len(sequences) % TILE_ROWS
        line: list[tuple[int, int, int]] = []
        guesses: list[list[int]] = []
        for sequence in sequences:
            guess = self._guess(sequence, spare) if spare else []
            spare -= len(guess)
            guesses.append(guess)
            position = sequence.num_tokens - 1
            ids = [sequence.output_ids[-1], *guess]
            line += [(sequence.slot, position + i, token_id) for i, token_id in enumerate(ids)]
        hidden = self._pass.forward(_tokens(line, self._tables))
        if len(line) == len(sequences):
            self._choose(sequences, hidden)
            return
        rows = [
            row for sequence, guess in zip(sequences, guesses, strict=True) for row in [sequence] * (len(guess) + 1)
        ]
        next_ids = iter(self._next_ids(rows, hidden))
        for sequence, guess in zip(sequences, guesses, strict=True):
            right = True
            for token_id, guessed in zip_longest(islice(next_ids, len(guess) + 1), guess):
                if right and sequence.finish_reason is None:
                    sequence.append(token_id, self._stop_ids)
                    right = token_id == guessed

    def release(self, sequence: Sequence) -> None:
        """Free the sequence's slot and pages, or what was set aside if its prefill did not come to it."""
        if sequence.slot < 0:
            self._num_unreserved += self._num_own_pages(sequence.request)
            return
        self._free_slots.append(sequence.slot)
        self._lookups.pop(sequence.slot, None)
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

    def _guess(self, sequence: Sequence, num_tokens: int) -> list[int]:
        params = sequence.request.params
        if params.temperature > 0:  # each draw has its own random number, in order
            return []
        if sequence.slot not in self._lookups:
            self._lookups[sequence.slot] = Lookup(sequence.request.prompt_ids)
        room = params.max_new_tokens - len(sequence.output_ids) - 1
        return self._lookups[sequence.slot].propose(sequence.output_ids, min(num_tokens, room))

    def _choose(self, sequences: list[Sequence], hidden: Floats) -> None:
        for sequence, token_id in zip(sequences, self._next_ids(sequences, hidden), strict=True):
            sequence.append(token_id, self._stop_ids)

    def _next_ids(self, sequences: list[Sequence], hidden: Floats) -> list[int]:
        """Return the token after each row of `hidden` (B, H); row i is of sequences[i]."""
        next_ids: list[int] = self._pass.likeliest(hidden).tolist()
        drawn = [index for index, sequence in enumerate(sequences) if sequence.request.params.temperature > 0]
        if drawn:
            for index, logits in zip(drawn, self._pass.logits(hidden[drawn]), strict=True):
                next_ids[index] = draw(logits, sequences[index])
        return next_ids


def _tokens(line: list[tuple[int, int, int]], tables: Array) -> Tokens:
    """Return tokens given as (slot, position, id)."""
    rows, positions, ids = np.array(line, np.int32).T.copy()
    return Tokens(ids, positions, rows, tables)
