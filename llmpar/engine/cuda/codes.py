"""Weights as a file has them, or as they are rounded when they are loaded → codes as the GPU's kernels take them.

Codes, scales and offsets are moved, never rounded again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from llmpar.engine.cuda.cuts import FloatWeights, Weights
from llmpar.engine.cuda.linear import CodesLinear, Numbers
from llmpar.engine.generic.skeleton import in_pieces
from llmpar.engine.quantized import Floats, Quantized, Scales

_SHORTEST = 16  # inputs of a run: what a tensor core takes at once
_LONGEST = 64
_TRIED = 48  # rows that are looked at to choose a way of rounding
_GROUPS = (64, 32, 16)  # inputs that share a scale in 8 bits: as many as divide them evenly


def can_round(num_inputs: int) -> bool:
    """Tell whether so many inputs can be divided into groups."""
    return num_inputs % _GROUPS[-1] == 0


def rounded_group(num_inputs: int, bits: int) -> int:
    """Return how many inputs share a scale where so many are rounded to codes of 4 or 8 bits."""
    if bits == 4:
        from llmpar.engine.cpu.four_bits import GROUP

        if num_inputs % GROUP == 0:
            return GROUP
    return next(size for size in _GROUPS if num_inputs % size == 0)


def keep(rows: Weights, bias: torch.Tensor | None, device: torch.device) -> CodesLinear:
    """Return the layer with these weights (N, K), with their own codes and scales, and a bias (N,) on the device."""
    (num_outputs, num_inputs), sample = rows.shape, _codes(rows[0:1])
    bits = 4 if sample.bits <= 4 else 8
    run = next(size for size in (_LONGEST, 32, _SHORTEST) if sample.group % size == 0)
    per_byte, zero = 8 // bits, 1 << (bits - 1) if sample.codes.dtype == np.int8 else 0
    blocks = -(-num_inputs // (run * per_byte))
    codes = np.zeros((num_outputs, blocks * run), np.uint8)
    scales, put_scales = _room(sample.scales, num_outputs)
    offsets, put_offsets = _room(sample.offsets, num_outputs) if sample.offsets else (None, None)

    def put(part: slice) -> None:
        some = _codes(rows[part])
        plain = np.asarray(some.codes).view(np.uint8) + np.uint8(zero)
        padded = np.pad(plain, ((0, 0), (0, blocks * run * per_byte - num_inputs)))
        if per_byte > 1:
            halves = (padded & 15).reshape(len(padded), blocks, per_byte, run)
            padded = (halves[:, :, 0] | halves[:, :, 1] << 4).reshape(len(padded), -1)
        codes[part] = padded
        put_scales(part, some.scales)
        if put_offsets and some.offsets:
            put_offsets(part, some.offsets)

    in_pieces(put, (num_outputs, num_inputs))
    table = None
    if sample.table is not None:
        whole = np.zeros(1 << bits, np.float32)
        whole[: len(sample.table)] = sample.table
        table = torch.from_numpy(whole).to(device)
    order = None if sample.order is None else torch.from_numpy(np.asarray(sample.order, np.int64)).to(device)
    return CodesLinear(
        codes=torch.from_numpy(codes).to(device),
        bits=bits,
        num_inputs=num_inputs,
        run=run,
        zero=zero,
        scales=_on(scales, device),
        offsets=_on(offsets, device) if offsets else None,
        table=table,
        order=order,
        bias=bias,
    )


@dataclass(frozen=True)
class Rounded:
    """A matrix (N, K) of floats, rounded to codes where it is looked at, as the CPU's decoder rounds it.

    Args:
        source: has them.
        bits: 4 or 8.
    """

    source: FloatWeights
    bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows and columns it has."""
        return self.source.shape

    def __getitem__(self, rows: slice, /) -> Quantized:
        """Return some rows (n, K)."""
        return self._way(self.source.floats(rows))

    def floats(self, rows: slice, /) -> Floats:
        """Return some rows (n, K) as they were."""
        return self.source.floats(rows)

    @cached_property
    def _way(self) -> Callable[[Floats], Quantized]:
        from llmpar.engine.cpu.four_bits import GROUP, MIDDLE, best_for  # Numba takes its time to be imported

        if self.bits > 4 or self.shape[1] % GROUP:
            return _to_8_bits
        quantize = best_for(self.source.floats(slice(0, _TRIED)))

        def to_4_bits(weights: Floats) -> Quantized:
            whole, scales, offsets = quantize(weights)
            codes = whole.reshape(weights.shape)
            if offsets is None:
                return Quantized((codes - np.uint8(MIDDLE)).view(np.int8), 4, Scales(scales))
            return Quantized(codes, 4, Scales(scales), Scales(offsets))

        return to_4_bits


def _to_8_bits(weights: Floats) -> Quantized:
    from llmpar.engine.cpu.precision import INT8

    group = rounded_group(weights.shape[1], 8)
    encoded = INT8.encoder(weights)(weights, group)
    assert encoded.scales is not None
    return Quantized(encoded.words.view(np.int8).reshape(weights.shape), 8, Scales(encoded.scales))


def _codes(found: Quantized | Floats) -> Quantized:
    if not isinstance(found, Quantized):
        raise TypeError("these rows are no codes")
    return found


def _room(sample: Scales, num_outputs: int) -> tuple[Scales, Callable[[slice, Scales], None]]:
    """Return room for the numbers of all rows, and what puts those of some rows there."""

    def like(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.empty((num_outputs, numbers.shape[1]), numbers.dtype)

    room = Scales(like(sample.values), None if sample.units is None else like(sample.units))

    def put(part: slice, some: Scales) -> None:
        room.values[part] = some.values
        if room.units is not None:
            room.units[part] = some.units

    return room, put


def _on(numbers: Scales, device: torch.device) -> Numbers:
    values, units = (_shortest(each) if each is not None else None for each in numbers)
    assert values is not None
    return Numbers(torch.from_numpy(values).to(device), None if units is None else torch.from_numpy(units).to(device))


def _shortest(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return numbers in float16 where it holds all of them."""
    if values.dtype != np.float32:
        return values
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    return halves if np.array_equal(halves.astype(np.float32), values, equal_nan=True) else values
