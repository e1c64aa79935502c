"""Abbreviations and initials behind which a sentence goes on: "et al. (2004)", "J.M. Huber", "z. B. Dinkel"."""

from __future__ import annotations

import re

from llmpar.documents.sentences.border import Border
from llmpar.documents.sentences.prefixes import ANYWHERE, BEFORE_LOWER, CLOCK
from llmpar.documents.sentences.punkt import opens

# "l'art. 5": the article is a word of its own.
_ELIDING = frozenset({"french", "italian"})
_ELIDED = re.compile(r".*['’]")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]\Z")


def goes_on(border: Border) -> bool | None:
    """Return False where an abbreviation ends no sentence, None where the lists say nothing."""
    if not border.is_stop or not border.word:
        return None
    tables = border.tables
    word = border.word.lower()
    if tables.language in _ELIDING:
        word = _ELIDED.sub("", word)
    known = tables.prefixes
    before_digit = border.after[:1].isdigit()
    if word in BEFORE_LOWER and (border.goes_on_low or before_digit or border.opener[:1] in ("(", "[")):
        return False
    if word in CLOCK and border.goes_on_high and border.after[-1:] != ".":
        return True
    if (
        word in known.never
        or word in ANYWHERE
        or (before_digit and (word in known.numeric or word in tables.abbreviations))
    ):
        return False
    may_begin = opens(border.after, tables)
    if word in known.mostly and not may_begin:
        return False
    return _initials(border, may_begin=may_begin)


def _initials(border: Border, *, may_begin: bool) -> bool | None:
    """Return False behind initials that a name or a number follows: "J.M. Huber", "z. B. Dinkel", "L. 642"."""
    word, after = border.word, border.after
    if _INITIALS.match(word) and (border.goes_on_low or (border.goes_on_high and not may_begin)):
        return False
    if len(word) == 1 and word.isalpha():
        if after[:1].isdigit() and word.isupper():
            return False
        if len(after) == 2 and after[0].isalpha() and after[1] == ".":
            return False
    return None
