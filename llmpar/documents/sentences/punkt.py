"""nltk's Punkt: what its tables decide about a full stop between two words.

Punkt: Kiss & Strunk 2006, "Unsupervised Multilingual Sentence Boundary Detection". nltk's own loop makes objects of
all words near a full stop; this one looks the two up that decide, and comes to the same end.
"""

from __future__ import annotations

import re

from llmpar.documents.sentences.tables import Tables

_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*\.?\Z")
NUMBER = "##number##"
"""What stands in Punkt's tables for every number."""
# Where Punkt saw a word: in lower case, in upper case inside a sentence, and so on (nltk's `_ORTHO_*`).
_MIDDLE_UPPER, _BEGIN_LOWER = 1 << 2, 1 << 4
_UPPER = 1 << 1 | 1 << 2 | 1 << 3
_LOWER = 1 << 4 | 1 << 5 | 1 << 6
_PUNCTUATION = frozenset(";:,.!?")


def kind_of(word: str) -> str:
    """Return a word as Punkt's tables have it."""
    return NUMBER if _NUMBER.match(word) else word.lower()


def begins(word: str, known: Tables) -> bool | None:
    """Return whether a word's letters speak for the beginning of a sentence; None where they say nothing."""
    first = word[:1]
    if not first or first in _PUNCTUATION:
        return False
    kind = kind_of(word)
    if kind[-1:] == "." and kind[:-1] not in known.abbreviations:
        kind = kind[:-1]
    seen = known.ortho.get(kind, 0)
    if first.isupper():
        return True if seen & _LOWER and not seen & _MIDDLE_UPPER else None
    if first.islower() and (seen & _UPPER or not seen & _BEGIN_LOWER):
        return False
    return None


def opens(word: str, known: Tables) -> bool:
    """Tell whether a word in upper case begins a sentence: by Punkt's tables, or as it is no name."""
    if not word[:1].isupper():
        return False
    lowered = word.lower()
    return begins(word, known) is True or lowered in known.starters or lowered in known.openers


def ends(word: str, after: str, known: Tables) -> bool:
    """Tell whether a sentence ends between a word that a full stop follows, and the next word.

    Args:
        word: without the full stop.
        after: the next word, with one if it has one; "" for something else than a word.
        known: the tables of the language.
    """
    kind, lowered = kind_of(word), word.lower()
    is_short = lowered in known.abbreviations or lowered.rpartition("-")[2] in known.abbreviations
    is_initial = len(word) == 1 and word.isalpha()
    if not (is_short or is_initial or kind == NUMBER or kind in known.suspects):
        return True
    following = kind_of(after)
    if following[-1:] == "." and following[:-1] not in known.abbreviations:
        following = following[:-1]
    if (kind, following) in known.collocations:
        return False
    speaks = begins(after, known)
    ends_here = not is_short
    if is_short and not is_initial:
        if speaks:
            return True
        if after[:1].isupper() and following in known.starters:
            ends_here = True
    if is_initial or kind == NUMBER:
        if speaks is False:
            return False
        if speaks is None and is_initial and after[:1].isupper() and not known.ortho.get(following, 0) & _LOWER:
            return False
    return ends_here
