"""How many tokens a run may take of servers, so that it ends before they are more."""

from __future__ import annotations


class Budget:
    """Tokens that may be taken, by requests whose length is known when they have been answered.

    Args:
        total: how many there are; None for any number.
    """

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.spent = 0
        self._held = 0  # by requests on their way, as many as each may take

    @property
    def is_idle(self) -> bool:
        """Whether no request holds any."""
        return self._held == 0

    def hold(self, most: int) -> bool:
        """Hold tokens for a request that takes so many at most; return whether there are as many."""
        if self.total is not None and self.spent + self._held + most > self.total:
            return False
        self._held += most
        return True

    def settle(self, most: int, taken: int) -> None:
        """Give back what a request held, and count what it took."""
        self._held -= most
        self.spent += taken
