"""An engine and the tokenizer of its model, as a backend: text in, text out. Knows no question, task or store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from llmpar.answering.backend import Query, Reply
from llmpar.answering.begun import Begun
from llmpar.answering.scores import content_of, mean_and_least, shares_of
from llmpar.engine.constraint import Constraint
from llmpar.engine.engine import Engine
from llmpar.engine.request import Completion, Request, SamplingParams
from llmpar.engine.scores import NOT_SCORED
from llmpar.engine.worker import WorkerStatus
from llmpar.frozen import quickly_made
from llmpar.integrity.foundation import Foundation
from llmpar.models.thoughts import Divided, Outlook, Style
from llmpar.tasks.question import Prompt, Sampling
from llmpar.tasks.task import Form

_THINKING_ROOM = 4096  # tokens for thoughts, where a model thinks and nobody says how much


@dataclass(frozen=True, slots=True)
class Codec:
    """How prompts become token ids, and output ids become text.

    `measure` counts the tokens of a text. `exceeds` tells, without reading all of it, that a prompt has more tokens
    than a number, where it has far more. `constrain` makes what keeps an answer in its form, afresh for each.
    `decode_all` decodes several answers at once, where that is faster, and `foresee` is told which prompts and texts
    `encode` and `measure` will be given next. `outlook` tells what a prompt lets expect of thoughts before its answer,
    and `style` how the model marks them.
    """

    encode: Callable[[Prompt], Sequence[int]]
    decode: Callable[[Sequence[int]], str]
    measure: Callable[[str], int] = len
    constrain: Callable[[Form], Callable[[], Constraint]] | None = None
    exceeds: Callable[[Prompt, int], bool] = lambda _prompt, _most: False
    decode_all: Callable[[Sequence[Sequence[int]]], list[str]] | None = None
    foresee: Callable[[Sequence[Prompt], Sequence[str]], None] = lambda _prompts, _texts: None
    outlook: Callable[[Prompt], Outlook | None] = lambda _prompt: None
    style: Callable[[], Style] | None = None

    def texts(self, outputs: Sequence[Sequence[int]]) -> list[str]:
        """Return the texts of several answers' output ids."""
        return self.decode_all(outputs) if self.decode_all else list(map(self.decode, outputs))

    def thinking_room(self, prompt: Prompt, limit: int | None) -> int:
        """Return how many tokens the thoughts before an answer may take; see `Backend.thinking_room`."""
        outlook = self.outlook(prompt)
        if outlook is None:
            return 0
        return (_THINKING_ROOM if outlook.is_sure else 0) if limit is None else limit


@quickly_made
@dataclass(frozen=True, slots=True)
class Manner:
    """How an answer is drawn, what it must be, and how long it may take; what most queries of a run have in common.

    `thinking_room` is how many tokens of its limit are for thoughts alone; where there are some, `outlook` tells what
    is to be expected of them. `is_scored` and `num_others` are the query's.
    """

    sampling: Sampling
    form: Form | None = None
    timeout: float | None = None
    thinking_room: int = 0
    outlook: Outlook | None = None
    is_scored: bool = True
    num_others: int | None = None

    @classmethod
    def of(cls, query: Query, outlook: Outlook | None) -> Manner:
        """Return a query's, of which that is to be expected."""
        room = query.thinking_room
        known = outlook if room else None
        return cls(query.sampling, query.form, query.timeout, room, known, query.is_scored, query.num_others)

    @property
    def weighs(self) -> bool:
        """Whether it is wanted how likely each choice was."""
        return self.is_scored and self.num_others is None and self.form is not None and bool(self.form.choices)


@quickly_made
@dataclass(frozen=True, slots=True)
class Expected:
    """What is needed of a query when its completion comes: the strings that end its answer, and what that begins with.

    Args:
        stop: the strings.
        begun: an earlier answer with which this one goes on.
        outlook: what is to be expected of its thoughts; None for an answer without any.
        choices: of which the answer is one; none for any other answer.
        num_others: the query's.
    """

    stop: tuple[str, ...]
    begun: Begun
    outlook: Outlook | None = None
    choices: tuple[str, ...] = ()
    num_others: int | None = None

    @classmethod
    def of(cls, query: Query, outlook: Outlook | None) -> Expected:
        """Return a query's, of whose thoughts that is to be expected."""
        choices = query.form.choices if query.form else ()
        begun = Begun.unpacked(query.continues)
        return cls(query.sampling.stop, begun, outlook, choices, query.num_others)

    @property
    def answered(self) -> Sequence[int]:
        """The ids of the earlier answer."""
        return self.begun.ids


def replies_of(completions: Sequence[tuple[Completion, Expected]], codec: Codec) -> list[Reply]:
    """Return what came of queries, as text.

    Args:
        completions: each with what was expected of it.
        codec: of the model that they are from.
    """
    outputs = [
        [*expected.answered, *completion.output_ids] if expected.answered else completion.output_ids
        for completion, expected in completions
        if completion.finish_reason != "error"
    ]
    texts = iter(zip(outputs, codec.texts(outputs), strict=True))
    return [
        _refusal(completion)
        if completion.finish_reason == "error"
        else _reply(completion, expected, *next(texts), codec)
        for completion, expected in completions
    ]


def _refusal(completion: Completion) -> Reply:
    return Reply(
        completion.id,
        "",
        "error",
        error=completion.error,
        worker=completion.worker,
        seconds=completion.seconds,
        deadly=completion.deadly,
    )


def _reply(
    completion: Completion,
    expected: Expected,
    output_ids: Sequence[int],
    text: str,
    codec: Codec,
) -> Reply:
    style = codec.style
    divided = style().divide(output_ids, text, expected.outlook) if style and expected.outlook else Divided(text)
    text = divided.answer
    ends = [place for string in expected.stop if (place := text.find(string)) >= 0]
    whole = expected.begun.followed_by(completion)
    first = divided.num_tokens
    logprobs, others = whole.logprobs[first:], whole.others[first:]
    mean, least = (None, None) if divided.is_unclosed else mean_and_least(logprobs)
    shares: tuple[tuple[str, float], ...] = ()
    if expected.choices and expected.num_others is None:
        shares = shares_of(expected.choices, text, output_ids[first:], others, codec.texts)
    tokens = ""
    if expected.num_others is not None and (mean is not None or expected.choices):
        is_cut = completion.finish_reason == "length"
        logprobs = logprobs or [NOT_SCORED] * (len(output_ids) - first)
        tokens = content_of(output_ids[first:], logprobs, others, expected.num_others, codec.texts, is_cut=is_cut)
    return Reply(
        completion.id,
        text[: min(ends)] if ends else text,
        completion.finish_reason,
        len(output_ids),
        worker=completion.worker,
        seconds=completion.seconds,
        continuation=whole.packed() if completion.finish_reason == "length" else b"",
        thoughts=divided.thoughts,
        num_thinking_tokens=divided.num_tokens,
        is_unclosed=divided.is_unclosed,
        mean_logprob=mean,
        min_logprob=least,
        probabilities=shares,
        tokens=tokens,
    )


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
        self._asked: dict[int, Expected] = {}
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

    def tell_begun(self, begins: Callable[[list[int]], None]) -> None:
        """Have the numbers of queries told that a worker takes up; see `Engine.tell_begun`."""
        self._engine.tell_begun(begins)

    def foresee(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> None:
        """Be told which prompts will be counted, and which texts measured; see `Backend.foresee`."""
        self._codec.foresee(prompts, texts)

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

    def thinking_room(self, prompt: Prompt, limit: int | None) -> int:
        """Return how many tokens the thoughts before an answer may take; see `Backend.thinking_room`."""
        return self._codec.thinking_room(prompt, limit)

    def submit(self, query: Query) -> None:
        """Take a query in.

        Raises:
            EngineFailed: no worker is left.
        """
        outlook = self._codec.outlook(query.prompt)
        prompt_ids, expected = self._ids(query.prompt), Expected.of(query, outlook)
        self._asked[query.id] = expected
        ids = [*prompt_ids, *expected.answered] if expected.answered else prompt_ids
        self.ask(query.id, ids, len(expected.answered), query.max_new_tokens, Manner.of(query, outlook))

    def ask(self, number: int, ids: Sequence[int], num_answered: int, limit: int, manner: Manner) -> None:
        """Ask the engine about token ids; what comes of them is for `completed` to tell.

        Args:
            number: comes back with the completion.
            ids: of the prompt and, after it, of the answer that is gone on with.
            num_answered: how many of them are that answer's.
            limit: tokens that the answer may have more.
            manner: how it is drawn.

        Raises:
            EngineFailed: no worker is left.
        """
        sampling = manner.sampling
        constraint = self._codec.constrain(manner.form) if manner.form and self._codec.constrain else None
        params = SamplingParams(
            limit,
            sampling.temperature,
            sampling.top_p,
            sampling.seed,
            sampling.max_repeats,
            manner.thinking_room,
            manner.is_scored or manner.num_others is not None,
            manner.num_others or 0,
            manner.weighs,
        )
        style, outlook = self._codec.style, manner.outlook
        opens = manner.form is not None
        thoughts = partial(style().follow, outlook, opens=opens) if style and outlook else None
        ends = self._ending(sampling.stop, ids[len(ids) - num_answered :]) if sampling.stop else None
        self._engine.submit(
            Request(
                number, ids, params, num_answered, manner.timeout, constraint=constraint, ends=ends, thoughts=thoughts
            )
        )

    def completed(self, timeout: float, gather: float) -> list[Completion]:
        """Return what came of token ids; none after `timeout` seconds, and more, gathered for `gather` seconds."""
        first = self._engine.collect(timeout)
        if first is None:
            return []
        time.sleep(gather)
        return [first, *self._engine.drain()]

    def left(self) -> list[Completion]:
        """Return what has come of token ids, without waiting."""
        return self._engine.drain()

    def collect(self, timeout: float) -> Reply | None:
        """Return the next reply, None if none comes in time."""
        completion = self._engine.collect(timeout)
        return None if completion is None else self._replies([completion])[0]

    def confirm(self) -> None:
        """Tell that what the replies so far rest on is what was written; see `Backend.confirm`."""
        self._foundation.confirm()

    def is_confirmed(self) -> bool:
        """Tell whether `confirm` would return now, without waiting for it."""
        return self._foundation.holds()

    def drain(self) -> list[Reply]:
        """Return the replies that are there."""
        return self._replies(self._engine.drain())

    def close(self, timeout: float | None = None) -> None:
        """Let the workers end."""
        self._engine.close(timeout)

    def _ids(self, prompt: Prompt) -> Sequence[int]:
        counted, self._counted = self._counted, None
        return counted[1] if counted and counted[0] is prompt else self._codec.encode(prompt)

    def _replies(self, completions: Sequence[Completion]) -> list[Reply]:
        return replies_of([(completion, self._asked.pop(completion.id)) for completion in completions], self._codec)

    def _ending(self, stop: tuple[str, ...], answered: Sequence[int]) -> Callable[[Sequence[int]], bool]:
        """Return what tells whether an answer has come to one of the strings that end it."""
        # A token may be part of a character, and has one byte at least: so many of the last ones can hold the string.
        reach = max(len(string.encode("utf-8", "surrogatepass")) for string in stop) + 8

        def ends(output_ids: Sequence[int]) -> bool:
            last = self._codec.decode([*answered, *output_ids][-reach:])
            return any(string in last for string in stop)

        return ends
