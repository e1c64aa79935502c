"""What crosses the protocol of questions and answers is plain data, and every model there is speaks it."""

from __future__ import annotations

import pickle
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from support.backends import byte_backend
from support.fakes import FakeRunner, fake_answer
from support.questions import Kept, question
from support.servers import serving

from llmpar.answering.answers import Answers
from llmpar.answering.attempts import Attempt, Policy
from llmpar.answering.backend import Identity, Query, Reply
from llmpar.answering.choice import MODELS, ModelChoice, open_model
from llmpar.answering.local import Manner
from llmpar.models.thoughts import Outlook
from llmpar.reporting.report import Report
from llmpar.tasks.files import find_task
from llmpar.tasks.question import Conversation, Prompt, Sampling
from llmpar.tasks.task import Form

PROMPT = Prompt((("system", "s"), ("user", "one")), "one", languages=("en", "de"))
QUERY = Query(3, PROMPT, Sampling(stop=("x",)), 8, Form(choices=("a", "b")), 2.5, b"\0", 3)
REPLY = Reply(
    3, "answer", "length", 4, worker=1, seconds=0.5, continuation=b"\1", num_prompt_tokens=9, thoughts="a",
    num_thinking_tokens=2,
)  # fmt: skip


class Silence:
    def doing(self, what: str) -> None: ...
    def remark(self, message: str) -> None: ...
    def warn(self, message: str) -> None: ...
    def watch(self, statuses: object) -> None: ...


@pytest.mark.parametrize(
    "value",
    [
        QUERY,
        REPLY,
        Manner.of(QUERY, Outlook(is_open=True)),
        ModelChoice("some/model", threads=3),
        Policy(timeout=1.0),
        Attempt(1, 2),
        Identity((("engine", "model"),), (Path("a"),)),
        find_task("translate"),
        question("one", find_task("ask"), Conversation((("user", "one"),), Sampling(), form=Form(schema="{}"))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_it_can_be_sent_to_another_process(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert is_dataclass(value)
    assert not any(callable(getattr(value, field.name)) for field in fields(value))


@pytest.mark.parametrize("engine", MODELS)
def test_every_model_has_what_the_protocol_asks(engine: Any, tiny_model: Any) -> None:
    with serving() as server:
        urls = (server.url,) if engine == "endpoint" else ()
        has_what_the_protocol_asks(
            engine, ModelChoice(str(tiny_model), engine, device="cpu", precision="fp32", threads=1, endpoints=urls)
        )


def has_what_the_protocol_asks(engine: str, choice: ModelChoice) -> None:
    model = open_model(choice, Silence())
    assert model.measure("some words") > 0
    assert model.count_tokens(PROMPT) >= model.measure("one")
    assert model.context_length > 100
    assert model.max_held > 0
    assert isinstance(model.families, tuple)
    assert dict(model.identify().facts)["engine"] == engine
    backend = model.open([PROMPT])
    assert backend.num_slots > 0
    assert backend.failure is None
    backend.submit(Query(7, PROMPT, Sampling(), 4))
    reply = backend.collect(60)
    assert reply is not None
    assert (reply.id, reply.error) == (7, None)
    assert backend.collect(0) is None
    backend.close()
    assert backend.drain() == []


def test_an_answer_that_was_cut_goes_on_where_it_stopped() -> None:
    class Counting(FakeRunner):
        def _step(self, sequences: list[Any]) -> None:
            for sequence in sequences:
                done = sequence.request.num_answered + len(sequence.output_ids)
                sequence.append(b"abcdefghij"[done] if done < 10 else -1, frozenset({-1}))

    backend = byte_backend([Counting(2)])
    backend.submit(Query(0, PROMPT, Sampling(), 4))
    cut = backend.collect(20)
    assert cut is not None
    assert (cut.text, cut.finish_reason, cut.num_output_tokens) == ("abcd", "length", 4)
    backend.submit(Query(1, PROMPT, Sampling(stop=("ef",)), 20, continues=cut.continuation))
    whole = backend.collect(20)
    assert whole is not None
    assert (whole.text, whole.finish_reason) == ("abcd", "stop")
    backend.submit(Query(2, PROMPT, Sampling(), 20, continues=cut.continuation))
    whole = backend.collect(20)
    assert whole is not None
    assert (whole.text, whole.finish_reason, whole.num_output_tokens) == ("abcdefghij", "stop", 10)
    assert whole.continuation == b""
    backend.close()


def test_a_question_is_encoded_one_time() -> None:
    encoded = []

    def encode(prompt: Prompt) -> bytes:
        encoded.append(prompt.text)
        return prompt.text.encode()

    backend = byte_backend([FakeRunner(2)], encode=encode)
    open_task: Any = lambda task: (task, Kept())  # noqa: E731
    answers = Answers(Sampling(40, max_repeats=0), Policy(retries=0), open_task, lambda _: backend, Report())
    pending = [answers.submit(question(text)) for text in ("one", "two")]
    while answers.running:
        answers.collect(1.0)
    answers.close()
    assert all(found.result for found in pending)
    assert encoded == ["one", "two"]


def test_a_prompt_that_was_counted_is_encoded_one_time() -> None:
    encoded = []

    def encode(prompt: Prompt) -> bytes:
        encoded.append(prompt.text)
        return prompt.text.encode()

    backend = byte_backend([FakeRunner(2)], encode=encode)
    other = Prompt((), "two")
    assert backend.count_tokens(PROMPT) == 3
    backend.submit(Query(0, PROMPT, Sampling(), 100))
    backend.submit(Query(1, other, Sampling(), 100))
    replies = [backend.collect(20), backend.collect(20)]
    found = {reply.id: reply.text for reply in replies if reply}
    assert found == {0: bytes(fake_answer(b"one")).decode(), 1: bytes(fake_answer(b"two")).decode()}
    assert encoded == ["one", "two"]
    backend.close()
