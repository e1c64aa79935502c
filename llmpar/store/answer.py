"""One answer as it is kept: what came of an attempt, the bytes that a row holds of it, and their checksum."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from llmpar.frozen import quickly_made
from llmpar.store.keys import bytes_of, text_of

_APART = b"\xff"


@quickly_made
@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What came of one attempt, whatever it is worth; `seconds` is the time it took.

    `thoughts` stand apart from the text, `num_thinking_tokens` are among those of the output, and `is_unclosed` tells
    that the thoughts had no end. `mean_logprob` and `min_logprob` are of the answer's tokens, None if they are not
    known; `probabilities` are those of choices, and `tokens` is what is told of each token, as JSON.
    """

    attempt: int
    text: str
    finish_reason: str
    num_prompt_tokens: int
    num_output_tokens: int
    seconds: float = 0.0
    thoughts: str = ""
    num_thinking_tokens: int = 0
    is_unclosed: bool = False
    mean_logprob: float | None = None
    min_logprob: float | None = None
    probabilities: tuple[tuple[str, float], ...] = ()
    tokens: str = ""


@dataclass(frozen=True, slots=True)
class Correction:
    """An answer that a person gave.

    Args:
        job: the hash of what was asked, whoever answers.
        key: of the question in it.
        text: what the answer is about, with all that the question was made of; None if that is not known.
        answer: what the person wrote.
        finish_reason: the word for such an answer.
    """

    job: bytes
    key: bytes
    text: str | None
    answer: str
    finish_reason: str


def checksum_of(key: bytes, attempt: int, answer: bytes, *counts: object) -> bytes:
    """Return the checksum of a row, none where damage has made something else of a key or of what it says."""
    if not isinstance(key, bytes) or not isinstance(answer, bytes):
        return b""
    return hashlib.blake2b(key + answer + repr((attempt, counts)).encode(), digest_size=8).digest()


def said_by(answer: StoredAnswer) -> bytes:
    """Return what a row says of an answer: its text, and behind bytes that no text has what else there is.

    These are thoughts, two counts of them, and how likely the answer was, as JSON. Versions of llmpar that know nothing
    of a later part pass over it, so that old and new ones share a store.
    """
    thinks = answer.num_thinking_tokens > 0 or answer.is_unclosed
    scores = _scores(answer)
    if not thinks and not scores:
        return bytes_of(answer.text)
    counts = f"{answer.num_thinking_tokens} {int(answer.is_unclosed)}"
    parts = [bytes_of(answer.text), bytes_of(answer.thoughts), counts.encode()]
    return _APART.join([*parts, json.dumps(scores).encode()] if scores else parts)


def answer_said(
    said: bytes, attempt: int, finish_reason: str, num_prompt_tokens: int, num_output_tokens: int, seconds: float
) -> StoredAnswer:
    """Return the answer to an attempt of which `said_by` made these bytes, and whose row has these others."""
    text, *beside = said.split(_APART)
    counts = (finish_reason, num_prompt_tokens, num_output_tokens, seconds)
    if not beside:
        return StoredAnswer(attempt, text_of(text), *counts)
    num_tokens, is_unclosed = beside[1].split()
    scores = json.loads(beside[2].decode()) if len(beside) > 2 else {}
    # Not by `replace`, which takes as long as all the rest: a store is read many thousand rows a second.
    return StoredAnswer(
        attempt,
        text_of(text),
        *counts,
        thoughts=text_of(beside[0]),
        num_thinking_tokens=int(num_tokens),
        is_unclosed=is_unclosed != b"0",
        mean_logprob=scores.get("mean"),
        min_logprob=scores.get("min"),
        probabilities=tuple((choice, share) for choice, share in scores.get("shares", ())),
        tokens=scores.get("tokens", ""),
    )


def text_said(said: bytes) -> str:
    """Return the text alone of what `said_by` made."""
    return text_of(said.split(_APART)[0])


def _scores(answer: StoredAnswer) -> dict[str, object]:
    known = answer.probabilities or answer.tokens
    if not known and answer.mean_logprob is None and answer.min_logprob is None:
        return {}
    scores = {
        "mean": answer.mean_logprob,
        "min": answer.min_logprob,
        "shares": answer.probabilities,
        "tokens": answer.tokens,
    }
    return {name: value for name, value in scores.items() if value not in (None, (), "")}
