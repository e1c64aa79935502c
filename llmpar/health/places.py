"""Where llmpar keeps what it makes: the cache of models and code, and the store of answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from llmpar.errors import LlmparError
from llmpar.health.finding import Finding, size
from llmpar.paths import cache_dir
from llmpar.store.store import Store, default_path

_TOPIC = "files"


def look(store: Path | None) -> Iterator[Finding]:
    """Yield what is kept, and where.

    Args:
        store: the user's; None for the usual one.
    """
    try:
        cache = cache_dir()
        yield _place("cache", f"{cache}: {_used(cache)}", cache, "LLMPAR_CACHE=DIR")
    except LlmparError as error:
        yield Finding(_TOPIC, "cache", str(error), is_fault=True, remedy="set LLMPAR_CACHE=DIR")
    yield _store(store)


def _store(given: Path | None) -> Finding:
    try:
        path = given or default_path()
        if not path.exists():
            return _place("store", f"{path}: none yet", path.parent, "LLMPAR_STATE=DIR")
        with closing(Store(path)) as opened:
            info = opened.info()
    except LlmparError as error:
        return Finding(_TOPIC, "store", str(error), is_fault=True)
    return Finding(_TOPIC, "store", f"{path}: {info.num_answers:,} answers, {size(info.size)}")


def _used(directory: Path) -> str:
    if not directory.is_dir():
        return "nothing yet"
    sizes = [path.lstat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]
    return f"{size(sum(sizes))} in {len(sizes):,} files"


def _place(name: str, value: str, directory: Path, setting: str) -> Finding:
    """Return what was found of a directory in which something is to be kept."""
    there = next((path for path in (directory, *directory.parents) if path.exists()), directory)
    if os.access(there, os.W_OK | os.X_OK):
        return Finding(_TOPIC, name, value)
    return Finding(_TOPIC, name, f"{value}; nothing can be written to {there}", is_fault=True, remedy=f"set {setting}")
