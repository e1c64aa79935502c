"""A query → what a server is asked, and what it says → an answer: plain data on both sides, by OpenAI's protocol."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from llmpar.answering.backend import FinishReason, Query
from llmpar.answering.endpoint.failures import Failure, Kind, RequestFailed, failure_of
from llmpar.answering.endpoint.logprobs import Software, Told, asked_for, told_in
from llmpar.tasks.task import Form
from llmpar.visible import one_line

CHAT, COMPLETION = "/chat/completions", "/completions"
_ANSWER = "answer"  # the field that holds a choice, where a server knows schemas alone
_AROUND_CHOICE = 24  # tokens that JSON puts around it, white space included
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # which UTF-8 has no bytes for
_THOUGHT_FIELDS = ("reasoning_content", "reasoning")  # of a message; servers differ
_THINKS = "<think>"
_THOUGHTS = re.compile(rf"\s*{_THINKS}.*?(?:</think>\s*|\Z)", re.DOTALL)
_FINISH: Mapping[str, FinishReason] = {"length": "length", "max_tokens": "length", "model_length": "length"}
_BROKEN_OFF = ("abort", "error", "cancelled")
_MOST_TOKENS = 1 << 40  # more than any text has


@dataclass(frozen=True, slots=True)
class Manners:
    """What a server knows beyond the protocol, and what of the protocol it does not take.

    Args:
        software: what it runs, where that says something; "" for anything.
        has_old_choices: a vLLM that has another name for choices.
        renames_limit: the limit of an answer has its newer name.
        left_out: parameters that it does not take.
    """

    software: Software = ""
    has_old_choices: bool = False
    renames_limit: bool = False
    left_out: frozenset[str] = frozenset()

    def without(self, parameter: str) -> Manners | None:
        """Return what is left when a server refuses a parameter; None if it was not sent anyway."""
        if parameter == "max_tokens" and not self.renames_limit:
            return replace(self, renames_limit=True)
        if parameter in self.left_out:
            return None
        return replace(self, left_out=self.left_out | {parameter})


@dataclass(frozen=True, slots=True)
class Answered:
    """What a server answered.

    Args:
        text: the answer, without what the model thought before it.
        finish_reason: why it ended, "form" if it is not what it had to be.
        num_prompt_tokens: as the server counts them; None if it does not.
        num_output_tokens: likewise, thoughts included.
        fingerprint: what it tells of itself, "" for nothing.
        thoughts: what the model wrote for itself before the answer, "" where a server does not tell.
        num_thinking_tokens: of the thoughts, 0 where a server does not tell.
        told: of each token, as OpenAI's list `content` of log-probabilities has it; nothing where a server does not
            tell, or tells of thoughts, too.
    """

    text: str
    finish_reason: FinishReason
    num_prompt_tokens: int | None = None
    num_output_tokens: int | None = None
    fingerprint: str = ""
    thoughts: str = ""
    num_thinking_tokens: int = 0
    told: tuple[Told, ...] = ()


def path_of(query: Query) -> str:
    """Return where a query is asked: a text to go on with is no conversation."""
    return COMPLETION if query.prompt.is_beginning else CHAT


def body_of(query: Query, model: str, manners: Manners, limit: int) -> dict[str, object]:
    """Return what a server is asked.

    Args:
        query: the question.
        model: what the server calls the model.
        manners: what the server knows.
        limit: tokens that the answer may have.
    """
    sampling = query.sampling
    form, extra = _form_of(query.form, manners) if query.form else ({}, 0)
    body: dict[str, object] = {"model": model}
    if query.prompt.is_beginning:
        body["prompt"] = _sendable(query.prompt.messages[0][1])
    else:
        body["messages"] = [{"role": role, "content": _sendable(text)} for role, text in query.prompt.messages]
    body["max_tokens"] = limit + extra
    # Servers have defaults of their own, which are left to chance: each parameter that decides an answer is said.
    body["temperature"] = sampling.temperature
    if sampling.temperature > 0:
        body |= {"top_p": sampling.top_p, "seed": sampling.seed % 2**31}
        if manners.software:
            body |= {"top_k": 0 if manners.software == "llama.cpp" else -1, "min_p": 0.0}
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if query.is_scored or query.num_others is not None:
        body |= asked_for(query.num_others or 0, manners.software, is_chat=not query.prompt.is_beginning)
    body = {name: value for name, value in (body | form).items() if name not in manners.left_out}
    if manners.renames_limit and "max_tokens" in body:
        body["max_completion_tokens"] = body.pop("max_tokens")
    return body


def answer_in(body: object, query: Query) -> Answered:
    """Return the answer in what a server says.

    Args:
        body: the response's, parsed; what is no JSON is a text.
        query: the question.

    Raises:
        RequestFailed: there is none in it, as when it is half or malformed.
    """
    if not isinstance(body, dict):
        raise _broken("answered with no JSON object")
    if body.get("error"):  # some servers say so with a status of 200
        error = body["error"]
        code = error.get("code") if isinstance(error, dict) else None
        raise RequestFailed(failure_of(code if isinstance(code, int) and code >= 400 else 500, {}, body))
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _broken("answered without a choice")
    choice = choices[0]
    reason = choice.get("finish_reason")
    if reason in _BROKEN_OFF:
        raise _broken(f"broke off its answer ({reason})")
    if reason == "content_filter":
        raise RequestFailed(Failure(Kind.REFUSED, "filtered the answer out (content_filter)"))
    text, thoughts = _text_in(choice, is_chat=not query.prompt.is_beginning)
    if not query.prompt.is_beginning and not any(_THINKS in said for _, said in query.prompt.messages):
        text, thoughts = _divided(text, thoughts)
    finish = _FINISH.get(reason, "stop") if isinstance(reason, str) else "stop"
    if query.form:
        text, is_right = _formed(text, query.form)
        finish = "form" if finish == "stop" and not is_right else finish
    usage = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    fingerprint = body.get("system_fingerprint")
    return Answered(
        text,
        finish,
        _count(counts.get("prompt_tokens")),
        _count(counts.get("completion_tokens")),
        fingerprint if isinstance(fingerprint, str) else "",
        thoughts,
        _num_thinking_tokens(counts),
        () if thoughts else told_in(choice),
    )


def _num_thinking_tokens(usage: Mapping[str, object]) -> int:
    details = usage.get("completion_tokens_details")
    return (_count(details.get("reasoning_tokens")) or 0) if isinstance(details, dict) else 0


def _text_in(choice: Mapping[str, object], *, is_chat: bool) -> tuple[str, str]:
    """Return an answer, and the thoughts that a server has apart from it."""
    message = choice.get("message") if is_chat else choice
    if not isinstance(message, dict):
        raise _broken("answered without a message")
    text = message.get("content" if is_chat else "text")
    fields = (message.get(name) for name in _THOUGHT_FIELDS)
    thoughts = next((field for field in fields if isinstance(field, str)), "")
    if text is None:  # a model may have thought alone, until the limit
        return "", thoughts
    if not isinstance(text, str):
        raise _broken("answered with what is no text")
    return text, thoughts


def _divided(text: str, thoughts: str) -> tuple[str, str]:
    """Return an answer without thoughts that a server left in it, and those; tags that were asked about are data."""
    found = _THOUGHTS.match(text)
    return (text[found.end() :], thoughts or found[0].strip()) if found else (text, thoughts)


def _form_of(form: Form, manners: Manners) -> tuple[dict[str, object], int]:
    """Return how a server is told what an answer must be, and how many tokens that adds to the answer."""
    if not form.choices:
        return _response_format(json.loads(form.schema)), 0
    if manners.software == "vllm" and manners.has_old_choices:
        return {"guided_choice": list(form.choices)}, 0
    if manners.software == "vllm":
        return {"structured_outputs": {"choice": list(form.choices)}}, 0
    if manners.software == "llama.cpp":
        return {"grammar": "root ::= " + " | ".join(map(_literal, form.choices))}, 0
    schema = {
        "type": "object",
        "properties": {_ANSWER: {"type": "string", "enum": list(form.choices)}},
        "required": [_ANSWER],
        "additionalProperties": False,
    }
    return _response_format(schema), _AROUND_CHOICE


def _response_format(schema: object) -> dict[str, object]:
    named = {"name": _ANSWER, "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _literal(text: str) -> str:
    """Return a text as a literal of llama.cpp's grammars: every sign but letters and digits by its number."""
    return '"' + "".join(
        char if char.isascii() and char.isalnum() else f"\\U{ord(char):08X}" for char in text
    ) + '"'  # fmt: skip


def _formed(text: str, form: Form) -> tuple[str, bool]:
    """Return an answer as its form has it, and whether it has that form; servers may not know it."""
    said = text.strip()
    if form.choices:
        said = _choice_in(said, form.choices)
        return said, said in form.choices
    try:
        value = _ordered(json.loads(said), json.loads(form.schema))
    except (ValueError, RecursionError):
        return said, False
    from llmpar.models.grammar import fulfils  # which imports numpy

    plain = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return plain, fulfils(form.schema, plain)


def _choice_in(said: str, choices: Sequence[str]) -> str:
    """Return the choice that a model means: in JSON, in quotes, with a full stop or in other letters."""
    try:
        value = json.loads(said)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and isinstance(value.get(_ANSWER), str):
        said = value[_ANSWER]
    if said in choices:
        return said
    meant = [choice for choice in choices if _bare(choice) == _bare(said)]
    return meant[0] if len(meant) == 1 else said


def _bare(text: str) -> str:
    return text.strip().strip("\"'`.*").strip().casefold()


def _ordered(value: object, schema: object) -> object:
    """Return a value with its fields in the order of a schema, which says nothing of it, but holds ours to one."""
    if isinstance(value, list):
        return [_ordered(one, schema.get("items") if isinstance(schema, dict) else None) for one in value]
    if not isinstance(value, dict):
        return value
    known = schema.get("properties") if isinstance(schema, dict) else None
    named = known if isinstance(known, dict) else {}
    order = [*(name for name in named if name in value), *(name for name in value if name not in named)]
    return {name: _ordered(value[name], named.get(name)) for name in order}


def _sendable(text: str) -> str:
    return _HALF_CHARACTER.sub("\ufffd", text)


def _count(number: object) -> int | None:
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < _MOST_TOKENS:
        return number
    return None


def _broken(message: str) -> RequestFailed:
    return RequestFailed(Failure(Kind.BROKEN, one_line(message)))
