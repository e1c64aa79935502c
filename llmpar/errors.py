"""The exception tree; every branch owns an exit code of the command line. Knows nobody.

LlmparError
├── UsageError            2    an option or value that cannot be meant
├── SegmentFailed         3    a segment failed, and the user wants none that did (`--on-error fail`)
├── AnswerFailed          3    an answer cannot go on as it must; its segment fails, and no other
├── InputError           65    input is not what it claims to be
├── InputUnreadable      66    input cannot be opened or read
├── ModelUnavailable     69    a model that cannot be found, fetched, trusted or loaded
│   └── EngineFailed     69    the engine or its device died during the run
│       ├── KeptDamaged  69    weights that were kept are not what was written, and can be loaded again
│       └── TokensSpent 124    the tokens that the user gave have been taken
├── OutputUncreatable    73    a destination that cannot be created
├── WriteFailed          74    writing the output, the cache or the store failed
│   └── StoreUnusable    74    the result store is damaged, too new, or cannot be written
└── Busy                 75    somebody else holds the lock

Interrupted          128+n    ended by signal n; no Exception, so that nothing takes it for a library's error
├── TimeUp             124    the time that the user gave ran out
└── ReaderGone         141    whoever read stdout went away
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_is_shell = False


class LlmparError(Exception):
    """Any failure that ends a command. The message names the thing and the remedy."""

    exit_code = 1


class UsageError(LlmparError):
    """An option or value that cannot be meant."""

    exit_code = 2


class SegmentFailed(LlmparError):
    """A segment failed in a run that was to end at the first that does."""

    exit_code = 3


class AnswerFailed(LlmparError, ValueError):
    """An answer that cannot go on as its form demands. It fails its own segment alone."""

    exit_code = 3


class InputError(LlmparError):
    """Input that is not what it claims to be: bad UTF-8, a malformed record."""

    exit_code = 65


class InputUnreadable(LlmparError):
    """Input that cannot be opened or read."""

    exit_code = 66


class ModelUnavailable(LlmparError):
    """A model that cannot be found, fetched, trusted or loaded."""

    exit_code = 69


class EngineFailed(ModelUnavailable):
    """The engine, a worker or its device died while requests were running."""

    resumption: str | None = None
    """As an `Interrupted` run's."""
    is_before_first = False
    """As an `Interrupted` run's."""


class KeptDamaged(EngineFailed):
    """Weights that were kept are no longer what was written; nothing was taken from them that cannot be undone."""


class TokensSpent(EngineFailed):
    """The tokens that the user gave a run are spent, so that nothing more is asked.

    Args:
        total: how many the user gave.
        spent: how many were taken; the next answer might take more than what is left.
    """

    exit_code = 124

    def __init__(self, total: int, spent: int) -> None:
        given = setting("max_tokens_total", str(total))
        super().__init__(f"{given}: {spent:,} tokens are spent, and the next answer may take more than the rest")


class OutputUncreatable(LlmparError):
    """A destination that cannot be created."""

    exit_code = 73


class WriteFailed(LlmparError):
    """Writing the output, the model cache or the result store failed."""

    exit_code = 74


class StoreUnusable(WriteFailed):
    """A result store that is damaged, from a newer llmpar, or cannot be written. It is left as it is."""


class Busy(LlmparError):
    """Somebody else holds the lock on a destination; later it may be free."""

    exit_code = 75


@contextmanager
def told_in_shell() -> Iterator[None]:
    """Let messages name settings as a shell's user writes them, who gave a command and no call."""
    global _is_shell
    before, _is_shell = _is_shell, True
    try:
        yield
    finally:
        _is_shell = before


def is_told_in_shell() -> bool:
    """Tell whether messages name settings as in a shell, for a process that is to write them likewise."""
    return _is_shell


def setting(name: str, value: str = "", *, option: str | None = None) -> str:
    """Return how whoever asked writes a setting: `max_memory=8GB` from Python, `--max-memory 8GB` in a shell.

    Args:
        name: as Python knows it.
        value: what it should be; "" to name the setting alone.
        option: how a shell's user writes it, value included, where that is another name.
    """
    if not _is_shell:
        return f"{name}={value}" if value else name
    return f"--{name.replace('_', '-')} {value}".strip() if option is None else option


class Interrupted(BaseException):
    """The run was ended by a signal, which may come anywhere.

    Args:
        signum: the signal's number; the exit code is 128 more, as in a shell.
    """

    resumption: str | None = None
    """What the same command, which goes on from what a store holds, needs besides; None if it does not go on."""
    is_before_first = False
    """Whether it came before the first answer, so that the same command begins anew."""
    meanwhile = ""
    """What was waited for when it came, as the end of a sentence; "" if it is not worth telling."""
    is_told = False
    """Whether a line has said that it came, and what became of the work."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


class TimeUp(Interrupted):
    """The time that the user gave a run has passed.

    Args:
        seconds: how much it was.
    """

    def __init__(self, seconds: float) -> None:
        BaseException.__init__(self, f"the time is up ({seconds:g} s)")
        self.exit_code = 124


class ReaderGone(Interrupted):
    """The reader of stdout closed it (`… | head`); there is nobody left to write for."""

    def __init__(self) -> None:
        super().__init__(signal.SIGPIPE)
