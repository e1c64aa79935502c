"""One worker's computing on a GPU: slots whose state stays on the device, steps given out before the last is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from llmpar.engine.constraint import WORD, Mask
from llmpar.engine.cuda import kernels
from llmpar.engine.cuda.decoder import BLOCK, Decoder, PagedCache, Pass, Tokens
from llmpar.engine.cuda.reading import Reader
from llmpar.engine.cuda.sizes import step_size
from llmpar.engine.cuda.stream import Fetched, Stream, as_bits
from llmpar.engine.finite import NO_TOKEN
from llmpar.engine.loops import LOOK_EVERY
from llmpar.engine.pages import Pages, num_pages_of
from llmpar.engine.request import Request, Sequence, append_to_all
from llmpar.engine.sampler import others_of_rows
from llmpar.engine.scores import NOT_SCORED, Others

PASS_TOKENS = 8192  # of prompts, read at once: enough for the products, few enough for memory
_LEAST_PASS = 512
_WORTH_A_STEP = 4  # those who wait for nothing go on by themselves if they are one of so many
_BELOW_1 = np.nextafter(np.float32(1), np.float32(0))  # what a number below 1 must not be rounded above
LOGITS = 4096  # that one program looks at, at once
Slots = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class _Step:
    """A step that was given out: what it finds, whose rows these are, and what is known of other tokens, by row.

    It finds nothing for rows that are None: which token came there was known before. `goes_on` (B,) are the rows whose
    sequences go on after it, unless the token itself ends them.
    """

    fetched: Fetched
    rows: list[Sequence] | list[Sequence | None]
    goes_on: npt.NDArray[np.bool_]
    others: dict[int, Others]


class CudaRunner:
    """Runs prompts and steps through a decoder, without padding; which token comes next is chosen on the device.

    A step needs nothing from the host but which slots take part. So the next one is given out before the last one's
    tokens are looked at: sequences may be a step ahead of what they are known to say, and where one has ended by then,
    what came after is dropped. With constraints a token is waited for, unless it was the only one that could come.
    Meanwhile those go on that wait for nothing, if they are enough to be worth a step of their own.

    Args:
        decoder: the model.
        num_slots: how many sequences live at once.
        num_pages: for how many times PAGE tokens there is room, the prefix counted once.
        context_length: the most tokens of a sequence.
        stop_ids: the tokens that end an answer.
        prefix_ids: what most prompts begin with; it is read once.
        pass_tokens: of prompts, read at once; None for the usual.
    """

    continuous = True

    def __init__(
        self,
        decoder: Decoder,
        num_slots: int,
        num_pages: int,
        context_length: int,
        stop_ids: frozenset[int],
        prefix_ids: SequenceOf[int] = (),
        pass_tokens: int | None = None,
    ) -> None:
        self.num_slots = self._most_slots = num_slots
        self.told: Callable[[list[Sequence]], None] = lambda _: None  # of each step, who takes part in it
        self._decoder = decoder
        self._num_pages = num_pages
        self._context_length = context_length
        self._stop_ids = stop_ids
        self._ending_ids = np.array([*stop_ids, NO_TOKEN], np.int32)
        self._prefix_ids = tuple(prefix_ids)
        self._pass_tokens = self._most_pass_tokens = pass_tokens or PASS_TOKENS

    @torch.inference_mode()
    def start(self) -> None:
        """Make room on the device and read the prefix, in the thread that will use it."""
        decoder, count = self._decoder, self.num_slots
        self._stream = Stream(decoder.device)
        self._pages = Pages(count, self._num_pages, self._context_length, self._prefix_ids)
        self._in_flight: deque[_Step] = deque()
        self._unknown: set[Sequence] = set()  # that have constraints, and a token under way that could be another
        self._open: dict[int, Mask] = {}  # by slot, what may come next, where that is more than one token
        # By slot: tokens of its sequence that were given out, the most there may be, and whether it is a plain one.
        self._num_given_out, self._limits = (np.zeros(count, np.int32) for _ in range(2))
        self._is_plain = np.zeros(count, np.bool_)
        # Those for which there is more to do in a step.
        self._drawn, self._constrained, self._weighed = (set[Sequence]() for _ in range(3))

        def room(*shape: int, kind: torch.dtype = torch.int32) -> torch.Tensor:
            return torch.zeros(shape, dtype=kind, device=decoder.device)

        # One slot more is nobody's: batches are filled up with it. Its keys and values go to a page of their own.
        self._cache = PagedCache(
            pages=decoder.make_pages(self._num_pages + 1),
            tables=room(count + 1, self._pages.tables.shape[1]),
            shares=room(count + 1),
            prefix_length=len(self._prefix_ids) // BLOCK * BLOCK,
            exponents=decoder.make_exponents(self._num_pages + 1),
        )
        self._ids, self._positions, self._is_masked = (room(count + 1) for _ in range(3))
        self._temperatures, self._top_ps = (room(count + 1, kind=torch.float32) for _ in range(2))
        self._masks = room(count + 1, -(-decoder.vocabulary // WORD))
        largest = step_size(count)
        self._rows, self._chosen = (room(max(largest, self._most_pass_tokens)) for _ in range(2))
        self._uniforms, self._scores = (
            room(max(largest, self._most_pass_tokens), kind=torch.float32) for _ in range(2)
        )
        self._numbers = torch.arange(largest, dtype=torch.int32, device=decoder.device)
        self._ones = torch.ones_like(self._numbers)
        self._pass = Pass(decoder, self._cache)
        self._reader = Reader(decoder, self._pass, self._stream, count, self._most_pass_tokens)
        self._stream.reserve(decoder.recorded_bytes(self._pass_tokens, self.num_slots))
        self._read_prefix()

    def reserve(self, request: Request) -> bool:
        """Set pages aside for a request to its last token; False if there are not enough now."""
        return self._pages.reserve(request)

    def resize(self, num_slots: int) -> None:
        """Run so many sequences at once from now on, and read as much less; called when none lives."""
        self.num_slots = num_slots
        self._pass_tokens = max(
            min(_LEAST_PASS, self._most_pass_tokens), self._most_pass_tokens * num_slots // self._most_slots
        )
        for some in (self._in_flight, self._unknown, self._drawn, self._constrained, self._weighed):
            some.clear()
        self._pages.resize(num_slots)
        self._stream.forget()
        self._stream.reserve(self._decoder.recorded_bytes(self._pass_tokens, num_slots))

    @torch.inference_mode()
    def prefill(self, sequences: list[Sequence]) -> None:
        """Read the prompts of new sequences; their first tokens come with the next steps."""
        spans: list[tuple[Sequence, int, int]] = []
        room = self._pass_tokens
        for sequence, num_read in zip(sequences, self._admit(sequences), strict=True):
            first, end = num_read, len(sequence.request.prompt_ids)
            while first < end:
                last = min(end, first + room)
                spans.append((sequence, first, last))
                room -= last - first
                first = last
                if not room:
                    self._read(spans)
                    spans, room = [], self._pass_tokens
        if spans:
            self._read(spans)

    @torch.inference_mode()
    def decode(self, sequences: list[Sequence]) -> None:
        """Give out the next step of the sequences, which are all that live, and append what an earlier one found."""
        rows, slots = self._next_rows(sequences)
        if rows:
            self.told(rows)
            count = step_size(len(rows))
            self._num_given_out[slots] += 1
            padded = np.full(count, len(self._num_given_out), np.int32)
            padded[: len(rows)] = slots
            self._rows[:count] = self._stream.send(padded)
            self._draw(rows)
            if self._want_others(rows):
                self._give_out(rows, slots, self._step(count))  # not recorded: all logits would have to be kept
            else:
                self._stream.run(("step", count), lambda: self._step(count))
                self._give_out(rows, slots)
        self._settle(1 if rows else 0)

    def release(self, sequence: Sequence) -> None:
        """Free the sequence's slot and pages. What is under way still writes there, but before whoever comes next."""
        for some in (self._drawn, self._constrained, self._weighed):
            some.discard(sequence)
        self._pages.release(sequence)

    def _next_rows(self, sequences: list[Sequence]) -> tuple[list[Sequence], Slots]:
        """Return those that take part in the next step, after the device was told what may come next in them."""
        rows, slots = self._unfinished(sequences)
        if not self._constrained:
            return rows, slots
        if self._unknown:
            ahead = [
                sequence
                for sequence in rows
                if sequence.request.constraint is None
                or (sequence not in self._unknown and sequence.forced_id is not None)
            ]
            if _WORTH_A_STEP * len(ahead) < len(rows):
                self._settle(0)
                ahead, _ = self._unfinished(sequences)
            rows = ahead
        self._mask(rows)
        return self._unfinished(rows)  # where a constraint could not tell, the sequence has failed

    def _unfinished(self, sequences: list[Sequence]) -> tuple[list[Sequence], Slots]:
        rows = [sequence for sequence in sequences if sequence.finish_reason is None]
        slots = np.array([sequence.slot for sequence in rows], np.int32)
        is_open = self._num_given_out[slots] < self._limits[slots]
        return (rows, slots) if is_open.all() else (list(compress(rows, is_open)), slots[is_open])

    def _settle(self, num_left: int) -> None:
        """Append the tokens of all steps but the last `num_left`."""
        while len(self._in_flight) > num_left:
            step = self._in_flight.popleft()
            ids, scores = step.fetched.numbers()
            goes_on = step.goes_on & ~np.isin(ids, self._ending_ids)
            plain: Iterable[Any] = compress(step.rows, goes_on)  # no None: those have constraints
            append_to_all(plain, ids[goes_on].tolist(), scores[goes_on].tolist())
            for row in np.flatnonzero(~goes_on).tolist():
                sequence = step.rows[row]
                if sequence is None:
                    continue
                self._unknown.discard(sequence)
                logprob = float(scores[row]) if sequence.request.params.is_scored else NOT_SCORED
                sequence.append(int(ids[row]), self._stop_ids, logprob, step.others.get(row, ()))

    def _give_out(self, rows: list[Sequence], slots: Slots, logits: torch.Tensor | None = None) -> None:
        """Take note of a step that was given out, and of what is wanted of its `logits` (B, V)."""
        others: dict[int, Others] = {}
        if logits is not None:
            wanted = [row for row, one in enumerate(rows) if one.wants_others and one.forced_id is None]
            if wanted:
                chosen = logits[wanted].float()
                if softcap := self._decoder.softcap:
                    chosen = torch.tanh(chosen / softcap) * softcap
                masks = [self._open.get(rows[row].slot) for row in wanted]
                others = dict(zip(wanted, others_of_rows(chosen, [rows[row] for row in wanted], masks), strict=True))
        fetched = self._stream.fetch(self._chosen[: len(rows)], self._scores[: len(rows)])
        num_given_out = self._num_given_out[slots]
        goes_on = self._is_plain[slots] & (num_given_out < self._limits[slots]) & (num_given_out % LOOK_EVERY != 0)
        if not self._constrained:
            self._in_flight.append(_Step(fetched, rows, goes_on, others))
            return
        forced = [sequence.forced_id if sequence.request.constraint else None for sequence in rows]
        unknown = [sequence if token is None else None for sequence, token in zip(rows, forced, strict=True)]
        self._in_flight.append(_Step(fetched, unknown, goes_on, others))
        for sequence, token in zip(rows, forced, strict=True):
            if token is not None:
                sequence.append(token, self._stop_ids)
            elif sequence.request.constraint:
                self._unknown.add(sequence)

    def _admit(self, sequences: list[Sequence]) -> list[int]:
        """Give sequences their slots and pages, and return how many tokens of each are read with that."""
        vocabulary = self._decoder.vocabulary
        num_read: list[int] = []
        copies: list[tuple[int, int]] = []  # all of the page on which the prefix ends
        for sequence in sequences:
            read, copied = self._pages.admit(sequence)
            num_read.append(read)
            copies += [copied] if copied else []
        ids = np.concatenate([sequence.request.prompt_ids for sequence in sequences])
        if ids.min() < 0 or ids.max() >= vocabulary:
            raise ValueError(f"a token of the prompt is not among the model's {vocabulary}")
        slots = [sequence.slot for sequence in sequences]
        asked = [sequence.request for sequence in sequences]
        self._num_given_out[slots] = 0
        self._limits[slots] = [request.params.max_new_tokens for request in asked]
        self._is_plain[slots] = [sequence.is_plain for sequence in sequences]
        for sequence in sequences:
            params = sequence.request.params
            if params.temperature > 0:
                self._drawn.add(sequence)
            if sequence.request.constraint:
                self._constrained.add(sequence)
            if params.num_others or params.weighs:
                self._weighed.add(sequence)
        width = max(num_pages_of(len(request.prompt_ids) + request.params.max_new_tokens) for request in asked)
        numbers = self._stream.send(
            np.array(
                [
                    slots,
                    [len(request.prompt_ids) - 1 for request in asked],
                    [read >= max(1, self._cache.prefix_length) for read in num_read],
                ],
                np.int32,
            )
        )
        chances = self._stream.send(
            np.array([[request.params.temperature, request.params.top_p] for request in asked], np.float32)
        )
        index = numbers[0].long()
        self._cache.tables[index, :width] = self._stream.send(self._pages.tables[slots, :width])
        self._positions[index], self._cache.shares[index] = numbers[1], numbers[2]
        self._temperatures[index], self._top_ps[index] = chances[:, 0], chances[:, 1]
        self._is_masked[index] = 0
        if copies:
            self._cache.copy(copies[0][0], self._stream.send(np.array([target for _, target in copies], np.int64)))
        self._mask(sequences)
        return num_read

    def _mask(self, sequences: list[Sequence]) -> None:
        """Tell the device what may come next in the sequences that have constraints."""
        slots, masks = [], []
        for sequence in sequences:
            if sequence.request.constraint is None:
                continue
            mask: npt.NDArray[np.uint32] | None = None
            self._open.pop(sequence.slot, None)
            if (token_id := sequence.forced_id) is not None:
                mask = np.zeros(self._masks.shape[1], np.uint32)
                mask[token_id // WORD] = np.uint32(1) << np.uint32(token_id % WORD)
            elif allowed := sequence.allowed():
                mask = self._open[sequence.slot] = allowed[0]
            if mask is not None:
                slots.append(sequence.slot)
                masks.append(mask)
        if slots:
            index = self._stream.send(np.array(slots, np.int64))
            self._masks[index] = self._stream.send(as_bits(np.array(masks, np.uint32)))
            self._is_masked[index] = 1

    def _want_others(self, sequences: list[Sequence]) -> bool:
        return bool(self._weighed) and any(sequence.wants_others for sequence in sequences)

    def _draw(self, sequences: list[Sequence]) -> None:
        """Send the next random number of each sequence that is drawn."""
        if self._drawn:
            drawn = [s.draw() if s.request.params.temperature > 0 and s.forced_id is None else 0.0 for s in sequences]
            self._uniforms[: len(drawn)] = self._stream.send(np.minimum(np.array(drawn, np.float32), _BELOW_1))

    def _read(self, spans: list[tuple[Sequence, int, int]]) -> None:
        """Read pieces of prompts, and choose the token after those that end here."""
        ended = [last == len(sequence.request.prompt_ids) for sequence, _, last in spans]
        ids = np.concatenate([np.asarray(sequence.request.prompt_ids[a:b], np.int32) for sequence, a, b in spans])
        positions = np.concatenate([np.arange(a, b, dtype=np.int32) for _, a, b in spans])
        lengths = [b - a for _, a, b in spans]
        slots = np.repeat(np.array([sequence.slot for sequence, _, _ in spans], np.int32), lengths)
        hidden = self._reader.read(ids, positions, slots, lengths)
        sequences = [sequence for (sequence, _, _), is_end in zip(spans, ended, strict=True) if is_end]
        if not sequences:
            return
        places = self._stream.send((np.cumsum(lengths) - 1)[ended])
        self._rows[: len(sequences)] = self._stream.send(np.array([s.slot for s in sequences], np.int32))
        self._draw(sequences)
        logits = self._choose(hidden[places])
        slots = np.array([sequence.slot for sequence in sequences], np.int32)
        self._num_given_out[slots] = 1
        self._give_out(sequences, slots, logits if self._want_others(sequences) else None)

    def _read_prefix(self) -> None:
        """Read the prefix into the first pages, and give the slot that is nobody's the last page."""
        ids, nobody = np.array(self._prefix_ids, np.int32), len(self._num_given_out)
        shared = range(num_pages_of(len(ids)))
        self._cache.tables[nobody, : len(shared)] = torch.tensor(shared, dtype=torch.int32)
        for first in range(0, len(ids), self._pass_tokens):
            some = ids[first : first + self._pass_tokens]
            positions = np.arange(first, first + len(some), dtype=np.int32)
            self._reader.read_as_they_are(some, positions, np.full(len(some), nobody, np.int32), [len(some)])
        self._cache.tables[nobody] = self._num_pages

    def _step(self, count: int) -> torch.Tensor | None:
        """Compute the next token of the slots in the first `count` rows, and return the logits (count, V) of all.

        It is recorded, so nothing may change its place; of what is recorded, the logits hold only until the next step.
        """
        slots = self._rows[:count]
        index = slots.long()
        tokens = Tokens(
            self._ids[index].long(), self._positions[index], slots, self._numbers[:count], self._ones[:count], most=1
        )
        return self._choose(self._pass.forward(tokens))

    def _choose(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """Choose the token after each of the hidden states (B, H), normed, for the slots in the first B rows.

        Returns:
            All logits (B, V), as the head gives them; None on a rank that does not choose.
        """
        decoder, count = self._decoder, len(hidden)
        num_slots = len(self._num_given_out)
        logits = decoder.scores(hidden)
        if logits is not None:
            kernels.choose[(count,)](
                logits, decoder.vocabulary, self._rows, self._ids, self._positions, self._chosen, self._scores,
                num_slots, self._temperatures, self._top_ps, self._uniforms, self._is_masked, self._masks,
                self._masks.shape[1], decoder.softcap, BLOCK=LOGITS, num_warps=8,
            )  # fmt: skip
        if decoder.share:
            rows = self._rows[:count]
            decoder.share.go_on(self._chosen[:count], rows, self._ids, self._positions, num_slots)
        return logits
