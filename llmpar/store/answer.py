"""One answer as it is kept: what came of an attempt, the bytes that a row holds of it, and their checksum."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from llmpar.store.keys import bytes_of, text_of

_APART = b"\xff"


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What came of one attempt, whatever it is worth; `seconds` is the time it took.

    `thoughts` stand apart from the text, `num_thinking_tokens` are among those of the output, and `is_unclosed` tells
    that the thoughts had no end.
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
    """Return an answer's text, and its thoughts behind a byte that no text has, if there are any."""
    if not answer.num_thinking_tokens and not answer.is_unclosed:
        return bytes_of(answer.text)
    counts = f"{answer.num_thinking_tokens} {int(answer.is_unclosed)}"
    return _APART.join((bytes_of(answer.text), bytes_of(answer.thoughts), counts.encode()))


def with_thoughts(answer: StoredAnswer, said: bytes) -> StoredAnswer:
    """Return an answer with the text and thoughts that `said_by` made bytes of."""
    text, *thoughts = said.split(_APART)
    if not thoughts:
        return replace(answer, text=text_of(text))
    num_tokens, is_unclosed = map(int, thoughts[1].split())
    return replace(
        answer,
        text=text_of(text),
        thoughts=text_of(thoughts[0]),
        num_thinking_tokens=num_tokens,
        is_unclosed=bool(is_unclosed),
    )
