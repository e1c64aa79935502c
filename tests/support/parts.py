"""Parts of a backend of several processes, over runners without a model, which takes a moment to begin, not seconds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from llmpar.answering.backend import Query, Reply, Watcher
from llmpar.answering.choice import ModelChoice
from llmpar.answering.local import Codec
from llmpar.answering.processes import Processes
from llmpar.answering.wire import Opened, OpenPart, Part
from llmpar.engine.model import DeviceFull
from llmpar.engine.request import Sequence
from llmpar.errors import KeptDamaged, ModelUnavailable, UsageError
from llmpar.integrity.foundation import Foundation
from llmpar.tasks.question import Prompt, Sampling
from support.backends import byte_backend
from support.fakes import FakeRunner


class Told:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self.warnings: list[str] = []

    def doing(self, what: str) -> None: ...

    def remark(self, message: str) -> None:
        self.remarks.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def watch(self, statuses: object) -> None: ...


class Deadly(FakeRunner):
    """A FakeRunner that ends its process over a prompt that begins with "die"."""

    def _step(self, sequences: list[Sequence]) -> None:
        if any(bytes(list(sequence.request.prompt_ids)).startswith(b"die") for sequence in sequences):
            os.kill(os.getpid(), signal.SIGKILL)
        super()._step(sequences)


class Damaged(Foundation):
    """A foundation whose weights prove to be damaged when the first reply is there."""

    def confirm(self) -> None:
        raise KeptDamaged("the weights were altered")


def open_fake(
    watcher: Watcher,
    slots: int = 2,
    delay: float = 0.0,
    fail_at: int | None = None,
    kind: str = "",
    context: int = 500,
    arithmetic: str = "",
) -> Part:
    """Open a part of FakeRunners; `kind` is what is wrong with it."""
    if kind == "full":
        raise DeviceFull("there is no room on it")
    if kind == "unavailable":
        raise ModelUnavailable("it cannot be put there; take a smaller one")
    if kind == "usage":
        raise UsageError("the memory limit is too little")
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "unforeseen":
        raise RuntimeError("a library\nsays more")
    watcher.remark(f"opened with {slots} slots")
    if kind == "warning":
        watcher.warn("something was made again")
    runner = Deadly(slots) if kind == "deadly" else FakeRunner(slots, delay, fail_at)
    backend = byte_backend([runner], context)
    if kind == "damaged":
        backend._foundation = Damaged()
    return Part(backend, 300, frozenset({2}), arithmetic)


class Wrong(FakeRunner):
    """A FakeRunner whose answers are all the same."""

    def _step(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            done = len(sequence.output_ids)
            sequence.append(b"damaged"[done] if done < 7 else -1, frozenset({-1}))


def open_damaged(
    choice: ModelChoice, files: object, examples: object, num_models: int, doubts: bool, watcher: Watcher
) -> Part:
    """Stand for `model.open_part`, with weights that are damaged until they are looked at."""
    backend = byte_backend([FakeRunner() if doubts else Wrong()], 500)
    if not doubts:
        backend._foundation = Damaged()
    return Part(backend, 300, frozenset({2}))


def open_sound(*_: object) -> Part:
    """Stand for `model.open_part`, without any weights; its tokens are bytes."""
    return Part(byte_backend([FakeRunner()], 500), 300, frozenset({2}))


def import_nothing() -> None:
    """Stand for `model.import_libraries`."""


def fake_part(**options: object) -> OpenPart:
    return partial(open_fake, **options)  # type: ignore[arg-type]


def opened(
    *parts: OpenPart, watcher: Told | None = None, stall_limit: float | None = 1800.0, encodes: list[str] | None = None
) -> Processes:
    """Return a backend over a process for each part, when they are ready."""

    def encode(prompt: Prompt) -> bytes:
        if encodes is not None:
            encodes.append(prompt.text)
        return prompt.text.encode()

    names = [f"process {index} on fake:{index}" for index in range(len(parts))]
    backend = Processes(names, watcher or Told(), Foundation(), stall_limit)

    def codec(_: Opened) -> Codec:
        return Codec(encode, lambda ids: bytes(ids).decode(), len)

    try:
        backend.open(parts)
        backend.wait(codec)
    except BaseException:
        backend.close(0)
        raise
    return backend


def ask(backend: Processes, texts: list[str], first: int = 0) -> None:
    for number, text in enumerate(texts, first):
        backend.submit(Query(number, Prompt((), text), Sampling(), 100))


def replies(backend: Processes, count: int) -> dict[int, Reply]:
    """Return so many replies, by their queries."""
    found: dict[int, Reply] = {}
    for _ in range(count):
        reply = backend.collect(30)
        assert reply is not None, "nothing comes"
        assert reply.id not in found
        found[reply.id] = reply
    return found


def wait_until(condition: Callable[[], bool], what: str = "nothing happens", patience: float = 20) -> None:
    until = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def is_gone(process_id: int) -> bool:
    """Tell whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True
