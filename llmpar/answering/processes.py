"""Several processes as one backend, each with an engine of its own: what one held that is lost is asked of the others.

Knows no model: what the processes open is given. All that changes here is changed by the thread that asks.
"""

from __future__ import annotations

import contextlib
import queue
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from llmpar.answering.backend import Query, Reply, Watcher
from llmpar.answering.child import Child
from llmpar.answering.link import Events, Link, StartLink
from llmpar.answering.local import Codec, replies_of
from llmpar.answering.server import MOST_LOSSES, Held, Server, differing, left_out
from llmpar.answering.usual import Usual
from llmpar.answering.wire import KINDS, Answered, Asked, End, Failed, Opened, OpenPart, Report, Said
from llmpar.engine.worker import WorkerStatus
from llmpar.errors import EngineFailed, KeptDamaged, LlmparError, ModelUnavailable
from llmpar.integrity.foundation import Foundation
from llmpar.tasks.question import Prompt
from llmpar.tasks.task import Form

_WINDOW = 4  # times the slots of a process: what it may hold, as an engine chooses among so many
_LOOK = 1.0  # seconds between looks at the processes, for those who wait longer
_FLUSH, _LONGEST_FLUSH = 0.5, 2.0  # seconds that a process has to send what it has finished
_HANDED = 256  # queries that are handed out together, where nothing is waited for: a message costs as much as several


class Processes:
    """Answers queries by several processes.

    They begin at once. `open` and `wait` are to be called next, and `close` at last.

    Args:
        names: what people know each of them by.
        watcher: is told what they tell, and which of them were lost while others go on.
        foundation: takes note where one finds damage in what its answers rest on.
        stall_limit: after how many seconds without a sign of life one counts as lost; None for never.
        prepare: what each of them does before it knows what it opens; it can be pickled. None for nothing.
        start: starts each of them, here or elsewhere.

    Raises:
        ModelUnavailable: a process cannot be started.
    """

    def __init__(
        self,
        names: Sequence[str],
        watcher: Watcher,
        foundation: Foundation,
        stall_limit: float | None = 1800.0,
        prepare: Callable[[], None] | None = None,
        start: StartLink = Child,
    ) -> None:
        self._watcher = watcher
        self._foundation = foundation
        self._stall_limit = stall_limit
        self._events: Events = queue.SimpleQueue()
        self._codec: Codec | None = None
        self._counted: tuple[Prompt, Sequence[int]] | None = None
        self._usual = Usual()
        self._waiting: deque[Held] = deque()
        self._num_slots = self._context_length = 0
        self._num_new = 0  # of what was submitted since something was handed out
        self._replies: deque[Reply] = deque()
        self._told: deque[tuple[Callable[[str], None], str]] = deque()
        self._reasons: list[str] = []  # why processes were lost
        self._errors: list[tuple[str, Failed]] = []  # of processes that could not open their parts
        self._failure: str | None = None
        self._is_closed = False
        self._looked = time.monotonic()
        children: list[Link] = []
        self._end = weakref.finalize(self, _kill, children)  # also where nobody closes us
        try:
            children.extend(start(name, self._events, prepare) for name in names)
        except BaseException:
            self._end()
            raise
        self._servers = [Server(child) for child in children]
        self._left = list(self._servers)  # those that were not lost

    def open(self, parts: Iterable[OpenPart]) -> None:
        """Let each process open its part, all at the same time."""
        self._looked = time.monotonic()
        for server, open_part in zip(self._servers, parts, strict=True):
            server.child.open(open_part)

    def wait(self, codec: Callable[[Opened], Codec]) -> None:
        """Wait until every process is ready or lost. Left out is who is not, or computes otherwise than the first.

        Args:
            codec: makes the codec by what a process says of its part; the encoding is ours, to count with.

        Raises:
            LlmparError: none is ready; it is what the first said of it.
            KeptDamaged: one has found weights that are not what was written.
        """
        while any(server.opened is None for server in self._left):
            self._attend(_LOOK)
            self._tell()
            self._foundation.confirm()
        if not self._left:
            raise self._unopened()
        for server, reason in differing(self._left):
            server.give_up()
            self._take_failure(server, Failed(ModelUnavailable.__name__, reason))
        self._codec = codec(next(server.opened for server in self._left if server.opened))
        for name, failed in self._errors:
            self._watcher.warn(left_out(name, failed))
        ready = [server.opened for server in self._servers if server.opened]
        self._num_slots = sum(opened.num_slots for opened in ready)
        self._context_length = min(opened.context_length for opened in ready)
        num_workers = 0
        for server in self._servers:
            server.first_worker = num_workers
            num_workers += len(server.opened.statuses) if server.opened else 0

    @property
    def process_ids(self) -> list[int]:
        """Of the processes, in order."""
        return [server.child.process_id for server in self._servers]

    @property
    def statuses(self) -> list[WorkerStatus]:
        """What each worker of each process is doing."""
        return [status for server in self._servers for status in server.statuses]

    @property
    def num_slots(self) -> int:
        """How many queries are answered at a time."""
        return self._num_slots

    @property
    def context_length(self) -> int:
        """The most tokens, of a prompt and its answer together, that each process has room for."""
        return self._context_length

    @property
    def failure(self) -> str | None:
        """Why nothing is answered any more; None while a process is left."""
        return self._failure

    def foresee(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> None:
        """Be told which prompts will be counted, and which texts measured; see `Backend.foresee`."""
        self._coded.foresee(prompts, texts)

    def measure(self, text: str) -> int:
        """Return how many tokens a text has."""
        return self._coded.measure(text)

    def exceeds(self, prompt: Prompt, most: int) -> bool:
        """Tell whether a prompt has more than `most` tokens for sure; see `Backend.exceeds`."""
        return self._coded.exceeds(prompt, most)

    def check_form(self, form: Form) -> None:
        """Raise UsageError if answers cannot be held to a form."""
        if constrain := self._coded.constrain:
            constrain(form)

    def count_tokens(self, prompt: Prompt) -> int:
        """Return how many tokens the model reads for a prompt; see `Backend.count_tokens`."""
        ids = self._coded.encode(prompt)
        self._counted = prompt, ids  # it is asked next, as a rule
        return len(ids)

    def thinking_room(self, prompt: Prompt, limit: int | None) -> int:
        """Return how many tokens the thoughts before an answer may take; see `Backend.thinking_room`."""
        return self._coded.thinking_room(prompt, limit)

    def submit(self, query: Query) -> None:
        """Take a query in.

        Raises:
            EngineFailed: nothing is answered any more.
        """
        if self._failure or self._is_closed:
            raise EngineFailed(self._failure or "the backend is closed")
        try:
            prompt_ids = self._ids(query.prompt)
        except Exception as error:  # what its model refuses fails alone
            reason = str(error) if isinstance(error, LlmparError) else f"{type(error).__name__}: {error}"
            self._replies.append(Reply(query.id, "", "error", error=reason))
            return
        outlook = self._coded.outlook(query.prompt)
        manner, expected = self._usual.of(query, outlook)
        ids = [*prompt_ids, *expected.answered] if expected.answered else prompt_ids
        asked = Asked(query.id, ids, len(expected.answered), query.max_new_tokens, manner)
        self._waiting.append(Held(asked, expected))
        self._num_new += 1
        if self._num_new >= _HANDED:
            self._hand_out()

    def collect(self, timeout: float) -> Reply | None:
        """Return the next reply, which has been confirmed; None after so many seconds without one.

        Raises:
            KeptDamaged: the weights are not what they should be, and to open the model again mends it.
            EngineFailed: nothing is answered any more, and every reply has been collected.
        """
        until = time.monotonic() + timeout
        while not self._replies:
            self._foundation.confirm()
            if self._failure:
                raise EngineFailed(self._failure)
            left = until - time.monotonic()
            self._attend(max(0.0, min(_LOOK, left)))
            self._tell()
            if left <= 0 and not self._replies:
                self._foundation.confirm()
                return None
        return self._replies.popleft()

    def confirm(self) -> None:
        """Tell of damage, and wait for nothing: a reply comes when its process has confirmed it."""
        self._foundation.confirm()

    def is_confirmed(self) -> bool:
        """Tell whether no damage was found."""
        return self._foundation.damage is None

    def drain(self) -> list[Reply]:
        """Return the replies that are there."""
        self._attend(0.0)
        replies = list(self._replies)
        self._replies.clear()
        return replies

    def close(self, timeout: float | None = None) -> None:
        """End the processes; what they have finished may be collected, and what they have not comes as errors.

        A step in progress is given up. To send what is finished they have half a second at least, and 2 at most.
        """
        if not self._is_closed:
            self._is_closed = True
            for server in self._left:
                server.child.send(End())
            longest = _LONGEST_FLUSH if timeout is None else timeout
            until = time.monotonic() + max(_FLUSH, min(longest, _LONGEST_FLUSH))
            while self._left and (left := until - time.monotonic()) > 0:
                self._attend(left)
            for server in list(self._left):
                server.child.kill()
            for server in self._servers:
                server.child.end()
            self._attend(0.0)
            self._refuse_all("the backend was closed")
            self._end()
        self._tell()

    @property
    def _coded(self) -> Codec:
        assert self._codec, "wait first"
        return self._codec

    def _ids(self, prompt: Prompt) -> Sequence[int]:
        counted, self._counted = self._counted, None
        return counted[1] if counted and counted[0] is prompt else self._coded.encode(prompt)

    def _hand_out(self) -> None:
        """Give each process as much as it may hold, and all of them alike: to the one that has least, for its size."""
        self._num_new = 0
        while self._waiting:
            able = [server for server in self._left if len(server.held) < _WINDOW * server.num_slots]
            if not able:
                break
            least = min(able, key=lambda server: server.cost / server.num_slots) if len(able) > 1 else able[0]
            least.take(self._waiting.popleft())
        for server in self._left:
            server.send()

    def _attend(self, timeout: float) -> None:
        """Take in what the processes tell, having waited for it up to `timeout` seconds, and look after them."""
        if timeout and not self._is_closed:
            self._hand_out()
        with contextlib.suppress(queue.Empty):
            server, report = self._next(timeout)
            while True:
                self._take_in(server, report)
                server, report = self._next(0.0)
        self._look()
        if not self._is_closed:
            self._hand_out()

    def _next(self, timeout: float) -> tuple[Server, Report | None]:
        child, report = self._events.get(timeout=timeout) if timeout else self._events.get_nowait()
        return next(server for server in self._servers if server.child is child), report

    def _take_in(self, server: Server, report: Report | None) -> None:
        server.silence = 0.0
        if server not in self._left:
            return  # what it held, others answer
        if isinstance(report, Answered):
            self._take_answers(server, report)
        elif isinstance(report, Said):
            name = f"{server.child.name}: " if report.kind == "warn" else ""
            self._told.append((report.teller(self._watcher), f"{name}{report.message}"))
        elif isinstance(report, Opened):
            server.opened = report
            server.show(report.statuses)
        elif isinstance(report, Failed):
            self._take_failure(server, report)
        elif self._is_closed:
            self._left.remove(server)
        else:
            self._lose(server, server.child.end())

    def _take_answers(self, server: Server, report: Answered) -> None:
        if report.statuses:
            server.show(report.statuses)
        for number in report.received:
            if held := server.held.get(number):
                held.is_received = True
        for number in report.begun:
            if held := server.held.get(number):
                held.is_begun = True
        taken = [
            (completion, held.expected)
            for completion in report.ended.completions()
            if (held := server.pop(completion.id))
        ]
        if not taken:  # a sign of life, perhaps of one that has not opened its part yet
            return
        for reply in replies_of(taken, self._coded):
            worker = None if reply.worker is None else server.first_worker + reply.worker
            self._replies.append(replace(reply, worker=worker) if server.first_worker else reply)

    def _take_failure(self, server: Server, failed: Failed) -> None:
        if failed.kind == KeptDamaged.__name__:
            self._foundation.note_damage(KeptDamaged(failed.message))
        if server.opened or not failed.kind:
            self._lose(server, f"failed: {failed.message}")
        else:
            self._left.remove(server)
            self._errors.append((server.child.name, failed))

    def _look(self) -> None:
        """Give up each process that has shown no sign of life for too long."""
        now = time.monotonic()
        # Only while somebody looks: if we were stopped for an hour, what was sent meanwhile comes in a moment.
        passed, self._looked = min(now - self._looked, 2 * _LOOK), now
        for server in list(self._left):
            server.silence += passed
            if self._stall_limit is not None and server.silence > self._stall_limit:
                self._lose(server, f"has given no sign of life for {self._stall_limit:g} s")
                server.child.kill()

    def _lose(self, server: Server, what: str) -> None:
        """Let the others answer what a process held; without others, fail."""
        self._left.remove(server)
        reason = f"{server.child.name} {what}"
        self._reasons.append(reason)
        back, deadly = server.lose()
        self._waiting.extendleft(reversed(back))
        died = f"{MOST_LOSSES} processes were lost over it, at last: {reason}"
        self._replies.extend(one.refusal(died, deadly=True) for one in deadly)
        if not self._left:
            self._failure = "; ".join(self._reasons)
            self._refuse_all(self._failure)
        else:
            pieces = "its piece goes" if len(back) == 1 else f"its {len(back):,} pieces go"
            told = f"{reason}; " + (f"{pieces} to the others" if back else "the others go on")
            self._told.append((self._watcher.warn, told))

    def _refuse_all(self, reason: str) -> None:
        held = [*self._waiting, *(one for server in self._servers for one in server.empty())]
        self._waiting.clear()
        self._replies.extend(one.refusal(reason) for one in held)

    def _unopened(self) -> LlmparError:
        """Return why no process is ready."""
        if self._errors:
            _, failed = self._errors[0]
            return KINDS[failed.kind](failed.message)
        return EngineFailed(self._failure or "")

    def _tell(self) -> None:
        while self._told:
            tell, message = self._told.popleft()
            tell(message)


def _kill(children: list[Link]) -> None:
    for end in (*(child.kill for child in children), *(child.end for child in children)):
        end()
