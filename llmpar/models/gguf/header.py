"""The header of a GGUF file: what it says of its model, and where each tensor lies.

Read with care, as anybody may have written it: nothing is taken memory for that the file does not hold. The format is
that of ggml's documentation of GGUF.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from llmpar.models.gguf.kinds import KINDS, Kind

MAGIC = b"GGUF"
Buffer = bytes | mmap.mmap

_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_LENGTH = struct.Struct("<Q")
_TYPE = struct.Struct("<I")
_BEGINNING = struct.Struct("<4sIQQ")  # magic, version, how many tensors, how many fields
_LEAST_TENSOR, _LEAST_FIELD = 24, 13  # bytes that one takes in the header
_MOST_DIMENSIONS = 4
_ALIGNMENT = 32


class Damaged(ValueError):
    """A file is not what a GGUF file must be; the message says in what, and does not name the file."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies: `size` bytes from `start` on in its file. `shape` has its rows first, as numpy does."""

    kind: Kind
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of its model, by names as "general.architecture", and its tensors."""

    fields: dict[str, Any]
    tensors: dict[str, Tensor]


def read_header(data: Buffer) -> Header:
    """Return the header of a file, which is looked at as a whole: each tensor lies in it, and has a known form.

    Raises:
        Damaged: it is damaged, truncated, or of a kind that is not known.
    """
    reader = _Reader(data)
    version, num_tensors, num_fields = reader.begin()
    if version not in _VERSIONS:
        _refuse_version(version)
    if num_fields * _LEAST_FIELD + num_tensors * _LEAST_TENSOR > len(data):
        raise Damaged("it promises more than it holds")
    fields: dict[str, Any] = {}
    for _ in range(num_fields):
        name = reader.string()
        if name in fields:
            raise Damaged(f"it says {name!r} twice")
        fields[name] = reader.value(reader.kind())
    told = [reader.tensor() for _ in range(num_tensors)]
    alignment = fields.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise Damaged("its alignment is no power of two")
    start = -(-reader.position // alignment) * alignment
    tensors: dict[str, Tensor] = {}
    for name, shape, number, offset in told:
        if name in tensors:
            raise Damaged(f"it has two tensors {name!r}")
        tensors[name] = _place(name, shape, number, start + offset, len(data))
    return Header(fields, tensors)


def _refuse_version(version: int) -> NoReturn:
    if version & 0xFFFF == 0:
        raise Damaged("it was written for a processor with another order of bytes")
    known = " and ".join(map(str, _VERSIONS))
    raise Damaged(f"it is of version {version} of the format, and versions {known} are known")


def _place(name: str, shape: tuple[int, ...], number: int, start: int, length: int) -> Tensor:
    kind = KINDS.get(number)
    if kind is None:
        raise Damaged(f"{name!r} is of type {number}, which is not known")
    if not shape or min(shape) < 1:
        raise Damaged(f"{name!r} has no weights")
    if shape[-1] % kind.group:
        raise Damaged(f"{name!r} has rows of {shape[-1]} weights, which {kind.name} cannot hold")
    size = math.prod(shape) // kind.group * kind.size
    if start + size > length:
        raise Damaged(f"it is truncated: {name!r} ends at byte {start + size}, and the file at {length}")
    return Tensor(kind, shape, start, size)


class _Reader:
    """Takes one thing after the other out of a header."""

    def __init__(self, data: Buffer) -> None:
        self._data = data
        self.position = 0

    def begin(self) -> tuple[int, int, int]:
        """Return the version, and how many tensors and fields there are."""
        magic, version, num_tensors, num_fields = self._take(_BEGINNING)
        if magic != MAGIC:
            raise Damaged("it does not begin as a GGUF file does")
        return version, num_tensors, num_fields

    def kind(self) -> int:
        """Return the number of a type."""
        return int(self._take(_TYPE)[0])

    def string(self) -> str:
        """Return a text."""
        (length,) = self._take(_LENGTH)
        try:
            return self._bytes(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Damaged("it has a text that is none") from error

    def value(self, kind: int) -> Any:
        """Return a value of the type of this number."""
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner = self.kind()
            (count,) = self._take(_LENGTH)
            return self._texts(count) if inner == _STRING else self._numbers(inner, count)
        return self._numbers(kind, 1)[0]

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Return a tensor's name, shape, type and place among the tensors."""
        name, num_dimensions = self.string(), self.kind()
        if num_dimensions > _MOST_DIMENSIONS:
            raise Damaged(f"{name!r} has {num_dimensions} dimensions")
        shape = self._take(struct.Struct(f"<{num_dimensions}Q"))
        number, offset = self._take(struct.Struct("<IQ"))
        return name, tuple(reversed(shape)), number, offset

    def _take(self, struct_: struct.Struct) -> tuple[Any, ...]:
        return struct_.unpack(self._bytes(struct_.size))

    def _bytes(self, length: int) -> bytes:
        first, self.position = self.position, self.position + length
        if self.position > len(self._data):
            raise Damaged("it is truncated: its header goes on beyond its end")
        return self._data[first : self.position]

    def _numbers(self, kind: int, count: int) -> tuple[Any, ...]:
        code = _SCALARS.get(kind)
        if code is None:  # arrays of arrays are allowed by the format, and nobody writes any
            raise Damaged(f"it has a value of type {kind}, which is not known")
        size = struct.calcsize(f"<{code}")
        return struct.unpack(f"<{count}{code}", self._bytes(count * size))

    def _texts(self, count: int) -> list[str]:
        """Return many texts. A model has hundreds of thousands of tokens and merges, so this is written to be quick."""
        data, position, end = self._data, self.position, len(self._data)
        if count * _LENGTH.size > end - position:
            raise Damaged("it is truncated: its header goes on beyond its end")
        unpack: Callable[[Buffer, int], tuple[int]] = _LENGTH.unpack_from
        begin, places = position, []
        for _ in range(count):
            places.append(position)
            if position + _LENGTH.size > end:
                raise Damaged("it is truncated: its header goes on beyond its end")
            position += _LENGTH.size + unpack(data, position)[0]
        if position > end:
            raise Damaged("it is truncated: its header goes on beyond its end")
        self.position = position
        if not places:
            return []
        return _split(np.frombuffer(data, np.uint8, position - begin, begin), np.array(places, np.int64) - begin)


def _split(raw: npt.NDArray[np.uint8], places: npt.NDArray[np.int64]) -> list[str]:
    """Return the texts among bytes (n,), before each of which there is its length, at these places."""
    is_text = np.ones(len(raw), bool)
    for byte in range(_LENGTH.size - 1):
        is_text[places + byte] = False
    parted = raw.copy()
    parted[places + _LENGTH.size - 1] = 0  # one byte of each length is left, before its text
    found = parted[is_text].tobytes().decode("utf-8", "replace").split("\0")  # a token may be a part of a character
    if len(found) == len(places) + 1:
        return found[1:]
    ends = [*places[1:].tolist(), len(raw)]  # some have zeros
    firsts = (places + _LENGTH.size).tolist()
    return [raw[first:end].tobytes().decode("utf-8", "replace") for first, end in zip(firsts, ends, strict=True)]
