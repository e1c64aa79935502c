"""Questions → results, in order and in bounded memory: what is read ahead, what is on its way, what is waited for.

Knows no output, no terminal and no option.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llmpar.answering.answers import Answers
from llmpar.answering.pending import Pending
from llmpar.documents.document import DEFAULT_ON_ERROR, Block, OnError, Result, Segment
from llmpar.errors import EngineFailed, LlmparError, SegmentFailed
from llmpar.reporting.report import Coming, Report
from llmpar.tasks.question import Question

_TICK = 0.1  # seconds between looks at what is shown, and at whether anybody still reads
_PARTS_AHEAD = 32  # parts read ahead of the one whose results are taken, however long they are
_WINDOW, _TURNS = 512, 8  # questions on their way: so many, or so many times those that are answered at a time
_TOGETHER = 256  # questions submitted at a time
_MAX_HELD = 1 << 24  # characters of segments on their way, as a rule


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
        self._source = _Feeder(parts)
        try:
            while (opened := self._next_part()) is not None:
                yield opened.part, self._results(opened)
        finally:
            self._source.stop()

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
                self._take(self._source.get(_TICK))

    def _advance(self) -> None:
        """Submit as much as memory allows."""
        while self._source:
            if self._to_submit:
                batch = list(self._next_questions())
                if not batch:
                    return
                pending = self._answers.submit_all([question for question, _ in batch])
                for (_, taken), one in zip(batch, pending, strict=True):
                    taken.append(one)
            elif self._is_far_ahead() or not self._take(self._source.get(0)):
                return

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

    def _take(self, part: Part | None) -> bool:
        if part is None:
            return False
        opened = _Opened(part, deque())
        self._parts.append(opened)
        self._held_ahead += len(part.block.text)
        self._to_submit.extend((question, opened.pending) for question in part.questions)
        self._report.read(len(part.questions), part.block.num_bytes)
        return True


class _Feeder:
    """Reads parts ahead on a thread of its own, a few at a time."""

    def __init__(self, parts: Iterator[Part]) -> None:
        self.ended = False
        self.error: BaseException | None = None  # what ended it; what was read before comes first
        self._queue: queue.Queue[Part | BaseException | None] = queue.Queue(maxsize=1)
        self._parts = parts
        self._is_stopped = False
        threading.Thread(target=self._feed, name="llmpar-reader", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end as soon as it has what it reads just now: nobody wants more."""
        self._is_stopped = True
        with contextlib.suppress(queue.Empty):
            self._queue.get_nowait()  # it may wait for room; what it then puts is its last

    def get(self, timeout: float) -> Part | None:
        """Return the next part, None if there is none within `timeout` seconds."""
        if self.ended:
            return None
        try:
            part = self._queue.get(timeout=timeout) if timeout else self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(part, Part):
            return part
        self.ended, self.error = True, part
        return None

    def _feed(self) -> None:
        try:
            for part in self._parts:
                self._queue.put(part)
                if self._is_stopped:
                    return
            self._queue.put(None)
        except BaseException as error:  # raised when everything before it is written
            self._queue.put(error)
