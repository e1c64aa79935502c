"""A GGUF file, or all parts of one that was split, mapped and read-only: nothing in it can be lost."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.engine.quantized import Places
from llmpar.errors import ModelUnavailable
from llmpar.models.gguf.header import Damaged, Header, Tensor, read_header
from llmpar.models.gguf.parts import parts_of


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor, and the number of the file that holds it."""

    file: int
    tensor: Tensor


class GgufFile:
    """What a model's files say, and the bytes of its tensors.

    `paths` are the files, of which there are several if the model was split. `fields` are what the first one says, by
    names as "general.architecture". `tensors` are those of all, by their names in the files.
    """

    def __init__(self, paths: tuple[Path, ...], maps: list[mmap.mmap], headers: list[Header]) -> None:
        self.paths = paths
        self.fields: dict[str, Any] = headers[0].fields
        self.tensors = {
            name: Place(number, tensor)
            for number, header in enumerate(headers)
            for name, tensor in header.tensors.items()
        }
        self._maps = maps

    @property
    def name(self) -> str:
        """The file's name, for people."""
        return self.paths[0].name

    @property
    def architecture(self) -> str:
        """What the file calls the model's architecture."""
        return str(self.fields.get("general.architecture", ""))

    def of_architecture(self, name: str, default: Any = None) -> Any:
        """Return what the file says under a name that begins with the architecture's, as "block_count"."""
        return self.fields.get(f"{self.architecture}.{name}", default)

    def rows(self, name: str, rows: slice | Places) -> npt.NDArray[np.uint8]:
        """Return the bytes (N, bytes) of some rows of a tensor; they are read from the file when they are used."""
        place = self.tensors[name]
        tensor = place.tensor
        width = tensor.shape[-1] // tensor.kind.group * tensor.kind.size
        flat = np.frombuffer(self._maps[place.file], np.uint8, tensor.size, tensor.start)
        found: npt.NDArray[np.uint8] = flat.reshape(-1, width)[rows]
        return found

    def give_back(self, name: str) -> None:
        """Let go of the memory that a tensor's pages take; they are read again if they are used again."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return  # not on this system, which then gives pages back when it needs them
        place = self.tensors[name]
        start, size = place.tensor.start, place.tensor.size
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (start + size) // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last:
            self._maps[place.file].madvise(mmap.MADV_DONTNEED, first, last - first)


def open_file(path: Path) -> GgufFile:
    """Return a GGUF file, or with it all parts of the one that it is a part of; what was just opened is taken again.

    Raises:
        ModelUnavailable: it cannot be read, is damaged, or a part is missing. The message names it.
    """
    paths = parts_of(path)
    try:
        stamps = tuple(_stamp(part) for part in paths)
        return _open(paths, stamps)
    except OSError as error:
        raise ModelUnavailable(f"model file {error.filename!r} cannot be read: {error.strerror}") from error


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what tells whether a file is still the same."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(2)
def _open(paths: tuple[Path, ...], stamps: tuple[tuple[int, ...], ...]) -> GgufFile:
    maps, headers = [], []
    for path, (*_, size, _) in zip(paths, stamps, strict=True):
        if not path.is_file():  # whoever opens a pipe waits for its writer
            raise ModelUnavailable(f"model file {str(path)!r} is no regular file")
        if size == 0:  # which cannot be mapped
            raise ModelUnavailable(f"{path.name!r} is no GGUF file: it is empty")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        maps.append(mapped)
        try:
            headers.append(read_header(mapped))
        except Damaged as damage:
            raise ModelUnavailable(f"{path.name!r} is damaged or not known: {damage}") from damage
        except (ValueError, OverflowError) as error:
            raise ModelUnavailable(f"{path.name!r} is damaged: {error}") from error
    _check_parts(paths, headers)
    return GgufFile(paths, maps, headers)


def _check_parts(paths: tuple[Path, ...], headers: list[Header]) -> None:
    """Raise ModelUnavailable unless the files are all parts of one model, in their order."""
    for number, (path, header) in enumerate(zip(paths, headers, strict=True)):
        count = header.fields.get("split.count", 1) or 1
        if count != len(paths):
            raise ModelUnavailable(
                f"{path.name!r} is one part of {count}, which need to have names that end in -00001-of-{count:05}.gguf"
            )
        if count > 1 and header.fields.get("split.no") != number:
            raise ModelUnavailable(f"{path.name!r} is another part than its name says")
    names = [name for header in headers for name in header.tensors]
    expected = headers[0].fields.get("split.tensors.count", len(names)) if len(paths) > 1 else len(names)
    if len(set(names)) != len(names) or len(names) != expected:
        raise ModelUnavailable(f"{paths[0].name!r} and its other parts do not belong together")
