"""What git is told to ignore in a folder, by pathspec (MPL-2.0), which knows git's patterns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from llmpar.errors import InputUnreadable
from llmpar.visible import one_line

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_NAME = ".gitignore"


class Ignored:
    """The patterns that hold in a folder: those of its own files, and of the folders above it in the same repository.

    Args:
        folder: the one that is searched. Each folder in it is to be entered (`enter`) before its files are asked about.
    """

    def __init__(self, folder: Path) -> None:
        self._specs: dict[str, GitIgnoreSpec | None] = {}
        self._top = os.path.realpath(folder)
        at = Path(self._top)
        above = [at, *at.parents]
        roots = [number for number, path in enumerate(above) if (path / ".git").exists()]
        for path in above[1 : roots[0] + 1] if roots else ():
            self.enter(path)

    def enter(self, folder: Path) -> None:
        """Read the patterns of a folder, if it has some.

        Raises:
            InputUnreadable: they cannot be read.
        """
        from pathspec import GitIgnoreSpec

        path = folder / _NAME
        try:
            lines = path.read_text("utf-8", "surrogateescape").splitlines() if path.is_file() else []
        except OSError as error:
            raise InputUnreadable(f"{one_line(path)}: cannot be read: {error.strerror}") from error
        self._specs[os.path.realpath(folder)] = GitIgnoreSpec.from_lines(lines) if lines else None

    def is_ignored(self, path: Path, *, is_folder: bool = False) -> bool:
        """Tell whether a file, or a folder, is ignored: the nearest patterns that say something of it decide."""
        whole = os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118 (no link at the end is followed)
        at = os.path.dirname(whole)  # noqa: PTH120
        while True:
            spec = self._specs.get(at)
            if spec is not None:
                place = os.path.relpath(whole, at).replace(os.sep, "/")
                said = spec.check_file(place + "/" if is_folder else place).include
                if said is not None:
                    return said
            if os.path.dirname(at) == at:  # noqa: PTH120
                return False
            at = os.path.dirname(at)  # noqa: PTH120
