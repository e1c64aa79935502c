"""Where sentences begin and end: the borders that the scan finds, what the rules say of each, what belongs together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from llmpar.documents.sentences import abbreviations, brackets, clauses, ellipsis, numbers, quotations, reporting, tails
from llmpar.documents.sentences.border import REACH, Border
from llmpar.documents.sentences.languages import find_language
from llmpar.documents.sentences.punkt import ends, opens
from llmpar.documents.sentences.scan import END, GREEK_END, border_at
from llmpar.documents.sentences.tables import Tables, tables

_WORD = re.compile(r"[^\W_]")
_SIGNS = re.compile('["“”„«»‹›‘(\\[]')  # that open what no sentence may end in


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
    begin, end = -1, -1  # the piece that is held
    joins = False  # it is a label, or has no word: it joins what follows
    for first, last in _found(text, known):
        while last > first and text[last - 1].isspace():
            last -= 1
        while first < last and text[first].isspace():
            first += 1
        if first == last:
            continue
        is_label = last - first <= numbers.LONGEST_LABEL and numbers.is_label(text[first:last])
        if begin >= 0 and ((joins and not is_label) or not _has_word(text, first, last)):
            end = last
        else:
            if begin >= 0:
                if end - begin > clauses.SHORT:
                    yield from clauses.cut(text, begin, end)
                else:
                    yield begin, end
            begin, end = first, last
        joins = (is_label and begin == first) or (
            end - begin <= numbers.LONGEST_LABEL and not _has_word(text, begin, end)
        )
    if begin >= 0:
        yield from clauses.cut(text, begin, end)


def _has_word(text: str, start: int, end: int) -> bool:
    return text[start].isalnum() or _WORD.search(text, start, end) is not None


def _found(text: str, known: Tables) -> Iterator[tuple[int, int]]:
    start = 0
    pattern = GREEK_END if known.language == "greek" else END
    length = len(text)
    for match in pattern.finditer(text):
        at, end = match.span()
        kind = match.lastgroup or ""
        if end - at == 1 and kind == "narrow" and end + 1 < length and _is_plain(text, start, at, known):
            yield start, end
            start = end + 1
            continue
        if kind == "wide":
            end = _wide_end(text, start, match)
            if end:
                yield start, end
                start = end
            continue
        border = border_at(text, known, start, match)
        if border is None or not KINDS[kind](border):
            continue
        if kind == "narrow":
            tails.tail(border)
        yield start, border.end
        start = border.next
    yield start, length


def _is_plain(text: str, start: int, at: int, known: Tables) -> bool:
    """Tell whether no rule can be against a border, as with most: a word that nothing shortens, a mark, a capital.

    Saying so at once makes the whole three times as fast.
    """
    if not ("A" <= text[at + 2] <= "Z" and text[at + 1] == " ") or _SIGNS.search(text, max(start, at - REACH), at):
        return False
    if text[at] != ".":
        return text[at] != "…"
    word = text[text.rfind(" ", start, at) + 1 or start : at]
    return len(word) > 1 and word.isalpha() and word.lower() not in known.suspects


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
        if at >= 0 and text.count(quote, max(start, at - REACH), at) % 2 == 0:
            end = at
    behind = end
    while text[behind : behind + 1].isspace():
        behind += 1
    if brackets.closes_within(text, start, end) or reporting.goes_on_after(text, end, behind):
        return 0
    return end
