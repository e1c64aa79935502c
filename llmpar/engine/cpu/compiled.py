"""How kernels are compiled, and where the result is kept.

Numba takes kept code for current as long as the file that has the function is the same, though it may have called
another that changed. So each state of all these files has a directory of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import config, njit

from llmpar.paths import cache_dir

_OPTIONS = {"nogil": True, "fastmath": True, "error_model": "numpy"}


def _source_digest() -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


config.CACHE_DIR = str(Path(config.CACHE_DIR or cache_dir()) / f"kernels-{_source_digest()}")


def inlined(function: Callable[..., Any]) -> Any:
    """Make a function part of every kernel that calls it.

    Were it compiled by itself, it would be linked to whichever copy the process has: another one, rounding otherwise,
    in the process that compiles than in those that load.
    """
    return njit(**_OPTIONS, inline="always")(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, and keep the result for the next process."""
    try:
        return njit(**_OPTIONS, cache=True)(function)
    except RuntimeError:  # there is nowhere to keep it: compile in every run
        return njit(**_OPTIONS)(function)
