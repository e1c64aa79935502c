"""Finding a page of the documentation by its topic."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files

from llmpar.errors import UsageError
from llmpar.visible import one_line

_NAMED = 6  # pages


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the documentation.

    Args:
        topic: the page's name: small letters, with "-" between words.
        summary: what it tells, in one line.
        text: the whole page, as Markdown.
    """

    topic: str
    summary: str
    text: str


def find_pages() -> list[Page]:
    """Return all pages, sorted by their topics.

    Raises:
        ValueError: the first line of a page is not `# TOPIC: what it tells`.
    """
    found = []
    for file in files(__package__).iterdir():
        topic, is_page, _ = file.name.partition(".md")
        if is_page:
            found.append(_read(topic, file.read_text("utf-8")))
    return sorted(found, key=lambda page: page.topic)


def find_page(topic: str) -> Page:
    """Return the page about a topic, which may be written with spaces and capitals, or by its first words, or as one.

    Raises:
        UsageError: there is none; the message names the pages that tell of it, or else those with the nearest names.
    """
    wanted = "-".join(topic.lower().replace("_", "-").split())
    pages = {page.topic: page for page in find_pages()}
    if wanted in pages:
        return pages[wanted]
    named = [name for name in pages if wanted and wanted in name]
    if len(named) == 1 and (named[0].startswith(f"{wanted}-") or named[0] in (f"{wanted}s", f"{wanted}es")):
        return pages[named[0]]
    told = [] if named else _telling(topic, pages.values())
    nearest = named or get_close_matches(wanted, pages, 3, 0.4)
    if told:
        remark = f"it is told of in {', '.join(told)}"
    else:
        remark = f"did you mean {' or '.join(nearest)}?" if nearest else f"there are {', '.join(pages)}"
    raise UsageError(f"no page about {one_line(topic)!r}; {remark}")


def _telling(topic: str, pages: Iterable[Page]) -> list[str]:
    """Return the topics of the pages that have words beginning so, those that have most of them first."""
    words = topic.lower().split()
    word = re.compile(r"\b" + r"[\s-]+".join(map(re.escape, words)))
    numbers = {page.topic: len(word.findall(page.text.lower())) for page in pages} if words else {}
    return sorted((name for name, number in numbers.items() if number), key=lambda name: -numbers[name])[:_NAMED]


def _read(topic: str, text: str) -> Page:
    heading, _, _ = text.partition("\n")
    start = f"# {topic}: "
    if not heading.startswith(start):
        raise ValueError(f"{topic}.md begins with {heading!r}, and not with '{start}what it tells'")
    return Page(topic, heading.removeprefix(start), text)
