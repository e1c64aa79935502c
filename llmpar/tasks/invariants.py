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
from collections.abc import Iterator
from dataclasses import dataclass

_MOST_SPELLED_OUT = 31
_HTML = (
    "a|abbr|b|big|br|cite|code|del|div|em|font|h[1-6]|hr|i|img|ins|kbd|li|mark|ol|p|pre|q|samp|small|span|strike|strong"
    "|sub|sup|table|tbody|td|th|thead|tr|tt|u|ul|var|wbr"
)
_VERBATIM = re.compile(
    r"""
    (?<!`)`[^`\n]+`(?!`)                                                        # code
    | (?:\bhttps?|\bftp)://[!-;=?-\[\]_a-z~]+ | \bwww\.[!-;=?-\[\]_a-z~]+       # an address, as far as it is ASCII
    | (?<![\w.+-])[A-Za-z0-9_.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+            # an e-mail address
    | \$?\{\{[^{}\n]{1,80}\}\} | \$\{[^{}\n]{1,80}\} | \{[^{}\s]{0,80}\}        # {{x}}, ${VAR}, {name}
    | (?<![\w$])\$[A-Za-z_][A-Za-z0-9_]*                                        # $VAR
    | (?<![\d%])%(?:\([A-Za-z0-9_]{1,80}\)|\d{1,2}\$)?[-+0\#]?\d{0,3}(?:\.\d{1,3})?[sdifgxXuc@](?![A-Za-z0-9])
    | (?P<tag></?(?:HTML|\d{1,2})(?=[\s/>]))                                    # <b>; what it holds is read on its own
    """.replace("HTML", _HTML),
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_GROUP = r"[.,'’٬，\u00a0\u202f\u2009\ ]"
_NUMBER = re.compile(
    rf"""
    (?<!\d[.,'’])(?P<whole>
        \d{{1,3}}(?P<group>{_GROUP})\d{{3}}(?!\d)(?:(?P=group)\d{{3}}(?!\d))*   # 1,234,567; 1 234 567
        | \d{{1,2}}(?:,\d{{2}})+,\d{{3}}(?!\d)                                  # 12,34,567
        | \d+
    )(?P<decimals>[.,٫．]\d+)?(?!\d|[.,'’]\d)
    (?!\s?(?:uhr|[ap]\.?m|h|uur|klo?)\b)                                        # 17.30 Uhr
    | \d+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_DAY_AND_MONTH = re.compile(r"0?[1-9]\.(?:0?[1-9]|1[0-2])|[12]\d\.(?:0?[1-9]|1[0-2])|3[01]\.(?:0?[1-9]|1[0-2])")
_PERCENT = re.compile(r"\s?[%％٪]")
_SCALE = re.compile(
    r"[\s-]?(?:thousand|m(?:ill?i|iljo|ilyo|ili)|mio\b|mln\b|mrd\b|mld\b|b(?:ill|ilj|ilh|n\b)|tr(?:ill|ily)|lakh|crore"
    r"|tausend|mill?e|mil\b|tys|тыс|млн|млрд|милли|трлн|मिलियन|लाख|करोड़|مليون|مليار|ألف|[十百千万萬億亿兆천만억백])",
    re.IGNORECASE,
)
_AFTER_ADDRESS = ".,;:!?)]}>*'\""


@dataclass(frozen=True, slots=True)
class _Invariant:
    shown: str
    forms: tuple[str, ...]  # what stands for it in an answer: the first is enough, as are all others together
    rounded: str = ""  # of a number, its digits without the last zeros
    is_scaled: bool = False


def find_lost(source: str, answer: str) -> str | None:
    """Return the first thing in `source` that must survive and is not in `answer` as often, None if all are there."""
    wanted = [invariant for invariant in _invariants(source) if invariant.forms]
    if not wanted:
        return None
    present: Counter[str] = Counter()
    rounded: Counter[str] = Counter()
    scaled: Counter[str] = Counter()
    for invariant in _invariants(answer, every=True):
        present.update(set(invariant.forms))
        if invariant.rounded:
            rounded[invariant.rounded] += 1
            scaled[invariant.rounded] += invariant.is_scaled
    for invariant in wanted:
        whole, *parts = invariant.forms
        supply = rounded if invariant.is_scaled else scaled
        if present[whole] > 0:
            present[whole] -= 1
        elif parts and all(present[part] > 0 for part in parts):
            present.subtract(parts)
        elif supply[invariant.rounded] > 0:
            supply[invariant.rounded] -= 1
        else:
            return invariant.shown
    return None


def without_verbatim(text: str) -> str:
    """Return a text with a space for each address, code span, placeholder and tag."""
    return _VERBATIM.sub(" ", text)


def _invariants(text: str, *, every: bool = False) -> Iterator[_Invariant]:
    """Yield what must survive, in order; with `every`, also the numbers that do not count."""
    start = 0
    for match in _VERBATIM.finditer(text):
        yield from _numbers(text, start, match.start(), every)
        start = match.end()
        token = match[0]
        if match["tag"]:
            yield _Invariant(f"{token}>", (token.lower(),))
        else:
            token = token.rstrip(_AFTER_ADDRESS) if "://" in token or token[:4].lower() == "www." else token
            yield _Invariant(token, (token,))
    yield from _numbers(text, start, len(text), every)


def _numbers(text: str, start: int, end: int, every: bool) -> Iterator[_Invariant]:
    for match in _NUMBER.finditer(text, start, end):
        digits = _digits(match[0])
        is_day = text.startswith(".", match.end()) and _DAY_AND_MONTH.fullmatch(match[0])
        parts = [
            part for part in map(_digits, re.findall(r"\d+", match[0])) if every or int(part[-9:]) > _MOST_SPELLED_OUT
        ]
        if is_day:
            yield from (_Invariant(part, (part,)) for part in parts)
            continue
        is_exact = len(digits) < len(match[0])  # it has signs that set groups or decimals apart
        small = len(digits) < 3 and int(digits) <= _MOST_SPELLED_OUT
        is_percent = len(digits) > 1 and bool(_PERCENT.match(text, match.end(), end))
        is_scaled = bool(_SCALE.match(text, match.end(), end))
        if every or is_exact or is_percent or not small:
            # In an answer, the parts of a number can also be those of a date.
            forms = (digits, *parts) if every else (digits,)
            yield _Invariant(match[0], forms, digits.strip("0") or "0", is_scaled)


def _digits(number: str) -> str:
    """Return the digits of a number in any script as ASCII ones, without zeros in front."""
    digits = "".join(str(unicodedata.decimal(char)) for char in number if char.isdecimal())
    return digits.lstrip("0") or "0"
