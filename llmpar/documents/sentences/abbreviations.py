"""Abbreviations and initials behind which a sentence goes on: "et al. (2004)", "J.M. Huber", "z. B. Dinkel"."""

from __future__ import annotations

import re

from llmpar.documents.sentences.border import Border
from llmpar.documents.sentences.prefixes import ANYWHERE, BEFORE_DIGIT, BEFORE_LOWER, CLOCK, RUSSIAN_TITLES
from llmpar.documents.sentences.punkt import opens

# "l'art. 5": the article is a word of its own.
_ELIDING = frozenset({"french", "italian"})
_ELIDED = re.compile(r".*['’]")
_AND_SO_ON = re.compile(r"и т\. ?[дп]\Z")
_INITIALS = re.compile(r"(?:[^\W\d_]\.-?)+[^\W\d_]\Z")


def goes_on(border: Border) -> bool | None:
    """Return False where an abbreviation ends no sentence, None where the lists say nothing."""
    if not border.is_stop or not border.word:
        return None
    tables = border.tables
    word = border.word.lower()
    if tables.language in _ELIDING:
        word = _ELIDED.sub("", word)
    known = tables.prefixes
    start = max(border.start, border.at - 8)
    before_digit = border.after[:1].isdigit()
    if word in BEFORE_LOWER and (border.goes_on_low or before_digit or border.opener[:1] in ("(", "[")):
        return False
    if word in CLOCK and border.goes_on_high and border.after[-1:] != ".":
        return True
    if (
        word in known.never
        or word in ANYWHERE
        or (before_digit and (word in known.numeric or word in BEFORE_DIGIT or word in tables.abbreviations))
    ):
        return False
    if tables.language == "russian" and border.goes_on_high and _AND_SO_ON.search(border.text[start : border.at]):
        return True
    if word == "я":  # "I", and no initial
        return True
    if tables.language == "russian" and len(word) > 1 and border.goes_on_high and border.after[-1:] != ".":
        return word not in RUSSIAN_TITLES
    may_begin = opens(border.after, tables)
    if word in known.mostly and not may_begin:
        return False
    if may_begin and len(word) > 1 and word in tables.abbreviations:
        return True
    return _initials(border, may_begin=may_begin)


def _initials(border: Border, *, may_begin: bool) -> bool | None:
    """Return False behind initials that a name or a number follows: "J.M. Huber", "z. B. Dinkel", "L. 642"."""
    word, after = border.word, border.after
    if _INITIALS.match(word) and (border.goes_on_low or (border.goes_on_high and not may_begin)):
        return False
    if len(word) == 1 and word.isalpha():
        if after[:1].isdigit() and word.isupper():
            return False
        is_initial = len(after) == 2 and after[0].isalpha() and after[1] == "."
        if is_initial and border.next + len(border.opener) + 2 < len(border.text):  # a name follows
            return False
    return None
