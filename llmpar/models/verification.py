"""Every byte that is kept, against its checksum: what `llmpar models verify` tells. Imports Numba when it is called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llmpar.errors import ModelUnavailable
from llmpar.models import cache, packs

_IS_MADE_AGAIN = "the next run that needs it makes it again"


def everything() -> list[str]:
    """Return a line for each damaged thing in the cache: what it is, and what to do."""
    from llmpar.engine.cpu.compiled import find_damaged

    index = cache.damaged_index()
    others = sorted(packs.others().glob("*.pack"))
    return [
        *(fault for key in cache.entries() for fault in entry(key)),
        *(fault for pack in others for fault in _faults_of_pack(pack, pack.stem)),
        *(f"{file}: was altered; {_IS_MADE_AGAIN}" for file in find_damaged()),
        *([f"{index}: was altered; {_IS_MADE_AGAIN}"] if index else []),
    ]


def entry(key: str) -> list[str]:
    """Return a line for each damaged thing in an entry of the cache: what it is, and what to do."""
    from llmpar.engine.cpu import packed

    path, remedy = cache.entry_path(key), f"run `llmpar models remove {key}`, then again"
    try:
        cache.cached(key, key)
        kept = cache.kept_sums(path)
    except ModelUnavailable as damage:
        return [str(damage).replace("\n", "; ")]
    if kept is None:
        return [f"{path}: has no checksums, and none can be written; {remedy}"]
    try:
        faults = [f"{path / name}: was altered; {remedy}" for name in kept.find_altered(path, weights=True)]
    except OSError as error:
        faults = [f"{error.filename or path}: cannot be read: {error.strerror}; {remedy}"]
    for file in sorted(path.glob(f"pack-*-{packed.FORMAT}")):  # those of other versions are made again
        faults += _faults_of_pack(file, packs.origin(path, file.name.split("-")[1]))
    return faults


def _faults_of_pack(file: Path, origin: str) -> Iterator[str]:
    from llmpar.engine.cpu import packed

    try:
        packed.read(file, origin)
    except packed.DamagedPack as damage:
        yield f"{damage}; {_IS_MADE_AGAIN}"
