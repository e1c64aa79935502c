"""Markdown: headings, paragraphs, items, cells, link texts, alt texts and footnotes are prose; all else is copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import ClassVar, Literal

from llmpar.documents.document import Block, Segment
from llmpar.documents.formats.front_matter import end_of_front_matter, front_matter_pieces, write_value
from llmpar.documents.formats.html_page import Html
from llmpar.documents.formats.inline import Languages, pieces_of
from llmpar.documents.formats.markdown_leaves import leaves_of
from llmpar.documents.formats.protocol import About, Piece
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.formats.units import whole_piece
from llmpar.documents.formats.whole import Damage
from llmpar.documents.layout import fill
from llmpar.documents.reader import Portion


class Markdown(TextFormat):
    """Text with Markdown's markup: CommonMark, tables, footnotes, formulas, alerts, containers, template tags, MDX."""

    about: ClassVar[About] = About(
        "headings, paragraphs, items, cells, link and alt texts, footnotes; texts in HTML; on request the title, "
        "description and summary of front matter",
        "code, formulas, link targets, labels, reference definitions, attributes, front matter, ::: lines, {% %} and "
        "{{ }}, imports, exports and components of MDX",
        "what is nested more than 20 deep is copied",
        "markdown-it-py, whose inline rules are made to record places",
    )

    @property
    def portion(self) -> Portion:
        """Return "document": what a reference is may be said further down."""
        return "document"

    def pieces(self) -> Callable[[Block], Iterator[Piece]]:
        """Return what yields the pieces of a document, which is one block.

        Raises:
            UsageError: the language is unknown.
        """
        languages = Languages(self.reading.language)

        def pieces(block: Block) -> Iterator[Piece]:
            text = block.text
            if self.reading.unit == "document":
                yield from whole_piece(text)
                return
            start = end_of_front_matter(text)
            if start and self.reading.options.front_matter:
                yield from front_matter_pieces(text, start)
            path = block.document.path
            leaves, _ = leaves_of(text, start, is_mdx=path is not None and ".mdx" in path.suffixes)
            for leaf in leaves:
                if leaf.kind == "html":
                    yield from self._of_html(text, leaf.start, leaf.end)
                else:
                    yield from pieces_of(leaf.bits, text, self.reading, languages, leaf.layout)

        return pieces

    def write(self, segment: Segment, answer: str, column: int) -> str:
        """Return an answer as its place takes it: set as its source is set, in HTML as HTML, or as a value."""
        if segment.place == "html":
            return Html(self.reading).write(segment, answer, column)
        if segment.place == "value":
            return write_value(segment, answer)
        return fill(answer, segment.layout, column)

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return a mark and the source, or nothing."""
        if segment.place == "html":
            return Html(self.reading).write_failure(segment, reason, fate)
        if segment.place == "value":
            return write_value(segment, f"[llmpar: {reason}] {segment.text}" if fate == "mark" else "")
        return f"[llmpar: {reason}] {segment.source}" if fate == "mark" else ""

    def _of_html(self, text: str, start: int, end: int) -> Iterator[Piece]:
        """Yield the pieces of a block of HTML; one that is damaged, or not complete, is copied."""
        try:
            found = Html(self.reading).find(text[start:end])
        except Damage:
            return
        for piece in found:
            target = (piece.target[0] + start, piece.target[1] + start) if piece.target else None
            yield replace(piece, start=piece.start + start, end=piece.end + start, target=target, place="html")
