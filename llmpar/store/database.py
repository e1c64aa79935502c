"""The store's file: made whole, refused when it is not, and changed in transactions. Knows no answer."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmpar.errors import StoreUnusable
from llmpar.interrupts import shielded
from llmpar.visible import one_line

VERSION = 1
_APPLICATION_ID = 0x6C6C6D70  # "llmp", in the file's header
_MAGIC = b"SQLite format 3\0"
_PATIENCE = 60.0  # seconds to wait for another process's transaction, which takes milliseconds
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
        with self._translated():
            if not os.path.lexists(path):
                if makes_directory:
                    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with shielded():  # what is half made would stay
                    _create(path)
            self._check_header()
            # Closed from another thread than it was opened by at most.
            self._connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                # A crash of the machine may lose the last commits, which are computed again; nothing is ever torn.
                # A crash of the process loses none.
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.close()
                raise

    def read(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        try:
            return self._connection.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._translation(error) from error

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query that has many."""
        with self._translated():
            yield from self._connection.execute(query)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what is done inside together, or nothing of it."""
        with self._translated(), shielded():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite has already done so after some failures
                    self._connection.execute("ROLLBACK")
                raise

    @property
    def size(self) -> int:
        """The bytes in use."""
        (size,), (pages,), (free,) = (
            self.read(f"PRAGMA {name}")[0] for name in ("page_size", "page_count", "freelist_count")
        )
        return int(size * (pages - free))

    def shrink(self) -> None:
        """Give back the bytes that are not in use."""
        with self._translated():
            self._connection.executescript("PRAGMA incremental_vacuum")  # `execute` would give back one page alone
        self.read("PRAGMA wal_checkpoint(TRUNCATE)")

    def unusable(self, reason: str) -> StoreUnusable:
        """Return the error that says what is damaged, and what to do."""
        return StoreUnusable(
            f"store {one_line(self._path)}: is damaged: {reason}; it is left as it is: move it away, or take another "
            "(--store PATH) or none (--no-store)"
        )

    def close(self) -> None:
        """Close the file."""
        with self._translated():
            self._connection.close()

    def _check_header(self) -> None:
        """Refuse a file that is not a whole store, before SQLite touches it."""
        for place in (self._path, *companions(self._path)):
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISREG(mode := place.stat().st_mode) and not stat.S_ISDIR(mode):
                    # To open a pipe is to wait for whoever else opens it.
                    raise self.unusable(f"{one_line(place)} is no regular file")
        for looks_left in (2, 1, 0):
            with self._path.open("rb") as file:
                header = file.read(100)
                size = os.fstat(file.fileno()).st_size
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
                "take another (--store PATH) or none (--no-store)"
            )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:  # also of a message, which can quote what is damaged
            raise self._translation(error) from error
        except OSError as error:
            raise StoreUnusable(
                f"store {one_line(self._path)}: cannot be used: {error.strerror}; take another (--store PATH) or none "
                "(--no-store)"
            ) from error

    def _translation(self, error: sqlite3.Error | UnicodeDecodeError) -> StoreUnusable:
        instead = "take another (--store PATH) or none (--no-store)"
        if "locked" in str(error) or "busy" in str(error):
            return StoreUnusable(
                f"store {one_line(self._path)}: another process keeps it locked; end that, or {instead}"
            )
        if isinstance(error, sqlite3.OperationalError):
            return StoreUnusable(
                f"store {one_line(self._path)}: cannot be used: {error}; see to its disk and permissions, or {instead}"
            )
        return self.unusable(str(error))


def companions(path: Path) -> list[Path]:
    """Return the files that SQLite keeps beside a database while it is in use."""
    real = os.path.realpath(path)
    return [Path(f"{real}{end}") for end in ("-wal", "-shm", "-journal")]


def _create(path: Path) -> None:
    """Make an empty store in one step: at no moment is there half of one under its name."""
    for left in path.parent.glob(f"{_UNFINISHED}*"):  # by a run that was killed in here
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()
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
