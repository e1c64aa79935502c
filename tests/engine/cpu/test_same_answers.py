"""The same answers on every processor: see `pinned_answers`, which tests of other instruction sets use too."""

from __future__ import annotations

import pytest
from support.pinned_answers import ANSWERS, digest

from llmpar.engine.precision_names import PrecisionName


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_those_of_every_processor(name: PrecisionName) -> None:
    assert digest(name) == ANSWERS[name]


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (4, 3)])
def test_no_row_depends_on_its_company(workers: int, batch: int) -> None:
    assert digest("int4", workers, batch) == ANSWERS["int4"]
