"""A long text of so many words from sample_data/story.txt: `python tests/benchmarks/novel.py 300000 > novel.txt`.

The story is told again and again. Each telling has a cast, places and numbers of its own, drawn by its number, and
each paragraph ends with a remark that counts it: so no paragraph is equal to another, though a sentence without names
and numbers comes back as it was. A paragraph is a line, between blank lines; a heading opens each chapter.
"""

from __future__ import annotations

import argparse
import random
import re
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

STORY = Path(__file__).parents[2] / "sample_data" / "story.txt"
_CHAPTER = 10  # paragraphs

_WOMEN = ("Ines", "Marian", "Ruth", "Hester", "Annie")
_MEN = ("Osgar", "Tom", "Thomas", "Davy", "Paul", "Wilf", "Jory", "Ezra")
_SURNAMES = ("Harrow", "Penn", "Drummond", "Orme", "Teel", "Marsh", "Callow", "Bracken", "Pike")
_PLACES = ("Tollan",)
_OTHERS = {
    _WOMEN: (
        "Agatha", "Beryl", "Cora", "Delia", "Edith", "Flora", "Greta", "Hilda", "Isolde", "Judith", "Katrin", "Lydia",
        "Mabel", "Nora", "Olwen", "Petra", "Rhoda", "Sabine", "Tilda", "Verity",
    ),
    _MEN: (
        "Abel", "Bertram", "Caleb", "Dougal", "Edmund", "Fergus", "Gideon", "Hector", "Ivor", "Jonas", "Kester", "Luke",
        "Morgan", "Ned", "Oswin", "Piers", "Reuben", "Silas", "Tobias", "Walter",
    ),
    _SURNAMES: (
        "Ackroyd", "Birch", "Crane", "Dunmore", "Elwood", "Farrow", "Garside", "Holloway", "Ilkley", "Jessop", "Kemble",
        "Larkin", "Moss", "Netley", "Oakes", "Prowse", "Rudge", "Sallow", "Thorne", "Wetherby",
    ),
    _PLACES: ("Arden", "Brackwell", "Corrie", "Dunlow", "Esk", "Fallow", "Garrel", "Hindle", "Ivel", "Kelder"),
}  # fmt: skip
_ONES = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_REMARKS = (
    "{woman} wrote the number {number:,} in the margin and turned the page.",
    "In the valley's own account of that year, this is entry {number:,}.",
    "Long afterwards {man} would call it number {number:,} of his list, and say no more.",
    "It was filed by the Board as item {number:,}.",
    "{woman} kept count of such things, and this made {number:,}.",
    "Somebody has pencilled {number:,} beside this in the copy at the inn.",
    "{man} used to tell it in fewer than {number:,} words, but not by many.",
)


def blocks(num_words: int) -> Iterator[str]:
    """Yield headings and paragraphs of so many words in all; the last is cut where they are reached."""
    rest = num_words
    for block in _endless():
        words = block.split()
        if len(words) >= rest:
            yield " ".join(words[:rest])
            return
        yield block
        rest -= len(words)


def _endless() -> Iterator[str]:
    title, *paragraphs = STORY.read_text(encoding="utf-8").strip().split("\n\n")
    number = chapter = 0
    for telling in count(1):
        chance = random.Random(telling)
        others = _draw(chance)
        for index, paragraph in enumerate(paragraphs):
            if index % _CHAPTER == 0:
                chapter += 1
                yield f"Chapter {chapter}: {_replace(title, others)}"
            number += 1
            remark = chance.choice(_REMARKS).format(number=number, woman=others["Ines"], man=others["Osgar"])
            yield f"{_replace(paragraph, others)} {remark}"


def _draw(chance: random.Random) -> dict[str, str]:
    """Return what stands for each name and number, numbers with and without a capital."""
    others: dict[str, str] = {}
    for names, pool in _OTHERS.items():
        others.update(zip(names, chance.sample(pool, len(names)), strict=True))
    for numbers in (_ONES, _TEENS, _TENS):
        drawn = chance.sample(numbers, len(numbers))
        others.update(zip(numbers, drawn, strict=True))
        others.update((old.capitalize(), new.capitalize()) for old, new in zip(numbers, drawn, strict=True))
    others["41"] = f"{2 + _TENS.index(others['forty'])}1"  # the story writes it both ways
    return others


def _replace(text: str, others: dict[str, str]) -> str:
    return re.sub(rf"\b({'|'.join(others)})\b", lambda word: others[word[0]], text)


def main() -> None:
    """Print the text, a block after the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", type=int, help="how many words, headings included")
    options = parser.parse_args()
    if options.words < 1:
        parser.error(f"{options.words} words make no text; ask for at least 1")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    for index, block in enumerate(blocks(options.words)):
        print(*([""] if index else []), block, sep="\n")


if __name__ == "__main__":
    main()
