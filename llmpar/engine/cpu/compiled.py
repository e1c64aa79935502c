"""How kernels are compiled, and where the result is kept.

Numba takes kept code for current as long as the file that has the function is the same, though it may have called
another that changed. So each state of all these files has a directory of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core.caching import IndexDataCacheFile

from llmpar.engine.cpu import amx
from llmpar.errors import ModelUnavailable, WriteFailed
from llmpar.paths import cache_dir, make_private

if config.DISABLE_JIT:  # by the program that we are part of, which imported Numba before us
    raise ModelUnavailable("Numba must not compile here (NUMBA_DISABLE_JIT), and no kernel runs otherwise; unset it")
_OPTIONS = {"nogil": True, "fastmath": True, "error_model": "numpy"}


def _source_digest() -> str:
    # Numba tells processors apart by itself, but not systems that grant tiles from those that do not.
    digest = hashlib.sha256(bytes([amx.HAS_TILES]))
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _find_place() -> str | None:
    """Return a directory for kept code that nobody else can write to, as loading it runs it; None without one."""
    try:
        place = Path(config.CACHE_DIR or cache_dir()) / f"kernels-{_source_digest()}"
        make_private(place)
    except (WriteFailed, OSError):
        return None
    return str(place)


_place = _find_place()
if _place:
    config.CACHE_DIR = _place


class _KeptCode(IndexDataCacheFile):  # type: ignore[misc]
    """Numba's files of one function, of which no failure matters: what they lack is compiled again."""

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
            return super()._load_index()  # type: ignore[no-any-return]
        except Exception:
            return {}


def inlined(function: Callable[..., Any]) -> Any:
    """Make a function part of every kernel that calls it.

    Were it compiled by itself, it would be linked to whichever copy the process has: another one, rounding otherwise,
    in the process that compiles than in those that load.
    """
    return njit(**_OPTIONS, inline="always")(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, and keep the result for the next process."""
    if _place is None:
        return njit(**_OPTIONS)(function)
    try:
        compiled = njit(**_OPTIONS, cache=True)(function)
    except RuntimeError:  # there is nowhere to keep it: compile in every run
        return njit(**_OPTIONS)(function)
    compiled._cache._cache_file.__class__ = _KeptCode  # noqa: SLF001 (Numba lets nobody choose)
    return compiled
