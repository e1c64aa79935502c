"""Catalogues of gettext (PO, POT): what a message lacks is asked for, and goes into its msgstr; all else is copied.

The kept libraries that go with Apache-2.0 (polib, MIT; Babel, BSD) tell the line of an entry and no places of its
strings, and the Translate Toolkit is GPL, so that the lines are read here, after gettext's manual.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from llmpar.documents.document import Block, Layout, Segment
from llmpar.documents.encodings import AUTO
from llmpar.documents.formats.cues import Line, lines_of
from llmpar.documents.formats.inline import marked_piece
from llmpar.documents.formats.laying import composed
from llmpar.documents.formats.po_plurals import Plurals, plurals_of, with_language
from llmpar.documents.formats.protocol import About, Piece
from llmpar.documents.formats.units import newline_of
from llmpar.documents.formats.whole import Damage, WholeFormat
from llmpar.documents.marks import restored
from llmpar.documents.source import Source
from llmpar.errors import setting

_KEYWORD = re.compile(r"[ \t]*(domain|msgctxt|msgid_plural|msgid|msgstr)(?:\[(\d{1,3})\])?[ \t]*(?=\")")
_STRING = re.compile(r'[ \t]*("(?:[^"\\]|\\.)*")[ \t]*')
_ESCAPE = re.compile(r"\\(?:([abfnrtv\\\"'?])|x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|(.))")
_SIGNS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPED = str.maketrans(
    {
        "\\": "\\\\",
        '"': '\\"',
        "\n": "\\n",
        "\t": "\\t",
        "\r": "\\r",
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\v": "\\v",
    }
)
_FUZZY = re.compile(r"#,(?:.*,)?[ \t]*fuzzy[ \t]*(?:,.*)?")
_CHARSET = re.compile(r"charset=([\w.:-]+)", re.IGNORECASE)


@dataclass(slots=True)
class _Value:
    """A string, on one line or on several: its place from the first quote to the last, and what it says."""

    start: int
    end: int
    text: str


@dataclass(slots=True)
class _Entry:
    """A message. `values` has its strings by keyword; those of plural forms have their number in brackets.

    `flags` is the place behind the sign of its flags, -1 if it has none.
    """

    start: int
    flags: int = -1
    is_fuzzy: bool = False
    values: dict[str, _Value] = field(default_factory=dict)


class Po(WholeFormat):
    """Messages and their translations."""

    about: ClassVar[About] = About(
        "messages that have no translation, or a fuzzy one; each plural form by itself",
        "all else, the header and what is translated",
        "plural forms are those of Plural-Forms, else of the language; fuzzy ones stay marked so",
    )

    what: ClassVar[str] = "catalogue"

    def read(self, index: int, source: Source) -> Generator[Block]:
        """Yield the document, whose header says the language that it is translated into if it is a template."""
        tag = self.reading.into_language
        for block in WholeFormat.read(self, index, source):
            yield replace(block, text=with_language(block.text, tag)) if tag else block

    def find(self, text: str) -> list[Piece]:
        """Return the messages that have no translation, or a fuzzy one: one for each of their plural forms.

        Raises:
            Damage: a line is none of a catalogue's, or a message is not complete; the header names another encoding.
        """
        layout = Layout(newline=newline_of(text))
        pieces: list[Piece] = []
        plurals = plurals_of("", self.reading.into_language)
        for entry in _entries(text):
            if entry.values["msgid"].text or "msgctxt" in entry.values:
                pieces.extend(_pieces(entry, layout, plurals, is_fuzzy=self.reading.options.fuzzy))
            else:
                header = _check_charset(entry, self.reading.encodings.input)
                plurals = plurals_of(header, self.reading.into_language)
        return [marked_piece(piece, self.reading) for piece in pieces]

    def write(self, segment: Segment, answer: str, column: int) -> str:  # noqa: ARG002 (strings are not wrapped)
        """Return the answer as a string that begins and ends with a newline where the message does."""
        source = _unescape(_strings(segment.source))
        begin, end = (source[:1] if source[:1] == "\n" else ""), ("\n" if source[1:].endswith("\n") else "")
        text = _quoted(begin + restored(answer.strip(), segment.marks) + end, segment.layout.newline)
        if not segment.parts:
            return text
        flags = segment.parts[0][0]
        mark = " fuzzy," if segment.block.text.startswith("#,", flags - 2) else f"#, fuzzy{segment.layout.newline}"
        return composed(segment, [mark, text])

    def write_failure(self, segment: Segment, reason: str, fate: Literal["mark", "skip"]) -> str:
        """Return a mark and the message as a string, or an empty string."""
        if fate == "mark":
            return self.write(segment, f"[llmpar: {reason}] {segment.text}", 0)
        if segment.around[0]:  # a plural form that is not there stays away
            return ""
        return composed(segment, ["", '""']) if segment.parts else '""'


def _pieces(entry: _Entry, layout: Layout, plurals: Plurals | None, *, is_fuzzy: bool) -> Iterator[Piece]:
    """Yield what a message lacks; the first piece also marks it as fuzzy, on request and if it is not yet."""
    marks = is_fuzzy and not entry.is_fuzzy
    forms = {
        int(key[7:-1]) if key != "msgstr" else -1: value for key, value in entry.values.items() if key[:6] == "msgstr"
    }
    has_plural = "msgid_plural" in entry.values and -1 not in forms
    for form, value in forms.items():
        if (value.text and not entry.is_fuzzy) or (has_plural and plurals and form >= plurals.count):
            continue
        message = _message(entry, form, plurals)
        if message.text.strip():
            flags = entry.start if entry.flags < 0 else entry.flags
            target = (flags if marks else value.start), value.end
            parts = ((flags, flags), (value.start, value.end)) if marks else ()
            yield Piece(message.start, message.end, message.text.strip(), layout, target, parts=parts)
            marks = False
    end = max(value.end for value in forms.values())
    for form in range(plurals.count if has_plural and plurals else 0):
        message = _message(entry, form, plurals)
        if form not in forms and message.text.strip():
            around = (f"{layout.newline}msgstr[{form}] ", "")
            yield Piece(message.start, message.end, message.text.strip(), layout, (end, end), around=around)


def _message(entry: _Entry, form: int, plurals: Plurals | None) -> _Value:
    """Return which string of a message a plural form is a translation of; -1 stands for no plural form."""
    singular, plural = entry.values["msgid"], entry.values.get("msgid_plural")
    if plural is None or form < 0:
        return singular
    if plurals is None:
        return plural if form else singular
    return singular if plurals.source(form, singular.text, plural.text) is singular.text else plural


def _entries(text: str) -> Iterator[_Entry]:
    """Yield the messages of a catalogue, the header among them."""
    entry: _Entry | None = None
    current: _Value | None = None
    is_fuzzy, flags = False, -1
    for line in lines_of(text):
        if line.is_blank:
            current = None
            continue
        if line.text.lstrip().startswith("#"):
            if entry:
                yield _complete(entry)
            entry = current = None
            if line.text.startswith("#~"):  # what was said before belongs to a message that is no longer in use
                is_fuzzy, flags = False, -1
            is_fuzzy |= bool(_FUZZY.fullmatch(line.text.strip()))
            if line.text.startswith("#,"):
                flags = line.start + 2
            continue
        keyword = _KEYWORD.match(line.text)
        if keyword is None:
            if current is None:
                raise Damage(line.start, "is no line of a catalogue (a comment, msgid, msgstr or a string)")
            _append(current, line)
            continue
        if keyword[1] == "domain":
            current = _Value(*_string(line, keyword.end()))
            continue
        name = keyword[1] + (f"[{int(keyword[2])}]" if keyword[2] else "")
        if entry and (keyword[1] in ("msgctxt", "msgid") and any(key.startswith("msgstr") for key in entry.values)):
            yield _complete(entry)
            entry = None
        if entry is None:
            entry, is_fuzzy, flags = _Entry(line.start, flags, is_fuzzy), False, -1
        if name in entry.values:
            raise Damage(line.start, f"the message has {name} twice")
        current = entry.values[name] = _Value(*_string(line, keyword.end()))
    if entry:
        yield _complete(entry)


def _complete(entry: _Entry) -> _Entry:
    if "msgid" not in entry.values or not any(key.startswith("msgstr") for key in entry.values):
        lacking = "msgstr" if "msgid" in entry.values else "msgid"
        raise Damage(entry.start, f"the message has no {lacking}")
    return entry


def _string(line: Line, at: int) -> tuple[int, int, str]:
    """Return the place of the string with which a line ends, and what it says."""
    match = _STRING.fullmatch(line.text, at)
    if match is None:
        raise Damage(line.start, "a string does not end where its line does, or has a quote in it without a backslash")
    return line.start + match.start(1), line.start + match.end(1), _unescape(match[1][1:-1])


def _append(value: _Value, line: Line) -> None:
    _, value.end, text = _string(line, 0)
    value.text += text


def _check_charset(header: _Entry, encoding: str) -> str:
    """Return what a header says; raise Damage if it says that the bytes are not what they were read as."""
    value = header.values.get("msgstr")
    charset = _CHARSET.search(value.text) if value else None
    if value and charset and charset[1].upper() not in ("CHARSET", "ASCII", "US-ASCII"):
        try:
            is_same = encoding == AUTO or codecs.lookup(charset[1]).name == codecs.lookup(encoding).name
        except LookupError:
            is_same = False
        if not is_same:
            raise Damage(value.start, f"is in {charset[1]}, as it says; read it with {setting('encoding', charset[1])}")
    return value.text if value else ""


def _strings(source: str) -> str:
    return "".join(match[1][1:-1] for match in _STRING.finditer(source))


def _unescape(text: str) -> str:
    return _ESCAPE.sub(_sign, text) if "\\" in text else text


def _sign(match: re.Match[str]) -> str:
    letter, hexadecimal, octal, other = match.groups()
    if letter:
        return _SIGNS.get(letter, letter)
    if other is not None:
        return match[0]
    return chr(int(hexadecimal, 16) if hexadecimal else int(octal, 8) & 0xFF)


def _quoted(text: str, newline: str) -> str:
    """Return a string as gettext writes it: on one line, or below an empty one a line for each line."""
    lines = text.split("\n")
    parts = [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    quoted = [f'"{part.translate(_ESCAPED)}"' for part in parts] or ['""']
    return quoted[0] if len(quoted) == 1 else newline.join(['""', *quoted])
