"""A decoder in one file, as it lies in memory: written once, then mapped, and shared by all processes that read it.

The file is a line: a SHA-256 of its rest, and JSON, padded with spaces, that has the decoder's fields; then its arrays,
each on a cache line. It is made for one version of llmpar and kept in its cache; nothing else need read it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmpar.engine.cpu.decoder import Decoder, Layer, Projection, Rope

FORMAT = 2
"""Raise it when the same weights would be packed otherwise."""
_ALIGNMENT = 64
_DIGITS = 64  # of a SHA-256
_KINDS = {kind.__name__: kind for kind in (Decoder, Layer, Projection, Rope)}


class DamagedPack(Exception):
    """The file is not what was written."""


def write(decoder: Decoder, file: Path) -> None:
    """Write a decoder; an OSError passes through, and what is there by then is no pack."""
    arrays: list[np.ndarray[Any, Any]] = []
    offset = 0

    def describe(value: Any) -> Any:
        nonlocal offset
        if is_dataclass(value):
            parts = {field.name: describe(getattr(value, field.name)) for field in fields(value)}
            return {"kind": type(value).__name__, **parts}
        if isinstance(value, tuple):
            return [describe(part) for part in value]
        if isinstance(value, np.ndarray):
            place = {"dtype": value.dtype.str, "shape": value.shape, "offset": offset}
            arrays.append(value)
            offset += -(-value.nbytes // _ALIGNMENT) * _ALIGNMENT
            return place
        return value

    tree = describe(decoder)
    header = json.dumps({"format": FORMAT, "bytes": offset, "decoder": tree}).encode()
    header += b" " * (-(_DIGITS + len(header) + 1) % _ALIGNMENT) + b"\n"
    with file.open("wb") as out:
        out.write(hashlib.sha256(header).hexdigest().encode() + header)
        for array in arrays:
            out.write(np.ascontiguousarray(array).data)
            out.write(bytes(-array.nbytes % _ALIGNMENT))


def read(file: Path) -> Decoder:
    """Return the decoder that `write` wrote; its arrays are the file's pages, read when they are used.

    Raises:
        DamagedPack: it is cut short, from another version, or no such file at all.
    """
    try:
        with file.open("rb") as source:
            line = source.readline()
        if hashlib.sha256(line[_DIGITS:]).hexdigest().encode() != line[:_DIGITS]:
            raise DamagedPack(f"{file} was altered")
        header = json.loads(line[_DIGITS:])
        if header["format"] != FORMAT or file.stat().st_size != len(line) + header["bytes"]:
            raise DamagedPack(f"{file} is cut short or of another version")
        data = np.memmap(file, np.uint8, "c")  # "c" because arrays that cannot be written are another type to compile

        def restore(value: Any) -> Any:
            if isinstance(value, list):
                return tuple(restore(part) for part in value)
            if not isinstance(value, dict):
                return value
            if "kind" in value:
                parts = {name: restore(part) for name, part in value.items() if name != "kind"}
                return _KINDS[value["kind"]](**parts)
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
