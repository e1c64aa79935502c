"""Two GPUs that add through memory they share, in a process of its own: `python -m support.device_ranks bf16`.

It says "alike" where that gives what NCCL gives, recorded or not, and "free" where a rank that is left alone comes out.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from functools import partial

import torch
from torch import distributed

from llmpar.engine.ranks.exchange import Exchange, open_exchange
from llmpar.engine.ranks.group import Place, join
from llmpar.engine.ranks.ranks import Ranks

WIDTH = 4096
ROWS = (1, 2, 7, 64, 200)
_opened: list[Exchange] = []


def compare(dtype: torch.dtype, place: Place) -> Place:
    """Add parts of several sizes in both ways, thrice as they come and thrice recorded."""
    device = torch.device("cuda", place.rank)
    join(place, str(device))
    exchange, said = open_exchange(place.rank, place.size, device, dtype)
    assert exchange, said
    _opened.append(exchange)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    draw = torch.Generator(device).manual_seed(place.rank)
    with torch.cuda.stream(stream):
        for rows in ROWS:
            part = torch.empty(rows, WIDTH, dtype=dtype, device=device)
            assert exchange.takes(part)
            graph = torch.cuda.CUDAGraph()
            for turn in range(6):
                part.normal_(generator=draw)
                wanted = part.clone()
                distributed.all_reduce(wanted)
                if turn == 3:
                    kept = part.clone()
                    stream.synchronize()
                    graph.capture_begin(capture_error_mode="thread_local")
                    for _ in range(2):  # one after the other, from the same memory
                        exchange.add(part)
                    graph.capture_end()
                    part.copy_(kept)
                if turn < 3:
                    exchange.add(part)
                else:
                    distributed.all_reduce(wanted)
                    graph.replay()
                assert torch.equal(part, wanted), (rows, turn)
        assert not exchange.takes(part.new_empty(1 << 22))
        stream.synchronize()
    return place


def wait_alone(place: Place) -> None:
    """Begin a sum that no other takes part in."""
    part = torch.zeros(8, WIDTH, dtype=_opened[0]._buffer.dtype, device="cuda:0")
    _opened[0].add(part)
    torch.cuda.synchronize()


def do_nothing(place: Place) -> Place:
    return place


def main() -> None:
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[sys.argv[1]]
    ranks = Ranks(2)
    ranks.call(partial(compare, dtype, ranks.place), partial(compare, dtype), 100)
    print("alike", flush=True)
    threading.Timer(1, os.kill, (ranks.process_ids[0], signal.SIGKILL)).start()
    try:
        ranks.call(partial(wait_alone, ranks.place), do_nothing, 60)
    except Exception as error:
        print(error, flush=True)
    begun = time.monotonic()
    ranks.close()
    assert ranks._thread
    ranks._thread.join(20)
    print("free" if not ranks._thread.is_alive() else "held", f"after {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    from support import device_ranks  # other ranks find functions by the name of their module

    device_ranks.main()
