"""A query → what a server is asked; what it says → an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.servers import said

from llmpar.answering.backend import Query
from llmpar.answering.endpoint.failures import Kind, RequestFailed
from llmpar.answering.endpoint.messages import CHAT, COMPLETION, Manners, answer_in, body_of, path_of
from llmpar.tasks.question import Prompt, Sampling
from llmpar.tasks.task import Form

PROMPT = Prompt((("system", "s"), ("user", "one")), "one")
CHOICES = Form(choices=("billing", 'no "idea"\n'))
SCHEMA = Form(
    schema=json.dumps(
        {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
            "required": ["a"],
            "additionalProperties": False,
        }
    )
)


def query(prompt: Prompt = PROMPT, form: Form | None = None, **sampling: Any) -> Query:
    return Query(0, prompt, Sampling(**sampling), 9, form)


def test_a_conversation() -> None:
    assert path_of(query()) == CHAT
    assert body_of(query(), "m", Manners(), 9) == {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "one"}],
        "max_tokens": 9,
        "temperature": 0.0,
        "logprobs": True,
    }


def test_a_text_to_go_on_with() -> None:
    asked = query(Prompt((("user", "Once"),), "Once", is_beginning=True))
    assert path_of(asked) == COMPLETION
    assert body_of(asked, "m", Manners(), 9)["prompt"] == "Once"
    assert answer_in(said(" upon").body, asked).text == " upon"


def test_what_decides_an_answer_is_said_and_not_left_to_the_server() -> None:
    drawn = query(temperature=0.5, top_p=0.9, seed=2**40 + 3, stop=("x",))
    body = body_of(drawn, "m", Manners(), 9)
    assert (body["temperature"], body["top_p"], body["seed"], body["stop"]) == (0.5, 0.9, 3, ["x"])
    assert "top_k" not in body, "the protocol has no such parameter"
    assert body_of(drawn, "m", Manners("llama.cpp"), 9)["top_k"] == 0
    assert body_of(drawn, "m", Manners("vllm"), 9)["top_k"] == -1


def test_bytes_that_are_no_text_can_be_sent() -> None:
    body = body_of(query(Prompt((("user", "a\udcffb"),), "")), "m", Manners(), 9)
    assert json.dumps(body, ensure_ascii=False).encode()


def test_what_a_server_refuses_is_left_out() -> None:
    manners: Manners | None = Manners()
    assert manners is not None
    manners = manners.without("max_tokens")
    assert manners is not None
    assert body_of(query(), "m", manners, 9)["max_completion_tokens"] == 9
    manners = manners.without("temperature")
    assert manners is not None
    assert "temperature" not in body_of(query(), "m", manners, 9)
    assert manners.without("temperature") is None


@pytest.mark.parametrize(
    ("manners", "name", "value"),
    [
        (Manners("vllm"), "structured_outputs", {"choice": list(CHOICES.choices)}),
        (Manners("vllm", has_old_choices=True), "guided_choice", list(CHOICES.choices)),
        (
            Manners("llama.cpp"),
            "grammar",
            'root ::= "billing" | "no\\U00000020\\U00000022idea\\U00000022\\U0000000A"',
        ),
    ],
)
def test_choices_where_a_server_knows_them(manners: Manners, name: str, value: object) -> None:
    assert body_of(query(form=CHOICES), "m", manners, 9)[name] == value


def test_choices_by_a_schema_where_a_server_knows_no_choices() -> None:
    body: Any = body_of(query(form=CHOICES), "m", Manners(), 9)
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["answer"]["enum"] == list(CHOICES.choices)
    assert body["max_tokens"] > 9, "the JSON around a choice takes room, too"


@pytest.mark.parametrize(
    "text", ["billing", " billing\n", '"billing"', "Billing.", '{"answer": "billing"}', "**billing**"]
)
def test_a_choice_is_found_in_what_a_server_says(text: str) -> None:
    answered = answer_in(said(text).body, query(form=CHOICES))
    assert (answered.text, answered.finish_reason) == ("billing", "stop")


@pytest.mark.parametrize("text", ["delivery", "billing or delivery", "", '{"answer": "x"}'])
def test_what_is_no_choice_is_not_of_the_form(text: str) -> None:
    assert answer_in(said(text).body, query(form=CHOICES)).finish_reason == "form"


@pytest.mark.parametrize(
    ("text", "plain"),
    [('{"a":1}', '{"a":1}'), ('{\n  "b": "é",\n  "a": 1 }', '{"a":1,"b":"é"}'), (' {"a": -5}\n', '{"a":-5}')],
)
def test_json_of_a_schema_is_found_however_it_is_written(text: str, plain: str) -> None:
    answered = answer_in(said(text).body, query(form=SCHEMA))
    assert (answered.text, answered.finish_reason) == (plain, "stop")


@pytest.mark.parametrize("text", ['{"a":"x"}', "{}", '{"a":1,"c":2}', '{"a":1', "a", "[" * 100_000])
def test_what_is_no_json_of_the_schema_is_not_of_the_form(text: str) -> None:
    assert answer_in(said(text).body, query(form=SCHEMA)).finish_reason == "form"


def test_an_answer_with_what_belongs_to_it() -> None:
    answered = answer_in(said("yes", "length", 12, 34, system_fingerprint="fp").body, query())
    assert (answered.text, answered.finish_reason) == ("yes", "length")
    assert (answered.num_prompt_tokens, answered.num_output_tokens, answered.fingerprint) == (12, 34, "fp")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "yes", "reasoning_content": "let me see"}, "yes"),
        ({"content": "yes", "reasoning": "let me see"}, "yes"),
        ({"content": "<think>let me see</think>\n\nyes"}, "yes"),
        ({"content": "<think>let me see, and see, and"}, ""),
        ({"content": None, "reasoning_content": "let me"}, ""),
        ({"content": "I <think> so"}, "I <think> so"),
    ],
)
def test_thoughts_are_no_answer(message: dict[str, object], text: str) -> None:
    assert answer_in({"choices": [{"message": message, "finish_reason": "stop"}]}, query()).text == text


@pytest.mark.parametrize(
    "body",
    [
        None,
        "text",
        [],
        {},
        {"choices": []},
        {"choices": None},
        {"choices": ["x"]},
        {"choices": [{}]},
        {"choices": [{"message": {"content": 5}}]},
        {"choices": [{"message": {"content": "a"}, "finish_reason": "abort"}]},
        {"error": {"message": "upstream", "code": 502}},
        {"error": "upstream"},
    ],
)
def test_what_is_no_answer(body: object) -> None:
    with pytest.raises(RequestFailed) as failed:
        answer_in(body, query())
    assert failed.value.failure.kind is Kind.BROKEN


def test_usage_that_is_none_is_not_believed() -> None:
    for usage in (None, "many", {"prompt_tokens": "x", "completion_tokens": -1}, {"prompt_tokens": True}):
        answered = answer_in({"choices": [{"message": {"content": "a"}}], "usage": usage}, query())
        assert (answered.num_prompt_tokens, answered.num_output_tokens) == (None, None)
