"""Lists of abbreviations that Punkt's corpora did not teach it: those of the tables' package, and a few of our own."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

# "p.s." opens a postscript; "M." is French for Mr.
_NEVER = {
    "english": frozenset({"p.s", "ps", "vs", "n.b", "fig", "figs", "eq", "mt", "n°"}),
    "french": frozenset({"m", "mm", "mme", "mmes", "mlle", "mlles", "mgr", "me", "st", "ste"}),
    "german": frozenset({"ca", "vgl", "bzw", "sog", "inkl", "evtl", "z.b", "d.h", "u.a", "o.ä", "z.t", "i.d.r"}),
    "spanish": frozenset(
        {"av", "avda", "sr", "sra", "srta", "dr", "dra", "p.ej", "ene", "feb", "abr", "ago", "oct", "nov", "dic"}
    ),
    "turkish": frozenset({"bkz", "örn", "prof", "doç", "dr", "av", "sn", "yrd"}),
}
# Of scripts that Punkt has no tables for: their words are no other language's.
ANYWHERE = frozenset({"डॉ", "प्रो", "श्री", "रु", "सं", "पं", "ഡോ", "ശ്രീ"})
# What often ends a sentence, too: it goes on before lower case, a number or a bracket.
BEFORE_LOWER = frozenset({
    "etc", "al", "usw", "itd", "itp", "ecc", "m.fl", "osv", "vb", "a.m", "p.m", "т.д", "т.п",
    "co", "ltd", "inc", "corp", "bros", "jr", "sr",
})  # fmt: skip
CLOCK = frozenset({"a.m", "p.m"})


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Words after whose full stop a sentence goes on.

    Args:
        never: no sentence ends with one.
        mostly: one ends there only before a word that often begins a sentence.
        numeric: none ends there before a number.
    """

    never: Set[str]
    mostly: Set[str]
    numeric: Set[str]

    @property
    def all(self) -> Set[str]:
        """All of them, and those of every language."""
        return self.never | self.mostly | self.numeric | ANYWHERE | BEFORE_LOWER


def prefixes(language: str) -> Prefixes:
    """Return a language's lists; empty ones where there are none."""
    from punkt.data.curated import ENGLISH_ALWAYS, ENGLISH_NUMERIC_ONLY, EXCLUSIONS, NUMERIC_ONLY_BY_LANGUAGE
    from punkt.data.prefixes import PREFIXES

    mostly, numeric = PREFIXES.get(language, (frozenset(), frozenset()))
    mostly = {word for word in mostly - EXCLUSIONS.get(language, frozenset()) if len(word) > 1 and not word.isdigit()}
    numeric = numeric | NUMERIC_ONLY_BY_LANGUAGE.get(language, frozenset())
    if language == "english":
        mostly |= ENGLISH_ALWAYS
        numeric |= ENGLISH_NUMERIC_ONLY
    return Prefixes(_NEVER.get(language, frozenset()), frozenset(mostly), frozenset(numeric))
