"""Numbers of an answer that its source has not. A good translation has few, and they can be told from invented ones.

A number is explained by the digits of the source, by their last two as the end of a year, by a number of 12 hours more
or less, or by a word of the source that says a number. What is left is invented if it is above 31, if it stands for the
minutes of a time, or if it is above 12 and stands where the source has another small number, as in a wrong date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from llmpar.tasks.invariants import DAY_AND_MONTH, SCALE, Invariant
from llmpar.tasks.number_words import count_large, has_any

_AFTER_NUMBER = re.compile(rf"(?<=\d)(?:{SCALE.pattern})", re.IGNORECASE)
_RUN = re.compile(r"\d+")
_MINUTES = re.compile(r"(?<!\d)\d{1,2}\s?(?:h\s?|:|Uhr\s|時|时|点|點|시\s?)(\d{2})(?!\d)", re.IGNORECASE)
_USUAL_MINUTES = frozenset({"0", "15", "30", "45"})  # "half past", "a quarter to"
_USUAL_DECIMALS = frozenset({"0", "5", "25", "75"})  # "one and a half"
_LARGEST_SMALL, _LARGEST_MONTH, _HOURS = 31, 12, 12
_DAY = 24  # "day and night", "midnight"
_WEEKS = frozenset({14, 15})  # "two weeks": "quinze jours"
_MOST_SHOWN = 60  # characters


def may_invent(source: str, answer: str) -> bool:
    """Tell whether an answer has digits that its source has not; most answers have none, and this is quickly seen."""
    return bool(source.strip()) and not {*_RUN.findall(answer)} <= {*_RUN.findall(source)}


def find_invented(source: str, answer: str, there: Iterable[Invariant], here: Iterable[Invariant]) -> str | None:
    """Return the first number of an answer that nothing in its source explains, as it is written, or None.

    Args:
        source: the text that was asked about.
        answer: the answer.
        there: the invariants of the source.
        here: those of the answer.
    """
    known = _Known(source, there)
    most_strange = count_large(_AFTER_NUMBER.sub(" ", source))
    seen: set[str] = set()
    strange: dict[str, str] = {}  # as it is written, by its digits
    small: dict[str, str] = {}
    for number in here:
        if number.shown in seen or not number.is_number:
            continue
        seen.add(number.shown)
        if not known.explains(number):
            (strange if _is_large(number.form) else small).setdefault(number.form, number.shown)
        if len(strange) > most_strange:
            break
    found: str | None = None
    if len(strange) > most_strange:
        found = next(iter(strange.values()))
    elif small and not has_any(source):
        found = _strange_minutes(answer, known, small) or _exchanged(answer, known, small)
    return found if found is None or len(found) <= _MOST_SHOWN else found[:_MOST_SHOWN] + "…"


class _Known:
    """What the numbers of a source explain.

    Args:
        source: the text.
        invariants: what is found in it.
    """

    def __init__(self, source: str, invariants: Iterable[Invariant]) -> None:
        numbers = [invariant for invariant in invariants if invariant.is_number]
        self.runs = {_bare(run) for run in _RUN.findall(source)}
        self._forms = self.runs | {_bare(number.form) for number in numbers}
        self._rounded = {number.rounded for number in numbers}
        self._scaled = {number.rounded for number in numbers if number.is_scaled}
        self.small = {int(run) for run in self.runs if len(run) <= 2 and int(run) <= _LARGEST_SMALL}

    def explains(self, number: Invariant) -> bool:
        """Tell whether a number of an answer, or each of its parts, comes from the source."""
        if number.rounded and number.rounded in (self._rounded if number.is_scaled else self._scaled):
            return True
        if not number.parts:
            return len(_bare(number.form)) == 1 or self._has(number.form)
        if self._has(number.form) or all(map(self._has, number.parts)):
            return True
        if DAY_AND_MONTH.fullmatch(number.shown) and self._has(number.parts[0]):
            return True
        return len(number.parts) == 2 and _bare(number.parts[1]) in _USUAL_DECIMALS and not _is_large(number.parts[0])

    def _has(self, digits: str) -> bool:
        bare = _bare(digits)
        if bare == "0" or bare in self._forms:
            return True
        if len(bare) == 4 and (_bare(bare[2:]) in self._forms if bare[2:] != "00" else self._has(bare[:2])):
            return True  # "'98" is 1998, "5 pm" is 1700
        return len(bare) == 2 and bool({int(bare) - _HOURS, int(bare) + _HOURS} & self.small)


def _strange_minutes(answer: str, known: _Known, small: dict[str, str]) -> str | None:
    for match in _MINUTES.finditer(answer):
        minutes = _bare(match[1])
        if minutes not in known.runs | _USUAL_MINUTES and len(minutes) > 1 and match[1] in small:
            return match[0]
    return None


def _exchanged(answer: str, known: _Known, small: dict[str, str]) -> str | None:
    """Return a small number that stands where the source has another one."""
    present = {*map(_bare, _RUN.findall(answer))}
    hours = {str(value + _HOURS) for value in known.small}
    is_missing = any(str(value) not in present and str(value + _HOURS) not in present for value in known.small)
    for digits, shown in small.items():
        value = int(digits)
        usual = value <= _LARGEST_MONTH or value == _DAY or (value in _WEEKS and 2 in known.small)
        if is_missing and not usual and digits not in hours:
            return shown
    return None


def _bare(digits: str) -> str:
    """Return digits of any script as ASCII ones without the zeros that they begin with."""
    plain = digits if digits.isascii() else "".join(str(int(digit)) for digit in digits)
    return plain.lstrip("0") or "0"


def _is_large(digits: str) -> bool:
    bare = _bare(digits)
    return len(bare) > 2 or int(bare) > _LARGEST_SMALL
