"""What went wrong with a request, from what the server says: what follows, how long to wait, and words for people.

Pure functions of plain data, with a table of cases in the tests.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum

from llmpar.visible import one_line

_LONGEST_MESSAGE = 300
_OVERFLOW_CODES = ("context_length_exceeded", "exceed_context_size_error", "string_above_max_length")
_OVERFLOW = re.compile(
    r"context (?:length|size|window)|maximum context|context overflows|too many tokens|prompt (?:is )?too long"
    r"|longer than the (?:model|maximum|context)|tokens.{0,30}must be <=",
    re.IGNORECASE,
)
_CONTEXT = re.compile(
    r"(?:maximum context length (?:is|of)|context length is(?: only)?|context size \(|must be <=)\s*([\d,]+)",
    re.IGNORECASE,
)
_TAKEN = re.compile(
    r"([\d,]+) (?:in the messages|in the prompt|tokens from the input|(?:prompt |text )?input tokens|`inputs` tokens)"
    r"|(?:resulted in|passed|request has) ([\d,]+)|request \(([\d,]+) tokens",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"model\b.{0,120}\b(?:not found|does not exist|not exist|unknown)|unknown model", re.IGNORECASE)
_NO_PARAMETER = re.compile(
    r"unsupported|unrecognized|not supported|unknown|unexpected|not permitted|extra inputs|cannot be used",
    re.IGNORECASE,
)
_LOGPROBS = re.compile(r"\b(?:top_)?logprobs\b", re.IGNORECASE)
PARAMETERS = (
    "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "structured_outputs", "guided_choice",
    "response_format", "grammar", "top_logprobs", "logprobs",
)  # fmt: skip
"""What a request says besides its model and its messages, each of which a server may not take."""


class Kind(Enum):
    """What follows a request that failed."""

    AWAY = "the server asks to wait: it is asked again, which is no further attempt"
    UNREACHABLE = "there is no server: others are asked, or this one when it is there again"
    BROKEN = "it may go better another time: that is a further attempt"
    OVERFLOW = "the prompt is too long: its text is split"
    PARAMETER = "the server does not take a parameter: it is asked without"
    REFUSED = "this request is refused, and no other"
    FATAL = "nothing will be answered: the run ends"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no answer.

    Args:
        kind: what follows.
        message: for people, a clause without the server's name.
        wait: seconds to wait before the next request, if the server says so.
        room: how many tokens are left for an answer, if the server says so of what is too long.
        parameter: what it does not take.
    """

    kind: Kind
    message: str
    wait: float | None = None
    room: int | None = None
    parameter: str = ""


class RequestFailed(Exception):
    """A request has no answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_of(status: int, headers: Mapping[str, str], body: object, now: float | None = None) -> Failure:
    """Return what a server's error means.

    Args:
        status: as HTTP has it.
        headers: of the response, names in small letters.
        body: of the response, parsed if it is JSON.
        now: the time, in seconds since 1970; None for the present.
    """
    error = _error_of(body)
    said, code = _said(error, body), f"{error.get('code') or ''} {error.get('type') or ''}"
    message = f"answered {status}" + (f": {said}" if said else "")
    wait = wait_of(headers, time.time() if now is None else now)
    # Some models refuse these with 403, and some servers fail over them. Without them they are as good as any.
    if status not in (401, 429) and (refused := _LOGPROBS.search(said)):
        return Failure(Kind.PARAMETER, message, parameter=refused[0].lower())
    if status in (401, 403) or "insufficient_quota" in code or "billing" in code:
        return Failure(Kind.FATAL, message)
    if status in (429, 503, 529):
        return Failure(Kind.AWAY, message, wait)
    if status == 413 or (status in (400, 422, 500) and _is_overflow(code, said)):
        return Failure(Kind.OVERFLOW, message, room=_room(error, said))
    if status == 404 or (status in (400, 422) and ("model_not_found" in code or _NO_MODEL.search(said))):
        return Failure(Kind.FATAL, message)
    if 300 <= status < 400:
        place = one_line(headers.get("location", "elsewhere"))
        return Failure(
            Kind.FATAL, f"sends us on to {place} ({status}), where nothing is sent; name that if you mean it"
        )
    if status in (408, 409, 425) or status >= 500:
        return Failure(Kind.BROKEN, message, wait)
    if status in (400, 422) and (parameter := _parameter(error, said)):
        return Failure(Kind.PARAMETER, message, parameter=parameter)
    return Failure(Kind.REFUSED, message)


def wait_of(headers: Mapping[str, str], now: float) -> float | None:
    """Return how many seconds a server asks to wait, None if it does not say.

    Args:
        headers: of its response, names in small letters.
        now: the time, in seconds since 1970.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        given = headers.get(name, "").strip()
        try:
            return max(0.0, float(given) * unit)
        except ValueError:
            pass
        try:
            return max(0.0, parsedate_to_datetime(given).timestamp() - now)
        except (TypeError, ValueError, OverflowError):
            continue
    return None


def _error_of(body: object) -> Mapping[str, object]:
    error = body.get("error", body) if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _said(error: Mapping[str, object], body: object) -> str:
    """Return what a server says about an error, in one line."""
    raw = body.get("error") if isinstance(body, dict) else body
    said = next((error[name] for name in ("message", "detail", "error") if error.get(name)), raw or "")
    text = one_line(" ".join(str(said).split()))
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"


def _is_overflow(code: str, said: str) -> bool:
    return any(known in code for known in _OVERFLOW_CODES) or _OVERFLOW.search(said) is not None


def _room(error: Mapping[str, object], said: str) -> int | None:
    length, taken = error.get("n_ctx"), error.get("n_prompt_tokens")
    if isinstance(length, int) and isinstance(taken, int):
        return length - taken
    context, prompt = _CONTEXT.search(said), _TAKEN.search(said)
    if context is None or prompt is None:
        return None
    return _number(context[1]) - _number(next(group for group in prompt.groups() if group))


def _number(digits: str) -> int:
    return int(digits.replace(",", "") or 0)


def _parameter(error: Mapping[str, object], said: str) -> str:
    """Return which parameter a server does not take, "" if that is not its complaint."""
    named = str(error.get("param") or "")
    for parameter in PARAMETERS:
        if named == parameter or (_NO_PARAMETER.search(said) and re.search(rf"\b{parameter}\b", said)):
            return parameter
    return ""
