"""No sentence ends inside of a bracket that closes soon."""

from __future__ import annotations

from llmpar.documents.sentences.border import REACH

NARROW = (("(", ")"), ("[", "]"))
WIDE = (("（", "）"), ("《", "》"), ("〈", "〉"), ("【", "】"), ("(", ")"))
_LONGEST = 200  # characters behind the border in which the bracket must close
_EYES = (":", ";", "=", "8")  # before a bracket they make a face of it


def is_inside(text: str, start: int, end: int, pairs: tuple[tuple[str, str], ...]) -> bool:
    """Tell whether a bracket is open at `end` that was opened in the sentence from `start` on, and closes soon."""
    start = max(start, end - REACH)
    for opening, closing in pairs:
        at = text.rfind(opening, start, end)
        if at >= 0 and text.rfind(closing, at, end) < 0 and text[at - 1 : at] not in _EYES:
            closed = text.find(closing, end, end + _LONGEST)
            # Another that opens before may be what is closed there.
            if closed >= 0 and text.find(opening, end, closed) < 0:
                return True
    return False


def closes_within(text: str, start: int, end: int) -> bool:
    """Tell whether what ends here is a bracket that was opened in the middle of the sentence from `start` on."""
    for opening, closing in WIDE[:-1]:
        if text[end - 1] == closing:
            at = text.rfind(opening, max(start, end - REACH), end)
            return bool(text[start:at].strip()) if at > start else False
    return False
