"""What no server should say: it takes one attempt of one piece, and nobody waits for it for ever."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.servers import MODEL, Body, Response, echo, said, serving, text_of
from support.servers import Server as Speaking

import llmpar
from llmpar.answering.backend import Query
from llmpar.answering.endpoint.address import Address
from llmpar.answering.endpoint.backend import EndpointBackend
from llmpar.answering.endpoint.budget import Budget
from llmpar.answering.endpoint.client import Client
from llmpar.answering.endpoint.messages import Manners
from llmpar.answering.endpoint.pace import Pace
from llmpar.answering.endpoint.server import Server
from llmpar.documents.document import Result
from llmpar.errors import ModelUnavailable
from llmpar.tasks.question import Prompt, Sampling

TEXTS = ["text 0", "text 1", "text 2"]


@pytest.fixture(autouse=True)
def _quick_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for module in ("server", "introduction"):
        monkeypatch.setattr(f"llmpar.answering.endpoint.{module}.backoff", lambda _: 0.01)


def run(response: Response) -> tuple[list[Result], Speaking]:
    """Ask a server that says something strange to the second text for the first time, and echoes all else."""
    strange = [response]

    def answer(body: Body) -> Response:
        return strange.pop() if strange and text_of(body) == "text 1" else echo(body)

    with serving(answer) as server:
        model = llmpar.ModelChoice(endpoints=(server.url,))
        policy = llmpar.Policy(retries=1)
        return list(llmpar.run(TEXTS, "Say this:\n{text}", model=model, policy=policy, store=False)), server


def choice(**more: Any) -> Response:
    response = said("TEXT 1")
    response.body["choices"][0] |= more  # type: ignore[index]
    return response


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "response",
    [
        Response(body=DEEP + "]" * 100_000),
        Response(500, DEEP),
        Response(500, "<html>nginx</html>", {"content-type": "text/html; charset=utf-16"}),
        Response(500, "<html>nginx</html>", {"content-type": "text/html; charset=hex"}),
    ],
    ids=["deep", "a deep error", "not as it says", "no text at all"],
)
def test_what_cannot_be_read_is_asked_for_again(response: Response) -> None:
    results, server = run(response)
    assert [(result.answer, result.error) for result in results] == [(text.upper(), None) for text in TEXTS]
    assert len(server.asked) == 4


def test_what_has_no_end_is_not_read_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmpar.answering.endpoint.reading._MOST", 10_000)
    for count, is_read in ((900, True), (2500, False)):
        text = " ".join(map(str, range(count)))
        results, server = run(said(text))
        assert [result.answer for result in results] == ["TEXT 0", text if is_read else "TEXT 1", "TEXT 2"]
        assert len(server.asked) == (3 if is_read else 4)


@pytest.mark.parametrize(
    "response",
    [
        choice(finish_reason=["stop"]),
        choice(finish_reason={}),
        choice(logprobs={"content": [{"token": "a", "logprob": -(10**400)}]}),
        said("TEXT 1", prompt_tokens=10**30, tokens=10**30),
        Response(200, json.dumps(said("TEXT 1").body), {"content-type": "application/json; charset=hex"}),
    ],
    ids=["a list of reasons", "an object for a reason", "log-probability", "counts", "charset"],
)
def test_what_is_strange_beside_an_answer_is_passed_over(response: Response) -> None:
    results, server = run(response)
    assert [(result.answer, result.error) for result in results] == [(text.upper(), None) for text in TEXTS]
    assert len(server.asked) == 3
    assert results[1].confidence is None
    assert results[1].num_prompt_tokens < 1000


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ({"owned_by": ["x"], "max_model_len": 10**400}, "0.9"),
        ({"owned_by": "vllm", "meta": []}, "9" * 5000 + ".1"),
        ({"owned_by": "vllm", "aliases": 5}, "new"),
    ],
)
def test_what_is_strange_in_a_list_of_models_is_passed_over(told: Body, version: str) -> None:
    with serving(models=[{"id": MODEL, **told}]) as server:
        server.pages["/version"] = Response(body={"version": version})
        model = llmpar.ModelChoice(endpoints=(server.url,))
        (result,) = llmpar.run(["text"], "Say this:\n{text}", model=model, store=False)
    assert result.answer == "TEXT"


def test_a_page_for_people_is_told_from_a_server() -> None:
    with serving() as server:
        server.pages["/v1/models"] = Response(body="<html>Log in</html>")
        model = llmpar.ModelChoice(endpoints=(server.url,))
        with pytest.raises(ModelUnavailable, match=r"no JSON: no server of .*; look at its URL"):
            list(llmpar.run(["text"], "Say this:\n{text}", model=model, store=False))


def test_what_nobody_foresaw_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(*_: object) -> object:
        raise ZeroDivisionError("a library")

    monkeypatch.setattr(Client, "ask", ask)
    made = lambda: [Server(0, Client(Address("http://127.0.0.1:9/v1"), None), MODEL, Manners(), Pace(2))]  # noqa: E731
    backend = EndpointBackend(made, 10_000, Budget(None), _Silence())
    backend.submit(Query(0, Prompt((("user", "a"),), "a"), Sampling(), 9))
    with pytest.raises(ZeroDivisionError, match="a library"):
        backend.collect(20)
    backend.close()


class _Silence:
    def doing(self, what: str) -> None: ...
    def remark(self, message: str) -> None: ...
    def warn(self, message: str) -> None: ...
    def watch(self, statuses: object) -> None: ...
