"""How many requests a server should have at a time: a number that is found by trying. Knows no clock and no network.

The level doubles while twice as many requests bring clearly more answers a second. From then on it moves by a tenth:
up if that brings more, down if that costs nothing. A server that turns requests away has too many, and so has one
whose answers take longer than before without being more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_FIRST, _MOST = 4, 1024
_ROUNDS = 2  # answers of each place in a window: fewer are too few to count, more take too long
_WORTH = 0.5  # of the share by which the level rises, that the answers must rise, too
_LOSS = 0.25  # of the share by which it falls, that the answers may fall, too
_STEP = 0.1  # by which the level is tried higher and lower
_WORSE = 1.2  # times as slow, with fewer answers: somebody else uses the server, or it has become a slower one
_SHORTEST = 1e-6  # seconds, so that nothing is divided by none
_LONGEST_REST = 16  # windows between trials, when the last ones brought nothing


@dataclass(frozen=True, slots=True)
class Window:
    """What was found at one level: how many seconds an answer took on average."""

    level: int
    seconds: float

    @property
    def rate(self) -> float:
        """Answers a second, by Little's law, whose error is less than that of a count: answers come in bursts."""
        return self.level / self.seconds


class Pace:
    """How many requests a server should have at a time.

    Args:
        fixed: the user's number, which stays; None to find one.
        most: that there may be.
    """

    def __init__(self, fixed: int | None = None, most: int = _MOST) -> None:
        self.level = fixed or min(_FIRST, most)
        self._is_fixed = fixed is not None
        self._most = most
        self._is_rising = True
        self._base: Window | None = None  # what the level is compared with
        self._shortest = math.inf  # seconds that answers took at any level
        self._trial = 0  # 1 while a higher level is tried, -1 while a lower one is
        self._next_trial = 1
        self._rest = 0  # windows until the next trial
        self._num_vain = 0  # trials that brought nothing, since one did
        self._begun = 0.0  # when the level was set
        self._count, self._seconds = 0, 0.0

    def ended(self, now: float, seconds: float, *, is_full: bool) -> None:
        """Count an answer.

        Args:
            now: the time in seconds, by any clock.
            seconds: that the answer took.
            is_full: whether another request takes its place; else the server has fewer than it could.
        """
        if self._is_fixed:
            return
        if not is_full:
            self._begin(now)
        elif now - seconds < self._begun:
            pass  # it was asked at another level
        else:
            self._count += 1
            if self._count > self.level:  # those of the first round meet what was left by another level
                self._seconds += max(seconds, _SHORTEST)
            if self._count == (1 + _ROUNDS) * self.level:
                self._judge(Window(self.level, self._seconds / (_ROUNDS * self.level)))
                self._begin(now)

    def turned_away(self, now: float, num_others: int) -> None:
        """Take note that a request was turned away while the server had so many others."""
        if self._is_fixed:
            return
        self.level = max(1, min(self.level, num_others))
        self._is_rising, self._base, self._trial = False, None, 0
        self._num_vain += 1
        self._rest = min(_LONGEST_REST, 2**self._num_vain)
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._begun, self._count, self._seconds = now, 0, 0.0

    def _judge(self, window: Window) -> None:
        """Choose the next level by what was counted at this one."""
        base = self._base
        self._shortest = min(self._shortest, window.seconds)
        if base is None:
            self._base = window
            if self._is_rising:
                self._raise()
        elif self._is_rising:
            self._rise(base, window)
        elif self._trial:
            self._try(base, window)
        else:
            self._keep(base, window)

    def _raise(self) -> None:
        self.level = min(2 * self.level, self._most)
        self._is_rising = self._base is None or self.level > self._base.level

    def _rise(self, base: Window, window: Window) -> None:
        gain = window.rate / base.rate - 1
        if gain >= _WORTH * (window.level / base.level - 1):
            self._base = window
            self._raise()
            return
        self._is_rising = False
        self.level = max(1, round(base.level * max(1.0, 1 + gain)))
        self._base = Window(self.level, self.level / max(base.rate, window.rate))
        # If the others only wait, so many are enough as are answered in the shortest time that an answer took.
        if (enough := max(1, round(self._base.rate * self._shortest))) < self.level:
            self.level, self._trial = enough, -1

    def _keep(self, base: Window, window: Window) -> None:
        """Look whether all is as it was, and go on to the next trial."""
        self._base = window
        if window.rate * _WORSE < base.rate and window.seconds > _WORSE * base.seconds:
            self.level = max(1, round(window.level * base.seconds / window.seconds))
            self._base = None
        elif self._rest > 0:
            self._rest -= 1
        else:
            self._trial = self._next_trial
            step = max(1, round(_STEP * self.level))
            self.level = max(1, min(self.level + self._trial * step, self._most))
            if self.level == window.level:  # there is nothing beyond
                self._turn_around()

    def _try(self, base: Window, window: Window) -> None:
        """Keep a level that was tried if it is better, else go back."""
        change, gain = window.level / base.level - 1, window.rate / base.rate - 1
        is_better = gain >= _WORTH * change if self._trial > 0 else gain >= _LOSS * change
        self._trial = 0
        if is_better:
            self._base, self._num_vain, self._rest = window, 0, 0
        else:
            self.level = base.level
            self._base = None
            self._turn_around()

    def _turn_around(self) -> None:
        self._trial, self._next_trial = 0, -self._next_trial
        self._num_vain += 1
        # A trial in each direction, then a rest, which is longer each time.
        self._rest = min(_LONGEST_REST, 2 ** (self._num_vain // 2)) if self._num_vain % 2 == 0 else 0
