"""Log-probabilities by OpenAI's protocol: how they are asked for, and where they stand in what a server says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

_LEAST_LIKELY = 1e9  # as a logarithm without its sign: some servers say -9999 where there is no knowing
Software = Literal["", "llama.cpp", "vllm"]
Told: TypeAlias = "dict[str, object]"
"""What is told of a token: `token`, `logprob`, `bytes`, and `top_logprobs`, a list of such."""


def asked_for(num_others: int, software: Software, *, is_chat: bool) -> dict[str, object]:
    """Return the parameters that ask for log-probabilities.

    Args:
        num_others: of how many of the likeliest tokens they are wanted at each place, besides the answer's own.
        software: what the server runs.
        is_chat: whether a conversation is asked about, and no text that is to go on.
    """
    if software == "llama.cpp":
        num_others = max(num_others, 1)  # with 0 it tells of none, and without a number of 20
    if not is_chat:
        return {"logprobs": num_others}
    return {"logprobs": True} | ({"top_logprobs": num_others} if num_others else {})


def told_in(choice: Mapping[str, object]) -> tuple[Told, ...]:
    """Return what a server tells of an answer's tokens; nothing if it does not, or what it tells is malformed."""
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        return ()
    content = logprobs.get("content")
    entries = content if isinstance(content, list) else _of_columns(logprobs)
    told = [_entry(entry) for entry in entries]
    return tuple(entry for entry in told if entry) if all(told) else ()


def _of_columns(logprobs: Mapping[str, object]) -> list[object]:
    """Return what completions tell in columns as chats tell it."""
    tokens, known, others = (logprobs.get(name) for name in ("tokens", "token_logprobs", "top_logprobs"))
    if not isinstance(tokens, list) or not isinstance(known, list) or len(tokens) != len(known):
        return []
    beside = others if isinstance(others, list) and len(others) == len(tokens) else [None] * len(tokens)
    return [
        {
            "token": token,
            "logprob": logprob,
            "top_logprobs": [
                {"token": name, "logprob": other} for name, other in (more.items() if isinstance(more, dict) else ())
            ],
        }
        for token, logprob, more in zip(tokens, known, beside, strict=True)
    ]


def _entry(entry: object) -> Told | None:
    """Return an entry as ours are, None if it is malformed."""
    told = _told(entry)
    if told is None or not isinstance(entry, dict):
        return None
    others = entry.get("top_logprobs")
    beside = [_told(other) for other in others] if isinstance(others, list) else []
    return {**told, "top_logprobs": [other for other in beside if other]}


def _told(entry: object) -> Told | None:
    """Return what is told of one token, without others at its place; None if that is malformed."""
    if not isinstance(entry, dict):
        return None
    token, logprob, data = entry.get("token"), entry.get("logprob"), entry.get("bytes")
    if not isinstance(token, str) or isinstance(logprob, bool) or not isinstance(logprob, int | float):
        return None
    if not -_LEAST_LIKELY < logprob < _LEAST_LIKELY:  # which is not so of what is no number, either
        return None
    is_spelled = isinstance(data, list) and all(type(byte) is int and 0 <= byte < 256 for byte in data)
    spelled = data if is_spelled else list(token.encode("utf-8", "surrogatepass"))
    return {"token": token, "logprob": min(float(logprob), 0.0), "bytes": spelled}
