"""Frozen records that are made quickly are what dataclasses make, and as frozen."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from llmpar.documents.document import Result, Segment, text_document, text_segment
from llmpar.frozen import quickly_made


@quickly_made
@dataclass(frozen=True, slots=True)
class Quick:
    first: int
    second: str = "b"
    third: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError(self.first)


def test_it_has_its_values_and_its_class() -> None:
    quick = Quick(1, third=[2])
    assert (type(quick), quick.first, quick.second, quick.third) == (Quick, 1, "b", [2])
    assert Quick(1).third is not Quick(1).third
    assert repr(quick).endswith("Quick(first=1, second='b', third=[2])")


def test_it_is_frozen() -> None:
    for record, name in ((Quick(1), "first"), (text_segment(text_document("a"), "b"), "text")):
        with pytest.raises(FrozenInstanceError):
            setattr(record, name, 2)


def test_it_looks_at_what_it_is_given() -> None:
    with pytest.raises(ValueError, match="-1"):
        Quick(-1)
    with pytest.raises(TypeError):
        Quick()  # type: ignore[call-arg]
    assert list(inspect.signature(Quick).parameters) == ["first", "second", "third"]


def test_it_is_copied_and_sent() -> None:
    assert replace(Quick(1), second="c") == Quick(1, "c")
    segment = text_segment(text_document("a"), "b")
    assert isinstance(pickle.loads(pickle.dumps(segment)), Segment)
    assert pickle.loads(pickle.dumps(Result(segment, "c"))) == Result(segment, "c")
