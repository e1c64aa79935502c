"""Many answers → one: a tree of questions, each over as many answers as fit, level by level until one is left.

    y = g(g(y1 … yk), g(yk+1 …), …)

Which answers stand in which question follows from their order and lengths alone. Every node is asked as soon as its
answers are there, beside what is still being read, and each level keeps no more than one question's worth. An answer
knows which stretch of the documents it is about, so that what is missing in the end can be named.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from llmpar.answering.pending import Pending
from llmpar.answering.session import Session
from llmpar.documents.document import Block, Document, Encoding, Result, Segment, text_segment
from llmpar.tasks.question import Question
from llmpar.tasks.task import Task
from llmpar.visible import one_line

JOINT = "\n\n"  # between the answers in a question
_SEVERAL = 1.5  # answers, on average, of which one is to be made
_NAMED = 8  # places that are named as missing
FAN_IN = 4
"""How many of the longest answers a question should hold: with two, a tree asks as many questions as it has leaves."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """From where to where a part of the documents goes: names and lines, from 1; 0 where there are no lines."""

    name: str
    line: int
    last_name: str
    last_line: int

    @classmethod
    def of(cls, segment: Segment) -> Stretch:
        """Return where a segment stands."""
        if segment.label:
            return cls(segment.label, 0, segment.label, 0)
        name = segment.block.document.name
        return cls(name, segment.line, name, segment.last_line)

    def until(self, last: Stretch) -> Stretch:
        """Return the stretch from the beginning of this one to the end of another."""
        return Stretch(self.name, self.line, last.last_name, last.last_line)

    def __str__(self) -> str:
        first = f"{self.name}:{self.line}" if self.line else self.name
        if self.name != self.last_name:
            return f"{first} to {self.last_name}" + (f":{self.last_line}" if self.last_line else "")
        return first if self.line == self.last_line else f"{first}-{self.last_line}"


@dataclass(frozen=True, slots=True)
class Gaps:
    """What one answer that was made of many lacks.

    Args:
        num_partial: how many answers stand beside each other in its place, as the last step failed; 0 if it did not.
        num_missing: of how many parts it says nothing, as something about them failed.
        missing: the first of these.
        is_cut: whether it was stopped before its end, by no wish of the user's.
    """

    num_partial: int = 0
    num_missing: int = 0
    missing: tuple[Stretch, ...] = ()
    is_cut: bool = False


@dataclass(slots=True)
class _Level:
    """Answers that wait for their question, and questions that wait for their answer, each with its stretch."""

    texts: list[str] = field(default_factory=list)
    stretches: list[Stretch | None] = field(default_factory=list)
    num_tokens: int = 0
    pending: deque[tuple[Pending, Stretch | None, int]] = field(default_factory=deque)
    num_asked: int = 0


class Asking(Protocol):
    """What asks a question, and waits for its result: a `Flow`, or what stands for one."""

    def submit(self, question: Question) -> Pending:
        """Ask."""

    def result(self, pending: Pending) -> Result:
        """Wait for what came of it."""


class Tree:
    """Reduces answers to one, in the order in which they are added.

    Args:
        flow: asks.
        task: what is asked of several answers.
        document: where they come from, for people.
        budget: the tokens of answers that one question holds, as a rule at least two answers.
        measure: counts the tokens of a text.
    """

    def __init__(
        self, flow: Asking, task: Task, document: Document, budget: int, measure: Callable[[str], int]
    ) -> None:
        self._flow = flow
        self._task = task
        self._document = document
        self._budget = budget
        self._measure = measure
        self._levels = [_Level()]
        self._num_added = self._num_put = self._num_measured = 0
        self._unreduced = ""  # the answers that a question which failed was about: better than nothing
        self._num_unreduced = 0
        self._lost: list[Stretch | None] = []  # of questions that failed
        self._missing: list[Stretch] = []
        self._num_missing = self._num_partial = 0
        self._stopped: str | None = None  # the last answer over answers, if it was stopped before its end
        self._is_cut = False

    @property
    def shape(self) -> list[int]:
        """How many questions each level had, from the lowest."""
        return [level.num_asked for level in self._levels if level.num_asked]

    def add(self, text: str, stretch: Stretch | None = None) -> None:
        """Take the next answer, and what it is about."""
        self._num_added += 1
        self._put(0, text, stretch)
        for index in range(len(self._levels)):
            pending = self._levels[index].pending
            while pending and pending[0][0].result is not None:
                self._take(index)

    def lose(self, stretch: Stretch) -> None:
        """Take note that there is no answer about a part of the documents."""
        self._num_missing += 1
        self._num_added += 1
        if len(self._missing) < _NAMED:
            self._missing.append(stretch)

    def coming(self, num_pieces: float, length: float = 0.0) -> tuple[float, int]:
        """Return how many questions are about still to be asked, and at how many levels.

        Args:
            num_pieces: how many there are, these questions counted that were asked.
            length: how many tokens an answer may have, while there is none; 0 if that is unknown.
        """
        mean = self._num_measured / self._num_put if self._num_put else length
        # Of answers that do not all have the same length, the last one that is taken leaves some room.
        at_once = max(2.0, self._budget / mean) if mean else float(FAN_IN)
        arriving = max(0.0, num_pieces - self._num_added - sum(self.shape))
        questions, num_levels, index = 0.0, 0, 0
        while index < len(self._levels) or arriving >= _SEVERAL:
            level = self._levels[index] if index < len(self._levels) else _Level()
            waiting = len(level.texts) + arriving
            asked = max(1.0, waiting / at_once) if waiting >= _SEVERAL else 0.0
            questions, num_levels = questions + asked, num_levels + bool(asked)
            arriving = (asked or waiting) + len(level.pending)
            index += 1
        return questions, num_levels

    def finish(self) -> str:
        """Ask what is left to ask, wait for it, and return the one answer; "" if there was none.

        If the last question failed, the answers that it was about stand beside each other, as `gaps` says.
        """
        text = self._finish()
        if text is None:
            text, self._num_partial = self._unreduced, self._num_unreduced
            self._lost = self._lost[:-1]
        else:
            self._is_cut = bool(text) and text == self._stopped
        for stretch in self._lost:
            if stretch:
                self.lose(stretch)
        return text

    @property
    def gaps(self) -> Gaps:
        """What the answer that `finish` returned lacks."""
        return Gaps(self._num_partial, self._num_missing, tuple(self._missing), self._is_cut)

    def _finish(self) -> str | None:
        """Return the one answer; None if the last question failed, or there was no answer at all."""
        index = 0
        while index < len(self._levels):
            level = self._levels[index]
            self._drain(level, index)
            if index + 1 == len(self._levels) and len(level.texts) < 2:
                return level.texts[0] if level.texts else None
            if len(level.texts) == 1:  # one answer is as good as a question about it
                (text,), (stretch,) = level.texts, level.stretches
                level.texts, level.stretches, level.num_tokens = [], [], 0
                self._put(index + 1, text, stretch)
            elif level.texts:
                self._ask(index)
                self._drain(level, index)
            index += 1
        return None

    def _put(self, index: int, text: str, stretch: Stretch | None) -> None:
        while index >= len(self._levels):
            self._levels.append(_Level())
        level, num_tokens = self._levels[index], self._measure(text)
        self._num_put, self._num_measured = self._num_put + 1, self._num_measured + num_tokens
        if len(level.texts) > 1 and level.num_tokens + num_tokens > self._budget:
            self._ask(index)
        level.texts.append(text)
        level.stretches.append(stretch)
        level.num_tokens += num_tokens

    def _ask(self, index: int) -> None:
        level = self._levels[index]
        text, number = JOINT.join(level.texts), len(level.texts)
        first, last = level.stretches[0], level.stretches[-1]
        stretch = first.until(last) if first and last else None
        level.texts, level.stretches, level.num_tokens = [], [], 0
        label = f"{stretch or self._document.name}, making one of {number} answers"
        segment = text_segment(self._document, text, level.num_asked, label)
        level.num_asked += 1
        level.pending.append((self._flow.submit(Question(segment, self._task)), stretch, number))

    def _drain(self, level: _Level, index: int) -> None:
        while level.pending:
            self._take(index)

    def _take(self, index: int) -> None:
        """Wait for a level's first question, and hand its answer on."""
        pending, stretch, number = self._levels[index].pending.popleft()
        result = self._flow.result(pending)
        if is_usable(result):
            self._stopped = None if result.error is None else result.answer
            self._put(index + 1, result.answer, stretch)
        else:
            self._unreduced, self._num_unreduced = result.segment.text, number
            self._lost.append(stretch)


def plant(session: Session, task: Task, document: Document, flow: Asking | None = None) -> Tree:
    """Return the tree that a session grows over answers about a document.

    Args:
        session: knows the model.
        task: what is asked of several answers.
        document: where they come from, for people.
        flow: asks in the session's place.
    """
    tree = Tree(flow or session.flow, task, document, session.budget(task, FAN_IN), session.model.measure)
    if flow is None:
        session.flow.expect(tree.coming)
    return tree


def is_usable(result: Result) -> bool:
    """Tell whether an answer can go into another question: one that is merely too long can, though it failed."""
    return result.error is None or (result.finish_reason == "length" and bool(result.answer))


def labelled(text: str, gaps: Gaps) -> str:
    """Return a result, under a line that says so if it has no end, or is several answers that were not made one."""
    if gaps.is_cut:
        return f"[llmpar: the last step was stopped before its end, so this answer is not whole]\n\n{text}"
    if not gaps.num_partial:
        return text
    return f"[llmpar: the last step failed, so these are {gaps.num_partial} answers about parts, not one]\n\n{text}"


class ReducingMerger:
    """One answer for each document, or for all of them, in place of the answers to its segments.

    Args:
        plant: makes the tree for a document.
        is_total: whether there is one answer for all documents.
        has_heads: whether each answer stands below its document's name, as several go to one place.
        grown: is told of each tree that is complete: whose it is, and how many answers it was made of.
    """

    def __init__(
        self,
        plant: Callable[[Document], Tree],
        *,
        is_total: bool = False,
        has_heads: bool = False,
        grown: Callable[[Document, int, Tree], None] = lambda *_: None,
    ) -> None:
        self._plant = plant
        self._is_total = is_total
        self._has_heads = has_heads
        self._num_told = 0
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
                self._tree.add(result.answer, Stretch.of(result.segment))
            else:
                self._tree.lose(Stretch.of(result.segment))
        if block.last and not self._is_total:
            yield from self._finish()

    def close(self) -> Iterator[str]:
        """Yield the one answer for all documents."""
        yield from self._finish()

    def _finish(self) -> Iterator[str]:
        if self._tree is None or self._document is None:
            return
        text = self._tree.finish()
        self._grown(self._document, self._num_leaves, self._tree)
        gaps, self._tree = self._tree.gaps, None
        if text:
            yield self._head(self._document) + labelled(text, gaps) + "\n"

    def _head(self, document: Document) -> str:
        """Return what stands above a document's answer: its name, as `head` writes it, and a line between two."""
        if not self._has_heads:
            return ""
        between = "\n" if self._num_told else ""
        self._num_told += 1
        return f"{between}==> {one_line(document.name)} <==\n"
