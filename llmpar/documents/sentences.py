"""Where sentences end: nltk's Punkt for the languages it knows, and the full stops of other scripts everywhere."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llmpar.errors import UsageError

if TYPE_CHECKING:
    from nltk.tokenize.punkt import PunktSentenceTokenizer

LANGUAGES = {
    "czech": "cs", "danish": "da", "dutch": "nl", "english": "en", "estonian": "et", "finnish": "fi", "french": "fr",
    "german": "de", "greek": "el", "italian": "it", "malayalam": "ml", "norwegian": "no", "polish": "pl",
    "portuguese": "pt", "russian": "ru", "slovene": "sl", "spanish": "es", "swedish": "sv", "turkish": "tr",
}  # fmt: skip
"""The languages that Punkt has a model for, with their ISO 639-1 codes."""

# Chinese and Japanese; Arabic and Urdu; Devanagari; Armenian; Ethiopic; Burmese; Khmer; Tibetan; Mongolian; Thai ๚๛.
_STOPS = "。！？｡؟۔।॥։።፧፨။៕។༎།᠃᠉๚๛"
_CLOSERS = "」』”’）》】〉〕］｝\"'»›)\\]"
# An ellipsis, or a Latin mark typed after a wide character, ends a sentence only in text without spaces.
_WIDE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_STOP = re.compile(
    rf"(?:[{_STOPS}]+[{_STOPS}!?…]*|(?<=[{_WIDE}])(?:…+|⋯+|[!?]+)[{_STOPS}!?…]*)[{_CLOSERS}]*(?:[*_~`]+(?=\s|$))?"
)

# Punkt's time grows with the square of a run without spaces, so it sees a long text a window at a time. Its decisions
# rest on a word and its successor, so that a window's last sentences are left to the next one. A sentence that fills
# the widest window is cut there.
_WINDOW, _WIDEST_WINDOW = 16_384, 65_536
# nltk takes every guillemet and curly quote for closing; one that stands free after a full stop opens a sentence.
_OPENER = re.compile(r"\s+[«“„‘‚‹]+\Z")

_tokenizers: dict[str, PunktSentenceTokenizer] = {}
_lock = threading.Lock()


def find_language(name: str) -> str:
    """Return the name of Punkt's model for a language's name or code, in any case; "auto" is always known.

    Raises:
        UsageError: Punkt has no such model.
    """
    wanted = name.casefold()
    for language, code in LANGUAGES.items():
        if wanted in (language, code):
            return language
    if wanted == "auto":
        return wanted
    raise UsageError(f"unknown language {name!r}; Punkt knows: {', '.join(LANGUAGES)} (or auto)")


def sentence_spans(text: str, language: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each sentence of one paragraph, without the white space between them.

    Punkt: Kiss & Strunk 2006, "Unsupervised Multilingual Sentence Boundary Detection".
    """
    length = len(text.rstrip())
    moved = -1  # where an opening mark begins that Punkt left with the sentence before
    for start, end in _spans(text, language):
        begin = start if moved < 0 else moved
        opener = _OPENER.search(text, max(begin, end - 8), end) if end < length else None
        moved = opener.end() - len(opener[0].lstrip()) if opener else -1
        # Punkt and Python differ in what is white space.
        sentence = text[begin : opener.start() if opener else end]
        begin += len(sentence) - len(sentence.lstrip())
        if stripped := sentence.strip():
            yield begin, begin + len(stripped)


def _spans(text: str, language: str) -> Iterator[tuple[int, int]]:
    start = 0
    for match in _STOP.finditer(text):
        end = _without_opening_quotes(text, start, match)
        yield from _punkt_spans(text, start, end, language)
        start = end
    yield from _punkt_spans(text, start, len(text), language)


def _without_opening_quotes(text: str, start: int, match: re.Match[str]) -> int:
    """Return where a sentence ends: a straight quote belongs to it only if it closes one that it opened."""
    end = match.end()
    for quote in "\"'":
        at = text.find(quote, match.start(), end)
        if at >= 0 and text.count(quote, start, at) % 2 == 0:
            end = at
    return end


def _punkt_spans(text: str, start: int, end: int, language: str) -> Iterator[tuple[int, int]]:
    window = _WINDOW
    while start < end:
        stop = min(start + window, end)
        blank = len(text[start:stop]) - len(text[start:stop].lstrip())
        if blank:
            start += blank
            continue
        spans = _punkt(text[start:stop], language)
        if stop < end:
            if num_sure := _num_sure(text[start:stop], spans):
                spans = spans[:num_sure]
                stop = start + spans[-1][1]
            elif window < _WIDEST_WINDOW:
                window *= 2
                continue
            else:
                stop = text.rfind(" ", start, stop) + 1 or stop
                spans = _punkt(text[start:stop], language)
        for first, last in spans:
            yield start + first, start + last
        start, window = stop, _WINDOW


def _num_sure(window: str, spans: list[tuple[int, int]]) -> int:
    """Return how many sentences no text after the window can change, 0 if they fill less than half of it."""
    for num in range(len(spans) - 2, 0, -1):
        end = spans[num - 1][1]
        if end < len(window) // 2:
            break
        if window[end].isspace():
            return num
    return 0


def _punkt(text: str, language: str) -> list[tuple[int, int]]:
    try:
        return list(_tokenizer(language).span_tokenize(text))
    except TimeoutError:  # nltk's guard against hostile text; such a window holds no sentences worth the name
        return [(0, len(text))]


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
