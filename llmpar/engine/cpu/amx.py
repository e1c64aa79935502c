"""Intel's matrix extension (AMX): eight registers, each a tile of up to 16 rows of 64 bytes, and their products.

What is here writes the instructions into generated code. A kernel says what its tiles are with `configure`, once, and
gives them up with `release`, as threads with tiles in use are slower to switch.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18; the Linux kernel's
Documentation/arch/x86/xstate.rst.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from llmpar.engine.cpu.vector import HOST, I8, I16, function, number

ROWS = 16
"""Of a tile."""
WORDS = 16
"""Of 32 bits, in a row of a tile."""

_PREFIX = "llvm.x86."
_VOID, _POINTER = ir.VoidType(), I8.as_pointer()
_PALETTE, _COLUMNS_AT, _ROWS_AT, _CONFIGURATION = 1, 16, 48, 64  # bytes in what LDTILECFG reads
_ARCH_PRCTL, _REQ_XCOMP_PERM, _TILE_DATA = 158, 0x1023, 18


def _may_use() -> bool:
    """Ask Linux for the registers, on behalf of this process; it says no where it or the machine cannot keep them."""
    if not all(HOST.get(name, False) for name in ("avx512f", "amx-tile", "amx-int8", "amx-bf16")):
        return False
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    refused: int = ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQ_XCOMP_PERM, _TILE_DATA)
    return not refused


HAS_TILES = _may_use()
"""Whether products of int8 and bfloat16 are made by tiles."""


def configure(b: Any, shapes: list[tuple[Any, Any]]) -> None:
    """Give each tile, from the first, its numbers of rows and of 32-bit words in a row; all tiles become 0."""
    room = cgutils.alloca_once(b, ir.ArrayType(I8, _CONFIGURATION))
    start = b.bitcast(room, _POINTER)

    def put(offset: int, value: Any) -> None:
        b.store(value, b.bitcast(b.gep(start, [number(offset)]), value.type.as_pointer()))

    b.store(ir.Constant(room.type.pointee, None), room)
    put(0, ir.Constant(I8, _PALETTE))
    for tile, (rows, words) in enumerate(shapes):
        put(_COLUMNS_AT + 2 * tile, b.trunc(b.mul(words, number(4)), I16))
        put(_ROWS_AT + tile, b.trunc(rows, I8))
    _call(b, "ldtilecfg", start)


def release(b: Any) -> None:
    """Need no tiles any more."""
    _call(b, "tilerelease")


def clear(b: Any, tile: int) -> None:
    """Set a tile to 0."""
    _call(b, "tilezero", tile)


def load(b: Any, tile: int, pointer: Any, stride: Any) -> None:
    """Read a tile, whose rows lie `stride` bytes apart."""
    _call(b, "tileloadd64", tile, b.bitcast(pointer, _POINTER), stride)


def store(b: Any, tile: int, pointer: Any, stride: Any) -> None:
    """Write a tile as `load` reads it."""
    _call(b, "tilestored64", tile, b.bitcast(pointer, _POINTER), stride)


def dot(b: Any, instruction: str, total: int, left: int, right: int) -> None:
    """Add to a tile (16, 16) the product of two: 32-bit words of a row of `left` with those of a column of `right`.

    `instruction` tells what a word is: of "tdpbusd" four unsigned bytes in `left` and four signed ones in `right`, of
    "tdpbf16ps" two bfloat16 in each.
    """
    _call(b, instruction, total, left, right)


def _call(b: Any, name: str, *arguments: Any) -> None:
    values = [ir.Constant(I8, value) if isinstance(value, int) else value for value in arguments]
    b.call(function(b, _PREFIX + name, _VOID, [value.type for value in values]), values)
