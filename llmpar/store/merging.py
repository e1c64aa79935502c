"""Several stores → one: those of shards, which each machine has on its own disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from llmpar.errors import StoreUnusable, UsageError
from llmpar.store.filesystems import network_file_system
from llmpar.store.held import companions
from llmpar.store.store import Store
from llmpar.visible import one_line


@dataclass(frozen=True, slots=True)
class Merged:
    """How many answers several stores had, and how many of them the store that took them had not."""

    num_answers: int
    num_new: int


def merge(target: Path | None, sources: Sequence[Path]) -> Merged:
    """Put the answers of some stores into one. Done twice, it does nothing the second time.

    Args:
        target: the store that takes them; it is created where there is none. None is the usual one.
        sources: the others, which stay as they are.

    Raises:
        UsageError: the store that takes them is one of them.
        StoreUnusable: one is not there, or cannot be used; those before it are merged.
    """
    for source in sources:
        if not source.exists():
            raise StoreUnusable(f"store {one_line(source)}: there is none; is it on the disk of another machine?")
    num_answers = num_new = 0
    with closing(Store(target)) as into:
        for source in sources:
            if source.samefile(into.path):
                raise UsageError(f"store {one_line(source)}: takes the others' answers, and cannot be one of them")
        for source in sources:
            with _at_hand(source) as place, closing(Store(place)) as other:
                for answers in other.all_answers():
                    num_answers += len(answers)
                    num_new += into.take(answers)
    return Merged(num_answers, num_new)


@contextmanager
def _at_hand(source: Path) -> Iterator[Path]:
    """A store where SQLite can use it: a copy, if it is on a network file system, to which it was copied itself."""
    if network_file_system(source) is None:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="llmpar-merge-") as directory:
        place = Path(directory) / "store.sqlite"
        try:
            for file in (source, *(beside for beside in companions(source) if beside.name.endswith("-wal"))):
                if file.exists():
                    shutil.copyfile(file, f"{place}{'-wal' if file != source else ''}")
        except OSError as error:
            raise StoreUnusable(f"store {one_line(source)}: cannot be copied: {error.strerror}") from error
        yield place
