"""Reviews as catalogues (gettext PO) for translators' editors, by babel: what is in doubt is marked as fuzzy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from llmpar.review.row import Returned, Row

_AT_ONCE = 500  # rows, so that no catalogue of all of them is held
_HEAD = (
    "# A review by llmpar. Correct what stands in msgstr, and give it back with `llmpar apply FILE`.\n"
    "# Leave msgctxt and msgid as they are: by them the piece is found again."
)


def written(rows: Iterable[Row], language: str = "") -> Iterator[bytes]:
    """Yield a catalogue with an entry for each piece, in order; `language` is the tag of that of the answers."""
    from babel.messages.catalog import Catalog
    from babel.messages.pofile import generate_po

    rows, is_first = iter(rows), True
    while (some := list(islice(rows, _AT_ONCE))) or is_first:
        catalogue = Catalog(
            header_comment=_HEAD,
            project="llmpar",
            version="review",
            charset="utf-8",
            fuzzy=False,
            locale=language.replace("-", "_") or None,  # editors ask for it, and choose a dictionary by it
        )
        for row in some:
            told = [f"part {row.part}"]
            told += [] if row.confidence is None else [f"confidence {row.confidence:.3f}"]
            told += [row.reason] if row.reason else []
            told += [f"rejected: {row.rejected}"] if row.rejected else []
            catalogue.add(
                row.source,
                row.answer,
                flags=["fuzzy"] if row.reason and row.answer else [],
                auto_comments=[" ".join(_flat(told_one).split()) for told_one in (row.place, *told)],
                context=row.key,
            )
        for text in generate_po(catalogue, no_location=True, omit_header=not is_first, width=0):
            yield text.encode("utf-8", "surrogatepass")
        is_first = False


def returned(text: str) -> Iterator[Returned]:
    """Yield the entries of a catalogue that a person gives back; those that are commented out are none.

    Raises:
        ValueError: it is no such catalogue. The message begins with the line, if it is about one.
    """
    from babel.messages.catalog import Catalog
    from babel.messages.pofile import PoFileError, PoFileParser

    found: list[Returned] = []

    class Entries(Catalog):  # type: ignore[misc]
        """Keeps every entry, also of two that have the same text and context."""

        def __setitem__(self, id: Any, message: Any) -> None:  # noqa: A002 (babel's)
            if not id:
                return
            if isinstance(id, tuple):
                raise ValueError(f"line {message.lineno}: has plural forms, which no review has")  # noqa: TRY004
            found.append(Returned(message.lineno, id, message.string or "", message.context or ""))

    # Comments are for people, and a place's name may be anything.
    lines = ("" if line.lstrip().startswith("#") else line for line in text.split("\n"))
    try:
        PoFileParser(Entries(charset="utf-8"), abort_invalid=True).parse(lines)
    except PoFileError as error:
        raise ValueError(f"line {error.lineno + 1}: {str(error).rpartition(' on ')[0]}") from error
    except IndexError as error:  # babel's own, where an entry is half one
        raise ValueError("it is damaged") from error
    yield from found


def _flat(text: str) -> str:
    """Return a comment's text: it must not end its line."""
    return "".join(char if char.isprintable() else " " for char in text)
