"""Weights as whole numbers of four bits in groups, with a scale in float16 for each: the scale that loses least.

The whole numbers are from -8 to 7, stored with 8 added. Scales are searched for in whole numbers, as sums of floats
depend on a processor's order, and a model must be packed alike on all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.engine.cpu.compiled import kernel

GROUP = 32
"""How many neighbouring inputs share a scale."""
_OFFSET, _LOWEST, _HIGHEST = 8, -8, 7
_UNITS = 4096  # what the extreme of a group is divided into to search its scale
# What the extreme of a group becomes, in sixteenths. 8 comes first: what it makes without a loss, the others may too,
# but by a scale that float16 rounds.
_EXTREMES = np.array([128, 112, 116, 120, 124, 132, 136, 140, 144, 148], np.int32)


@kernel
def _fit(units: Any, extremes: Any, found: Any) -> None:
    """Set found (N,) to the scale, in units, with which whole numbers of four bits come closest to `units` (N, GROUP).

    The extreme of each group is -4096 units. Of those scales that make it -extreme / 16, each once fitted by least
    squares to the whole numbers that it leads to, the one with the least squared error is taken.
    """
    for group in range(len(units)):
        best, scale = 0.0, 0.0
        for extreme in extremes:
            product, square = np.int32(0), np.int32(0)
            for k in range(units.shape[1]):
                unit = np.int32(units[group, k])
                # Each cast keeps Numba from 64 bits, of which a vector holds half as many.
                whole = np.int32(np.int32(np.int32(unit * extreme) + np.int32(32768)) >> np.int32(16))
                whole = min(max(whole, np.int32(-8)), np.int32(7))
                product = np.int32(product + np.int32(unit * whole))
                square = np.int32(square + np.int32(whole * whole))
            gained = np.float64(product) * np.float64(product) / np.float64(max(square, np.int32(1)))
            if gained > best:
                best, scale = gained, np.float64(product) / np.float64(max(square, np.int32(1)))
        found[group] = scale


def quantize(weights: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], npt.NDArray[np.float16]]:
    """Return whole numbers (N, K / GROUP, GROUP) from -8 to 7 and scales (N, K / GROUP) for weights (N, K).

    The scale of a group has the least squared error of those that are tried; it may be negative.
    """
    grouped = weights.reshape(-1, GROUP)
    largest, smallest = grouped.max(1), grouped.min(1)
    extreme = np.where(largest > -smallest, largest, smallest)
    unit = np.where(extreme == 0, np.float32(1), extreme) / np.float32(-_UNITS)
    fitted = np.empty(len(grouped), np.float64)
    with np.errstate(all="ignore"):  # what is not finite has a scale that is not, and is found in the logits
        _fit(np.rint(grouped / unit[:, None]).astype(np.int16), _EXTREMES, fitted)
        scales = (fitted * unit).astype(np.float16)
        scales = np.where(np.isfinite(extreme), scales, np.float16(np.nan))
        wide = scales.astype(np.float32)
        whole = np.rint(grouped / np.where(wide == 0, np.float32(np.inf), wide)[:, None])
        whole = np.clip(whole, _LOWEST, _HIGHEST).astype(np.int8)
    shape = (len(weights), -1)
    return whole.reshape(*shape, GROUP), scales.reshape(shape)


def pack(whole: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """Return whole numbers from -8 to 7 (N, …) as words (N, K / 8).

    The lower halves of a word's bytes are four neighbouring weights, the upper halves the next four.
    """
    halves = (whole + _OFFSET).astype(np.uint8).reshape(len(whole), -1, 2, 4)
    return np.ascontiguousarray(halves[:, :, 0] | halves[:, :, 1] << 4).view(np.uint32)[..., 0]
