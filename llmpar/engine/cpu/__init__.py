"""The engine's own arithmetic for CPUs: vector code that Numba compiles, and decoders that run on it."""

from __future__ import annotations

import os
import re
import sys

# What is the user's to choose, if it is what Numba and LLVM take: they end the process over some of what they do not.
_KEPT = {
    "NUMBA_CACHE_DIR": ".+",
    "NUMBA_CPU_NAME": r"[\w.-]+",
    "NUMBA_CPU_FEATURES": r"([+-][\w.-]+(,[+-][\w.-]+)*)?",
    "NUMBA_NUM_THREADS": "0*[1-9][0-9]{0,3}",
}


def _settle() -> None:
    """Take away, before Numba reads them, the variables by which it would not compile, or compile something else."""
    if "numba" in sys.modules:  # somebody else's program has it, and has set it up
        return
    for name in [name for name in os.environ if name.startswith("NUMBA_")]:
        if name not in _KEPT or not re.fullmatch(_KEPT[name], os.environ[name]):
            del os.environ[name]
    os.environ["NUMBA_DISABLE_JIT"] = "0"  # the directory may have a .numba_config.yaml that says otherwise
    # Where colorama is installed, Numba would colour even errors that it handles itself, with stdout and stderr
    # exchanged meanwhile, and with a control sequence to stdout when the process ends.
    os.environ["NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING"] = "1"


_settle()
