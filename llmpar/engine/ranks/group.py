"""Torch's process group, as a rank enters it and leaves it: over the loopback interface alone."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_TIMEOUT = timedelta(hours=1)  # of one collective: longer than an engine waits for a step, whose message says more
_when_aborted: list[Callable[[Callable[[], bool]], None]] = []


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
    os.environ.setdefault("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1")
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
        _when_aborted.clear()
        sys.modules["torch"].distributed.destroy_process_group()


def when_aborted(let_go: Callable[[Callable[[], bool]], None]) -> None:
    """Have `let_go` let kernels end that are none of the group's, and wait for other ranks as well.

    It is called by a thread of its own, with what tells when it has done enough: when this process has left the group.
    """
    _when_aborted.append(let_go)


def abort() -> None:
    """Let kernels end that wait for other ranks, which are gone; returns when nothing is recorded in the group."""
    from torch import distributed

    for let_go in _when_aborted:
        threading.Thread(target=let_go, args=[lambda: not is_joined()], name="llmpar-let-go", daemon=True).start()
    if is_joined() and distributed.get_backend() == "nccl" and (group := distributed.group.WORLD):
        group.abort()


def is_joined() -> bool:
    """Tell whether this process is in the process group."""
    return bool((torch := sys.modules.get("torch")) and torch.distributed.is_initialized())


def agree(is_so: bool, device: torch.device) -> bool:
    """Tell whether something is so on all ranks, which ask at the same place."""
    import torch
    from torch import distributed

    found = torch.tensor([is_so], dtype=torch.int32, device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MIN)
    return bool(found)


def _loopback() -> str:
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")


def num_collectives() -> int:
    """Return in how many collectives this process has taken part."""
    if not is_joined():
        return 0
    groups = sys.modules["torch"].distributed.distributed_c10d._world.pg_map  # noqa: SLF001 (torch tells these numbers in no other way)
    return sum(group._get_sequence_number_for_group() for group in groups)  # noqa: SLF001
