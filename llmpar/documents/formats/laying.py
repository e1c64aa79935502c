"""An answer over several places: how much of it goes to each, in proportion to what stands there now."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from llmpar.documents.document import Segment
from llmpar.documents.layout import words_of

_CLAUSE_ENDS = ".,;:!?…。，、；：！？"
_WORTH = 6  # characters that a cut may lie off its place, to come behind a clause's end as it does in the source


def lay(answer: str, sources: Sequence[str]) -> list[str]:
    """Return an answer's parts, one for each of several texts that together were its source.

    The answer is cut between words, and next to a sign where the source is cut so. While it has enough words, no part
    is empty. A space before a part stays where the source has none.

    Args:
        answer: the answer, whose line breaks are spaces.
        sources: the texts, each with the space that parts it from the one before.
    """
    text = " ".join(answer.split())
    places = _places(text, beside_signs=any(not source[:1].isspace() for source in sources[1:]))
    total = sum(map(len, sources)) or 1
    cuts = [0]
    position, first = 0, 0
    for number, source in enumerate(sources[:-1]):
        position += len(source)
        last = len(places) - (len(sources) - 2 - number)  # places are left for the cuts that follow
        among = places[first : max(last, first + 1)]
        if not among:
            cuts.append(len(text))
            continue
        ends_clause = source.rstrip()[-1:] in _CLAUSE_ENDS
        chosen = _nearest(text, among, position * len(text) / total, ends_clause=ends_clause)
        first += bisect_left(among, chosen) + 1
        cuts.append(chosen)
    parts = [text[start:end].rstrip() for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]
    return [part.lstrip() if source[:1].isspace() else part for part, source in zip(parts, sources, strict=True)]


def composed(segment: Segment, texts: Sequence[str]) -> str:
    """Return what stands in a segment's target when texts are laid over its parts; what lies between is copied."""
    start, _ = segment.target or (segment.start, segment.end)
    written = []
    for (begin, end), text in zip(segment.parts, texts, strict=True):
        written += [segment.block.text[start:begin], text]
        start = end
    return "".join(written)


def laid(
    segment: Segment, answer: str, write: Callable[[str, int], str], column: int, measure: Callable[[str], int]
) -> list[str]:
    """Return what is written in each part of a segment when an answer is laid over them.

    Args:
        segment: what was asked about.
        answer: the answer.
        write: returns a part as it stands in its place, given the cells that are taken on the line there.
        column: the cells that are taken on the first part's line.
        measure: returns the cells of what stands on a line.
    """
    text = segment.block.text
    ends = [segment.parts[0][0], *(end for _, end in segment.parts[:-1])]
    sources = [text[end:stop] for end, (_, stop) in zip(ends, segment.parts, strict=True)]
    shares = [_share(source, text[slice(*part)]) for source, part in zip(sources, segment.parts, strict=True)]
    written: list[str] = []
    for (start, _), before, part in zip(segment.parts, ends, lay(answer, shares), strict=True):
        gap = text[before:start]
        newline = max(gap.rfind("\n"), gap.rfind("\r"))
        column = measure(gap[newline + 1 :]) + (0 if newline >= 0 else column)
        space = " " if part[:1] == " " and not text[:before].endswith(("\n", "\r")) else ""
        filled = write(part.strip(), column + len(space))
        written.append(filled if filled.startswith(("\n", "\r")) or not filled else space + filled)
        lines = written[-1].splitlines() or [""]
        column = measure(lines[-1]) + (0 if len(lines) > 1 else column)
    return written


def _share(source: str, said: str) -> str:
    """Return what a part says, after a space if it does not follow the one before at once."""
    gap = source[: len(source) - len(said)]
    return f" {said}" if any(char.isspace() for char in gap) else said


def _places(text: str, *, beside_signs: bool) -> list[int]:
    """Return where a text may be cut: where a line may be broken, and on request before signs that end a word."""
    found = set()
    at = 0
    for word in words_of(text)[:-1]:
        at += len(word)
        found.add(at)
    if beside_signs:
        for at in range(1, len(text)):
            ends_word = text[at - 1].isalnum() and not text[at].isalnum() and not text[at].isspace()
            if ends_word and not text[at + 1 : at + 2].isalnum():
                found.add(at)
    return sorted(found)


def _nearest(text: str, places: Sequence[int], ideal: float, *, ends_clause: bool) -> int:
    """Return the place that lies best: near the ideal one, and behind a clause's end if the source has one there."""

    def cost(place: int) -> float:
        is_end = text[:place].rstrip()[-1:] in _CLAUSE_ENDS if place else False
        return abs(place - ideal) - (_WORTH if ends_clause and is_end else 0)

    near = bisect_left(places, ideal)
    return min(places[max(near - 20, 0) : near + 20], key=cost)
