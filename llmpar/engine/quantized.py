"""Weights as files have them: codes in groups of neighbouring inputs, and what these stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]
"""Numbers of rows (n,), in any order."""
_SHORTEST_GROUP = 16  # what a tensor core takes at once


class Scales(NamedTuple):
    """One number for each group: `values` (N, G), which are multiplied by `units` (N, G/s) where there are such.

    `values` are float32, float16, int8 or uint8. `units` are float32 or float16, each for s neighbouring groups: these
    are scales in two levels. A product has at most 24 bits, so float32 holds it.
    """

    values: npt.NDArray[Any]
    units: npt.NDArray[Any] | None = None

    def floats(self) -> Floats:
        """Return the numbers (N, G)."""
        values = self.values.astype(np.float32)
        if self.units is None:
            return values
        return values * np.repeat(self.units.astype(np.float32), values.shape[1] // self.units.shape[1], axis=1)


class Codes(Protocol):
    """Codes (N, K): an array, or what becomes one when it is wanted (as `cpu.block_codes.BlockCodes` do)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows and columns there are."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the array."""

    def __getitem__(self, rows: Any, /) -> Any:
        """Return some rows (n, K)."""

    def __array__(self) -> npt.NDArray[Any]:
        """Return the array (N, K)."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """Some rows (N, K) of a matrix of weights. A weight is scale · code + offset, or scale · table[code] + offset.

    `codes` (N, K) are int8 where they are signed, else uint8. `bits` is how many of them the file has for each.
    `scales` and `offsets` have one number for each group of K / G codes. `table` (2^bits,) has what codes stand for,
    where that is not themselves. `order` (K,) says of which input each code of a row is, where they are in another.
    """

    codes: Codes
    bits: int
    scales: Scales
    offsets: Scales | None = None
    table: Floats | None = None
    order: npt.NDArray[Any] | None = None

    @property
    def group(self) -> int:
        """How many neighbouring codes share a scale."""
        return int(self.codes.shape[1] // self.scales.values.shape[1])

    def weights(self) -> Floats:
        """Return the weights (N, K) that these stand for."""
        found = np.asarray(self.codes)
        codes = found.astype(np.float32) if self.table is None else self.table[found]
        grouped = codes.reshape(len(codes), -1, self.group) * self.scales.floats()[..., None]
        if self.offsets is not None:
            grouped += self.offsets.floats()[..., None]
        weights: Floats = grouped.reshape(codes.shape)
        if self.order is not None:
            weights = np.empty_like(weights)
            weights[:, self.order] = grouped.reshape(codes.shape)
        return weights


def has_groups(found: Quantized | Floats, bits: int) -> bool:
    """Tell whether rows (n, K) of a matrix are codes of at most so many bits, in groups of a multiple of 16 inputs."""
    return isinstance(found, Quantized) and found.bits <= bits and found.group % _SHORTEST_GROUP == 0


def _table_of_bytes(exponent: int, mantissa: int, specials: Mapping[int, float]) -> Floats:
    """Return what each of the 256 bytes of a float with a sign stands for.

    Args:
        exponent: how many bits it has.
        mantissa: how many bits it has.
        specials: what bytes without the sign stand for that are no ordinary numbers.
    """
    codes = np.arange(128)
    powers, steps = codes >> mantissa, codes & ((1 << mantissa) - 1)
    bias = (1 << (exponent - 1)) - 1
    values = np.ldexp(steps + (powers > 0) * float(1 << mantissa), np.maximum(powers, 1) - bias - mantissa)
    values[list(specials)] = list(specials.values())
    return np.concatenate([values, -values]).astype(np.float32)


FLOATS_OF_4_EXPONENT_BITS = _table_of_bytes(4, 3, {127: np.nan})
"""What codes stand for that are floats of 8 bits, as torch's float8_e4m3fn."""
FLOATS_OF_5_EXPONENT_BITS = _table_of_bytes(5, 2, {124: np.inf, 125: np.nan, 126: np.nan, 127: np.nan})
"""What codes stand for that are floats of 8 bits, as torch's float8_e5m2."""
