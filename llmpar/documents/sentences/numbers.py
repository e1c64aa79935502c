"""Numbers and letters with a full stop: ordinals, and the labels of lists."""

from __future__ import annotations

import re

from llmpar.documents.sentences.border import Border
from llmpar.documents.sentences.punkt import begins

_LABEL = re.compile(r"[(\[]?(?:\d{1,3}|[^\W\d_]|[IVXLC]{1,5})[.)]+\Z")
# A short text's language may not be known. No word of English is among these.
_MONTHS = frozenset({"januar", "jänner", "februar", "märz", "mai", "juni", "juli", "oktober", "dezember"})
_LONGEST_ORDINAL = 2  # digits; a year ends a sentence more often


LONGEST_LABEL = 8


def is_label(sentence: str) -> bool:
    """Tell whether a piece is a bare number or letter, which belongs to what follows: "3.", "b)"."""
    return _LABEL.match(sentence) is not None


def goes_on(border: Border) -> bool | None:
    """Return False behind an ordinal: before a month, and before a German noun, whose capital says nothing."""
    if not (border.is_stop and border.word.isdigit() and len(border.word) <= _LONGEST_ORDINAL):
        return None
    if border.after.lower() in _MONTHS:
        return False
    is_german = border.tables.language == "german"
    return False if is_german and begins(border.after, border.tables) is not True else None
