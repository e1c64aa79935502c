"""Batch files: a line is read as OpenAI and vLLM mean it or refused by name; its result has the shape they write."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpar.batches.failure import BadRequest, Failure, MalformedLine
from llmpar.batches.parameters import (
    INFORMATIVE,
    NEUTRAL_IN_CHAT,
    NEUTRAL_IN_COMPLETIONS,
    NEUTRAL_IN_CONSTRAINT,
    NEUTRAL_IN_MESSAGE,
)
from llmpar.batches.request import CHAT, COMPLETIONS, BatchRequest, read_request
from llmpar.batches.result import BatchAnswer, error_line, result_line
from llmpar.errors import InputError

SAMPLE = Path(__file__).parents[2] / "sample_data" / "requests.jsonl"
SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}}


def chat_line(custom_id: str = "r-1", **body: Any) -> str:
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hello?"}]} | body
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": asked})


def text_line(**body: Any) -> str:
    asked = {"model": "m", "prompt": "Once"} | body
    return json.dumps({"custom_id": "r-1", "method": "POST", "url": COMPLETIONS, "body": asked})


def refusal(line: str) -> Failure:
    with pytest.raises(BadRequest) as caught:
        read_request(line)
    assert str(caught.value) == caught.value.failure.message
    return caught.value.failure


def answer(text: str = "Hi.", **fields: Any) -> BatchAnswer:
    return BatchAnswer(**({"text": text, "finish_reason": "stop", "num_output_tokens": 3} | fields))


# What is read


def test_a_chat_request_as_openai_documents_it() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    request = read_request(chat_line("request-1", messages=messages, max_tokens=1000))
    assert request == BatchRequest(
        "request-1",
        request.digest,
        CHAT,
        model="m",
        messages=(("system", "Be brief."), ("user", "Why?")),
        max_new_tokens=1000,
    )
    assert (request.temperature, request.top_p, request.n, request.seed) == (1.0, 1.0, 1, None)


def test_a_text_request_has_the_defaults_of_the_api() -> None:
    request = read_request(text_line())
    assert request == BatchRequest("r-1", request.digest, COMPLETIONS, model="m", prompt="Once", max_new_tokens=16)
    assert read_request(text_line(prompt=["Once"], max_tokens=None)).max_new_tokens == 16
    assert read_request(text_line(prompt=["Once"])).prompt == "Once"


def test_sampling_is_read_as_it_is_given() -> None:
    request = read_request(chat_line(temperature=0, top_p=0.5, seed=-(2**63), n=3, stop="END", max_tokens=7.0))
    assert (request.temperature, request.top_p, request.seed, request.n) == (0.0, 0.5, -(2**63), 3)
    assert (request.stop, request.max_new_tokens) == (("END",), 7)
    assert read_request(chat_line(stop=["a", "b", "c", "d", "e"])).stop == ("a", "b", "c", "d", "e")


def test_the_new_limit_comes_before_the_old() -> None:
    assert read_request(chat_line(max_tokens=5, max_completion_tokens=9)).max_new_tokens == 9
    assert read_request(chat_line(max_tokens=5, max_completion_tokens=None)).max_new_tokens == 5
    assert read_request(chat_line()).max_new_tokens is None


def test_no_model_is_the_one_that_runs() -> None:
    assert read_request(chat_line(model=None)).model is None


def test_parts_of_a_message_are_lines_and_a_developer_is_the_system() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": ""}, {"type": "text", "text": "two"}]
    messages = [
        {"role": "developer", "content": parts},
        {"role": "assistant", "content": "", "refusal": None, "annotations": [], "tool_calls": [], "audio": None},
    ]
    assert read_request(chat_line(messages=messages)).messages == (("system", "one\n\ntwo"), ("assistant", ""))


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}},
        {"guided_json": SCHEMA},
        {"guided_json": json.dumps(SCHEMA)},
        {"structured_outputs": {"json": SCHEMA}},
        {"structured_outputs": {"json": SCHEMA, "regex": None, "disable_any_whitespace": False}},
        {"structured_outputs": {"json": SCHEMA}, "response_format": {"type": "text"}},
    ],
)
@pytest.mark.parametrize("line", [chat_line, text_line])
def test_a_schema_can_be_given_in_many_ways(line: Any, body: dict[str, object]) -> None:
    request = read_request(line(**body))
    assert (json.dumps(request.schema), request.choices) == (json.dumps(SCHEMA), ())
    assert hash(request) == hash(read_request(line(**body)))


@pytest.mark.parametrize(
    "body", [{"response_format": {"type": "json_object"}}, {"structured_outputs": {"json_object": True}}]
)
def test_any_object_is_a_schema_too(body: dict[str, object]) -> None:
    assert read_request(chat_line(**body)).schema == {"type": "object"}


@pytest.mark.parametrize("body", [{"guided_choice": ["yes", "no"]}, {"structured_outputs": {"choice": ["yes", "no"]}}])
def test_choices_can_be_given_in_two_ways(body: dict[str, object]) -> None:
    request = read_request(chat_line(**body))
    assert (request.choices, request.schema) == (("yes", "no"), None)


def test_an_answer_without_constraint() -> None:
    for body in ({}, {"response_format": {"type": "text"}}, {"structured_outputs": {"json_object": False}}):
        request = read_request(chat_line(**body))
        assert (request.choices, request.schema) == ((), None)


def test_text_is_data_whatever_it_is() -> None:
    text = '\0\x1b[2J\u2028\u202e<|im_end|>"\\\n😀é'
    request = read_request(chat_line(text, messages=[{"role": "user", "content": text}], stop=text, model=text))
    assert request.custom_id == request.model == text
    assert (request.messages, request.stop) == ((("user", text),), (text,))


def test_other_fields_may_stand_beside_the_four() -> None:
    plain, more = json.loads(chat_line()), json.loads(chat_line()) | {"metadata": {"row": 7}}
    request, other = read_request(json.dumps(plain)), read_request(json.dumps(more))
    assert dataclasses.replace(other, digest=request.digest) == request


def test_the_digest_follows_from_what_is_said_not_from_how_it_is_written() -> None:
    line = chat_line(temperature=0.5)
    digest = read_request(line).digest
    assert len(digest) == 32
    assert int(digest, 16) >= 0
    assert read_request(f"  {line.replace(': ', ' :  ')}\r\n").digest == digest
    assert read_request(chat_line("r-2", temperature=0.5)).digest != digest
    assert read_request(chat_line(temperature=0.25)).digest != digest


# What may stay


@pytest.mark.parametrize("name", sorted(INFORMATIVE))
def test_what_changes_no_answer_may_stay(name: str) -> None:
    for value in (None, "x", True, {"a": ["b"]}):
        request, plain = read_request(chat_line(**{name: value})), read_request(chat_line())
        assert dataclasses.replace(request, digest=plain.digest) == plain


NEUTRAL_CASES = [
    *((chat_line, name, value) for name, values in NEUTRAL_IN_CHAT.items() for value in (None, *values)),
    *((text_line, name, value) for name, values in NEUTRAL_IN_COMPLETIONS.items() for value in (None, *values)),
]


@pytest.mark.parametrize(("line", "name", "value"), NEUTRAL_CASES)
def test_a_value_that_asks_for_nothing_may_stay(line: Any, name: str, value: object) -> None:
    request, plain = read_request(line(**{name: value})), read_request(line())
    assert dataclasses.replace(request, digest=plain.digest) == plain


# What is refused


REFUSED_IN_BOTH: dict[str, object] = {
    "allowed_token_ids": [1],
    "bad_words": ["x"],
    "best_of": 2,
    "early_stopping": True,
    "echo": True,
    "ec_transfer_params": {},
    "frequency_penalty": 0.5,
    "guided_grammar": "root ::= 'a'",
    "guided_regex": "a+",
    "guided_whitespace_pattern": " ",
    "ignore_eos": True,
    "include_stop_str_in_output": True,
    "kv_transfer_params": {},
    "length_penalty": 1.5,
    "logit_bias": {"50256": -100},
    "logits_processors": ["x"],
    "logprob_token_ids": [1],
    "min_p": 0.05,
    "min_tokens": 4,
    "presence_penalty": -1,
    "prompt_logprobs": 0,
    "repetition_detection": {},
    "repetition_penalty": 1.1,
    "return_token_ids": True,
    "routed_experts_prompt_start": 1,
    "skip_special_tokens": False,
    "stop_token_ids": [2],
    "stream": True,
    "stream_options": {"include_usage": True},
    "structural_tag": "{}",
    "thinking_token_budget": 100,
    "top_k": 40,
    "truncate_prompt_tokens": -1,
    "use_beam_search": True,
    "vllm_xargs": {"a": 1},
    "watermarking": True,
}
REFUSED_IN_CHAT: dict[str, object] = REFUSED_IN_BOTH | {
    "add_generation_prompt": False,
    "add_special_tokens": True,
    "audio": {"voice": "alloy", "format": "wav"},
    "chat_template": "{{ messages }}",
    "chat_template_kwargs": {"enable_thinking": True},
    "continue_final_message": True,
    "documents": [{"title": "a", "text": "b"}],
    "function_call": "auto",
    "functions": [{"name": "f"}],
    "include_reasoning": False,
    "media_io_kwargs": {"video": {}},
    "mm_processor_kwargs": {"a": 1},
    "modalities": ["text", "audio"],
    "reasoning_effort": "high",
    "return_prompt_text": True,
    "tool_choice": "auto",
    "tools": [],
    "verbosity": "low",
    "web_search_options": {},
}
REFUSED_IN_COMPLETIONS: dict[str, object] = REFUSED_IN_BOTH | {
    "add_special_tokens": False,
    "prompt_embeds": "AA==",
    "suffix": "the end",
}


def test_every_field_that_we_know_and_cannot_follow_has_a_case() -> None:
    assert {*NEUTRAL_IN_CHAT, "best_of"} == REFUSED_IN_CHAT.keys()
    assert {*NEUTRAL_IN_COMPLETIONS, "best_of"} == REFUSED_IN_COMPLETIONS.keys()


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        *((chat_line, *case) for case in REFUSED_IN_CHAT.items()),
        *((text_line, *case) for case in REFUSED_IN_COMPLETIONS.items()),
    ],
)
def test_what_we_cannot_do_is_refused(line: Any, name: str, value: object) -> None:
    failure = refusal(line(**{name: value}))
    assert (failure.param, failure.status) == (name, 400)
    assert failure.code in ("unsupported_parameter", "unsupported_value")
    assert failure.message.startswith(f"{name} ")
    assert "leave it out" in failure.message


@pytest.mark.parametrize(
    ("name", "value"),
    [("top_logprobs", False), ("stream", 0), ("logprobs", 0), ("min_tokens", "0"), ("logit_bias", [])],
)
def test_what_only_python_takes_for_neutral_is_refused(name: str, value: object) -> None:
    assert refusal(chat_line(**{name: value})).param == name


def test_best_of_as_many_as_there_are_is_no_choice() -> None:
    assert read_request(text_line(n=3, best_of=3)).n == 3
    assert refusal(text_line(n=3, best_of=4)).param == "best_of"


@pytest.mark.parametrize(
    ("line", "name", "remedy"),
    [
        (chat_line, "temprature", "do you mean temperature?"),
        (chat_line, "max_new_tokens", "do you mean max_"),
        (text_line, "max_completion_tokens", ""),
        (text_line, "messages", ""),
        (chat_line, "prompt", ""),
        (chat_line, "qqqq", "leave it out"),
        (chat_line, "", "leave it out"),
        (chat_line, "x" * 10**6, "leave it out"),
    ],
)
def test_a_field_that_nobody_knows_is_refused_even_if_it_is_null(line: Any, name: str, remedy: str) -> None:
    for value in (1, None):
        failure = refusal(line(**{name: value}))
        assert failure.code == "unknown_parameter"
        assert failure.param == name[:40]
        assert remedy in failure.message
        assert len(failure.message) < 150


WRONG: list[tuple[str, object, str]] = [
    ("temperature", "hot", "invalid_type"),
    ("temperature", True, "invalid_type"),
    ("temperature", [1], "invalid_type"),
    ("temperature", -0.1, "invalid_value"),
    ("temperature", 2.1, "invalid_value"),
    ("temperature", 10**400, "invalid_value"),
    ("top_p", 0, "invalid_value"),
    ("top_p", 1.01, "invalid_value"),
    ("top_p", "1", "invalid_type"),
    ("n", 0, "invalid_value"),
    ("n", 129, "invalid_value"),
    ("n", 1.5, "invalid_type"),
    ("n", True, "invalid_type"),
    ("max_tokens", -1, "invalid_value"),
    ("max_tokens", 0, "invalid_value"),
    ("max_tokens", "100", "invalid_type"),
    ("max_tokens", 2**63, "invalid_value"),
    ("max_tokens", 1e300, "invalid_value"),
    ("seed", 2**63, "invalid_value"),
    ("seed", -(2**63) - 1, "invalid_value"),
    ("seed", "1", "invalid_type"),
    ("stop", "", "invalid_value"),
    ("stop", ["a", ""], "invalid_value"),
    ("stop", 5, "invalid_type"),
    ("stop", ["a", None], "invalid_type"),
    ("stop", {"a": 1}, "invalid_type"),
    ("model", 5, "invalid_type"),
    ("guided_choice", "yes", "invalid_type"),
    ("guided_choice", [], "invalid_value"),
    ("guided_choice", ["a", 1], "invalid_type"),
    ("guided_json", 5, "invalid_type"),
    ("guided_json", "5", "invalid_type"),
    ("guided_json", "{", "invalid_value"),
    ("guided_json", '{"enum": [NaN]}', "invalid_value"),
    ("guided_json", '{"enum": ["\\ud800"]}', "invalid_value"),
    ("guided_json", "[" * 10**5, "invalid_value"),
    ("response_format", "json_object", "invalid_type"),
    ("structured_outputs", [], "invalid_type"),
]


@pytest.mark.parametrize(("name", "value", "code"), WRONG)
@pytest.mark.parametrize("line", [chat_line, text_line])
def test_wrong_values_are_refused_by_name(line: Any, name: str, value: object, code: str) -> None:
    failure = refusal(line(**{name: value}))
    assert (failure.param, failure.code, failure.status) == (name, code, 400)
    assert failure.message.startswith(f"{name} ")
    assert len(failure.message) < 200


def test_a_huge_number_in_another_notation_is_no_number() -> None:
    # 1e999 is JSON, and infinity to Python; nothing could write it again.
    with pytest.raises(MalformedLine, match="too large"):
        read_request(chat_line(temperature=0.5).replace("0.5", "1e999"))


MESSAGE = {"role": "user", "content": "x"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}


@pytest.mark.parametrize(
    ("messages", "param", "code"),
    [
        (None, "messages", "missing_required_parameter"),
        ([], "messages", "invalid_value"),
        ("Hello", "messages", "invalid_type"),
        (["Hello"], "messages[0]", "invalid_type"),
        ([MESSAGE, {"content": "x"}], "messages[1].role", "missing_required_parameter"),
        ([{"role": "user"}], "messages[0].content", "missing_required_parameter"),
        ([{"role": "assistant", "content": None}], "messages[0].content", "missing_required_parameter"),
        ([MESSAGE | {"role": "robot"}], "messages[0].role", "invalid_value"),
        ([MESSAGE | {"role": ["user"]}], "messages[0].role", "invalid_value"),
        ([MESSAGE | {"role": "tool", "tool_call_id": "1"}], "messages[0].role", "unsupported_value"),
        ([MESSAGE | {"name": "Ada"}], "messages[0].name", "unsupported_parameter"),
        ([MESSAGE | {"tool_calls": [{"id": "1"}]}], "messages[0].tool_calls", "unsupported_value"),
        ([MESSAGE | {"contents": "x"}], "messages[0].contents", "unknown_parameter"),
        ([{"role": "user", "content": 5}], "messages[0].content", "invalid_type"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]", "invalid_type"),
        ([{"role": "user", "content": [IMAGE]}], "messages[0].content[0].type", "unsupported_value"),
        ([{"role": "user", "content": [{"text": "x"}]}], "messages[0].content[0].type", "missing_required_parameter"),
        (
            [{"role": "user", "content": [{"type": "text"}]}],
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        ([{"role": "user", "content": [{"type": "text", "text": 1}]}], "messages[0].content[0].text", "invalid_type"),
    ],
)
def test_wrong_messages_are_refused_where_they_are(messages: object, param: str, code: str) -> None:
    failure = refusal(chat_line(messages=messages))
    assert (failure.param, failure.code) == (param, code)


def test_what_a_message_may_not_ask_for_is_refused() -> None:
    for name in NEUTRAL_IN_MESSAGE:
        assert refusal(chat_line(messages=[MESSAGE | {name: "x"}])).param == f"messages[0].{name}"


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        (None, "missing_required_parameter"),
        ("", "invalid_value"),
        ([], "invalid_value"),
        ([""], "invalid_value"),
        ([1, 2], "unsupported_value"),
        ([[1, 2]], "unsupported_value"),
        (7, "unsupported_value"),
        (["a", "b"], "unsupported_value"),
        ({"a": 1}, "invalid_type"),
        (True, "invalid_type"),
        ([None], "invalid_type"),
    ],
)
def test_wrong_prompts_are_refused(prompt: object, code: str) -> None:
    failure = refusal(text_line(prompt=prompt))
    assert (failure.param, failure.code) == ("prompt", code)


@pytest.mark.parametrize(
    ("response_format", "param", "code"),
    [
        ({}, "response_format.type", "missing_required_parameter"),
        ({"type": "structural_tag", "format": {}}, "response_format.type", "unsupported_value"),
        ({"type": []}, "response_format.type", "unsupported_value"),
        ({"type": "json_schema"}, "response_format.json_schema", "missing_required_parameter"),
        (
            {"type": "json_schema", "json_schema": {"name": "x"}},
            "response_format.json_schema.schema",
            "missing_required_parameter",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "shema": {}, "schema": {}}},
            "response_format.json_schema.shema",
            "unknown_parameter",
        ),
        (
            {"type": "json_schema", "json_schema": {"schema": True}},
            "response_format.json_schema.schema",
            "invalid_type",
        ),
        ({"type": "json_object", "schema": {}}, "response_format.schema", "unknown_parameter"),
    ],
)
def test_wrong_formats_are_refused_where_they_are(response_format: object, param: str, code: str) -> None:
    failure = refusal(chat_line(response_format=response_format))
    assert (failure.param, failure.code) == (param, code)


def test_what_a_constraint_may_not_ask_for_is_refused() -> None:
    for name in [*NEUTRAL_IN_CONSTRAINT, "chioce"]:
        assert refusal(chat_line(structured_outputs={name: "x"})).param == f"structured_outputs.{name}"
    assert refusal(chat_line(structured_outputs={"json_object": 1})).param == "structured_outputs.json_object"


@pytest.mark.parametrize(
    "body",
    [
        {"guided_json": SCHEMA, "guided_choice": ["a"]},
        {"response_format": {"type": "json_object"}, "guided_json": SCHEMA},
        {"structured_outputs": {"json": SCHEMA, "choice": ["a"]}},
        {"structured_outputs": {"json": SCHEMA, "json_object": True}},
        {"structured_outputs": {"choice": ["a"]}, "guided_choice": ["a"]},
    ],
)
def test_two_constraints_exclude_each_other(body: dict[str, object]) -> None:
    assert "keep one" in refusal(chat_line(**body)).message


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"method": None}, "method", "missing_required_parameter"),
        ({"method": "GET"}, "method", "invalid_value"),
        ({"url": None}, "url", "missing_required_parameter"),
        ({"url": "/v1/embeddings"}, "url", "invalid_value"),
        ({"url": "/v1/chat/completions/"}, "url", "invalid_value"),
        ({"url": []}, "url", "invalid_value"),
        ({"body": None}, "body", "missing_required_parameter"),
        ({"body": "x"}, "body", "invalid_type"),
        ({"body": []}, "body", "invalid_type"),
    ],
)
def test_what_has_a_custom_id_is_answered_however_wrong_it_is(change: Any, param: str, code: str) -> None:
    failure = refusal(json.dumps(json.loads(chat_line("r-9")) | change))
    assert (failure.custom_id, failure.param, failure.code, failure.status) == ("r-9", param, code, 400)
    assert len(failure.digest) == 32


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "is no JSON: a value is missing at column 1"),
        ("{", "is no JSON: a name between double quotes is missing at column 2"),
        ("not json", "is no JSON: a value is missing at column 1"),
        ('{"custom_id": "a",}', "no JSON"),
        (chat_line() + chat_line(), "is no JSON: more follows behind its end"),
        ("[]", "JSON object"),
        ("null", "JSON object, not null"),
        ('"text"', "JSON object"),
        ("{}", "there is none"),
        ('{"custom_id": null}', "null is no string"),
        ('{"custom_id": 7}', "7 is no string"),
        ('{"custom_id": ["\\u202e"]}', "a list is no string"),
        ('{"custom_id": "a", "n": NaN}', "number"),
        ('{"custom_id": "a", "n": -Infinity}', "number"),
        ('{"custom_id": "a", "n": ' + "9" * 5000 + "}", "number"),
        ('{"custom_id": "\\ud800"}', "surrogate"),
        ('{"custom_id": "a", "b": "\udc80"}', "surrogate"),
        ('{"custom_id": "a", "\\udfff": 1}', "surrogate"),
        ("[" * 10**5, "nested too deeply"),
        ('{"a":' * 10**5, "nested too deeply"),
    ],
)
def test_a_line_that_is_no_request_is_malformed(line: str, said: str) -> None:
    with pytest.raises(MalformedLine) as caught:
        read_request(line)
    assert said in str(caught.value)
    assert isinstance(caught.value, InputError)
    assert caught.value.exit_code == 65


def test_a_message_shows_no_control_characters_and_no_novel() -> None:
    failure = refusal(chat_line(messages=[MESSAGE | {"role": "\u202e\x1b\x7f\n" + "x" * 10**6}]))
    assert failure.message.isprintable()
    assert len(failure.message) < 200


# Results


def test_a_chat_result_has_the_shape_that_vllm_writes() -> None:
    request = read_request(chat_line("request-1"))
    line = result_line(request, [answer("Hello! 你好")], model="tiny", num_prompt_tokens=22, created=1_711_652_795)
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    assert "你好" in line
    assert json.loads(line) == {
        "id": f"llmpar-{request.digest}",
        "custom_id": "request-1",
        "response": {
            "status_code": 200,
            "request_id": f"llmpar-batch-{request.digest}",
            "body": {
                "id": f"chatcmpl-{request.digest}",
                "object": "chat.completion",
                "created": 1_711_652_795,
                "model": "tiny",
                "choices": [
                    {
                        "index": 0,
                        "message": {
                            "role": "assistant",
                            "content": "Hello! 你好",
                            "refusal": None,
                            "annotations": None,
                            "audio": None,
                            "function_call": None,
                            "reasoning": None,
                        },
                        "logprobs": None,
                        "finish_reason": "stop",
                        "stop_reason": None,
                        "token_ids": None,
                        "routed_experts": None,
                    }
                ],
                "service_tier": None,
                "system_fingerprint": None,
                "usage": {
                    "prompt_tokens": 22,
                    "total_tokens": 25,
                    "completion_tokens": 3,
                    "prompt_tokens_details": None,
                },
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "prompt_text": None,
                "kv_transfer_params": None,
                "ec_transfer_params": None,
                "metrics": None,
            },
        },
        "error": None,
    }


def test_a_text_result_has_the_shape_that_vllm_writes() -> None:
    request = read_request(text_line())
    line = result_line(
        request,
        [answer(" upon", finish_reason="length", num_output_tokens=16)],
        model="tiny",
        num_prompt_tokens=1,
        created=0,
    )
    body = json.loads(line)["response"]["body"]
    assert body == {
        "id": f"cmpl-{request.digest}",
        "object": "text_completion",
        "created": 0,
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "text": " upon",
                "logprobs": None,
                "finish_reason": "length",
                "stop_reason": None,
                "token_ids": None,
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "routed_experts": None,
            }
        ],
        "service_tier": None,
        "system_fingerprint": None,
        "usage": {"prompt_tokens": 1, "total_tokens": 17, "completion_tokens": 16, "prompt_tokens_details": None},
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def test_a_line_is_written_as_tightly_as_vllm_writes_it() -> None:
    request = read_request(chat_line("a b"))
    line = result_line(request, [answer("c: d, e")], model="m", num_prompt_tokens=1, created=2)
    start = f'{{"id":"llmpar-{request.digest}","custom_id":"a b","response":{{"status_code":200,"request_id":'
    assert line.startswith(start)
    assert line == json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":")) + "\n"


def test_several_answers_are_numbered_and_their_prompt_is_counted_once() -> None:
    request = read_request(chat_line(n=2))
    answers = [answer("A"), answer("B", num_output_tokens=4, stop_reason="\n")]
    body = json.loads(result_line(request, answers, model="m", num_prompt_tokens=10, created=0))["response"]["body"]
    told = [(choice["index"], choice["message"]["content"], choice["stop_reason"]) for choice in body["choices"]]
    assert told == [(0, "A", None), (1, "B", "\n")]
    assert body["usage"]["total_tokens"] == 17


def test_the_same_command_gives_the_same_bytes() -> None:
    first, second = (
        result_line(read_request(chat_line()), [answer()], model="m", num_prompt_tokens=1, created=created)
        for created in (5, 5)
    )
    assert first == second


def test_an_error_stands_beside_the_response_as_vllm_writes_it() -> None:
    failure = refusal(chat_line("r-3", temperature="hot"))
    line = error_line(failure)
    assert line.endswith("}\n")
    assert json.loads(line) == {
        "id": f"llmpar-{failure.digest}",
        "custom_id": "r-3",
        "response": {"status_code": 400, "request_id": f"llmpar-batch-{failure.digest}", "body": None},
        "error": {
            "error": {
                "message": 'temperature must be a number, not "hot"',
                "type": "BadRequestError",
                "param": "temperature",
                "code": 400,
            }
        },
    }


def test_an_error_stands_in_the_response_as_openai_writes_it() -> None:
    failure = refusal(chat_line("r-3", temperature="hot"))
    assert json.loads(error_line(failure, openai=True)) == {
        "id": f"llmpar-{failure.digest}",
        "custom_id": "r-3",
        "response": {
            "status_code": 400,
            "request_id": f"llmpar-batch-{failure.digest}",
            "body": {
                "error": {
                    "message": 'temperature must be a number, not "hot"',
                    "type": "invalid_request_error",
                    "param": "temperature",
                    "code": "invalid_type",
                }
            },
        },
        "error": None,
    }


@pytest.mark.parametrize(
    ("status", "vllm", "openai"),
    [
        (400, "BadRequestError", "invalid_request_error"),
        (404, "NotFoundError", "invalid_request_error"),
        (500, "InternalServerError", "server_error"),
    ],
)
def test_a_request_can_fail_later(status: int, vllm: str, openai: str) -> None:
    failure = Failure("r", "0" * 32, "what happened", "a_code", status=status)
    told = json.loads(error_line(failure))
    assert (told["error"]["error"]["type"], told["response"]["status_code"]) == (vllm, status)
    assert json.loads(error_line(failure, openai=True))["response"]["body"]["error"]["type"] == openai


# Properties

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    sorted(
        {*INFORMATIVE, *NEUTRAL_IN_CHAT, *NEUTRAL_IN_COMPLETIONS}
        | {"model", "messages", "prompt", "n", "seed", "stop", "temperature", "top_p", "max_tokens", "best_of"}
        | {"max_completion_tokens", "response_format", "structured_outputs", "guided_json", "guided_choice"}
    )
)


def read(line: str) -> BatchRequest | Failure | None:
    """Return what a line is: the request, why there is none, None if it is malformed. Nothing else may come of it."""
    try:
        return read_request(line)
    except BadRequest as error:
        return error.failure
    except MalformedLine:
        return None


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    assert not isinstance(read(text), BatchRequest)


@given(JSON)
def test_no_json_breaks_the_reader(value: object) -> None:
    assert not isinstance(read(json.dumps(value)), BatchRequest)


@given(st.text(), JSON, JSON, JSON)
def test_no_envelope_breaks_the_reader(custom_id: str, method: object, url: object, body: object) -> None:
    line = json.dumps({"custom_id": custom_id, "method": method, "url": url, "body": body})
    assert not isinstance(read(line), BatchRequest)


@settings(max_examples=300)
@given(st.sampled_from([chat_line, text_line]), st.dictionaries(NAMES, JSON, max_size=3))
def test_no_body_breaks_the_reader_and_every_failure_can_be_told(line: Any, body: dict[str, Any]) -> None:
    found = read(line(**body))
    if isinstance(found, Failure):
        for openai in (False, True):
            told = json.loads(error_line(found, openai=openai).encode())
            assert told["custom_id"] == "r-1"
            assert told["response"]["status_code"] == 400
    elif found is not None:
        assert 0 <= found.temperature <= 2
        assert 0 < found.top_p <= 1
        assert found.n >= 1
        assert found.max_new_tokens is None or found.max_new_tokens >= 1
        assert found.messages or found.prompt


@given(
    st.sampled_from([chat_line, text_line]),
    st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 2),
            "top_p": st.floats(0.001, 1),
            "seed": st.integers(-(2**63), 2**63 - 1),
            "n": st.integers(1, 128),
            "max_tokens": st.integers(1, 2**63 - 1),
            "stop": st.lists(st.text(min_size=1), max_size=3),
        },
    ),
)
def test_what_is_asked_comes_back(line: Any, body: dict[str, Any]) -> None:
    request = read(line(**body))
    assert isinstance(request, BatchRequest)
    names = {"max_tokens": "max_new_tokens"}
    for name, value in body.items():
        assert getattr(request, names.get(name, name)) == (tuple(value) if name == "stop" else value)


@given(
    st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 10**6), st.sampled_from([chat_line, text_line])
)
def test_any_answer_is_one_line_that_reads_back(text: str, count: int, line: Any) -> None:
    request = read_request(line())
    given_answer = answer(text, num_output_tokens=count)
    told = result_line(request, [given_answer], model=text, num_prompt_tokens=1, created=0).encode()
    assert told.count(b"\n") == 1
    body = json.loads(told)["response"]["body"]
    choice = body["choices"][0]
    assert (choice["message"]["content"] if line is chat_line else choice["text"]) == text
    assert (body["model"], body["usage"]["completion_tokens"]) == (text, count)


# The sample


def test_the_sample_shows_what_there_is() -> None:
    requests = [read_request(line) for line in SAMPLE.read_text("utf-8").splitlines()]
    assert len(requests) == len({request.custom_id for request in requests}) == 8
    assert {request.url for request in requests} == {CHAT, COMPLETIONS}
    assert any(request.messages and request.messages[0][0] == "system" for request in requests)
    assert sum(request.schema is not None for request in requests) == 1
    assert any(request.stop for request in requests)
    assert any(request.choices for request in requests)
    assert all(request.max_new_tokens and request.max_new_tokens <= 64 for request in requests)
