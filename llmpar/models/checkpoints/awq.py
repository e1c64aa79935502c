"""AWQ: codes of 4 bits that lie along the outputs, in words where even outputs come before odd ones, with zeros."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.models.checkpoints.matrices import Grouped, Matrix
from llmpar.models.checkpoints.tensors import FLOATS, Tensors

_BITS = 4
_PER_WORD = 32 // _BITS
_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""In which place of its word the code of each of eight outputs is."""


def find(tensors: Tensors, options: Mapping[str, Any]) -> dict[str, Matrix]:
    """Return the quantised weights of a checkpoint (see `opening.Find`)."""
    layout = str(options.get("version") or options.get("format") or "gemm").lower()
    if layout != "gemm":
        raise tensors.unknown(f"AWQ in the layout {layout!r}")
    if (bits := options.get("bits", options.get("w_bit", _BITS))) != _BITS:
        raise tensors.unknown(f"AWQ of {bits} bits")
    return {f"{module}.weight": _matrix(tensors, module) for module in tensors.ending(".qweight")}


def _matrix(tensors: Tensors, module: str) -> Grouped:
    words, zeros, scales = (f"{module}.{part}" for part in ("qweight", "qzeros", "scales"))
    tensors.expect(words, ("int32",), (None, None))
    num_inputs, num_words = tensors.shapes[words]
    num_rows = num_words * _PER_WORD
    tensors.expect(scales, FLOATS, (None, num_rows))
    num_groups = tensors.shapes[scales][0]
    tensors.expect(zeros, ("int32",), (num_groups, num_words))
    if num_inputs % num_groups:
        raise tensors.damaged(f"{scales} has {num_groups} groups, which do not divide {num_inputs} inputs")
    return Grouped(
        tensors,
        (words, zeros, scales),
        (num_rows, num_inputs),
        _BITS,
        f"AWQ, {_BITS} bits in groups of {num_inputs // num_groups}",
        codes=partial(_unpack, tensors, words),
        scales=lambda rows: tensors.columns(scales, rows),
        zeros=partial(_unpack, tensors, zeros),
    )


def _unpack(tensors: Tensors, name: str, rows: slice) -> npt.NDArray[np.uint8]:
    first, last = rows.start // _PER_WORD, -(-rows.stop // _PER_WORD)
    words = np.ascontiguousarray(tensors.array(name)[:, first:last].T)
    codes = np.empty((len(words), _PER_WORD, words.shape[1]), np.uint8)
    data = words.view(np.uint8).reshape(*words.shape, 4)
    for output, place in enumerate(_PLACES):
        codes[:, output] = data[..., place // 2] >> np.uint8(place % 2 * _BITS) & np.uint8(15)
    return codes.reshape(-1, words.shape[1])[rows.start - first * _PER_WORD :][: rows.stop - rows.start]
