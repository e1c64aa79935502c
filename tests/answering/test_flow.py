"""The flow by itself: what becomes of it where nobody takes its results to their end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.fakes import FakeRunner
from support.pipelines import DEFAULTS, POLICY, backend, parts

from llmpar.answering.answers import Answers
from llmpar.answering.backend import Backend
from llmpar.answering.flow import Flow, Part
from llmpar.errors import ModelUnavailable
from llmpar.reporting.report import Report
from llmpar.store.job import NoStore
from llmpar.tasks.question import Question


@pytest.fixture
def refusals() -> list[Exception]:
    """What is raised before the model is opened, in turn."""
    return []


@pytest.fixture
def flow(refusals: list[Exception]) -> Iterator[Flow]:
    open_backend = backend([FakeRunner(2)])

    def open_in_time(question: Question) -> Backend:
        if refusals:
            raise refusals.pop()
        return open_backend(question)

    report = Report()
    answers = Answers(DEFAULTS, POLICY, lambda task: (task, NoStore()), open_in_time, report)
    flow = Flow(answers, report)
    yield flow
    flow.close()


def texts_in(flow: Flow, given: Iterator[Part]) -> list[str]:
    return [result.segment.text for _, results in flow.answered(given) for result in results]


class TestWhatNobodyTook:
    """An actor of Ray is given its next batch whatever became of the one before."""

    def test_it_is_not_among_the_next_results(self, flow: Flow) -> None:
        first = flow.answered(parts("one\ntwo\nthree", size=1))
        next(first)
        assert texts_in(flow, parts("four\nfive", size=1)) == ["four", "five"]
        first.close()  # type: ignore[attr-defined]
        assert texts_in(flow, parts("six", size=1)) == ["six"]

    def test_a_model_that_is_there_at_the_second_try_answers(self, flow: Flow, refusals: list[Exception]) -> None:
        refusals.append(ModelUnavailable("not yet"))
        with pytest.raises(ModelUnavailable):
            texts_in(flow, parts("one\ntwo", size=1))
        assert texts_in(flow, parts("three", size=1)) == ["three"]
