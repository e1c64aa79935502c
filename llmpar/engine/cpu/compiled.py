"""How kernels are compiled, and where the result is kept.

Numba takes kept code for current as long as the file that has the function is the same, though it may have called
another that changed. So each state of all these files has a directory of its own, wherever they lie and whenever they
were written: a copy that a cluster unpacks anew for each session does not compile anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core.caching import IndexDataCacheFile

from llmpar.engine.cpu import amx
from llmpar.engine.finite import NO_TOKEN
from llmpar.engine.pages import PAGE
from llmpar.errors import ModelUnavailable, WriteFailed
from llmpar.integrity.checksums import seal, unseal
from llmpar.paths import cache_dir, make_private

if config.DISABLE_JIT:  # by the program that we are part of, which imported Numba before us
    raise ModelUnavailable("Numba must not compile here (NUMBA_DISABLE_JIT), and no kernel runs otherwise; unset it")
# Without fastmath, which lets LLVM order and contract sums as it likes: otherwise on each processor, and otherwise in
# two kernels of one, where an answer would depend on how many are computed beside it.
OPTIONS = {"nogil": True, "error_model": "numpy"}
_LONG = 30 * 86_400  # seconds


def source_digest() -> str:
    """Return what tells this version of the kernels, and what they are compiled for, from any other."""
    # Numba tells processors apart by itself, but not systems that grant tiles from those that do not. The numbers are
    # those that kernels have from files elsewhere.
    digest = hashlib.sha256(repr((amx.HAS_TILES, PAGE, NO_TOKEN)).encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _find_place() -> str | None:
    """Return a directory for kept code that nobody else can write to, as loading it runs it; None without one."""
    try:
        place = Path(config.CACHE_DIR or cache_dir()) / f"kernels-{source_digest()}"
        make_private(place)
        os.utime(place)
    except (WriteFailed, OSError):
        return None
    _sweep(place)
    return str(place)


def _sweep(place: Path) -> None:
    """Delete what other versions have kept, and nothing has used for long; whoever needs it compiles it again."""
    with contextlib.suppress(OSError):
        for other in place.parent.glob("kernels-*"):
            if other != place and time.time() - other.stat().st_mtime > _LONG:
                shutil.rmtree(other, ignore_errors=True)


_place = _find_place()
if _place:
    config.CACHE_DIR = _place


def discard_damaged() -> list[Path]:
    """Delete the kept code that is not what was written, and return where it was; it is compiled when it is wanted."""
    found = list(find_damaged())
    for file in found:
        file.unlink(missing_ok=True)
    return found


def find_damaged() -> Iterator[Path]:
    """Yield the files of kept code that are not what was written."""
    for file in sorted(Path(_place).rglob("*.nb[ci]")) if _place else ():
        try:
            _unsealed(file)
        except ValueError:
            yield file
        except OSError:  # another process may have deleted it
            continue


def _unsealed(file: Path) -> bytes:
    return unseal(file.read_bytes(), _sealed_name(file))


def _sealed_name(file: Path) -> str:
    """Return what tells a file of kept code from any other: its version, function, and number for a processor."""
    return "/".join(file.parts[-2:])


class _KeptCode(IndexDataCacheFile):  # type: ignore[misc]
    """Numba's files of one function, each under a checksum, as damaged code would take the process with it.

    No failure matters: what they lack is compiled again.
    """

    def load(self, key: object) -> Any:
        """Return the function's code, None if it is not there or damaged."""
        try:
            return super().load(key)
        except Exception:  # whatever unpickling makes of damage
            return None

    def save(self, key: object, data: object) -> None:
        """Keep the function's code, if the disk has room."""
        with contextlib.suppress(OSError):
            super().save(key, data)

    def _load_index(self) -> dict[object, str]:
        try:
            version, stamp, overloads = pickle.loads(_unsealed(Path(self._index_path)))  # noqa: S301 (it is our own)
        except Exception:
            return {}
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: dict[object, str]) -> None:
        self._write(self._index_path, (self._version, self._source_stamp, overloads))

    def _load_data(self, name: str) -> Any:
        return pickle.loads(_unsealed(Path(self._data_path(name))))  # noqa: S301 (it is our own)

    def _save_data(self, name: str, data: object) -> None:
        self._write(self._data_path(name), data)

    def _write(self, path: str, value: object) -> None:
        with self._open_for_write(path) as file:
            file.write(seal(self._dump(value), _sealed_name(Path(path))))


def inlined(function: Callable[..., Any]) -> Any:
    """Make a function part of every kernel that calls it.

    Were it compiled by itself, it would be linked to whichever copy the process has: another one, rounding otherwise,
    in the process that compiles than in those that load.
    """
    return njit(**OPTIONS, inline="always")(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, and keep the result for the next process."""
    if _place is None:
        return njit(**OPTIONS)(function)
    try:
        compiled = njit(**OPTIONS, cache=True)(function)
    except RuntimeError:  # there is nowhere to keep it: compile in every run
        return njit(**OPTIONS)(function)
    kept = compiled._cache  # noqa: SLF001 (Numba lets nobody choose)
    # Its own files are in a directory for the place of the source, and good for the time at which that was written.
    kept._cache_file = _KeptCode(  # noqa: SLF001
        cache_path=str(config.CACHE_DIR),
        filename_base=kept._impl.filename_base,  # noqa: SLF001
        source_stamp=None,
    )
    return compiled
