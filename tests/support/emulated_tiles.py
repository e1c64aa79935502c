"""Intel's tiles in numpy, for processors that have none: what `amx` emits then calls this instead of the instructions.

Import it before anything that imports kernels, and let their compiled code have a directory of its own. Each check is
one that a processor makes too, or should.
"""

from __future__ import annotations

import ctypes
import os
import traceback
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from llmpar.engine.cpu import amx

_ROW, _NUM_TILES = 64, 8
_PREFIX = "emulated_tile_"
_BYTE, _ADDRESS, _SIZE = ctypes.c_uint8, ctypes.c_void_p, ctypes.c_int64

calls: dict[str, int] = {}
"""How often each instruction was executed."""
_tiles: list[np.ndarray[Any, Any]] = []  # bytes (rows, columns); none while there is no configuration
_kept: list[Any] = []


def _instruction(*arguments: Any) -> Callable[[Callable[..., None]], None]:
    def add(function: Callable[..., None]) -> None:
        name = function.__name__

        def run(*values: int) -> None:
            calls[name] = calls.get(name, 0) + 1
            try:
                function(*values)
            except BaseException:  # nothing can be raised through compiled code
                traceback.print_exc()
                os._exit(70)

        callback = ctypes.CFUNCTYPE(None, *arguments)(run)
        _kept.append(callback)
        address = ctypes.cast(callback, ctypes.c_void_p).value
        llvm.add_symbol(_PREFIX + name, address)

    return add


def _memory(address: int, size: int) -> np.ndarray[Any, Any]:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


@_instruction(_ADDRESS)
def ldtilecfg(address: int) -> None:
    assert not _tiles, "configured twice"
    read = _memory(address, 64)
    columns, rows = read[16:48].view(np.uint16), read[48:64]
    assert read[0] == 1
    assert not read[1:16].any()
    assert not columns[_NUM_TILES:].any()
    assert not rows[_NUM_TILES:].any()
    assert (columns[:_NUM_TILES] > 0).all()
    assert (columns[:_NUM_TILES] <= _ROW).all()
    assert (rows[:_NUM_TILES] > 0).all()
    assert (rows[:_NUM_TILES] <= amx.ROWS).all()
    _tiles.extend(np.zeros((rows[i], columns[i]), np.uint8) for i in range(_NUM_TILES))


@_instruction()
def tilerelease() -> None:
    assert _tiles, "released twice"
    _tiles.clear()


@_instruction(_BYTE)
def tilezero(tile: int) -> None:
    _tiles[tile][:] = 0


@_instruction(_BYTE, _ADDRESS, _SIZE)
def tileloadd64(tile: int, address: int, stride: int) -> None:
    _tiles[tile][:] = _lines(tile, address, stride)


@_instruction(_BYTE, _ADDRESS, _SIZE)
def tilestored64(tile: int, address: int, stride: int) -> None:
    _lines(tile, address, stride)[:] = _tiles[tile]


@_instruction(_BYTE, _BYTE, _BYTE)
def tdpbusd(total: int, left: int, right: int) -> None:
    sums = _tiles[total].view(np.int32)
    sums += _words(left, np.uint8).astype(np.int32) @ _columns(right, np.int8).astype(np.int32)


@_instruction(_BYTE, _BYTE, _BYTE)
def tdpbf16ps(total: int, left: int, right: int) -> None:
    def wide(bits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return (bits.astype(np.uint32) << 16).view(np.float32)

    sums = _tiles[total].view(np.float32)
    rows, columns = wide(_words(left, np.uint16)), wide(_columns(right, np.uint16))
    for place in range(rows.shape[1]):  # in order, as a matrix product of numpy's rounds by how many rows there are
        sums += rows[:, place, None] * columns[place]


def _lines(tile: int, address: int, stride: int) -> np.ndarray[Any, Any]:
    """Return memory of a tile's shape, whose rows are `stride` apart."""
    rows, columns = _tiles[tile].shape
    memory = _memory(address, (rows - 1) * stride + columns)
    return np.lib.stride_tricks.as_strided(memory, (rows, columns), (stride, 1))


def _words(tile: int, dtype: Any) -> np.ndarray[Any, Any]:
    return _tiles[tile].view(dtype)


def _columns(tile: int, dtype: Any) -> np.ndarray[Any, Any]:
    """Return a tile whose rows hold a word of each column, as (elements, columns)."""
    rows, per_word = len(_tiles[tile]), 4 // np.dtype(dtype).itemsize
    return _tiles[tile].view(dtype).reshape(rows, -1, per_word).transpose(0, 2, 1).reshape(rows * per_word, -1)


amx.HAS_TILES = True
amx._PREFIX = _PREFIX
