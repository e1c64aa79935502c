"""bitsandbytes: codes of 4 bits in blocks with a table of what they stand for, or integers of 8 bits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import gcd

import numpy as np
import numpy.typing as npt

from llmpar.engine.quantized import Floats
from llmpar.models.checkpoints.matrices import Grouped, Matrix
from llmpar.models.checkpoints.packing import unpack_bytes
from llmpar.models.checkpoints.tensors import FLOATS, Tensors

_LARGEST = 127  # the code of a row's largest weight
_STATE = ".quant_state.bitsandbytes__"
_TYPES = ("nf4", "fp4")


def find(tensors: Tensors) -> dict[str, Matrix]:
    """Return the quantised weights of a checkpoint (see `opening.Find`)."""
    found: dict[str, Matrix] = {}
    for kind in _TYPES:
        for name in tensors.ending(_STATE + kind):
            found[name] = _four_bits(tensors, name, kind)
    for module in tensors.ending(".SCB"):
        found[f"{module}.weight"] = _eight_bits(tensors, module)
    return found


def _eight_bits(tensors: Tensors, module: str) -> Matrix:
    weight, scale, layout = (f"{module}.{part}" for part in ("weight", "SCB", "weight_format"))
    tensors.expect(weight, ("int8",), (None, None))
    num_rows, num_inputs = tensors.shapes[weight]
    tensors.expect(scale, FLOATS, (num_rows,))
    parts = [weight, scale]
    if layout in tensors.shapes:
        parts.append(layout)
        if tensors.array(layout).any():
            raise tensors.unknown("bitsandbytes in a layout that is not row by row")
    return Grouped(
        tensors,
        tuple(parts),
        (num_rows, num_inputs),
        8,
        "bitsandbytes, 8 bits in rows",
        codes=lambda rows: tensors.array(weight)[rows],
        scales=lambda rows: tensors.floats(scale, rows)[:, None] / np.float32(_LARGEST),
    )


@dataclass(frozen=True, slots=True)
class _State:
    """What a file says of a matrix beside its tensors. In blocks of `size` weights, row after row, the scale is one."""

    shape: tuple[int, int]
    size: int
    nested_size: int
    nested_offset: float


def _four_bits(tensors: Tensors, name: str, kind: str) -> Matrix:
    absmax, table, nested, nested_table = (
        f"{name}.{part}" for part in ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
    )
    state = _read_state(tensors, name, kind)
    num_rows, num_inputs = state.shape
    num_blocks = -(-num_rows * num_inputs // state.size)
    tensors.expect(name, ("uint8", *FLOATS))  # some tools need that weights are floats, and call the bytes so
    if tensors.array(name).nbytes != -(-num_rows * num_inputs // 2):
        raise tensors.damaged(f"{name} does not hold {num_rows} × {num_inputs} codes of 4 bits")
    tensors.expect(table, ("float32",), (16,))
    parts = [name, absmax, table, f"{name}{_STATE}{kind}"]
    if nested in tensors.shapes:
        tensors.expect(absmax, ("uint8",), (num_blocks,))
        tensors.expect(nested, ("float32",), (-(-num_blocks // state.nested_size),))
        tensors.expect(nested_table, ("float32",), (256,))
        parts += [nested, nested_table]
    else:
        tensors.expect(absmax, FLOATS, (num_blocks,))

    def scales(blocks: slice) -> Floats:
        if nested not in tensors.shapes:
            return tensors.floats(absmax, blocks)
        units = tensors.array(nested)[np.arange(blocks.start, blocks.stop) // state.nested_size]
        with np.errstate(all="ignore"):  # what is no number then is found by whoever asked
            values: Floats = tensors.array(nested_table)[tensors.array(absmax)[blocks]] * units
            values += np.float32(state.nested_offset)
        return values

    def codes(first: int, last: int) -> npt.NDArray[np.uint8]:
        """Return the codes of the weights from one to another, row after row."""
        data = tensors.array(name).reshape(-1).view(np.uint8)[first // 2 : -(-last // 2)]
        return unpack_bytes(data, 4, high_first=True)[first % 2 :][: last - first]

    size, known = state.size, np.array(tensors.array(table))
    if not (np.abs(known) <= 1).all():
        raise tensors.damaged(f"{table} has something else than numbers from -1 to 1")
    # Blocks need not end where rows do, but all of these do.
    group = gcd(num_inputs, size)

    def scales_of(rows: slice) -> Floats:
        first, last = rows.start * num_inputs, rows.stop * num_inputs
        blocks = np.arange(first, last, group) // size
        found: Floats = scales(slice(first // size, -(-last // size)))[blocks - first // size]
        return found.reshape(-1, num_inputs // group)

    return Grouped(
        tensors,
        tuple(parts),
        state.shape,
        4,
        f"bitsandbytes {kind} in blocks of {size}",
        codes=lambda rows: codes(rows.start * num_inputs, rows.stop * num_inputs).reshape(-1, num_inputs),
        scales=scales_of,
        table=known,
    )


def _read_state(tensors: Tensors, name: str, kind: str) -> _State:
    stored = f"{name}{_STATE}{kind}"
    tensors.expect(stored, ("uint8",), (None,))
    try:
        told = json.loads(bytes(tensors.array(stored)))
        num_rows, num_inputs = told["shape"]
        sizes = (num_rows, num_inputs, told["blocksize"], told.get("nested_blocksize", 1))
        offset = float(told.get("nested_offset", 0))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise tensors.damaged(f"{stored} does not say what lies in {name}") from error
    if not all(isinstance(size, int) and size > 0 for size in sizes) or not np.isfinite(offset):
        raise tensors.damaged(f"{stored} says of {name} what cannot be")
    return _State((num_rows, num_inputs), told["blocksize"], sizes[3], offset)
