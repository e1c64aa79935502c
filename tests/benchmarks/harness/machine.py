"""The machine that was measured, in a line."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from pathlib import Path

_NOTABLE = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx512_bf16": "BF16", "amx_tile": "AMX"}


def describe_machine() -> str:
    """Return processor, what of it may be used, memory, system and date."""
    from llmpar.engine.resources import usable_cores

    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    kinds = ", ".join(text for flag, text in _NOTABLE.items() if flag in flags)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{usable_cores()} cores of {fields.get('model name', platform.machine())} ({kinds}), {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"{datetime.now(timezone.utc):%Y-%m-%d}"
    )
