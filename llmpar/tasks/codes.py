"""Codes of letters and digits that a translation leaves as they are: `BS1 6NN`, `A380`, `ISO9001`, `CO2`.

A code is at most five Latin capitals with digits right after them. Those that languages write in their own way are
none: `Q3`, `WW2`, `EU27`, `USD100`. An answer may write a code with a hyphen or a space: `GPT-4` is `GPT4`.
"""

from __future__ import annotations

import re
import unicodedata

_POSTCODE = r"[A-Z]{1,2}\d[A-Z\d]?[-\s]?\d[A-Z]{2}(?![A-Za-z0-9])"
_WANTED = re.compile(rf"(?<![A-Za-z0-9.$€£_/-])(?:{_POSTCODE}|[A-Z]{{1,5}}\d[A-Z\d]{{0,15}}(?![A-Za-z0-9_]))")
_PRESENT = re.compile(rf"(?<![A-Za-z0-9])(?:{_POSTCODE}|[A-Za-z]{{1,5}}[-\u2010\u2011\s]?\d[A-Z\d]{{0,15}})")
_FOREIGN = re.compile(r"[^\W\d_a-zA-Z][-\u2010\u2011\s]?(\d[A-Z\d]{0,15})")
_LETTERS = re.compile("[A-Z]+")
_DIGITS = re.compile(r"[A-Z]+\d+")
# Quarters, halves, wars, unions, pages, ages and sums of money have other letters in other languages.
_TRANSLATED = frozenset(
    {
        *("H", "P", "Q", "R", "S", "T", "U", "Y", "AD", "AM", "BC", "CH", "CHAP", "CY", "EU"),
        *("FAX", "FIG", "FY", "HIV", "NO", "NR", "NUM", "PM", "PP", "TEL", "UE", "UN", "VIH", "VOL", "WW"),
        *("AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "DM", "EUR", "FF", "GBP", "HK", "HKD", "HUF", "INR"),
        *("JPY", "KR", "KRW", "LIT", "MXN", "NOK", "NT", "NZD", "PLN", "RMB", "RS", "RUB", "SEK", "SGD", "TRY"),
        *("US", "USD", "ZAR"),
    }
)
_NAMED_OTHERWISE = frozenset({"B2B", "B2C", "B2G", "F1", "K9"})


def find_lost_code(source: str, answer: str) -> str | None:
    """Return the first code of `source` that `answer` has not, as it was written; None if all are there."""
    found: dict[str, None] = dict.fromkeys(_WANTED.findall(_flat(source)))  # each one time, in their order
    wanted = [(shown, code) for shown in found if _survives(code := _plain(shown))]
    if not wanted:
        return None
    answer = _flat(answer)
    present: set[str] = set()
    for code in map(_plain, {*_PRESENT.findall(answer)}):
        present.add(code)
        if head := _DIGITS.match(code):  # as the letters after it may be an ending: "A380ER"
            present.add(head[0])
    # Other scripts have letters that look the same: the M of "М25" may be a Cyrillic one.
    foreign = {*_FOREIGN.findall(answer)}
    for shown, code in wanted:
        if code not in present and _LETTERS.sub("", code, count=1) not in foreign:
            return shown
    return None


def _survives(code: str) -> bool:
    letters = _LETTERS.match(code)
    return letters is not None and letters[0] not in _TRANSLATED and code not in _NAMED_OTHERWISE


def _plain(code: str) -> str:
    return "".join(char for char in code if char.isalnum()).upper()


def _flat(text: str) -> str:
    """Return a text with digits of all scripts, and those below the line, as ASCII ones."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.digit(char)) if char.isdigit() else char for char in text)
