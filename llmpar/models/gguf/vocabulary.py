"""The vocabulary in a GGUF file's metadata → tokenizers, made in memory.

What kind a vocabulary is decides which of the functions here makes it: `byte_level` or `sentence_pieces`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from llmpar.models.gguf import byte_level, sentence_pieces

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

CONTROL, USER_DEFINED = 3, 4  # gguf.TokenType
WORD_PIECES = "bert"
"""What a file calls a vocabulary of WordPiece, which only encoders have: BERT and those that are like it."""


class UnknownVocabulary(Exception):
    """A vocabulary is of a kind that is not known here for certain; the message names it."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokenizers over one vocabulary.

    `whole` knows all of a file's tokens, so that a chat template's control tokens are found in a text. `plain` makes
    none of them of a text, but of the words of the model. `words` are the tokens' ids, and `control_ids` those of
    tokens that are no text.
    """

    whole: Tokenizer
    plain: Tokenizer
    words: dict[str, int]
    control_ids: frozenset[int]


def unknown_kind(fields: Mapping[str, Any]) -> str | None:
    """Return what a file calls the kind of its vocabulary if that is not known here, None if it is."""
    kind, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    known = {"gpt2": byte_level.is_known(str(pre)), "llama": sentence_pieces.is_known(fields)}
    return None if known.get(str(kind)) else str(pre or kind)


def tokens_of_kind(fields: Mapping[str, Any], kind: int) -> list[int]:
    """Return the ids of a file's tokens of a kind, a number of gguf.TokenType."""
    kinds = np.asarray(fields.get("tokenizer.ggml.token_type", ()))
    found: list[int] = np.flatnonzero(kinds[: len(fields["tokenizer.ggml.tokens"])] == kind).tolist()
    return found


def build(fields: Mapping[str, Any], *, opens: bool) -> Vocabulary:
    """Return the vocabulary that a file's metadata describes.

    Args:
        fields: the metadata.
        opens: whether a text opens a prompt, so that it gets the space that some tokenizers put before it.

    Raises:
        UnknownVocabulary: it is of a kind that is not known.
        KeyError: a part of it is missing.
    """
    from tokenizers import Tokenizer

    if unknown := unknown_kind(fields):
        raise UnknownVocabulary(repr(unknown))
    maker = {"gpt2": byte_level.make, "llama": sentence_pieces.make}[fields["tokenizer.ggml.model"]]
    form = maker(fields)
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    whole, plain = Tokenizer(form.model), Tokenizer(form.model)
    for tokenizer, has_prefix in ((whole, True), (plain, opens)):
        normalizer, pre_tokenizer = form.steps(has_prefix)
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        if pre_tokenizer is not None:
            tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.decoder = form.decoder
    control, words, spaces = _added(fields, tokens)
    whole.add_special_tokens(list(control.values()))
    whole.add_tokens([*words.values(), *spaces.values()])
    plain.add_tokens(list(spaces.values()))
    _put_beginning(whole, fields, tokens, form.adds_beginning)
    return Vocabulary(whole, plain, form.words, frozenset(control) | frozenset(words))


def _added(
    fields: Mapping[str, Any], tokens: list[str]
) -> tuple[dict[int, AddedToken], dict[int, AddedToken], dict[int, AddedToken]]:
    """Return the tokens that no merges lead to, by their ids: control tokens, others with a name, and runs of spaces.

    The latter are text, in which they are found as they are.
    """
    from tokenizers import AddedToken

    control: dict[int, AddedToken] = {}
    words: dict[int, AddedToken] = {}
    spaces: dict[int, AddedToken] = {}
    for index in tokens_of_kind(fields, CONTROL):
        control[index] = AddedToken(tokens[index], special=True, normalized=False)
    for index in tokens_of_kind(fields, USER_DEFINED):
        place = words if tokens[index].strip() else spaces
        place[index] = AddedToken(tokens[index], special=False, normalized=False)
    return control, words, spaces


def _put_beginning(tokenizer: Tokenizer, fields: Mapping[str, Any], tokens: list[str], usual: bool) -> None:
    """Let a tokenizer put the token that begins a text before each text, where the file or its kind says so."""
    from tokenizers import processors

    begin = fields.get("tokenizer.ggml.bos_token_id")
    if begin is not None and begin < len(tokens) and fields.get("tokenizer.ggml.add_bos_token", usual):
        token = tokens[begin]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[token, "$A"], pair=[token, "$A", token, "$B"], special_tokens=[(token, begin)]
        )
