"""Linear layers on a GPU, by the form of their weights: floats, floats of 8 bits, or codes in groups.

Each takes rows (M, K) and returns (M, N), in the type of the rows. Which one a layer is, its maker decides.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

import torch
import triton
from torch.nn import functional

from llmpar.engine.cuda import codes_kernels

_MANY = 256  # rows, from which on it is faster to write the weights out once, and multiply as ever
_BLOCK_N = 64  # with fewer, another instruction multiplies, which rounds otherwise


class Linear(Protocol):
    """A linear layer of N output channels."""

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Return (M, N) for (M, K)."""


@dataclass(frozen=True, slots=True)
class FloatLinear:
    """`weight` (N, K) and `bias` (N,) or None, both in the type of the rows."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Return (M, N) for (M, K)."""
        return _product(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Float8Linear:
    """`weight` (N, K) float8_e4m3fn, `scales` (1, N) float32, and `bias` (N,) in the type of the rows, or None.

    Rows are rounded to the same type, each by its own scale.
    """

    weight: torch.Tensor
    scales: torch.Tensor
    bias: torch.Tensor | None

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Return (M, N) for (M, K)."""
        rounded = torch.empty_like(x, dtype=self.weight.dtype)
        scales = x.new_empty(len(x), 1, dtype=torch.float32)
        block = triton.next_power_of_2(x.shape[1])
        codes_kernels.round_rows[(len(x),)](
            x, rounded, scales, x.shape[1], BLOCK=block, num_warps=max(1, min(8, block // 512))
        )
        found = torch._scaled_mm(rounded, self.weight.t(), scale_a=scales, scale_b=self.scales, out_dtype=x.dtype)  # noqa: SLF001
        return found if self.bias is None else found + self.bias


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Layers with the same input whose weights are of several forms: (M, N) of all, in their order."""

    layers: tuple[Linear, ...]

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Return (M, N) for (M, K)."""
        return torch.cat([layer(x) for layer in self.layers], 1)


@dataclass(frozen=True, slots=True)
class Numbers:
    """Scales or offsets: `values` (N, G), times `units` (N, G / s) where there are such. See `quantized.Scales`."""

    values: torch.Tensor
    units: torch.Tensor | None = None

    @property
    def shared(self) -> int:
        """How many groups share a unit; 0 where there are none."""
        return 0 if self.units is None else self.values.shape[1] // self.units.shape[1]


@dataclass(frozen=True, slots=True)
class CodesLinear:
    """Codes in groups, laid out as `codes_kernels` says; rows stay what they are, and are multiplied in their type.

    Args:
        codes: (N, W) uint8.
        bits: of a code as it is stored, 4 or 8.
        num_inputs: K.
        run: inputs that lie beside each other, and have one scale.
        zero: the code that stands for 0.
        scales: of groups.
        offsets: of groups, where there are such.
        table: (2^bits,) float32, what codes stand for, if not themselves.
        order: (K,) int64, of which input each code of a row is, where that is another order.
        bias: (N,) or None.
    """

    codes: torch.Tensor
    bits: int
    num_inputs: int
    run: int
    zero: int
    scales: Numbers
    offsets: Numbers | None
    table: torch.Tensor | None
    order: torch.Tensor | None
    bias: torch.Tensor | None

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Return (M, N) for (M, K)."""
        if self.order is not None:
            x = x[:, self.order]
        num_rows, num_outputs = len(x), len(self.codes)
        if num_rows >= _MANY:
            return _product(x, self.weights(x.dtype), self.bias)
        block_m = 16 if num_rows <= 16 else 64 if num_rows <= 64 else 128
        out = x.new_empty(num_rows, num_outputs)
        codes_kernels.multiply[(triton.cdiv(num_rows, block_m) * triton.cdiv(num_outputs, _BLOCK_N),)](
            x, *self._arrays(x), x if self.bias is None else self.bias, out, num_rows, *self._sizes,
            **self._form, HAS_BIAS=self.bias is not None, BLOCK_M=block_m, BLOCK_N=_BLOCK_N,
            PRECISION="ieee" if x.dtype == torch.float32 else "tf32",
            num_warps=4, num_stages=4, enable_fp_fusion=False,
        )  # fmt: skip
        return out

    def weights(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the weights (N, K) that the codes stand for, of the inputs in the order of the codes."""
        num_outputs = len(self.codes)
        out = torch.empty(num_outputs, self.num_inputs, dtype=dtype, device=self.codes.device)
        grid = (triton.cdiv(num_outputs, _BLOCK_N), self.codes.shape[1] // self.run)
        codes_kernels.expand[grid](
            *self._arrays(out), out, *self._sizes, **self._form, BLOCK_N=_BLOCK_N, num_warps=4, enable_fp_fusion=False
        )
        return out

    def is_like(self, other: CodesLinear) -> bool:
        """Tell whether the rows of both may be put into one matrix."""
        tables = self.table, other.table
        return (
            self.order is None
            and other.order is None
            and self._form == other._form
            and self.num_inputs == other.num_inputs
            and self._types == other._types
            and (tables[0] is None or tables[1] is None or torch.equal(tables[0], tables[1]))
        )

    @property
    def _types(self) -> list[torch.dtype]:
        return [each.dtype for each in self._arrays(self.codes)]

    @property
    def _form(self) -> dict[str, Any]:
        return {
            "BITS": self.bits,
            "RUN": self.run,
            "GROUP": self.num_inputs // self.scales.values.shape[1],
            "ZERO": self.zero,
            "SCALES_SHARED": self.scales.shared,
            "OFFSETS_SHARED": self.offsets.shared if self.offsets else 0,
            "HAS_OFFSETS": self.offsets is not None,
            "HAS_TABLE": self.table is not None,
        }

    @property
    def _sizes(self) -> tuple[int, int, int, int]:
        return len(self.codes), self.num_inputs, self.codes.shape[1], self.scales.values.shape[1]

    def _arrays(self, nothing: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what kernels read, `nothing` where there is no such."""
        scales, offsets = self.scales, self.offsets or Numbers(nothing)
        found = (self.codes, scales.values, scales.units, offsets.values, offsets.units, self.table)
        return tuple(nothing if each is None else each for each in found)


def joined(layers: SequenceOf[Linear]) -> Linear:
    """Return layers with the same input as one layer, if their weights have one form; else side by side."""
    if len(layers) == 1:
        return layers[0]
    floats = [layer for layer in layers if isinstance(layer, FloatLinear)]
    if len(floats) == len(layers):
        return FloatLinear(torch.cat([layer.weight for layer in floats]), _joined_biases(floats))
    eights = [layer for layer in layers if isinstance(layer, Float8Linear)]
    if len(eights) == len(layers):
        weight = torch.cat([layer.weight.view(torch.uint8) for layer in eights]).view(eights[0].weight.dtype)
        return Float8Linear(weight, torch.cat([layer.scales for layer in eights], 1), _joined_biases(eights))
    coded = [layer for layer in layers if isinstance(layer, CodesLinear)]
    if len(coded) == len(layers) and all(layer.is_like(coded[0]) for layer in coded):
        offsets = [layer.offsets for layer in coded if layer.offsets]
        return replace(
            coded[0],
            codes=torch.cat([layer.codes for layer in coded]),
            scales=_joined_numbers([layer.scales for layer in coded]),
            offsets=_joined_numbers(offsets) if offsets else None,
            bias=_joined_biases(coded),
        )
    return SideBySide(tuple(layers))


def _joined_numbers(numbers: SequenceOf[Numbers]) -> Numbers:
    units = [each.units for each in numbers if each.units is not None]
    return Numbers(torch.cat([each.values for each in numbers]), torch.cat(units) if units else None)


def _joined_biases(layers: SequenceOf[FloatLinear | Float8Linear | CodesLinear]) -> torch.Tensor | None:
    given = [layer.bias for layer in layers if layer.bias is not None]
    if not given:
        return None
    sizes = [len(layer.codes if isinstance(layer, CodesLinear) else layer.weight) for layer in layers]
    biases = zip(layers, sizes, strict=True)
    return torch.cat([given[0].new_zeros(size) if one.bias is None else one.bias for one, size in biases])


def moved(layer: Any, device: torch.device) -> Any:
    """Return a tensor, or a tuple or record of such, on another device; what is none of these stays."""
    if isinstance(layer, torch.Tensor):
        return layer.to(device)
    if isinstance(layer, tuple):
        return tuple(moved(each, device) for each in layer)
    if is_dataclass(layer) and not isinstance(layer, type):
        return replace(layer, **{each.name: moved(getattr(layer, each.name), device) for each in fields(layer)})
    return layer


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return (M, N). On a GPU a bias is added by itself: what adds it at once may divide sums (see `order`)."""
    if bias is None or not x.is_cuda:
        return functional.linear(x, weight, bias)
    return functional.linear(x, weight).add_(bias)


def scratch(layer: Linear, num_rows: int) -> int:
    """Return how many weights a layer writes out at most, where it has up to so many rows."""
    if isinstance(layer, CodesLinear):
        return len(layer.codes) * layer.num_inputs if num_rows >= _MANY else 0
    return max(scratch(each, num_rows) for each in layer.layers) if isinstance(layer, SideBySide) else 0
