"""Vocabularies of GGUF files: texts are cut as the models' own tokenizers do, and no text becomes a control token."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from llmpar.models.gguf.sentence_pieces import merges_of
from llmpar.models.gguf.vocabulary import UnknownVocabulary, build, unknown_kind

LETTERS = "abc▁"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6


def metadata(**fields: Any) -> dict[str, Any]:
    return {f"tokenizer.ggml.{name}": value for name, value in fields.items()}


def pieces(seed: int = 1, **more: Any) -> dict[str, Any]:
    """Return the metadata of a random vocabulary of pieces, all with bytes and some special tokens."""
    draw = random.Random(seed)
    words = {"".join(draw.choice(LETTERS) for _ in range(draw.randrange(2, 6))) for _ in range(120)} | set(LETTERS)
    special = [
        ("<unk>", UNKNOWN),
        ("<s>", CONTROL),
        ("</s>", CONTROL),
        ("\n\n", USER_DEFINED),
        ("<tool>", USER_DEFINED),
    ]
    named = [*special, *((f"<0x{byte:02X}>", BYTE) for byte in range(256)), *((word, NORMAL) for word in sorted(words))]
    scores = [0.0] * (len(named) - len(words)) + [float(-draw.randrange(40)) for _ in words]  # with many that are equal
    return metadata(
        model="llama",
        tokens=[name for name, _ in named],
        token_type=[kind for _, kind in named],
        scores=scores,
        bos_token_id=1,
        eos_token_id=2,
        unknown_token_id=0,
        **more,
    )


def merged(text: str, scores: dict[str, float]) -> list[str]:
    """Merge characters as SentencePiece does: whatever makes the best piece first, the leftmost of equals."""
    parts = list(text)
    while True:
        best = max(
            ((scores[a + b], -i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in scores),
            default=None,
        )
        if best is None:
            return parts
        at = -best[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


class TestPieces:
    @pytest.mark.parametrize("seed", range(4))
    def test_they_are_merged_by_their_scores(self, seed: int) -> None:
        fields = pieces(seed, add_space_prefix=False)
        known = dict(zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.scores"], strict=True))
        # Equal scores make the order of merges a matter of the place in the text, which merges in a fixed order lack.
        for place, word in enumerate(known):
            known[word] += place / 1000
        fields["tokenizer.ggml.scores"] = list(known.values())
        scores = {word: score for word, score in known.items() if set(word) <= set(LETTERS)}
        tokenizer, draw = build(fields, opens=True).plain, random.Random(seed)
        for _ in range(300):
            text = "".join(draw.choice(LETTERS) for _ in range(draw.randrange(30)))
            assert tokenizer.encode(text).tokens == merged(text, scores), text

    def test_merges_are_all_pairs_that_are_a_piece_together(self) -> None:
        fields = pieces()
        tokens, scores = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.scores"]
        kinds = fields["tokenizer.ggml.token_type"]
        words = {token for token, kind in zip(tokens, kinds, strict=True) if kind == NORMAL}
        expected = {
            (word[:cut], word[cut:])
            for word in words
            for cut in range(1, len(word))
            if word[:cut] in words and word[cut:] in words
        }
        found = merges_of(tokens, scores, kinds)
        assert len(found) == len(expected)
        assert set(found) == expected
        ranks = [scores[tokens.index(first + second)] for first, second in found]
        assert ranks == sorted(ranks, reverse=True)

    def test_there_may_be_none(self) -> None:
        assert merges_of(["a", "b"], np.zeros(2)) == []
        assert merges_of([], []) == []

    @pytest.mark.parametrize(("prefixed", "first"), [(True, "▁"), (False, "a"), (None, "▁")])
    def test_a_space_before_a_text(self, prefixed: bool | None, first: str) -> None:
        more = {} if prefixed is None else {"add_space_prefix": prefixed}
        vocabulary = build(pieces(**more), opens=True)
        for tokenizer in (vocabulary.whole, vocabulary.plain):
            assert tokenizer.encode("a b", add_special_tokens=False).tokens[0][0] == first
            assert tokenizer.decode(tokenizer.encode("a b").ids) == "a b"
        assert build(pieces(**more), opens=False).plain.encode("a b").tokens[0][0] == "a"

    def test_what_no_piece_spells_is_bytes(self) -> None:
        tokenizer = build(pieces(add_space_prefix=False), opens=False).plain
        assert tokenizer.encode("é").tokens == ["<0xC3>", "<0xA9>"]
        for text in ["é 日本\n\na🙂", "  a  b ", "\x00\x7f", ""]:
            assert tokenizer.decode(tokenizer.encode(text).ids) == text

    def test_runs_of_spaces_are_text_and_names_are_not(self) -> None:
        vocabulary = build(pieces(add_space_prefix=False), opens=False)
        assert vocabulary.whole.encode("<tool>a\n\n</s>").tokens == ["<s>", "<tool>", "a", "\n\n", "</s>"]
        found = vocabulary.plain.encode("<tool>a\n\n</s><s><unk>")
        assert "\n\n" in found.tokens
        assert {1, 2, 4} == vocabulary.control_ids
        assert vocabulary.control_ids.isdisjoint(found.ids)
        assert vocabulary.plain.decode(found.ids) == "<tool>a\n\n</s><s><unk>"

    @pytest.mark.parametrize("changing", ["remove_extra_whitespaces", "precompiled_charsmap"])
    def test_one_that_changes_texts_is_not_known(self, changing: str) -> None:
        with pytest.raises(UnknownVocabulary, match="'llama'"):
            build(pieces(**{changing: [1]}), opens=True)


def byte_level(pre: str, *extra: str, **more: Any) -> dict[str, Any]:
    tokens = ["<|end|>", *bytes_to_unicode().values(), *extra]
    kinds = [CONTROL] + [NORMAL] * (len(tokens) - 1)
    return metadata(model="gpt2", pre=pre, tokens=tokens, token_type=kinds, merges=[], bos_token_id=0, **more)


def cuts(pre: str, text: str) -> list[str]:
    """Return how a text is cut before its bytes are merged."""
    tokenizer: Tokenizer = build(byte_level(pre), opens=True).whole
    if tokenizer.normalizer:
        text = tokenizer.normalizer.normalize_str(text)
    return [text[first:last] for _, (first, last) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


TEXT = "Don't pay 1234€ TODAY!\n\n  x/y ÀÉ 東京 a1"
CUTS = {
    "gpt-2": "Don|'t| pay| 1234|€| TODAY|!|\n\n | x|/|y| ÀÉ| 東京| a|1",
    "smollm": "Don|'t| pay| |1|2|3|4|€| TODAY|!|\n\n | x|/|y| ÀÉ| 東京| a|1",
    "llama-bpe": "Don|'t| pay| |123|4|€| TODAY|!\n\n| | x|/y| ÀÉ| 東京| a|1",
    "qwen2": "Don|'t| pay| |1|2|3|4|€| TODAY|!\n\n| | x|/y| ÀÉ| 東京| a|1",
    "tekken": "Don|'t| pay| |1|2|3|4|€| TODAY|!\n\n| | x|/y| ÀÉ| 東京| a|1",
    "gpt-4o": "Don't| pay| |123|4|€| TODAY|!\n\n| | x|/y| ÀÉ| 東京| a|1",
    "deepseek-llm": "Don|'|t| pay| |1|2|3|4|€| TODAY|!|\n|\n| | x|/|y| ÀÉ| |東京| a|1",
    "deepseek-coder": "Don|'|t| pay| |1|2|3|4|€| TODAY|!|\n|\n| | x|/|y| ÀÉ| |東京| a|1",
}
"""How each kind cuts TEXT, with a line between the pieces."""
SAME = {"gpt2": "gpt-2", "phi-2": "gpt-2", "starcoder": "smollm", "refact": "smollm", "deepseek-r1-qwen": "qwen2"}
SAME |= dict.fromkeys(("llama3", "llama-v3", "dbrx", "smaug-bpe"), "llama-bpe")


class TestByteLevel:
    @pytest.mark.parametrize("pre", [*CUTS, *SAME])
    def test_each_kind_cuts_in_its_own_way(self, pre: str) -> None:
        assert "|".join(cuts(pre, TEXT)) == CUTS[SAME.get(pre, pre)]

    def test_all_that_are_known_are_tried(self) -> None:
        from llmpar.models.gguf.byte_level import _CUTS

        assert {*CUTS, *SAME} == set(_CUTS)

    @pytest.mark.parametrize(
        ("pre", "whole"), [("llama-bpe", True), ("tekken", True), ("dbrx", False), ("qwen2", False)]
    )
    def test_a_word_without_merges_is_taken_whole_or_not(self, pre: str, whole: bool) -> None:
        tokenizer = build(byte_level(pre, "Ġxyz"), opens=True).plain
        assert tokenizer.encode(" xyz").tokens == (["Ġxyz"] if whole else ["Ġ", "x", "y", "z"])

    @pytest.mark.parametrize(
        ("pre", "usual"), [("llama-bpe", True), ("tekken", True), ("qwen2", False), ("gpt-2", False)]
    )
    def test_what_begins_a_text(self, pre: str, usual: bool) -> None:
        def opening(**more: Any) -> list[str]:
            return build(byte_level(pre, **more), opens=True).whole.encode("a").tokens

        assert opening() == (["<|end|>", "a"] if usual else ["a"])
        assert opening(add_bos_token=True) == ["<|end|>", "a"]
        assert opening(add_bos_token=False) == ["a"]

    @pytest.mark.parametrize(
        ("model", "pre", "told"), [("gpt2", "new", "new"), ("bert", None, "bert"), ("t5", "x", "x")]
    )
    def test_another_kind_is_named(self, model: str, pre: str | None, told: str) -> None:
        fields = metadata(model=model, pre=pre)
        assert unknown_kind(fields) == told
        with pytest.raises(UnknownVocabulary, match=f"'{told}'"):
            build(fields, opens=True)

    def test_a_token_that_stands_there_twice_is_the_first(self) -> None:
        vocabulary = build(byte_level("gpt-2", "a", "b"), opens=True)
        first = vocabulary.words["a"]
        assert first < 257
        assert vocabulary.plain.encode("a").ids == [first]
