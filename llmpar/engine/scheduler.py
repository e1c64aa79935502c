"""Which request a worker takes next: waiting → running, longest first within a bounded window. Knows no torch."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import islice, takewhile

from llmpar.engine.request import Request


class Scheduler:
    """The queue between those who ask and N workers.

    Args:
        num_workers: among whom what waits is shared evenly, so that none idles beside a full one.
        window: how many of the oldest requests compete. Long ones go first, as they would end last; the bound keeps
            the first requests of a stream among the first to be answered. It starts small and doubles with every
            admission, so that the first answer does not wait for a batch of others to be read.
    """

    def __init__(self, num_workers: int, window: int) -> None:
        self._num_workers = num_workers
        self._window = window
        self._opened = num_workers
        self._waiting: deque[Request] = deque()
        self._num_running = 0
        self._closed = False
        self._changed = threading.Condition()

    def submit(self, request: Request) -> bool:
        """Queue a request; False when the queue was closed."""
        with self._changed:
            if not self._closed:
                self._waiting.append(request)
                self._changed.notify()
            return not self._closed

    def admit(self, room: int, running: int, reserve: Callable[[Request], bool]) -> list[Request] | None:
        """Take up to `room` requests for a worker that has `running` of them; None when nothing will come any more.

        `reserve` sets memory aside for a request, or says that there is not enough now: then it waits.

        Waits for a request if the worker has none. The requests come longest first, so that those computed together
        are of similar length.
        """
        with self._changed:
            while not self._waiting and not self._closed and not running:
                self._changed.wait()
            if not self._waiting:
                return None if self._closed and not running else []
            share = -(-(len(self._waiting) + self._num_running) // self._num_workers) - running
            self._opened = min(2 * self._opened, max(self._window, 2 * self._num_workers))
            count = max(0 if running else 1, min(room, share, self._opened // self._num_workers))
            taken = self._take(count, reserve)
            self._num_running += len(taken)
            return taken

    def put_back(self, requests: list[Request]) -> bool:
        """Let requests that were admitted wait again, before all others; False when the queue was closed."""
        with self._changed:
            if not self._closed:
                self._num_running -= len(requests)
                self._waiting.extendleft(reversed(requests))
                self._changed.notify_all()
            return not self._closed

    def retire(self, count: int) -> None:
        """Note that `count` running requests have ended."""
        with self._changed:
            self._num_running -= count

    def close(self) -> list[Request]:
        """Take no more requests, wake every worker, and return those that still waited."""
        with self._changed:
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            return left

    def _take(self, count: int, reserve: Callable[[Request], bool]) -> list[Request]:
        window = list(islice(self._waiting, min(self._window, self._opened)))
        order = sorted(range(len(window)), key=lambda i: -_cost(window[i]))
        # Up to the first that does not fit: if smaller ones went before it, it might wait for ever.
        chosen = list(takewhile(lambda i: reserve(window[i]), order[:count]))
        for _ in window:  # not earlier: `reserve` may raise
            self._waiting.popleft()
        self._waiting.extendleft(window[i] for i in reversed(range(len(window))) if i not in set(chosen))
        return [window[i] for i in chosen]


def _cost(request: Request) -> int:
    return len(request.prompt_ids)
