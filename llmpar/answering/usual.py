"""What most queries of a run have in common is made once: of a hundred thousand, each would take its time."""

from __future__ import annotations

from llmpar.answering.backend import Query
from llmpar.answering.local import Expected, Manner
from llmpar.models.thoughts import Outlook


class Usual:
    """The manner of the last query, and what was expected of it: those of the next one, as a rule."""

    def __init__(self) -> None:
        self._query: Query | None = None
        self._outlook: Outlook | None = None
        self._made: tuple[Manner, Expected] | None = None

    def of(self, query: Query, outlook: Outlook | None) -> tuple[Manner, Expected]:
        """Return the manner of a query with such an outlook, and what is to be expected of its completion."""
        if self._made is None or not self._is_like_last(query, outlook):
            self._made = Manner.of(query, outlook), Expected.of(query, outlook)
            self._query, self._outlook = query, outlook
        return self._made

    def _is_like_last(self, query: Query, outlook: Outlook | None) -> bool:
        last = self._query
        return (
            last is not None
            and query.sampling is last.sampling
            and query.form is last.form
            and outlook is self._outlook
            and query.continues == last.continues
            and query.thinking_room == last.thinking_room
            and query.timeout == last.timeout
            and query.is_scored == last.is_scored
            and query.num_others == last.num_others
        )
