"""What a model has answered is kept, in whatever moment a signal comes."""

from __future__ import annotations

import signal

import pytest
from support.backends import byte_backend
from support.fakes import FakeRunner
from support.questions import Kept, question

from llmpar import interrupts
from llmpar.answering.answers import Answers
from llmpar.answering.attempts import Policy
from llmpar.answering.backend import Reply
from llmpar.answering.local import LocalBackend
from llmpar.errors import Interrupted
from llmpar.reporting.report import Report
from llmpar.store.answer import StoredAnswer
from llmpar.tasks.question import Sampling

TEXTS = [f"text {number}" for number in range(6)]


class Signalled(LocalBackend):
    """A backend over which a signal comes, in the moment in which it has a reply in its hand."""

    when = ""

    def __init__(self, backend: LocalBackend) -> None:
        super().__init__(backend._engine, backend._codec)
        self.said: list[Reply] = []

    def collect(self, timeout: float) -> Reply | None:
        reply = super().collect(timeout)
        self._say([reply] if reply else [], "collect")
        return reply

    def drain(self) -> list[Reply]:
        replies = super().drain()
        self._say(replies, "drain")
        return replies

    def _say(self, replies: list[Reply], where: str) -> None:
        self.said += replies
        if self.said and where == self.when:
            self.when = ""
            interrupts._interrupt(Interrupted(signal.SIGTERM))


class Hasty(Kept):
    """A memory over which a signal comes, before it has the first answer."""

    when = ""

    def add(self, key: bytes, text: str, answer: StoredAnswer, *, replaces: bool = False) -> None:
        if self.when == "add":
            self.when = ""
            interrupts._interrupt(Interrupted(signal.SIGTERM))
        super().add(key, text, answer, replaces=replaces)


@pytest.mark.parametrize("when", ["collect", "drain", "add"])
def test_a_signal_loses_no_reply(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_is_ending", False)
    memory, report = Hasty(), Report()
    backend = Signalled(byte_backend([FakeRunner(len(TEXTS))]))
    backend.when = memory.when = when
    answers = Answers(Sampling(), Policy(retries=0), lambda task: (task, memory), lambda _: backend, report)
    answers.submit_all([question(text) for text in TEXTS])
    with pytest.raises(Interrupted):
        answers.collect(20)
    answers.abandon()
    said = [TEXTS[reply.id] for reply in backend.said if reply.finish_reason == "stop"]
    assert said
    assert memory.texts == said
