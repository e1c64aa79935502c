"""Documents × task × engine → ordered results, in bounded memory. Knows no terminal and no option."""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field, replace

from llmpar.documents.document import Block, Result, Segment
from llmpar.documents.merger import merge
from llmpar.documents.output import Output
from llmpar.documents.writer import Writer
from llmpar.engine.engine import Engine
from llmpar.engine.request import Completion, Request, SamplingParams
from llmpar.errors import EngineFailed, LlmparError
from llmpar.report import Report
from llmpar.tasks.task import Task

_TICK = 0.1  # seconds between looks at what is shown, and at whether anybody still reads
_PARTS_AHEAD = 32  # blocks read ahead of the one being written
_MOST_REMEMBERED = 10_000  # answers kept for segments that come again
_LONGEST_REMEMBERED = 2_000  # characters of such a segment, which bounds their memory


@dataclass(frozen=True, slots=True)
class Backend:
    """An engine, and how a segment's text becomes its prompt and an answer's ids become text.

    `num_prompt_tokens` is what a prompt takes without the segment.
    """

    engine: Engine
    encode: Callable[[str], SequenceOf[int]]
    decode: Callable[[SequenceOf[int]], str]
    num_prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the user said about answers; `max_new_tokens` None leaves the limit to the task."""

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_repeats: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """A block and its segments, as they come from the splitter; `damage` tells why its document ends here."""

    block: Block
    segments: list[Segment]
    damage: LlmparError | None = None


@dataclass(eq=False, slots=True)
class _Item:
    """A segment on its way: its prompt, what has been answered so far, and in the end its result."""

    segment: Segment
    prompt_ids: SequenceOf[int] = ()
    output_ids: list[int] = field(default_factory=list)
    limit: int = 0
    extended: bool = False
    result: Result | None = None
    twins: list[_Item] = field(default_factory=list)  # equal segments that wait for this one's answer


class Pipeline:
    """Runs a task over parts, and writes what comes of them in their order.

    Args:
        task: what is asked of each segment.
        sampling: what the user said about answers.
        open_backend: makes the backend; called when there is a first segment, so that blank input needs no model.
        report: counts what happens.
        tick: called often, for progress.
        failed: called with each result that is an error, in order.
        damaged: called with the reason why a document could not be read to its end; the others go on.
    """

    def __init__(
        self,
        task: Task,
        sampling: Sampling,
        open_backend: Callable[[], Backend],
        report: Report,
        tick: Callable[[], None] = lambda: None,
        failed: Callable[[Result], None] = lambda _: None,
        damaged: Callable[[LlmparError], None] = lambda _: None,
    ) -> None:
        self._task = task
        self._sampling = sampling
        self._open_backend = open_backend
        self._report = report
        self._tick = tick
        self._failed = failed
        self._damaged = damaged
        self._backend: Backend | None = None
        self._source: _Feeder | None = None
        self._parts: deque[tuple[Block, list[_Item], LlmparError | None]] = deque()
        self._to_submit: deque[_Item] = deque()
        self._running: dict[int, _Item] = {}
        self._num_held = 0  # submitted and not yet written
        self._known: OrderedDict[str, _Item] = OrderedDict()  # by text, running or answered
        self._next_id = 0

    def run(self, parts: Iterator[Part], output: Output) -> None:
        """Answer every segment of `parts` and write the merged documents to `output`.

        `parts` is read on a thread of its own, so that a slow input holds up no answer.

        Raises:
            EngineFailed: a worker died. What came before is written.
            LlmparError: whatever `parts` or `output` raise.
        """
        self._source = _Feeder(parts)
        try:
            writer: Writer | None = None
            while (part := self._next_part(writer)) is not None:
                block, items, damage = part
                if block.first:
                    writer = output.begin(block.document)
                    writer.write(block.document.encoding.bom)
                assert writer is not None
                for text in merge(block, (item.segment for item in items), self._results(items, writer)):
                    writer.write(block.document.encoding.encode(text))
                if damage:
                    output.drop()
                    self._report.num_unreadable += 1
                    self._damaged(damage)
                elif block.last:
                    output.end()
                    self._report.num_documents += 1
            output.finish()
        except BaseException:
            output.abandon()
            self._close(timeout=0)
            raise
        self._close(timeout=None)

    def _close(self, timeout: float | None) -> None:
        if self._backend:
            self._backend.engine.close(timeout)

    def _next_part(self, writer: Writer | None) -> tuple[Block, list[_Item], LlmparError | None] | None:
        assert self._source is not None
        self._advance()
        while not self._parts and not self._source.ended:
            self._wait(writer)
        if self._parts:
            return self._parts.popleft()
        if self._source.error:
            raise self._source.error
        return None

    def _results(self, items: list[_Item], writer: Writer) -> Iterator[Result]:
        for item in items:
            while item.result is None:
                self._wait(writer)
            if item.result.error is not None:
                self._failed(item.result)
            self._num_held -= 1
            yield item.result

    def _wait(self, writer: Writer | None) -> None:
        """Let time pass until something may have come: input, or a completion."""
        assert self._source is not None
        if writer:
            writer.flush()
        self._tick()
        self._advance()
        if self._running:
            assert self._backend is not None
            completion = self._backend.engine.collect(_TICK)
            while completion is not None:
                self._complete(self._backend, completion)
                completion = self._backend.engine.collect(0) if self._running else None
        elif not self._to_submit and not self._parts:
            self._take(self._source.get(_TICK))

    def _advance(self) -> None:
        """Submit as much as memory allows."""
        assert self._source is not None
        while True:
            if self._to_submit:
                if self._backend and self._num_held >= self._window:
                    return
                self._submit(self._to_submit.popleft())
            elif len(self._parts) >= _PARTS_AHEAD or not self._take(self._source.get(0)):
                return

    @property
    def _window(self) -> int:
        assert self._backend is not None
        return max(512, 8 * self._backend.engine.num_slots)

    def _take(self, part: Part | None) -> bool:
        if part is None:
            return False
        items = [_Item(segment) for segment in part.segments]
        self._parts.append((part.block, items, part.damage))
        self._to_submit.extend(items)
        self._report.num_bytes_read += part.block.num_bytes
        self._report.num_segments_read += len(items)
        return True

    def _submit(self, item: _Item) -> None:
        if self._backend is None:
            self._backend = self._open_backend()
        backend = self._backend
        self._num_held += 1
        if self._is_repeated(item):
            return
        item.prompt_ids = backend.encode(item.segment.text)
        num_prompt_tokens = len(item.prompt_ids)
        self._report.num_text_tokens_read += num_prompt_tokens
        num_text_tokens = num_prompt_tokens - backend.num_prompt_tokens
        if num_text_tokens < self._task.min_text_tokens:
            self._finish(item, answer=item.segment.text)
            return
        wanted = self._sampling.max_new_tokens or self._task.max_new_tokens(num_text_tokens)
        room = backend.engine.context_length - num_prompt_tokens
        if room < min(wanted, 16):
            self._finish(
                item,
                f"its prompt takes {num_prompt_tokens:,} of the {backend.engine.context_length:,} tokens the model "
                "can read; split it smaller, or take a model with a longer context",
            )
            return
        item.limit = min(wanted, room)
        self._request(backend, item, item.limit)

    def _is_repeated(self, item: _Item) -> bool:
        """Let an item have the answer of an equal one, now or when it comes; else remember it as the first."""
        text = item.segment.text
        first = self._known.get(text)
        if first is None:
            if len(text) <= _LONGEST_REMEMBERED:
                self._known[text] = item
                if len(self._known) > _MOST_REMEMBERED:
                    self._known.popitem(last=False)
            return False
        self._known.move_to_end(text)
        if first.result:
            self._report.num_text_tokens_read += first.result.num_prompt_tokens
            self._repeat(item, first.result)
        else:
            self._report.num_text_tokens_read += len(first.prompt_ids)
            first.twins.append(item)
        return True

    def _repeat(self, item: _Item, result: Result) -> None:
        item.result = replace(result, segment=item.segment, reused=True)
        self._report.add(item.result)

    def _request(self, backend: Backend, item: _Item, max_new_tokens: int) -> None:
        sampling = self._sampling
        params = SamplingParams(
            max_new_tokens, sampling.temperature, sampling.top_p, sampling.seed, sampling.max_repeats
        )
        self._running[self._next_id] = item
        prompt_ids = [*item.prompt_ids, *item.output_ids] if item.output_ids else item.prompt_ids
        backend.engine.submit(Request(self._next_id, prompt_ids, params, len(item.output_ids)))
        self._next_id += 1

    def _complete(self, backend: Backend, completion: Completion) -> None:
        if backend.engine.failure:
            raise EngineFailed(backend.engine.failure)
        item = self._running.pop(completion.id)
        item.output_ids.extend(completion.output_ids)
        if completion.finish_reason == "error":
            self._finish(item, completion.error or "no reason given")
        elif completion.finish_reason == "loop":
            num_tokens = len(item.output_ids)
            self._finish(item, f"the answer repeats itself (stopped after {num_tokens:,} tokens)", looped=True)
        elif completion.finish_reason == "length" and item.limit != self._sampling.max_new_tokens:
            self._extend(backend, item)
        else:
            answer = backend.decode(item.output_ids)
            if answer:
                self._finish(item, answer=answer, cut=completion.finish_reason == "length")
            else:
                self._finish(item, "the answer is empty")

    def _extend(self, backend: Backend, item: _Item) -> None:
        """Give an answer that reached our own limit room to end, once: it goes on where it stopped."""
        room = backend.engine.context_length - len(item.prompt_ids) - len(item.output_ids)
        more = min(item.limit, room)
        if item.extended or more < 1:
            self._finish(item, f"the answer did not end within {len(item.output_ids):,} tokens")
            return
        item.extended = True
        self._request(backend, item, more)

    def _finish(
        self, item: _Item, error: str | None = None, answer: str = "", cut: bool = False, looped: bool = False
    ) -> None:
        item.result = Result(
            item.segment,
            answer,
            error,
            cut,
            looped,
            num_prompt_tokens=len(item.prompt_ids),
            num_output_tokens=len(item.output_ids),
        )
        item.prompt_ids, item.output_ids = (), []
        self._report.add(item.result)
        for twin in item.twins:
            self._repeat(twin, item.result)
        item.twins = []


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
