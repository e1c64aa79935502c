"""What this process may use of the machine: its affinity and its control group count, not the machine's size."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cores() -> int:
    """Return the number of cores that this process may keep busy, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(affinity, int(quota) if quota else affinity))


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
