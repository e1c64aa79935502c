"""A line of a batch file → the request that it is, or why it is none that can be answered.

Whatever we cannot do is refused where it would change the answer, and passed over where it would not.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from llmpar.batches.constraint import Schema, read_constraint
from llmpar.batches.failure import BadRequest, Failure, MalformedLine
from llmpar.batches.fields import LARGEST, Fields, parse_json, shown
from llmpar.batches.parameters import (
    INFORMATIVE,
    INFORMATIVE_IN_MESSAGE,
    NEUTRAL_IN_CHAT,
    NEUTRAL_IN_COMPLETIONS,
    NEUTRAL_IN_MESSAGE,
    NEUTRAL_IN_THOUGHT,
    Neutral,
)
from llmpar.messages import Message, Role

Url = Literal["/v1/chat/completions", "/v1/completions"]

CHAT: Url = "/v1/chat/completions"
COMPLETIONS: Url = "/v1/completions"

_BEFORE_NAME = re.compile(r"\s*[{,]\s*(?=\")")
_COLON = re.compile(r"\s*:\s*")
_DEFAULT_COMPLETION_TOKENS = 16
_MOST_CHOICES = 128
_MOST_OTHERS = 20
# What newer models call their system message, older templates do not know.
_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What one line asks.

    Args:
        custom_id: the user's name for it, which its answer bears.
        digest: of all that the line says, 32 hexadecimal digits; equal requests have equal ones.
        url: which of `messages` and `prompt` there is, and the shape of the answer.
        model: as the request names it, None if it names none.
        messages: role and text of each; texts given in parts are joined by newlines, as vLLM does.
        max_new_tokens: None for as many as there is room for.
        seed: None for any.
        n: how many answers.
        stop: texts before which an answer ends.
        schema: a JSON schema that an answer must satisfy; its order is the order of an answer's properties.
        choices: what an answer must be one of; empty for anything.
        num_others: of how many of the likeliest tokens log-probabilities are wanted at each place of an answer, besides
            those of its own tokens; None if none are.
    """

    custom_id: str
    digest: str
    url: Url
    model: str | None = None
    messages: tuple[Message, ...] = ()
    prompt: str = ""
    max_new_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    schema: Schema | None = field(default=None, hash=False)
    choices: tuple[str, ...] = ()
    num_others: int | None = None


def read_request(line: str, *, thinks: bool = False) -> BatchRequest:
    """Return the request of a line, which is not blank.

    Args:
        line: the line.
        thinks: whether models are told to think before they answer.

    Raises:
        MalformedLine: see there.
        BadRequest: a request that cannot be answered as it is meant.
    """
    value, digest = _parse(line)
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str):
        reason = f"{shown(custom_id)} is no string" if "custom_id" in value else "there is none"
        raise MalformedLine(f"a request needs a custom_id, by which its answer is known: {reason}")

    def refuse(message: str, code: str, param: str) -> NoReturn:
        raise BadRequest(Failure(custom_id, digest, message, code, param))

    # Other fields may stand beside these four: all of them are needed, so that a misspelled one is missed.
    envelope = Fields(value, "", refuse)
    method, url = envelope.require("method"), envelope.require("url")
    if method != "POST":
        envelope.refuse("method", f"must be POST, not {shown(method)}", "invalid_value")
    if url not in (CHAT, COMPLETIONS):
        envelope.refuse("url", f"must be {CHAT} or {COMPLETIONS}, not {shown(url)}", "invalid_value")
    body = Fields(envelope.require("body"), "", refuse)
    return _read_body(body, custom_id, digest, CHAT if url == CHAT else COMPLETIONS, thinks=thinks)


def too_long(beginning: str, message: str) -> Failure:
    """Return the failure of a request that is too long to be held.

    Args:
        beginning: of its line; the `custom_id` is looked for there.
        message: says what is wrong.
    """
    digest = hashlib.sha256(beginning.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Failure(_custom_id_in(beginning), digest, message, "request_too_large")


def _custom_id_in(beginning: str) -> str:
    """Return the `custom_id` among the fields that a line begins with, "" if it is not among them."""
    decode = json.JSONDecoder().raw_decode
    at = 0
    try:
        while opening := _BEFORE_NAME.match(beginning, at):
            name, at = decode(beginning, opening.end())
            colon = _COLON.match(beginning, at)
            value, at = decode(beginning, colon.end() if colon else at)
            if name == "custom_id" and isinstance(value, str):
                return value
    except (ValueError, RecursionError):  # here it ends, or it is no JSON
        pass
    return ""


def _read_body(body: Fields, custom_id: str, digest: str, url: Url, *, thinks: bool) -> BatchRequest:
    temperature = body.take_number("temperature", 0, 2)
    top_p = body.take_number("top_p", 0, 1)
    if top_p == 0:
        body.refuse("top_p", "must be above 0, as a nucleus of nothing has no token", "invalid_value")
    n = body.take_integer("n", 1, _MOST_CHOICES) or 1
    schema, choices = read_constraint(body)
    request = BatchRequest(
        custom_id,
        digest,
        url,
        model=body.take_text("model"),
        messages=_read_messages(body) if url == CHAT else (),
        prompt=_read_prompt(body) if url == COMPLETIONS else "",
        max_new_tokens=_read_limit(body, url),
        temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        seed=body.take_integer("seed", -LARGEST - 1),
        n=n,
        stop=_read_stop(body),
        schema=schema,
        choices=choices,
        num_others=_read_logprobs(body, url),
    )
    # As many answers are generated as are wanted, which leaves none to choose from.
    best_of: Neutral = {"best_of": (n,)}
    in_chat = NEUTRAL_IN_THOUGHT if thinks else NEUTRAL_IN_CHAT
    body.close((in_chat if url == CHAT else NEUTRAL_IN_COMPLETIONS) | best_of, INFORMATIVE)
    return request


def _parse(line: str) -> tuple[dict[str, object], str]:
    """Return a line's object and its digest."""
    try:
        value = parse_json(line)
    except ValueError as error:
        raise MalformedLine(str(error)) from error
    if not isinstance(value, dict):
        raise MalformedLine(f"a request is a JSON object, not {shown(value)}")
    return value, hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()[:32]


def _read_limit(body: Fields, url: Url) -> int | None:
    old = body.take_integer("max_tokens", 1)
    if url == COMPLETIONS:
        return _DEFAULT_COMPLETION_TOKENS if old is None else old
    new = body.take_integer("max_completion_tokens", 1)
    return old if new is None else new


def _read_logprobs(body: Fields, url: Url) -> int | None:
    """Return of how many other tokens log-probabilities are wanted, None if of none, nor of the answer's own."""
    if url == COMPLETIONS:
        return body.take_integer("logprobs", 0, _MOST_OTHERS)
    is_wanted, count = body.take_flag("logprobs"), body.take_integer("top_logprobs", 0, _MOST_OTHERS)
    if count and not is_wanted:
        body.refuse("top_logprobs", "needs logprobs to be true", "invalid_value")
    return (count or 0) if is_wanted else None


def _read_messages(body: Fields) -> tuple[Message, ...]:
    body.require("messages")
    messages = []
    for message in body.take_objects("messages"):
        role = message.require("role")
        if not isinstance(role, str) or role not in _ROLES:
            code = "unsupported_value" if role in ("tool", "function") else "invalid_value"
            message.refuse("role", f"{shown(role)} is not supported; it can be {', '.join(_ROLES)}", code)
        messages.append((_ROLES[role], _read_content(message)))
        message.close(NEUTRAL_IN_MESSAGE, INFORMATIVE_IN_MESSAGE)
    if not messages:
        body.refuse("messages", "must hold a message", "invalid_value")
    return tuple(messages)


def _read_content(message: Fields) -> str:
    content = message.require("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        message.refuse("content", f"must be a string or a list of text parts, not {shown(content)}", "invalid_type")
    texts = []
    for part in message.take_objects("content"):
        if part.require("type") != "text":
            part.refuse("type", f"{shown(part.take('type'))} is not supported; only text is", "unsupported_value")
        part.require("text")
        texts.append(part.take_text("text") or "")
        part.close({})
    return "\n".join(texts)


def _read_prompt(body: Fields) -> str:
    prompt = body.require("prompt")
    texts: list[object] = prompt if isinstance(prompt, list) else [prompt]
    if any(isinstance(text, int | list) and not isinstance(text, bool) for text in texts):
        body.refuse("prompt", "in token ids is not supported; give its text", "unsupported_value")
    if len(texts) > 1:
        body.refuse("prompt", f"of {len(texts)} texts is not supported; make a request of each", "unsupported_value")
    text = "".join(body.take_texts("prompt"))
    if not text:
        body.refuse("prompt", "must not be empty", "invalid_value")
    return text


def _read_stop(body: Fields) -> tuple[str, ...]:
    stop = body.take_texts("stop")
    if "" in stop:
        body.refuse("stop", "must not be empty, as every answer would be", "invalid_value")
    return stop
