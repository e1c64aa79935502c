"""A model's vocabulary as tokenizers: of a tokenizer.json in a directory, or of a GGUF file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpar.models.configuration import is_gguf

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokenizers over one vocabulary.

    `whole` knows all tokens, so that a chat template's control tokens are found in a text. `plain` makes none of them
    of a text, but of the words of the model. `words` are the tokens' ids, and `control_ids` those of tokens that were
    added to the words, and are no text.
    """

    whole: Tokenizer
    plain: Tokenizer
    words: Mapping[str, int]
    control_ids: frozenset[int]


def open_vocabulary(model: Path, *, opens: bool) -> Vocabulary:
    """Return a model's vocabulary.

    Args:
        model: a directory with a tokenizer.json, or a GGUF file.
        opens: whether a text opens a prompt, so that it gets the space that some tokenizers put before it.

    Raises:
        Exception: what the tokenizers library raises, which knows no error of its own, or reading the file does.
    """
    if not is_gguf(model):
        return _of_description((model / "tokenizer.json").read_text(encoding="utf-8"), opens=opens)
    from llmpar.models.gguf import model as gguf
    from llmpar.models.gguf.vocabulary import UnknownVocabulary

    try:
        built = gguf.open_vocabulary(model, opens=opens)
    except UnknownVocabulary:
        from llmpar.models.convert import tokenizer_of

        return _of_description(tokenizer_of(model), opens=opens)
    return Vocabulary(built.whole, built.plain, built.words, built.control_ids)


def _of_description(description: str, *, opens: bool) -> Vocabulary:
    from tokenizers import Tokenizer

    whole = Tokenizer.from_str(description)
    plain = Tokenizer.from_str(_plain(json.loads(description), opens=opens))
    whole.no_padding()
    whole.no_truncation()
    return Vocabulary(whole, plain, whole.get_vocab(), frozenset(whole.get_added_tokens_decoder()))


def _plain(fields: dict[str, Any], *, opens: bool) -> str:
    """Return a tokenizer's description without its added tokens; text that opens no prompt gets no space before it."""
    # Only their names are dropped: a model that holds them in its vocabulary keeps its numbering.
    fields["added_tokens"] = []
    fields["post_processor"] = fields["truncation"] = fields["padding"] = None
    if not opens:
        for key in ("normalizer", "pre_tokenizer"):
            fields[key] = _without_prefix(fields.get(key))
    return json.dumps(fields)


def _without_prefix(step: Any) -> Any:
    if not isinstance(step, dict):
        return step
    for key in ("normalizers", "pretokenizers"):
        if isinstance(step.get(key), list):
            kept = [part for part in map(_without_prefix, step[key]) if part is not None]
            return {**step, key: kept}
    if step.get("type") == "Prepend":
        return None
    if step.get("type") == "Metaspace":
        return {**step, "prepend_scheme": "never"}
    return {**step, "add_prefix_space": False} if "add_prefix_space" in step else step
