"""The records of the engine: what is asked (Request), what is being answered (Sequence), what came out (Completion)."""

from __future__ import annotations

import random
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Literal

from llmpar.engine.constraint import Constraint
from llmpar.engine.loops import LOOK_EVERY, LoopFinder

FinishReason = Literal["stop", "length", "loop", "error"]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen.

    Args:
        max_new_tokens: where an answer is cut.
        temperature: 0 for the likeliest token (greedy), else the softmax temperature.
        top_p: sample from the smallest set of tokens with this much probability (nucleus sampling, Holtzman 2019).
        seed: what the draws follow from, together with the prompt: equal prompts draw equal answers, whatever N.
        max_repeats: how many times in a row an answer may say the same, before it is stopped as a loop (see
            `loops.LoopFinder`); 0 for any number of times.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_repeats: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt. `id` is the caller's and comes back with the completion.

    `num_answered` tells how many of its last tokens are an earlier answer, with which this one goes on. `timeout` is
    how many seconds a worker may take for it, from its admission on; None for any time.
    """

    id: int
    prompt_ids: SequenceOf[int]
    params: SamplingParams
    num_answered: int = 0
    timeout: float | None = None
    constraint: Callable[[], Constraint] | None = None
    ends: Callable[[SequenceOf[int]], bool] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to a request; `error` says why there is none when `finish_reason` is "error".

    `output_ids` end before the token that stopped them. `seconds` is the time from a worker's admission on.
    """

    id: int
    output_ids: SequenceOf[int]
    finish_reason: FinishReason
    error: str | None = None
    worker: int | None = None
    seconds: float = 0.0


@dataclass(eq=False, slots=True)
class Sequence:
    """A request that a worker is answering. Mutable, and only that worker's."""

    request: Request
    output_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    slot: int = -1
    started: float = 0.0  # by time.monotonic()
    error: str | None = None
    _random: random.Random | None = None
    _loop: LoopFinder | None = None

    @property
    def num_tokens(self) -> int:
        """Prompt and output tokens so far."""
        return len(self.request.prompt_ids) + len(self.output_ids)

    def draw(self) -> float:
        """Return the sequence's next random number in [0, 1)."""
        if self._random is None:
            self._random = random.Random(f"{self.request.params.seed}:{list(self.request.prompt_ids)}")
        return self._random.random()

    def append(self, token_id: int, stop_ids: frozenset[int]) -> None:
        """Take the next token, and finish where it says so."""
        if token_id in stop_ids:
            self.finish_reason = "stop"
            return
        self.output_ids.append(token_id)
        params, num_output_tokens = self.request.params, len(self.output_ids)
        is_full = num_output_tokens >= params.max_new_tokens
        if params.max_repeats and (is_full or num_output_tokens % LOOK_EVERY == 0) and self._is_loop():
            self.finish_reason = "loop"
        elif is_full:
            self.finish_reason = "length"

    def _is_loop(self) -> bool:
        if self._loop is None:
            prompt_ids = self.request.prompt_ids
            asked = len(prompt_ids) - self.request.num_answered
            self._loop = LoopFinder(prompt_ids[:asked], prompt_ids[asked:], self.request.params.max_repeats)
        return self._loop.follow(self.output_ids)
