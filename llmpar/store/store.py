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
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeGuard

from llmpar.paths import state_dir
from llmpar.store.database import Database
from llmpar.store.lengths import Lengths
from llmpar.store.queries import ALL, FIND, KEEP, KNOWN, LENGTHS, ORIGINS, TAKE

_DAY = 86_400
_LAST_DAY = 2_932_896  # 9999-12-31, in days since 1970
_TOUCHED_AT_ONCE = 1000
_MERGED_AT_ONCE = 1000
_KEYS_AT_ONCE = 256  # looked for by one query
_EVICTED_AT_ONCE = 0.1  # of the answers
_APART = b"\xff"
_SETTLED = 2.0  # seconds after which a file that looks the same is the same: time stamps are coarse


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What came of one attempt, whatever it is worth; `seconds` is the time it took.

    `thoughts` stand apart from the text, `num_thinking_tokens` are among those of the output, and `is_unclosed` tells
    that the thoughts had no end.
    """

    attempt: int
    text: str
    finish_reason: str
    num_prompt_tokens: int
    num_output_tokens: int
    seconds: float = 0.0
    thoughts: str = ""
    num_thinking_tokens: int = 0
    is_unclosed: bool = False


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What a store holds; its size in bytes, days since 1970."""

    num_answers: int
    num_jobs: int
    size: int
    oldest_day: int | None
    newest_day: int | None


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
                if _checksum(key, attempt, text, *counts) != checksum:
                    raise self._database.unusable("an answer in it was altered")
                answers = found.setdefault(key, [])
                if not answers and self._day(used) < today:
                    self._touched.append(key)
                answers.append(_with_thoughts(StoredAnswer(attempt, "", *counts), text))
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

    def origins(self, keys: Sequence[bytes]) -> dict[bytes, tuple[str | None, bytes]]:
        """Return what answers under some keys are about, None if that is not kept, and the digests of their jobs."""
        found: dict[bytes, tuple[str | None, bytes]] = {}
        for first in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[first : first + _KEYS_AT_ONCE]
            for key, text, digest in self._database.read(f"{ORIGINS} ({', '.join('?' * len(some))})", tuple(some)):
                found[key] = (None if text is None else _text(text), digest)
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
        sums = [0.0] * 5
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
            said = _said(answer)
            counts = (answer.finish_reason, answer.num_prompt_tokens, answer.num_output_tokens, answer.seconds)
            asked = _bytes(text) if self._keep_text else None
            checksum = _checksum(key, answer.attempt, said, *counts)
            rows.append((key, answer.attempt, asked, said, *counts, today, checksum))
            replaced += [(key,)] if replaces else []
        with self._database.transaction() as connection:
            # Each time, as another process may have purged the job meanwhile.
            job = (digest, description, int(time.time()))
            connection.execute("INSERT OR IGNORE INTO jobs (digest, description, created) VALUES (?, ?, ?)", job)
            (number,) = connection.execute("SELECT id FROM jobs WHERE digest = ?", (digest,)).fetchone()
            connection.executemany("DELETE FROM answers WHERE key = ?", replaced)
            connection.executemany(KEEP, ((number, *row) for row in rows))

    def all_answers(self) -> Iterator[list[tuple[Any, ...]]]:
        """Yield every answer as it is kept, with its job, some at a time, for `take`."""
        rows = self._database.rows(ALL)
        while some := list(islice(rows, _MERGED_AT_ONCE)):
            for digest, _, _, key, attempt, text, answer, *counts, used, checksum in some:
                is_good = _checksum(key, attempt, answer, *counts) == checksum and isinstance(digest, bytes)
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
        days = [None if day is None else self._day(day) for day in (oldest, newest)]
        return StoreInfo(num_answers, num_jobs, self._database.size, *days)

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
            if _checksum(key, attempt, answer, *counts) != checksum:
                faults.append(f"answer {number} was altered")
            elif digest is None:
                faults.append(f"answer {number} belongs to no job")
            elif text is not None and not (isinstance(text, bytes) and _key(digest, text) == key):
                faults.append(f"the text of answer {number} was altered")
        return faults

    def texts(self) -> Iterator[tuple[int, bytes, str | None, str]]:
        """Yield of each answer its number, its key, its text if that is kept, and what it says."""
        for number, key, text, answer in self._database.rows("SELECT id, key, text, answer FROM answers"):
            yield number, key, None if text is None else _text(text), _text(answer)

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
        """Delete the answers that no run has used for so many days, 0 for all, and return how many."""
        with self._database.transaction() as connection:
            if days:
                count = connection.execute("DELETE FROM answers WHERE used <= ?", (_today() - days,)).rowcount
            else:
                count = connection.execute("DELETE FROM answers").rowcount
            connection.execute("DELETE FROM jobs WHERE id NOT IN (SELECT job FROM answers)")
        self._database.shrink()
        return count

    def evict(self, most: int) -> int:
        """Delete the least recently used answers until the store takes `most` bytes, and return how many."""
        if self._touched:
            self._touch()
        count = 0
        while self._database.size > most:
            with self._database.transaction() as connection:
                (left,) = connection.execute("SELECT count(*) FROM answers").fetchone()
                number = max(1, int(left * _EVICTED_AT_ONCE))
                oldest = "DELETE FROM answers WHERE id IN (SELECT id FROM answers ORDER BY used, id LIMIT ?)"
                connection.execute(oldest, (number,))
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


class JobStore:
    """A store as one job sees it. What is added is there after `commit`.

    Args:
        store: the store.
        digest: the hash of the job's description.
        description: what is kept of it, None for nothing.
    """

    def __init__(self, store: Store, digest: bytes, description: str | None) -> None:
        self._store = store
        self._digest = digest
        self._description = description
        self._added: list[tuple[bytes, str, StoredAnswer, bool]] = []
        self._foreseen: dict[bytes, list[StoredAnswer]] = {}

    @property
    def digest(self) -> bytes:
        """The hash of the job's description."""
        return self._digest

    def key(self, text: str) -> bytes:
        """Return the key of a text in this job."""
        return _key(self._digest, _bytes(text))

    def foresee(self, keys: Sequence[bytes]) -> None:
        """Look for keys that will be looked for next, all at once."""
        found = self._store.find(keys)
        self._foreseen = {key: found.get(key, []) for key in keys}

    def find(self, key: bytes) -> list[StoredAnswer]:
        """Return the answers kept under a key, by attempt."""
        known = self._foreseen.pop(key, None)
        return self._store.find([key]).get(key, []) if known is None else known

    def add(self, key: bytes, text: str, answer: StoredAnswer, *, replaces: bool = False) -> None:
        """Keep an answer from the next commit on; if it `replaces`, what was kept under the key goes."""
        self._added.append((key, text, answer, replaces))
        self._foreseen.pop(key, None)

    def commit(self) -> None:
        """Make what was added last, also if the process is killed the moment after."""
        if self._added:
            self._store.write(self._digest, self._description, self._added)
            self._added.clear()


class NoStore:
    """Stands for a job's store where nothing is kept.

    Args:
        job: what is another for each job.
    """

    def __init__(self, job: bytes = b"") -> None:
        self._digest = hashlib.sha256(job).digest()

    def key(self, text: str) -> bytes:
        """Return a key that equal texts share in this job."""
        return _key(self._digest, _bytes(text))

    def foresee(self, keys: Sequence[bytes]) -> None:
        """Do nothing."""

    def find(self, key: bytes) -> list[StoredAnswer]:  # noqa: ARG002
        """Return nothing."""
        return []

    def add(self, key: bytes, text: str, answer: StoredAnswer, *, replaces: bool = False) -> None:
        """Forget it."""

    def commit(self) -> None:
        """Do nothing."""


def key_in(digest: bytes, text: str) -> bytes:
    """Return the key that a text has in the job with this digest."""
    return _key(digest, _bytes(text))


def _key(digest: bytes, text: bytes) -> bytes:
    return hashlib.sha256(digest + text).digest()


def _checksum(key: bytes, attempt: int, answer: bytes, *counts: object) -> bytes:
    if not isinstance(key, bytes) or not isinstance(answer, bytes):  # damage can make a number of anything
        return b""
    return hashlib.blake2b(key + answer + repr((attempt, counts)).encode(), digest_size=8).digest()


def _said(answer: StoredAnswer) -> bytes:
    """Return an answer's text, and its thoughts behind a byte that no text has, if there are any."""
    if not answer.num_thinking_tokens and not answer.is_unclosed:
        return _bytes(answer.text)
    counts = f"{answer.num_thinking_tokens} {int(answer.is_unclosed)}"
    return _APART.join((_bytes(answer.text), _bytes(answer.thoughts), counts.encode()))


def _with_thoughts(answer: StoredAnswer, said: bytes) -> StoredAnswer:
    """Return an answer with the text and thoughts that `_said` made bytes of."""
    text, *thoughts = said.split(_APART)
    if not thoughts:
        return replace(answer, text=_text(text))
    num_tokens, is_unclosed = map(int, thoughts[1].split())
    return replace(
        answer,
        text=_text(text),
        thoughts=_text(thoughts[0]),
        num_thinking_tokens=num_tokens,
        is_unclosed=bool(is_unclosed),
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


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
