"""The records of the engine: what is asked (Request), what is being answered (Sequence), what came out (Completion)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as SequenceOf
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from llmpar.engine.constraint import Constraint, Mask, anything
from llmpar.engine.finite import NO_TOKEN, NOT_FINITE
from llmpar.engine.loops import LOOK_EVERY, LoopFinder
from llmpar.engine.resources import is_out_of_memory
from llmpar.engine.scores import NOT_SCORED, Others
from llmpar.engine.thoughts import Thoughts
from llmpar.errors import AnswerFailed
from llmpar.frozen import quickly_made

FinishReason = Literal["stop", "length", "loop", "error"]


@quickly_made
@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen.

    Args:
        max_new_tokens: where an answer is cut, its thoughts included.
        temperature: 0 for the likeliest token (greedy), else the softmax temperature; so low that float32 does not
            hold it, it is 0 on some devices.
        top_p: sample from the smallest set of tokens with this much probability (nucleus sampling, Holtzman 2019).
        seed: what the draws follow from, together with the prompt: equal prompts draw equal answers, whatever N.
        max_repeats: how many times in a row an answer may say the same, before it is stopped as a loop (see
            `loops.LoopFinder`); 0 for any number of times.
        max_thinking_tokens: how many of `max_new_tokens` are for thoughts alone; the answer has the others.
        is_scored: whether the log-probabilities of tokens are wanted (see `scores`).
        num_others: how many of the likeliest tokens are wanted at each place, with theirs.
        weighs: whether at each place all tokens are wanted that a constraint leaves, in place of the likeliest.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_repeats: int = 0
    max_thinking_tokens: int = 0
    is_scored: bool = True
    num_others: int = 0
    weighs: bool = False


@quickly_made
@dataclass(frozen=True, slots=True)
class Request:
    """One prompt. `id` is the caller's and comes back with the completion.

    `num_answered` tells how many of its last tokens are an earlier answer, with which this one goes on. `timeout` is
    how many seconds a worker may take for it, from its admission on; None for any time. `constraint` makes what the
    answer has to obey, afresh where it is begun again; `thoughts` makes what tells its thoughts apart, which obey
    nothing. `ends` is asked with the ids behind the thoughts after each of them, and tells whether they are the whole
    answer. All are called by the worker's thread.
    """

    id: int
    prompt_ids: SequenceOf[int]
    params: SamplingParams
    num_answered: int = 0
    timeout: float | None = None
    constraint: Callable[[], Constraint] | None = None
    ends: Callable[[SequenceOf[int]], bool] | None = None
    thoughts: Callable[[], Thoughts] | None = None


@quickly_made
@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to a request; `error` says why there is none when `finish_reason` is "error".

    `output_ids` end before the token that stopped them. `seconds` is the time from a worker's admission on. `deadly`
    tells that workers died or hung over it, so that it had better not be asked again.

    `logprobs` are those of the output ids, NOT_SCORED for what has none; nothing where nobody scored them. `others` are
    what was wanted of other tokens at the places of these, and one more where the answer ended with a token of its own.
    """

    id: int
    output_ids: SequenceOf[int]
    finish_reason: FinishReason
    error: str | None = None
    worker: int | None = None
    seconds: float = 0.0
    deadly: bool = False
    logprobs: SequenceOf[float] = ()
    others: SequenceOf[Others] = ()


@dataclass(eq=False, slots=True)
class Sequence:
    """A request that a worker is answering. Mutable, and only that worker's."""

    request: Request
    output_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    others: list[Others] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    slot: int = -1
    started: float = 0.0  # by time.monotonic()
    error: str | None = None
    _random: random.Random | None = None
    _loop: LoopFinder | None = None
    _is_followed: bool = False
    _constraint: Constraint | None = None
    _thoughts: Thoughts | None = None
    _num_thinking: int = 0  # of the output ids
    _answer_start: int = 0  # among the output ids, behind the last thoughts
    _forced: list[int] = field(default_factory=list)  # the last comes first
    is_plain: bool = field(init=False)
    """Whether no token of it is looked at but for what ends every answer, and none besides is wanted."""

    def __post_init__(self) -> None:
        request = self.request
        is_watched = request.constraint or request.ends or request.thoughts
        self.is_plain = not (is_watched or request.params.num_others or request.params.weighs)

    @property
    def num_tokens(self) -> int:
        """Prompt and output tokens so far."""
        return len(self.request.prompt_ids) + len(self.output_ids)

    def draw(self) -> float:
        """Return the sequence's next random number in [0, 1)."""
        if self._random is None:
            self._random = random.Random(f"{self.request.params.seed}:{list(self.request.prompt_ids)}")
        return self._random.random()

    @property
    def forced_id(self) -> int | None:
        """The next token, where no other can come; None where there is a choice, and when the answer has ended."""
        if self.request.constraint:
            self._follow()
        return self._forced[-1] if self._forced and self.finish_reason is None else None

    def allowed(self, ahead: SequenceOf[int] = ()) -> list[Mask]:
        """Return masks (V / 32,): what may come next, and after each token of `ahead` up to the first that may not.

        Nothing is returned where any may come. A sequence that cannot tell has failed. Of thoughts before an answer
        that has to obey something nothing is guessed: what follows their end has a mask of its own.
        """
        if self.forced_id is None and self._constraint and self.finish_reason is None:
            with self._failing_alone():
                if self._thoughts and self._thoughts.is_thinking:
                    return [anything(self._constraint.allowed()[0])]
                return self._constraint.allowed(ahead)
        return []

    @property
    def is_weighed(self) -> bool:
        """Whether all tokens are wanted that the constraint leaves here: not among thoughts, where any may come."""
        return self.request.params.weighs and not (self._thoughts and self._thoughts.is_thinking)

    @property
    def wants_others(self) -> bool:
        """Whether other tokens than the one that comes next are wanted."""
        return self.request.params.num_others > 0 or self.is_weighed

    def append(self, token_id: int, stop_ids: frozenset[int], logprob: float = NOT_SCORED, others: Others = ()) -> None:
        """Take the next token, and finish where it says so. What comes after the end is dropped.

        NO_TOKEN fails the sequence: there were no logits that could be chosen by.

        Args:
            token_id: the token.
            stop_ids: those that end an answer.
            logprob: the token's, NOT_SCORED if it has none.
            others: what is wanted of other tokens at its place.
        """
        if self.finish_reason:
            return
        params = self.request.params
        if params.num_others or params.weighs:
            self.others.append(others)
        if token_id in stop_ids:
            self.finish_reason = "stop"
            return
        if token_id == NO_TOKEN:
            self.finish_reason, self.error = "error", NOT_FINITE
            return
        self.output_ids.append(token_id)
        self.logprobs.append(logprob)
        if self._is_whole(token_id):
            self.finish_reason = "stop"
        if self.finish_reason:
            return
        is_full = self._is_full
        if self.request.params.max_repeats and (is_full or len(self.output_ids) % LOOK_EVERY == 0) and self._is_loop():
            self.finish_reason = "loop"
        elif is_full:
            self.finish_reason = "length"

    @property
    def _is_full(self) -> bool:
        """Whether the answer has come to its limit, or its thoughts to theirs."""
        params, num_tokens = self.request.params, len(self.output_ids)
        if num_tokens >= params.max_new_tokens:
            return True
        if self._thoughts is None:
            return False
        if self._thoughts.is_thinking:
            return self._num_thinking >= params.max_thinking_tokens
        return num_tokens - self._num_thinking >= params.max_new_tokens - params.max_thinking_tokens

    def _follow(self) -> None:
        """Make what came with the request for each token, and let it know of the earlier answer."""
        request = self.request
        if self._is_followed or self.finish_reason:
            return
        self._is_followed = True
        with self._failing_alone():
            self._thoughts = request.thoughts() if request.thoughts else None
            constraint = request.constraint() if request.constraint else None
            for token_id in request.prompt_ids[len(request.prompt_ids) - request.num_answered :]:
                if not self._is_thought(token_id) and constraint:
                    constraint.accept(token_id)
            self._constraint = constraint
            self._foresee()

    def _foresee(self) -> None:
        """Find out what must come next, in an answer that has to obey something."""
        if self._constraint is None:
            return
        if self._thoughts and (self._thoughts.is_thinking or self._thoughts.forced()):
            self._forced = self._thoughts.forced()[::-1]
        elif self._constraint.is_complete:
            self.finish_reason = "stop"
        else:
            self._forced = self._constraint.forced()[::-1]

    def _is_thought(self, token_id: int) -> bool:
        """Take a token, and tell whether it belongs to thoughts, what marks them included."""
        if self._thoughts is None:
            return False
        was_thinking = self._thoughts.is_thinking
        self._thoughts.accept(token_id)
        return was_thinking or self._thoughts.is_thinking

    def _is_whole(self, token_id: int) -> bool:
        """Tell whether the token that has just come is the last, by what came with the request."""
        request = self.request
        if request.constraint is None and request.ends is None and request.thoughts is None:
            return False
        if request.thoughts:
            self._follow()
        with self._failing_alone():
            is_thought = self._is_thought(token_id)
            if is_thought:
                self._num_thinking += 1
                self._answer_start = len(self.output_ids)
            elif self._constraint:
                self._constraint.accept(token_id)
                if self._constraint.is_complete:
                    return True
            if len(self._forced) > 1:
                self._forced.pop()
            else:
                self._foresee()
            if is_thought or request.ends is None:
                return False
            return request.ends(self.output_ids[self._answer_start :] if self._answer_start else self.output_ids)
        return False

    @contextmanager
    def _failing_alone(self) -> Iterator[None]:
        """Let what came with the request fail it, and no other that is in the same step."""
        try:
            yield
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = str(error) if isinstance(error, AnswerFailed) else f"{type(error).__name__}: {error}"
            self.finish_reason, self.error = "error", reason

    def _is_loop(self) -> bool:
        if self._loop is None:
            prompt_ids = self.request.prompt_ids
            asked = len(prompt_ids) - self.request.num_answered
            self._loop = LoopFinder(prompt_ids[:asked], prompt_ids[asked:], self.request.params.max_repeats)
        return self._loop.follow(self.output_ids)


def append_to_all(sequences: Iterable[Sequence], token_ids: SequenceOf[int], logprobs: SequenceOf[float]) -> None:
    """Do what `Sequence.append` does for one token of each sequence, in a fifth of the time.

    Args:
        sequences: plain ones. After this token each has fewer than may come, and not a multiple of LOOK_EVERY.
        token_ids: none that ends an answer, nor NO_TOKEN.
        logprobs: theirs.
    """
    for sequence, token_id, logprob in zip(sequences, token_ids, logprobs, strict=True):
        if sequence.finish_reason is None:
            sequence.output_ids.append(token_id)
            sequence.logprobs.append(logprob if sequence.request.params.is_scored else NOT_SCORED)
