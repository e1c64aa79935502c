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
        option(
            "--language",
            help="The language of the text, by which its sentences are found: german, french, …",
            panel="Input",
        ),
    ] = DEFAULT_READING.language
    input_format: Annotated[
        FormatName,
        option(
            "--input-format",
            help="The format of the input; auto goes by the file's name, else by its beginning.",
            panel="Input",
        ),
    ] = DEFAULT_READING.format
    format_options: FormatOptions = DEFAULT_READING.options
    marks: Annotated[
        bool | None,
        option(
            "--marks/--no-marks",
            help="Let numbered marks stand for markup and placeholders inside a piece; answers "
            "must keep them. Default: for sentences and lines that are answered in their "
            "places, and for translate.",
            panel="Input",
        ),
    ] = None
    include: Annotated[
        list[str] | None,
        option(
            "--include",
            help="Of folders, take only files that match; may be given several times.",
            panel="Input",
            metavar="PATTERN",
        ),
    ] = None
    exclude: Annotated[
        list[str] | None,
        option(
            "--exclude",
            help="Of folders, leave out files that match; may be given several times.",
            panel="Input",
            metavar="PATTERN",
        ),
    ] = None
    gitignore: Annotated[
        bool, option("--gitignore", help="Of folders, leave out files that git ignores.", panel="Input")
    ] = False
    encoding_errors: Annotated[
        Literal["strict", "surrogateescape"],
        option(
            "--encoding-errors",
            help="What to do with bytes that are no text: refuse them, or carry them through.",
            panel="Input",
        ),
    ] = DEFAULT_READING.errors

    encoding: Annotated[
        str,
        option(
            "--encoding",
            help="The encoding of inputs without a byte order mark: utf-8, latin-1, …; auto guesses.",
            panel="Input",
            metavar="NAME|auto",
        ),
    ] = DEFAULT_READING.encodings.input
    output_encoding: Annotated[
        str | None,
        option(
            "--output-encoding",
            help="The encoding of documents that are written. Default: the input's.",
            panel="Output",
            metavar="NAME",
        ),
    ] = DEFAULT_READING.encodings.output

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
