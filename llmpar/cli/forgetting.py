"""Which kept answers are about some documents: all that was asked about a piece of them, however it was cut.

A store holds texts and hashes, and no document's name. So the documents are read and cut again, in every way that
there is, and an answer goes if its text is one of the pieces, or stands in the document; and with it the answers over
answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import get_args

from llmpar.documents.document import Segment, Unit
from llmpar.documents.formats.protocol import Marking, Reading
from llmpar.documents.marks import without_marks
from llmpar.documents.segments import read_segments
from llmpar.errors import UsageError
from llmpar.jobs.reduction import JOINT
from llmpar.store.keys import key_in
from llmpar.store.store import Store
from llmpar.tasks.question import texts_in

_LONG_ENOUGH = 12  # characters of a text that is no piece, to be known again inside a document
_UNITS: tuple[Unit, ...] = get_args(Unit)
_MARKINGS: tuple[Marking, ...] = get_args(Marking)


class Forgotten:
    """What some documents say.

    Args:
        sources: the documents' paths, "-" for stdin.
        reading: how they are read; unit and marks are tried in every way.

    Raises:
        InputError: one is not what it claims to be.
        InputUnreadable: one cannot be read.
    """

    def __init__(self, sources: Iterable[str], reading: Reading) -> None:
        self._pieces: set[str] = set()
        whole: list[str] = []
        for source in sources:
            if source == "-":
                raise UsageError("llmpar store forget: name files; stdin can be read only one time")
            for unit in _UNITS:
                for marks in _MARKINGS:
                    for block, segments in read_segments(0, source, replace(reading, unit=unit, marks=marks)):
                        self._pieces.update(_texts(segments))
                        if unit == _UNITS[0] and marks == _MARKINGS[0]:
                            whole.append(block.text)
        self._whole = _flat("".join(whole))

    def delete(self, store: Store) -> tuple[int, int]:
        """Delete all answers about them; return how many, and how many others are kept without their texts."""
        keys = self._keys(store)
        found: set[int] = set()
        said: set[str] = set()
        rows = list(_rows(store))
        num_unknown = sum(texts is None for _, _, texts, _ in rows)
        for number, key, texts, answer in rows:
            if key in keys or (texts is not None and any(map(self._has, texts))):
                found.add(number)
                said.add(answer)
                num_unknown -= texts is None
        # Answers over answers hold what those said, and so do the keys of answers that were cut.
        names = {key.hex() for number, key, _, _ in rows if number in found} | {key.hex() for key in keys}
        is_growing = True
        while is_growing:
            is_growing = False
            for number, key, texts, answer in rows:
                if number not in found and texts and any(_rests_on(text, said, names) for text in texts):
                    found.add(number)
                    said.add(answer)
                    names.add(key.hex())
                    is_growing = True
        return store.delete(found), num_unknown

    def _keys(self, store: Store) -> set[bytes]:
        """Return the keys of their pieces in all jobs, by which answers without texts are found."""
        keys = {key_in(digest, piece) for digest in store.digests() for piece in self._pieces}
        return keys | {key_in(digest, key.hex()) for digest in store.digests() for key in set(keys)}

    def _has(self, text: str) -> bool:
        if text in self._pieces:
            return True
        flat = _flat(text)
        return len(flat) >= _LONG_ENOUGH and flat in self._whole


def _rows(store: Store) -> Iterator[tuple[int, bytes, list[str] | None, str]]:
    for number, key, text, answer in store.texts():
        yield number, key, None if text is None else texts_in(text), answer


def _texts(segments: Iterable[Segment]) -> Iterator[str]:
    for segment in segments:
        if segment.text.strip():
            yield segment.text
            yield without_marks(segment.text, segment.marks)


def _rests_on(text: str, said: set[str], names: set[str]) -> bool:
    return text in names or any(part in said for part in text.split(JOINT) if part.strip())


def _flat(text: str) -> str:
    return " ".join(text.split())
