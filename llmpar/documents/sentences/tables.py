"""What is known of a language's words: the tables of nltk's Punkt, and lists of abbreviations. Read once, on demand."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpar.documents.language import FUNCTION_WORDS
from llmpar.documents.sentences.languages import find_language
from llmpar.documents.sentences.prefixes import Prefixes, prefixes

if TYPE_CHECKING:
    from nltk.tokenize.punkt import PunktSentenceTokenizer

_PRONOUNS = {
    "english": "he she it they we you this that these those there his her their our my how what why when where who "
    "but so then",
    "german": "er sie es wir ihr das dies dort hier aber dann doch wie was warum",
    "french": "il elle ils elles nous vous ce cela mais puis ici comment pourquoi",
    "spanish": "él ella ellos esto eso pero luego aquí cómo por",
}
_PARTS = ("share", "lib")
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
        suspects: all words that a full stop may follow inside of a sentence.
        prefixes: the lists of abbreviations beside Punkt's.
        openers: words that are no names, so that a capital says that a sentence begins.
    """

    language: str
    abbreviations: Set[str]
    collocations: Set[tuple[str, str]]
    starters: Set[str]
    ortho: Mapping[str, int]
    suspects: Set[str]
    prefixes: Prefixes
    openers: Set[str]


def tables(language: str) -> Tables:
    """Return the tables of a language, read once.

    Raises:
        UsageError: no such language.
    """
    with _lock:
        if language not in _tables:
            parameters = _parameters(language)
            lists = prefixes(language)
            _tables[language] = Tables(
                language,
                frozenset(parameters.abbrev_types),
                frozenset(parameters.collocations),
                frozenset(parameters.sent_starters),
                dict(parameters.ortho_context),
                frozenset(parameters.abbrev_types) | {first for first, _ in parameters.collocations} | lists.all,
                lists,
                FUNCTION_WORDS.get(language, frozenset()) | {*_PRONOUNS.get(language, "").split()},
            )
        return _tables[language]


def _parameters(language: str) -> Any:
    """Return what Punkt learned of a language. Nltk is imported only if it may have other data, as that takes long."""
    if any(place.exists() for place in _places_of_data()):
        return load_punkt(language)._params  # noqa: SLF001 (nltk has no other name for them)
    from punkt.data import load_bundled

    return load_bundled(find_language(language))


def _places_of_data() -> list[Path]:
    """Return the directories, or archives, where nltk looks for data that somebody installed."""
    if "nltk.data" in sys.modules:
        return list(map(Path, sys.modules["nltk.data"].path))
    # As nltk.data has them before anybody changes them.
    named = [*filter(None, os.environ.get("NLTK_DATA", "").split(os.pathsep)), "~/nltk_data"]
    roots = [sys.prefix, *(f"{root}/{part}" for root in (sys.prefix, "/usr", "/usr/local") for part in _PARTS)]
    places = [*named, *(f"{root}/nltk_data" for root in roots)]
    return [Path(os.path.expanduser(place)) for place in places]  # noqa: PTH111 (there may be no home, an error there)


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
