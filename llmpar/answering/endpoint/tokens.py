"""How many tokens a text may have for a model whose tokenizer is elsewhere: an estimate, and what it has at least."""

from __future__ import annotations

import math
import re

from llmpar.tasks.question import Prompt

AROUND_MESSAGE = 8
"""Tokens that a chat template puts around a message, about."""

_LETTERS = 4  # of a word in ASCII that are a token, rather fewer than more
_BYTES = 2  # of other scripts that are a token, rather fewer than more
_MOST_CHARACTERS = 32  # of a token on average, whatever the text is
_ASCII = re.compile(r"[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]|\n", re.ASCII)
_OTHER = re.compile(r"[^\x00-\x7f]+")
_WORD = re.compile(r"\S+")
_IDEOGRAPHS = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def estimate(text: str) -> int:
    """Return how many tokens a text has, about, and rather too many than too few."""
    plain = _OTHER.sub("", text)
    number = sum(math.ceil(len(part) / _LETTERS) for part in _ASCII.findall(plain))
    if len(plain) < len(text):
        number += sum(math.ceil(len(part.encode("utf-8", "replace")) / _BYTES) for part in _OTHER.findall(text))
    return number


def estimate_prompt(prompt: Prompt) -> int:
    """Return how many tokens a model reads for a prompt, about."""
    return sum(estimate(text) + AROUND_MESSAGE for _, text in prompt.messages)


def fewest(text: str) -> int:
    """Return how many tokens a text has at least: no token goes over white space and on."""
    num_ideographs = len(_IDEOGRAPHS.findall(text))
    return max(sum(1 for _ in _WORD.finditer(text)), num_ideographs // 4)


def surely_exceeds(prompt: Prompt, most: int) -> bool:
    """Tell whether a prompt is so long that it has more than `most` tokens, whatever the tokenizer is."""
    return sum(len(text) for _, text in prompt.messages) > most * _MOST_CHARACTERS
