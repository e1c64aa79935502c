"""Answers under the hash of all that decides them: a job (model, prompt, sampling …) and a text.

Each attempt has an answer of its own. Whether one is any good is not the store's business, so that changing one's mind
about that computes nothing again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeGuard

from llmpar.paths import state_dir
from llmpar.store.answer import Correction, StoredAnswer, answer_said, checksum_of, said_by, text_said
from llmpar.store.database import Database
from llmpar.store.job import JobStore
from llmpar.store.keys import bytes_of, key_of, text_of
from llmpar.store.lengths import Lengths
from llmpar.store.queries import (
    ALL,
    BY_PERSON,
    COMPUTED,
    FIND,
    KEEP,
    KNOWN,
    LENGTHS,
    OLDEST,
    ORIGINS,
    STARTING,
    TAKE,
    UNUSED,
)

_DAY = 86_400
_LAST_DAY = 2_932_896  # 9999-12-31, in days since 1970
_TOUCHED_AT_ONCE = 1000
_MERGED_AT_ONCE = 1000
_KEYS_AT_ONCE = 256  # looked for by one query
_EVICTED_AT_ONCE = 0.1  # of the answers
_SETTLED = 2.0  # seconds after which a file that looks the same is the same: time stamps are coarse


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What a store holds; its size in bytes, days since 1970. `num_corrections` are those answers that people gave."""

    num_answers: int
    num_jobs: int
    size: int
    oldest_day: int | None
    newest_day: int | None
    num_corrections: int = 0


def default_path() -> Path:
    """Return where answers are kept unless the user says otherwise."""
    return state_dir() / "answers.sqlite"


class Store:
    """An open store, for one thread at a time. Several processes may have the same one open.

    Args:
        path: the file; it is created, 0600, where there is none. None is the user's own store, in a directory, 0700,
            that is created, too.
        keep_text: whether texts and prompts are kept beside their hashes and the answers.

    Raises:
        StoreUnusable: it is damaged, from a newer llmpar, or may not be written; it is left as it is. Every method
            raises this, too.
    """

    def __init__(self, path: Path | None = None, *, keep_text: bool = True) -> None:
        self._keep_text = keep_text
        self._touched: list[bytes] = []  # keys used today for the first time
        self.path = path or default_path()
        """Where it is."""
        self._database = Database(self.path, makes_directory=path is None)

    def job(self, description: Mapping[str, object]) -> JobStore:
        """Return the part of the store that belongs to a job.

        Args:
            description: everything that decides an answer, but the text; values that JSON knows.
        """
        plain = json.dumps(description, sort_keys=True)
        return JobStore(self, hashlib.sha256(plain.encode()).digest(), plain if self._keep_text else None)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, list[StoredAnswer]]:
        """Return the answers kept under each of some keys, by attempt; a key without any is left out."""
        found: dict[bytes, list[StoredAnswer]] = {}
        today = _today()
        for first in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[first : first + _KEYS_AT_ONCE]
            rows = self._database.read(
                f"{FIND} ({', '.join('?' * len(some))}) ORDER BY key, attempt",
                tuple(some),
            )
            for key, attempt, text, *counts, checksum, used in rows:
                if checksum_of(key, attempt, text, *counts) != checksum:
                    raise self._database.unusable("an answer in it was altered")
                answers = found.setdefault(key, [])
                if not answers and self._day(used) < today:
                    self._touched.append(key)
                answers.append(answer_said(text, attempt, *counts))
        if len(self._touched) >= _TOUCHED_AT_ONCE:
            self._touch()
        return found

    def known(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return those of some keys under which there is an answer; to ask for this is no use of them."""
        found: set[bytes] = set()
        for first in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[first : first + _KEYS_AT_ONCE]
            rows = self._database.read(f"{KNOWN} ({', '.join('?' * len(some))})", tuple(some))
            found.update(key for (key,) in rows)
        return found

    def has_job(self, digest: bytes) -> bool:
        """Tell whether there is a job with this digest."""
        return bool(self._database.read("SELECT 1 FROM jobs WHERE digest = ?", (digest,)))

    def asked_under(self, beginning: bytes) -> tuple[dict[str, object] | None, str | None] | None:
        """Return what was asked, and about what, under the first key that begins in this way; None if there is none.

        Args:
            beginning: of the key, not all of it 0xFF.

        Returns:
            The description of the job and the text; each None where no texts are kept.
        """
        end = (int.from_bytes(beginning, "big") + 1).to_bytes(len(beginning), "big")
        for description, text in self._database.read(STARTING, (beginning, end)):
            return (None if description is None else json.loads(description)), (None if text is None else text_of(text))
        return None

    def origins(self, keys: Sequence[bytes]) -> dict[bytes, tuple[str | None, bytes]]:
        """Return what answers under some keys are about, None if that is not kept, and the digests of their jobs."""
        found: dict[bytes, tuple[str | None, bytes]] = {}
        for first in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[first : first + _KEYS_AT_ONCE]
            for key, text, digest in self._database.read(f"{ORIGINS} ({', '.join('?' * len(some))})", tuple(some)):
                found[key] = (None if text is None else text_of(text), digest)
        return found

    def digests(self) -> list[bytes]:
        """Return the digests of all jobs."""
        return [digest for (digest,) in self._database.read("SELECT digest FROM jobs")]

    def jobs(self) -> list[tuple[bytes, dict[str, object]]]:
        """Return the digests and descriptions of the jobs that have one, the latest first."""
        rows = self._database.read(
            "SELECT digest, description FROM jobs WHERE description IS NOT NULL ORDER BY created DESC, id DESC"
        )
        return [(digest, json.loads(description)) for digest, description in rows]

    def lengths(self, digests: Sequence[bytes]) -> Lengths:
        """Return how long the answers of the jobs with these digests are, all together."""
        sums = [0.0] * 6
        for digest in digests:
            (row,) = self._database.read(LENGTHS, (digest,))
            sums = [one + other for one, other in zip(sums, row, strict=True)]
        return Lengths(int(sums[0]), *sums[1:])

    def write(
        self, digest: bytes, description: str | None, records: Iterable[tuple[bytes, str, StoredAnswer, bool]]
    ) -> None:
        """Commit a job's answers, each with its key, its text, and whether all earlier ones give way to it."""
        today = _today()
        rows, replaced = [], []
        for key, text, answer, replaces in records:
            said = said_by(answer)
            counts = (answer.finish_reason, answer.num_prompt_tokens, answer.num_output_tokens, answer.seconds)
            asked = bytes_of(text) if self._keep_text else None
            checksum = checksum_of(key, answer.attempt, said, *counts)
            rows.append((key, answer.attempt, asked, said, *counts, today, checksum))
            replaced += [(key,)] if replaces else []
        rows.sort(key=_key_in)  # SQLite finds the places of neighbours in less time
        with self._database.transaction() as connection:
            # Each time, as another process may have purged the job meanwhile.
            job = (digest, description, int(time.time()))
            connection.execute("INSERT OR IGNORE INTO jobs (digest, description, created) VALUES (?, ?, ?)", job)
            (number,) = connection.execute("SELECT id FROM jobs WHERE digest = ?", (digest,)).fetchone()
            connection.executemany("DELETE FROM answers WHERE key = ?", replaced)
            connection.executemany(KEEP, ((number, *row) for row in rows))

    def correct(self, corrections: Sequence[Correction]) -> None:
        """Commit answers that people gave, all or none, in the place of earlier ones of people."""
        today, rows = _today(), []
        for one in corrections:
            said, counts = bytes_of(one.answer), (one.finish_reason, 0, 0, 0.0)
            checksum = checksum_of(one.key, BY_PERSON, said, *counts)
            asked = bytes_of(one.text) if self._keep_text and one.text is not None else None
            rows.append((one.job, one.key, BY_PERSON, asked, said, *counts, today, checksum))
        jobs = dict.fromkeys(one.job for one in corrections)
        with self._database.transaction() as connection:
            job = "INSERT OR IGNORE INTO jobs (digest, description, created) VALUES (?, NULL, ?)"
            connection.executemany(job, ((digest, int(time.time())) for digest in jobs))
            connection.executemany("DELETE FROM answers WHERE key = ?", ((one.key,) for one in corrections))
            connection.executemany(TAKE, rows)

    def all_answers(self) -> Iterator[list[tuple[Any, ...]]]:
        """Yield every answer as it is kept, with its job, some at a time, for `take`."""
        rows = self._database.rows(ALL)
        while some := list(islice(rows, _MERGED_AT_ONCE)):
            for digest, _, _, key, attempt, text, answer, *counts, used, checksum in some:
                is_good = checksum_of(key, attempt, answer, *counts) == checksum and isinstance(digest, bytes)
                if not is_good or not (text is None or isinstance(text, bytes)):
                    raise self._database.unusable("an answer in it was altered")
                self._day(used)
            yield some

    def take(self, answers: Sequence[tuple[Any, ...]]) -> int:
        """Commit answers of another store's `all_answers`, and return how many there were not yet; the others stay."""
        jobs = dict.fromkeys(row[:3] for row in answers)
        with self._database.transaction() as connection:
            connection.executemany("INSERT OR IGNORE INTO jobs (digest, description, created) VALUES (?, ?, ?)", jobs)
            before = connection.total_changes
            connection.executemany(TAKE, ((row[0], *row[3:]) for row in answers))
            return connection.total_changes - before

    def fingerprint(self, files: Iterable[Path], reading: Callable[[], None] = lambda: None) -> str:
        """Return a hash of the names and contents of files; those that look unchanged are not read again.

        Args:
            files: the files.
            reading: called before one is read.

        Raises:
            OSError: one cannot be read.
        """
        whole = hashlib.sha256()
        for file in sorted(files):
            status = file.stat()
            state = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"
            path = os.fsencode(file.absolute())
            known = self._database.read("SELECT sha256 FROM files WHERE path = ? AND state = ?", (path, state))
            if not known:
                reading()
            digest = known[0][0] if known else _file_digest(file)
            if not known and time.time() - status.st_mtime > _SETTLED:
                with self._database.transaction() as connection:
                    connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (path, state, digest))
            whole.update(hashlib.sha256(os.fsencode(file.name)).digest() + digest)
        return whole.hexdigest()

    def info(self) -> StoreInfo:
        """Count what there is."""
        read = self._database.read
        ((num_answers, oldest, newest),) = read("SELECT count(*), min(used), max(used) FROM answers")
        ((num_jobs,),) = read("SELECT count(*) FROM jobs")
        ((num_corrections,),) = read("SELECT count(*) FROM answers WHERE attempt = ?", (BY_PERSON,))
        days = [None if day is None else self._day(day) for day in (oldest, newest)]
        return StoreInfo(num_answers, num_jobs, self._database.size, days[0], days[1], num_corrections)

    def verify(self) -> list[str]:
        """Look at every page and every answer, and return what is wrong, one line each."""
        faults = [line for (line,) in self._database.read("PRAGMA integrity_check") if line != "ok"]
        if faults:
            return faults
        rows = self._database.rows(
            "SELECT answers.id, digest, key, attempt, text, answer, finish_reason, num_prompt_tokens, "
            "num_output_tokens, seconds, checksum, used FROM answers LEFT JOIN jobs ON jobs.id = job"
        )
        for number, digest, key, attempt, text, answer, *counts, checksum, used in rows:
            if not _is_day(used):
                faults.append(f"the day on which answer {number} was used was altered")
            if checksum_of(key, attempt, answer, *counts) != checksum:
                faults.append(f"answer {number} was altered")
            elif digest is None:
                faults.append(f"answer {number} belongs to no job")
            elif text is not None and not (isinstance(text, bytes) and key_of(digest, text) == key):
                faults.append(f"the text of answer {number} was altered")
        return faults

    def texts(self) -> Iterator[tuple[int, bytes, str | None, str]]:
        """Yield of each answer its number, its key, its text if that is kept, and what it says."""
        for number, key, text, answer in self._database.rows("SELECT id, key, text, answer FROM answers"):
            yield number, key, None if text is None else text_of(text), text_said(answer)

    def delete(self, numbers: Iterable[int]) -> int:
        """Delete the answers with these numbers, and return how many there were."""
        self._database.read("PRAGMA secure_delete = ON")  # what is deleted is to be gone
        with self._database.transaction() as connection:
            before = connection.total_changes
            connection.executemany("DELETE FROM answers WHERE id = ?", ((number,) for number in numbers))
            count = connection.total_changes - before
            connection.execute("DELETE FROM jobs WHERE id NOT IN (SELECT job FROM answers)")
        self._database.shrink()
        return count

    def purge(self, days: float = 0) -> int:
        """Delete the answers that no run has used for so many days, 0 for all, and return how many.

        What people answered goes only with all.
        """
        with self._database.transaction() as connection:
            if days:
                count = connection.execute(UNUSED, (_today() - days,)).rowcount
            else:
                count = connection.execute("DELETE FROM answers").rowcount
            connection.execute("DELETE FROM jobs WHERE id NOT IN (SELECT job FROM answers)")
        self._database.shrink()
        return count

    def evict(self, most: int) -> int:
        """Delete the least recently used answers until the store takes `most` bytes, and return how many.

        What people answered stays: nobody can compute it again.
        """
        if self._touched:
            self._touch()
        count = 0
        while self._database.size > most:
            with self._database.transaction() as connection:
                (left,) = connection.execute(COMPUTED).fetchone()
                number = max(1, int(left * _EVICTED_AT_ONCE))
                connection.execute(OLDEST, (number,))
            if not left:
                break
            count += min(left, number)
        if count:
            self._database.shrink()
        return count

    def close(self) -> None:
        """Close the file."""
        if self._touched:
            self._touch()
        self._database.close()

    def _day(self, used: object) -> int:
        """Return a day as it is kept, which no checksum covers, as it changes."""
        if not _is_day(used):
            raise self._database.unusable("the day on which an answer was used was altered")
        return used

    def _touch(self) -> None:
        with self._database.transaction() as connection:
            rows = [(_today(), key) for key in self._touched]
            connection.executemany("UPDATE answers SET used = ? WHERE key = ?", rows)
        self._touched.clear()


_key_in = itemgetter(0)  # of a row


def _is_day(used: object) -> TypeGuard[int]:
    return isinstance(used, int) and 0 <= used <= _LAST_DAY


def _today() -> int:
    return int(time.time()) // _DAY


def _file_digest(file: Path) -> bytes:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.digest()
