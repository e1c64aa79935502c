"""A directory of safetensors as mapped files: tensors that are read when they are used, and given back after it."""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

# As safetensors writes them: https://huggingface.co/docs/safetensors/index#format
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_CODES = {"BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"} | {
    name: name.replace("I", "int").replace("U", "uint")
    for name in ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64")
}
_RAW = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8", "float8_e8m0fnu": "uint8"}
"""What numpy has for types of the same length that it has not."""
_LENGTH = struct.Struct("<Q")
_LARGEST_HEADER = 100_000_000  # bytes, as safetensors has it


class OtherFiles(Exception):
    """The files do not hold plainly what the model has; whoever can load it otherwise says why."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies: bytes `start` to `end` of a file."""

    file: int
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class MappedWeights:
    """The tensors of some files of safetensors. The mapping is read-only, so that nothing in it can be lost.

    Args:
        files: all of them.
        with_codes: tensors may also be of integers and of floats of 8 bits, which quantised weights are made of.

    Raises:
        OtherFiles: one cannot be read, is damaged, or has tensors of other types.
    """

    def __init__(self, files: list[Path], *, with_codes: bool = False) -> None:
        self._maps: list[mmap.mmap] = []
        self._places: dict[str, _Place] = {}
        self.metadata: dict[str, str] = {}
        """What the files say beside their tensors."""
        types = _FLOATS | _CODES if with_codes else _FLOATS
        for file in files:
            try:
                with file.open("rb") as source:
                    self._maps.append(mmap.mmap(source.fileno(), 0, prot=mmap.PROT_READ))
                header, start = _read_header(self._maps[-1])
                self.metadata |= header.pop("__metadata__", None) or {}
                self._places |= dict(_places(header, types, start, len(self._maps[-1]), len(self._maps) - 1))
            except (OSError, ValueError, KeyError, TypeError, RecursionError, struct.error) as error:
                raise OtherFiles(f"{file.name} is damaged, empty, or no safetensors") from error

    @property
    def names(self) -> set[str]:
        """The tensors' names."""
        return set(self._places)

    @property
    def dtypes(self) -> set[str]:
        """The tensors' types, by torch's names."""
        return {place.dtype for place in self._places.values()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors' shapes, by their names."""
        return {name: place.shape for name, place in self._places.items()}

    def dtype(self, name: str) -> str:
        """Return a tensor's type, by torch's name."""
        return self._places[name].dtype

    def array(self, name: str) -> npt.NDArray[Any]:
        """Return a tensor of any shape, which is read from the file when it is used.

        Floats that numpy does not have are their bits: those of bfloat16 as uint16, of 8 bits as uint8.
        """
        place = self._places[name]
        count, dtype = math.prod(place.shape), _array_type(place.dtype)
        return np.frombuffer(self._maps[place.file], dtype, count, place.start).reshape(place.shape)

    def give_back(self, name: str) -> None:
        """Let go of the memory that a tensor's pages take; they are read again if they are used again."""
        place = self._places[name]
        _give_back(self._maps[place.file], place.start, place.end)


def _give_back(mapped: mmap.mmap, start: int, end: int) -> None:
    if not hasattr(mmap, "MADV_DONTNEED"):
        return  # not on this system, which then gives pages back when it needs them
    first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
    if first < last:
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)


def _read_header(mapped: mmap.mmap) -> tuple[dict[str, Any], int]:
    """Return what a file says of its tensors, and where these begin."""
    (length,) = _LENGTH.unpack_from(mapped)
    if length > min(_LARGEST_HEADER, len(mapped)):
        raise ValueError("its header is longer than the file")
    start = _LENGTH.size + length
    header = json.loads(mapped[_LENGTH.size : start])
    if not isinstance(header, dict):
        raise TypeError("its header is no object")
    return header, start


def _places(
    header: dict[str, Any], types: dict[str, str], start: int, length: int, file: int
) -> Iterator[tuple[str, _Place]]:
    for name, told in header.items():
        if told["dtype"] not in types:
            raise OtherFiles(f"{name} is of the type {told['dtype']}, which is not read here")
        dtype, shape = types[told["dtype"]], tuple(told["shape"])
        first, last = (start + offset for offset in told["data_offsets"])
        if not all(type(number) is int for number in (*shape, first, last)) or min(shape, default=1) < 1:
            raise ValueError(f"{name} has no length, or lies nowhere")
        size = math.prod(shape) * _array_type(dtype).itemsize
        if not (start <= first <= last <= length and last - first == size):
            raise ValueError(f"{name} lies outside of the file")
        yield name, _Place(file, dtype, shape, first, last)


def _array_type(dtype: str) -> np.dtype[Any]:
    found: np.dtype[Any] = np.dtype(_RAW.get(dtype, dtype)).newbyteorder("<")
    return found
