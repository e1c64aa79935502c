"""A quotation inside of a sentence that goes on behind it is not taken apart: He said "Stop. Now." and left."""

from __future__ import annotations

import re

from llmpar.documents.sentences.border import REACH, Border

_LONGEST = 160  # characters behind the border in which the quotation must close
# Which side of a quotation a mark stands on, its neighbours say: languages use the same signs in either way.
_QUOTE = re.compile(
    r"(?P<open>(?<![^\s(\[—–-])[\"“”„«»‹›‘'](?=\S)|(?<!\S)«\s)"
    r"|(?P<close>(?<=\S)[\"“”»«›‹](?!\w)|(?<=[.,!?…])['’](?!\w)|\s»(?!\w))"
)
MARK = re.compile('["“”„«»‹›‘]')
"""Finds what may open a quotation, fast."""
_LOW = re.compile(r",?\s+(?:[—–-]+\s*)?(?=[^\W\d_])")
_SHORT = re.compile(r"(?:\w+ ){1,2}\w+[.!?…]+(?=\s|\Z)")
_QUOTED = re.compile(r"[\"“”„«»‹›‘'—–]\s?\w+(?: \w+)?[.!?…]")


def goes_on(border: Border) -> bool | None:
    """Return False inside of a quotation that stands within its sentence; None elsewhere."""
    start = max(border.start, border.end - REACH)
    if not MARK.search(border.text, start, border.at):
        return None
    opened = -1
    for found in _QUOTE.finditer(border.text, start, border.at + 1):
        opened = found.start() if found.lastgroup == "open" else -1
    if opened <= border.start:  # none, or the sentence begins with it
        return None
    if border.closers and _closes(border):
        return None
    for found in _QUOTE.finditer(border.text, border.end, border.end + _LONGEST):
        if found.lastgroup != "close":
            return None
        behind = _LOW.match(border.text, found.end())
        return False if behind and border.text[behind.end()].islower() else None
    return None


def _closes(border: Border) -> bool:
    return any(closer in border.closers for closer in "\"“”»«›‹'’‘")


def is_aside(border: Border) -> bool | None:
    """Return False between a cry of a word or two and the few words that say who cried: "Yes!" He laughed."""
    if not (border.closers and border.goes_on_high) or border.at - border.start > 20 or not _closes(border):
        return None
    if not _QUOTED.match(border.text, border.start) or border.opener.strip():
        return None
    return False if _SHORT.match(border.text, border.next) else None
