"""The checksums of a cache entry's files, in a file beside them that is sealed with the entry's key.

Links are left out: what they lead to is others'. So are packs, which have checksums of their own and name these.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmpar.integrity.checksums import checksum, checksum_at, seal_json, unseal_json

FILE = "checksums"


@dataclass(frozen=True, slots=True)
class Sums:
    """Checksums by file name; `own` is that of them all, which tells this entry from any other."""

    by_name: dict[str, str]
    own: str

    def find_altered(self, entry: Path, *, weights: bool) -> list[str]:
        """Return the names of files that are not what was written.

        Args:
            entry: the directory.
            weights: whether weights are looked at, too, which takes as long as it takes to read them.

        Raises:
            OSError: one cannot be read.
        """
        looked_at = [name for name in self.by_name if weights or not is_weights(name)]
        return [name for name in looked_at if checksum_at(entry / name) != self.by_name[name]]


def is_weights(name: str) -> bool:
    """Tell whether a file of this name holds weights."""
    return name.endswith((".safetensors", ".gguf"))


def write(directory: Path, key: str) -> Sums:
    """Write the checksums of all files that are in a directory now.

    Args:
        directory: the entry, or what will become it.
        key: the entry's.

    Raises:
        OSError: a file cannot be read, or written.
    """
    names = sorted(path.name for path in directory.iterdir() if path.is_file() and not path.is_symlink())
    kept = [name for name in names if name != FILE and not name.startswith((".", "pack-"))]
    sealed = seal_json({name: checksum_at(directory / name) for name in kept}, key)
    fresh = directory / f".{FILE}.{os.getpid()}"
    try:
        fresh.write_bytes(sealed)
        fresh.replace(directory / FILE)
    finally:
        fresh.unlink(missing_ok=True)
    return _sums(sealed, key)


def read(directory: Path) -> Sums:
    """Return an entry's checksums.

    Raises:
        ValueError: they were altered, or are another entry's.
        OSError: they cannot be read, or there are none.
    """
    return _sums((directory / FILE).read_bytes(), directory.name)


def _sums(sealed: bytes, key: str) -> Sums:
    found: Any = unseal_json(sealed, key)
    return Sums(dict(found), checksum([sealed]))
