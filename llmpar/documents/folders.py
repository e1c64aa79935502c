"""Folders among the inputs → the documents in them, which keep their places when they are written elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from glob import glob, has_magic
from itertools import takewhile
from pathlib import Path

from llmpar.documents.destination import FileWriter
from llmpar.documents.formats import FORMATS, TEXTS
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.gitignore import Ignored
from llmpar.documents.source import suffix_of
from llmpar.errors import InputUnreadable, OutputUncreatable, WriteFailed, setting
from llmpar.visible import one_line

_COPIED_AT_ONCE = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files of a folder are documents. Names that begin with a dot are none, and no folder for others.

    Args:
        include: patterns of names or of paths in the folder; only what matches one is a document. None: all files
            whose names tell a format that needs no option, or has its option, and those that end in .txt.
        exclude: patterns of what is left alone.
        gitignore: whether that is left alone, too, which git is told to ignore.
        options: the options of formats.
        outside: a folder in which nothing is looked for, as documents are written there.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    gitignore: bool = False
    options: FormatOptions = field(default_factory=FormatOptions)
    outside: Path | None = None

    def is_left(self, place: str) -> bool:
        """Tell whether a file is neither a document nor something to be copied."""
        return _matches(place, self.exclude)

    def is_document(self, place: str) -> bool:
        """Tell whether a file is a document, by its path in the folder."""
        if self.include:
            return _matches(place, self.include)
        suffix = suffix_of(Path(place))
        entry = next((entry for entry in FORMATS.values() if suffix in entry.suffixes), None)
        if entry is None:
            return suffix in TEXTS
        return entry.needs is None or getattr(self.options, entry.needs) is not None


@dataclass(slots=True)
class Folders:
    """What was found in folders: the place of each document in its folder, and what is no document."""

    places: dict[str, Path] = field(default_factory=dict)
    others: dict[str, Path] = field(default_factory=dict)

    def expand(self, sources: Sequence[str], selection: Selection) -> list[str]:
        """Return inputs with the documents of folders, in the order of their names, instead of the folders.

        A pattern of paths (`*`, `?`, `[…]`, `**` for any folders) that is no file's name stands for those that match.

        Raises:
            InputUnreadable: a folder has no document, or cannot be read; or nothing matches a pattern.
        """
        found: list[str] = []
        for source in self._matched(sources, selection):
            if source == "-" or not os.path.isdir(source):  # noqa: PTH112 (Path's raises where a name is too long)
                found.append(source)
                continue
            count = len(found)
            for path, place in _files(Path(source), selection):
                if selection.is_document(place.as_posix()):
                    self.places[str(path)] = place
                    found.append(str(path))
                else:
                    self.others[str(path)] = place
            if len(found) == count:
                raise InputUnreadable(
                    f"{one_line(source)}: is a directory in which no file is a document by its name; "
                    f"say which are with {setting('include', 'PATTERN')}, or name the files in it"
                )
        return found

    def _matched(self, sources: Sequence[str], selection: Selection) -> Iterator[str]:
        for source in sources:
            if source == "-" or not has_magic(source) or os.path.lexists(source):
                yield source
                continue
            fixed = Path(*takewhile(lambda part: not has_magic(part), Path(source).parts[:-1]))
            names = sorted(glob(source, recursive=True))  # noqa: PTH207 (Path's finds hidden files, too)
            paths = [Path(name) for name in names]
            files = [path for path in paths if path.is_file() and not selection.is_left(str(path.relative_to(fixed)))]
            if not files:
                hint = "; if it is a question or a prompt, it comes before the files" if " " in source.strip() else ""
                raise InputUnreadable(f"{one_line(source)}: no file matches{hint}")
            for path in files:
                self.places[str(path)] = path.relative_to(fixed)
                yield str(path)

    def place_of(self, source: str) -> Path:
        """Return where a document stands in its folder; the name alone of one that was not found in any."""
        return self.places.get(source) or Path(Path(source).name)

    def copy_others(self, directory: Path, wait: float) -> None:
        """Copy what is no document to its place in a directory, each file at once or not at all.

        Raises:
            Busy: somebody else writes a file.
            OutputUncreatable: a file cannot be created, or its place leads out of the directory.
            WriteFailed: one cannot be read or written.
        """
        for source, place in self.others.items():
            path = directory / place
            if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory)):
                raise OutputUncreatable(f"{one_line(path)}: leads out of {one_line(directory)}; remove it first")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                writer = FileWriter(path, wait, like=Path(source), keeps_equal=True)
                try:
                    with Path(source).open("rb") as stream:
                        while data := stream.read(_COPIED_AT_ONCE):
                            writer.write(data)
                    writer.close()
                except BaseException:
                    writer.abandon()
                    raise
            except OSError as error:
                raise WriteFailed(f"{one_line(source)}: cannot be copied: {error}") from error


def _files(folder: Path, selection: Selection) -> Iterator[tuple[Path, Path]]:
    """Yield the files of a folder, by name, each with its path in it. No symbolic link to a folder is followed."""

    def fail(error: OSError) -> None:
        raise InputUnreadable(f"{one_line(error.filename)}: cannot be read: {error.strerror}") from error

    outside = selection.outside and os.path.realpath(selection.outside)
    ignored = Ignored(folder) if selection.gitignore else None
    for top, names, files in os.walk(folder, onerror=fail):
        if ignored:
            ignored.enter(Path(top))
        names[:] = sorted(
            name
            for name in names
            if not name.startswith(".")
            and os.path.realpath(Path(top) / name) != outside
            and not (ignored and ignored.is_ignored(Path(top) / name, is_folder=True))
        )
        for name in sorted(files):
            path = Path(top) / name
            place = path.relative_to(folder)
            if name.startswith(".") or not path.is_file() or selection.is_left(place.as_posix()):
                continue
            if not (ignored and ignored.is_ignored(path)):
                yield path, place


def _matches(place: str, patterns: Sequence[str]) -> bool:
    name = place.rpartition("/")[2]
    return any(fnmatchcase(place, pattern) or fnmatchcase(name, pattern) for pattern in patterns)
