"""SentencePiece's vocabularies that merge pieces by their scores, as those of Llama 2, Mistral, Phi-3 and Gemma."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.models.gguf.form import Form, Steps, ids_of, pairs_of

_NORMAL = 1  # gguf.TokenType: what texts are made of
_SPACE = "▁"
_BASE = 0x9E3779B97F4A7C15  # of hashes; any odd number with many bits


def is_known(fields: Mapping[str, Any]) -> bool:
    """Tell whether a file's vocabulary does nothing to texts but cut them."""
    changes = ("remove_extra_whitespaces", "precompiled_charsmap")
    return not any(fields.get(f"tokenizer.ggml.{name}") for name in changes)


def make(fields: Mapping[str, Any]) -> Form:
    """Return how a file's vocabulary, which does nothing else to them, cuts texts.

    Raises:
        KeyError: its tokens or scores are missing.
    """
    from tokenizers import decoders, models

    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    unknown = fields.get("tokenizer.ggml.unknown_token_id")
    prefixed = bool(fields.get("tokenizer.ggml.add_space_prefix", True))
    if "tokenizer.ggml.merges" in fields:
        merges = pairs_of(fields["tokenizer.ggml.merges"])
    else:
        merges = merges_of(tokens, fields["tokenizer.ggml.scores"], fields.get("tokenizer.ggml.token_type"))
    words = ids_of(tokens)
    model = models.BPE(
        words,
        merges,
        unk_token=tokens[unknown] if unknown is not None and unknown < len(tokens) else None,
        fuse_unk=True,
        byte_fallback=True,
    )
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefixed:
        steps.append(decoders.Strip(" ", 1, 0))
    return Form(words, model, lambda has_prefix: _steps(prefixed and has_prefix), decoders.Sequence(steps), True)


def _steps(prefixed: bool) -> Steps:
    from tokenizers import normalizers

    spaces = normalizers.Replace(" ", _SPACE)
    return (normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if prefixed else spaces), None


def merges_of(tokens: list[str], scores: Any, kinds: Any = None) -> list[tuple[str, str]]:
    """Return which pairs of pieces are merged, the first ones first: all that are a token together, by its score.

    Done with hashes of all beginnings and ends of tokens at once, as there are millions.

    Args:
        tokens: by their ids.
        scores: of the tokens (V,); what is merged first has the highest.
        kinds: of the tokens (V,), as gguf.TokenType has them; None if all are normal. Others are never merged.
    """
    ids = np.arange(len(tokens))
    if kinds is not None and len(kinds) == len(tokens):
        ids = ids[np.asarray(kinds) == _NORMAL]
    order = ids[np.argsort(-np.asarray(scores, np.float32)[ids], kind="stable")]
    words = [tokens[index] for index in order.tolist()]
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    hashes = _Hashes("".join(words))
    known = _Known(hashes.of(starts, starts + lengths))

    # One entry for each place where a word can be cut.
    counts = np.maximum(lengths - 1, 0)
    word = np.repeat(np.arange(len(words)), counts)
    cut = np.arange(len(word)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    first = known.find(hashes.of(starts[word], starts[word] + cut))
    there = first >= 0
    word, cut, first = word[there], cut[there], first[there]
    second = known.find(hashes.of(starts[word] + cut, starts[word] + lengths[word]))
    there = (second >= 0) & (lengths[first] == cut)
    word, first, second = word[there], first[there], second[there]
    # Of several ways to make one word, that of the tokens with the lowest ids comes first, as transformers has it.
    ordered = np.argsort(word * len(tokens) + order[first])
    left, right = ([words[index] for index in part[ordered].tolist()] for part in (first, second))
    return list(zip(left, right, strict=True))


class _Known:
    """Finds words by their hashes (W,), in buckets of a few: a search in all, halving them, waits for memory longer."""

    def __init__(self, hashes: npt.NDArray[np.uint64]) -> None:
        bits = max(1, (2 * len(hashes)).bit_length())
        self._shift = np.uint64(64 - bits)  # the upper bits depend on all of a word, the lower ones do not
        self._words = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._words]
        counts = np.bincount((self._hashes >> self._shift).astype(np.int64), minlength=1 << bits)
        self._ends = np.concatenate([[0], np.cumsum(counts)])

    def find(self, wanted: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return which word has each hash (n,), the first of several; -1 where none has."""
        found = np.full(len(wanted), -1)
        buckets = (wanted >> self._shift).astype(np.int64)
        places, ends = self._ends[buckets], self._ends[buckets + 1]
        left = np.flatnonzero(places < ends)
        places, ends = places[left], ends[left]
        while len(left):
            same = self._hashes[places] == wanted[left]
            found[left[same]] = self._words[places[same]]
            more = ~same & (places + 1 < ends)
            left, places, ends = left[more], places[more] + 1, ends[more]
        return found


class _Hashes:
    """Polynomial hashes, modulo 2^64, of any part of a text."""

    def __init__(self, text: str) -> None:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64) + np.uint64(1)
        # Times the base, so that the upper bits of a single character's hash depend on it, too.
        self._inverses = _powers(pow(_BASE, -1, 1 << 64), len(codes) + 1) * np.uint64(_BASE)
        self._sums = np.concatenate([[np.uint64(0)], np.cumsum(codes * _powers(_BASE, len(codes)), dtype=np.uint64)])

    def of(self, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """Return the hashes (n,) of the parts from `first` to before `last` (n,)."""
        hashes: npt.NDArray[np.uint64] = (self._sums[last] - self._sums[first]) * self._inverses[first]
        return hashes


def _powers(base: int, count: int) -> npt.NDArray[np.uint64]:
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    powers: npt.NDArray[np.uint64] = np.multiply.accumulate(factors)
    return powers
