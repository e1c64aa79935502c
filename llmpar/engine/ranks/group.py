"""Torch's process group, as a rank enters it and leaves it: over the loopback interface alone."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

_TIMEOUT = timedelta(hours=1)  # of one collective: longer than an engine waits for a step, whose message says more


@dataclass(frozen=True, slots=True)
class Place:
    """Which of `size` ranks a process is, and the directory where they find each other."""

    rank: int
    size: int
    meeting: str


def join(place: Place, device: str) -> None:
    """Make this process a rank of torch's process group; returns when all have come.

    Args:
        place: this process's.
        device: "cpu", or this rank's own "cuda:N".
    """
    import torch
    from torch import distributed

    for library in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", _loopback())
    # What is recorded on one rank may be given out at once on another, so nothing may be agreed on while it is
    # recorded. And no multicast: it adds in an order of its own, takes a while to set up, and often is not to be had.
    os.environ.setdefault("NCCL_GRAPH_REGISTER", "0")
    os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    on_cpu = device == "cpu"
    if not on_cpu:
        torch.cuda.set_device(device)  # of this thread
    distributed.init_process_group(
        "gloo" if on_cpu else "nccl",
        # A file that nobody else may read, where a server would listen on every interface.
        store=distributed.FileStore(str(Path(place.meeting) / "store"), place.size),  # type: ignore[attr-defined]
        rank=place.rank,
        world_size=place.size,
        timeout=_TIMEOUT,
        device_id=None if on_cpu else torch.device(device),
    )


def leave() -> None:
    """Take this process out of the process group, if it is in one."""
    if is_joined():
        sys.modules["torch"].distributed.destroy_process_group()


def abort() -> None:
    """Let kernels end that wait for other ranks, which are gone; returns when nothing is recorded in the group."""
    from torch import distributed

    if is_joined() and distributed.get_backend() == "nccl" and (group := distributed.group.WORLD):
        group.abort()


def is_joined() -> bool:
    """Tell whether this process is in the process group."""
    return bool((torch := sys.modules.get("torch")) and torch.distributed.is_initialized())


def _loopback() -> str:
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")


def num_collectives() -> int:
    """Return in how many collectives this process has taken part."""
    if not is_joined():
        return 0
    groups = sys.modules["torch"].distributed.distributed_c10d._world.pg_map  # noqa: SLF001 (torch tells these numbers in no other way)
    return sum(group._get_sequence_number_for_group() for group in groups)  # noqa: SLF001
