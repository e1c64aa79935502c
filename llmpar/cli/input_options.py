"""The options that say what is read, and into what it is split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from llmpar.cli.option import option
from llmpar.documents.document import Unit
from llmpar.documents.encodings import Encodings
from llmpar.documents.formats import FORMATS
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.formats.protocol import DEFAULT_READING, Reading

if TYPE_CHECKING:
    FormatName = str
else:  # Typer takes its choices from a Literal, and these come from a table
    _FORMAT_NAMES = ("auto", *FORMATS)
    FormatName = Literal[_FORMAT_NAMES]


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What is read, and into what it is split."""

    unit: Annotated[
        Unit | None,
        option("--unit", "-u", help="What a piece is. Default: what suits the task.", panel="Input"),
    ] = None
    language: Annotated[
        str,
        option("--language", help="Language of the text, for its sentences: german, french, …", panel="Input"),
    ] = DEFAULT_READING.language
    input_format: Annotated[
        FormatName,
        option("--input-format", help="How the text is marked up; auto goes by the file's name.", panel="Input"),
    ] = DEFAULT_READING.format
    format_options: FormatOptions = DEFAULT_READING.options
    marks: Annotated[
        bool | None,
        option("--marks/--no-marks", help="Markup and placeholders inside a piece become numbered marks that answers "
               "must keep. Default: where sentences or lines are answered in their places, and for translate.",
               panel="Input"),
    ] = None  # fmt: skip
    include: Annotated[
        list[str] | None,
        option("--include", help="Of folders, take the files that match; several times for several.", panel="Input",
               metavar="PATTERN"),
    ] = None  # fmt: skip
    exclude: Annotated[
        list[str] | None,
        option("--exclude", help="Of folders, leave out the files that match.", panel="Input", metavar="PATTERN"),
    ] = None
    gitignore: Annotated[
        bool, option("--gitignore", help="Of folders, leave out what .gitignore files leave out.", panel="Input")
    ] = False
    encoding_errors: Annotated[
        Literal["strict", "surrogateescape"],
        option("--encoding-errors", help="Refuse bytes that are no text, or carry them through.", panel="Input"),
    ] = DEFAULT_READING.errors

    encoding: Annotated[
        str,
        option("--encoding", help="Of inputs without a byte order mark: utf-8, latin-1, …; auto guesses.",
               panel="Input", metavar="NAME|auto"),
    ] = DEFAULT_READING.encodings.input  # fmt: skip
    output_encoding: Annotated[
        str | None,
        option("--output-encoding", help="Of documents with answers in them. Default: the input's.", panel="Output",
               metavar="NAME"),
    ] = DEFAULT_READING.encodings.output  # fmt: skip

    def reading(self, unit: Unit) -> Reading:
        """Return how inputs are read, into pieces of this unit."""
        return Reading(
            unit,
            self.language,
            self.input_format,
            self.format_options,
            self.encoding_errors,
            encodings=Encodings(self.encoding, self.output_encoding),
        )
