"""What tests let the other ranks do: functions of what the last one returned, in a module that is soon imported."""

from __future__ import annotations

import os
import signal
import threading
from itertools import count
from pathlib import Path

from llmpar.engine.model import EngineModel
from llmpar.engine.precision_names import KVCacheName, PrecisionName
from llmpar.engine.ranks.group import Place, join
from llmpar.engine.ranks.runner import Mirrors
from llmpar.engine.request import Sequence
from llmpar.models.load import LoadedModel
from support.fakes import FakeRunner, fake_answer


def fail(error: Exception, state: object) -> object:
    raise error


def kill(state: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(state: object) -> None:
    threading.Event().wait()


def size(place: Place) -> int:
    return place.size


def expect(expected: object, state: object) -> object:
    assert state == expected, state
    return state


class CheckingRunner(FakeRunner):
    """A FakeRunner that looks at what it is given; its own answers go nowhere, as it runs on another rank.

    Args:
        memory_at: the steps in which memory runs out.
    """

    def __init__(self, num_slots: int, memory_at: tuple[int, ...] = ()) -> None:
        super().__init__(num_slots)
        self._memory_at = memory_at

    def _step(self, sequences: list[Sequence]) -> None:
        self._steps += 1
        if self._steps in self._memory_at:
            raise MemoryError
        for sequence in self._live:
            assert sequence.output_ids == fake_answer(sequence.request.prompt_ids)[: len(sequence.output_ids)]
        for sequence in sequences:
            sequence.append(-1, frozenset({-1}))


def mirror(num_slots: int, memory_at: tuple[int, ...], place: Place) -> Mirrors:
    return Mirrors(CheckingRunner(num_slots, memory_at))


def count_live(expected: int, mirrors: Mirrors) -> Mirrors:
    assert isinstance(mirrors.runner, CheckingRunner)
    assert len(mirrors.runner._live) == expected
    return mirrors


def run_short(at: int, state: object) -> object:
    """Let memory run out when room for keys and values is asked for the so manyeth time."""
    from llmpar.engine.generic.kv_cache import KVCache

    asked, reserve = count(1), KVCache.reserve

    def fail_once(cache: KVCache, num_columns: int) -> None:
        if next(asked) == at:
            raise MemoryError
        reserve(cache, num_columns)

    KVCache.reserve = fail_once  # type: ignore[method-assign]
    return state


def meet(place: Place) -> Place:
    join(place, "cpu")
    return place


def reduce(wait: bool, place: Place) -> Place:
    """Add up with the other ranks, or begin to and go on."""
    import torch
    from torch import distributed

    work = distributed.all_reduce(torch.ones(1), async_op=True)
    if wait:
        work.wait()
    return place


def add_in_order(place: Place) -> Place:
    """Add parts of rows with the other ranks, all of them and fewer, and expect what adding one after another gives."""
    import torch

    from llmpar.engine.cuda.share import Share

    join(place, "cpu")
    share = Share(place.rank, place.size, 0)
    for dtype in (torch.float32, torch.bfloat16):
        draw = torch.Generator().manual_seed(7)
        first, *others = torch.randn(place.size, 9, 33, generator=draw).to(dtype)  # 33 does not divide
        wanted = first
        for other in others:
            wanted = wanted + other
        for rows in (9, 8, 1):
            part = (first, *others)[place.rank][:rows].clone()
            assert torch.equal(share.add(part), wanted[:rows]), (place.rank, dtype, rows)
    return place


def load_share(path: Path, precision: PrecisionName, kv_cache: KVCacheName, place: Place) -> LoadedModel:
    """Join the others, and load a share of our own decoder for the CPU, where kernels are interpreted."""
    from llmpar.models.divided import load_divided

    join(place, "cpu")
    loaded = load_divided(path, "cpu", precision, place.rank, place.size, kv_cache)
    assert loaded
    return loaded


def hold_share(path: Path, precision: PrecisionName, kv_cache: KVCacheName, place: Place) -> EngineModel:
    """Do so on another rank."""
    return load_share(path, precision, kv_cache, place).models[0]
