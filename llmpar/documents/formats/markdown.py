"""Markdown: headings, paragraphs, items, cells, link texts, alt texts and footnotes are prose; all else is copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import ClassVar

from llmpar.documents.document import Block, Segment
from llmpar.documents.formats.front_matter import end_of_front_matter, front_matter_pieces
from llmpar.documents.formats.html_page import Html
from llmpar.documents.formats.inline import Languages, pieces_of
from llmpar.documents.formats.markdown_leaves import leaves_of
from llmpar.documents.formats.markdown_text import MarkdownText, Surroundings
from llmpar.documents.formats.protocol import About, Piece
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.formats.units import whole_piece
from llmpar.documents.formats.whole import Damage
from llmpar.documents.marks import find_lost_mark
from llmpar.documents.reader import Portion


class _HtmlBlock(Html):
    """HTML between lines of Markdown: a line that is blank would end it."""

    def write(self, segment: Segment, answer: str, column: int) -> str:
        """Return the answer as HTML; the source, if there is none."""
        return Html.write(self, segment, answer, column) if answer.strip() else segment.source

    def objection(self, segment: Segment, answer: str) -> str | None:
        """Return why an answer cannot be written: its marks are not the source's, or it is blank."""
        return find_lost_mark(segment.text, answer, segment.marks) or (None if answer.strip() else "is empty")


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
            is_mdx = path is not None and ".mdx" in path.suffixes
            leaves, env = leaves_of(text, start, is_mdx=is_mdx)
            for leaf in leaves:
                if leaf.kind == "html":
                    yield from self._of_html(text, leaf.start, leaf.end)
                    continue
                around = Surroundings(leaf) if self.reading.marks != "none" else None
                for piece in pieces_of(leaf.bits, text, self.reading, languages, leaf.layout):
                    if around:
                        places = around.of(piece.start, piece.end)
                        writing = MarkdownText(self.reading, leaf.kind, *places, env, is_mdx)
                        yield replace(piece, writing=writing)
                    else:
                        yield piece

        return pieces

    def _of_html(self, text: str, start: int, end: int) -> Iterator[Piece]:
        """Yield the pieces of a block of HTML; one that is damaged, or not complete, is copied."""
        html = _HtmlBlock(self.reading)
        try:
            found = html.find(text[start:end])
        except Damage:
            return
        for piece in found:
            target = (piece.target[0] + start, piece.target[1] + start) if piece.target else None
            yield replace(piece, start=piece.start + start, end=piece.end + start, target=target, writing=html)
