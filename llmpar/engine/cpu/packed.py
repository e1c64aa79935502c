"""A decoder in one file, as it lies in memory: written once, then mapped, and shared by all processes that read it.

Where the weights stay in a file of somebody's, it may hold recipes in the place of matrices (see `making`).

The file is a line: a SHA-256 of its rest, and JSON, padded with spaces, that has the decoder's fields, what it was made
of, and a checksum of the arrays, which follow, each on a cache line. It is made for one version of llmpar and kept in
its cache; nothing else need read it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from llmpar.engine.cpu.decoder import Decoder, Layer, Rope
from llmpar.engine.cpu.dots import DOTS, Dot
from llmpar.engine.cpu.embedding import StoredTable
from llmpar.engine.cpu.making import Recipe
from llmpar.engine.cpu.precision import PRECISIONS, Array, Precision
from llmpar.engine.cpu.projection import Projection
from llmpar.integrity.checksums import checksum, checksum_of
from llmpar.integrity.foundation import Foundation

FORMAT = 5
"""Raise it when the same weights would be packed otherwise."""
_ALIGNMENT = 64
_DIGITS = 64  # of a SHA-256
_KINDS = {kind.__name__: kind for kind in (Decoder, Layer, Projection, Recipe, Rope)}


class DamagedPack(Exception):
    """The file is not what was written."""


def write(decoder: Decoder, file: Path, origin: str = "", recipes: Mapping[int, Recipe] = MappingProxyType({})) -> None:
    """Write a decoder; an OSError passes through, and what is there by then is no pack.

    Args:
        decoder: the decoder.
        file: where to.
        origin: tells what it was made of from anything else.
        recipes: what is written in the place of a part, by its `id`; all that is missing is then made again.
    """
    arrays: list[Array | StoredTable] = []
    offset = 0

    def laid_down(value: Any) -> Any:
        nonlocal offset
        value = recipes.get(id(value), value)
        if isinstance(value, Precision | Dot):
            return value.name
        if is_dataclass(value) and not isinstance(value, StoredTable):
            parts = {field.name: laid_down(getattr(value, field.name)) for field in fields(value)}
            return {"kind": type(value).__name__, **parts}
        if isinstance(value, tuple):
            return [laid_down(part) for part in value]
        if isinstance(value, np.ndarray | StoredTable):
            place = {"dtype": np.dtype(value.dtype).str, "shape": value.shape, "offset": offset}
            arrays.append(value)
            offset += -(-value.nbytes // _ALIGNMENT) * _ALIGNMENT
            return place
        return value

    tree = laid_down(decoder)
    content = {"origin": origin, "bytes": offset, "checksum": checksum(_laid_out(arrays))}
    header = json.dumps({"format": FORMAT, **content, "decoder": tree}).encode()
    header += b" " * (-(_DIGITS + len(header) + 1) % _ALIGNMENT) + b"\n"
    with file.open("wb") as out:
        out.write(hashlib.sha256(header).hexdigest().encode() + header)
        for part in _laid_out(arrays):
            out.write(part)


def _laid_out(arrays: list[Array | StoredTable]) -> Iterator[Any]:
    for array in arrays:
        for part in array.parts() if isinstance(array, StoredTable) else (array,):
            yield np.ascontiguousarray(part).reshape(-1).view(np.uint8)
        yield bytes(-array.nbytes % _ALIGNMENT)


def read(
    file: Path,
    origin: str = "",
    foundation: Foundation | None = None,
    make: Callable[[Recipe], Projection | StoredTable] | None = None,
) -> Decoder:
    """Return the decoder that `write` wrote; its arrays are the file's pages, read when they are used.

    Args:
        file: the file.
        origin: what it must have been made of.
        foundation: what will tell whether the arrays are what was written; without it that is looked at here.
        make: makes what was written as a recipe, a projection or an embedding (V, H).

    Raises:
        DamagedPack: it is altered, cut short, another model's, from another version, or no such file at all.
    """
    try:
        with file.open("rb") as source:
            line = source.readline()
            data = np.memmap(source, np.uint8, "c")  # "c": arrays that cannot be written are another type to compile
            header = _header(file, line, len(data), origin)
            if foundation:
                foundation.add(file, header["checksum"], is_weights=True, source=source.fileno(), start=len(line))
            elif checksum_of(source.fileno(), len(line)) != header["checksum"]:
                raise DamagedPack(f"{file} was altered")

        def restore(value: Any) -> Any:
            if isinstance(value, list):
                return tuple(restore(part) for part in value)
            if not isinstance(value, dict):
                return value
            if "kind" in value:
                parts = {name: restore(part) for name, part in value.items() if name != "kind"}
                if "precision" in parts:
                    parts["precision"] = PRECISIONS[parts["precision"]]
                if "dot" in parts:
                    parts["dot"] = DOTS[parts["dot"]]
                made = _KINDS[value["kind"]](**parts)
                return make(made) if make and isinstance(made, Recipe) else made
            dtype, shape = np.dtype(value["dtype"]), tuple(value["shape"])
            start = len(line) + value["offset"]
            # A plain array: compiled code has one type to know.
            flat = np.frombuffer(data, dtype, int(np.prod(shape, dtype=np.int64)), start)
            return flat.reshape(shape)

        decoder = restore(header["decoder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedPack(f"{file} cannot be read: {error}") from error
    if not isinstance(decoder, Decoder):
        raise DamagedPack(f"{file} holds no decoder")
    return decoder


def _header(file: Path, line: bytes, size: int, origin: str) -> dict[str, Any]:
    if hashlib.sha256(line[_DIGITS:]).hexdigest().encode() != line[:_DIGITS]:
        raise DamagedPack(f"{file} was altered")
    header: dict[str, Any] = json.loads(line[_DIGITS:])
    if header["format"] != FORMAT or size != len(line) + header["bytes"]:
        raise DamagedPack(f"{file} is cut short or of another version")
    if header["origin"] != origin:
        raise DamagedPack(f"{file} was made of another model")
    return header
