"""torchao: tensors of its own kinds, taken apart, and described in the metadata of their file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.models.checkpoints.matrices import Grouped, Matrix
from llmpar.models.checkpoints.packing import unpack_bytes
from llmpar.models.checkpoints.scaled_floats import scaled_floats
from llmpar.models.checkpoints.tensors import FLOATS, Tensors

_PLAIN = "Tensor"


def find(tensors: Tensors) -> dict[str, Matrix]:
    """Return the quantised weights of a checkpoint (see `opening.Find`)."""
    if "tensor_names" not in tensors.metadata:
        raise tensors.unknown("torchao without metadata in its files")
    found: dict[str, Matrix] = {}
    for name, stored in tensors.metadata.items():
        if "." not in name:  # what is no tensor's name
            continue
        told = _object(tensors, name, stored)
        kind = told.get("_type")
        if kind == _PLAIN:
            continue
        if not isinstance(kind, str) or kind not in _KINDS:
            raise tensors.unknown(f"torchao's {kind!r}; these are read: {', '.join(_KINDS)}")
        attributes = told.get("_data")
        if not isinstance(attributes, dict):
            raise tensors.damaged(f"its metadata does not say what {name} is")
        module, _, parameter = name.rpartition(".")
        prefix = f"{module}._{parameter}_"
        if f"{prefix}act_pre_scale" in tensors.shapes:
            raise tensors.unknown("torchao with 'act_pre_scale'")
        found[name] = _KINDS[kind](tensors, prefix, attributes)
    return found


def _object(tensors: Tensors, name: str, stored: str) -> dict[str, Any]:
    try:
        told = json.loads(stored)
    except (ValueError, TypeError, RecursionError) as error:
        raise tensors.damaged(f"its metadata does not say what {name} is") from error
    return told if isinstance(told, dict) else {}


def _block(tensors: Tensors, prefix: str, attributes: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, int]:
    """Return how many rows and inputs share a scale."""
    block = attributes.get("block_size")
    if not (isinstance(block, list) and len(block) == 2 and all(isinstance(size, int) and size > 0 for size in block)):
        raise tensors.unknown(f"torchao in blocks of {block!r}")
    if shape[0] % block[0] or shape[1] % block[1]:
        raise tensors.damaged(f"{prefix}qdata has the shape {list(shape)}, which blocks of {block} do not divide")
    return block[0], block[1]


def _integers(tensors: Tensors, prefix: str, attributes: Mapping[str, Any]) -> Matrix:
    """Return a matrix of integers of 8 bits each, of which fewer may be used."""
    weight, scale, zero = (prefix + part for part in ("qdata", "scale", "zero_point"))
    tensors.expect(weight, ("int8",), (None, None))
    shape = tensors.shapes[weight]
    height, width = _block(tensors, prefix, attributes, shape)
    grid = (shape[0] // height, shape[1] // width)
    tensors.expect(scale, FLOATS, grid)
    bits = _bits(tensors, attributes)
    parts = [weight, scale]
    if zero in tensors.shapes:
        if tensors.dtype(zero) in FLOATS:
            raise tensors.unknown("torchao with zero points that are floats")
        tensors.expect(zero, ("int8",), grid)
        parts.append(zero)
    # Besides, activations may have scales that were found beforehand; they are not rounded here.
    parts += [name for part in ("scale", "zero_point") if (name := f"{prefix}act_quant_{part}") in tensors.shapes]
    return Grouped(
        tensors,
        tuple(parts),
        (shape[0], shape[1]),
        bits,
        f"torchao, {bits} bits in {'rows' if grid[1] == 1 else f'groups of {width}'}",
        codes=lambda rows: tensors.codes(weight, bits, rows),
        scales=lambda rows: tensors.scales(scale, np.arange(rows.start, rows.stop) // height),
        zeros=(lambda rows: tensors.array(zero)[np.arange(rows.start, rows.stop) // height]) if zero in parts else None,
    )


def _bits(tensors: Tensors, attributes: Mapping[str, Any]) -> int:
    target = attributes.get("target_dtype")
    name = target.get("_data") if isinstance(target, dict) else "int8"
    known = {f"int{bits}": bits for bits in range(1, 9)}
    if name not in known:
        raise tensors.unknown(f"torchao's integers of the type {name!r}")
    return known[name]


def _nibbles(tensors: Tensors, prefix: str, attributes: Mapping[str, Any]) -> Matrix:
    """Return a matrix of signed integers of 4 bits, two in each byte; a weight is scale · code + zero point."""
    weight, scale, zero = (prefix + part for part in ("qdata", "scale", "zero_point"))
    tensors.expect(weight, ("int8", "uint8"), (None, None))
    num_rows, num_inputs = tensors.shapes[weight][0], 2 * tensors.shapes[weight][1]
    height, width = _block(tensors, prefix, attributes, (num_rows, num_inputs))
    if height != 1:
        raise tensors.unknown(f"torchao in blocks of {height} × {width}")
    for part in (scale, zero):
        tensors.expect(part, FLOATS, (num_inputs // width, num_rows))

    def codes(rows: slice) -> npt.NDArray[np.int8]:
        nibbles = unpack_bytes(tensors.array(weight)[rows].view(np.uint8), 4)
        signed: npt.NDArray[np.int8] = (nibbles ^ np.uint8(8)).view(np.int8) - np.int8(8)
        return signed

    return Grouped(
        tensors,
        (weight, scale, zero),
        (num_rows, num_inputs),
        4,
        f"torchao, 4 bits in groups of {width}",
        codes=codes,
        scales=lambda rows: tensors.columns(scale, rows),
        offsets=lambda rows: tensors.columns(zero, rows),
    )


def _floats(tensors: Tensors, prefix: str, attributes: Mapping[str, Any]) -> Matrix:
    weight, scale = f"{prefix}qdata", f"{prefix}scale"
    tensors.expect(weight, ("float8_e4m3fn", "float8_e5m2"), (None, None))
    block = _block(tensors, prefix, attributes, tensors.shapes[weight])
    return scaled_floats(tensors, weight, scale, block, "torchao, floats of 8 bits")


_KINDS: Mapping[str, Callable[[Tensors, str, Mapping[str, Any]], Matrix]] = {
    "Int8Tensor": _integers,
    "IntxUnpackedToInt8Tensor": _integers,
    "Int4Tensor": _nibbles,
    "Float8Tensor": _floats,
}
"""What reads each kind of tensor, by torchao's name for it."""
