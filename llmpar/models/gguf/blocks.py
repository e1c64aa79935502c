"""Blocks of weights as GGUF files have them → codes, scales, offsets and tables: exactly what the blocks say.

How each form lies in its block is ggml's: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from llmpar.engine.quantized import Floats, Quantized, Scales
from llmpar.models.gguf.kinds import Kind

if TYPE_CHECKING:
    from llmpar.engine.cpu.block_codes import BlockCodes

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
        raw = raw.view()
        raw.flags.writeable = False  # what is compiled for one kind of array would be compiled again for the other
        return _UNPACKERS[kind.name](_Blocks(kind, raw, raw.view(layout)))
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


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Rows of blocks: their bytes (N, B · size), and their parts by name, each (N, B, ...)."""

    kind: Kind
    raw: npt.NDArray[np.uint8]
    parts: Array

    def part(self, name: str) -> Array:
        """Return a copy of a part, as (N, B), or (N, B · n) where a block has n of it."""
        found = self.parts[name]
        return found.reshape(len(found), math.prod(found.shape[1:]))

    def start(self, name: str) -> int:
        """Return where in a block a part begins."""
        fields = self.parts.dtype.fields
        assert fields is not None, "a layout has names"
        return int(fields[name][1])

    def codes(self, *, high_bits: int = 0, zero: int = 0) -> BlockCodes:
        """Return the codes (N, K) that the bytes named "low" hold in their halves.

        Args:
            high_bits: how many more bits of each the bytes named "high" hold.
            zero: what is subtracted from each.
        """
        from llmpar.engine.cpu.block_codes import BlockCodes, BlockLayout

        size, group = self.kind.size, self.kind.group
        runs, half = _RUNS.get(self.kind.name, (1, 16))
        planes = group // 32 * high_bits // 8
        high = self.start("high") if high_bits else 0
        layout = BlockLayout(size, group, self.start("low"), runs, half, high, planes, high_bits, zero)
        return BlockCodes(self.raw, layout, is_signed=bool(zero))


def _four_signed(blocks: _Blocks) -> Quantized:
    """Return what Q4_0 blocks say."""
    return Quantized(blocks.codes(zero=8), 4, Scales(blocks.part("scale")))


def _four_with_offsets(blocks: _Blocks) -> Quantized:
    """Return what Q4_1 blocks say."""
    return Quantized(blocks.codes(), 4, Scales(blocks.part("scale")), Scales(blocks.part("offset")))


def _five_signed(blocks: _Blocks) -> Quantized:
    """Return what Q5_0 blocks say."""
    return Quantized(blocks.codes(high_bits=1, zero=16), 5, Scales(blocks.part("scale")))


def _five_with_offsets(blocks: _Blocks) -> Quantized:
    """Return what Q5_1 blocks say."""
    return Quantized(blocks.codes(high_bits=1), 5, Scales(blocks.part("scale")), Scales(blocks.part("offset")))


def _eight(blocks: _Blocks) -> Quantized:
    """Return what Q8_0 blocks say."""
    from llmpar.engine.cpu.block_codes import BlockCodes, BlockLayout

    layout = BlockLayout(blocks.kind.size, blocks.kind.group, blocks.start("codes"), runs=0)
    return Quantized(BlockCodes(blocks.raw, layout, is_signed=True), 8, Scales(blocks.part("scale")))


def _four_k(blocks: _Blocks) -> Quantized:
    """Return what Q4_K blocks say: scales and offsets of 6 bits, and a unit for each of the two."""
    return Quantized(blocks.codes(), 4, *_scales_of_k(blocks))


def _five_k(blocks: _Blocks) -> Quantized:
    """Return what Q5_K blocks say: those of Q4_K with a fifth bit."""
    return Quantized(blocks.codes(high_bits=1), 5, *_scales_of_k(blocks))


def _scales_of_k(blocks: _Blocks) -> tuple[Scales, Scales]:
    from llmpar.engine.cpu.block_codes import put_six_bits

    rows, count = blocks.parts.shape
    scales, offsets = np.empty((rows, 8 * count), np.uint8), np.empty((rows, 8 * count), np.uint8)
    put_six_bits(blocks.raw, blocks.kind.size, blocks.start("scales"), scales, offsets)
    return Scales(scales, blocks.part("scale")), Scales(offsets, -blocks.part("offset"))  # which are subtracted


def _six_k(blocks: _Blocks) -> Quantized:
    """Return what Q6_K blocks say: groups of 16, and two more bits of each code."""
    return Quantized(blocks.codes(high_bits=2, zero=32), 6, Scales(blocks.part("scales"), blocks.part("scale")))


def _table_of_32(blocks: _Blocks) -> Quantized:
    """Return what IQ4_NL blocks say."""
    return Quantized(blocks.codes(), 4, Scales(blocks.part("scale")), table=_IQ4)


def _table_of_256(blocks: _Blocks) -> Quantized:
    """Return what IQ4_XS blocks say: scales of 6 bits around zero."""
    packed = blocks.parts["scales"]
    low = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], 8)
    high = (blocks.parts["high"][..., None] >> np.arange(0, 16, 2, dtype=np.uint16) & 3).astype(np.uint8)
    scales = (low | high << 4).view(np.int8) - np.int8(32)
    return Quantized(blocks.codes(), 4, Scales(_flat(scales), blocks.part("scale")), table=_IQ4)


def _mxfp4(blocks: _Blocks) -> Quantized:
    """Return what MXFP4 blocks say: a scale is a power of two, halved, as the table has twice the values."""
    scales = np.ldexp(np.float32(1), blocks.part("scale").astype(np.int32) - 128)
    return Quantized(blocks.codes(), 4, Scales(scales.astype(np.float32)), table=_E2M1)


def _flat(values: Array) -> Array:
    return values.reshape(len(values), math.prod(values.shape[1:]))


_RUNS = {"Q4_K": (4, 32), "Q5_K": (4, 32), "Q6_K": (2, 64), "IQ4_XS": (8, 16)}
"""How many runs of how many bytes hold the lower halves of a block's codes, where that is not one of 16."""
_UNPACKERS: dict[str, Callable[[_Blocks], Quantized]] = {
    "Q4_0": _four_signed,
    "Q4_1": _four_with_offsets,
    "Q5_0": _five_signed,
    "Q5_1": _five_with_offsets,
    "Q8_0": _eight,
    "Q4_K": _four_k,
    "Q5_K": _five_k,
    "Q6_K": _six_k,
    "IQ4_NL": _table_of_32,
    "IQ4_XS": _table_of_256,
    "MXFP4": _mxfp4,
}
