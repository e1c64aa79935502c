"""What follows a server's error: a table of cases, by what real servers say."""

from __future__ import annotations

from typing import Any

import pytest

from llmpar.answering.endpoint.failures import Failure, Kind, failure_of, wait_of


def of(status: int, headers: dict[str, str] | None = None, **error: Any) -> Failure:
    return failure_of(status, headers or {}, {"error": error}, now=0.0)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (of(401, message="Incorrect API key"), Kind.FATAL),
        (of(403), Kind.FATAL),
        (of(404, message="The model `x` does not exist", code="model_not_found"), Kind.FATAL),
        (of(400, message="model 'x' not found, try pulling it first"), Kind.FATAL),
        (of(429, message="Rate limit reached"), Kind.AWAY),
        (of(429, message="You exceeded your current quota", code="insufficient_quota"), Kind.FATAL),
        (of(503, message="Loading model", type="unavailable_error"), Kind.AWAY),
        (of(500, message="internal"), Kind.BROKEN),
        (of(502), Kind.BROKEN),
        (of(504), Kind.BROKEN),
        (of(408), Kind.BROKEN),
        (of(413), Kind.OVERFLOW),
        (of(422, message="text is no string"), Kind.REFUSED),
        (of(400, message="Invalid role: x"), Kind.REFUSED),
        (failure_of(400, {}, "Bad Request"), Kind.REFUSED),
        (failure_of(502, {}, "<html>bad gateway</html>"), Kind.BROKEN),
        (failure_of(400, {}, {"object": "error", "message": "context length exceeded: too long"}), Kind.OVERFLOW),
        (failure_of(307, {"location": "http://evil/"}, ""), Kind.FATAL),
    ],
)
def test_what_follows(failure: Failure, kind: Kind) -> None:
    assert failure.kind is kind


@pytest.mark.parametrize(
    ("error", "room"),
    [
        # llama.cpp
        (
            {
                "message": "request (3024 tokens) exceeds the available context size (1024 tokens), try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 3024,
                "n_ctx": 1024,
            },
            -2000,
        ),
        # vLLM and OpenAI
        (
            {
                "message": "This model's maximum context length is 2048 tokens. However, you requested 2100 tokens "
                "(1900 in the messages, 200 in the completion). Please reduce the length."
            },
            148,
        ),
        (
            {
                "message": "This model's maximum context length is 8,192 tokens. However, your messages resulted in "
                "9,000 tokens.",
                "code": "context_length_exceeded",
            },
            -808,
        ),
        (
            {
                "message": "'max_tokens' or 'max_completion_tokens' is too large: 4000. This model's maximum context "
                "length is 2048 tokens and your request has 30 input tokens (4000 > 2048 - 30)."
            },
            2018,
        ),
        # TGI
        (
            {"message": "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens and 500 more"},
            96,
        ),
        # SGLang, LM Studio: nothing to reckon with
        ({"message": "The input (5000 tokens) is longer than the model's context length (4096 tokens)."}, None),
        ({"message": "Trying to keep the first 5000 tokens when context overflows. However, ..."}, None),
    ],
)
def test_what_is_too_long(error: dict[str, Any], room: int | None) -> None:
    failure = of(400, **error)
    assert failure.kind is Kind.OVERFLOW
    assert failure.room == room


@pytest.mark.parametrize(
    ("error", "parameter"),
    [
        (
            {
                "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                "'max_completion_tokens' instead.",
                "param": "max_tokens",
                "code": "unsupported_parameter",
            },
            "max_tokens",
        ),
        ({"message": "Unsupported value: 'temperature' does not support 0.0", "param": "temperature"}, "temperature"),
        ({"message": "Extra inputs are not permitted: structured_outputs"}, "structured_outputs"),
        ({"message": "'response_format' of type 'json_schema' is not supported"}, "response_format"),
    ],
)
def test_a_parameter_that_is_not_taken(error: dict[str, Any], parameter: str) -> None:
    failure = of(400, **error)
    assert (failure.kind, failure.parameter) == (Kind.PARAMETER, parameter)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 50.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:01 GMT"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "soon"}, None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_of(headers, now=10.0) == seconds


def test_what_a_server_says_is_one_short_line() -> None:
    message = of(500, message="a\n\x1b[31mb" + "c" * 1000).message
    assert message.startswith("answered 500: a ^[[31mb")
    assert len(message) < 400
