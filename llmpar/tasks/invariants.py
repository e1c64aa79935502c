"""What must survive a translation as it is: numbers, addresses, code, placeholders, tags. Knows no language.

A number is compared by its digits, whatever sets its groups and its decimals apart. A whole number up to 31 does not
count but before a percent sign: translations spell it out, write it in Roman numerals, or turn it into another hour,
day or month. Of a date, a time or a version each part is a number for itself. Before a word such as million a number
is compared without its last zeros. The rest must come back to the letter, as often as it was there; of a tag, its name.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmpar.documents.placeholders import ADDRESS, AFTER_ADDRESS, MAIL, PLACEHOLDER

_MOST_SPELLED_OUT = 31
_HTML = (
    "a|abbr|b|big|br|cite|code|del|div|em|font|h[1-6]|hr|i|img|ins|kbd|li|mark|ol|p|pre|q|samp|small|span|strike|strong"
    "|sub|sup|table|tbody|td|th|thead|tr|tt|u|ul|var|wbr"
)
_VERBATIM = re.compile(
    r"""
    (?<!`)`[^`\n]+`(?!`)                                                        # code
    | (?P<address>ADDRESS) | MAIL | PLACEHOLDER
    | (?P<tag></?(?:HTML|\d{1,2})(?=[\s/>]))                                    # <b>; what it holds is read on its own
    """.replace("HTML", _HTML)
    .replace("ADDRESS", ADDRESS)
    .replace("MAIL", MAIL)
    .replace("PLACEHOLDER", PLACEHOLDER),
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_GROUP = r"[.,'’٬，\u00a0\u202f\u2009\ ]"
_NUMBER = re.compile(
    rf"""
    (?<!\d[.,'’])(?:
        \d{{1,3}}(?P<group>{_GROUP})\d{{3}}(?!\d)(?:(?P=group)\d{{3}}(?!\d))*   # 1,234,567; 1 234 567
        | \d{{1,2}}(?:,\d{{2}})+,\d{{3}}(?!\d)                                  # 12,34,567
        | \d+
    )(?:[.,٫．]\d+)?(?!\d|[.,'’]\d)
    | \d+                                                                      # part of a date or a version
    """,
    re.VERBOSE,
)
DAY_AND_MONTH = re.compile(r"0?[1-9]\.(?:0?[1-9]|1[0-2])|[12]\d\.(?:0?[1-9]|1[0-2])|3[01]\.(?:0?[1-9]|1[0-2])")
"""A day and a month, such as 24.12."""
_RUN = re.compile(r"\d+")
_PERCENT = re.compile(r"\s?[%％٪]")
SCALE = re.compile(
    r"[\s-]?(?:thousand|tausend|mil\b|mille\b|tys|тыс|mill?i[oa]|mill[oó]n|milh|milj[ao]|mily[oa]|miliju|mio\b|mln\b|mrd\b"
    r"|mld\b|bill?io|bilh|bilj|bily|trill?i|trilh|trily|lakh|crore|милли|млн|млрд|трил|трлн|लाख|करोड़|मिलियन|ألف|مليون|مليار"
    r"|[十百千万萬億亿兆천만억백])|k\b|bn\b",
    re.IGNORECASE,
)
"""What stands after a number and multiplies it by a power of ten."""
_MOST_SHOWN = 60  # characters


@dataclass(frozen=True, slots=True)
class Invariant:
    """Something that must survive, or whose number must come from somewhere."""

    shown: str
    form: str  # by which it is recognised
    parts: tuple[str, ...] = ()  # of a number, its runs of digits: 12.30 may come back as 12:30
    rounded: str = ""  # of a number, its digits without the last zeros
    is_scaled: bool = False
    counts: bool = True

    @property
    def is_number(self) -> bool:
        """Whether it is a number that stands in no address, code span, placeholder or tag."""
        return self.form.isdecimal()


def find_lost(source: str, answer: str) -> str | None:
    """Return the first thing in `source` that must survive and is not in `answer` as often, None if all are there."""
    return first_lost(invariants_in(source), invariants_in(answer))


def first_lost(source: Iterable[Invariant], answer: Iterable[Invariant]) -> str | None:
    """Return what `find_lost` does, of texts whose invariants are found already."""
    wanted = [invariant for invariant in source if invariant.counts]
    if not wanted:
        return None
    present: Counter[str] = Counter()
    rounded: Counter[str] = Counter()
    scaled: Counter[str] = Counter()
    for invariant in answer:
        present.update({invariant.form, *invariant.parts})
        if invariant.rounded:
            rounded[invariant.rounded] += 1
            scaled[invariant.rounded] += invariant.is_scaled
    for invariant in wanted:
        supply = rounded if invariant.is_scaled else scaled
        if present[invariant.form] > 0:
            present[invariant.form] -= 1
        elif invariant.parts and all(present[part] > 0 for part in invariant.parts):
            present.subtract(invariant.parts)
        elif supply[invariant.rounded] > 0:
            supply[invariant.rounded] -= 1
        else:
            shown = invariant.shown
            return shown if len(shown) <= _MOST_SHOWN else shown[:_MOST_SHOWN] + "…"
    return None


def without_verbatim(text: str) -> str:
    """Return a text with a space for each address, code span and placeholder, and for the names of tags."""
    return _VERBATIM.sub(" ", text)


def invariants_in(text: str) -> Iterator[Invariant]:
    """Yield what must survive of a text, and what would if its number were larger, in the order of the text."""
    start = 0
    for match in _VERBATIM.finditer(text):
        yield from _numbers_between(text, start, match.start())
        start = match.end()
        token = match[0]
        if match["tag"]:
            yield Invariant(f"{token}>", token.lower())
        else:
            token = token.rstrip(AFTER_ADDRESS) if match["address"] else token
            yield Invariant(token, token)
    yield from _numbers_between(text, start, len(text))


def _numbers_between(text: str, start: int, end: int) -> Iterator[Invariant]:
    for match in _NUMBER.finditer(text, start, end):
        number = match[0]
        parts = tuple(map(_digits, _RUN.findall(number)))
        digits = "".join(parts)
        if len(parts) == 2 and text.startswith(".", match.end()) and DAY_AND_MONTH.fullmatch(number):
            # "am 24.12. abends"
            yield from (Invariant(part, part, counts=not _is_small(part)) for part in parts)
            continue
        percent = len(digits) > 1 and _PERCENT.match(text, match.end(), end)
        yield Invariant(
            number,
            digits,
            parts if len(parts) > 1 else (),
            digits.strip("0") or "0",
            bool(SCALE.match(text, match.end(), end)),
            counts=len(parts) > 1 or bool(percent) or not _is_small(digits),
        )


def _digits(run: str) -> str:
    """Return digits of any script as ASCII ones."""
    return run if run.isascii() else "".join(str(unicodedata.decimal(char)) for char in run)


def _is_small(digits: str) -> bool:
    return len(digits) < 3 and int(digits) <= _MOST_SPELLED_OUT
