"""A runner whose model is spread over ranks: what is asked of rank 0's is asked of every rank's, in the same order.

Rank 0 alone decides: its tokens are the truth. They go to the others with the next step, or their devices have them by
then: in that case no rank waits for another but on its device, and a step that changes nothing is one short message.
Whatever comes with a request and decides about its answer (sampling, constraints, ends) stays with rank 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from llmpar.engine.ranks.ranks import Ranks
from llmpar.engine.request import FinishReason, Request, SamplingParams, Sequence
from llmpar.engine.resources import DeviceLost
from llmpar.engine.scores import Others
from llmpar.engine.worker import Runner
from llmpar.errors import setting


class SharingRunner(Runner, Protocol):
    """A runner whose devices tell each other which tokens were chosen."""

    told: Callable[[list[Sequence]], None]
    """Is called in `decode` before a step is given out, with those that take part in it."""


class ParallelRunner:
    """Rank 0's runner, and through it all others'.

    Args:
        ranks: those whose runners were built alike.
        mine: rank 0's, which `Ranks.call` has started.
    """

    def __init__(self, ranks: Ranks, mine: Runner) -> None:
        self.continuous = mine.continuous
        self.num_slots = mine.num_slots
        self._ranks = ranks
        self._mine = mine
        self._numbers: dict[int, int] = {}  # of sequences, by the identity of their requests
        self._next = 0
        self._live: list[tuple[int, Sequence]] = []
        self._sent: dict[int, int] = {}  # tokens of each sequence that the other ranks know
        self._calls: list[_Call] = []  # what the other ranks have yet to do

    def start(self) -> None:
        """Do nothing: another thread makes all calls that compute, and was prepared with the ranks."""

    def reserve(self, request: Request) -> bool:
        """Set memory aside on every rank."""
        self._next += 1
        self._numbers[id(request)] = self._next
        self._calls.append(
            partial(
                Mirrors.reserve,
                number=self._next,
                prompt_ids=list(request.prompt_ids),
                max_new_tokens=request.params.max_new_tokens,
            )
        )
        return self._mine.reserve(request)

    def resize(self, num_slots: int) -> None:
        """Run so many sequences at once from now on, on every rank."""
        self._calls.append(partial(Mirrors.resize, num_slots=num_slots))
        self._mine.resize(num_slots)
        self.num_slots = self._mine.num_slots

    def prefill(self, sequences: list[Sequence]) -> None:
        """Read prompts on every rank, and append rank 0's tokens."""
        begun = [(self._numbers[id(sequence.request)], sequence) for sequence in sequences]
        self._numbers.clear()  # what was not admitted is reserved anew
        self._live += begun
        self._sent |= {number: 0 for number, _ in begun}
        self._calls.append(partial(Mirrors.prefill, numbers=[number for number, _ in begun]))
        self._step(partial(self._mine.prefill, sequences))

    def decode(self, sequences: list[Sequence]) -> None:
        """Take a step on every rank, and append rank 0's tokens."""
        self._calls.append(Mirrors.decode)
        self._step(partial(self._mine.decode, sequences))

    def release(self, sequence: Sequence) -> None:
        """Free what a sequence holds on every rank."""
        place = next(place for place, (_, live) in enumerate(self._live) if live is sequence)
        number, _ = self._live.pop(place)
        del self._sent[number]
        self._calls.append(partial(Mirrors.release, number=number, finish_reason=sequence.finish_reason))
        self._mine.release(sequence)

    def _step(self, mine: Callable[[], None]) -> None:
        tokens = {}
        for number, sequence in self._live:
            if new := sequence.output_ids[self._sent[number] :]:
                tokens[number] = new
                self._sent[number] += len(new)
        calls, self._calls = self._calls, []
        with _remedy():
            self._ranks.call(mine, partial(_repeat, tokens, calls))


class LeadingRunner(ParallelRunner):
    """One whose devices tell each other which tokens were chosen, so that hosts need not wait for each other.

    Args:
        ranks: see `ParallelRunner`.
        mine: likewise.
    """

    def __init__(self, ranks: Ranks, mine: SharingRunner) -> None:
        super().__init__(ranks, mine)
        mine.told = self._tell_step
        ranks.last = (partial(mine.resize, mine.num_slots), Mirrors.end)

    def resize(self, num_slots: int) -> None:
        """Run so many sequences at once from now on, on every rank."""
        self._calls.append(partial(Mirrors.resize, num_slots=num_slots))
        self._step(partial(self._mine.resize, num_slots))  # not by this thread: the device has one of its own
        self.num_slots = self._mine.num_slots

    def decode(self, sequences: list[Sequence]) -> None:
        """Take a step on every rank; rank 0 tells the others of it, once it knows who takes part."""
        with _remedy():
            self._ranks.lead(partial(self._mine.decode, sequences))

    def _step(self, mine: Callable[[], None]) -> None:
        def both() -> None:
            self._tell()
            mine()

        with _remedy():
            self._ranks.lead(both)

    def _tell_step(self, rows: list[Sequence]) -> None:
        """Tell the others of a step: who takes part if they cannot know, and what else is new."""
        if any(sequence.request.constraint for _, sequence in self._live):
            numbers = {id(sequence): number for number, sequence in self._live}
            self._calls.append(partial(Mirrors.decode, numbers=[numbers[id(sequence)] for sequence in rows]))
        elif self._calls:
            self._calls.append(Mirrors.decode)
        else:
            self._ranks.tell(_step_again)
            return
        self._tell()

    def _tell(self) -> None:
        calls, self._calls = self._calls, []
        self._ranks.tell(partial(_repeat, {}, calls))


@contextmanager
def _remedy() -> Iterator[None]:
    """Say what may help where ranks are lost."""
    try:
        yield
    except DeviceLost as lost:
        remedy = f"if memory ran out, a smaller batch size ({setting('batch_size')}) helps"
        raise DeviceLost(f"{lost}; {remedy}") from lost


def _repeat(tokens: dict[int, list[int]], calls: list[_Call], mirrors: Mirrors) -> Mirrors:
    """Do on another rank what was done on rank 0 since the last step, this one included."""
    mirrors.take(tokens)
    for call in calls:
        call(mirrors)
    return mirrors


def _step_again(mirrors: Mirrors) -> Mirrors:
    """Take a step on another rank; nothing else has happened."""
    mirrors.decode()
    return mirrors


class _Mirror(Sequence):
    """A sequence of rank 0 as another rank has it: that rank's own logits do not matter."""

    __slots__ = ()

    def append(self, token_id: int, stop_ids: frozenset[int], logprob: float = 0.0, others: Others = ()) -> None:
        """Do nothing: rank 0's token comes with the next step."""


@dataclass(slots=True)
class Mirrors:
    """Does with another rank's runner what is done with rank 0's; sequences go by numbers."""

    runner: Runner
    _reserved: dict[int, Request] = field(default_factory=dict)
    _live: dict[int, Sequence] = field(default_factory=dict)

    def take(self, tokens: dict[int, list[int]]) -> None:
        """Take rank 0's tokens, by sequence."""
        for number, new in tokens.items():
            self._live[number].output_ids += new

    def reserve(self, number: int, prompt_ids: list[int], max_new_tokens: int) -> None:
        """Set memory aside for a sequence, or not, as rank 0 does."""
        request = Request(number, prompt_ids, SamplingParams(max_new_tokens))
        self._reserved[number] = request
        self.runner.reserve(request)

    def resize(self, num_slots: int) -> None:
        """Run so many sequences at once from now on."""
        self.runner.resize(num_slots)

    def end(self) -> None:
        """Drop what was recorded, in which other ranks take part."""
        self.runner.resize(self.runner.num_slots)

    def prefill(self, numbers: list[int]) -> None:
        """Read the prompts of sequences that were reserved."""
        sequences: list[Sequence] = [_Mirror(self._reserved[number]) for number in numbers]
        self._reserved.clear()
        self._live |= dict(zip(numbers, sequences, strict=True))
        self.runner.prefill(sequences)

    def decode(self, numbers: list[int] | None = None) -> None:
        """Take a step with some; None for all that live."""
        self.runner.decode([self._live[n] for n in (self._live if numbers is None else numbers)])

    def release(self, number: int, finish_reason: FinishReason | None) -> None:
        """Free what a sequence holds, which ended as rank 0's did."""
        sequence = self._live.pop(number)
        sequence.finish_reason = finish_reason
        self.runner.release(sequence)


_Call = Callable[[Mirrors], None]
"""A method of Mirrors, and what with; other processes are sent it."""
