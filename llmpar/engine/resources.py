"""What this process may use of the machine: its affinity and its control group count, not the machine's size.

And how the machine says, through whichever library, that it has no more memory, or is gone.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any


def usable_cores() -> int:
    """Return the number of cores that this process may keep busy, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(affinity, int(quota) if quota else affinity))


def more_than_cores(threads: int) -> str:
    """Return what so many threads mean on this machine, where they are more than its cores; else ""."""
    cores = usable_cores()
    if threads <= cores:
        return ""
    which = "1 core" if cores == 1 else f"{cores} cores"
    return f"only {which} may be used here; more threads than cores answer no faster, and take more memory"


def _cgroup_quota() -> float | None:
    """Return the cores that the control group grants, None without a limit."""
    for quota, period in (
        (Path("/sys/fs/cgroup/cpu.max"), None),
        (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
    ):
        try:
            words = quota.read_text(encoding="ascii").split()
            if period:
                words += period.read_text(encoding="ascii").split()
            if words[0] not in ("max", "-1"):
                return int(words[0]) / int(words[1])
        except (OSError, ValueError, IndexError):  # no such kind of control group here
            continue
    return None


def available_memory() -> int:
    """Return how many bytes this process may still take, by the machine and by its control group."""
    free = [int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES")) // 2]
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = [1024 * int(line.split()[1])]
    except (OSError, ValueError):  # not Linux
        pass
    for limit, usage in (
        (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
        (
            Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
            Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        ),
    ):
        try:  # "max" is no number
            free.append(max(0, int(limit.read_text(encoding="ascii")) - int(usage.read_text(encoding="ascii"))))
        except (OSError, ValueError):
            continue
    return min(free)


def free_memory(device: Any) -> int:
    """Return how many bytes of a torch device's own memory are free; of a device without its own, what is available."""
    if device.type != "cuda":
        return available_memory()
    import torch

    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


def give_memory_back(device: Any) -> None:
    """Let others have what torch keeps of a device's memory for later."""
    if device.type == "cuda":
        import torch

        with contextlib.suppress(RuntimeError):  # it turns to all devices, and another may be lost
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether there was no memory, of the machine or a device: then less of the same may well succeed."""
    if not isinstance(error, RuntimeError):  # which torch's are, of every kind of device
        return isinstance(error, MemoryError)
    text = str(error).lower()
    return any(sign in text for sign in ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed"))


class DeviceLost(RuntimeError):
    """What computes is gone, or will not come out of what it is doing."""


def is_device_lost(error: BaseException) -> bool:
    """Tell whether a device will compute nothing any more: after most of its errors, CUDA refuses every call."""
    if isinstance(error, DeviceLost):
        return True
    text = str(error)
    signs = ("CUDA error", "HIP error", "device-side assert", "illegal memory access", "unspecified launch failure")
    return not is_out_of_memory(error) and any(sign in text for sign in signs)
