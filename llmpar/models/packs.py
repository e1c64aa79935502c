"""Where weights are kept as an engine takes them, so that they need not be packed in every run.

An entry of the cache has its packs beside its files. The pack of somebody else's directory lies in the cache, under a
digest of what its files are; so one that has changed has no pack. Of these, the ones that were used last are kept, up
to a share of the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmpar.errors import WriteFailed
from llmpar.models.cache import is_entry, kept_sums
from llmpar.models.configuration import place_of, quantization
from llmpar.paths import cache_dir, make_private

if TYPE_CHECKING:
    from llmpar.engine.precision_names import PrecisionName
    from llmpar.models.cache import Notify

_ABANDONED = 3600  # seconds; nothing takes that long to write
_MOST_BYTES = 64 << 30  # of others' directories, all together
_SHARE = 0.5  # of the room on the disk, theirs included


@dataclass(frozen=True, slots=True)
class PackPlace:
    """Where a pack is, or would be, and what it must have been made of."""

    file: Path
    origin: str
    is_others: bool

    def use(self) -> bool:
        """Tell whether there is a pack, which counts as used now."""
        with contextlib.suppress(OSError):
            if self.is_others and self.file.exists():
                os.utime(self.file)
        return self.file.exists()

    def keep(self, write: Callable[[Path], None], notify: Notify) -> None:
        """Let `write` make the pack, whole or not at all; without it the next run takes longer, which is no error."""
        fresh = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        try:
            if self.is_others:
                make_private(self.file.parent)
            else:
                for older in self.file.parent.glob(f"{self.file.name.rpartition('-')[0]}-*"):
                    older.unlink()  # of another version
            for left in self.file.parent.glob(f".{self.file.name if not self.is_others else ''}*"):
                if time.time() - left.stat().st_mtime > _ABANDONED:
                    left.unlink()  # by a process that was killed
            write(fresh)
            if self.is_others and not _has_room(self.file.parent, fresh.stat().st_size):
                fresh.unlink()
                notify("the packed weights are too large to be kept; every run will pack them anew")
                return
            fresh.replace(self.file)
        except (OSError, WriteFailed) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            notify(f"{str(self.file)!r}: cannot be written ({reason}); every run will pack the weights anew")
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)


def find(path: Path, precision: PrecisionName, version: int) -> PackPlace | None:
    """Return where the pack of a model is; None where there is nothing to pack, or nowhere to keep it.

    Files of GGUF and quantised directories have none: their codes are kept as they are, and moved as fast as they could
    be read.

    Args:
        path: the model's directory or GGUF file.
        precision: what it is packed for.
        version: of packs.

    Raises:
        ModelUnavailable: what the cache knows of an entry is damaged, or a directory's configuration is.
    """
    entry = place_of(path)
    if is_entry(entry):
        return PackPlace(entry / f"pack-{precision}-{version}", origin(entry, precision), is_others=False)
    try:
        place = others()
        if not path.is_dir() or quantization(path):
            return None
        identities = [_identity(file) for file in sorted(path.iterdir()) if file.is_file()]
    except (OSError, WriteFailed):
        return None
    digest = hashlib.sha256(json.dumps([precision, version, identities]).encode()).hexdigest()
    return PackPlace(place / f"{digest}.pack", digest, is_others=True)


def others() -> Path:
    """Return where the packs of others' directories are, each named by its origin.

    Raises:
        WriteFailed: there is no cache.
    """
    return cache_dir() / "packs"


def origin(entry: Path, precision: str) -> str:
    """Return what tells the pack of an entry's weights from those of other entries and precisions.

    Raises:
        ModelUnavailable: its checksums are damaged.
    """
    kept = kept_sums(entry)
    return f"{kept.own if kept else 'unknown'} {precision}"


def _identity(file: Path) -> tuple[object, ...]:
    """Return what changes when a file is written or replaced."""
    found = file.stat()
    return file.name, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _has_room(place: Path, size: int) -> bool:
    """Delete the packs that were used longest ago, until there is room for one more of this size, which is there."""
    kept = sorted((pack.stat().st_mtime, pack.stat().st_size, pack) for pack in place.glob("*.pack"))
    total = sum(taken for _, taken, _ in kept) + size
    most = min(_MOST_BYTES, int((shutil.disk_usage(place).free + total) * _SHARE))
    if size > most:
        return False
    for _, taken, pack in kept:
        if total <= most:
            break
        pack.unlink(missing_ok=True)
        total -= taken
    return True
