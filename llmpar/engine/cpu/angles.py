"""Sines and cosines of rotary angles, by arithmetic that every processor rounds alike.

Those of numpy and of C libraries differ in their last bits from one processor to another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.engine.cpu.compiled import inlined, kernel

# A quarter of a turn in three parts (Cody & Waite 1980): a multiple of the first two below 2^20 is exact.
_QUARTERS_PER_RADIAN = 0.6366197723675814
_QUARTER = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
# Taylor's series, which are exact to a double's last bits up to an eighth of a turn.
_SINE = (-1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800, -1 / 1307674368000)
_COSINE = (-1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800, 1 / 479001600, -1 / 87178291200, 1 / 20922789888000)


@inlined
def _series(square: Any, terms: Any) -> Any:
    total = 0.0
    for k in range(len(terms)):
        total = total * square + terms[len(terms) - 1 - k]
    return 1.0 + total * square


@kernel
def _turn(angles: Any, scaling: Any, cosines: Any, sines: Any) -> None:
    for row in range(angles.shape[0]):
        for k in range(angles.shape[1]):
            angle = np.float64(angles[row, k])
            quarters = np.rint(angle * _QUARTERS_PER_RADIAN)
            rest = angle - quarters * _QUARTER[0] - quarters * _QUARTER[1] - quarters * _QUARTER[2]
            sine, cosine = rest * _series(rest * rest, _SINE), _series(rest * rest, _COSINE)
            turned = np.int64(quarters) & 3
            if turned & 1:
                sine, cosine = cosine, -sine
            if turned & 2:
                sine, cosine = -sine, -cosine
            cosines[row, k] = np.float32(cosine) * scaling
            sines[row, k] = np.float32(sine) * scaling


def turn(angles: npt.NDArray[np.float32], scaling: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the cosines and sines of angles (T, R / 2) in radians, up to a million, times `scaling`; shaped alike."""
    cosines, sines = np.empty_like(angles), np.empty_like(angles)
    _turn(angles, np.float32(scaling), cosines, sines)
    return cosines, sines
