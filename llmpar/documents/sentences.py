"""Where sentences end: nltk's Punkt for the languages it knows, and the full stops of other scripts everywhere."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llmpar.errors import UsageError

if TYPE_CHECKING:
    from nltk.tokenize.punkt import PunktSentenceTokenizer

LANGUAGES = (
    "czech", "danish", "dutch", "english", "estonian", "finnish", "french", "german", "greek", "italian", "malayalam",
    "norwegian", "polish", "portuguese", "russian", "slovene", "spanish", "swedish", "turkish",
)  # fmt: skip

# Chinese and Japanese; Arabic and Urdu; Devanagari; Armenian; Ethiopic; Burmese; Khmer; Tibetan; Mongolian; Thai ๚๛.
_STOPS = "。！？｡؟۔।॥։።፧፨။៕។༎།᠃᠉๚๛"
_CLOSERS = "」』”’）》】〉〕］｝\"'»›)\\]"
# An ellipsis, or a Latin mark typed after a wide character, ends a sentence only in text without spaces.
_WIDE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_STOP = re.compile(rf"(?:[{_STOPS}]+[{_STOPS}!?…]*|(?<=[{_WIDE}])(?:…+|⋯+|[!?]+)[{_STOPS}!?…]*)[{_CLOSERS}]*(?:[*_~`]+(?=\s|$))?")

# nltk bounds the time of its expressions for each call, so Punkt sees a long text a window at a time; its decisions
# rest on a word and its successor, so that a window's last sentences are left to the next one.
_WINDOW = 16_384

_tokenizers: dict[str, PunktSentenceTokenizer] = {}
_lock = threading.Lock()


def check_language(language: str) -> None:
    """Raise UsageError when Punkt has no model called `language` ("auto" is always known)."""
    if language != "auto" and language not in LANGUAGES:
        raise UsageError(f"unknown language {language!r}; Punkt knows: {', '.join(LANGUAGES)} (or auto)")


def sentence_spans(text: str, language: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each sentence of one paragraph, without the white space between them.

    Punkt: Kiss & Strunk 2006, "Unsupervised Multilingual Sentence Boundary Detection".
    """
    start = 0
    for match in _STOP.finditer(text):
        yield from _punkt_spans(text, start, match.end(), language)
        start = match.end()
    yield from _punkt_spans(text, start, len(text), language)


def _punkt_spans(text: str, start: int, end: int, language: str) -> Iterator[tuple[int, int]]:
    start += len(text[start:end]) - len(text[start:end].lstrip())
    part = text[start:end]
    window = _WINDOW
    position = 0
    while position < len(part):
        piece = part[position : position + window]
        spans = list(_tokenizer(language).span_tokenize(piece))
        if position + window < len(part):
            if len(spans) < 3:
                window *= 2
                continue
            spans = spans[:-2]
        for first, last in spans:
            yield start + position + first, start + position + last
        if position + window >= len(part):
            return
        position += spans[-1][1]
        window = _WINDOW


def _tokenizer(language: str) -> PunktSentenceTokenizer:
    with _lock:
        if language not in _tokenizers:
            _tokenizers[language] = load_punkt(language)
        return _tokenizers[language]


def load_punkt(language: str) -> PunktSentenceTokenizer:
    """Return nltk's sentence tokenizer for `language`: the user's own `punkt_tab` data if found, else the bundled.

    Raises:
        UsageError: no such language.
    """
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer, PunktTokenizer

    check_language(language)
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
