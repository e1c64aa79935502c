"""The tree of questions over answers, gone through without a model: what is kept, what is asked, how long it is.

The tree is the run's own. An answer that is kept stands in it as it is, so that a question over such answers can be
looked up as well; an answer that is still to come is stood for by filler of the length that it may have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest

from llmpar.answering.forecast import Forecast, Forecaster, Foreseen
from llmpar.answering.pending import Pending, foreseen_as
from llmpar.answering.session import Session
from llmpar.documents.document import Document, Result
from llmpar.jobs.reduction import Tree, plant
from llmpar.tasks.question import Question
from llmpar.tasks.task import Task

_SAMPLE = 64  # words of filler that tell how many tokens one has


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of the questions over answers.

    Args:
        forecast: their numbers.
        num_written: how many tokens their answers may have, by the lengths of the answers below if nothing else tells.
        shape: how many there are at each level, from the lowest, of those documents for which some are to be asked.
    """

    forecast: Forecast
    num_written: int
    shape: tuple[int, ...]


class Rehearsal:
    """Foresees the questions over answers; tell it what becomes of all pieces, document by document.

    Args:
        session: whose model and store it is. Nothing is asked.
        task: what is asked about pieces.
        over: foresees the questions over their answers, and nothing else.
        is_total: whether one answer is made of all documents, and not one of each.
    """

    def __init__(self, session: Session, task: Task, over: Forecaster, *, is_total: bool = False) -> None:
        self._session = session
        self._task = task.reduction()
        self._asking = _Asking(session, over)
        self._is_total = is_total
        self._document: Document | None = None
        self._tree: Tree | None = None
        self._is_known = True
        self._shape: list[int] = []
        self._before = 0.0  # what the trees before this one have to write

    def add(self, document: Document, pieces: Iterable[Foreseen]) -> None:
        """Take what becomes of the next pieces of a document."""
        if self._document is not document and not (self._is_total and self._document):
            self._finish()
            self._document = document
        for piece in pieces:
            if piece.fate == "asked" and piece.num_written is None:
                self._is_known = False
            if not self._is_known:
                return
            if self._tree is None:
                self._tree = plant(self._session, self._task, document, self._asking)
                self._before = self._asking.num_written
            if text := self._asking.answer(piece):
                self._tree.add(text)

    @property
    def outcome(self) -> Outcome | None:
        """What becomes of them, when all pieces were told; None if too little is known of how long answers are."""
        self._finish()
        if not self._is_known:
            return None
        return Outcome(self._asking.over.outcome, round(self._asking.num_written), tuple(self._shape))

    def _finish(self) -> None:
        if self._tree and self._is_known:
            self._tree.finish()
            if self._asking.num_written > self._before:
                pairs = zip_longest(self._shape, self._tree.shape, fillvalue=0)
                self._shape = [one + other for one, other in pairs]
        self._tree = None


class _Asking:
    """Stands for the flow of a run, in the tree's eyes: what is asked is foreseen at once.

    Args:
        session: whose model counts tokens.
        over: foresees questions.
    """

    def __init__(self, session: Session, over: Forecaster) -> None:
        self.over = over
        self.num_written = 0.0
        self._session = session
        self._num_filled = 0
        self._sum, self._count = 0.0, 0  # of the tokens of answers

    def answer(self, foreseen: Foreseen) -> str:
        """Return an answer's text, or what stands for it; "" for one that does not come."""
        if foreseen.answer is not None:
            self._count_length(self._session.model.measure(foreseen.answer))
            return foreseen.answer
        if foreseen.fate == "failed":
            return ""
        if foreseen.num_written is not None:
            self._count_length(foreseen.num_written)
        return self._filler(foreseen.num_written or self._mean)

    def submit(self, question: Question) -> Pending:
        """Foresee what becomes of a question."""
        (foreseen,) = self.over.add([question])
        if foreseen.fate == "asked":
            foreseen = replace(foreseen, num_written=foreseen.num_written or self._mean)
            self.num_written += foreseen.num_written or 0.0
        text = self.answer(foreseen)
        result = Result(question.segment, text, None if text else "the answer failed before")
        return foreseen_as(question, result)

    def result(self, pending: Pending) -> Result:
        """Return what became of a question."""
        assert pending.result is not None
        return pending.result

    @cached_property
    def _word(self) -> float:
        """How many tokens a word of filler has."""
        return max(1.0, self._session.model.measure(" a" * _SAMPLE) / _SAMPLE)

    @property
    def _mean(self) -> float:
        return self._sum / max(1, self._count)

    def _count_length(self, number: float) -> None:
        self._sum += number
        self._count += 1

    def _filler(self, num_tokens: float) -> str:
        """Return a text of so many tokens that no other is equal to."""
        self._num_filled += 1
        return str(self._num_filled) + " a" * max(1, round(num_tokens / self._word) - 1)
