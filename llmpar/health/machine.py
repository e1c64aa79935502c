"""The machine: cores, instructions, memory, GPUs, and whether llmpar has been tried on its kind."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator
from pathlib import Path

from llmpar.engine.resources import available_memory, usable_cores
from llmpar.errors import LlmparError
from llmpar.health.finding import Finding, size
from llmpar.health.platforms import find_gpu, find_system
from llmpar.models.devices import capabilities_of, find_devices, kind_of

_TOPIC = "machine"
_SETS = {"AMX": "AMX", "AVX512": "AVX-512", "AVX2": "AVX2", "PORTABLE": "none that llmpar uses: portable code"}
_GROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def look() -> Iterator[Finding]:
    """Yield what the machine has."""
    platform_, cores, *memory = brief()
    yield from (platform_, cores)
    yield Finding(_TOPIC, "instructions", _instructions())
    yield from memory
    yield from _gpus()


def brief() -> Iterator[Finding]:
    """Yield what can be told of the machine without a library: its kind, its cores and its memory."""
    system, processor = platform.system(), platform.machine()
    known = find_system(system, processor, platform.release())
    yield Finding(_TOPIC, "platform", f"{system} {processor}, Python {platform.python_version()}: {known.told}")
    total = os.cpu_count() or 1
    yield Finding(_TOPIC, "cores", f"{usable_cores()} of {total} may be used (affinity and control group)")
    yield from _memory()


def _instructions() -> str:
    from llmpar.engine.cpu import instructions

    return next(words for name, words in _SETS.items() if getattr(instructions, name) is instructions.HERE)


def _memory() -> Iterator[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [f"control group {size(limit)}" for limit in _group_limits(total)]
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    limits += [] if address_space == resource.RLIM_INFINITY else [f"address space {size(address_space)}"]
    told = f"; limits: {', '.join(limits)}" if limits else ""
    yield Finding(_TOPIC, "memory", f"{size(available_memory())} free of {size(total)}{told}")


def _group_limits(total: int) -> Iterator[int]:
    for file in _GROUP_LIMITS:
        try:
            limit = int(file.read_text("ascii"))
        except (OSError, ValueError):  # there is no such group, or it has no limit
            continue
        if limit < total:
            yield limit


def _gpus() -> Iterator[Finding]:
    try:
        devices = find_devices("auto")
    except LlmparError as error:
        yield Finding(_TOPIC, "GPUs", str(error), is_fault=True)
        return
    if devices == ("cpu",):
        yield Finding(_TOPIC, "GPUs", "none that torch sees")
        return
    for device, capability in zip(devices, capabilities_of(devices), strict=True):
        known = find_gpu(kind_of(device), capability)
        has = "" if capability is None else f", compute capability {capability[0]}.{capability[1]}"
        yield Finding(_TOPIC, "GPU", f"{device}{has}, {known.name}: {known.told}")
