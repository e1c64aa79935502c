"""Many answers → one: a tree of questions, each over as many answers as fit, level by level until one is left.

    y = g(g(y1 … yk), g(yk+1 …), …)

Which answers stand in which question follows from their order and lengths alone. Every node is asked as soon as its
answers are there, beside what is still being read, and each level keeps no more than one question's worth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from llmpar.answering.flow import Flow
from llmpar.answering.pending import Pending
from llmpar.answering.session import Session
from llmpar.documents.document import Block, Document, Encoding, Result, Segment, text_segment
from llmpar.tasks.question import Question
from llmpar.tasks.task import Task

JOINT = "\n\n"  # between the answers in a question
FAN_IN = 4
"""How many of the longest answers a question should hold: with two, a tree asks as many questions as it has leaves."""


@dataclass(slots=True)
class _Level:
    """Answers that wait for their question, and questions that wait for their answer."""

    texts: list[str] = field(default_factory=list)
    num_tokens: int = 0
    pending: deque[Pending] = field(default_factory=deque)
    num_asked: int = 0


class Tree:
    """Reduces answers to one, in the order in which they are added.

    Args:
        flow: asks.
        task: what is asked of several answers.
        document: where they come from, for people.
        budget: the tokens of answers that one question holds, as a rule at least two answers.
        measure: counts the tokens of a text.
    """

    def __init__(self, flow: Flow, task: Task, document: Document, budget: int, measure: Callable[[str], int]) -> None:
        self._flow = flow
        self._task = task
        self._document = document
        self._budget = budget
        self._measure = measure
        self._levels = [_Level()]
        self._unreduced = ""  # the answers that a question which failed was about: better than nothing

    @property
    def shape(self) -> list[int]:
        """How many questions each level had, from the lowest."""
        return [level.num_asked for level in self._levels if level.num_asked]

    def add(self, text: str) -> None:
        """Take the next answer."""
        self._put(0, text)
        for index in range(len(self._levels)):
            pending = self._levels[index].pending
            while pending and pending[0].result is not None:
                self._take(index)

    def finish(self) -> str:
        """Ask what is left to ask, wait for it, and return the one answer; "" if there was none."""
        index = 0
        while index < len(self._levels):
            level = self._levels[index]
            self._drain(level, index)
            if index + 1 == len(self._levels) and len(level.texts) < 2:
                return level.texts[0] if level.texts else self._unreduced
            if len(level.texts) == 1:  # one answer is as good as a question about it
                (text,) = level.texts
                level.texts, level.num_tokens = [], 0
                self._put(index + 1, text)
            elif level.texts:
                self._ask(index)
                self._drain(level, index)
            index += 1
        return self._unreduced

    def _put(self, index: int, text: str) -> None:
        while index >= len(self._levels):
            self._levels.append(_Level())
        level, num_tokens = self._levels[index], self._measure(text)
        if len(level.texts) > 1 and level.num_tokens + num_tokens > self._budget:
            self._ask(index)
        level.texts.append(text)
        level.num_tokens += num_tokens

    def _ask(self, index: int) -> None:
        level = self._levels[index]
        text = JOINT.join(level.texts)
        level.texts, level.num_tokens = [], 0
        segment = text_segment(self._document, text, level.num_asked)
        level.num_asked += 1
        level.pending.append(self._flow.submit(Question(segment, self._task)))

    def _drain(self, level: _Level, index: int) -> None:
        while level.pending:
            self._take(index)

    def _take(self, index: int) -> None:
        """Wait for a level's first question, and hand its answer on."""
        result = self._flow.result(self._levels[index].pending.popleft())
        if is_usable(result):
            self._put(index + 1, result.answer)
        else:
            self._unreduced = result.segment.text


def plant(session: Session, task: Task, document: Document) -> Tree:
    """Return the tree that a session grows over answers about a document; `task` is what is asked of several."""
    return Tree(session.flow, task, document, session.budget(task, FAN_IN), session.model.measure)


def is_usable(result: Result) -> bool:
    """Tell whether an answer can go into another question: one that is merely too long can, though it failed."""
    return result.error is None or (result.finish_reason == "length" and bool(result.answer))


class ReducingMerger:
    """One answer for each document, or for all of them, in place of the answers to its segments.

    Args:
        plant: makes the tree for a document.
        is_total: whether there is one answer for all documents.
        grown: is told the shape of each tree, and whose it is.
    """

    def __init__(
        self,
        plant: Callable[[Document], Tree],
        *,
        is_total: bool = False,
        grown: Callable[[Document, int, list[int]], None] = lambda *_: None,
    ) -> None:
        self._plant = plant
        self._is_total = is_total
        self._grown = grown
        self._tree: Tree | None = None
        self._document: Document | None = None
        self._num_leaves = 0

    def encoding(self, document: Document) -> Encoding:
        """Return UTF-8."""
        return Encoding(errors=document.encoding.errors)

    def merge(self, block: Block, segments: Iterable[Segment], results: Iterator[Result]) -> Iterator[str]:  # noqa: ARG002
        """Yield a document's one answer when its last block comes; a segment that failed is left out."""
        if self._tree is None:
            self._tree, self._document, self._num_leaves = self._plant(block.document), block.document, 0
        for result in results:
            if is_usable(result):
                self._num_leaves += 1
                self._tree.add(result.answer)
        if block.last and not self._is_total:
            yield from self._finish()

    def close(self) -> Iterator[str]:
        """Yield the one answer for all documents."""
        yield from self._finish()

    def _finish(self) -> Iterator[str]:
        if self._tree is None or self._document is None:
            return
        text = self._tree.finish()
        self._grown(self._document, self._num_leaves, self._tree.shape)
        self._tree = None
        if text:
            yield text + "\n"
