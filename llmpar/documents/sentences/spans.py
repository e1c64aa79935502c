"""Where sentences begin and end: the borders that the scan finds, what the rules say of each, what belongs together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from llmpar.documents.sentences import abbreviations, brackets, clauses, ellipsis, numbers, quotations, reporting, tails
from llmpar.documents.sentences.border import Border
from llmpar.documents.sentences.languages import find_language
from llmpar.documents.sentences.punkt import Tables, ends, opens, tables
from llmpar.documents.sentences.scan import END, GREEK_END, border_at

_WORD = re.compile(r"[^\W_]")


def _bracket(border: Border) -> bool | None:
    return False if brackets.is_inside(border.text, border.start, border.end, brackets.NARROW) else None


def _sign(border: Border) -> bool | None:
    """Return False before a sign that no sentence begins with: "42 hab. / km²"."""
    return False if border.opener[:1] in ("/", "%", "=", "+") else None


def _punkt(border: Border) -> bool | None:
    if not border.is_stop or not border.word[-1:].isalnum():
        return True
    return ends(border.word, border.after, border.tables)


RULES: dict[str, Callable[[Border], bool | None]] = {
    "bracket": _bracket,
    "reporting": reporting.goes_on,
    "quotation": quotations.goes_on,
    "aside": quotations.is_aside,
    "sign": _sign,
    "ellipsis": ellipsis.opinion,
    "abbreviation": abbreviations.goes_on,
    "ordinal": numbers.goes_on,
    "punkt": _punkt,
}
"""By name, in order: the first that has an opinion decides. Punkt always has one."""


def sentence_spans(text: str, language: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each sentence of one paragraph, without the white space between them.

    Args:
        text: the paragraph's.
        language: the name of one of Punkt's models.

    Raises:
        UsageError: no such language.
    """
    known = tables(find_language(language))
    held: tuple[int, int] | None = None
    joins = False  # the piece that is held is a label, or has no word: it joins what follows
    for first, last in _found(text, known):
        span = _stripped(text, first, last)
        if span is None:
            continue
        has_word = _WORD.search(text, *span) is not None
        if held and (joins or not has_word):
            held = held[0], span[1]
        else:
            if held:
                yield from clauses.cut(text, *held)
            held = span
        joins = _WORD.search(text, *held) is None or numbers.is_label(text[held[0] : held[1]])
    if held:
        yield from clauses.cut(text, *held)


def _stripped(text: str, start: int, end: int) -> tuple[int, int] | None:
    piece = text[start:end]
    kept = piece.strip()
    if not kept:
        return None
    start += len(piece) - len(piece.lstrip())
    return start, start + len(kept)


def _found(text: str, known: Tables) -> Iterator[tuple[int, int]]:
    start = 0
    pattern = GREEK_END if known.language == "greek" else END
    for match in pattern.finditer(text):
        kind = match.lastgroup
        if kind == "wide":
            end = _wide_end(text, start, match)
            if end:
                yield start, end
                start = end
            continue
        border = border_at(text, known, start, match)
        if border is None or not KINDS[kind or ""](border):
            continue
        if kind == "narrow":
            tails.tail(border)
        yield start, border.end
        start = border.next
    yield start, len(text)


def _ends(border: Border) -> bool:
    for rule in RULES.values():
        said = rule(border)
        if said is not None:
            return said
    return True


def _is_glued(border: Border) -> bool:
    """Tell whether two sentences stand here without a space: the second begins with a word that opens sentences."""
    whole = border.text[max(border.start, border.at - 60) : border.at].rsplit(None, 1)
    is_address = not whole or not whole[-1].lstrip("\"'([“‘«").isalpha()
    return not is_address and (border.marks == "?" or opens(border.after, border.tables))


def _is_weak(border: Border) -> bool:
    """Tell whether a semicolon ends a sentence: before a word that opens sentences."""
    return opens(border.after, border.tables) and _bracket(border) is None


KINDS = {"narrow": _ends, "glued": _is_glued, "weak": _is_weak}


def _wide_end(text: str, start: int, match: re.Match[str]) -> int:
    """Return where a sentence ends behind a stop of a script without spaces; 0 where none does.

    A straight quote belongs to it only if it closes one that it opened.
    """
    end = match.end()
    if brackets.is_inside(text, start, end, brackets.WIDE):
        return 0
    for quote in "\"'":
        at = text.find(quote, match.start(), end)
        if at >= 0 and text.count(quote, start, at) % 2 == 0:
            end = at
    behind = end
    while text[behind : behind + 1].isspace():
        behind += 1
    if reporting.closes_speech(text, end) and reporting.is_clause(text, behind):
        return 0
    return end
