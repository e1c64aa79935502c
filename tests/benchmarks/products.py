"""How fast the CPU's kernel multiplies, in each form: `python tests/benchmarks/products.py [--rows 1 8 64]`.

One thread, shapes of the default model and of one of a billion weights. Forms take turns in each round, so that
what else the machine does meets all of them; a figure is the median of the rounds, in 10^9 multiplications and
additions a second of the thread's own time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import thread_time
from typing import Any

import numpy as np
from harness.machine import describe_machine
from harness.table import markdown_table

from llmpar.engine.cpu import kernels
from llmpar.engine.cpu.dots import NIBBLES
from llmpar.engine.cpu.grouped import form_of
from llmpar.engine.cpu.precision import PRECISIONS, round_up
from llmpar.engine.cpu.product import TILE_ROWS
from llmpar.engine.cpu.projection import Projection
from llmpar.engine.cpu.team import ALONE
from llmpar.engine.quantized import Quantized, Scales

_SHAPES = {
    "135M qkv": (960, 576),
    "135M gate, up": (3072, 576),
    "135M down": (576, 1536),
    "1B qkv": (3072, 2048),
    "1B gate, up": (16384, 2048),
    "1B down": (2048, 8192),
}
"""Output channels and inputs of linear layers."""
_LEAST = 0.05  # seconds in which a product is made again and again


def _drawn(shape: tuple[int, int], bits: int, group: int, *, signed: bool = True, **scales: Any) -> Quantized:
    """Return random codes (N, K) with scales and offsets (N, G): float16, or whole numbers of one for each 256."""
    draw = np.random.default_rng(0)
    low = -(1 << bits >> 1) if signed else 0
    codes = draw.integers(low, low + (1 << bits), shape).astype(np.int8 if signed else np.uint8)
    size = (shape[0], shape[1] // group)

    def numbers() -> Scales:
        if not scales.get("two_levels"):
            return Scales((draw.random(size) / 100).astype(np.float16))
        return Scales(draw.integers(1, 63, size).astype(np.int8), draw.random((shape[0], shape[1] // 256)).astype("f2"))

    offsets = None if signed or scales.get("table") is not None else numbers()
    return Quantized(codes, bits, numbers(), offsets, scales.get("table"))


_FORMS: dict[str, Callable[[tuple[int, int]], Quantized]] = {
    "Q4_0": lambda shape: _drawn(shape, 4, 32),
    "Q4_1": lambda shape: _drawn(shape, 4, 32, signed=False),
    "Q4_K": lambda shape: _drawn(shape, 4, 32, signed=False, two_levels=True),
    "IQ4_NL": lambda shape: _drawn(shape, 4, 32, signed=False, table=np.arange(-8, 8, dtype=np.float32) * 14),
    "Q5_0": lambda shape: _drawn(shape, 5, 32),
    "Q6_K": lambda shape: _drawn(shape, 6, 16, two_levels=True),
    "Q8_0": lambda shape: _drawn(shape, 8, 32),
}


class _Case:
    """A product of random numbers in one form."""

    def __init__(self, num_rows: int, shape: tuple[int, int], form: str) -> None:
        draw = np.random.default_rng(0)
        if form in PRECISIONS:
            weights = draw.standard_normal(shape, np.float32)
            self._projection = Projection.pack(weights, None, PRECISIONS[form])  # type: ignore[index]
        else:
            rows = _Whole(_FORMS[form](shape))
            self._projection = Projection.keep(rows, None, form_of(rows) or NIBBLES)
        self._num_rows, padded = num_rows, round_up(num_rows, TILE_ROWS)
        self._values = np.zeros((padded, self._projection.num_inputs), self._projection.dot.inputs)
        self._scales = np.ones((padded, self._projection.input_numbers), np.float32)
        hidden = draw.standard_normal((num_rows, shape[1]), np.float32)
        weight = np.ones(shape[1], np.float32)
        kernels.norm(ALONE, hidden, np.arange(num_rows), weight, np.float32(1e-5), self._values, self._scales)
        self._out = np.zeros((padded, self._projection.num_outputs), np.float32)
        self._operations = 2 * num_rows * shape[0] * shape[1]
        self.run()  # compiled by now

    def run(self) -> None:
        own = self._projection
        kernels.product(ALONE, self._values, self._scales, own.weights, self._out, 0, self._num_rows, False)

    def speed(self) -> float:
        """Return 10^9 operations a second."""
        count, begin = 0, thread_time()
        while (spent := thread_time() - begin) < _LEAST:
            self.run()
            count += 1
        return self._operations * count / spent / 1e9


class _Whole:
    """A matrix that is there at once."""

    def __init__(self, whole: Quantized) -> None:
        self._whole, self.shape = whole, whole.codes.shape

    def __getitem__(self, rows: slice) -> Quantized:
        def some(scales: Scales) -> Scales:
            return Scales(scales.values[rows], None if scales.units is None else scales.units[rows])

        own = self._whole
        offsets = None if own.offsets is None else some(own.offsets)
        return Quantized(own.codes[rows], own.bits, some(own.scales), offsets, own.table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--layers", nargs="+", choices=_SHAPES, default=list(_SHAPES))
    parser.add_argument("--forms", nargs="+", choices=[*PRECISIONS, *_FORMS], default=[*PRECISIONS, *_FORMS])
    options = parser.parse_args()
    table = []
    for name in options.layers:
        shape = _SHAPES[name]
        for num_rows in options.rows:
            cases = {form: _Case(num_rows, shape, form) for form in options.forms}
            found: dict[str, list[float]] = {form: [] for form in cases}
            for _ in range(options.rounds):
                for form, case in cases.items():
                    found[form].append(case.speed())
            speeds = [f"{median(each):.1f}" for each in found.values()]
            table.append([name, "x".join(map(str, shape)), str(num_rows), *speeds])
            print(table[-1], flush=True)
    print(f"{describe_machine()}\n\n{markdown_table(['layer', 'shape', 'rows', *options.forms], table)}")


if __name__ == "__main__":
    main()
