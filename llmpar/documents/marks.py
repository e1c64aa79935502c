"""Markup inside a sentence → short numbered marks that a model keeps, and the markup in their places again.

A pair becomes <1>…</1>, what stands alone <2/>. Tools for translation (XLIFF's <g id="1"> and <x id="2"/>, and what the
services of DeepL and Google take) write tags in angle brackets, so that models have read such texts, and know that
words move while tags stay around theirs. A number without a name is the shortest form (three tokens with nearly every
vocabulary), asks nobody to translate a name, and tells which markup it was. Brackets of other scripts are several
tokens each for models that know bytes, and what a small model has not read it drops.

A text may hold what looks like a mark. Then the numbers of its marks begin above all that it holds itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_FIXED = re.compile(r"\{%|</?[A-Za-z][\w.-]*[\s/>]")
_SHAPE = re.compile(r"<[ ]?(/?)[ ]?(\d{1,6})[ ]?(/?)[ ]?>")


@dataclass(frozen=True, slots=True)
class Mark:
    """What a mark stands for: markup as it is written in the document.

    Args:
        number: of the mark.
        opening: the markup, or what opens it.
        closing: what closes it; None for what stands alone.
    """

    number: int
    opening: str
    closing: str | None = None

    @property
    def opens(self) -> str:
        """The mark in a text, or the one that opens."""
        return f"<{self.number}/>" if self.closing is None else f"<{self.number}>"

    @property
    def closes(self) -> str:
        """The mark that closes, "" for what stands alone."""
        return "" if self.closing is None else f"</{self.number}>"


@dataclass(frozen=True, slots=True)
class Place:
    """A mark in a text: the characters `start` to `end`.

    Args:
        mark: which.
        start: in characters from the text's start.
        end: the same.
        is_closing: whether it closes.
    """

    mark: Mark
    start: int
    end: int
    is_closing: bool = False

    @property
    def is_fixed(self) -> bool:
        """Whether it must stay before and behind others of its kind: statements of templates, tags without a pair."""
        return self.mark.closing is None and bool(_FIXED.match(self.mark.opening))

    @property
    def form(self) -> str:
        """How it is written."""
        return self.mark.closes if self.is_closing else self.mark.opens

    @property
    def markup(self) -> str:
        """What it stands for."""
        return (self.mark.closing or "") if self.is_closing else self.mark.opening


def first_number(text: str) -> int:
    """Return the number of a text's first mark: no mark of its own is in the text already."""
    return 1 + max((int(match[2]) for match in _SHAPE.finditer(text)), default=0)


def find_marks(text: str, marks: tuple[Mark, ...]) -> Iterator[Place]:
    """Yield the marks in a text, in order. Blanks in a mark do not matter, nor does <2> for <2/>."""
    if not marks:
        return
    known = {mark.number: mark for mark in marks}
    for match in _SHAPE.finditer(text):
        mark = known.get(int(match[2]))
        if mark is None or (mark.closing is None and match[1]) or (mark.closing is not None and match[3]):
            continue
        yield Place(mark, match.start(), match.end(), bool(match[1]))


def marks_in(text: str, first: int) -> tuple[Mark, ...]:
    """Return the marks that a text has, of which nobody knows any longer what they stand for.

    Args:
        text: the text.
        first: the number of its first mark: what looks like a lower one is text. 0 if there is none.
    """
    found: dict[int, Mark] = {}
    for match in _SHAPE.finditer(text) if first else ():
        number = int(match[2])
        if number >= first:
            found[number] = Mark(number, "", None if match[3] else "")
    return tuple(found.values())


def split_at_marks(text: str, marks: tuple[Mark, ...]) -> Iterator[str | Place]:
    """Yield what a text is made of: texts, none of which is empty, and marks."""
    at = 0
    for place in find_marks(text, marks):
        if at < place.start:
            yield text[at : place.start]
        yield place
        at = place.end
    if at < len(text):
        yield text[at:]


def without_marks(text: str, marks: tuple[Mark, ...]) -> str:
    """Return a text without its marks."""
    return "".join(part for part in split_at_marks(text, marks) if isinstance(part, str)) if marks else text


def restored(text: str, marks: tuple[Mark, ...]) -> str:
    """Return a text with the markup in the places of its marks."""
    if not marks:
        return text
    return "".join(part if isinstance(part, str) else part.markup for part in split_at_marks(text, marks))


def show_marks(text: str, marks: tuple[Mark, ...]) -> str:
    """Return the marks in a text as a prompt lists them, "" for none."""
    return ", ".join(place.form for place in find_marks(text, marks)) if marks else ""


def find_lost_mark(source: str, answer: str, marks: tuple[Mark, ...]) -> str | None:
    """Return what is wrong with the marks in an answer, as the end of "the answer …"; None if all is well.

    Each mark of the source must be there once, around something if it was, and in the same pair as it was.

    Args:
        source: the text that was asked about; it may be a part of one, in which a pair is torn.
        answer: the answer.
        marks: the source's.
    """
    if not marks:
        return None
    wanted, found = list(find_marks(source, marks)), list(find_marks(answer, marks))
    counts = Counter(place.form for place in found)
    for place in wanted:
        if counts[place.form] != 1:
            return f"has mark {place.form} {counts[place.form]} times" if counts[place.form] else f"lost {place.form}"
    if len(found) > len(wanted):
        known = {place.form for place in wanted}
        return f"has mark {next(place.form for place in found if place.form not in known)}, which its source has not"
    strange = _strange(answer, marks) - _strange(source, marks)
    if strange:
        return f"has mark {min(strange)}, which its source has not"
    if [place.form for place in wanted if place.is_fixed] != [place.form for place in found if place.is_fixed]:
        return "has marks in another order that stand for what begins and ends"
    before, after = _parents(wanted), _parents(found)
    if after is None:
        return "has marks that cross each other"
    for number, parent in (before or {}).items():
        if after.get(number) != parent:
            return f"has mark {number} in another pair than its source"
    for number in _hollow(answer, found) - _hollow(source, wanted):
        return f"has nothing in mark {number}"
    return None


def _strange(text: str, marks: tuple[Mark, ...]) -> Counter[str]:
    known = {(place.start, place.end) for place in find_marks(text, marks)}
    return Counter(match[0] for match in _SHAPE.finditer(text) if match.span() not in known)


def _parents(places: list[Place]) -> dict[int, int] | None:
    """Return the pair that each mark stands in, 0 for none, torn pairs left out; None if some cross each other."""
    counts = Counter(place.mark.number for place in places)
    parents: dict[int, int] = {}
    opened: list[int] = []
    for place in places:
        number = place.mark.number
        is_torn = place.mark.closing is not None and counts[number] != 2
        if place.is_closing and not is_torn:
            if not opened or opened.pop() != number:
                return None
        else:
            parents[number] = opened[-1] if opened else 0
            if place.mark.closing is not None and not is_torn:
                opened.append(number)
    return parents


def _hollow(text: str, places: list[Place]) -> set[int]:
    """Return the numbers of the pairs that have nothing in them."""
    return {
        first.mark.number
        for first, second in pairwise(places)
        if first.mark is second.mark and second.is_closing and not text[first.end : second.start].strip()
    }
