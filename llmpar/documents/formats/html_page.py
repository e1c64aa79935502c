"""HTML and XHTML: texts between tags, and the attributes that people read, are prose; all else is copied."""

from __future__ import annotations

import html
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from llmpar.documents.document import INLINE, Block, Segment
from llmpar.documents.formats.html_runs import Runs, nested
from llmpar.documents.formats.inline import Bit, Languages, pieces_of
from llmpar.documents.formats.protocol import About, Piece
from llmpar.documents.formats.tags import COPIED, Token, tokens
from llmpar.documents.formats.whole import Damage, WholeFormat
from llmpar.documents.language import detect
from llmpar.documents.layout import fill
from llmpar.documents.marks import find_lost_mark, split_at_marks
from llmpar.documents.sentences import find_language, sentence_spans
from llmpar.documents.source import Source

_READ = ("alt", "title", "placeholder", "aria-label")
_VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr")
)
# Start tags that end a paragraph, though no end tag says so, and what they do not reach beyond.
_END_PARAGRAPH = (
    *("address", "article", "aside", "blockquote", "details", "dialog", "div", "dl", "fieldset", "figcaption"),
    *("figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr", "main", "menu"),
    *("nav", "ol", "p", "pre", "search", "section", "table", "ul", "li", "dt", "dd"),
)
_AROUND_PARAGRAPH = ("td", "th", "caption", "button", "object", "table", "template")
# The same for other elements than paragraphs.
_IMPLIED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "li": (("li",), ("ul", "ol", "menu")),
    **dict.fromkeys(("dt", "dd"), (("dt", "dd"), ("dl",))),
    "tr": (("tr",), ("table",)),
    **dict.fromkeys(("td", "th"), (("td", "th"), ("tr", "table"))),
    **dict.fromkeys(("thead", "tbody", "tfoot"), (("thead", "tbody", "tfoot"), ("table",))),
    **dict.fromkeys(("option", "optgroup"), (("option",), ("select", "datalist"))),
    "body": (("head",), ("html",)),
}
_DEEPEST = 1000  # elements in each other; browsers stop at half of it
_TEMPLATE = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)
_READ_AS = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);?|[ \t\r\n\f]+|[^& \t\r\n\f]+|&")


class Html(WholeFormat):
    """A page of the web."""

    about: ClassVar[About] = About(
        "texts between tags, by unit; alt, title, placeholder, aria-label",
        "scripts, styles, pre, code, svg, math, comments, translate=no, {% %} and {{ }}",
        "in XHTML a tag that does not close what is open is damage; a tag with such an attribute parts its sentence",
    )

    what: ClassVar[str] = "page"

    def read(self, index: int, source: Source) -> Generator[Block]:
        """Yield the page, which says that it is in the language of the answers if they are translations."""
        tag = self.reading.into_language
        for block in WholeFormat.read(self, index, source):
            yield replace(block, text=_in_language(block.text, tag)) if tag else block

    def find(self, text: str) -> list[Piece]:
        """Return the prose of a page: its texts, by sentences if that is the unit, and its attributes.

        Raises:
            Damage: something is opened and never closed; in XHTML, a tag that does not close what was last opened.
        """
        if self.reading.marks != "none":
            return list(self._with_marks(text))
        pieces: list[Piece] = []
        elements = _Elements(text, is_strict=text.lstrip("\ufeff").startswith("<?xml"))
        sentences = _Sentences(self.reading.language) if self.reading.unit == "sentence" else None
        for token in tokens(text):
            if token.kind == "text":
                if not elements.is_copied:
                    pieces.extend(_texts(text, token, sentences))
            elif token.kind == "end":
                elements.close(token)
            elif not elements.open(token):
                pieces.extend(_attributes(text, token))
        elements.end()
        return pieces

    def _with_marks(self, text: str) -> Iterator[Piece]:
        """Yield the prose of a page, in which tags inside of sentences are marks; see `find`."""
        elements = _Elements(text, is_strict=text.lstrip("\ufeff").startswith("<?xml"))
        languages, runs = Languages(self.reading.language), Runs(text)

        def pieces(bits: list[Bit]) -> Iterator[Piece]:
            return pieces_of(nested(bits), text, self.reading, languages, INLINE)

        for token in tokens(text):
            if token.kind == "text":
                if not elements.is_copied:
                    runs.add_text(token)
                continue
            was_copied, attributes = elements.is_copied, []
            if token.kind == "end":
                elements.close(token)
            elif not elements.open(token):
                attributes = list(_attributes(text, token))
            is_copied = elements.is_copied
            for bits in runs.add_tag(token, was_copied=was_copied, is_copied=is_copied, parts=bool(attributes)):
                yield from pieces(bits)
            yield from attributes
        elements.end()
        yield from pieces(runs.end())

    def write(self, segment: Segment, answer: str, column: int) -> str:  # noqa: ARG002 (HTML is not wrapped)
        """Return the answer with what HTML must not hold as it is, between the quotes of its attribute."""
        if segment.target is None:
            if find_lost_mark(segment.text, answer, segment.marks):
                return segment.source
            return "".join(
                html.escape(part, quote=False) if isinstance(part, str) else part.markup
                for part in split_at_marks(fill(answer, INLINE), segment.marks)
            )
        source = segment.block.text[slice(*segment.target)]
        if answer == segment.text:
            return source
        quote = source[0] if source[0] in ('"', "'") else '"'
        escaped = html.escape(fill(answer, INLINE), quote=False)
        return quote + escaped.replace(quote, "&quot;" if quote == '"' else "&#39;") + quote

    def spell(self, char: str) -> str:
        """Return a character by its number."""
        return f"&#{ord(char)};"

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return a mark and the source, or nothing; in an attribute, between quotes."""
        return self.write(segment, f"[llmpar: {reason}] {segment.text}" if fate == "mark" else "", 0)


def _in_language(text: str, tag: str) -> str:
    """Return a page whose first element, if that is html, says that it is in a language."""
    try:
        first = next((token for token in tokens(text) if token.kind == "start"), None)
    except Damage:  # said when the pieces are looked for
        return text
    if first is None or first.name != "html":
        return text
    said = [attribute for attribute in first.attributes if attribute.name in ("lang", "xml:lang")]
    if not said:
        end = first.start + len("<html")
        return f'{text[:end]} lang="{tag}"{text[end:]}'
    for attribute in reversed(said):
        text = f'{text[: attribute.start]}"{tag}"{text[attribute.end :]}'
    return text


@dataclass(slots=True)
class _Elements:
    """The elements that are open at a place of a page."""

    text: str
    is_strict: bool
    _open: list[tuple[str, bool, bool, int]] = field(default_factory=list)  # name, code, translate, place

    @property
    def is_copied(self) -> bool:
        """Whether what stands here is no prose, or is not to be changed."""
        return bool(self._open) and (self._open[-1][1] or not self._open[-1][2])

    def open(self, token: Token) -> bool:
        """Take a start tag in, and return whether the element is to be left as it is."""
        if not self.is_strict and token.name in _IMPLIED:
            self._close_implied(*_IMPLIED[token.name])
        if not self.is_strict and token.name in _END_PARAGRAPH:
            self._close_implied(("p",), _AROUND_PARAGRAPH)
        is_code, translates = self._open[-1][1:3] if self._open else (False, True)
        is_code |= token.name in COPIED
        for attribute in token.attributes:
            value = attribute.value(self.text).strip().lower()
            if attribute.name == "translate":
                translates = value != "no" and (translates or value in ("", "yes"))
            elif attribute.name == "class" and "notranslate" in value.split():
                translates = False
        is_empty = token.is_closed if self.is_strict else token.name in _VOID
        if not is_empty and not (token.is_closed and is_code and token.name not in ("script", "style", "pre", "code")):
            if len(self._open) >= _DEEPEST:
                raise Damage(token.start, f"more than {_DEEPEST:,} elements stand in each other")
            self._open.append((token.name, is_code, translates, token.start))
        return is_code or not translates

    def close(self, token: Token) -> None:
        """Take an end tag in. One that closes nothing is left alone, but in XHTML, where it is wrong."""
        names = [entry[0] for entry in self._open]
        if self.is_strict and (not names or names[-1] != token.name):
            opened = f"<{names[-1]}>" if names else "nothing"
            raise Damage(token.start, f"</{token.name}> stands where {opened} is open")
        if token.name in names:
            del self._open[len(names) - 1 - names[::-1].index(token.name) :]

    def end(self) -> None:
        """Raise Damage for an element of XHTML that is never closed."""
        if self.is_strict and self._open:
            raise Damage(self._open[-1][3], f"<{self._open[-1][0]}> is never closed")

    def _close_implied(self, ended: tuple[str, ...], bounds: tuple[str, ...]) -> None:
        for place in range(len(self._open) - 1, -1, -1):
            name = self._open[place][0]
            if name in bounds:
                return
            if name in ended:
                del self._open[place:]
                return


@dataclass(slots=True)
class _Sentences:
    """Finds the sentences of a page's texts; what is too short to tell its language has the last one's."""

    given: str
    _language: str = ""

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield start and end of each sentence."""
        named = find_language(self.given)
        self._language = detect(text, self._language or "english") if named == "auto" else named
        return sentence_spans(text, self._language)


def _texts(text: str, token: Token, sentences: _Sentences | None) -> Iterator[Piece]:
    at = token.start
    for template in [*_TEMPLATE.finditer(text, token.start, token.end), None]:
        said, starts, ends = _read(text, at, template.start() if template else token.end)
        content = said.strip()
        if any(char.isalpha() for char in content):
            first = said.index(content)
            spans = sentences.spans(content) if sentences else iter([(0, len(content))])
            for start, end in spans:
                # What is too long for one piece is cut anywhere, and a reference is one thing.
                begin, stop = (_after_reference(starts, first + place) - first for place in (start, end))
                if begin < stop:
                    yield Piece(starts[first + begin], ends[first + stop - 1], content[begin:stop], INLINE)
        at = template.end() if template else token.end


def _after_reference(starts: list[int], place: int) -> int:
    """Return the first place from this one on that is in no reference; `starts` says where each character begins."""
    while 0 < place < len(starts) and starts[place] == starts[place - 1]:
        place += 1
    return place


def _read(text: str, start: int, end: int) -> tuple[str, list[int], list[int]]:
    """Return what stands somewhere as a browser shows it, and for each character where it begins and ends there."""
    said: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for match in _READ_AS.finditer(text, start, end):
        part = match[0]
        if part[0] in " \t\r\n\f":
            said.append(" ")
            starts.append(match.start())
            ends.append(match.end())
        elif part[0] == "&":
            shown = html.unescape(part)
            said.append(shown)
            starts.extend([match.start()] * len(shown))
            ends.extend([match.end()] * len(shown))
        else:
            said.append(part)
            starts.extend(range(match.start(), match.end()))
            ends.extend(range(match.start() + 1, match.end() + 1))
    return "".join(said), starts, ends


def _attributes(text: str, token: Token) -> Iterator[Piece]:
    for attribute in token.attributes:
        value = attribute.value(text)
        if attribute.name in _READ and "{{" not in value and "{%" not in value:
            said = " ".join(html.unescape(value).split())
            if any(char.isalpha() for char in said):
                place = (attribute.start, attribute.end)
                yield Piece(*place, said, INLINE, place)
