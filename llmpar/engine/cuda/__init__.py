"""The decoder on a GPU: weights in device memory, Triton kernels, and steps recorded as CUDA graphs."""

from __future__ import annotations

import contextlib
import os

from llmpar.errors import WriteFailed
from llmpar.paths import cache_dir

if not os.environ.keys() & {"TRITON_CACHE_DIR", "TRITON_HOME"}:
    with contextlib.suppress(WriteFailed):  # there is no such directory, and Triton has a place of its own
        # Beside all else that is compiled: who keeps llmpar's cache for the next machine keeps the kernels too.
        os.environ["TRITON_CACHE_DIR"] = str(cache_dir() / "triton")
