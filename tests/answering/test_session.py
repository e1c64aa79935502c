"""When a model begins what takes long: when there is something to ask, and not where the store has all answers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.parts import Told
from support.questions import question

from llmpar.answering.attempts import Policy
from llmpar.answering.backend import Backend, Identity
from llmpar.answering.choice import ModelChoice
from llmpar.answering.echo import Echo
from llmpar.answering.session import Session
from llmpar.reporting.report import Report
from llmpar.store.store import Store
from llmpar.tasks.question import Prompt, Sampling


class Noting(Echo):
    """An echo that has a file, and takes note of what it is asked for."""

    def __init__(self, file: Path) -> None:
        super().__init__(ModelChoice(), Told())
        self.noted: list[str] = []
        self._file = file

    def identify(self) -> Identity:
        self.noted.append("identify")
        return replace(super().identify(), files=(self._file,))

    def prepare(self) -> None:
        self.noted.append("prepare")

    def open(self, examples: Sequence[Prompt]) -> Backend:
        self.noted.append("open")
        return super().open(examples)


@pytest.fixture
def model(tmp_path: Path) -> Noting:
    (tmp_path / "weights").write_bytes(b"weights")
    os.utime(tmp_path / "weights", (1, 1))
    return Noting(tmp_path / "weights")


@contextmanager
def session(model: Noting, store: Store | None) -> Iterator[Session]:
    model.noted.clear()
    with Session(model, store, Sampling(), Policy(retries=0), Report()) as running:
        yield running
        running.flow.close()


def ask(running: Session, text: str) -> str:
    return running.flow.result(running.flow.submit(question(text))).answer


def test_without_a_store_it_begins_before_all_else(model: Noting) -> None:
    with session(model, None) as running:
        assert ask(running, "one") == "one"
    assert model.noted == ["prepare", "prepare", "open"]


def test_with_a_store_it_begins_when_something_is_left_to_ask(model: Noting, tmp_path: Path) -> None:
    with session(model, Store(tmp_path / "store")) as running:
        ask(running, "one")
    assert model.noted == ["identify", "prepare", "prepare", "open"], "at first while its files are read"
    with session(model, Store(tmp_path / "store")) as running:
        assert ask(running, "one") == "one"
        assert model.noted == ["identify"], "all comes from the store"
        assert ask(running, "two") == "two"
        assert model.noted == ["identify", "prepare", "open"]


def test_what_no_model_need_see_begins_nothing(model: Noting, tmp_path: Path) -> None:
    for _ in range(2):
        with session(model, Store(tmp_path / "store")) as running:
            ask(running, " ")
    assert model.noted == ["identify"]
