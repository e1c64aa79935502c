"""Servers as a backend: queries in, replies out, on an event loop of its own. Knows no question, task or store."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace

from llmpar.answering.backend import Query, Reply, Watcher
from llmpar.answering.endpoint.budget import Budget
from llmpar.answering.endpoint.failures import Failure, Kind, RequestFailed
from llmpar.answering.endpoint.logprobs import Told
from llmpar.answering.endpoint.loop import Loop
from llmpar.answering.endpoint.messages import Answered, Manners, answer_in, body_of, path_of
from llmpar.answering.endpoint.server import LONGEST_WAIT, Server
from llmpar.answering.endpoint.tokens import estimate, estimate_prompt, fewest, surely_exceeds
from llmpar.answering.fitting import LEAST_ROOM
from llmpar.answering.scores import mean_and_least
from llmpar.errors import EngineFailed, TokensSpent
from llmpar.reporting.report import counted
from llmpar.tasks.question import Prompt
from llmpar.tasks.task import Form

PATIENCE = 600.0  # seconds for which nobody answers anything, after which nobody will
_MANY = 10  # times that a server may ask to wait as long as it does, with no answer between
_LONG = 1000  # tokens from which on it is looked at whether a server has read all of a text


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query on its way: the tokens that its answer may have, and those that it may take in all."""

    query: Query
    limit: int
    most: int


class EndpointBackend:
    """Answers queries by servers, each of which has as many at a time as it should. For one thread that asks.

    Args:
        servers: who is asked.
        context_length: tokens that there is room for.
        budget: tokens that may be taken of them.
        watcher: is told what goes on.
        patience: seconds for which nobody answers anything, after which nobody will.
    """

    def __init__(
        self,
        servers: Callable[[], Sequence[Server]],
        context_length: int,
        budget: Budget,
        watcher: Watcher,
        patience: float = PATIENCE,
    ) -> None:
        self._context_length = context_length
        self._budget = budget
        self._watcher = watcher
        self._patience = patience
        self._replies: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()  # None wakes whoever waits
        self._notes: queue.SimpleQueue[tuple[Callable[[str], None], str]] = queue.SimpleQueue()
        self._waiting: deque[_Asked] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._num_open = 0  # queries without a reply, as the thread that asks counts them
        self._failed: Exception | None = None
        self._is_closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._told: set[str] = set()
        self._loop = Loop()
        self._thread = threading.Thread(target=self._loop.run_until_stopped, name="llmpar-endpoint", daemon=True)
        self._thread.start()
        self._servers = asyncio.run_coroutine_threadsafe(_made(servers), self._loop).result()
        self._last_answer = time.monotonic()
        watcher.watch(lambda: [server.status for server in self._servers])

    @property
    def num_slots(self) -> int:
        """How many queries are answered at a time, just now."""
        return sum(server.pace.level for server in self._servers)

    @property
    def context_length(self) -> int:
        """The most tokens, of a prompt and its answer together, that there is room for."""
        return self._context_length

    @property
    def failure(self) -> str | None:
        """Why nothing can be answered any more; None while something can."""
        return str(self._failed) if self._failed else None

    def foresee(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> None:
        """Do nothing: an estimate takes no time."""

    def measure(self, text: str) -> int:
        """Return how many tokens a text has, about."""
        return estimate(text)

    def exceeds(self, prompt: Prompt, most: int) -> bool:
        """Tell whether a prompt has more than `most` tokens for sure; see `Backend.exceeds`."""
        return surely_exceeds(prompt, most)

    def check_form(self, form: Form) -> None:
        """Do nothing: answers are looked at when they come."""

    def count_tokens(self, prompt: Prompt) -> int:
        """Return how many tokens a model reads for a prompt, about."""
        return estimate_prompt(prompt)

    def thinking_room(self, prompt: Prompt, limit: int | None) -> int:  # noqa: ARG002 (whatever is asked)
        """Return how many tokens a request has for thoughts: what the user gives; see `Backend.thinking_room`."""
        return limit or 0

    def submit(self, query: Query) -> None:
        """Take a query in.

        Raises:
            EngineFailed: nothing is answered any more.
        """
        if self._failed:
            raise self._failed
        self._num_open += 1
        limit = query.max_new_tokens + int.from_bytes(query.continues, "little")
        asked = _Asked(query, limit, estimate_prompt(query.prompt) + limit)
        self._loop.call_soon_threadsafe(self._take, asked)

    def collect(self, timeout: float) -> Reply | None:
        """Return the next reply, None if none comes in time; see `Backend.collect`."""
        reply = self._next(timeout)
        while not self._notes.empty():
            tell, what = self._notes.get()
            tell(what)
        if reply is None and self._failed and not self._is_closing:
            raise self._failed
        return reply

    def confirm(self) -> None:
        """Do nothing: what a server computes with is its own affair."""

    def is_confirmed(self) -> bool:
        """Return true."""
        return True

    def drain(self) -> list[Reply]:
        """Return the replies that are there."""
        found = []
        while (reply := self._next(0)) is not None:
            found.append(reply)
        return found

    def close(self, timeout: float | None = None) -> None:
        """Give up what is not finished, and wait for the end of it; see `Backend.close`."""
        if self._is_closing:
            return
        self._is_closing = True
        self._say_numbers()
        ended = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        ended.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))
        self._thread.join(timeout)

    def _next(self, timeout: float) -> Reply | None:
        if not self._num_open:
            return None
        try:
            reply = self._replies.get(timeout=timeout) if timeout else self._replies.get_nowait()
            while reply is None:  # somebody was to be woken, and there may be replies behind that
                reply = self._replies.get_nowait()
        except queue.Empty:
            return None
        self._num_open -= 1
        return reply

    def _say_numbers(self) -> None:
        for server in self._servers:
            level = counted(server.pace.level, "request")
            told = f"{counted(server.num_done, 'answer')} by {server.url}, {level} at a time at last"
            told += f", {server.num_turned_away:,} turned away" if server.num_turned_away else ""
            told += f", {server.num_failures:,} failed" if server.num_failures else ""
            self._watcher.remark(told)

    # What follows runs on the loop's thread.

    def _take(self, asked: _Asked) -> None:
        self._waiting.append(asked)
        self._hand_out()

    def _hand_out(self) -> None:
        """Ask as much as servers should have, each time that something has changed."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._waiting and not self._failed and not self._is_closing:
            now = time.monotonic()
            free = [server for server in self._servers if server.takes(now)]
            if not free:
                self._look_again(now)
                return
            asked = self._waiting[0]
            if not self._budget.hold(asked.most):
                if self._budget.is_idle:
                    self._fail(TokensSpent(self._budget.total or 0, self._budget.spent))
                return  # what is on its way may take less than it could
            self._waiting.popleft()
            server = min(free, key=lambda one: (one.is_doubtful, one.load))
            server.num_running += 1
            self._start(self._ask(server, asked))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """End the run over what nobody foresaw: whoever asks would wait for that reply for ever."""
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._fail(error)

    def _look_again(self, now: float) -> None:
        """See to it that the next query is handed out when a server has rested."""
        rested = [server.rests_until for server in self._servers if server.rests_until > now]
        if rested:
            self._timer = self._loop.call_later(min(rested) - now, self._hand_out)

    async def _ask(self, server: Server, asked: _Asked) -> None:
        began, taken, manners = time.monotonic(), 0, server.manners
        late: Reply | None = None
        pause = 0.0
        try:
            answered = await self._answer(server, asked)
            taken = _taken(asked, answered)
            # Before anything else is found out: what ends the run comes behind it.
            self._replies.put(self._answered(server, asked, answered, time.monotonic() - began))
        except RequestFailed as failed:
            # Of one that broke off nobody knows what it took.
            taken = asked.most if failed.failure.kind is Kind.BROKEN else 0
            late, pause = self._follow(server, asked, failed.failure, time.monotonic() - began, manners)
        finally:
            server.num_running -= 1
            self._budget.settle(asked.most, taken)
            self._hand_out()
        if late:
            await asyncio.sleep(pause)  # whoever asks again does so at once
            self._replies.put(late)

    async def _answer(self, server: Server, asked: _Asked) -> Answered:
        query = asked.query
        body = body_of(query, server.model, server.manners, asked.limit)
        answered = answer_in(await server.client.ask(path_of(query), body, query.timeout), query)
        read = answered.num_prompt_tokens
        if read and (least := fewest(query.prompt.text)) > max(read, _LONG):
            cut = f"read {read:,} tokens of a prompt that has {least:,} at least: it cuts what is too long"
            raise RequestFailed(Failure(Kind.OVERFLOW, cut))
        return answered

    def _answered(self, server: Server, asked: _Asked, answered: Answered, seconds: float) -> Reply:
        now = self._last_answer = time.monotonic()
        was_cut = answered.finish_reason == "length"
        num_output_tokens = answered.num_output_tokens
        if num_output_tokens is None:
            num_output_tokens = asked.limit if was_cut else estimate(answered.text)
        if server.is_away:
            self._note(self._watcher.warn, f"{server.url} is there again")
        server.answered(num_output_tokens)
        server.pace.ended(now, seconds, is_full=bool(self._waiting))
        mean, least = mean_and_least([float(str(token["logprob"])) for token in answered.told])
        return Reply(
            asked.query.id,
            answered.text,
            answered.finish_reason,
            num_output_tokens,
            worker=server.index,
            seconds=seconds,
            # It cannot go on where it was cut, but answer all of it again with more room.
            continuation=asked.limit.to_bytes(8, "little") if was_cut else b"",
            num_prompt_tokens=answered.num_prompt_tokens,
            thoughts=answered.thoughts,
            num_thinking_tokens=answered.num_thinking_tokens,
            is_unclosed=was_cut and not answered.text and bool(answered.thoughts),
            mean_logprob=mean,
            min_logprob=least,
            tokens=_tokens(asked.query, answered),
        )

    def _follow(
        self, server: Server, asked: _Asked, failure: Failure, seconds: float, manners: Manners
    ) -> tuple[Reply | None, float]:
        """Do what follows a failure, and return the reply, None for none yet, and how many seconds that should wait.

        `manners` are those that the server was asked with.
        """
        now, kind, told = time.monotonic(), failure.kind, f"{server.url} {failure.message}"
        error = Reply(asked.query.id, "", "error", error=told, seconds=seconds)
        if kind is Kind.FATAL:
            self._fail(EngineFailed(told))
        elif kind in (Kind.AWAY, Kind.UNREACHABLE):
            self._wait_for(server, failure, now, told)
            self._waiting.appendleft(asked)
        elif kind is Kind.PARAMETER:
            fewer = manners.without(failure.parameter)
            if fewer is None:  # it was not sent
                return replace(error, deadly=True), 0.0
            if server.manners == manners:  # else another request on its way has shown the same
                server.manners = fewer
                without = (
                    "with max_completion_tokens"
                    if failure.parameter == "max_tokens"
                    else f"without {failure.parameter}"
                )
                # Of log-probabilities nobody misses anything who has not asked for them.
                tell = self._watcher.remark if "logprobs" in failure.parameter else self._watcher.warn
                self._note_once(told, tell, f"{told}; it is asked {without}")
            self._waiting.appendleft(asked)
        elif kind is Kind.OVERFLOW:
            room = failure.room
            if room is None or room < min(asked.limit, LEAST_ROOM) or room >= asked.limit:
                return replace(error, overflows=True), 0.0
            self._waiting.appendleft(_Asked(asked.query, room, asked.most))
        elif kind is Kind.REFUSED:
            return replace(error, deadly=True), 0.0
        else:
            return replace(error, worker=server.index), server.stumbled(now, failure.wait)
        return None, 0.0

    def _wait_for(self, server: Server, failure: Failure, now: float, told: str) -> None:
        """Leave a server alone for as long as it wants, or until it may be there again; for ever if that takes long."""
        if failure.kind is Kind.AWAY:
            pause = server.turned_away(now, failure.wait)
            self._note_once(server.url, self._watcher.remark, f"{told}; it is left alone for {pause:.1f} s")
        else:
            if not server.is_away:
                others = "the others go on, and " if len(self._servers) > 1 else ""
                self._note(self._watcher.warn, f"{told}; {others}it is tried again")
            pause = server.lost(now)
        silence = now - self._last_answer
        is_hopeless = silence > max(self._patience, _MANY * (failure.wait or 0.0)) or pause > LONGEST_WAIT
        if is_hopeless and all(one.rests_until > now for one in self._servers):
            asked = (
                f"it asks to wait {failure.wait:,.0f} s"
                if failure.wait
                else f"nobody has answered for {silence:,.0f} s"
            )
            self._fail(EngineFailed(f"{told}; {asked}"))

    def _note(self, tell: Callable[[str], None], what: str) -> None:
        """Let the thread that asks tell the watcher."""
        self._notes.put((tell, what))
        self._replies.put(None)

    def _note_once(self, about: str, tell: Callable[[str], None], what: str) -> None:
        if about not in self._told:
            self._told.add(about)
            self._note(tell, what)

    def _fail(self, failure: Exception) -> None:
        self._failed = self._failed or failure
        self._waiting.clear()
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        self._replies.put(None)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            await server.client.close()


async def _made(servers: Callable[[], Sequence[Server]]) -> Sequence[Server]:
    """Return servers whose clients belong to this loop."""
    return servers()


def _taken(asked: _Asked, answered: Answered) -> int:
    """Return how many tokens a request took, as the server counts them, or else at most."""
    if answered.num_prompt_tokens is None or answered.num_output_tokens is None:
        return asked.most
    return answered.num_prompt_tokens + answered.num_output_tokens


def _tokens(query: Query, answered: Answered) -> str:
    """Return what a server tells of each token, as JSON, if that was asked for; "" if it does not tell."""
    if query.num_others is None or not answered.told:
        return ""
    told = [{**token, "top_logprobs": _first(token, query.num_others)} for token in answered.told]
    return json.dumps(told, ensure_ascii=False)


def _first(token: Told, count: int) -> list[object]:
    others = token.get("top_logprobs")
    return others[:count] if isinstance(others, list) else []
