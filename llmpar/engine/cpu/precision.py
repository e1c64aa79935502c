"""What a decoder's precision decides: how weights, activations, keys and values are stored and multiplied.

There is one object for each precision, and PRECISIONS is the table of them. What a file has as codes may be kept as it
is beside these (see `grouped`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llmpar.engine.cpu import four_bits
from llmpar.engine.cpu.dots import BFLOATS, BYTES, FLOAT_WORDS, NIBBLES, Dot
from llmpar.engine.cpu.floats import to_bf16
from llmpar.engine.cpu.instructions import is_native, is_worthwhile
from llmpar.engine.precision_names import TORCH_TYPES, PrecisionName

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

PANEL = 48
"""Output channels that lie together in packed weights: 3 vectors of 16 lanes (AVX-512) or tiles, 6 of 8 (AVX2)."""
_LARGEST_GROUP = 64


class Encoded(NamedTuple):
    """Weights of N output channels, K inputs of each, as they are stored.

    `words` (N, K/k) are uint32 that hold k neighbouring weights. `scales` (N, G) are what a unit is worth in each group
    of K / G inputs: float32, or the bits of float16 as uint16. `biases` (N, G) are what the sum of a group begins with
    (int32), or what is added to each weight of a group (bits of float16 as uint16). What is not needed is None. `zero`
    is what is stored where a code is 0.
    """

    words: Array
    scales: Array | None = None
    biases: Array | None = None
    zero: float = 0


Encode = Callable[[Floats, int], Encoded]
"""(weights (N, K), the size of a group) → what is stored of them."""


@dataclass(frozen=True, slots=True)
class Precision:
    """One way to store and to multiply.

    Args:
        name: what options call it.
        bits: of a weight, scales not counted.
        cache: the type of keys and values, float32, or uint16 for bfloat16.
        embedding: the type of the embedding, likewise.
        dot: the form of packed weights, and their dot product with inputs.
        encoder: returns what encodes a matrix of float32, of which it is shown some rows (n, K).
        tolerance: how far a decoder's logits may be from the model's own, relative to how these vary. What is farther
            is no rounding, but another computation.
        group: returns how many of some number of inputs share a scale; None where weights are floats.
        head: what the last layer is in, which scores the tokens; None for the same.
    """

    name: PrecisionName
    bits: int
    cache: Any
    embedding: Any
    dot: Dot
    encoder: Callable[[Floats], Encode]
    tolerance: float
    group: Callable[[int], int] | None = None
    head: Precision | None = None

    @property
    def is_native(self) -> bool:
        """Whether this processor has instructions for it."""
        return is_native(self.dot)

    @property
    def is_worthwhile(self) -> bool:
        """Whether our kernels are faster in it here than in a longer one."""
        return is_worthwhile(self.dot)

    @property
    def weights(self) -> Any:
        """Numpy's type of the elements of packed weights."""
        return self.dot.weights

    @property
    def inputs(self) -> Any:
        """The type of activations that are multiplied with weights."""
        return self.dot.inputs


def group_size(num_inputs: int) -> int:
    """Return how many neighbouring inputs share a scale in int8: as many as divide them evenly, 64 at most.

    The few inputs of a decoder that are far larger than the others then spoil only their own group.
    """
    sizes = range(_LARGEST_GROUP, _LARGEST_GROUP // 2 - 1, -4)
    return next((size for size in sizes if num_inputs % size == 0), min(_LARGEST_GROUP, round_up(num_inputs, 4)))


def by_panel(table: Array) -> Array:
    """Return a table of output channels (P · PANEL, X) as (P, X, PANEL)."""
    found: Array = table.reshape(-1, PANEL, table.shape[1]).transpose(0, 2, 1)
    return found


def round_up(number: int, multiple: int) -> int:
    """Return the least multiple that is not below `number`."""
    return -(-number // multiple) * multiple


def _encode_fp32(weights: Floats, _: int) -> Encoded:
    return Encoded(weights.view(np.uint32))


def _encode_bf16(weights: Floats, _: int) -> Encoded:
    return Encoded(to_bf16(weights).view(np.uint32))


def _encode_int8(weights: Floats, group: int) -> Encoded:
    grouped = weights.reshape(len(weights), -1, group)
    scales = np.maximum(np.abs(grouped).max(2), 1e-12) / np.float32(127)  # (N, G)
    units = np.rint(grouped / scales[:, :, None]).astype(np.int8)
    # Inputs are stored with 128 added, which the sums undo from the start.
    biases = -128 * units.sum(2, dtype=np.int32)
    return Encoded(units.reshape(weights.shape).view(np.uint32), scales, biases)


def _int4_like(weights: Floats) -> Encode:
    """Return what encodes all weights that are like these (N, K): with offsets, where they halve the error."""
    quantize = four_bits.best_for(weights)

    def encode(weights: Floats, _: int) -> Encoded:
        whole, scales, offsets = quantize(weights)
        biases = None if offsets is None else offsets.view(np.uint16)
        zero = four_bits.MIDDLE if offsets is None else 0
        return Encoded(four_bits.pack(whole), scales.view(np.uint16), biases, zero)

    return encode


FP32 = Precision(
    "fp32",
    bits=32,
    cache=np.float32,
    embedding=np.float32,
    dot=FLOAT_WORDS,
    encoder=lambda _: _encode_fp32,
    tolerance=1e-3,
)
BF16 = Precision(
    "bf16",
    bits=16,
    cache=np.uint16,
    embedding=np.uint16,
    dot=BFLOATS,
    encoder=lambda _: _encode_bf16,
    tolerance=0.1,
)
INT8 = Precision(
    "int8",
    bits=8,
    cache=np.uint16,
    embedding=np.uint16,
    dot=BYTES,
    encoder=lambda _: _encode_int8,
    tolerance=0.3,
    group=group_size,
)
INT4 = Precision(
    "int4",
    bits=4,
    cache=np.uint16,
    embedding=np.uint16,
    dot=NIBBLES,
    encoder=_int4_like,
    tolerance=0.5,
    group=lambda _: four_bits.GROUP,
    head=INT8,  # a token's score is one row of it, whose errors nothing evens out
)

PRECISIONS: dict[PrecisionName, Precision] = {
    "fp32": FP32,
    "bf16": BF16,
    "int8": INT8,
    "int4": INT4,
}
"""Every precision that decoders on the CPU compute in, by its name; each is shorter than the one before."""
LOSSLESS: tuple[PrecisionName, ...] = ("fp32", "bf16", "int8")
"""Those that hold what a file has in as many bits. int4 does not: it rounds again what was rounded by other scales."""


def precisions_from(name: PrecisionName) -> tuple[PrecisionName, ...]:
    """Return the names of a precision and of those that are longer, the shortest first."""
    names = list(PRECISIONS)
    return tuple(reversed(names[: names.index(name) + 1]))


def fastest(bits: int) -> Precision:
    """Return the precision of at least so many bits in which our kernels are fastest here.

    Args:
        bits: per weight, as in the file that the weights came from.
    """
    return _shortest(bits, (PRECISIONS[name] for name in LOSSLESS if PRECISIONS[name].is_worthwhile))


def fastest_in_torch(bits: int) -> Precision:
    """Return the precision of at least so many bits in which torch is fastest here; it needs the instructions."""
    return _shortest(bits, (PRECISIONS[name] for name in TORCH_TYPES if PRECISIONS[name].is_native))


def _shortest(bits: int, among: Iterable[Precision]) -> Precision:
    return min((one for one in among if one.bits >= bits), key=lambda one: one.bits, default=FP32)
