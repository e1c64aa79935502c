"""llmpar with an engine that needs no model, takes its time and writes down what it generates.

`FAKE_ENGINE='{"log": "generated", "delay": 0.01}' python tests/attack/program.py run --engine echo …`
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmpar.answering.backend import Backend
from llmpar.answering.echo import Echo
from llmpar.answering.local import Codec, LocalBackend
from llmpar.engine.echo import EchoRunner
from llmpar.engine.engine import Engine
from llmpar.engine.request import Request, Sequence

if TYPE_CHECKING:
    from collections.abc import Callable

RETRY_SEED = 1_000_003  # what each further attempt adds to the seed
_STOP = -1
_TOKENS_A_STEP = 16
_open, _write, _close = os.open, os.write, os.close  # of this log; those of the program may be made to fail


@dataclass(frozen=True)
class Fake:
    """How the engine behaves, besides what texts ask for (see `answer`).

    Args:
        log: a file that takes a line for each prompt that is taken up: process, seed, hash of the prompt.
        delay: the longest pause of a step, in seconds.
        load: how long loading takes.
        seed: of the pauses, and of what follows.
        raising: the share of steps that fail for no reason that lasts.
        starving: the share of steps for which there is not enough memory.
        dying: the share of steps at which the device is lost.
        hanging: the share of steps that take a minute.
    """

    log: str | None = None
    delay: float = 0.0
    load: float = 0.0
    seed: int = 0
    raising: float = 0.0
    starving: float = 0.0
    dying: float = 0.0
    hanging: float = 0.0

    def open_backend(self, model: Echo) -> Backend:
        """Take the place of Echo.open."""
        time.sleep(self.load)
        threads, slots = model._choice.threads, model._choice.batch_size
        runners = [_SlowRunner(self, slots or 4, index) for index in range(threads or 3)]
        engine = Engine(runners, 4096, warn=model._watcher.warn)
        model._watcher.watch(lambda: engine.statuses)
        codec = Codec(
            encode=lambda prompt: prompt.messages[-1][1].encode("utf-8", "surrogatepass"),
            decode=lambda ids: bytes(ids).decode().strip(),
        )
        return LocalBackend(engine, codec)

    def install(self, patch: Callable[[object, str, object], object] = setattr) -> None:
        """Answer instead of the echo."""
        patch(Echo, "open", lambda model, _: self.open_backend(model))


def answer(prompt: bytes, seed: int, num_tokens: int) -> bytes:
    """Return the answer's first bytes, so many or all: they follow from all of its prompt, and the seed.

    A prompt can ask to be failed: [empty] always, [weak] at the first attempt, [weaker] at the first two, [loop] by a
    loop, [never] by an answer that does not end, and [long] by none, though there is little room for it.
    """
    attempt = seed // RETRY_SEED
    if b"[empty]" in prompt or (b"[weak]" in prompt and attempt < 1) or (b"[weaker]" in prompt and attempt < 2):
        return b" "
    if b"[loop]" in prompt:
        return (b"ab" * (num_tokens // 2 + 1))[:num_tokens]
    digest = hashlib.sha256(b"%d:" % seed + prompt).hexdigest()
    length = num_tokens if b"[never]" in prompt else 400 if b"[long]" in prompt else 1 + int(digest[0], 16)
    return "".join(hashlib.sha256(f"{i}{digest}".encode()).hexdigest() for i in range(1 + length // 64))[
        :length
    ].encode()


def generation(prompt: bytes, seed: int) -> str:
    """Return how the log names what was generated."""
    return f"{seed} {hashlib.sha256(prompt).hexdigest()}"


class _SlowRunner(EchoRunner):
    def __init__(self, fake: Fake, num_slots: int, index: int) -> None:
        super().__init__(num_slots)
        self._fake = fake
        self._random = random.Random(f"{fake.seed}:{index}")

    def prefill(self, sequences: list[Sequence]) -> None:
        if self._fake.log:
            _append(self._fake.log, [generation(_asked(s.request), s.request.params.seed) for s in sequences])
        self.decode(sequences)

    def decode(self, sequences: list[Sequence]) -> None:
        fake, draw = self._fake, self._random.random
        time.sleep(draw() * fake.delay)
        if draw() < fake.hanging:
            time.sleep(60)
        if draw() < fake.dying:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if draw() < fake.starving:
            raise MemoryError
        if draw() < fake.raising:
            raise ValueError("a step failed")
        for sequence in sequences:
            self._go_on(sequence)

    def _go_on(self, sequence: Sequence) -> None:
        request = sequence.request
        done = request.num_answered + len(sequence.output_ids)
        known = answer(_asked(request), request.params.seed, done + _TOKENS_A_STEP)
        for token_id in [*known[done : done + _TOKENS_A_STEP], _STOP]:
            if sequence.finish_reason is None and (token_id != _STOP or len(known) < done + _TOKENS_A_STEP):
                sequence.append(token_id, frozenset({_STOP}))


def _asked(request: Request) -> bytes:
    """Return the prompt, without what was answered before and is gone on with."""
    return bytes(request.prompt_ids[: len(request.prompt_ids) - request.num_answered])


def _append(log: str, lines: list[str]) -> None:
    data = "".join(f"{os.getpid()} {line}\n" for line in lines).encode()
    descriptor = _open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        _write(descriptor, data)
    finally:
        _close(descriptor)


if __name__ == "__main__":
    from llmpar.cli.main import main

    Fake(**json.loads(os.environ.get("FAKE_ENGINE", "{}"))).install()
    main()
