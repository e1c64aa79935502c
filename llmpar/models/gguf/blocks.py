"""Blocks of weights as GGUF files have them → codes, scales, offsets and tables: exactly what the blocks say.

How each form lies in its block is ggml's: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.engine.quantized import Floats, Quantized, Scales
from llmpar.models.gguf.kinds import Kind

Array = npt.NDArray[Any]

_IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
_E2M1 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)  # twice what they stand for
_HALF = [("scale", "<f2")]
_OFFSET = [*_HALF, ("offset", "<f2")]
_HIGH = [("high", "u1", 4)]  # the fifth bit of 32 codes
_NIBBLES = [("low", "u1", 16)]
_K = [*_OFFSET, ("scales", "u1", 12)]
_LAYOUTS = {
    "Q4_0": np.dtype([*_HALF, *_NIBBLES]),
    "Q4_1": np.dtype([*_OFFSET, *_NIBBLES]),
    "Q5_0": np.dtype([*_HALF, *_HIGH, *_NIBBLES]),
    "Q5_1": np.dtype([*_OFFSET, *_HIGH, *_NIBBLES]),
    "Q8_0": np.dtype([*_HALF, ("codes", "i1", 32)]),
    "Q4_K": np.dtype([*_K, ("low", "u1", (4, 32))]),
    "Q5_K": np.dtype([*_K, ("high", "u1", 32), ("low", "u1", (4, 32))]),
    "Q6_K": np.dtype([("low", "u1", (2, 64)), ("high", "u1", (2, 32)), ("scales", "i1", 16), ("scale", "<f2")]),
    "IQ4_NL": np.dtype([*_HALF, *_NIBBLES]),
    "IQ4_XS": np.dtype([*_HALF, ("high", "<u2"), ("scales", "u1", 4), ("low", "u1", (8, 16))]),
    "MXFP4": np.dtype([("scale", "u1"), *_NIBBLES]),
}
_PLAIN = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}


def unpack(kind: Kind, raw: npt.NDArray[np.uint8]) -> Quantized | Floats:
    """Return rows of weights: Quantized where the form is one of ours, else float32 (N, K).

    Args:
        kind: their form.
        raw: the rows' bytes (N, bytes).
    """
    layout = _LAYOUTS.get(kind.name)
    if layout is not None:
        return _UNPACKERS[kind.name](raw.view(layout))
    if kind.name in _PLAIN:
        return raw.view(_PLAIN[kind.name]).astype(np.float32)
    if kind.name == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    from gguf import GGMLQuantizationType, dequantize

    floats: Floats = dequantize(raw, GGMLQuantizationType[kind.name])
    return floats


def is_ours(kind: Kind) -> bool:
    """Tell whether rows of a form are unpacked as Quantized."""
    return kind.name in _LAYOUTS


def _signed(blocks: Array) -> Quantized:
    """Return what Q4_0 and Q5_0 blocks (N, B) say: codes around zero."""
    codes, bits = _codes(blocks)
    signed = codes.view(np.int8)
    signed -= np.int8(1 << (bits - 1))
    return Quantized(_flat(signed), bits, Scales(blocks["scale"].copy()))


def _with_offsets(blocks: Array) -> Quantized:
    """Return what Q4_1 and Q5_1 blocks (N, B) say."""
    codes, bits = _codes(blocks)
    return Quantized(_flat(codes), bits, Scales(blocks["scale"].copy()), Scales(blocks["offset"].copy()))


def _codes(blocks: Array) -> tuple[Array, int]:
    """Return the codes (N, B, 32) of blocks with nibbles, and how many bits they have."""
    codes = _nibbles(blocks["low"])
    if blocks.dtype.names is None or "high" not in blocks.dtype.names:
        return codes, 4
    codes |= np.unpackbits(blocks["high"], axis=-1, bitorder="little") << 4
    return codes, 5


def _nibbles(low: Array) -> Array:
    """Return the halves of bytes (…, n) as codes (…, 2n): all lower ones first, then the upper ones."""
    half = low.shape[-1]
    codes = np.empty((*low.shape[:-1], 2 * half), np.uint8)
    np.bitwise_and(low, 15, out=codes[..., :half])
    np.right_shift(low, 4, out=codes[..., half:])
    return codes


def _eight(blocks: Array) -> Quantized:
    """Return what Q8_0 blocks (N, B) say."""
    return Quantized(_flat(blocks["codes"].copy()), 8, Scales(blocks["scale"].copy()))


def _four_k(blocks: Array) -> Quantized:
    """Return what Q4_K blocks (N, B) say: scales and offsets of 6 bits, and a unit for each of the two."""
    return _of_k(blocks, _nibbles(blocks["low"]), 4)


def _five_k(blocks: Array) -> Quantized:
    """Return what Q5_K blocks (N, B) say: those of Q4_K with a fifth bit, the j-th of `high` for the j-th group."""
    codes = _nibbles(blocks["low"]).reshape(*blocks.shape, 8, 32)
    shifts = np.arange(8, dtype=np.uint8)[:, None]
    codes |= (blocks["high"][..., None, :] >> shifts & 1) << 4
    return _of_k(blocks, codes, 5)


def _of_k(blocks: Array, codes: Array, bits: int) -> Quantized:
    packed = blocks["scales"].reshape(*blocks.shape, 3, 4)
    first, second, upper = packed[..., 0, :], packed[..., 1, :], packed[..., 2, :]
    scales = np.concatenate([first & 63, upper & 15 | first >> 2 & 48], axis=-1)
    offsets = np.concatenate([second & 63, upper >> 4 | second >> 2 & 48], axis=-1)
    return Quantized(
        _flat(codes),
        bits,
        Scales(_flat(scales), blocks["scale"].copy()),
        Scales(_flat(offsets), -blocks["offset"]),  # they are subtracted
    )


def _six_k(blocks: Array) -> Quantized:
    """Return what Q6_K blocks (N, B) say: groups of 16, and two more bits of four codes in each byte of `high`."""
    codes = _nibbles(blocks["low"]).reshape(*blocks.shape, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    codes |= (blocks["high"][..., None, :] >> shifts & 3) << 4
    signed = codes.view(np.int8)
    signed -= np.int8(32)
    return Quantized(_flat(signed), 6, Scales(_flat(blocks["scales"].copy()), blocks["scale"].copy()))


def _table_of_32(blocks: Array) -> Quantized:
    """Return what IQ4_NL blocks (N, B) say."""
    return Quantized(_flat(_nibbles(blocks["low"])), 4, Scales(blocks["scale"].copy()), table=_IQ4)


def _table_of_256(blocks: Array) -> Quantized:
    """Return what IQ4_XS blocks (N, B) say: scales of 6 bits around zero."""
    low = _nibbles(blocks["scales"][..., None]).reshape(*blocks.shape, 8)
    high = (blocks["high"][..., None] >> np.arange(0, 16, 2, dtype=np.uint16) & 3).astype(np.uint8)
    scales = (low | high << 4).view(np.int8) - np.int8(32)
    return Quantized(_flat(_nibbles(blocks["low"])), 4, Scales(_flat(scales), blocks["scale"].copy()), table=_IQ4)


def _mxfp4(blocks: Array) -> Quantized:
    """Return what MXFP4 blocks (N, B) say: a scale is a power of two, halved, as the table has twice the values."""
    scales = np.ldexp(np.float32(1), blocks["scale"].astype(np.int32) - 128)
    return Quantized(_flat(_nibbles(blocks["low"])), 4, Scales(scales.astype(np.float32)), table=_E2M1)


def _flat(values: Array) -> Array:
    return values.reshape(len(values), math.prod(values.shape[1:]))


_UNPACKERS: dict[str, Callable[[Array], Quantized]] = {
    "Q4_0": _signed,
    "Q4_1": _with_offsets,
    "Q5_0": _signed,
    "Q5_1": _with_offsets,
    "Q8_0": _eight,
    "Q4_K": _four_k,
    "Q5_K": _five_k,
    "Q6_K": _six_k,
    "IQ4_NL": _table_of_32,
    "IQ4_XS": _table_of_256,
    "MXFP4": _mxfp4,
}
