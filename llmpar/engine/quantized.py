"""Weights as files have them: codes in groups of neighbouring inputs, and what these stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]
"""Numbers of rows (n,), in any order."""


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
    `scales` and `offsets` have one number for each group of K / G inputs. `table` (2^bits,) has what codes stand for,
    where that is not themselves.
    """

    codes: Codes
    bits: int
    scales: Scales
    offsets: Scales | None = None
    table: Floats | None = None

    @property
    def group(self) -> int:
        """How many neighbouring inputs share a scale."""
        return int(self.codes.shape[1] // self.scales.values.shape[1])

    def weights(self) -> Floats:
        """Return the weights (N, K) that these stand for."""
        found = np.asarray(self.codes)
        codes = found.astype(np.float32) if self.table is None else self.table[found]
        grouped = codes.reshape(len(codes), -1, self.group) * self.scales.floats()[..., None]
        if self.offsets is not None:
            grouped += self.offsets.floats()[..., None]
        return grouped.reshape(codes.shape)
