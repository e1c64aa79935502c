"""An engine and the tokenizer of its model, as a backend: text in, text out. Knows no question, task or store."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmpar.answering.backend import Query, Reply
from llmpar.engine.constraint import Constraint
from llmpar.engine.engine import Engine
from llmpar.engine.request import Completion, Request, SamplingParams
from llmpar.engine.worker import WorkerStatus
from llmpar.integrity.foundation import Foundation
from llmpar.tasks.question import Prompt
from llmpar.tasks.task import Form

_ID = "q"  # of a token, in a continuation


@dataclass(frozen=True, slots=True)
class Codec:
    """How prompts become token ids, and output ids become text.

    `measure` counts the tokens of a text. `exceeds` tells, without reading all of it, that a prompt has more tokens
    than a number, where it has far more. `constrain` makes what keeps an answer in its form, afresh for each.
    """

    encode: Callable[[Prompt], Sequence[int]]
    decode: Callable[[Sequence[int]], str]
    measure: Callable[[str], int] = len
    constrain: Callable[[Form], Callable[[], Constraint]] | None = None
    exceeds: Callable[[Prompt, int], bool] = lambda _prompt, _most: False


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is needed of a query when its completion comes."""

    stop: tuple[str, ...]
    answered: Sequence[int]


class LocalBackend:
    """Answers queries by an engine of this process. One thread may submit while another one collects and confirms.

    Args:
        engine: answers token ids; it is closed with this.
        codec: of the engine's model.
        foundation: what its answers rest on.
    """

    def __init__(self, engine: Engine, codec: Codec, foundation: Foundation | None = None) -> None:
        self._engine = engine
        self._codec = codec
        self._foundation = foundation or Foundation()
        self._asked: dict[int, _Asked] = {}
        self._counted: tuple[Prompt, Sequence[int]] | None = None

    @property
    def num_slots(self) -> int:
        """How many queries are answered at a time."""
        return self._engine.num_slots

    @property
    def context_length(self) -> int:
        """The most tokens, of a prompt and its answer together, that there is room for."""
        return self._engine.context_length

    @property
    def failure(self) -> str | None:
        """Why the engine came to an end; None while a worker is left."""
        return self._engine.failure

    @property
    def statuses(self) -> list[WorkerStatus]:
        """What each worker is doing."""
        return self._engine.statuses

    @property
    def begun(self) -> frozenset[int]:
        """The ids of the queries that a worker has taken up, and not ended."""
        return self._engine.begun

    def measure(self, text: str) -> int:
        """Return how many tokens a text has."""
        return self._codec.measure(text)

    def exceeds(self, prompt: Prompt, most: int) -> bool:
        """Tell whether a prompt has more than `most` tokens for sure; see `Backend.exceeds`."""
        return self._codec.exceeds(prompt, most)

    def check_form(self, form: Form) -> None:
        """Raise UsageError if answers cannot be held to a form."""
        if self._codec.constrain:
            self._codec.constrain(form)  # it is made but once

    def count_tokens(self, prompt: Prompt) -> int:
        """Return how many tokens the model reads for a prompt; see `Backend.count_tokens`."""
        ids = self._codec.encode(prompt)
        self._counted = prompt, ids  # it is asked next, as a rule
        return len(ids)

    def submit(self, query: Query, prompt_ids: Sequence[int] | None = None) -> None:
        """Take a query in; `prompt_ids` are those of its prompt, where somebody has made them already."""
        answered = array(_ID, query.continues)
        prompt_ids = self._ids(query.prompt) if prompt_ids is None else prompt_ids
        sampling = query.sampling
        constraint = None
        if query.form and self._codec.constrain:
            constraint = self._codec.constrain(query.form)
        params = SamplingParams(
            query.max_new_tokens, sampling.temperature, sampling.top_p, sampling.seed, sampling.max_repeats
        )
        ends = self._ending(sampling.stop, answered) if sampling.stop else None
        self._asked[query.id] = _Asked(sampling.stop, answered)
        self._engine.submit(
            Request(
                query.id,
                [*prompt_ids, *answered] if answered else prompt_ids,
                params,
                len(answered),
                query.timeout,
                constraint=constraint,
                ends=ends,
            )
        )

    def collect(self, timeout: float) -> Reply | None:
        """Return the next reply, None if none comes in time."""
        completion = self._engine.collect(timeout)
        return None if completion is None else self._reply(completion)

    def confirm(self) -> None:
        """Tell that what the replies so far rest on is what was written; see `Backend.confirm`."""
        self._foundation.confirm()

    def is_confirmed(self) -> bool:
        """Tell whether `confirm` would return now, without waiting for it."""
        return self._foundation.holds()

    def drain(self) -> list[Reply]:
        """Return the replies that are there."""
        return [self._reply(completion) for completion in self._engine.drain()]

    def close(self, timeout: float | None = None) -> None:
        """Let the workers end."""
        self._engine.close(timeout)

    def _ids(self, prompt: Prompt) -> Sequence[int]:
        counted, self._counted = self._counted, None
        return counted[1] if counted and counted[0] is prompt else self._codec.encode(prompt)

    def _reply(self, completion: Completion) -> Reply:
        asked = self._asked.pop(completion.id)
        if completion.finish_reason == "error":
            return Reply(
                completion.id,
                "",
                "error",
                error=completion.error,
                worker=completion.worker,
                seconds=completion.seconds,
                deadly=completion.deadly,
            )
        output_ids = [*asked.answered, *completion.output_ids] if asked.answered else completion.output_ids
        text = self._codec.decode(output_ids)
        ends = [place for string in asked.stop if (place := text.find(string)) >= 0]
        return Reply(
            completion.id,
            text[: min(ends)] if ends else text,
            completion.finish_reason,
            len(output_ids),
            worker=completion.worker,
            seconds=completion.seconds,
            continuation=array(_ID, output_ids).tobytes() if completion.finish_reason == "length" else b"",
        )

    def _ending(self, stop: tuple[str, ...], answered: Sequence[int]) -> Callable[[Sequence[int]], bool]:
        """Return what tells whether an answer has come to one of the strings that end it."""
        # A token may be part of a character, and has one byte at least: so many of the last ones can hold the string.
        reach = max(len(string.encode("utf-8", "surrogatepass")) for string in stop) + 8

        def ends(output_ids: Sequence[int]) -> bool:
            last = self._codec.decode([*answered, *output_ids][-reach:])
            return any(string in last for string in stop)

        return ends
