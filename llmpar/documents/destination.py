"""A file that is replaced at once or not at all, by one run at a time. Knows no document and no stream.

The temporary file beside the destination is also the lock on it. Its name follows from the destination's: what a killed
run left behind is taken over by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import filecmp
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from llmpar.errors import Busy, Interrupted, LlmparError, OutputUncreatable, WriteFailed, setting
from llmpar.interrupts import shielded
from llmpar.visible import one_line

_SUFFIX = ".llmpar"
_COMPARED_AT_ONCE = 1 << 20  # bytes
_LONGEST_NAME = 255  # bytes, on all common file systems
_POLL = 0.05  # seconds between looks at a lock that somebody holds
_MOUNTS = Path("/proc/self/mountinfo")
_MOST_ATTEMPTS = 100  # to lock a file that others publish or remove just then
_REFUSED = {  # by a file system or kernel to which an operation, or an owner, means nothing; no failure of the disk
    errno.EACCES,
    errno.EINVAL,
    errno.ENOLCK,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EPERM,
}


class FileWriter:
    """Replaces a file: its name leads to the old content or to all of the new, never to something between.

    Another run that would write the same file is kept out from here to `close` or `abandon`, except on file systems
    without locks. A symbolic link stays one: its target is replaced.

    Args:
        path: the file; it need not exist.
        wait: seconds to wait for somebody else who writes it.
        partial: a file that takes what was written when the writer is abandoned; as it was if that is nothing.
        check: called right before the new content takes the name; what it raises prevents that.
        like: the file whose owner and mode the new one gets, by default the one that is replaced.
        keeps_equal: whether a file that holds the new content already is left as it is, with its time.

    Raises:
        OutputUncreatable: the directory is missing or may not be written to, something is in the way there, or the file
            is a mount of its own.
        Busy: somebody else writes the file.
        WriteFailed: writing, syncing or renaming failed. The writer is abandoned then.
    """

    def __init__(
        self,
        path: Path,
        wait: float = 0.0,
        partial: Path | None = None,
        check: Callable[[], None] = lambda: None,
        like: Path | None = None,
        *,
        keeps_equal: bool = False,
    ) -> None:
        self._name = one_line(path)
        self._path = Path(os.path.realpath(path))
        self._temporary = temporary_path(self._path)
        self._partial = partial
        self._check = check
        self._like = like or self._path
        self._keeps_equal = keeps_equal
        self._stream: BinaryIO | None = None  # None before the lock is held, and when all is over
        deadline = time.monotonic() + wait
        try:
            _refuse_mount_point(self._path)
            while not self._begin():
                if time.monotonic() >= deadline:
                    raise Busy(
                        f"{self._name}: somebody else is writing it; try later, or give {setting('wait', 'SECONDS')}"
                    )
                time.sleep(_POLL)
        except Interrupted as interrupted:
            if wait and self._stream is None:
                interrupted.meanwhile = f"while waiting for {self._name}, which somebody else is writing"
            self.abandon()
            raise
        except OSError as error:
            raise OutputUncreatable(f"{self._name}: cannot be created: {_reason(error)}") from error

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        assert self._stream is not None
        with self._abandoned_on_failure():
            self._stream.write(data)

    def flush(self) -> None:
        """Do nothing: nobody reads before the end."""

    def close(self) -> None:
        """Sync the new content and give it the file's name."""
        assert self._stream is not None
        with self._abandoned_on_failure():
            self._stream.flush()
            if self._keeps_equal and _is_equal(self._path, self._temporary, self._like):
                self._check()
                self.abandon()
                return
            os.fsync(self._stream.fileno())
            with shielded():
                self._check()
                _adopt(self._stream.fileno(), self._like)
                if not _leads_to(self._temporary, self._stream.fileno()):
                    raise WriteFailed(f"{self._name}: {one_line(self._temporary)} was removed meanwhile; run again")
                self._temporary.replace(self._path)
                stream, self._stream = self._stream, None  # the temporary name may be another run's from now on
                stream.close()
                _sync_directory(self._path.parent)

    def abandon(self) -> None:
        """Leave the file as it was, and keep what was written if there is a place for it; once is enough.

        Raises:
            WriteFailed: what was written could not be kept. It stays where the message says, until the next run.
        """
        if self._stream is None:
            return
        with shielded():
            stream, self._stream = self._stream, None
            try:
                if self._partial and stream.tell():
                    self._keep(stream, self._partial)
                elif _leads_to(self._temporary, stream.fileno()):
                    with contextlib.suppress(OSError):  # what is left is taken over by the next run
                        self._temporary.unlink()
            finally:
                with contextlib.suppress(OSError):  # a full disk fails again, and so closes the file
                    stream.close()

    def _begin(self) -> bool:
        """Make the temporary file ours, and empty; False while somebody else has it."""
        for _ in range(_MOST_ATTEMPTS):
            with shielded(), contextlib.ExitStack() as undo:
                descriptor, is_new = self._open()
                stream = undo.enter_context(os.fdopen(descriptor, "wb"))
                try:
                    has_locks = _unless_refused(fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                if not has_locks:
                    if is_new:
                        self._temporary.unlink(missing_ok=True)
                    self._stream = self._open_unlocked()
                    return True
                # Whoever had the lock before may have given the file its final name, or removed it.
                if _leads_to(self._temporary, descriptor):
                    stream.truncate(0)
                    undo.pop_all()
                    self._stream = stream
                    return True
        return False

    def _open(self) -> tuple[int, bool]:
        """Return a descriptor of the temporary file, and whether it was created."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            with contextlib.suppress(FileExistsError):
                return os.open(self._temporary, flags | os.O_CREAT | os.O_EXCL, 0o600), True
            try:
                descriptor = os.open(self._temporary, flags)
            except FileNotFoundError:  # published or removed between the two
                continue
            except OSError as error:
                raise self._in_the_way(_reason(error)) from error
            # Only what was found is looked at: to some network file systems the owner of a new file is somebody else.
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink <= 1:
                return descriptor, False
            os.close(descriptor)
            raise self._in_the_way("it is no temporary file of yours")

    def _open_unlocked(self) -> BinaryIO:
        # Without a lock two runs would write into one file: each has its own, and a killed run leaves it behind.
        descriptor, name = tempfile.mkstemp(_SUFFIX, self._temporary.name.removesuffix(_SUFFIX)[:40], self._path.parent)
        self._temporary = Path(name)
        return os.fdopen(descriptor, "wb")

    def _in_the_way(self, reason: str) -> OutputUncreatable:
        return OutputUncreatable(
            f"{self._name}: cannot be created: {one_line(self._temporary)} is in the way ({reason}); remove it"
        )

    def _keep(self, stream: BinaryIO, partial: Path) -> None:
        try:
            try:
                stream.flush()
                os.fsync(stream.fileno())
            finally:  # what fits on a full disk is kept all the same
                _adopt(stream.fileno(), partial)
                _move(self._temporary, partial)
        except (OSError, LlmparError) as error:
            place = f"; it is in {one_line(self._temporary)}" if _leads_to(self._temporary, stream.fileno()) else ""
            raise WriteFailed(
                f"{one_line(partial)}: what was written of {self._name} could not be kept: {_reason(error)}{place}"
            ) from error

    @contextlib.contextmanager
    def _abandoned_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.abandon()
            if isinstance(error, OSError):
                raise WriteFailed(f"{self._name}: writing failed: {_reason(error)}") from error
            raise


def temporary_path(path: Path) -> Path:
    """Return where a file's new content stands until it is complete: always the same place, beside it."""
    name = os.fsencode(path.name)
    if len(name) > _LONGEST_NAME - len(f".{_SUFFIX}"):
        mark = f".{hashlib.sha256(name).hexdigest()[:16]}".encode()
        name = name[: _LONGEST_NAME - len(f".{_SUFFIX}") - len(mark)]
        # Some file systems take no half characters.
        name = name.decode("utf-8", "ignore").encode() + mark
    return path.with_name(f".{os.fsdecode(name)}{_SUFFIX}")


def backup_path(path: Path, suffix: str) -> Path:
    """Return where a file's old content is kept: beside what the path leads to."""
    return Path(f"{os.path.realpath(path)}{suffix}")


def refuse_other_backup(path: Path, backup: Path) -> None:
    """Raise OutputUncreatable if a file's backup is there and holds something else.

    It may be all that is left of what somebody wrote, with answers already in its place.

    Raises:
        OSError: one of them cannot be read.
    """
    if os.path.lexists(backup) and not filecmp.cmp(path, backup, shallow=False):
        raise OutputUncreatable(
            f"{one_line(backup)}: is there already, and differs from {one_line(path)}; move it away, or give another "
            "suffix"
        )


def back_up(path: Path, backup: Path, check: Callable[[], None]) -> None:
    """Let a file be found under a second name, too, also when it is replaced. What has that name already stays.

    Args:
        path: the file, a regular one.
        backup: the second name, in the same directory.
        check: called right before the backup takes its name; what it raises prevents that.

    Raises:
        Busy: somebody else writes the file of that name.
        OutputUncreatable: something else has that name.
        WriteFailed: this failed.
    """

    def check_both() -> None:
        check()
        refuse_other_backup(path, backup)

    try:
        with contextlib.suppress(FileNotFoundError):
            if temporary_path(backup).samefile(path):  # a run was killed that took another way to the name
                temporary_path(backup).unlink()
        writer = FileWriter(backup, check=check_both, like=path)  # keeps out who would replace what gets the name
        try:
            check()
            os.link(path, backup)
        except FileExistsError:
            refuse_other_backup(path, backup)
        except OSError:  # no hard links here, or not to this file
            _copy(path, writer)
        finally:
            writer.abandon()
        _sync_directory(backup.parent)
    except OSError as error:
        raise WriteFailed(f"{one_line(backup)}: backing up failed: {_reason(error)}") from error


def _move(path: Path, target: Path) -> None:
    target = Path(os.path.realpath(target))
    try:
        path.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(path, FileWriter(target, like=path))
        path.unlink()


def _copy(path: Path, writer: FileWriter) -> None:
    try:
        with path.open("rb") as original:
            shutil.copyfileobj(original, writer)
        writer.close()
    except BaseException:
        writer.abandon()
        raise


def _adopt(descriptor: int, like: Path) -> None:
    """Give an open file the owner and mode of another as far as allowed, or those of a new file if there is none."""
    try:
        wanted = like.stat()
    except FileNotFoundError:
        umask = os.umask(0o077)  # it can only be read by setting it; other threads may create files meanwhile
        os.umask(umask)
        mode = 0o666 & ~umask
    else:
        mode = stat.S_IMODE(wanted.st_mode)
        status = os.fstat(descriptor)
        if (status.st_uid, status.st_gid) != (wanted.st_uid, wanted.st_gid) and not _unless_refused(
            os.fchown, descriptor, wanted.st_uid, wanted.st_gid
        ):
            mode &= 0o777  # set-user-ID was meant for another user
            _unless_refused(os.fchown, descriptor, -1, wanted.st_gid)
    _unless_refused(os.fchmod, descriptor, mode)


def _is_equal(path: Path, other: Path, like: Path) -> bool:
    """Tell whether a file holds what another does, with the mode that it is to have."""
    try:
        if not path.is_file() or path.stat().st_size != other.stat().st_size:
            return False
        if stat.S_IMODE(path.stat().st_mode) != stat.S_IMODE(like.stat().st_mode):
            return False
        with path.open("rb") as first, other.open("rb") as second:
            while data := first.read(_COMPARED_AT_ONCE):
                if data != second.read(_COMPARED_AT_ONCE):
                    return False
    except OSError:  # then it is replaced, and what is wrong is told there
        return False
    return True


def _leads_to(path: Path, descriptor: int) -> bool:
    """Return whether a name is still an open file's."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


def _refuse_mount_point(path: Path) -> None:
    """Raise OSError if a file is one that was mounted, as containers have them: no rename can replace it."""
    try:
        mounts = _MOUNTS.read_bytes().splitlines()
    except OSError:  # no Linux
        return
    octal = rb"\\([0-7]{3})"
    places = (re.sub(octal, lambda code: bytes([int(code[1], 8)]), mount.split(b" ")[4]) for mount in mounts)
    if os.fsencode(path) in places:
        raise OSError(errno.EBUSY, "it is mounted by itself, and nothing can take its place; mount its directory")


def _sync_directory(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a directory may be writable and not readable
        return
    try:
        _unless_refused(os.fsync, descriptor)
    finally:
        os.close(descriptor)


def _unless_refused(function: Callable[..., None], *arguments: int) -> bool:
    """Call a function of the system; return False where it is not supported or not allowed, raise if it fails."""
    try:
        function(*arguments)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return False
    return True


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
