"""A request's answers, or why there are none → its line in the results, byte for byte the same for the same answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from llmpar.batches.failure import Failure
from llmpar.batches.request import CHAT, BatchRequest

_PROGRAM = "llmpar"
Token = Mapping[str, object]
"""What is told of a token: `token`, `logprob`, `bytes` and `top_logprobs`, which is a list of such without the last."""


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """One of a request's answers.

    Args:
        text: ends before what stopped it.
        finish_reason: "length" for one that was cut.
        num_output_tokens: its length.
        stop_reason: the text of `stop` that ended it; None for its own end, or if it was cut.
        reasoning: what the model wrote before it, for itself; "" for nothing.
        num_reasoning_tokens: how many of its tokens that has.
        tokens: what is told of each of its tokens, as the list `content` of OpenAI's log-probabilities; None for
            nothing.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    num_output_tokens: int
    stop_reason: str | None = None
    reasoning: str = ""
    num_reasoning_tokens: int = 0
    tokens: Sequence[Token] | None = None


def result_line(
    request: BatchRequest, answers: Sequence[BatchAnswer], *, model: str, num_prompt_tokens: int, created: int
) -> str:
    """Return the line of a request that was answered, with its newline.

    Args:
        request: what was asked.
        answers: as many as its `n`.
        model: its name, as the results shall have it.
        num_prompt_tokens: counted once, however many answers there are.
        created: seconds since 1970; all else follows from the other arguments.
    """
    assert len(answers) == request.n
    is_chat = request.url == CHAT
    num_output_tokens = sum(answer.num_output_tokens for answer in answers)
    num_reasoning_tokens = sum(answer.num_reasoning_tokens for answer in answers)
    usage: dict[str, object] = {
        "prompt_tokens": num_prompt_tokens,
        "total_tokens": num_prompt_tokens + num_output_tokens,
        "completion_tokens": num_output_tokens,
        "prompt_tokens_details": None,
    }
    if num_reasoning_tokens:
        usage["completion_tokens_details"] = {"reasoning_tokens": num_reasoning_tokens}
    body = {
        "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{request.digest}",
        "object": "chat.completion" if is_chat else "text_completion",
        "created": created,
        "model": model,
        "choices": [(_chat_choice if is_chat else _text_choice)(*numbered) for numbered in enumerate(answers)],
        "service_tier": None,
        "system_fingerprint": None,
        "usage": usage,
    }
    # What vLLM can tell besides, in its order; nobody reads it here, but a strict reader may look for the names.
    if is_chat:
        body |= dict.fromkeys(("prompt_logprobs", "prompt_token_ids", "prompt_text"))
    body |= dict.fromkeys(("kv_transfer_params", "ec_transfer_params", "metrics"))
    return _line(request.custom_id, request.digest, _response(request.digest, 200, body), None)


def error_line(failure: Failure, *, openai: bool = False) -> str:
    """Return the line of a request that failed, with its newline.

    Args:
        failure: what happened.
        openai: write the error where OpenAI's error files have it, which is the response's body; vLLM's results have
            it beside a response without one.
    """
    error: dict[str, object] = {
        "message": failure.message,
        "type": _openai_type(failure.status) if openai else _vllm_type(failure.status),
        "param": failure.param,
        "code": failure.code if openai else failure.status,
    }
    body = {"error": error}
    response = _response(failure.digest, failure.status, body if openai else None)
    return _line(failure.custom_id, failure.digest, response, None if openai else body)


def _chat_choice(index: int, answer: BatchAnswer) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": answer.text}
    message |= dict.fromkeys(("refusal", "annotations", "audio", "function_call"))
    message["reasoning"] = answer.reasoning or None
    return {
        "index": index,
        "message": message,
        "logprobs": None if answer.tokens is None else {"content": answer.tokens, "refusal": None},
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
        "token_ids": None,
        "routed_experts": None,
    }


def _text_choice(index: int, answer: BatchAnswer) -> dict[str, object]:
    return {
        "index": index,
        "text": answer.text,
        "logprobs": None if answer.tokens is None else _text_logprobs(answer.tokens),
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
        "token_ids": None,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "routed_experts": None,
    }


def _text_logprobs(tokens: Sequence[Token]) -> dict[str, object]:
    """Return what is told of tokens as completions have it: in columns, with the places of the tokens in the text."""
    offsets = list(accumulate((len(str(token["token"])) for token in tokens), initial=0))
    return {
        "text_offset": offsets[:-1],
        "token_logprobs": [token["logprob"] for token in tokens],
        "tokens": [token["token"] for token in tokens],
        "top_logprobs": [
            {str(other["token"]): other["logprob"] for other in others} if (others := _others(token)) else None
            for token in tokens
        ],
    }


def _others(token: Token) -> list[Token]:
    others = token["top_logprobs"]
    return others if isinstance(others, list) else []


def _response(digest: str, status: int, body: object) -> dict[str, object]:
    return {"status_code": status, "request_id": f"{_PROGRAM}-batch-{digest}", "body": body}


def _line(custom_id: str, digest: str, response: object, error: object) -> str:
    line = {"id": f"{_PROGRAM}-{digest}", "custom_id": custom_id, "response": response, "error": error}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"


def _vllm_type(status: int) -> str:
    return {400: "BadRequestError", 404: "NotFoundError"}.get(status, "InternalServerError")


def _openai_type(status: int) -> str:
    return "invalid_request_error" if status < 500 else "server_error"
