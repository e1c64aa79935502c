"""Numbers and letters with a full stop: ordinals, and the labels of lists."""

from __future__ import annotations

import re

from llmpar.documents.sentences.border import Border
from llmpar.documents.sentences.punkt import begins

_LABEL = re.compile(r"[(\[]?(?:\d{1,3}|[^\W\d_]|[IVXLC]{1,5})[.)]+\Z")
_LONGEST_ORDINAL = 2  # digits; a year ends a sentence more often


LONGEST_LABEL = 8


def is_label(sentence: str) -> bool:
    """Tell whether a piece is a bare number or letter, which belongs to what follows: "3.", "b)"."""
    return _LABEL.match(sentence) is not None


def goes_on(border: Border) -> bool | None:
    """Return False behind a German ordinal before a noun ("in die 3. Etage"), whose capital says nothing."""
    if (
        border.is_stop
        and border.tables.language == "german"
        and border.word.isdigit()
        and len(border.word) <= _LONGEST_ORDINAL
        and begins(border.after, border.tables) is not True
    ):
        return False
    return None
