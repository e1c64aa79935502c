"""A format that reads bytes itself, and makes bytes of text again: an archive of one member."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from llmpar.documents.document import Block, Document, Encoding
from llmpar.documents.formats.plain import PlainParagraphs
from llmpar.documents.formats.protocol import Piece
from llmpar.documents.formats.text import TextFormat
from llmpar.documents.formats.units import UnitPieces
from llmpar.documents.source import Source


@dataclass(frozen=True, slots=True)
class _Archive(Encoding):
    """Gathers what is written, and gives out the archive at the end."""

    member: str = ""
    texts: list[str] = field(default_factory=list)

    def encode(self, text: str) -> bytes:
        self.texts.append(text)
        return b""

    def end(self) -> bytes:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr(self.member, "".join(self.texts))
        return data.getvalue()


class Zipped(TextFormat):
    """An archive whose only member is plain text."""

    def read(self, index: int, source: Source) -> Generator[Block]:
        with zipfile.ZipFile(source.name) as archive:
            (member,) = archive.namelist()
            text = archive.read(member).decode()
        document = Document(index, source.name, source.path, _Archive(member=member))
        yield Block(document, 0, text, Path(source.name).stat().st_size, first=True, last=True)

    def pieces(self) -> Callable[[Block], Iterator[Piece]]:
        return UnitPieces(PlainParagraphs(), self.reading).pieces
