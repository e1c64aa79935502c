"""The sums part: how long a sum over all GPUs takes in a recorded step, by its size and by how it is made."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.table import markdown_table

from device.reports import reporting, reports_of

if TYPE_CHECKING:
    from llmpar.engine.ranks.group import Place

HEADER = ["GPUs", "KB", "all-reduce µs", "in order µs", "all-reduce is"]
_WIDTH = 4096
_SUMS = 40  # of one recording, one after the other as in a step
_REPLAYS = 15  # of which the fastest counts
_LARGEST = 16 << 20


@dataclass(frozen=True)
class Sum:
    """What a sum of so many bytes took, in microseconds."""

    size: int
    num_bytes: int
    all_reduce: float
    in_order: float

    def row(self) -> list[str]:
        times = (f"{time:,.1f}" for time in (self.all_reduce, self.in_order))
        ratio = f"{self.in_order / self.all_reduce:.2f} × as fast"
        return [str(self.size), f"{self.num_bytes // 1024:,}", *times, ratio]


def run_sums(size: int, time_limit: float, tell: Callable[[str], None]) -> list[Sum]:
    """Time sums over the first GPUs in a process of its own."""
    return [Sum(size=size, **found) for found in reports_of(["device.sums", str(size)], time_limit, tell)]


def report_sums(found: list[Sum]) -> str:
    """Return the table, and what its columns are."""
    return (
        f"{markdown_table(HEADER, [one.row() for one in found])}\n\nbf16 in a CUDA graph of {_SUMS} sums, the fastest "
        f"of {_REPLAYS} replays on rank 0. All-reduce is NCCL's; in order: each adds a part in the order of the ranks, "
        "which llmpar does with more than two."
    )


def measure(size: int, report: Callable[..., None]) -> None:
    from device import sums  # whose functions other ranks find by its name
    from llmpar.engine.ranks.ranks import Ranks

    ranks = Ranks(size)
    try:
        for found in ranks.call(partial(sums.times, ranks.place), sums.repeat, 300):
            report(**found)
    finally:
        ranks.close()


def repeat(place: Place) -> Place:
    times(place)
    return place


def times(place: Place) -> list[dict[str, Any]]:
    """Time all sizes on one of the ranks, which all do so at once."""
    import torch
    from torch import distributed

    from llmpar.engine.cuda.share import Share
    from llmpar.engine.ranks.group import join

    device = torch.device("cuda", place.rank)
    join(place, str(device))
    share = Share(place.rank, place.size, 0)
    found = []
    with torch.inference_mode(), torch.cuda.stream(torch.cuda.Stream(device)):  # type: ignore[no-untyped-call]
        for exponent in range(13, _LARGEST.bit_length()):
            rows = max(1, (1 << exponent) // (2 * _WIDTH))
            part = torch.zeros(rows, _WIDTH, dtype=torch.bfloat16, device=device)
            timed = partial(_recorded, part)
            found.append(
                {
                    "num_bytes": part.nbytes,
                    "all_reduce": timed(distributed.all_reduce),
                    "in_order": timed(share._add_in_order),
                }
            )
    return found


def _recorded(part: Any, add: Callable[[Any], object]) -> float:
    """Return how many microseconds one of many recorded sums takes at least."""
    import torch

    stream = torch.cuda.current_stream()
    for _ in range(3):
        add(part)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    graph.capture_begin(capture_error_mode="thread_local")
    for _ in range(_SUMS):
        add(part)
    graph.capture_end()
    taken = []
    for _ in range(_REPLAYS):
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()  # type: ignore[no-untyped-call]
        graph.replay()
        ended.record()  # type: ignore[no-untyped-call]
        ended.synchronize()  # type: ignore[no-untyped-call]
        taken.append(begun.elapsed_time(ended))  # type: ignore[no-untyped-call]
    return 1000 * min(taken) / _SUMS


if __name__ == "__main__":
    measure(int(sys.argv[1]), reporting())
