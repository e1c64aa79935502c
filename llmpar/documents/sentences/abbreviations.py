"""Abbreviations that Punkt's corpora did not teach it: lists of the tables' package, and a few of our own."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from functools import cache

from llmpar.documents.sentences.border import Border
from llmpar.documents.sentences.punkt import opens

# "p.s." opens a postscript; "M." is French for Mr.
_NEVER = {
    "english": frozenset({"p.s", "ps", "vs", "n.b", "fig", "figs", "eq", "mt", "n°"}),
    "french": frozenset({"m", "mm", "mme", "mmes", "mlle", "mlles", "mgr", "me", "st", "ste"}),
    "german": frozenset({"ca", "vgl", "bzw", "sog", "inkl", "evtl", "z.b", "d.h", "u.a", "o.ä", "z.t", "i.d.r"}),
    "spanish": frozenset({"av", "avda", "sr", "sra", "srta", "dr", "dra", "p.ej", "ene", "feb", "abr", "ago", "oct", "nov", "dic"}),
    "turkish": frozenset({"bkz", "örn", "prof", "doç", "dr", "av", "sn", "yrd"}),
}
# Of scripts that Punkt has no tables for: their words are no other language's.
_ANYWHERE = frozenset({"डॉ", "प्रो", "श्री", "रु", "सं", "पं", "ഡോ", "ശ്രീ"})
# What often ends a sentence, too: it goes on before lower case, a number or a bracket.
_BEFORE_LOWER = frozenset({
    "etc", "al", "usw", "itd", "itp", "ecc", "m.fl", "osv", "vb", "a.m", "p.m", "т.д", "т.п",
    "co", "ltd", "inc", "corp", "bros", "jr", "sr",
})  # fmt: skip
_CLOCK = frozenset({"a.m", "p.m"})
# "l'art. 5": the article is a word of its own.
_ELIDING = frozenset({"french", "italian"})
_ELIDED = re.compile(r".*['’]")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]\Z")


@dataclass(frozen=True, slots=True)
class _Prefixes:
    """Words after whose full stop a sentence goes on.

    Args:
        never: no sentence ends with one.
        mostly: one ends there only before a word that often begins a sentence.
        numeric: none ends there before a number.
    """

    never: Set[str]
    mostly: Set[str]
    numeric: Set[str]


@cache
def _prefixes(language: str) -> _Prefixes:
    from punkt.data.curated import ENGLISH_ALWAYS, ENGLISH_NUMERIC_ONLY, EXCLUSIONS, NUMERIC_ONLY_BY_LANGUAGE
    from punkt.data.prefixes import PREFIXES

    mostly, numeric = PREFIXES.get(language, (frozenset(), frozenset()))
    mostly = {word for word in mostly - EXCLUSIONS.get(language, frozenset()) if len(word) > 1 and not word.isdigit()}
    numeric = numeric | NUMERIC_ONLY_BY_LANGUAGE.get(language, frozenset())
    if language == "english":
        mostly |= ENGLISH_ALWAYS
        numeric |= ENGLISH_NUMERIC_ONLY
    return _Prefixes(_NEVER.get(language, frozenset()), frozenset(mostly), frozenset(numeric))


def suspects(language: str) -> Set[str]:
    """Return the words of a language that a full stop may follow inside of a sentence, by these lists."""
    known = _prefixes(language)
    return known.never | known.mostly | known.numeric


def goes_on(border: Border) -> bool | None:
    """Return False where an abbreviation ends no sentence, None where the lists say nothing."""
    if not border.is_stop or not border.word:
        return None
    tables = border.tables
    word = border.word.lower()
    if tables.language in _ELIDING:
        word = _ELIDED.sub("", word)
    known = _prefixes(tables.language)
    before_digit = border.after[:1].isdigit()
    if word in _BEFORE_LOWER and (border.goes_on_low or before_digit or border.opener[:1] in ("(", "[")):
        return False
    if word in _CLOCK and border.goes_on_high and border.after[-1:] != ".":
        return True
    if word in known.never or word in _ANYWHERE or (before_digit and (word in known.numeric or word in tables.abbreviations)):
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
