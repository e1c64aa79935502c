"""The store's file: made whole, refused when it is not, and changed in transactions. Knows no answer."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from llmpar import interrupts
from llmpar.errors import StoreUnusable, setting
from llmpar.interrupts import shielded
from llmpar.store.filesystems import network_file_system
from llmpar.store.held import HeldFile, instead
from llmpar.visible import one_line

_T = TypeVar("_T")

VERSION = 1
_APPLICATION_ID = 0x6C6C6D70  # "llmp", in the file's header
_MAGIC = b"SQLite format 3\0"
_PATIENCE = 60.0  # seconds to wait for another process's transaction, which takes milliseconds
_LAST_PATIENCE = 2.0  # seconds, once somebody wants an end
_LOOK = 0.1  # seconds that SQLite waits by itself, during which no signal is seen
_STEPS = 100_000  # of SQLite's machine between looks at signals, some milliseconds; a commit takes fewer
_ROWS = 256  # read at a time
_CACHE = 16_384  # KiB of pages kept at hand: keys are hashes, so that every page of their index may be the next
_UNFINISHED = ".llmpar-new-"
_ABANDONED = 3600.0  # seconds after which nobody is still making a store
_SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {VERSION};
CREATE TABLE jobs (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, description TEXT, created INTEGER NOT NULL);
CREATE TABLE answers (
  id INTEGER PRIMARY KEY,
  job INTEGER NOT NULL REFERENCES jobs (id),
  key BLOB NOT NULL,
  attempt INTEGER NOT NULL,
  text BLOB,
  answer BLOB NOT NULL,
  finish_reason TEXT NOT NULL,
  num_prompt_tokens INTEGER NOT NULL,
  num_output_tokens INTEGER NOT NULL,
  seconds REAL NOT NULL,
  used INTEGER NOT NULL,
  checksum BLOB NOT NULL,
  UNIQUE (key, attempt)
);
CREATE TABLE files (path BLOB PRIMARY KEY, state TEXT NOT NULL, sha256 BLOB NOT NULL);
"""
_OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_master"


class Database:
    """An open file of answers, for one thread at a time. Several processes may have the same one open.

    Args:
        path: the file; it is created, 0600, where there is none.
        makes_directory: whether its directory is created, too.

    Raises:
        StoreUnusable: it is damaged, from a newer llmpar, or may not be written; it is left as it is. Every method
            raises this, too.
    """

    def __init__(self, path: Path, *, makes_directory: bool = False) -> None:
        self._path = path
        self._is_open = True
        if kind := network_file_system(path):
            raise StoreUnusable(
                f"store {one_line(path)}: is on a network file system ({kind}), which SQLite cannot lock for several "
                f"machines; let each have one on its own disk ({setting('store', '/tmp/answers.sqlite')}, or "  # noqa: S108
                "LLMPAR_STATE=DIR), and bring them together with `llmpar store merge`"
            )
        with self._translated():
            if not os.path.lexists(path):
                if makes_directory:
                    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with shielded():  # what is half made would stay
                    _create(path)
            _drop_unfinished(path)
            self._file = HeldFile(path)
            try:
                self._check_header()
                self._connection = self._connect()
            except BaseException:
                self._file.close()
                raise

    def read(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._translated(), shielded():
            return self._patiently(lambda: self._connection.execute(query, values).fetchall())

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query that has many."""
        cursor: sqlite3.Cursor | None = None
        while True:
            with self._translated(), shielded():
                cursor = cursor or self._patiently(lambda: self._connection.execute(query))
                rows = cursor.fetchmany(_ROWS)
            if not rows:
                return
            yield from rows

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what is done inside together, or nothing of it."""
        with self._translated(), shielded():
            self._patiently(lambda: self._connection.execute("BEGIN IMMEDIATE"))
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite has already done so after some failures
                    self._connection.execute("ROLLBACK")
                raise
            self._file.check_in_place()  # else it went into a file that nobody will find

    @property
    def size(self) -> int:
        """The bytes in use."""
        (size,), (pages,), (free,) = (
            self.read(f"PRAGMA {name}")[0] for name in ("page_size", "page_count", "freelist_count")
        )
        return int(size * (pages - free))

    def shrink(self) -> None:
        """Give back the bytes that are not in use."""
        with self._translated(), shielded():
            # `execute` would give back one page alone.
            self._patiently(lambda: self._connection.executescript("PRAGMA incremental_vacuum"))
        self.read("PRAGMA wal_checkpoint(TRUNCATE)")

    def unusable(self, reason: str) -> StoreUnusable:
        """Return the error that says what is damaged, and what to do."""
        return self._refused(f"is damaged: {reason}")

    def close(self) -> None:
        """Close the file, and raise StoreUnusable if it is no longer at its path."""
        if not self._is_open:
            return
        self._is_open = False
        with self._translated():
            try:
                self._file.check_in_place()
            finally:
                self._connection.close()
                self._file.close()

    def _connect(self) -> sqlite3.Connection:
        # An absolute path, as SQLite gives some names a meaning (":memory:"). Closed from another thread than it was
        # opened by at most.
        path = self._path.absolute()
        connection = sqlite3.connect(path, timeout=_LOOK, isolation_level=None, check_same_thread=False)
        try:
            with shielded():
                self._defend(connection)
                for statement in (
                    # A crash of the machine may lose the last commits, which are computed again; nothing is ever torn.
                    # A crash of the process loses none.
                    "PRAGMA synchronous = NORMAL",
                    f"PRAGMA cache_size = -{_CACHE}",
                    "BEGIN IMMEDIATE",
                    "COMMIT",
                ):
                    self._patiently(partial(connection.execute, statement))
                self._file.note_log()
                self._file.check_in_place()  # what SQLite has opened is what was looked at
        except BaseException:
            connection.close()
            raise
        return connection

    def _defend(self, connection: sqlite3.Connection) -> None:
        """Refuse a store in which somebody else has put something that would run, now or later."""
        connection.set_progress_handler(interrupts.is_pending, _STEPS)
        connection.set_authorizer(_authorize)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        query = f"{_OBJECTS} LIMIT {len(_own_objects()) + 1}"
        found = self._patiently(lambda: connection.execute(query).fetchall())
        if strange := [name for _, name, *_ in set(found) - _own_objects()]:
            raise self._refused(f"holds {one_line(strange[0])!r}, which llmpar did not put there")
        if len(found) != len(_own_objects()):
            raise self.unusable("its tables are not those of a store")

    def _patiently(self, action: Callable[[], _T]) -> _T:
        """Do something that another process may hold up; call it shielded, and a signal ends the waiting."""
        began = time.monotonic()
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                patience = _LAST_PATIENCE if interrupts.is_ending() else _PATIENCE
                if not _is_busy(error) or interrupts.is_pending() or time.monotonic() - began > patience:
                    raise

    def _check_header(self) -> None:
        """Refuse a file that is not a whole store, before SQLite touches it."""
        for looks_left in (2, 1, 0):
            header, size = self._file.header(100), self._file.size
            if len(header) < 100 or not header.startswith(_MAGIC):
                raise self.unusable("it is empty" if not header else "it is no SQLite file")
            (page_size,), (num_pages,), (version,), (application,) = (
                struct.unpack_from(kind, header, at) for kind, at in ((">H", 16), (">I", 28), (">I", 60), (">I", 68))
            )
            if size >= num_pages * (65_536 if page_size == 1 else page_size):
                break
            if not looks_left:
                raise self.unusable("it is truncated")
            time.sleep(0.05)  # another process may be giving pages back just now
        if application != _APPLICATION_ID:
            raise self.unusable("it belongs to another program")
        if version > VERSION:
            raise StoreUnusable(
                f"store {one_line(self._path)}: was written by a newer llmpar (version {version}); update llmpar, or "
                f"{instead()}"
            )

    def _refused(self, reason: str) -> StoreUnusable:
        return StoreUnusable(
            f"store {one_line(self._path)}: {reason}; it is left as it is: move it away, or {instead()}"
        )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:  # also of a message, which can quote what is damaged
            raise self._translation(error) from error
        except OSError as error:
            raise StoreUnusable(
                f"store {one_line(self._path)}: cannot be used: {error.strerror}; {instead()}"
            ) from error

    def _translation(self, error: sqlite3.Error | UnicodeDecodeError) -> StoreUnusable:
        if _is_busy(error):
            return StoreUnusable(
                f"store {one_line(self._path)}: another process keeps it locked; end that, or {instead()}"
            )
        if "not authorized" in str(error) or "prohibited" in str(error):
            return self._refused("holds a view or trigger, which llmpar did not put there")
        if isinstance(error, sqlite3.OperationalError):
            what = f"store {one_line(self._path)}: cannot be used: {error}"
            return StoreUnusable(f"{what}; see to its disk and permissions, or {instead()}")
        return self.unusable(str(error))


def _authorize(action: int, one: str | None, other: str | None, database: str | None, source: str | None) -> int:  # noqa: ARG001 (SQLite's)
    """Allow what a statement of ours does, and nothing that a view or trigger does, whenever it came there."""
    return sqlite3.SQLITE_OK if source is None else sqlite3.SQLITE_DENY


def _is_busy(error: Exception) -> bool:
    return "locked" in str(error) or "busy" in str(error)


@cache
def _own_objects() -> frozenset[tuple[Any, ...]]:
    """Return what a store holds besides rows: its tables, with their columns, and the indexes that belong to them."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return frozenset(connection.execute(_OBJECTS))


def _drop_unfinished(path: Path) -> None:
    """Remove what a run that was killed in `_create` left: another name of the store, or half of one."""
    for left in path.parent.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED or (path.exists() and left.samefile(path)):
                left.unlink()


def _create(path: Path) -> None:
    """Make an empty store in one step: at no moment is there half of one under its name."""
    descriptor, name = tempfile.mkstemp(prefix=_UNFINISHED, suffix=".sqlite", dir=path.parent)  # 0600
    os.close(descriptor)
    made = Path(name)
    try:
        connection = sqlite3.connect(made, isolation_level=None)
        try:
            connection.executescript(_SCHEMA)
        finally:
            connection.close()  # and with it the log is merged into the file
        try:
            path.hardlink_to(made)
        except FileExistsError:  # somebody else was faster
            pass
        except OSError:  # a file system without links
            made.rename(path)
    finally:
        for file in (made, Path(f"{name}-wal"), Path(f"{name}-shm")):
            file.unlink(missing_ok=True)
