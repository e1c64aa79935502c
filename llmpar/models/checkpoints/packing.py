"""Codes of few bits that share words of 32 bits or bytes, taken apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint8]


def unpack_words(words: npt.NDArray[Any], bits: int, count: int) -> Codes:
    """Return codes (N, count) that follow each other without gaps, the first in the lowest bits.

    Args:
        words: (N, W) of 32 bits.
        bits: of a code, 1 to 8.
        count: how many codes a row has; W is at least count · bits / 32.
    """
    # A transposed array is copied as words, which moves the fewest elements.
    data = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return data[:, :count]
    if 8 % bits == 0:
        return unpack_bytes(data, bits)[:, :count]
    # Eight codes are as many bytes as a code has bits.
    whole = -(-count // 8)
    padded = np.pad(data, ((0, 0), (0, max(0, whole * bits - data.shape[1]))))[:, : whole * bits]
    parts = padded.reshape(len(data), whole, bits).astype(np.uint16)
    codes = np.empty((len(data), whole, 8), np.uint8)
    for place in range(8):
        byte, shift = divmod(place * bits, 8)
        pair = parts[..., byte] >> shift
        if shift + bits > 8:
            pair |= parts[..., byte + 1] << (8 - shift)
        codes[..., place] = pair & ((1 << bits) - 1)
    return codes.reshape(len(data), -1)[:, :count]


def unpack_rows(words: npt.NDArray[Any], bits: int, rows: slice) -> Codes:
    """Return some rows (n, G) of codes that follow each other along the rows.

    Args:
        words: (W, G) of 32 bits.
        bits: of a code, 1 to 8.
        rows: which; W is at least their end · bits / 32.
    """
    first = rows.start // 32  # in so many words as a code has bits there are 32 whole ones
    some = words[first * bits : -(-rows.stop // 32) * bits]
    codes: Codes = unpack_words(some.T, bits, rows.stop - first * 32)[:, rows.start - first * 32 :].T
    return codes


def unpack_bytes(data: Codes, bits: int, *, high_first: bool = False) -> Codes:
    """Return the codes (N, B · 8 / bits) of bytes that hold whole ones.

    Args:
        data: bytes (N, B).
        bits: of a code: 1, 2, 4 or 8.
        high_first: the first code is in the highest bits, not in the lowest.
    """
    per_byte = 8 // bits
    codes = np.empty((*data.shape, per_byte), np.uint8)
    for place in range(per_byte):
        shifted = data >> np.uint8(bits * place)
        codes[..., per_byte - 1 - place if high_first else place] = shifted & np.uint8((1 << bits) - 1)
    return codes.reshape(*data.shape[:-1], -1)
