"""The cache of models made from other forms: what an entry is, how it comes to be, and how it goes.

An entry is the directory `models/KEY` under `cache_dir()`: a model ready to load, a manifest of its files' sizes, and
their checksums (`sums`).
It is made in `models/.KEY.partial` under an flock on `models/.KEY.lock` and renamed when complete, so that it is whole
or absent whenever a process dies. Knows no model names and no network; imports no torch.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpar.errors import ModelUnavailable, WriteFailed
from llmpar.integrity.checksums import seal_json, unseal_json
from llmpar.models import sums
from llmpar.paths import cache_dir, make_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Notify = Callable[[str], None]
    Make = Callable[[Path, Path], int | None]

FORMAT = 1  # of an entry; raise it when the same source would be converted to other files
MANIFEST = "llmpar.json"
_CONDEMNED = "damaged"  # a file that says what is
INDEX_LENGTH = 64  # GGUF files whose hash is remembered


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model ready to load: a directory, or a GGUF file that is read as it is.

    `source_bits` is the bits per weight of the file the weights came from.
    """

    name: str
    path: Path
    source_bits: int | None


def entries() -> list[str]:
    """List the keys of the entries, damaged ones too."""
    with contextlib.suppress(OSError):
        return sorted(path.name for path in _entry("").iterdir() if path.is_dir() and not path.name.startswith("."))
    return []


def size(key: str) -> int:
    """Return an entry's bytes on disk. Weights that it only links to are not counted."""
    return sum(path.lstat().st_size for path in _entry(key).iterdir())


def source(key: str) -> str:
    """Return what an entry was made from."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return str(json.loads((_entry(key) / MANIFEST).read_bytes())["source"])
    return "damaged"


def cached(key: str, name: str) -> ModelFiles | None:
    """Return a whole entry's files under the name `name`, or None if there is none.

    Of weights only the size is looked at: the rest is while they are used.

    Raises:
        ModelUnavailable: the entry is damaged: a file is missing or is not what was written.
        WriteFailed: others may have written it.
    """
    entry = _entry(key)
    if not entry.exists():
        return None
    make_private(entry.parent)
    try:
        manifest = json.loads((entry / MANIFEST).read_bytes())
        sizes, bits = manifest["sizes"], manifest["source_bits"]
        wrong = [file for file, size in sizes.items() if (entry / file).stat().st_size != size]
        reason = f"{wrong[0]} is truncated" if wrong else _altered(entry)
        if manifest["format"] != FORMAT:
            reason = "it was made by another version of llmpar"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        lost = isinstance(error, FileNotFoundError) and error.filename
        reason = f"{Path(lost).name} is missing" if lost else f"{MANIFEST} cannot be read"
    if reason:
        raise ModelUnavailable(
            f"cached model {key!r} is damaged: {reason}\nrun `llmpar models remove {key}`, then again"
        )
    return ModelFiles(name, entry, bits)


def made(
    key: str,
    name: str,
    source: str,
    make: Make,
    notify: Notify,
    warn: Notify | None = None,
) -> ModelFiles:
    """Return an entry, after making it if it is absent, damaged or of an older format.

    `make` gets a directory to work in and the entry's own, and returns the bits per weight of what it read. `warn` is
    told of damage, else `notify` is.

    Raises:
        ModelUnavailable: `make` raised it.
        WriteFailed: the cache cannot be written.
    """
    with contextlib.suppress(ModelUnavailable):
        if found := cached(key, name):
            return found
    with _writing(), locked(key, notify) as entry:
        try:  # whoever held the lock may have made it meanwhile
            if found := cached(key, name):
                return found
        except ModelUnavailable as damage:
            (warn or notify)(f"{str(damage).splitlines()[0]}; making it again")
        work = _workplace(entry)
        try:
            new = work / "new"
            new.mkdir()
            bits = make(work, new)
            sizes = {path.name: path.stat().st_size for path in new.iterdir()}
            manifest = {"format": FORMAT, "source": source, "source_bits": bits, "sizes": sizes}
            (new / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
            sums.write(new, key)
            for path in [*new.iterdir(), new]:  # before the rename: a power cut must not leave a name without data
                if not path.is_symlink():
                    _sync(path)
            if entry.exists():
                entry.rename(work / "old")
            new.rename(entry)
            _sync(entry.parent)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return ModelFiles(name, entry, bits)


def is_entry(directory: Path) -> bool:
    """Tell whether a directory is one of the cache's own, and nobody else's."""
    with contextlib.suppress(WriteFailed):  # there is no cache
        return directory.parent == _entry("")
    return False


def kept_sums(directory: Path) -> sums.Sums | None:
    """Return the checksums of an entry's files; None for a directory of others', who keep none.

    Raises:
        ModelUnavailable: they are damaged.
    """
    with contextlib.suppress(WriteFailed, FileNotFoundError):
        if directory.parent == _entry(""):
            try:
                return sums.read(directory)
            except ValueError as error:
                raise ModelUnavailable(f"{str(directory / sums.FILE)!r}: was altered; run again") from error
    return None


def condemn(directory: Path) -> None:
    """Look into the weights of an entry, and make a note if they are damaged: then it is made again before it is used.

    Nothing is deleted: what it was made from may be gone.

    Raises:
        ModelUnavailable: the checksums are damaged.
        WriteFailed: the cache cannot be written.
    """
    found = kept_sums(directory)
    with _writing():
        if found and (altered := found.find_altered(directory, weights=True)):
            (directory / _CONDEMNED).write_text(f"{altered[0]} was altered", encoding="utf-8")


def _altered(entry: Path) -> str:
    """Say what of an entry is not what was written, or ""; one from before there were checksums is given some."""
    with contextlib.suppress(FileNotFoundError):
        return (entry / _CONDEMNED).read_text(encoding="utf-8")
    try:
        altered = sums.read(entry).find_altered(entry, weights=False)
    except FileNotFoundError:
        with contextlib.suppress(OSError):  # somebody else's, who will do it
            sums.write(entry, entry.name)
        return ""
    except ValueError:
        return f"{sums.FILE} was altered"
    return f"{altered[0]} was altered" if altered else ""


def delete(key: str) -> int | None:
    """Delete an entry and return the bytes freed, or None if there is none.

    Raises:
        WriteFailed: it cannot be deleted.
    """
    if key not in entries():  # so that `..` is no key
        return None
    with _writing(), locked(key, lambda _: None) as entry:
        if not entry.exists():  # another process was faster
            return None
        freed = size(key)
        work = _workplace(entry)
        entry.rename(work / "old")  # first: whoever is killed in rmtree leaves no half an entry
        shutil.rmtree(work)
    return freed


def gguf_key(path: Path) -> str:
    """Name a GGUF file by its content, which is hashed once: path, size and time of it are remembered.

    Raises:
        OSError: it cannot be read.
    """
    if found := remembered_gguf_key(path):
        return found
    status, index, known = path.stat(), _gguf_index(), _known_gguf()
    stamp = [status.st_size, status.st_mtime_ns]
    hasher = hashlib.sha256(str(status.st_size).encode())
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    # A file changed within the clock's last tick may change again and keep its time.
    if time.time_ns() - status.st_mtime_ns > 2_000_000_000:
        known = dict([*known.items(), (str(path.resolve()), [*stamp, hasher.hexdigest()])][-INDEX_LENGTH:])
        with contextlib.suppress(OSError):  # it only saves time
            index.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = index.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(seal_json(known, index.name))
            fresh.replace(index)
    return f"gguf-{hasher.hexdigest()[:16]}"


def remembered_gguf_key(path: Path) -> str | None:
    """Return the name of a GGUF file by its content, None if that was not hashed yet.

    Raises:
        OSError: it cannot be looked at.
    """
    status = path.stat()
    match _known_gguf().get(str(path.resolve())):
        case [size, mtime, str(digest)] if [size, mtime] == [status.st_size, status.st_mtime_ns]:
            return f"gguf-{digest[:16]}"
    return None


def _known_gguf() -> dict[str, Any]:
    # What is damaged is made again, by reading the files.
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        index = _gguf_index()
        return dict(unseal_json(index.read_bytes(), index.name))
    return {}


def damaged_index() -> Path | None:
    """Return the index of GGUF files if it is not what was written."""
    index = _gguf_index()
    try:
        unseal_json(index.read_bytes(), index.name)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return index
    return None


def _gguf_index() -> Path:
    return cache_dir() / "gguf-index"


def directory_key(path: Path) -> str:
    """Name a directory by its path and files: weights by size and time, because they are large, the rest by content."""
    digest = hashlib.sha256(os.fsencode(path))
    for file in sorted(filter(Path.is_file, path.iterdir())):
        status = file.stat()
        large = status.st_size > 50_000_000 or file.suffix == ".safetensors"
        content = f"{status.st_size} {status.st_mtime_ns}".encode() if large else file.read_bytes()
        digest.update(os.fsencode(file.name) + hashlib.sha256(content).digest())
    return f"dir-{digest.hexdigest()[:16]}"


@contextlib.contextmanager
def locked(key: str, notify: Notify) -> Iterator[Path]:
    """Hold an entry's lock and give its path; the kernel drops it when its holder dies, so it is never stale."""
    entry = _entry(key)
    _create(entry.parent)
    with entry.with_name(f".{key}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notify(f"waiting for another process that is making {key}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        _sweep(entry.parent)
        yield entry


def _sweep(directory: Path) -> None:
    """Delete what dead processes left: a working directory whose lock is free belongs to nobody."""
    for partial in directory.glob(".*.partial"):
        with partial.with_suffix(".lock").open("w") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        remedy = "free some space" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "make it writable"
        raise WriteFailed(
            f"cannot write the model cache {cache_dir()}: {error.strerror or error}; {remedy}, or set LLMPAR_CACHE"
        ) from error


def entry_path(key: str) -> Path:
    """Return an entry's directory, whether or not it is there."""
    return _entry(key)


def _entry(key: str) -> Path:
    return cache_dir() / "models" / key


def _create(directory: Path) -> None:
    # The cache directory by itself first: `parents=True` would give it the default mode.
    cache_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
    make_private(directory)


def _workplace(entry: Path) -> Path:
    directory = entry.with_name(f".{entry.name}.partial")
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(mode=0o700)
    return directory


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
