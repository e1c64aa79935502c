"""Which writer each document goes to: all to one, or each to its own file in a directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from llmpar.documents.document import Document
from llmpar.documents.writer import Writer, open_output
from llmpar.errors import OutputUncreatable, UsageError


class Output(Protocol):
    """Where the documents of a run go."""

    def begin(self, document: Document) -> Writer:
        """Return the writer for a document, whose bytes follow."""

    def end(self) -> None:
        """The document is complete."""

    def drop(self) -> None:
        """The document turned out to be damaged: it is not published if that can be helped."""

    def finish(self) -> None:
        """All documents are complete."""

    def abandon(self) -> None:
        """The run ended early: what is not complete is not published."""


class SingleOutput:
    """One writer takes all documents, one after another."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def begin(self, document: Document) -> Writer:  # noqa: ARG002 (every document goes to the same place)
        """Return the one writer."""
        return self._writer

    def end(self) -> None:
        """Hand on what there is."""
        self._writer.flush()

    def drop(self) -> None:
        """Leave what was written: it cannot be taken back."""
        self._writer.flush()

    def finish(self) -> None:
        """Close the writer."""
        self._writer.close()

    def abandon(self) -> None:
        """Give up the writer."""
        self._writer.abandon()


class DirectoryOutput:
    """Each document becomes a file of its own name in a directory, published when it is complete.

    Raises:
        OutputUncreatable: the directory is missing or may not be written to, or holds a link that leads elsewhere.
        UsageError: an input has no name, two have the same one, or an output would overwrite an input.
    """

    def __init__(self, directory: Path, sources: Sequence[str]) -> None:
        if not directory.is_dir():
            raise OutputUncreatable(f"{directory}: is not a directory; create it first (mkdir -p)")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise OutputUncreatable(f"{directory}: may not be written to")
        self._directory = directory
        self._writer: Writer | None = None
        self._inputs = [Path(source) for source in sources if source != "-"]
        names: dict[str, str] = {}
        for source in sources:
            if source == "-":
                raise UsageError("stdin has no name for --output-dir; use -o FILE, or name the input")
            name = Path(source).name
            if name in names:
                raise UsageError(f"{source} and {names[name]}: both would become {directory / name}")
            names[name] = source
            if not Path(os.path.realpath(directory / name)).is_relative_to(os.path.realpath(directory)):
                raise OutputUncreatable(f"{directory / name}: leads out of {directory}; remove it first")
            for other in self._inputs:
                if _same(directory / name, other):
                    raise UsageError(f"{directory / name}: is also an input; choose another --output-dir")

    def begin(self, document: Document) -> Writer:
        """Open the document's file."""
        assert document.path is not None
        self._writer = open_output(self._directory / document.path.name, self._inputs)
        return self._writer

    def end(self) -> None:
        """Publish the document."""
        assert self._writer is not None
        self._writer.close()
        self._writer = None

    def drop(self) -> None:
        """Give up the document."""
        self.abandon()

    def finish(self) -> None:
        """Nothing is left to do: every document was published as it ended."""

    def abandon(self) -> None:
        """Give up the document in progress."""
        if self._writer:
            self._writer.abandon()
            self._writer = None


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of them does not exist
        return False
