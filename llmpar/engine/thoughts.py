"""What tells a model's thoughts from the answer behind them, token by token. Knows no text and no model."""

from __future__ import annotations

from typing import Protocol


class Thoughts(Protocol):
    """Follows one answer, thoughts and all. Made, used and dropped by one thread.

    Whatever it raises fails its own request.
    """

    @property
    def is_thinking(self) -> bool:
        """Whether what comes next belongs to thoughts, or to what marks them."""

    def accept(self, token_id: int) -> None:
        """Take the next token, which is not one that stops."""

    def forced(self) -> list[int]:
        """Return tokens that come next where an answer of some form is to follow: what opens thoughts, or ends them."""
