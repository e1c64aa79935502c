"""What no model need translate, told from the text alone: where no words are, or all are the target language's."""

from __future__ import annotations

from llmpar.documents.language import is_surely
from llmpar.tasks.invariants import without_verbatim


def has_no_words(text: str) -> bool:
    """Tell whether a text would be the same in any language: numbers, signs, emoji, addresses, code, placeholders."""
    return not any(char.isalpha() for char in without_verbatim(text))


def is_translated(text: str, tag: str) -> bool:
    """Tell whether a text is quite certainly in the language with this BCP-47 tag already; False where it may be."""
    return is_surely(without_verbatim(text), tag)
