"""Lists of abbreviations that Punkt's corpora did not teach it: those of the tables' package, and a few of our own."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass


def _words(text: str) -> Set[str]:
    return frozenset(text.split())


# Behind these no sentence ends. "p.s." opens a postscript; "M." is French for Mr.
_NEVER = {
    language: _words(words)
    for language, words in {
        "czech": "např tzv tj resp",
        "danish": "hr fr f.eks bl.a ca kl nr d.v.s dvs",
        "dutch": "blz d.w.z bijv dhr mevr mr nr ca",
        "english": "p.s ps vs n.b eq mt n°",
        "estonian": "lk s.o nt",
        "finnish": "esim ns ks",
        "french": "m mm mme mmes mlle mlles mgr st ste janv févr avr juil déc",
        "german": "ca vgl bzw sog inkl evtl z.b d.h u.a o.ä z.t i.d.r hr fa co geb",
        "greek": "κ π.χ δηλ",
        "italian": "sig sig.ra dott avv ing pag",
        "norwegian": "hr fr f.eks bl.a ca kl nr d.v.s dvs",
        "polish": "np tzw m.in zob ul im",
        "portuguese": "sr sra dra p.ex",
        "slovene": "npr t.i ga",
        "spanish": "av avda sr sra srta dra p.ej ene feb abr ago oct nov dic",
        "swedish": "hr fr t.ex bl.a ca kl nr s.k d.v.s dvs",
        "turkish": "bkz örn doç av sn yrd",
    }.items()
}
RUSSIAN_TITLES = _words(
    "акад ак англ бул вып вул гл гос гр греч див доц ед изд илл инж им исп кв кн ком корп лат лейт мл наб напр нач нем "
    "обл оз пер пл пос пр просп проф рев ред рис св сб ск см соч ср ст стр табл тел тов тт ул ум фр чл эт яз"
)
"""Abbreviations that a name or a number follows. Others end a Russian sentence before a
capital, of which Punkt's tables say nothing."""
# Titles that most languages have, and words of scripts that Punkt has no tables for.
ANYWHERE = frozenset({"dr", "prof", "डॉ", "प्रो", "श्री", "रु", "सं", "पं", "ഡോ", "ശ്രീ"})
# What often ends a sentence, too: it goes on before lower case, a number or a bracket.
BEFORE_LOWER = _words("etc al usw itd itp ecc m.fl osv vb a.m p.m т.д т.п co ltd inc corp bros jr sr")
BEFORE_DIGIT = _words("fig figs tab vol kap cap art p pp s str obr abb nr")
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
        return self.never | self.mostly | self.numeric | ANYWHERE | BEFORE_LOWER | BEFORE_DIGIT


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
