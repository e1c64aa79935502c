"""nltk's Punkt: its tables, and what it decides about a full stop between two words.

Punkt: Kiss & Strunk 2006, "Unsupervised Multilingual Sentence Boundary Detection". nltk's own loop makes objects of
all words near a full stop; this one looks the two up that decide, and comes to the same end.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmpar.documents.sentences.languages import find_language

if TYPE_CHECKING:
    from nltk.tokenize.punkt import PunktSentenceTokenizer

_NUMBER = re.compile(r"-?[.,]?\d[\d,.-]*\.?\Z")
NUMBER = "##number##"
"""What stands in Punkt's tables for every number."""
# Where Punkt saw a word: in lower case, in upper case inside a sentence, and so on (nltk's `_ORTHO_*`).
_MIDDLE_UPPER, _BEGIN_LOWER = 1 << 2, 1 << 4
_UPPER = 1 << 1 | 1 << 2 | 1 << 3
_LOWER = 1 << 4 | 1 << 5 | 1 << 6
_PUNCTUATION = frozenset(";:,.!?")

_tables: dict[str, Tables] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Tables:
    """What is known of a language's words; all are in lower case and without their last full stop.

    Args:
        language: its name.
        abbreviations: those that Punkt learned.
        collocations: a word with a full stop, and one that follows it inside of a sentence.
        starters: words that often begin a sentence.
        ortho: for a word, the flags that say where Punkt saw it in upper or lower case.
        first_of_collocations: the first words of `collocations`.
    """

    language: str
    abbreviations: Set[str]
    collocations: Set[tuple[str, str]]
    starters: Set[str]
    ortho: Mapping[str, int]
    first_of_collocations: Set[str]


def tables(language: str) -> Tables:
    """Return the tables of a language, read once.

    Raises:
        UsageError: no such language.
    """
    with _lock:
        if language not in _tables:
            parameters = load_punkt(language)._params  # noqa: SLF001 (nltk has no other name for them)
            _tables[language] = Tables(
                language,
                frozenset(parameters.abbrev_types),
                frozenset(parameters.collocations),
                frozenset(parameters.sent_starters),
                dict(parameters.ortho_context),
                frozenset(first for first, _ in parameters.collocations),
            )
        return _tables[language]


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
    """Tell whether a word's letters say that it begins a sentence, or it often does."""
    return word[:1].isupper() and (begins(word, known) is True or word.lower() in known.starters)


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
    if not (is_short or is_initial or kind == NUMBER or kind in known.first_of_collocations):
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


def load_punkt(language: str) -> PunktSentenceTokenizer:
    """Return nltk's sentence tokenizer for `language`: the user's own `punkt_tab` data if found, else the bundled.

    Raises:
        UsageError: no such language.
    """
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer, PunktTokenizer

    language = find_language(language)
    try:
        return PunktTokenizer(language)
    except LookupError:  # nltk's word for "not installed here"
        from punkt.data import load_bundled

    bundled = load_bundled(language)
    parameters = PunktParameters()
    parameters.abbrev_types = set(bundled.abbrev_types)
    parameters.collocations = set(bundled.collocations)
    parameters.sent_starters = set(bundled.sent_starters)
    parameters.ortho_context.update(bundled.ortho_context)
    tokenizer = PunktSentenceTokenizer()
    tokenizer._params = parameters  # noqa: SLF001 (the way PunktTokenizer sets what it has read)
    return tokenizer
