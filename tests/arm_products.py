"""Under an emulated ARM processor (`tests/arm.sh`): products by its matrix instructions are those of each row alone."""

from __future__ import annotations

import sys

import numpy as np
from support.forms import KINDS, multiplied
from support.kernel_cases import Array, Whole, gaussian, products_of

from llmpar.engine.cpu.dots import INPUT_GROUP
from llmpar.engine.cpu.instructions import HERE
from llmpar.engine.cpu.precision import PRECISIONS
from llmpar.engine.cpu.projection import Projection
from llmpar.engine.precision_names import PrecisionName


def rows_are_the_same_alone(precision: PrecisionName, num_inputs: int) -> None:
    projection = Projection.pack(gaussian(100, num_inputs), None, PRECISIONS[precision])
    x = gaussian(7, num_inputs, seed=1)
    x[4] *= 1e4

    def products(rows: list[int]) -> Array:
        return products_of(projection, x, rows, precision)

    together = products(list(range(7)))
    for row in range(7):
        assert np.array_equal(products([row])[0].view(np.uint32), together[row].view(np.uint32))


def main() -> None:
    by_matrices = [dot.name for dot in (kind.dot for kind in KINDS.values()) if HERE.matrix(dot)]
    by_matrices += [name for name, precision in PRECISIONS.items() if HERE.matrix(precision.dot)]
    print("by matrix instructions:", ", ".join(dict.fromkeys(by_matrices)) or "none", flush=True)
    for precision in PRECISIONS:
        for num_outputs, num_inputs in ((100, 66), (49, 36), (96, 130)):  # whole words, odd ones, and one beyond a pair
            for num_rows in (1, 4, 7):
                case = Whole.make(num_rows, num_outputs, num_inputs, precision)
                assert np.array_equal(case.into(case.out()), case.expected), (precision, num_inputs, num_rows)
            rows_are_the_same_alone(precision, num_inputs)
        print(f"{precision}: exact, and each row as alone", flush=True)
    for name in sys.argv[1:] or KINDS:
        weights = KINDS[name].draw(70, 256)
        projection = Projection.keep(weights, None, KINDS[name].dot)
        random = np.random.default_rng(0)
        x, scales = random.integers(-31, 32, (7, 256)), np.exp2(random.integers(-1, 2, (7, 8)))
        x[:4, :8] = [[127] * 8, [-127] * 8, [127, -127] * 4, [-127, 127] * 4]
        expected = (x * np.repeat(scales, INPUT_GROUP, axis=1)) @ weights.all.weights().T.astype(np.float64)
        for num_rows in (1, 3, 4, 7):
            assert np.array_equal(multiplied(projection, x[:num_rows], scales[:num_rows]), expected[:num_rows]), name
        print(f"{name}: exact", flush=True)


if __name__ == "__main__":
    main()
