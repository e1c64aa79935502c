"""Thoughts in token ids that tests can see through."""

from __future__ import annotations

OPENING, CLOSING = 70, 71


class Between:
    """Thoughts between two tokens; `opens` says whether the first one is to be put there."""

    def __init__(self, *, is_open: bool = False, opens: bool = False) -> None:
        self.is_thinking = is_open
        self._opens = opens

    def accept(self, token_id: int) -> None:
        self._opens = False
        self.is_thinking = token_id != CLOSING if self.is_thinking else token_id == OPENING

    def forced(self) -> list[int]:
        return [OPENING] if self._opens else []


class Brief(Between):
    """Thoughts that are opened, and end after so many tokens: a random model does not end them by itself."""

    def __init__(self, num_tokens: int) -> None:
        super().__init__(opens=True)
        self._num_left = num_tokens

    def accept(self, token_id: int) -> None:
        super().accept(token_id)
        self._num_left -= 1
        self.is_thinking = self._num_left > 0
