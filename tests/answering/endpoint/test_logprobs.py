"""Log-probabilities of servers: taken where they are offered, done without where not, never a reason to fail."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import pytest
from support.servers import Body, Response, Server, failed, said, serving, text_of

import llmpar
from llmpar.answering.endpoint.logprobs import told_in
from llmpar.documents.document import Result

TEXTS = ["text 0", "text 1", "text 2"]


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def run(server: Server, **given: Any) -> list[Result]:
    model = llmpar.ModelChoice(endpoints=(server.url,))
    return list(llmpar.run(TEXTS, "Say this:\n{text}", model=model, store=False, **given))


def told(body: Body, *logprobs: float) -> Response:
    """Answer with tokens as likely as these, if that is asked for."""
    response = said(text_of(body).upper())
    if body.get("logprobs"):
        content = [{"token": "x", "logprob": logprob, "bytes": [120], "top_logprobs": []} for logprob in logprobs]
        response.body["choices"][0]["logprobs"] = {"content": content}  # type: ignore[index]
    return response


def test_they_are_taken_over() -> None:
    with serving(lambda body: told(body, -0.5, -1.5)) as server:
        results = run(server)
    assert [result.error for result in results] == [None] * 3
    for result in results:
        assert (result.mean_logprob, result.min_logprob) == (-1.0, -1.5)
        assert result.confidence == pytest.approx(math.exp(-1))
    assert all(body["logprobs"] is True and "top_logprobs" not in body for body in server.asked)


@pytest.mark.parametrize(
    "refusal",
    [
        failed(400, "Unrecognized request argument supplied: logprobs", param="logprobs"),
        failed(403, "You are not allowed to request logprobs from this model."),
        failed(422, "logprobs: extra inputs are not permitted"),
        failed(501, "logprobs are not implemented"),
    ],
)
def test_a_server_that_refuses_them_is_asked_without(refusal: Response) -> None:
    def answer(body: Body) -> Response:
        return refusal if "logprobs" in body else told(body)

    with serving(answer) as server, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        results = run(server, policy=llmpar.Policy(retries=0))
    assert [result.answer for result in results] == ["TEXT 0", "TEXT 1", "TEXT 2"]
    assert all(result.confidence is None for result in results)


def test_a_server_that_refuses_them_at_its_greeting_is_never_asked_for_them_again() -> None:
    with serving(told) as server:
        refuses = iter([failed(400, "logprobs is not supported", param="logprobs")])
        plain = server.greeting
        real = server._respond

        async def respond(path: str, body: Body) -> Response:
            server.greeting = next(refuses, plain) if "logprobs" in body else plain
            return await real(path, body)

        server._respond = respond  # type: ignore[method-assign]
        assert [result.answer for result in run(server)] == ["TEXT 0", "TEXT 1", "TEXT 2"]
    assert server.asked
    assert all("logprobs" not in body for body in server.asked)


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        [],
        {"content": None},
        {"content": [{"token": "a"}]},
        {"content": [{"token": "a", "logprob": "-1"}]},
        {"content": [{"token": "a", "logprob": math.nan}]},
        {"content": ["a"]},
        {"tokens": ["a", "b"], "token_logprobs": [-1]},
    ],
)
def test_what_is_malformed_is_not_known(logprobs: object) -> None:
    assert told_in({"logprobs": logprobs}) == ()


def test_columns_say_the_same() -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": [{"a": -1, "b": -2}]}
    (entry,) = told_in({"logprobs": logprobs})
    assert (entry["token"], entry["logprob"], entry["bytes"]) == ("a", -1.0, [97])
    assert [other["token"] for other in entry["top_logprobs"]] == ["a", "b"]  # type: ignore[attr-defined]


def test_batch_files_have_what_servers_tell(llmpar: Any) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "logprobs": True, "top_logprobs": 2}
    data = json.dumps(line | {"body": asked}).encode()
    with serving(lambda body: told(body, -0.5)) as server:
        found = json.loads(llmpar("batch", "--endpoint", server.url, "--no-store", stdin=data).out)
    (token,) = found["response"]["body"]["choices"][0]["logprobs"]["content"]
    assert (token["token"], token["logprob"], token["top_logprobs"]) == ("x", -0.5, [])
    assert server.asked[0]["top_logprobs"] == 2
    with serving(lambda body: said("HI")) as server:
        found = json.loads(llmpar("batch", "--endpoint", server.url, "--no-store", stdin=data).out)
    assert found["error"]["error"]["param"] == "logprobs"
