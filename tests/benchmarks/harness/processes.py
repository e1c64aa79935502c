"""What processes used, as Linux counts it in /proc: memory at its peak, and seconds of processor time."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in (_PROC / str(parent) / "task").iterdir():
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def peak_memory(pid: int) -> int:
    """Return the bytes that a process and its descendants held at their peaks, mapped files included."""
    total = 0
    for member in family(pid):
        with suppress(OSError):
            status = (_PROC / str(member) / "status").read_text(encoding="ascii", errors="replace")
            total += sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    return total


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process and its descendants have used."""
    ticks = 0
    for member in family(pid):
        with suppress(OSError):
            fields = (_PROC / str(member) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
            ticks += sum(map(int, fields.split()[11:15]))  # its own, and of its children that have ended
    return ticks / _TICKS


def busy_seconds() -> float:
    """Return the processor time that everything on this machine has used, and other machines on its cores."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, (_PROC / "stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS
