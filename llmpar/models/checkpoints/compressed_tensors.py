"""compressed-tensors: integers in words or alone, floats of 8 and 4 bits; what a layer has, its tensors' names tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from llmpar.models.checkpoints.four_bit_floats import four_bit_floats
from llmpar.models.checkpoints.matrices import Grouped, Matrix, Read, contiguous_groups
from llmpar.models.checkpoints.packing import unpack_rows, unpack_words
from llmpar.models.checkpoints.scaled_floats import POWERS, scaled_floats
from llmpar.models.checkpoints.tensors import EIGHT_BIT_FLOATS, FLOATS, Tensors

_LAYOUTS = (
    "pack-quantized",
    "int-quantized",
    "float-quantized",
    "naive-quantized",
    "mixed-precision",
    "mxfp4-pack-quantized",
    "mxfp8-quantized",
    "nvfp4-pack-quantized",
)


def find(tensors: Tensors, options: Mapping[str, Any]) -> dict[str, Matrix]:
    """Return the quantised weights of a checkpoint (see `opening.Find`)."""
    schemes = _schemes(tensors, options)
    for layout in (options.get("format"), *(scheme.get("format") for scheme in schemes)):
        if layout is not None and layout not in _LAYOUTS:
            raise tensors.unknown(f"compressed-tensors in the layout {layout!r}")
    if _part(tensors, options, "sparsity_config").get("format", "dense") != "dense":
        raise tensors.unknown("compressed-tensors with 'sparsity_config'")
    if _part(tensors, options, "transform_config").get("config_groups"):
        raise tensors.unknown("compressed-tensors with 'transform_config'")
    known = [_part(tensors, scheme, "weights") for scheme in schemes]
    found: dict[str, Matrix] = {}
    for module in tensors.ending(".weight_packed"):
        is_words = tensors.dtype(f"{module}.weight_packed") == "int32"
        found[f"{module}.weight"] = _words(tensors, module, known) if is_words else _pairs(tensors, module)
    for module in tensors.ending(".weight_scale"):
        weight = f"{module}.weight"
        if weight in tensors.shapes and tensors.dtype(weight) in (*EIGHT_BIT_FLOATS, "int8"):
            read = _integers if tensors.dtype(weight) == "int8" else _floats
            found[weight] = read(tensors, module, known)
    return found


def _schemes(tensors: Tensors, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    schemes = list(_part(tensors, options, "config_groups").values())
    if not all(isinstance(scheme, dict) for scheme in schemes):
        raise tensors.unknown("compressed-tensors with 'config_groups' that are names")
    return schemes


def _part(tensors: Tensors, options: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = options.get(name) or {}
    if not isinstance(part, dict):
        raise tensors.damaged(f"{name} in its config.json is no object")
    return part


def _words(tensors: Tensors, module: str, known: list[dict[str, Any]]) -> Matrix:
    """Return a matrix of integers that lie in words of 32 bits, with or without zeros."""
    words, scale, zero, order, lengths = (
        f"{module}.weight_{part}" for part in ("packed", "scale", "zero_point", "g_idx", "shape")
    )
    tensors.expect(lengths, ("int64", "int32"), (2,))
    num_rows, num_inputs = (int(length) for length in tensors.array(lengths))
    fitting = {bits for bits in _all_bits(known) if tensors.shapes[words] == (num_rows, -(-num_inputs * bits // 32))}
    if len(fitting) != 1:
        raise tensors.damaged(f"{words} does not hold {num_rows} × {num_inputs} codes of {_all_bits(known)} bits")
    (bits,) = fitting
    num_groups = _num_groups(tensors, scale, num_rows)
    parts, zeros = [words, scale, lengths], None
    if zero in tensors.shapes:
        parts.append(zero)
        zeros = _zeros(tensors, zero, bits, num_rows, num_groups)
    groups = None
    if order in tensors.shapes:
        parts.append(order)
        groups = _order(tensors, order, num_inputs, num_groups)
    middle = np.uint8(1 << (bits - 1))
    return Grouped(
        tensors,
        tuple(parts),
        (num_rows, num_inputs),
        bits,
        _kind(f"{bits} bits", num_inputs, num_groups),
        # Codes count from the least, and mean signed numbers.
        codes=lambda rows: (unpack_words(tensors.array(words)[rows], bits, num_inputs) - middle).view(np.int8),
        scales=_by_row(tensors, scale),
        zeros=zeros,
        groups=_uneven(tensors, module, num_inputs, num_groups, known) if groups is None else groups,
    )


def _integers(tensors: Tensors, module: str, known: list[dict[str, Any]]) -> Matrix:
    """Return a matrix of integers of 8 bits each, of which fewer may be used."""
    weight, scale, zero = (f"{module}.{part}" for part in ("weight", "weight_scale", "weight_zero_point"))
    tensors.expect(weight, ("int8",), (None, None))
    num_rows, num_inputs = tensors.shapes[weight]
    num_groups = _num_groups(tensors, scale, num_rows)
    bits = max((bits for bits in _all_bits(known)), default=8)
    parts, zeros = [weight, scale], None
    if zero in tensors.shapes:
        parts.append(zero)
        zeros = _zeros(tensors, zero, bits, num_rows, num_groups)
    return Grouped(
        tensors,
        tuple(parts),
        (num_rows, num_inputs),
        bits,
        _kind(f"{bits} bits", num_inputs, num_groups),
        codes=lambda rows: tensors.codes(weight, bits, rows),
        scales=_by_row(tensors, scale),
        zeros=zeros,
        groups=_uneven(tensors, module, num_inputs, num_groups, known),
    )


def _floats(tensors: Tensors, module: str, known: list[dict[str, Any]]) -> Matrix:
    """Return a matrix of floats of 8 bits, with scales for blocks, groups, rows, or one for all."""
    weight, scale = f"{module}.weight", f"{module}.weight_scale"
    tensors.expect(weight, EIGHT_BIT_FLOATS, (None, None))
    num_rows, num_inputs = tensors.shapes[weight]
    shape = tensors.shapes[scale]
    if shape in ((), (1,), (1, 1)):
        block = (num_rows, num_inputs)
    elif shape[0] == num_rows and len(shape) < 3:
        block = (1, -(-num_inputs // (shape[1] if len(shape) == 2 else 1)))
    else:
        shapes = [_block(tensors, one.get("block_structure")) for one in known if one.get("block_structure")]
        if not shapes:
            raise tensors.damaged(
                f"{scale} has the shape {list(shape)}, which is not one scale for each row or for all"
            )
        block = shapes[0]
    beside = f"{module}.weight_zero_point"
    parts = (beside,) if beside in tensors.shapes else ()
    return scaled_floats(tensors, weight, scale, block, "compressed-tensors, floats of 8 bits", parts)


def _block(tensors: Tensors, told: object) -> tuple[int, int]:
    sizes = told.split("x") if isinstance(told, str) else told
    if isinstance(sizes, list) and len(sizes) == 2 and all(str(size).isdecimal() and int(size) for size in sizes):
        return int(sizes[0]), int(sizes[1])
    raise tensors.unknown(f"compressed-tensors in blocks of {told!r}")


def _pairs(tensors: Tensors, module: str) -> Matrix:
    """Return a matrix of floats of 4 bits, with scales that are powers of two or have a unit."""
    pairs, scale, unit = (f"{module}.{part}" for part in ("weight_packed", "weight_scale", "weight_global_scale"))
    tensors.expect(scale, (*POWERS, *EIGHT_BIT_FLOATS), (None, None))
    in_units = None if tensors.dtype(scale) in POWERS else unit
    return four_bit_floats(tensors, pairs, scale, "compressed-tensors", in_units)


def _num_groups(tensors: Tensors, scale: str, num_rows: int) -> int:
    tensors.expect(scale, FLOATS, (num_rows, None), (num_rows,), (1,), ())
    shape = tensors.shapes[scale]
    return shape[1] if len(shape) == 2 else 1


def _by_row(tensors: Tensors, name: str) -> Read:
    """Return what reads the scales (n, G) of rows from a tensor that may have one for each row, or for all."""
    is_for_all = tensors.shapes[name] in ((), (1,))
    return lambda rows: tensors.scales(name, np.arange(rows.start, rows.stop) * (not is_for_all))


def _zeros(tensors: Tensors, name: str, bits: int, num_rows: int, num_groups: int) -> Read:
    """Return what reads the zeros (n, G) of rows, which newer versions pack along the rows."""
    if tensors.dtype(name) == "int32":
        tensors.expect(name, ("int32",), (-(-num_rows * bits // 32), num_groups))
        middle = 1 << (bits - 1)
        return lambda rows: unpack_rows(tensors.array(name), bits, rows).astype(np.int16) - middle
    tensors.expect(name, ("int8",), (num_rows, num_groups), *([(num_rows,), (1,), ()] if num_groups == 1 else []))
    return lambda rows: np.broadcast_to(tensors.array(name).reshape(-1, num_groups), (num_rows, num_groups))[rows]


def _order(tensors: Tensors, name: str, num_inputs: int, num_groups: int) -> npt.NDArray[np.intp] | None:
    tensors.expect(name, ("int32", "int64"), (num_inputs,))
    groups = tensors.array(name).astype(np.intp)
    if (groups == -1).all():  # so it is initialised, and then not used
        return None
    if groups.min() < 0 or groups.max() >= num_groups:
        raise tensors.damaged(f"{name} names a group that is not there")
    is_usual = num_inputs % num_groups == 0 and (groups == np.arange(num_inputs) // (num_inputs // num_groups)).all()
    return None if is_usual else groups


def _uneven(
    tensors: Tensors, module: str, num_inputs: int, num_groups: int, known: list[dict[str, Any]]
) -> npt.NDArray[np.int64] | None:
    """Return the group (K,) of each input where the last one is shorter."""
    if num_inputs % num_groups == 0:
        return None
    sizes = [one["group_size"] for one in known if isinstance(one.get("group_size"), int) and one["group_size"] > 0]
    fitting = [size for size in sizes if -(-num_inputs // size) == num_groups]
    if not fitting:
        raise tensors.damaged(f"{module} has {num_groups} groups, which do not divide {num_inputs} inputs")
    return contiguous_groups(num_inputs, num_groups, fitting[0])


def _all_bits(known: list[dict[str, Any]]) -> list[int]:
    integers = [one.get("num_bits") for one in known if one.get("type", "int") == "int"]
    return sorted({bits for bits in integers if isinstance(bits, int) and 0 < bits <= 8})


def _kind(codes: str, num_inputs: int, num_groups: int) -> str:
    return f"compressed-tensors, {codes} in {'rows' if num_groups == 1 else f'groups of {num_inputs // num_groups}'}"
