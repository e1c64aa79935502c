"""Small sums over memory that ranks have of each other: one kernel, where NCCL takes longer to begin than to add.

It is torch's symmetric memory and its own kernel: each rank puts its part where all can read it, waits for the others,
and adds all parts in the order of the ranks. So all find the same, for any number of rows. NVLink's multicast has no
part in it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed

from llmpar.engine.ranks.group import agree, when_aborted

READ = 1 << 21
"""Bytes that a rank reads at most of all others' memory for one sum. By reasoning: up to there, beginning takes most of
the time; beyond, NCCL moves fewer bytes where there are more than two ranks, and with more of the device."""
_EVEN = 16  # bytes that are read at once; sums of other sizes are NCCL's
_TRIED = 4096  # numbers of a first sum, whose result is known
_LIMIT = 10.0  # seconds that it may take
_LONGEST = 80  # characters of a directory's name: torch copies it, and a little more, into 108 bytes, and does not look
_met: list[int] = []  # sizes of groups in which memory was shared


class Exchange:
    """Adds small parts of all ranks, on this rank's device.

    Args:
        buffer: (n,) this rank's memory that all others have as well.
        pads: what the kernels of each rank wait at, (blocks, ranks) int32, by rank. Rank r puts 1 in column r of
            another's, when it may go on, as soon as there is 0; that one makes 0 of it again.
        rank: which one this is.
        group: the name of torch's process group.
    """

    def __init__(self, buffer: torch.Tensor, pads: list[torch.Tensor], rank: int, group: str) -> None:
        self._buffer = buffer
        self._pads = pads
        self._rank = rank
        self._group = group
        self._stream: Any = None
        if buffer.is_cuda:
            self._stream = torch.cuda.Stream(buffer.device)  # type: ignore[no-untyped-call]
            # While a kernel waits, no other can be loaded for the first time; this one will be needed just then.
            with torch.cuda.stream(self._stream):
                torch.zeros_like(pads[rank])[:, 0] = 1
            self._stream.synchronize()

    def takes(self, part: torch.Tensor) -> bool:
        """Tell whether it adds parts (N, H) of this size and type; all ranks say the same."""
        size = part.numel()
        return part.dtype == self._buffer.dtype and size <= len(self._buffer) and part.nbytes % _EVEN == 0

    def add(self, part: torch.Tensor) -> torch.Tensor:
        """Return the sum (N, H) of all ranks' parts, which this rank's own becomes."""
        shared = self._buffer[: part.numel()].view(part.shape)
        torch.ops.symm_mem.one_shot_all_reduce_copy_out(shared, part, "sum", self._group, part)
        return part

    def let_go(self) -> None:
        """Let this rank's kernels go on that wait for others, or for what they may send them; none is right after that.

        Each kernel waits twice, so it takes many calls until all that were given out have ended.
        """
        for rank, pad in enumerate(self._pads):
            if rank == self._rank:
                continue
            self._pads[self._rank][:, rank] = 1
            pad[:, self._rank] = 0

    def let_all_go(self, is_over: Callable[[], bool]) -> None:
        """Let kernels go until `is_over` says that this is enough."""
        with torch.cuda.stream(self._stream) if self._stream else contextlib.nullcontext():
            while not is_over():
                self.let_go()
                if self._stream:
                    self._stream.synchronize()


def open_exchange(
    rank: int, size: int, device: torch.device, dtype: torch.dtype, read: int = READ
) -> tuple[Exchange | None, str]:
    """Return what adds small parts of a type, and in words how ranks add; all of a process group do so at once.

    There is none where the devices cannot read each other's memory, and the second time in a process: torch counts
    what it meets in each process, so one that has met others before would wait for new ones for ever.

    Args:
        rank: which one this is.
        size: how many there are.
        device: this rank's; the others' have the numbers of their ranks.
        dtype: of what is added.
        read: bytes of others that a rank reads at most.
    """
    if device.type != "cuda":
        return None, _all_through_group("there is no GPU")
    reason = _hindrance(rank, size, device)
    buffer: Any = None
    if reason is None:
        try:
            symmetric: Any = distributed._symmetric_memory  # noqa: SLF001
            count = read // (size - 1) // dtype.itemsize
            # Not `empty`, whose memory may be a part of a pool, which older kernels do not find.
            buffer = symmetric._SymmetricMemory.empty_strided_p2p((count,), (1,), dtype, device)  # noqa: SLF001
        except RuntimeError as error:
            reason = _first_line(error)
    if not agree(reason is None, device):
        return None, _all_through_group(reason)
    _met.append(size)
    exchange: Exchange | None = None
    group = distributed.group.WORLD.group_name  # type: ignore[union-attr]
    try:
        handle = distributed._symmetric_memory.rendezvous(buffer, group)  # noqa: SLF001
        exchange = Exchange(buffer, [_pad(handle, each, size) for each in range(size)], rank, group)
    except (RuntimeError, TypeError) as error:  # other versions of torch may want other arguments
        reason = _first_line(error)
    if agree(exchange is not None, device):
        assert exchange
        reason = _fault(exchange, rank, size, dtype)
        if agree(reason is None, device):
            when_aborted(exchange.let_all_go)
            return exchange, f"up to {buffer.nbytes // 1024:,} KB at once goes through memory that they share"
    return None, _all_through_group(reason)


def _all_through_group(reason: str | None) -> str:
    return f"all goes through the process group ({reason or 'another device cannot share memory'})"


def _hindrance(rank: int, size: int, device: torch.device) -> str | None:
    """Return why this rank cannot share memory, as far as that is known before it is tried."""
    if _met:
        return "this process has shared memory with other ranks before"
    try:
        import torch.distributed._symmetric_memory

        _ = torch.ops.symm_mem.one_shot_all_reduce_copy_out
    except (ImportError, AttributeError):
        return "this torch is too old"
    if any(len(os.environ.get(name, "")) > _LONGEST for name in ("TMPDIR", "TMP", "TEMP", "TEMPDIR")):
        return "the directory for temporary files has too long a name"
    others = (each for each in range(size) if each != rank)
    if not all(torch.cuda.can_device_access_peer(device, each) for each in others):
        return "its devices cannot read each other's memory"
    return None


def _pad(handle: Any, rank: int, size: int) -> torch.Tensor:
    """Return what a rank's kernels wait at: (blocks, size) int32."""
    whole: torch.Tensor = handle.get_signal_pad(rank, dtype=torch.int32)
    return whole[: len(whole) // size * size].view(-1, size)


def _fault(exchange: Exchange, rank: int, size: int, dtype: torch.dtype) -> str | None:
    """Return what is wrong with the sum of parts that each rank knows; None if nothing is."""
    device = exchange._buffer.device  # noqa: SLF001
    numbers = torch.arange(min(_TRIED, len(exchange._buffer)), dtype=torch.float32, device=device) % 100  # noqa: SLF001
    part = (numbers * (rank + 1)).to(dtype)
    wanted = numbers.to(dtype)
    for other in range(1, size):
        wanted = wanted + (numbers * (other + 1)).to(dtype)
    ended: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    try:
        exchange.add(part)
        ended.record()
    except RuntimeError as error:  # whatever a driver cannot do
        return _first_line(error)
    until = time.monotonic() + _LIMIT
    while not ended.query():
        if time.monotonic() > until:
            exchange.let_all_go(ended.query)
            return f"a first sum was not there after {_LIMIT:g} s"
        time.sleep(0.001)
    return None if torch.equal(part, wanted) else "a first sum was wrong"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
