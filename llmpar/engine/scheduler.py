"""Which request a worker takes next, and who holds which: waiting → running, longest first within a bounded window.

Knows no torch.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice, takewhile

from llmpar.engine.request import Request

MOST_DEATHS = 2
"""With how many workers that died or hung a request may have been, before it is taken for the reason."""
# Requests that stay with one worker: together they read the weights once for each token, and idle workers help with the
# products. The more workers there are, the less of the memory each has, and the more rows it must have to be worth it.
_FEW, _FEW_PER_WORKER = 8, 2
_PATIENCE = 0.01  # seconds that a worker waits who found nobody to help


class Scheduler:
    """The queue between those who ask and N workers.

    Args:
        num_workers: among whom what waits is shared evenly, so that none idles beside a full one.
        window: how many of the oldest requests compete. Long ones go first, as they would end last. The bound, and half
            of the places for the oldest while many wait, keep the first requests of a stream among the first to be
            answered. It doubles with every admission, so that the first answer does not wait for a batch of others to
            be read.
        opening: half of what it starts with; None for one for each worker.
        similar: whether a worker takes requests of neighbouring lengths, as padding wants it: every other time while
            many wait, those of the oldest. Else it leaves every other worker one between two of its own: whoever took
            the longest of all would be the last to end.
    """

    def __init__(self, num_workers: int, window: int, opening: int | None = None, *, similar: bool = False) -> None:
        self._window = window
        self._similar = similar
        self._opened = opening or num_workers
        self._waiting: deque[Request] = deque()
        # By worker, and by identity: prompts are compared token by token, and numbers are the caller's.
        self._held: dict[int, dict[int, Request]] = {worker: {} for worker in range(num_workers)}
        self._deaths: Counter[int] = Counter()  # by a request's identity, of the workers that had it
        self._closed = False
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._num_waiting = 0  # workers
        self._favours_oldest = False  # in turn, where what is taken cannot be halved

    def submit(self, request: Request) -> bool:
        """Queue a request; False when the queue was closed."""
        with self._lock:
            if not self._closed:
                self._waiting.append(request)
                if self._num_waiting:
                    self._changed.notify()
            return not self._closed

    def admit(
        self, worker: int, room: int, reserve: Callable[[Request], bool], help_others: Callable[[], bool] | None = None
    ) -> list[Request] | None:
        """Let a worker hold up to `room` requests more; None when nothing will come any more.

        `reserve` sets memory aside for a request, or says that there is not enough now: then it waits.

        Waits for a request if the worker has none, or leaves few of them to those that have some. While others have
        some, it is let `help_others` for a moment at a time, which returns whether there was anything to do. The
        requests come longest first, so that those computed together are of similar length.
        """
        with self._changed:
            may_help = help_others is not None
            while not self._closed and worker in self._held and not self._held[worker]:
                if self._waiting and not (may_help and self._num_needed() <= self._num_busy()):
                    break
                self._wait(help_others)
            if worker not in self._held:
                return None
            running = len(self._held[worker])
            if not self._waiting:
                return None if self._closed and not running else []
            num_workers = self._num_needed() if may_help else len(self._held)
            share = -(-self._num_requests() // num_workers) - running
            self._opened = min(2 * self._opened, max(self._window, 2 * num_workers))
            count = max(0 if running else 1, min(room, share, self._opened // num_workers))
            taken = self._take(count, reserve)
            self._held[worker].update((id(request), request) for request in taken)
            if not running:
                self._changed.notify_all()  # who waits may help
            return taken

    def _num_requests(self) -> int:
        return len(self._waiting) + sum(map(len, self._held.values()))

    def _num_busy(self) -> int:
        return sum(map(bool, self._held.values()))

    def _num_needed(self) -> int:
        """Return how many workers should share all requests, where the others can help them."""
        few = max(_FEW, _FEW_PER_WORKER * len(self._held))
        return max(1, min(len(self._held), -(-self._num_requests() // few)))

    def _wait(self, help_others: Callable[[], bool] | None) -> None:
        """Wait for a change, or help meanwhile; called with the lock, which others have while one does either."""
        if help_others is None or not any(self._held.values()):
            self._num_waiting += 1
            try:
                self._changed.wait()
            finally:
                self._num_waiting -= 1
            return
        self._changed.release()
        try:
            helped = help_others()
        finally:
            self._changed.acquire()
        if not helped:
            self._changed.wait(_PATIENCE)  # so short that nobody need wake it

    def put_back(self, worker: int, requests: list[Request]) -> bool:
        """Let requests that a worker holds wait again, before all others; False when there is no queue for them."""
        with self._changed:
            if self._closed or worker not in self._held:
                return False
            for request in requests:
                del self._held[worker][id(request)]
            self._waiting.extendleft(reversed(requests))
            self._changed.notify_all()
            return True

    def retire(self, worker: int, request: Request) -> bool:
        """Note that a worker has ended a request; False if it is no longer that worker's to end."""
        with self._lock:
            held = self._held.get(worker)
            if held is None or held.pop(id(request), None) is None:
                return False
            if self._deaths:
                del self._deaths[id(request)]
            return True

    def give_up(self, worker: int) -> tuple[int, list[Request]]:
        """Take from a worker all that it holds, for the others, who begin anew; it gets and ends nothing any more.

        Returns how many requests wait again, before all others, and those that do not: all where the queue was closed,
        else such as `MOST_DEATHS` workers were given up with.
        """
        with self._changed:
            held = self._held.pop(worker)
            self._deaths.update(held.keys())
            left = [request for key, request in held.items() if self._closed or self._deaths[key] >= MOST_DEATHS]
            for request in left:
                del held[id(request)], self._deaths[id(request)]
            self._waiting.extendleft(reversed(held.values()))
            self._changed.notify_all()
            return len(held), left

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
        # A short one would wait for all longer ones behind it, as long as such come.
        has_many = len(window) > 2 * count * len(self._held)
        self._favours_oldest ^= has_many
        if self._similar and has_many and self._favours_oldest:
            order = order[min(order.index(0), len(order) - count) :]  # the oldest, and those that are about as long
        elif count and not self._similar:
            order = order[:: max(1, min(len(self._held), len(order) // count))]
            if has_many:
                oldest = range(
                    (count + self._favours_oldest) // 2
                )  # of an odd number, each have the larger half in turn
                longest = [i for i in order if i not in oldest][: count - len(oldest)]
                order = sorted([*oldest, *longest], key=lambda i: -_cost(window[i]))
        # Up to the first that does not fit: if smaller ones went before it, it might wait for ever.
        chosen = list(takewhile(lambda i: reserve(window[i]), order[:count]))
        if chosen:
            taken = set(chosen)
            for _ in window:  # not earlier: `reserve` may raise
                self._waiting.popleft()
            self._waiting.extendleft(window[i] for i in reversed(range(len(window))) if i not in taken)
        return [window[i] for i in chosen]


def _cost(request: Request) -> int:
    return len(request.prompt_ids) + request.params.max_new_tokens
