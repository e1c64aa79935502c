"""What answers each text with itself: the whole machine, workers and all, without a model."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from llmpar.answering.backend import Backend, Identity, Watcher
from llmpar.answering.choice import ANSWERS_VERSION, ModelChoice, max_held
from llmpar.answering.local import Codec, LocalBackend
from llmpar.answering.wire import Part
from llmpar.engine.echo import EchoRunner
from llmpar.engine.engine import Engine
from llmpar.tasks.question import Prompt

_SLOTS = 64


class Echo:
    """The model that needs none.

    Args:
        choice: how many workers there are, and how much each takes at once.
        watcher: is told of the workers.
    """

    name = "echo"
    families: tuple[str, ...] = ()
    context_length = sys.maxsize
    counts_tokens = False
    thinks = False

    def __init__(self, choice: ModelChoice, watcher: Watcher) -> None:
        self._choice = choice
        self._watcher = watcher

    @property
    def max_held(self) -> int:
        """How many characters of text may be on their way."""
        return max_held(self._choice.max_memory)

    def measure(self, text: str) -> int:
        """Return the length of a text."""
        return len(text)

    def exceeds(self, prompt: Prompt, most: int) -> bool:  # noqa: ARG002 (it takes any length)
        """Return false."""
        return False

    def count_tokens(self, prompt: Prompt) -> int:
        """Return the length of a text in bytes."""
        return len(_encode(prompt))

    def spell(self, prompt: Prompt) -> str:
        """Return the text, which is all that it reads."""
        return prompt.text

    def identify(self) -> Identity:
        """Return that it is the echo, of this version."""
        return Identity((("version", ANSWERS_VERSION), ("engine", "echo")))

    def prepare(self) -> None:
        """Do nothing: nothing takes long."""

    def open(self, examples: Sequence[Prompt]) -> Backend:  # noqa: ARG002 (nothing is read ahead)
        """Start the workers."""
        return open_echo(self._choice, self._watcher).backend


def open_echo(choice: ModelChoice, watcher: Watcher) -> Part:
    """Start the workers of an echo, in this process."""
    num_slots = choice.batch_size or _SLOTS
    runners = [EchoRunner(num_slots) for _ in range(choice.threads or 1)]
    engine = Engine(runners, Echo.context_length, warn=watcher.warn)
    watcher.watch(lambda: engine.statuses)
    return Part(LocalBackend(engine, CODEC))


def _encode(prompt: Prompt) -> bytes:
    return prompt.text.encode("utf-8", "surrogatepass")


def _decode(ids: Sequence[int]) -> str:
    return bytes(ids).decode("utf-8", "surrogatepass")


CODEC = Codec(_encode, _decode)
"""How texts become bytes, and back."""
