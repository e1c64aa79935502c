"""Loops over the bytes of blocks, as files have them, compiled: numpy would make a call for every 16 or 32 of them.

They run over slices, and in numbers of 8 bits alone, because only so does the compiler make vectors of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from llmpar.engine.cpu.compiled import kernel


@kernel
def put_nibbles(raw: Any, size: int, start: int, count: int, half: int, codes: Any) -> None:
    """Put the halves of bytes into codes: of each run of bytes all lower ones first, then the upper ones.

    Args:
        raw: rows of blocks (N, B · size), uint8.
        size: bytes of a block.
        start: where in a block the runs begin.
        count: runs in a block.
        half: bytes in a run.
        codes: is written, (N, B · count · 2 · half), uint8.
    """
    for row in range(raw.shape[0]):
        found, put, place = raw[row], codes[row], 0
        for block in range(raw.shape[1] // size):
            for run in range(count):
                first = block * size + start + run * half
                pairs, low, high = found[first : first + half], put[place:], put[place + half :]
                for i in range(half):
                    low[i] = pairs[i] & np.uint8(15)
                for i in range(half):
                    high[i] = pairs[i] >> np.uint8(4)
                place += 2 * half


@kernel
def add_planes(raw: Any, size: int, start: int, count: int, bits: int, codes: Any) -> None:
    """Put higher bits above the lower four of codes: runs of 32 bytes have those of 32 · (8 / bits) codes.

    The lowest bits of a run's bytes are those of the first 32 codes, the next ones those of the next 32.

    Args:
        raw: rows of blocks (N, B · size), uint8.
        size: bytes of a block.
        start: where in a block the runs begin.
        count: runs in a block.
        bits: of a code, 1 or 2.
        codes: is changed, (N, B · 256), uint8.
    """
    mask = np.uint8((1 << bits) - 1)
    for row in range(raw.shape[0]):
        found, put, place = raw[row], codes[row], 0
        for block in range(raw.shape[1] // size):
            for run in range(count):
                first = block * size + start + run * 32
                planes = found[first : first + 32]
                for shift in range(0, 8, bits):
                    part = put[place : place + 32]
                    for i in range(32):
                        part[i] |= (planes[i] >> np.uint8(shift) & mask) << np.uint8(4)
                    place += 32


@kernel
def add_bits(raw: Any, size: int, start: int, codes: Any) -> None:
    """Put a fifth bit above the lower four of codes: the i-th of 4 bytes is that of the i-th of 32 codes.

    Args:
        raw: rows of blocks (N, B · size), uint8.
        size: bytes of a block.
        start: where in a block the 4 bytes begin.
        codes: is changed, (N, B · 32), uint8.
    """
    for row in range(raw.shape[0]):
        found, put = raw[row], codes[row]
        for block in range(raw.shape[1] // size):
            for byte in range(4):
                bits = found[block * size + start + byte]
                part = put[block * 32 + byte * 8 :]
                for i in range(8):
                    part[i] |= (bits >> np.uint8(i) & np.uint8(1)) << np.uint8(4)


@kernel
def put_six_bits(raw: Any, size: int, start: int, scales: Any, offsets: Any) -> None:
    """Put the 12 bytes that hold 8 scales and 8 offsets of 6 bits into arrays.

    Args:
        raw: rows of blocks (N, B · size), uint8.
        size: bytes of a block.
        start: where in a block the 12 bytes begin.
        scales: is written, (N, B · 8), uint8.
        offsets: is written, (N, B · 8), uint8.
    """
    for row in range(raw.shape[0]):
        for block in range(raw.shape[1] // size):
            packed = raw[row, block * size + start : block * size + start + 12]
            scale, offset = scales[row, block * 8 : block * 8 + 8], offsets[row, block * 8 : block * 8 + 8]
            for i in range(4):
                first, second, upper = packed[i], packed[4 + i], packed[8 + i]
                scale[i] = first & np.uint8(63)
                scale[4 + i] = upper & np.uint8(15) | first >> np.uint8(2) & np.uint8(48)
                offset[i] = second & np.uint8(63)
                offset[4 + i] = upper >> np.uint8(4) | second >> np.uint8(2) & np.uint8(48)
