"""What an engine knows of how likely an answer's tokens were → what is told of the answer. Knows no query."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

from llmpar.engine.scores import Others

_DIGITS = 6
_HALF = "\ufffd"  # what a tokenizer makes of a character of which some bytes are missing

Decode = Callable[[Sequence[Sequence[int]]], list[str]]
"""Returns the texts of several lists of token ids."""


def mean_and_least(logprobs: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean and the least of log-probabilities, without those of tokens that have none; None for none."""
    if not logprobs:
        return None, None
    total = math.fsum(logprobs)
    if not math.isnan(total):  # every token has one, as a rule
        return round(total / len(logprobs), _DIGITS), round(min(logprobs), _DIGITS)
    known = [logprob for logprob in logprobs if not math.isnan(logprob)]
    if not known:
        return None, None
    return round(math.fsum(known) / len(known), _DIGITS), round(min(known), _DIGITS)


def shares_of(
    choices: Sequence[str], answer: str, ids: Sequence[int], others: Sequence[Others], decode: Decode
) -> tuple[tuple[str, float], ...]:
    """Return how likely each choice was: the share of draws, at a temperature of 1, that would have given it.

    A draw takes a token of those that the form leaves, by their probabilities, until one choice is left. Along the way
    that the answer took, the shares of all tokens are known, so what is told is exact where tokens that were not taken
    leave one choice. Where such a token leaves several (they begin alike, and the answer does not), its share is
    divided among them as the rest of their shares is, or evenly if there is none: no pass is made to find out.

    Args:
        choices: all of them.
        answer: the one that was given.
        ids: the answer's tokens, without thoughts.
        others: at each place, the tokens that the form left; nothing where it left one. There may be one entry more,
            for the end of the answer.
        decode: returns texts.

    Returns:
        Choices and shares, in the order of `choices`; nothing if the answer is none of them, or nothing is known.
    """
    if answer not in choices or not any(others):
        return ()
    shares, mass = dict.fromkeys(choices, 0.0), 1.0
    unclear: list[tuple[float, list[str]]] = []
    for place, tokens in enumerate(others):
        if not tokens:
            continue
        taken = ids[place] if place < len(ids) else None
        so_far = list(ids[:place])
        before, *texts = decode([so_far, *([*so_far, token] for token, _ in tokens)])
        largest = tokens[0][1]
        total = math.fsum(math.exp(logprob - largest) for _, logprob in tokens)
        left = 0.0
        for (token, logprob), text in zip(tokens, texts, strict=True):
            share = mass * math.exp(logprob - largest) / total
            said = text.rstrip(_HALF)
            # A token that ends an answer has no text.
            meant = [before] if text == before else [choice for choice in choices if choice.startswith(said)]
            meant = [choice for choice in meant if choice in shares]
            if token == taken:
                left = share
            elif len(meant) == 1:
                shares[meant[0]] += share
            else:
                unclear.append((share, meant))
        mass = left
    shares[answer] += mass
    known = dict(shares)
    for share, meant in unclear:
        among = sum(known[choice] for choice in meant)
        for choice in meant:
            shares[choice] += share * (known[choice] / among if among else 1 / len(meant))
    whole = sum(shares.values())
    return tuple((choice, round(share / whole, _DIGITS)) for choice, share in shares.items())


def content_of(
    ids: Sequence[int],
    logprobs: Sequence[float],
    others: Sequence[Others],
    num_others: int,
    decode: Decode,
    *,
    is_cut: bool = False,
) -> str:
    """Return what is told of each token, as JSON: the list `content` of OpenAI's log-probabilities.

    The bytes of a token are those of its text, which is what it adds to the text before it; a token that ends within a
    character has an empty one, and the one that completes it has the whole. A token that a form forced was certain.

    Args:
        ids: the answer's tokens.
        logprobs: of them.
        others: at each place, the likeliest tokens.
        num_others: how many of those are told.
        decode: returns texts.
        is_cut: whether the answer was cut, so that half a character at its end is no part of it.
    """
    wholes = decode([list(ids[: place + 1]) for place in range(len(ids))])
    content, before = [], ""
    for place, (whole, logprob) in enumerate(zip(wholes, logprobs, strict=True)):
        said = whole.rstrip(_HALF) if is_cut or place + 1 < len(ids) else whole
        own = said[len(before) :]
        beside = list(others[place][:num_others]) if place < len(others) else []
        # Among the likeliest, it has been computed another time, and may differ in the last digit.
        own_logprob = dict(beside).get(ids[place], 0.0 if math.isnan(logprob) else logprob)
        entry = _entry(own, own_logprob)
        texts = decode([[token] for token, _ in beside]) if beside else []
        entry["top_logprobs"] = [
            _entry(own if token == ids[place] else text, known)
            for (token, known), text in zip(beside, texts, strict=True)
        ]
        content.append(entry)
        before = said
    return json.dumps(content, ensure_ascii=False)


def _entry(text: str, logprob: float) -> dict[str, object]:
    return {
        "token": text,
        "logprob": round(logprob, _DIGITS),
        "bytes": list(text.encode("utf-8", "surrogatepass")),
    }
