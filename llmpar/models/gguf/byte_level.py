"""Byte-level vocabularies: texts are cut by rules that the file only names, then bytes are merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmpar.models.gguf.form import Form, Steps, ids_of, pairs_of

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|" + _SPACES
_CASES = (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]")
_WORDS = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_CASES[0]}*{_CASES[1]}+",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_CASES[0]}+{_CASES[1]}*",
)
_PATHS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _SPACES
# Letters of some scripts, by their numbers: some would become others if this file were normalised.
_DEEPSEEK_LETTERS = (
    r"\s?["
    r"A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af}\x{370}-"
    r"\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}\x{3a3}-\x{3f5}"
    r"\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}\x{13f8}-\x{13fd}\x{1c90}-"
    r"\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-"
    r"\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}"
    r"-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}"
    r"\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-"
    r"\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}"
    r"\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}"
    r"\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}"
    r"\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}"
    r"\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}\x{1e900}-\x{1e943}"
    r"]+"
)
_HAN = r"[\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+"


@dataclass(frozen=True, slots=True)
class _Cuts:
    """How a text is cut, and what is done with it before and after that.

    `patterns` are applied one after the other, each to what the ones before have cut; with `digits`, each digit is one
    piece after that. With `usual`, GPT-2's own pattern follows. With `whole_words`, a word of the vocabulary is taken
    even where no chain of merges leads to it.
    """

    patterns: tuple[str, ...] = ()
    digits: bool = False
    usual: bool = False
    composes: bool = False
    whole_words: bool = False
    adds_beginning: bool = False


_GPT2 = _Cuts(usual=True)
_DIGITS = _Cuts(usual=True, digits=True)
_LLAMA3 = _Cuts((rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}",), whole_words=True, adds_beginning=True)
_CL100K = _Cuts(_LLAMA3.patterns)
_QWEN2 = _Cuts((rf"{_CONTRACTIONS}|{_LETTERS}|\p{{N}}|{_REST}",), composes=True)
_TEKKEN = _Cuts((rf"{_WORDS[0]}|{_WORDS[1]}|\p{{N}}|{_PATHS}",), whole_words=True, adds_beginning=True)
_O200K = _Cuts(
    (rf"{_WORDS[0]}{_CONTRACTIONS}?|{_WORDS[1]}{_CONTRACTIONS}?|\p{{N}}{{1,3}}|{_PATHS}",),
)
_DEEPSEEK_LLM = _Cuts(
    (
        r"[\r\n]",
        _DEEPSEEK_LETTERS,
        r"\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+",
        r"\s+$",
        _HAN,
    ),
    digits=True,
)
_DEEPSEEK_CODER = _Cuts((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN), digits=True)
_CUTS = {
    "gpt-2": _GPT2,
    "gpt2": _GPT2,
    "phi-2": _GPT2,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "dbrx": _CL100K,
    "smaug-bpe": _CL100K,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "tekken": _TEKKEN,
    "gpt-4o": _O200K,
    "deepseek-llm": _DEEPSEEK_LLM,
    "deepseek-coder": _DEEPSEEK_CODER,
}
"""By `tokenizer.ggml.pre`: only what is known for certain, from models' own files."""


def is_known(pre: str) -> bool:
    """Tell whether the rules of this name are known."""
    return pre in _CUTS


def make(fields: Mapping[str, Any]) -> Form:
    """Return how a file's vocabulary, by rules that are known, cuts texts.

    Raises:
        KeyError: its tokens or merges are missing.
    """
    from tokenizers import decoders, models

    cuts = _CUTS[fields["tokenizer.ggml.pre"]]
    merges = pairs_of(fields["tokenizer.ggml.merges"])
    words = ids_of(fields["tokenizer.ggml.tokens"])
    model = models.BPE(words, merges, ignore_merges=cuts.whole_words)
    return Form(words, model, lambda _: _steps(cuts), decoders.ByteLevel(), cuts.adds_beginning)


def _steps(cuts: _Cuts) -> Steps:
    from tokenizers import Regex, normalizers, pre_tokenizers

    steps: list[Any] = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in cuts.patterns]
    if cuts.digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cuts.usual))
    return normalizers.NFC() if cuts.composes else None, pre_tokenizers.Sequence(steps)
