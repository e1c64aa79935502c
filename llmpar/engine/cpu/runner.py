"""One worker's computing with a Decoder: pages of its own for keys and values, weights that all workers share."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from llmpar.engine.constraint import Mask, unpack
from llmpar.engine.cpu.decoder import Decoder, Pass, Tokens
from llmpar.engine.cpu.precision import Array, Floats, round_up
from llmpar.engine.cpu.product import TILE_ROWS
from llmpar.engine.cpu.team import ALONE, Seat
from llmpar.engine.finite import NO_TOKEN
from llmpar.engine.lookup import Lookup
from llmpar.engine.pages import PAGE, Pages, num_pages_of
from llmpar.engine.request import Request, Sequence
from llmpar.engine.sampler import draw, others_of
from llmpar.engine.scores import NOT_SCORED, Choice, Others

_KEPT_SHARE, _KEPT_PAGES = 4, 4  # prompts are kept in a quarter of all pages, or in four for each slot
_PASS_TOKENS = 256  # of prompts, read at once: enough for the products, few enough for the caches


@dataclass(frozen=True, slots=True)
class PagedPrefix:
    """What the prompts of a job begin with: its ids, and pages with their keys and values."""

    ids: tuple[int, ...]
    keys: Array
    values: Array

    @staticmethod
    def compute(decoder: Decoder, ids: SequenceOf[int]) -> PagedPrefix:
        """Return the keys and values of the ids that all prompts begin with, computed once for every worker."""
        num_pages = num_pages_of(len(ids))
        keys, values = decoder.make_pages(num_pages)
        work = Pass(decoder, min(len(ids), _PASS_TOKENS), keys, values)
        tables = np.arange(num_pages, dtype=np.int32)[None]
        for start in range(0, len(ids), _PASS_TOKENS):
            some = ids[start : start + _PASS_TOKENS]
            line = [(0, position, ids[position]) for position in range(start, start + len(some))]
            work.forward(_tokens(line, tables), np.empty(0, np.int64))  # their keys and values are all it takes
        return PagedPrefix(tuple(ids), keys, values)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row whose next token is wanted: its place in a line of tokens, and which token was tried after it, if any."""

    sequence: Sequence
    place: int
    mask: Mask | None
    guessed: int | None


class DecoderRunner:
    """Runs prompts and steps through a decoder, every pass as one line of tokens without padding.

    Args:
        decoder: the model.
        num_slots: how many sequences live at once.
        num_pages: for how many times 16 tokens there is room, the prefix counted once.
        stop_ids: the tokens that end an answer.
        prefix: what prompts begin with; one that does not is read whole.
        seat: where workers that have nothing to do may help this one.
    """

    continuous = True

    def __init__(
        self,
        decoder: Decoder,
        num_slots: int,
        num_pages: int,
        stop_ids: frozenset[int],
        prefix: PagedPrefix,
        seat: Seat = ALONE,
    ) -> None:
        self.num_slots = num_slots
        self._decoder = decoder
        self._rows_at_once = decoder.rows_at_once
        self._num_pages = num_pages
        self._stop_ids = stop_ids
        self._prefix = prefix
        self._seat = seat

    def start(self) -> None:
        """Make room, in the thread that will use it."""
        self._keys, self._values = self._decoder.make_pages(self._num_pages)
        self._pass_tokens = max(round_up(self.num_slots, TILE_ROWS), _PASS_TOKENS)
        self._pass = Pass(self._decoder, self._pass_tokens, self._keys, self._values, self._seat)
        num_shared = len(self._prefix.keys)
        self._keys[:num_shared], self._values[:num_shared] = self._prefix.keys, self._prefix.values
        longest = self._num_pages * PAGE
        most_kept = min(self._num_pages // _KEPT_SHARE, _KEPT_PAGES * self.num_slots)
        self._pages = Pages(self.num_slots, self._num_pages, longest, self._prefix.ids, most_kept)
        self._lookups: dict[int, Lookup] = {}  # by slot
        self._num_read: dict[int, int] = {}  # tokens of a sequence whose keys and values are there, by slot

    def reserve(self, request: Request) -> bool:
        """Set pages aside for a request to its last token; False if there are not enough now."""
        return self._pages.reserve(request)

    def resize(self, num_slots: int) -> None:
        """Run so many sequences at once from now on, no more than at first; called when none lives."""
        self.num_slots = num_slots
        self._pages.resize(num_slots)

    def prefill(self, sequences: list[Sequence]) -> None:
        """Read the prompts of new sequences, and append the first token to each; more, where no other can come."""
        admitted: list[Sequence] = []
        for sequence in sequences:
            if self._pages.waits(sequence.request):
                self._read_prompts(admitted)
                admitted = []
            self._admit(sequence)
            admitted.append(sequence)
        self._read_prompts(admitted)

    def decode(self, sequences: list[Sequence]) -> None:
        """Append the next token to each of the sequences, which are all that live.

        More are appended where no other can come, and where a guess was right. Products compute some rows in the time
        of one (see `Decoder.rows_at_once`). Those that would be computed for nothing try what may come next: with few
        sequences that is most of them, with many there is nothing to gain.
        """
        self._read(sequences, may_guess=True)

    def release(self, sequence: Sequence) -> None:
        """Free the sequence's slot and pages, or what was set aside if its prefill did not come to it."""
        self._pages.release(sequence)
        self._lookups.pop(sequence.slot, None)

    def _admit(self, sequence: Sequence) -> None:
        """Give a sequence a slot and pages to its end, of which it has read the prefix."""
        num_read, copied = self._pages.admit(sequence)
        self._num_read[sequence.slot] = num_read
        if copied:
            source, target = copied
            self._keys[target], self._values[target] = self._keys[source], self._values[source]

    def _read_prompts(self, sequences: list[Sequence]) -> None:
        """Read the prompts of sequences, of which no two are worth reading one after the other, and share them."""
        for sequence in sequences:
            self._append_forced(sequence)
        self._read(sequences, may_guess=False)
        read = [each for each in sequences if self._num_read[each.slot] >= len(each.request.prompt_ids)]
        self._pages.share(read)

    def _read(self, sequences: list[Sequence], *, may_guess: bool) -> None:
        """Read the tokens that sequences have and have not read, and append what follows."""
        live = [sequence for sequence in sequences if sequence.finish_reason is None]
        spare = -sum(sequence.num_tokens - self._num_read[sequence.slot] for sequence in live) % self._rows_at_once
        line: list[tuple[int, int, int]] = []
        wanted: list[_Row] = []
        for sequence in live:
            guess = self._guess(sequence, spare) if may_guess and spare else []
            masks: SequenceOf[Mask | None] = sequence.allowed(guess)
            if sequence.finish_reason:
                continue
            if masks:
                guess = guess[: len(masks) - 1]
            spare -= len(guess)
            line += self._unread(sequence)
            last, position = len(line) - 1, sequence.num_tokens
            line += [(sequence.slot, position + i, token_id) for i, token_id in enumerate(guess)]
            wanted += [
                _Row(sequence, last + i, mask, guessed)
                for i, (mask, guessed) in enumerate(zip_longest(masks or [None] * (len(guess) + 1), guess))
            ]
            self._num_read[sequence.slot] = position
        if not line:
            return
        choices = self._choices(wanted, self._forward(line, [row.place for row in wanted]))
        wrong: set[int] = set()  # slots
        for row, choice in zip(wanted, choices, strict=True):
            sequence = row.sequence
            if sequence.slot not in wrong and sequence.finish_reason is None:
                if (next_id := sequence.forced_id) is not None:
                    sequence.append(next_id, self._stop_ids)
                else:
                    next_id = choice.token_id
                    sequence.append(next_id, self._stop_ids, choice.logprob, choice.others)
                if next_id == row.guessed:
                    self._num_read[sequence.slot] += 1
                else:
                    wrong.add(sequence.slot)
                    self._append_forced(sequence)

    def _append_forced(self, sequence: Sequence) -> None:
        while (token_id := sequence.forced_id) is not None:
            sequence.append(token_id, self._stop_ids)

    def _unread(self, sequence: Sequence) -> list[tuple[int, int, int]]:
        prompt, output = sequence.request.prompt_ids, sequence.output_ids
        num_prompt = len(prompt)
        return [
            (sequence.slot, i, prompt[i] if i < num_prompt else output[i - num_prompt])
            for i in range(self._num_read[sequence.slot], sequence.num_tokens)
        ]

    def _forward(self, line: list[tuple[int, int, int]], wanted: list[int]) -> Floats:
        """Run a line of tokens, and return the last hidden states (B, H) of those wanted, by their places in it."""
        places = np.array(wanted)
        found = np.empty((len(wanted), self._decoder.hidden_size), np.float32)
        for start in range(0, len(line), self._pass_tokens):
            here = (places >= start) & (places < start + self._pass_tokens)
            tokens = _tokens(line[start : start + self._pass_tokens], self._pages.tables)
            found[here] = self._pass.forward(tokens, places[here] - start)
        return found

    def _guess(self, sequence: Sequence, num_tokens: int) -> list[int]:
        params = sequence.request.params
        if params.temperature > 0:  # each draw has its own random number, in order
            return []
        if sequence.slot not in self._lookups:
            self._lookups[sequence.slot] = Lookup(sequence.request.prompt_ids)
        room = params.max_new_tokens - len(sequence.output_ids) - 1
        return self._lookups[sequence.slot].propose(sequence.output_ids, min(num_tokens, room))

    def _choices(self, rows: list[_Row], hidden: Floats) -> list[Choice]:
        """Return the token after each row of `hidden` (B, H), NO_TOKEN where its logits are not finite."""
        params = [row.sequence.request.params for row in rows]
        beside = [index for index, row in enumerate(rows) if params[index].temperature > 0 or row.sequence.wants_others]
        masks, scored = [row.mask for row in rows], [one.is_scored for one in params]
        found, scores, kept = self._pass.likeliest(hidden, masks, scored, beside)
        next_ids: list[int] = found.tolist()
        # Minus the logarithm of the whole sum: the largest logit is taken away first, where float32 is still exact.
        logprobs: list[float] = np.minimum(scores[:, 0] - scores[:, 1] - scores[:, 2], 0).tolist()
        drawn = self._drawn(rows, beside, kept, scores, next_ids)
        others: dict[int, Others] = {}
        for place, (index, logits) in enumerate(zip(beside, kept, strict=True)):
            row = rows[index]
            if next_ids[index] == NO_TOKEN:
                continue
            if params[index].temperature > 0:
                next_ids[index] = drawn[place] if place in drawn else _draw(row, logits)
                logprobs[index] = min(float(logits[next_ids[index]] - scores[index, 1] - scores[index, 2]), 0.0)
            if row.sequence.wants_others:
                others[index] = others_of(logits, row.sequence, row.mask)
        return [
            Choice(token_id, logprob if one.is_scored else NOT_SCORED, others.get(index, ()))
            for index, (token_id, logprob, one) in enumerate(zip(next_ids, logprobs, params, strict=True))
        ]

    def _drawn(
        self, rows: list[_Row], beside: list[int], kept: Floats, scores: Floats, next_ids: list[int]
    ) -> dict[int, int]:
        """Return the tokens drawn from all that there are, by the place of a row's logits in `kept`."""
        places = [
            place for place, index in enumerate(beside) if _takes_all(rows[index]) and next_ids[index] != NO_TOKEN
        ]
        if not places:
            return {}
        chosen = [beside[place] for place in places]
        chances = [(rows[i].sequence.request.params.temperature, rows[i].sequence.draw()) for i in chosen]
        return dict(zip(places, self._pass.draw(kept, places, scores[chosen, 1], chances), strict=True))


def _takes_all(row: _Row) -> bool:
    """Tell whether a token is drawn for a row, and all have a chance."""
    params = row.sequence.request.params
    return params.temperature > 0 and params.top_p == 1 and row.mask is None


def _draw(row: _Row, logits: Floats) -> int:
    """Draw one of those tokens that a row may take."""
    if row.mask is not None:
        logits = np.where(unpack(row.mask, len(logits)), logits, -np.inf)
    return draw(logits, row.sequence)


def _tokens(line: list[tuple[int, int, int]], tables: Array) -> Tokens:
    """Return tokens given as (slot, position, id)."""
    rows, positions, ids = np.array(line, np.int32).T.copy()
    return Tokens(ids, positions, rows, tables)
