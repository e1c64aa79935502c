"""Questions → results, in order and in bounded memory: what is read ahead, what is on its way, what is waited for.

Knows no output, no terminal and no option.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from llmpar.answering.answers import Answers
from llmpar.answering.pending import Pending
from llmpar.documents.document import DEFAULT_ON_ERROR, Block, OnError, Result, Segment
from llmpar.errors import EngineFailed, LlmparError, SegmentFailed
from llmpar.reporting.report import Coming, Report
from llmpar.tasks.question import Question

_TICK = 0.1  # seconds between looks at what is shown, and at whether anybody still reads
_MOMENT = 0.001  # seconds in which whoever reads has the next part, if it is there: it needs Python's lock for that
_PARTS_AHEAD = 32  # parts read ahead of the one whose results are taken, however long they are
_WINDOW, _TURNS = 512, 8  # questions on their way: so many, or so many times those that are answered at a time
_TOGETHER = 256  # questions submitted at a time
_MAX_HELD = 1 << 24  # characters of segments on their way, as a rule
_READY_HELD = 1 << 20  # characters that lie ready to be taken, as a rule


@dataclass(frozen=True, slots=True)
class Part:
    """A block and what is asked about it, segment by segment; `damage` tells why its document ends here."""

    block: Block
    questions: list[Question]
    damage: LlmparError | None = None

    @property
    def segments(self) -> list[Segment]:
        """The block's segments, in order."""
        return [question.segment for question in self.questions]


@dataclass(eq=False, slots=True)
class _Opened:
    """A part whose questions are being answered: those of them that have been submitted so far."""

    part: Part
    pending: deque[Pending]


class Flow:
    """Runs parts through answers.

    Args:
        answers: answers questions.
        report: counts what happens.
        on_error: what becomes of a segment that failed; "fail" ends the run.
        max_held: how many characters of segments may be on their way at a time; one segment always is. Parts that are
            read ahead have about as many.
        tick: called often, for progress.
        done: called with each result, in order.
    """

    def __init__(
        self,
        answers: Answers,
        report: Report,
        on_error: OnError = DEFAULT_ON_ERROR,
        max_held: int = _MAX_HELD,
        tick: Callable[[], None] = lambda: None,
        done: Callable[[Result], None] = lambda _: None,
    ) -> None:
        self.idle: Callable[[], None] = lambda: None
        """Called before each wait: what has been made of results should not wait, too."""
        self._answers = answers
        self._report = report
        self._on_error = on_error
        self._max_held = max_held
        self._tick = tick
        self._done = done
        self._source: _Feeder | None = None
        self._parts: deque[_Opened] = deque()
        self._to_submit: deque[tuple[Question, deque[Pending]]] = deque()
        self._num_held = 0
        self._held = self._held_ahead = 0
        self._process = os.getpid()

    def answered(self, parts: Iterator[Part]) -> Iterator[tuple[Part, Iterator[Result]]]:
        """Yield each part with its results, which are to be taken before the next part is.

        `parts` is read on a thread of its own, so that a slow input holds up no answer.

        Raises:
            EngineFailed: no worker is left.
            SegmentFailed: a segment failed that must not.
            LlmparError: whatever `parts` or the answers raise.
        """
        self._forget()
        source = self._source = _Feeder(parts)
        try:
            while (opened := self._next_part()) is not None:
                yield opened.part, self._results(opened)
        finally:
            source.stop()

    def submit(self, question: Question) -> Pending:
        """Ask something that follows from results, beside what is read."""
        self._report.read(1)
        return self._answers.submit(question)

    def expect(self, coming: Coming) -> None:
        """Take note that something follows from results; see `Report`."""
        self._report.expect_questions(coming)

    def result(self, pending: Pending) -> Result:
        """Wait for what came of a question that was submitted."""
        while pending.result is None:
            self._wait()
        self._answers.commit()
        self._take_note(pending.result)
        return pending.result

    def close(self) -> None:
        """Let the workers end."""
        self._answers.close()

    def abandon(self) -> None:
        """Keep what is finished, and wait for nothing else."""
        self._answers.abandon()

    def _forget(self) -> None:
        """Have nothing of parts that nobody took to their end: what was raised meanwhile may not be the end of all."""
        self._parts.clear()
        self._to_submit.clear()
        self._num_held = self._held = self._held_ahead = 0

    def _next_part(self) -> _Opened | None:
        assert self._source is not None
        self._advance()
        while not self._parts and not self._source.ended:
            self._wait()
        if self._parts:
            opened = self._parts.popleft()
            self._held_ahead -= len(opened.part.block.text)
            return opened
        if self._source.error:
            raise self._source.error
        return None

    def _results(self, opened: _Opened) -> Iterator[Result]:
        for question in opened.part.questions:
            while not opened.pending:
                self._wait()
            result = self.result(opened.pending[0])
            opened.pending.popleft()
            self._num_held -= 1
            self._held -= len(question.text)
            yield result

    def _take_note(self, result: Result) -> None:
        self._done(result)
        if result.error is not None and self._on_error == "fail":
            raise SegmentFailed(
                f"{result.segment}: {result.error}; nothing else is computed, as a failure ends this run"
            )

    def _wait(self) -> None:
        """Let time pass until something may have come: input, or an answer."""
        if os.getpid() != self._process:  # threads stay behind in a fork, and would be waited for without end
            raise EngineFailed("this run belongs to another process, of which this one is a fork; begin one of its own")
        self.idle()
        self._tick()
        self._advance()
        if self._answers.running:
            self._answers.collect(_TICK)
        else:
            self._answers.commit()
            if self._source and not self._to_submit and not self._parts:
                self._take(self._source.take(_TICK))

    def _advance(self) -> None:
        """Submit as much as memory allows."""
        while self._source:
            if not self._to_submit and not self._is_far_ahead():
                self._take(self._source.take(_MOMENT if self._is_hungry() else 0))
            batch = list(self._next_questions())
            if not batch:
                return
            pending = self._answers.submit_all([question for question, _ in batch])
            for (_, taken), one in zip(batch, pending, strict=True):
                taken.append(one)

    def _is_hungry(self) -> bool:
        """Tell whether more could be answered at a time than is known."""
        return self._answers.running and self._num_held < self._answers.num_slots

    def _next_questions(self) -> Iterator[tuple[Question, deque[Pending]]]:
        """Take the next questions, as many as go together and memory allows."""
        for _ in range(min(_TOGETHER, len(self._to_submit))):
            if self._is_full(self._to_submit[0][0]):
                return
            question, pending = self._to_submit.popleft()
            self._num_held += 1
            self._held += len(question.text)
            yield question, pending

    def _is_full(self, question: Question) -> bool:
        num_held = self._num_held
        return num_held >= self._window or (num_held > 0 and self._held + len(question.text) > self._max_held)

    def _is_far_ahead(self) -> bool:
        """Tell whether enough parts are read; where each has but one question, many are needed to keep workers busy."""
        num_parts = len(self._parts)
        return num_parts >= self._window or (num_parts >= _PARTS_AHEAD and self._held_ahead >= self._max_held)

    @property
    def _window(self) -> int:
        return max(_WINDOW, _TURNS * self._answers.num_slots)

    def _take(self, parts: Iterable[Part]) -> None:
        for part in parts:
            opened = _Opened(part, deque())
            self._parts.append(opened)
            self._held_ahead += len(part.block.text)
            self._to_submit.extend((question, opened.pending) for question in part.questions)
            self._report.read(len(part.questions), part.block.num_bytes)


class _Feeder:
    """Reads parts ahead on a thread of its own: as many as are submitted together, of bounded length."""

    def __init__(self, parts: Iterator[Part]) -> None:
        self.ended = False
        self.error: BaseException | None = None  # what ended it; what was read before comes first
        self._parts = parts
        self._ready: list[Part] = []
        self._num_ready = self._held = 0  # their questions, those without any counted as one, and characters
        self._is_over = False  # as the thread knows it
        self._fault: BaseException | None = None
        self._is_stopped = False
        self._changed = threading.Condition()
        threading.Thread(target=self._feed, name="llmpar-reader", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end as soon as it has what it reads just now: nobody wants more."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def take(self, timeout: float) -> list[Part]:
        """Return the parts that lie ready; if there are none, those that come first within `timeout` seconds."""
        with self._changed:
            if timeout:
                self._changed.wait_for(lambda: self._ready or self._is_over, timeout)
            parts, self._ready = self._ready, []
            self._num_ready = self._held = 0
            self.ended, self.error = self._is_over, self._fault
            self._changed.notify_all()
        return parts

    def _feed(self) -> None:
        fault: BaseException | None = None
        try:
            for part in self._parts:
                with self._changed:
                    self._changed.wait_for(lambda: self._has_room() or self._is_stopped)
                    if self._is_stopped:
                        return
                    self._ready.append(part)
                    self._num_ready += max(1, len(part.questions))
                    self._held += len(part.block.text)
                    self._changed.notify_all()
        except BaseException as error:  # raised when everything before it is written
            fault = error
        with self._changed:
            self._is_over, self._fault = True, fault
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return not self._ready or (self._num_ready < _TOGETHER and self._held < _READY_HELD)
