"""Documents → segments → answers → documents: what is read ahead, and what is written in order, in bounded memory.

Knows no terminal and no option.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llmpar.answers import Answers, Pending
from llmpar.documents.document import Block, OnError, Result, Segment
from llmpar.documents.merger import merge
from llmpar.documents.output import Output
from llmpar.documents.writer import Writer
from llmpar.errors import InputError, LlmparError, SegmentFailed
from llmpar.interrupts import shielded
from llmpar.report import Report

_TICK = 0.1  # seconds between looks at what is shown, and at whether anybody still reads
_PARTS_AHEAD = 32  # blocks read ahead of the one being written
_MAX_HELD = 1 << 24  # characters of segments on their way, as a rule


@dataclass(frozen=True, slots=True)
class Part:
    """A block and its segments, as they come from the splitter; `damage` tells why its document ends here."""

    block: Block
    segments: list[Segment]
    damage: LlmparError | None = None


@dataclass(eq=False, slots=True)
class _Opened:
    """A part whose segments are being answered: those of them that have been submitted so far."""

    part: Part
    pending: deque[Pending]


class Pipeline:
    """Runs parts through a task's answers, and writes what comes of them in their order.

    Args:
        answers: answers segments.
        report: counts what happens.
        on_error: what becomes of a segment that failed; "fail" ends the run.
        max_held: how many characters of segments may be on their way at a time; one segment always is.
        tick: called often, for progress.
        done: called with each result, in order.
        damaged: called with the reason why a document could not be read to its end, or was changed before it was to be
            replaced; unless it raises, the others go on.
    """

    def __init__(
        self,
        answers: Answers,
        report: Report,
        on_error: OnError = "keep",
        max_held: int = _MAX_HELD,
        tick: Callable[[], None] = lambda: None,
        done: Callable[[Result], None] = lambda _: None,
        damaged: Callable[[LlmparError], None] = lambda _: None,
    ) -> None:
        self._answers = answers
        self._report = report
        self._on_error = on_error
        self._max_held = max_held
        self._tick = tick
        self._done = done
        self._damaged = damaged
        self.finished = False  # whether all there is has been published
        self.published: set[int] = set()  # documents, by their index
        self._source: _Feeder | None = None
        self._parts: deque[_Opened] = deque()  # read, and not yet written; the first is being written
        self._to_submit: deque[tuple[Segment, deque[Pending]]] = deque()
        self._gathered: list[bytes] = []  # of the block being written
        self._num_held = 0  # segments submitted and not yet written
        self._held = 0  # characters of them

    def run(self, parts: Iterator[Part], output: Output) -> None:
        """Answer every segment of `parts` and write the merged documents to `output`.

        `parts` is read on a thread of its own, so that a slow input holds up no answer.

        Raises:
            EngineFailed: a worker died. What came before is written.
            SegmentFailed: a segment failed that must not.
            LlmparError: whatever `parts`, `output` or the answers raise.
        """
        self._source = _Feeder(parts)
        try:
            self._write(output)
        except BaseException:
            try:
                output.abandon()
            finally:
                self._answers.abandon()
            raise
        self._answers.close()

    def _write(self, output: Output) -> None:
        writer: Writer | None = None
        while (opened := self._next_part(writer)) is not None:
            block, damage = opened.part.block, opened.part.damage
            if block.first:
                writer = output.begin(block.document)
                writer.write(block.document.encoding.bom)
            assert writer is not None
            try:
                for text in merge(block, opened.part.segments, self._results(opened, writer), self._on_error):
                    self._gathered.append(block.document.encoding.encode(text))
            except SegmentFailed:
                self._hand_on(writer)
                raise
            self._hand_on(writer)
            if block.last and not damage:
                try:
                    with shielded():
                        output.end()
                        self.published.add(block.document.index)
                except InputError as changed:  # what was to be replaced is no longer what was read
                    damage = changed
                else:
                    self._report.num_documents += 1
            if damage:
                output.drop()
                self._report.num_unreadable += 1
                self._damaged(damage)
        with shielded():
            output.finish()
            self.finished = True

    def _hand_on(self, writer: Writer) -> None:
        """Write what was gathered: at once, as each write is a chance for another thread to keep this one waiting."""
        if self._gathered:  # else the writer may be closed: its document is complete, and the next not yet there
            writer.write(b"".join(self._gathered))
            self._gathered.clear()

    def _next_part(self, writer: Writer | None) -> _Opened | None:
        assert self._source is not None
        self._advance()
        while not self._parts and not self._source.ended:
            self._wait(writer)
        if self._parts:
            return self._parts.popleft()
        if self._source.error:
            raise self._source.error
        return None

    def _results(self, opened: _Opened, writer: Writer) -> Iterator[Result]:
        for segment in opened.part.segments:
            while not opened.pending or opened.pending[0].result is None:
                self._wait(writer)
            self._answers.commit()
            result = opened.pending.popleft().result
            assert result is not None
            self._num_held -= 1
            self._held -= len(segment.text)
            self._done(result)
            if result.error is not None and self._on_error == "fail":
                raise SegmentFailed(f"{segment}: {result.error}; nothing else is computed, as --on-error fail demands")
            yield result

    def _wait(self, writer: Writer | None) -> None:
        """Let time pass until something may have come: input, or an answer."""
        assert self._source is not None
        if writer:
            self._hand_on(writer)
            writer.flush()
        self._tick()
        self._advance()
        if self._answers.running:
            self._answers.collect(_TICK)
        else:
            self._answers.commit()
            if not self._to_submit and not self._parts:
                self._take(self._source.get(_TICK))

    def _advance(self) -> None:
        """Submit as much as memory allows."""
        assert self._source is not None
        while True:
            if self._to_submit:
                if self._is_full(self._to_submit[0][0]):
                    return
                segment, pending = self._to_submit.popleft()
                self._num_held += 1
                self._held += len(segment.text)
                pending.append(self._answers.submit(segment))
            elif len(self._parts) >= _PARTS_AHEAD or not self._take(self._source.get(0)):
                return

    def _is_full(self, segment: Segment) -> bool:
        num_held = self._num_held
        window = max(512, 8 * self._answers.num_slots)
        return num_held >= window or (num_held > 0 and self._held + len(segment.text) > self._max_held)

    def _take(self, part: Part | None) -> bool:
        if part is None:
            return False
        opened = _Opened(part, deque())
        self._parts.append(opened)
        self._to_submit.extend((segment, opened.pending) for segment in part.segments)
        self._report.num_bytes_read += part.block.num_bytes
        self._report.num_segments_read += len(part.segments)
        return True


class _Feeder:
    """Reads parts ahead on a thread of its own, a few at a time."""

    def __init__(self, parts: Iterator[Part]) -> None:
        self.ended = False
        self.error: BaseException | None = None  # what ended it; what was read before comes first
        self._queue: queue.Queue[Part | BaseException | None] = queue.Queue(maxsize=1)
        self._parts = parts
        threading.Thread(target=self._feed, name="llmpar-reader", daemon=True).start()

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
            self._queue.put(None)
        except BaseException as error:  # raised when everything before it is written
            self._queue.put(error)
