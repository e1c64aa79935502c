"""Runners without a model."""

from __future__ import annotations

import hashlib
import random
import time

from llmpar.engine.request import Request, Sequence


class FakeRunner:
    """A runner without a model: each answer follows from its prompt alone, a token a step, after a random delay.

    Args:
        num_slots: sequences at a time.
        delay: the longest pause of a step, in seconds.
        fail_at: the step from which on all raise.
    """

    continuous = True

    def __init__(self, num_slots: int = 4, delay: float = 0.0, fail_at: int | None = None, seed: int = 0) -> None:
        self.num_slots = num_slots
        self.most_live = 0
        self._delay = delay
        self._fail_at = fail_at
        self._random = random.Random(seed)
        self._steps = 0
        self._live: list[Sequence] = []

    def start(self) -> None:
        pass

    def reserve(self, request: Request) -> bool:
        return True

    def resize(self, num_slots: int) -> None:
        assert not self._live
        self.num_slots = num_slots

    def prefill(self, sequences: list[Sequence]) -> None:
        assert len(self._live) + len(sequences) <= self.num_slots
        self._live += sequences
        self.most_live = max(self.most_live, len(self._live))
        self._step(sequences)

    def decode(self, sequences: list[Sequence]) -> None:
        assert {id(s) for s in sequences} == {id(s) for s in self._live}
        self._step(sequences)

    def release(self, sequence: Sequence) -> None:
        self._live.remove(sequence)

    def _step(self, sequences: list[Sequence]) -> None:
        self._steps += 1
        if self._delay:
            time.sleep(self._random.random() * self._delay)
        if self._fail_at and self._steps >= self._fail_at:
            raise RuntimeError("the device is on fire")
        for sequence in sequences:
            answer = fake_answer(sequence.request.prompt_ids)
            done = len(sequence.output_ids)
            sequence.append(answer[done] if done < len(answer) else -1, frozenset({-1}))


class LoopingRunner(FakeRunner):
    """A FakeRunner that answers prompts beginning with "loop" with "abab…" without end."""

    def _step(self, sequences: list[Sequence]) -> None:
        looping = [sequence for sequence in sequences if bytes(sequence.request.prompt_ids).startswith(b"loop")]
        for sequence in looping:
            num_answered = sequence.request.num_answered + len(sequence.output_ids)
            sequence.append(b"ab"[num_answered % 2], frozenset({-1}))
        super()._step([sequence for sequence in sequences if sequence not in looping])


def fake_answer(prompt_ids: object) -> list[int]:
    """Return what a FakeRunner answers, as printable ASCII: it depends on every id of the prompt."""
    digest = hashlib.sha256(repr(list(prompt_ids)).encode()).hexdigest()  # type: ignore[call-overload]
    return [ord(char) for char in digest[: 1 + int(digest[0], 16)]]
