"""One server as whoever asks it sees it: how much it has to do, whether it is there, and when it wants to be asked."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

from llmpar.answering.endpoint.client import Client
from llmpar.answering.endpoint.messages import Manners
from llmpar.answering.endpoint.pace import Pace
from llmpar.engine.worker import WorkerStatus

LONGEST_WAIT = 3600.0  # seconds that a server may ask to wait; more ends the run
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0  # seconds
_STUMBLES = 4  # failures one after another, from which on a server is given a rest


def backoff(number: int) -> float:
    """Return how many seconds to wait after so many failures one after another, from 1: longer each time, by chance."""
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(number - 1, 16))
    return longest * random.uniform(0.5, 1.0)


@dataclass(eq=False, slots=True)
class Server:
    """A server in use.

    Args:
        index: its number, from 0.
        client: talks to it.
        model: what it calls the model.
        manners: what it knows.
        pace: how many requests it should have at a time.
    """

    index: int
    client: Client
    model: str
    manners: Manners
    pace: Pace
    num_running: int = 0
    num_done: int = 0
    num_tokens: int = 0
    num_turned_away: int = 0
    num_failures: int = 0
    rests_until: float = 0.0
    is_away: bool = False
    _in_a_row: int = field(default=0, repr=False)
    _counted_until: float = field(default=0.0, repr=False)

    @property
    def url(self) -> str:
        """Where it is."""
        return self.client.address.url

    @property
    def load(self) -> float:
        """How much of what it should have at a time it has."""
        return self.num_running / self.pace.level

    @property
    def status(self) -> WorkerStatus:
        """What it is doing, for whoever watches."""
        phase: Literal["ended", "decode", "idle"] = "decode" if self.num_running else "idle"
        return WorkerStatus("ended" if self.is_away else phase, self.num_running, self.num_done, self.num_tokens)

    @property
    def is_doubtful(self) -> bool:
        """Whether it is away, or fails again and again."""
        return self.is_away or self._in_a_row >= _STUMBLES

    def takes(self, now: float) -> bool:
        """Tell whether it may be asked now; a doubtful one is asked for one thing alone, to see if it answers again."""
        if now < self.rests_until:
            return False
        return self.num_running < (1 if self.is_doubtful else self.pace.level)

    def answered(self, num_tokens: int) -> None:
        """Take note that it answered."""
        self.is_away, self._in_a_row = False, 0
        self.num_done += 1
        self.num_tokens += num_tokens

    def turned_away(self, now: float, wait: float | None) -> float:
        """Take note that it turned a request away, and return how many seconds it is left alone."""
        self.num_turned_away += 1
        self.pace.turned_away(now, self.num_running - 1)  # this one is still counted
        return self._rest(now, wait)

    def lost(self, now: float) -> float:
        """Take note that it cannot be reached, and return how many seconds it is left alone."""
        self.is_away = True
        return self._rest(now, None)

    def stumbled(self, now: float, wait: float | None) -> float:
        """Take note that it failed at a request, and return after how many seconds that should be asked again."""
        self.num_failures += 1
        pause = self._pause(now, wait)
        if self._in_a_row >= _STUMBLES:
            self.rests_until = max(self.rests_until, now + pause)
        return pause

    def _rest(self, now: float, wait: float | None) -> float:
        pause = self._pause(now, wait)
        self.rests_until = max(self.rests_until, now + pause)
        return self.rests_until - now

    def _pause(self, now: float, wait: float | None) -> float:
        """Count a failure, and return the pause that follows it; many requests that fail together count as one."""
        if now >= self._counted_until:
            self._in_a_row += 1
        pause = backoff(self._in_a_row) if wait is None else min(wait, LONGEST_WAIT + 1)
        self._counted_until = max(self._counted_until, now + pause)
        return pause
