"""What stands behind a sentence's end and belongs to it: citations, emoji, a quote that stands free."""

from __future__ import annotations

import re

from llmpar.documents.sentences.border import REACH, Border

_CITATION = re.compile(r"\s*(?:\[\d{1,3}(?:[,–-]\s?\d{1,3})*\]|[¹²³⁴-⁹]+)+(?=\s|\Z)")
# Faces and pictures, if a space or the end follows them.
_EMOJI = re.compile(
    r"(?:\s+(?:[\u2190-\u21ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff][\ufe0f\u200d\u20e3\U0001f000-\U0001faff]*"
    r"|[:;=8][-'^o]?[()DPp*|/\\\[\]]+|<3|\^_*\^))+(?=\s|\Z)"
)
_SPACE = re.compile(r"\s*")
_FREE = ('"', "'", "”", "“", "»", "«")


def tail(border: Border) -> None:
    """Move a border behind what belongs to the sentence that ends there."""
    text = border.text
    if border.opener[:1] in _FREE and border.opener[-1:].isspace() and len(border.opener) == 2:
        quote = border.opener[0]
        start = max(border.start, border.end - REACH)
        opened = text.count(quote, start, border.end) % 2 if quote in "\"'" else quote in "”»"
        if opened:
            border.end = border.next + 1
            border.next += 2
    for pattern in (_CITATION, _EMOJI):
        found = pattern.match(text, border.end)
        if found:
            border.end = found.end()
            space = _SPACE.match(text, border.end)
            border.next = space.end() if space else border.end
