"""What a store knows of the pieces of a log: their texts, their answers, and attempts that did not do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from llmpar.reporting.pieces import Attempt, Piece
from llmpar.store.answer import StoredAnswer
from llmpar.store.keys import key_in
from llmpar.store.store import Store
from llmpar.tasks.question import texts_in

_TOGETHER = 256  # records that are looked for by one query

Record = Mapping[str, object]


class Kept:
    """Looks in a store for what belongs to records.

    Args:
        store: the store; None if there is none, and nothing is found.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._known: list[bytes] = []  # digests of all jobs
        self._limited: list[bytes] = []  # of those that keep what a limit cut
        self.found_in: dict[bytes, int] = {}
        """How many records were found in each job, by its digest."""

    def others(self, key: bytes, num_attempts: int) -> tuple[Attempt, ...]:
        """Return the attempts at an answer that are kept, but for the one that counts.

        Args:
            key: the answer's.
            num_attempts: of those, the last one counts.
        """
        if self._store is None or num_attempts < 2:
            return ()
        return _others(self._answers([key])[key], num_attempts)

    def pieces(self, records: Iterable[Record]) -> Iterator[Piece]:
        """Yield the pieces of records, in their order."""
        source = iter(records)
        while some := list(islice(source, _TOGETHER)):
            keys = [_key(record) for record in some]
            answers = self._answers(keys)
            origins = self._store.origins(keys) if self._store else {}
            for record, key in zip(some, keys, strict=True):
                text, digest = origins.get(key, (None, b""))
                if digest:
                    self.found_in[digest] = self.found_in.get(digest, 0) + 1
                yield _piece(record, None if text is None else _source(text), answers[key])

    def description(self) -> dict[str, object]:
        """Return the description of the job that most records were found in; empty if that is not kept."""
        if self._store is None or not self.found_in:
            return {}
        digest = max(self.found_in, key=lambda one: self.found_in[one])
        return dict(self._store.jobs()).get(digest, {})

    def _answers(self, keys: Sequence[bytes]) -> dict[bytes, list[StoredAnswer]]:
        """Return the answers kept under each key, by attempt; those that a limit cut are kept under other keys."""
        if self._store is None:
            return {key: [] for key in keys}
        found = self._store.find(keys)
        under = {
            key_in(digest, key.hex()): key for digest in self._jobs_with_limits() for key in keys if key not in found
        }
        cut = self._store.find(list(under))
        answers = {key: list(found.get(key, [])) for key in keys}
        for other, some in cut.items():
            answers[under[other]] += some
        return answers

    def _jobs_with_limits(self) -> list[bytes]:
        """Return the digests of the jobs that keep answers which a limit of the user's cut, or may."""
        assert self._store is not None
        if (digests := self._store.digests()) != self._known:  # a run may add jobs at any time
            whole = {digest for digest, description in self._store.jobs() if not _has_limit(description)}
            self._known, self._limited = digests, [digest for digest in digests if digest not in whole]
        return self._limited


def _piece(record: Record, source: str | None, answers: list[StoredAnswer]) -> Piece:
    told = record.get("text"), record.get("answer")  # a file of failures has them
    number = record.get("attempts")
    num_attempts = number if isinstance(number, int) else 1
    counting = next((answer.text for answer in answers if answer.attempt == num_attempts - 1), None)
    if isinstance(told[0], str):
        source = told[0]
    if isinstance(told[1], str):
        counting = told[1]
    return Piece(record, source, counting, _others(answers, num_attempts) if num_attempts > 1 else ())


def _others(answers: Iterable[StoredAnswer], num_attempts: int) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(answer.attempt, answer.text, answer.finish_reason)
        for answer in answers
        if answer.attempt != num_attempts - 1
    )


def _source(material: str) -> str | None:
    """Return what an answer is about; of a conversation, what was said last."""
    try:
        texts = texts_in(material)
    except (ValueError, TypeError, LookupError):  # it was altered
        return None
    return texts[-1] if material.startswith("\0{") and texts else texts[0] if texts else None


def _key(record: Record) -> bytes:
    key = record.get("key")
    try:
        return bytes.fromhex(key) if isinstance(key, str) else b""
    except ValueError:  # somebody else wrote it
        return b""


def _has_limit(description: Mapping[str, object]) -> bool:
    sampling = description.get("sampling")
    return isinstance(sampling, dict) and sampling.get("max_new_tokens") is not None
