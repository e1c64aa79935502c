"""The key of a row: what finds its piece again, and shows whether somebody changed what is not theirs to change.

It is a line of letters that no spreadsheet takes for a number. It holds hashes, no text, and is sealed together with
the source, so that a row whose cells were moved apart is known. The seal guards against mistakes, not against malice.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from llmpar.documents.layout import NEWLINE

_VERSION = "r1"
_CHECKS = ("empty", "echo", "length", "loop", "preamble", "refusal", "ratio", "invariants")  # by bit
_HASH, _KNOWN, _SHORT = 32, 8, 6  # bytes
_FIXED = 1 + 1 + 3 + _HASH + _KNOWN + _SHORT  # before the key of a question that is more than its text
_CAN_BE_CORRECTED, _IS_KEPT = 1, 2


@dataclass(frozen=True, slots=True)
class RowKey:
    """What a row tells besides what people read.

    Args:
        job: the hash of what is asked, 32 bytes, whoever answers it; b"" if no answer of a person can stand there.
        question: the key of the piece in that job, 32 bytes.
        known: the first 8 bytes of the key of the model's answer in the store; b"" if none was kept.
        checks: what the task's answers must not be.
        first_mark: the number of the first mark in the source; 0 for none.
    """

    job: bytes
    question: bytes
    known: bytes = b""
    checks: frozenset[str] = frozenset()
    first_mark: int = 0


def spell(key: RowKey, source: str, answer: str) -> str:
    """Return a key as it stands in a file.

    Args:
        key: the key.
        source: of its row.
        answer: of its row, as the run wrote it.
    """
    flags = (_CAN_BE_CORRECTED if key.job else 0) | (_IS_KEPT if key.known else 0)
    checks = sum(1 << bit for bit, name in enumerate(_CHECKS) if name in key.checks)
    job = key.job or bytes(_HASH)
    told = bytes((flags, checks)) + key.first_mark.to_bytes(3, "big") + job + (key.known or bytes(_KNOWN))
    told += _short(answer)
    if key.job and _question(job, source) != key.question:  # the piece is asked about together with other things
        told += key.question
    return _VERSION + base64.urlsafe_b64encode(told + _seal(told, source)).decode().rstrip("=")


def read(cell: str, source: str) -> tuple[RowKey, bytes]:
    """Return what a row's key says, and the hash of the answer that the run wrote; see `answer_hash`.

    Raises:
        ValueError: it is no key, or belongs to another source. The message is the end of a sentence.
    """
    cell = cell.strip()
    if not cell.startswith(_VERSION):
        raise ValueError("has no key, or one of another version of llmpar")
    try:
        data = base64.b64decode(cell[len(_VERSION) :] + "=" * (-(len(cell) - len(_VERSION)) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("has a key that was changed") from error
    told, seal = data[:-_SHORT], data[-_SHORT:]
    if len(told) not in (_FIXED, _FIXED + _HASH) or _seal(told, source) != seal:
        raise ValueError("has a source and a key that do not belong together; one of them was changed, or moved")
    flags, checks, first_mark = told[0], told[1], int.from_bytes(told[2:5], "big")
    job, known = told[5 : 5 + _HASH], told[5 + _HASH : 5 + _HASH + _KNOWN]
    question = told[_FIXED:] or _question(job, source)
    names = frozenset(name for bit, name in enumerate(_CHECKS) if checks >> bit & 1)
    job = job if flags & _CAN_BE_CORRECTED else b""
    key = RowKey(job, question if job else b"", known if flags & _IS_KEPT else b"", names, first_mark)
    return key, told[_FIXED - _SHORT : _FIXED]


def answer_hash(answer: str) -> bytes:
    """Return what tells whether an answer was changed. How lines end in a file does not matter."""
    return _short(answer)


def _question(job: bytes, source: str) -> bytes:
    return hashlib.sha256(job + source.encode("utf-8", "surrogatepass")).digest()


def _seal(told: bytes, source: str) -> bytes:
    return hashlib.blake2b(told + _plain(source), digest_size=_SHORT).digest()


def _short(text: str) -> bytes:
    return hashlib.blake2b(_plain(text), digest_size=_SHORT).digest()


def _plain(text: str) -> bytes:
    """Return what no program that saves a table changes: spreadsheets write line ends of their own."""
    return NEWLINE.sub("\n", text).strip().encode("utf-8", "surrogatepass")
