"""How fast the CPU's kernel multiplies, in each precision: `python tests/benchmarks/products.py [--rows 64]`.

One thread, shapes of the default model and of one of a billion weights. Precisions take turns in each round, so that
what else the machine does meets all of them; a figure is the median of the rounds, in 10^9 multiplications and
additions a second.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from harness.machine import describe_machine
from harness.table import markdown_table

from llmpar.engine.cpu import kernels
from llmpar.engine.cpu.precision import PRECISIONS, round_up
from llmpar.engine.cpu.product import TILE_ROWS
from llmpar.engine.cpu.projection import Projection

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


class _Case:
    """A product of random numbers in one precision."""

    def __init__(self, num_rows: int, shape: tuple[int, int], precision: Any) -> None:
        draw = np.random.default_rng(0)
        self._projection = Projection.pack(draw.standard_normal(shape, np.float32), None, precision)
        self._num_rows, rows = num_rows, round_up(num_rows, TILE_ROWS)
        self._values = np.zeros((rows, self._projection.num_inputs), precision.inputs)
        self._scales = np.ones((rows, self._projection.input_numbers), np.float32)
        hidden = draw.standard_normal((num_rows, shape[1]), np.float32)
        weight = np.ones(shape[1], np.float32)
        kernels.norm(hidden, np.arange(num_rows), weight, np.float32(1e-5), self._values, self._scales)
        self._out = np.zeros((rows, self._projection.num_outputs), np.float32)
        self._operations = 2 * num_rows * shape[0] * shape[1]
        self.run()  # compiled by now

    def run(self) -> None:
        own = self._projection
        kernels.product(self._values, self._scales, own.weights, self._out, 0, self._num_rows, False)

    def speed(self) -> float:
        """Return 10^9 operations a second."""
        count, begin = 0, perf_counter()
        while (spent := perf_counter() - begin) < _LEAST:
            self.run()
            count += 1
        return self._operations * count / spent / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    rows = []
    for name, shape in _SHAPES.items():
        cases = {precision: _Case(options.rows, shape, PRECISIONS[precision]) for precision in PRECISIONS}
        found: dict[str, list[float]] = {precision: [] for precision in cases}
        for _ in range(options.rounds):
            for precision, case in cases.items():
                found[precision].append(case.speed())
        rows.append([name, "x".join(map(str, shape)), *(f"{median(speeds):.1f}" for speeds in found.values())])
        print(rows[-1], flush=True)
    print(f"{describe_machine()}\n\n{options.rows} rows\n\n{markdown_table(['layer', 'shape', *PRECISIONS], rows)}")


if __name__ == "__main__":
    main()
