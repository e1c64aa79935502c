"""The protocol between whoever asks and whatever answers, in text and plain data.

Three implementations are here: a local model (`model.py`, on `local.py`), servers (`endpoint/`) and the echo
(`echo.py`); `choice.py` has the table of them. The first and the last may compute on a cluster (`cluster/`). Nothing
above this line sees a token's id, a tensor, or anything else that another process could not be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from llmpar.engine.worker import WorkerStatus
from llmpar.frozen import quickly_made
from llmpar.tasks.question import Prompt, Sampling
from llmpar.tasks.task import Form

FinishReason = Literal["stop", "length", "loop", "form", "error"]


@quickly_made
@dataclass(frozen=True, slots=True)
class Query:
    """One request to a backend.

    Args:
        id: comes back with the reply.
        prompt: what is asked.
        sampling: how the answer is drawn, and which strings end it; its limit is not looked at.
        max_new_tokens: where the answer is cut, its thoughts included.
        form: what the answer must be.
        timeout: seconds that the answer may take from when work on it begins; None for any time.
        continues: `Reply.continuation` of an answer that was cut, with which this one goes on.
        thinking_room: how many of `max_new_tokens` are for thoughts alone; the answer has the others.
        is_scored: whether it is wanted how likely the answer's tokens were; a backend may tell that anyway.
        num_others: of how many of the likeliest tokens it is wanted at each place, besides that of each token; None if
            it is wanted of the whole answer alone.
    """

    id: int
    prompt: Prompt
    sampling: Sampling
    max_new_tokens: int
    form: Form | None = None
    timeout: float | None = None
    continues: bytes = b""
    thinking_room: int = 0
    is_scored: bool = True
    num_others: int | None = None


@quickly_made
@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a query.

    Args:
        id: the query's.
        text: the whole answer, what it continued included, up to the string that ended it; without thoughts.
        finish_reason: "length" for one that was cut, "loop" for one that went round, "form" for one that is not of the
            form that was asked for, "error" for none.
        num_output_tokens: of the whole answer and its thoughts.
        error: why there is no answer.
        worker: who answered; None if nobody took the query up.
        seconds: how long that took, without what it continued.
        deadly: workers were lost over it, so that it had better not be asked again.
        continuation: what a query needs to go on with this answer, for the backend alone to read; empty if it cannot.
        overflows: there is no answer, as the prompt is too long, which only asking has shown.
        num_prompt_tokens: how many tokens were read; None if `count_tokens` has told.
        thoughts: what the model wrote before its answer, for itself.
        num_thinking_tokens: of the thoughts, and of what marks them.
        is_unclosed: the thoughts had no end.
        mean_logprob: the mean of the log-probabilities of the answer's tokens, without its thoughts: natural
            logarithms, of the model's own distribution before a temperature or a form changes it, and without tokens
            that a form forced. None if it is not known.
        min_logprob: the least of them.
        probabilities: of an answer that is one of some choices, how likely each was (see `scores.shares_of`); nothing
            if that is not known.
        tokens: of each token, if that was wanted: JSON as OpenAI's list `content` has it.
    """

    id: int
    text: str
    finish_reason: FinishReason
    num_output_tokens: int = 0
    error: str | None = None
    worker: int | None = None
    seconds: float = 0.0
    deadly: bool = False
    continuation: bytes = b""
    overflows: bool = False
    num_prompt_tokens: int | None = None
    thoughts: str = ""
    num_thinking_tokens: int = 0
    is_unclosed: bool = False
    mean_logprob: float | None = None
    min_logprob: float | None = None
    probabilities: tuple[tuple[str, float], ...] = ()
    tokens: str = ""


class Backend(Protocol):
    """What answers queries, for one thread that asks. Every query has its reply, whatever happens to the workers."""

    @property
    def num_slots(self) -> int:
        """How many queries are answered at a time."""

    @property
    def context_length(self) -> int:
        """The most tokens, of a prompt and its answer together, that there is room for."""

    @property
    def failure(self) -> str | None:
        """Why nothing can be answered any more; None while something can."""

    def foresee(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> None:
        """Be told which prompts will be counted and submitted next, and which texts measured.

        Many at a time take less time than one by one. It is told for this alone: nothing else follows.
        """

    def measure(self, text: str) -> int:
        """Return how many tokens a text has."""

    def exceeds(self, prompt: Prompt, most: int) -> bool:
        """Tell whether a prompt has more than `most` tokens for sure, having read no more of it than that takes.

        One that has a few more may not be found to have them.
        """

    def check_form(self, form: Form) -> None:
        """Raise UsageError if answers cannot be held to a form."""

    def count_tokens(self, prompt: Prompt) -> int:
        """Return how many tokens the model reads for a prompt.

        Raises:
            ModelUnavailable: the model refuses such a conversation.
            UsageError: a model made for translation is asked for something else, or for a language it does not know.
        """

    def thinking_room(self, prompt: Prompt, limit: int | None) -> int:
        """Return how many tokens the thoughts before an answer may take, on top of what that may.

        Args:
            prompt: what is asked.
            limit: how many, if there are thoughts; None for what suits a model that is known to think, and for 0 if
                thoughts would come as a surprise, which count as answer then.
        """

    def submit(self, query: Query) -> None:
        """Take a query in.

        Raises:
            EngineFailed: nothing is answered any more.
        """

    def collect(self, timeout: float) -> Reply | None:
        """Return the next reply, None after so many seconds without one, or if none can come.

        Raises:
            KeptDamaged: as `confirm`, which a reply that is held back until it is confirmed may have been for.
            EngineFailed: nothing is answered any more, and every reply has been collected.
        """

    def confirm(self) -> None:
        """Tell that what the replies so far rest on is what it should be; none of them counts before.

        Raises:
            KeptDamaged: it is not, and to open the model again mends it. No reply has been confirmed yet.
            EngineFailed: it was changed while it was in use.
        """

    def is_confirmed(self) -> bool:
        """Tell whether `confirm` would return now, without waiting for it."""

    def drain(self) -> list[Reply]:
        """Return the replies that are there, without waiting and whatever has failed."""

    def close(self, timeout: float | None = None) -> None:
        """Give up what is not finished, and wait up to `timeout` seconds (None: as long as it takes) for its end."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What decides a model's answers: some facts, and the contents of files, which whoever keeps answers hashes."""

    facts: tuple[tuple[str, str | int], ...]
    files: tuple[Path, ...] = ()


class Model(Protocol):
    """What can be told of a model before its weights are there, and what opens it.

    Two threads may call it: the one that asks, and `measure`, `families` and `context_length` also the one that reads.
    Whoever cannot count tokens exactly (a server that tells none) may estimate them, rather too high than too low.
    """

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def families(self) -> tuple[str, ...]:
        """The names by which a task may know it: its own, and its type.

        Raises:
            ModelUnavailable: it is not to be had.
        """

    @property
    def context_length(self) -> int:
        """The most tokens that it was made for, prompt and answer together."""

    @property
    def counts_tokens(self) -> bool:
        """Whether its token counts are worth telling; the echo has none."""

    @property
    def max_held(self) -> int:
        """How many characters of text may be on their way."""

    @property
    def thinks(self) -> bool:
        """Whether it is known to write thoughts before its answers, so that their limit decides these."""

    def measure(self, text: str) -> int:
        """Return how many tokens a text has."""

    def exceeds(self, prompt: Prompt, most: int) -> bool:
        """Tell whether a prompt has more than `most` tokens for sure; see `Backend.exceeds`."""

    def count_tokens(self, prompt: Prompt) -> int:
        """Return how many tokens the model reads for a prompt; see `Backend.count_tokens`."""

    def spell(self, prompt: Prompt) -> str:
        """Return a prompt as the model reads it, for people, with each control token between ⟦ and ⟧.

        Raises:
            ModelUnavailable, UsageError: as `Backend.count_tokens`.
        """

    def identify(self) -> Identity:
        """Return what, of the model and this program, decides an answer.

        Raises:
            ModelUnavailable: it is not to be had.
        """

    def prepare(self) -> None:
        """Begin what takes long, if something does that needs nothing to be known but the choice: `open` should follow.

        It may be called again, which does nothing.

        Raises:
            ModelUnavailable: it is not to be had.
        """

    def open(self, examples: Sequence[Prompt]) -> Backend:
        """Make it ready to answer; once more, if what it was made of was found damaged since.

        Args:
            examples: prompts as they come, none that the model refuses; what all of them begin with is read once.

        Raises:
            ModelUnavailable: it is not to be had.
        """


class Watcher(Protocol):
    """Who is told what goes on; see `reporting.progress.Progress`."""

    def doing(self, what: str) -> None:
        """Take note of what takes time; nothing does where that is "". Any thread may say so."""

    def remark(self, message: str) -> None:
        """Take note of what was chosen."""

    def warn(self, message: str) -> None:
        """Take note of what went wrong while the run goes on."""

    def watch(self, statuses: Callable[[], Sequence[WorkerStatus]]) -> None:
        """Be given what tells about the workers."""
