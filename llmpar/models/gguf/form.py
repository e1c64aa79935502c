"""What the kinds of vocabularies have in common: each makes one of these of a file's metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Steps = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """How a vocabulary cuts texts. All parts are those of the tokenizers library.

    `words` are its tokens' ids. `steps` returns a normalizer and a pre-tokenizer, None for none, with or without the
    space before a text that some have. `adds_beginning` says whether such vocabularies put a token before each text
    where the file does not say it.
    """

    words: dict[str, int]
    model: Any
    steps: Callable[[bool], Steps]
    decoder: Any
    adds_beginning: bool


def ids_of(tokens: list[str]) -> dict[str, int]:
    """Return the ids of tokens, the first of each that stands there twice."""
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    if len(ids) < len(tokens):
        for index, token in enumerate(reversed(tokens)):
            ids[token] = len(tokens) - 1 - index
    return ids


def pairs_of(merges: list[str]) -> list[tuple[str, str]]:
    """Return which pieces are merged, of texts that hold two of them with a space between."""
    pieces = " ".join(merges).split(" ")
    if len(pieces) == 2 * len(merges):  # none is empty or has a space in it: taken apart all at once
        return list(zip(pieces[::2], pieces[1::2], strict=True))
    return [(first, second) for first, _, second in (merge.partition(" ") for merge in merges)]
