"""The CPU's page (llmpar/engine/cpu/README.md) says what is so: its example is computed, its widths looked up."""

from __future__ import annotations

import re

import numpy as np
from support.forms import KINDS, bits_of
from support.places import ROOT

from llmpar.engine.cpu import dots
from llmpar.engine.cpu.dots import CODED
from llmpar.engine.cpu.precision import INT4, INT8, PANEL
from llmpar.engine.cpu.projection import Projection
from llmpar.engine.pages import PAGE

TEXT = (ROOT / "llmpar" / "engine" / "cpu" / "README.md").read_text("utf-8")
WEIGHTS = np.array([[1, -2, 0.5, 4, 0, 0, 0, 2], [-127, 3, 0, 1, 2, 2, 2, 2]], np.float32)


def numbers(values: object) -> list[str]:
    return [f"{value:g}" for value in np.ravel(np.asarray(values))]


def test_its_matrix_lies_in_memory_as_it_says() -> None:
    projection = Projection.pack(WEIGHTS, None, INT8)
    assert f"`weight` is {projection.weight.shape}" in TEXT
    rows = [line.split() for line in TEXT.splitlines() if line.startswith("    ")]
    for channel, (weights, row) in enumerate(zip(WEIGHTS, rows[1:3], strict=True)):
        stored = projection.weight[0, :, channel].ravel()
        assert row[:8] == numbers(weights)
        assert [cell.strip(",") for cell in row[8:16]] == numbers(stored)
        numerator, _, denominator = row[16].partition("/")
        assert np.isclose(float(numerator) / float(denominator or 1), projection.factors[0, 0, channel])
        assert int(row[-1]) == projection.biases[0, 0, channel] == -128 * int(row[-3])
    first, second = ", ".join(numbers(projection.weight[0, 0, 0])), ", ".join(numbers(projection.weight[0, 0, 1]))
    assert f"{first} of the first channel, then {second}\nof the second" in TEXT
    assert not projection.weight[0, :, 2:].any()


def test_its_group_of_four_bits_is_stored_as_it_says() -> None:
    rows = {line.split()[0]: line.split()[1:] for line in TEXT.splitlines() if line.startswith("    ")}
    first = [float(cell) for cell in rows["weights"][:8]]
    group = np.array([[*first, *[float(rows["weights"][8])] * 24]], np.float32)
    projection = Projection.pack(group, None, INT4)
    octets = projection.weight[0, :, 0]
    halves = np.stack([octets & 15, octets >> 4], 1).ravel()
    assert numbers(halves) == [*rows["stored"][:8], *[rows["stored"][8]] * 24]
    assert f"scale of this group is {projection.factors.view(np.float16)[0, 0, 0]}" in TEXT
    assert f"the bytes {octets[0].tobytes().hex(' ')}, and the others {octets[1, 0]:x}." in TEXT
    assert not projection.biases.size


def test_its_forms_take_as_many_bits_as_it_says() -> None:
    told = re.search(r"Bits a weight, scales counted: ([^.]+\d[^:]*?\.\d+)\.\n", TEXT)
    assert told
    pairs = [pair.split() for pair in told[1].split(",")]
    assert len(pairs) == 6
    for name, bits in pairs:
        kind = KINDS[name]
        assert bits_of(Projection.keep(kind.draw(PANEL, 256), None, kind.dot)) == float(bits), name
    for dot in CODED:
        assert f"| `{next(key for key, value in vars(dots).items() if value is dot)}` |" in TEXT


def test_its_widths_are_those_of_the_code() -> None:
    assert f"a panel: {PANEL} output channels" in TEXT
    assert f"a page: {PAGE} positions" in TEXT
