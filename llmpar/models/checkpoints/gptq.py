"""GPTQ: codes of 2, 3, 4 or 8 bits that lie along the inputs, with zeros, and groups that may be in any order."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.models.checkpoints.matrices import Grouped, Matrix, contiguous_groups
from llmpar.models.checkpoints.packing import unpack_rows, unpack_words
from llmpar.models.checkpoints.tensors import FLOATS, Tensors

_BITS = (2, 3, 4, 8)
_FIRST, _SECOND = "gptq", "gptq_v2"


def find(tensors: Tensors, options: Mapping[str, Any]) -> dict[str, Matrix]:
    """Return the quantised weights of a checkpoint (see `opening.Find`)."""
    layout = options.get("checkpoint_format") or options.get("format") or _FIRST
    if layout not in (_FIRST, _SECOND) or options.get("is_marlin_format"):
        raise tensors.unknown(f"GPTQ in the layout {layout if layout != _FIRST else 'marlin'!r}")
    if options.get("pack_dtype", "int32") not in ("int32", None):
        raise tensors.unknown(f"GPTQ packed in {options['pack_dtype']!r}")
    for option in ("rotation", "adapter"):
        if options.get(option):
            raise tensors.unknown(f"GPTQ with {option!r}")
    return {
        f"{module}.weight": _matrix(tensors, module, options, is_first=layout == _FIRST)
        for module in tensors.ending(".qweight")
    }


def _matrix(tensors: Tensors, module: str, options: Mapping[str, Any], *, is_first: bool) -> Grouped:
    words, zeros, scales, order = (f"{module}.{part}" for part in ("qweight", "qzeros", "scales", "g_idx"))
    tensors.expect(words, ("int32",), (None, None))
    num_rows = tensors.shapes[words][1]
    tensors.expect(scales, FLOATS, (None, num_rows))
    num_groups = tensors.shapes[scales][0]
    num_inputs, bits = _length(tensors, words, order, options)
    tensors.expect(zeros, ("int32",), (num_groups, -(-num_rows * bits // 32)))
    groups = _groups(tensors, module, num_inputs, num_groups, options)
    order_of = f"groups of {num_inputs // num_groups}" if groups is None else "groups in an order of their own"
    return Grouped(
        tensors,
        (words, zeros, scales, *([order] if order in tensors.shapes else [])),
        (num_rows, num_inputs),
        bits,
        f"GPTQ, {bits} bits in {order_of}",
        codes=lambda rows: unpack_words(tensors.array(words)[:, rows].T, bits, num_inputs),
        scales=lambda rows: tensors.columns(scales, rows),
        zeros=partial(_zeros, tensors, zeros, bits, int(is_first)),
        groups=groups,
    )


def _length(tensors: Tensors, words: str, order: str, options: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many inputs a matrix has, and how many bits each code."""
    num_words = tensors.shapes[words][0]
    if order in tensors.shapes:  # layers may have codes of other lengths than the configuration says
        tensors.expect(order, ("int32", "int64"), (None,))
        (num_inputs,) = tensors.shapes[order]
        bits, rest = divmod(num_words * 32, num_inputs)
        if bits in _BITS and not rest:
            return num_inputs, bits
    elif options.get("bits") in _BITS:
        return num_words * 32 // options["bits"], options["bits"]
    raise tensors.damaged(f"{words} has codes of no number of bits that GPTQ has ({', '.join(map(str, _BITS))})")


def _groups(
    tensors: Tensors, module: str, num_inputs: int, num_groups: int, options: Mapping[str, Any]
) -> npt.NDArray[Any] | None:
    if (order := f"{module}.g_idx") in tensors.shapes:
        groups = tensors.array(order).astype(np.intp)
        if groups.min() < 0 or groups.max() >= num_groups:
            raise tensors.damaged(f"{order} names a group that is not there")
        size = num_inputs // num_groups
        is_usual = num_inputs == num_groups * size and (groups == np.arange(num_inputs) // size).all()
        return None if is_usual else groups
    size = options.get("group_size", 128)
    if not isinstance(size, int) or size == 0:
        raise tensors.unknown(f"GPTQ in groups of {size!r}")
    size = num_inputs if size < 0 else size
    if -(-num_inputs // size) != num_groups:
        raise tensors.damaged(f"{module}: {num_inputs} inputs in groups of {size} are not {num_groups} groups")
    return contiguous_groups(num_inputs, num_groups, size)


def _zeros(tensors: Tensors, name: str, bits: int, added: int, rows: slice) -> npt.NDArray[Any]:
    values = unpack_rows(tensors.array(name).T, bits, rows)
    # The first layout keeps them less one, and of 0 that leaves the largest code.
    zeros: npt.NDArray[Any] = values + np.uint8(added) & np.uint8((1 << bits) - 1)
    return zeros
