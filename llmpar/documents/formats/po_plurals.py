"""Plural forms of a catalogue: how many a language has, and for which numbers each is.

The rule is the catalogue's own (its Plural-Forms), which Python's gettext reads; else Babel's (BSD) for the language.
"""

from __future__ import annotations

import gettext
import re
from dataclasses import dataclass

_RULE = re.compile(
    r"^Plural-Forms:[ \t]*nplurals[ \t]*=[ \t]*(\d{1,2})[ \t]*;[ \t]*plural[ \t]*=([^;]*);?", re.MULTILINE
)
_LANGUAGE = re.compile(r"^Language:[ \t]*([A-Za-z]{2,3}(?:[_-]\w+)*)", re.MULTILINE)
_UNSET = (r'"Plural-Forms: nplurals=INTEGER; plural=EXPRESSION;\n"', r'"Language: \n"')  # as templates have them
_MOST_FORMS = 8  # Arabic has 6
_TRIED = 200  # numbers from 0 on, by which it is known what a form is for
_PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[-+ #0]*[\d.$*]*[a-zA-Z]|\{[^{}]*\}")


@dataclass(frozen=True, slots=True)
class Plurals:
    """The plural forms of a language: how many there are, and those that are for no other number than 1 (and 0)."""

    count: int
    of_one: frozenset[int]

    def source(self, form: int, singular: str, plural: str) -> str:
        """Return which of two messages a form is a translation of.

        The singular often has no place for a number. It will do for a form that is for 1 alone.
        """
        if form in self.of_one:
            return singular
        is_counted = sorted(_PLACEHOLDER.findall(singular)) == sorted(_PLACEHOLDER.findall(plural))
        return singular if form == 0 and self.count > 1 and is_counted else plural


def plurals_of(header: str, tag: str) -> Plurals | None:
    """Return a catalogue's plural forms; None if nothing says them.

    Args:
        header: what the catalogue says of itself.
        tag: of the language that it is translated into (BCP 47), "" if nobody says it.
    """
    if rule := _RULE.search(header):
        return _by_rule(int(rule[1]), rule[2].strip())
    language = _LANGUAGE.search(header)
    known = _known(tag or (language[1] if language else ""))
    return _by_rule(*known) if known else None


def with_language(text: str, tag: str) -> str:
    """Return a catalogue whose header says the language, and its plural forms, where a template leaves them open."""
    known = _known(tag)
    if known is None:
        return text
    count, rule = known
    for unset, said in zip(
        _UNSET, (f"Plural-Forms: nplurals={count}; plural={rule};", f"Language: {tag}"), strict=True
    ):
        text = text.replace(unset, f'"{said.replace("-", "_") if said.startswith("L") else said}\\n"', 1)
    return text


def _known(tag: str) -> tuple[int, str] | None:
    from babel.messages.plurals import PLURALS

    parts = re.split(r"[-_]", tag)
    for length in range(len(parts), 0, -1):
        if found := PLURALS.get("_".join(parts[:length])):
            return _usual(*found)
    return None


def _usual(count: int, rule: str) -> tuple[int, str]:
    """Return a rule without the form that some languages have for whole millions, as gettext's catalogues have it."""
    used = set(map(gettext.c2py(rule), range(1000)))
    return (2, f"({rule}) != 0") if len(used) == 2 < count else (count, rule)


def _by_rule(count: int, rule: str) -> Plurals | None:
    if not 1 <= count <= _MOST_FORMS:
        return None
    try:
        form_of = gettext.c2py(rule)
        numbers: dict[int, set[int]] = {}
        for number in range(_TRIED):
            numbers.setdefault(form_of(number), set()).add(number)
    except (ValueError, RecursionError, ArithmeticError):  # how many there are is said all the same
        return Plurals(count, frozenset({0}))
    return Plurals(count, frozenset(form for form, those in numbers.items() if 1 in those and those <= {0, 1}))
