"""Finds the places where a sentence may end. One regular expression goes through the text, one more looks behind."""

from __future__ import annotations

import re

from llmpar.documents.sentences.border import Border
from llmpar.documents.sentences.tables import Tables

# Chinese and Japanese; Arabic and Urdu; Devanagari; Armenian; Ethiopic; Burmese; Khmer; Tibetan; Mongolian; Thai ๚๛.
_STOPS = "。！？｡؟۔।॥։።፧፨။៕។༎།᠃᠉๚๛"
_CLOSERS = "」』”’）》】〉〕］｝\"'»›)\\]"
# A colon may be typed for the Armenian full stop. An ellipsis, or a Latin mark typed after a wide character, ends a
# sentence only in text without spaces.
_WIDE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TAIL = rf"[{_CLOSERS}]*(?:[*_~`]+(?=\s|$))?"
_WIDE_END = (
    rf"(?:(?<=[{_STOPS}])[{_STOPS}!?…]*|(?<=[{_WIDE}][!?…⋯])[!?…⋯]*[{_STOPS}!?…]*|(?<=[\u0561-\u0587]:)(?=\s|$))"
    rf"{_TAIL}"
)
# Marks, and what closes behind them. Marks may go on after a space ("wait . . ."), and a guillemet may follow one.
# Each character can be matched in one way only, and few are taken at a time: the time grows with the length.
_BEHIND = r"[.!?…‽\"'”’»›“‘«‹)\]}」』】》〉）*_~`]{0,40}"
_SPACED = r"[ \u00a0\u202f](?:[.!?…](?=[\s.!?…]|\Z)|[»›](?=[\s,.;:!?)\]]|\Z))"
_CITED = r"(?:\[\d{1,3}(?:[,–-] ?\d{1,3}){0,9}\]|[¹²³⁰⁴-⁹]){0,9}"
_NARROW_END = rf"(?<=[.!?…‽]){_BEHIND}(?:{_SPACED}{_BEHIND})*{_CITED}(?=\s)"
# "Really?Nobody knows.The end.": two words of letters, with nothing between them but a mark.
_GLUED_END = r"(?<=[a-zß-ÿ][a-zß-ÿ][.!?])(?=[A-ZÀ-Þ][a-zß-ÿ]*[\s,])"
# A semicolon is a weak stop: the next word must say that a sentence begins.
_WEAK_END = r"(?<=;)(?=\s+[¿¡]?[^\W\d_a-z])"

# All begin with one set of characters, and look back from behind it: so nothing else of the text is looked at twice.
END = re.compile(
    rf"[.!?…‽;:⋯{_STOPS}](?:(?P<wide>{_WIDE_END})|(?P<narrow>{_NARROW_END})|(?P<glued>{_GLUED_END})|(?P<weak>{_WEAK_END}))"
)
"""Matches where a sentence may end, and says by the name of its last group what kind of place that is."""
GREEK_END = re.compile(END.pattern.replace("[.!?…‽", "[.!?…‽;\u037e"))
"""The same for Greek, whose question mark looks like a semicolon."""

_NEXT = re.compile(r"\s*([^\w\s]{0,20}(?:\s+(?=\w))?)((?:\w[^\s\"”»“,;:!?)\]}…]*)?)")
_MARKS = re.compile(r"[.!?…‽;\u037e]+")
_CITATIONS = re.compile(r"\[\d[^\]]*\]|[¹²³⁰⁴-⁹]")
_ALL_MARKS = ".!?…‽;\u037e \u00a0\u202f"
_BEFORE = 48  # characters in which the word before a mark is looked for
_OPENERS = "([{«»„“”‘’‚‹›\"'*_~`¿¡-–—"


def border_at(text: str, tables: Tables, start: int, match: re.Match[str]) -> Border | None:
    """Return the border at a match of `END` in a script with spaces, None at the end of the text.

    Args:
        text: all of it.
        tables: those of its language.
        start: where the sentence begins.
        match: what `END` found.
    """
    at, end = match.span()
    behind = _NEXT.match(text, end)
    if behind is None or behind.start(1) == len(text):
        return None
    found = match[0]
    marks, closers = found, ""
    if len(found) > 1:
        marks = "".join(_MARKS.findall(found))
        closers = _CITATIONS.sub("", found).strip(_ALL_MARKS)
    words = text[max(start, at - _BEFORE) : at].rsplit(None, 1)
    word = words[-1].lstrip(_OPENERS) if words else ""
    return Border(text, tables, start, at, end, behind.start(1), marks, closers, behind[1], word, behind[2])
