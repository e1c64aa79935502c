"""Sums over shared memory, as far as there is no GPU in it: who may use them, and what frees a rank that waits."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from llmpar.engine.ranks import exchange
from llmpar.engine.ranks.exchange import Exchange, open_exchange
from llmpar.engine.ranks.group import Place, abort, join, leave

CUDA = torch.device("cuda", 0)


def made(size: int, blocks: int = 3, count: int = 1024) -> Exchange:
    pads = [torch.zeros(blocks, size, dtype=torch.int32) for _ in range(size)]
    return Exchange(torch.zeros(count, dtype=torch.bfloat16), pads, 0, "0")


class TestWhatItTakes:
    @pytest.mark.parametrize(
        ("shape", "dtype", "takes"),
        [
            ((4, 256), torch.bfloat16, True),
            ((5, 256), torch.bfloat16, False),
            ((4, 128), torch.float32, False),
            ((1, 12), torch.bfloat16, False),
        ],
    )
    def test_is_small_of_one_type_and_even(self, shape: tuple[int, int], dtype: torch.dtype, takes: bool) -> None:
        assert made(2).takes(torch.zeros(shape, dtype=dtype)) == takes


class TestLettingGo:
    """The kernel's own protocol, by a thread that does what its blocks do (torch's `sync_remote_blocks`)."""

    @pytest.mark.parametrize("size", [2, 4])
    def test_a_rank_whose_others_are_gone_comes_out_of_all_that_was_given_out(self, size: int) -> None:
        one = made(size)
        for pad in one._pads[1:]:
            pad[:, 0] = 1  # what it sent last was never taken
        waits = 0

        def swap(pad: torch.Tensor, block: int, column: int, old: int) -> None:
            while int(pad[block, column]) != old:
                time.sleep(0)
            pad[block, column] = 1 - old

        def kernel() -> None:
            nonlocal waits
            for _ in range(4):
                for block in range(len(one._pads[0])):
                    for other in range(size):
                        swap(one._pads[other], block, 0, 0)
                        swap(one._pads[0], block, other, 1)
                waits += 1

        thread = threading.Thread(target=kernel, daemon=True)
        thread.start()
        thread.join(0.05)
        assert waits == 0
        one.let_all_go(lambda: not thread.is_alive())
        assert waits == 4

    def test_it_is_done_when_the_ranks_are_given_up_until_this_process_has_left_them(
        self, tmp_path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        join(Place(0, 1, str(tmp_path)), "cpu")
        came, ended = threading.Event(), threading.Event()

        def let_go(is_over) -> None:
            came.set()
            while not is_over():
                time.sleep(0.001)
            ended.set()

        exchange.when_aborted(let_go)
        abort()
        assert came.wait(10)
        assert not ended.is_set()
        leave()
        assert ended.wait(10)


class TestWhoHasNone:
    def test_on_a_cpu(self) -> None:
        assert open_exchange(0, 2, torch.device("cpu"), torch.float32) == (
            None,
            "all goes through the process group (there is no GPU)",
        )

    def test_the_reasons(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda *_: True)
        assert exchange._hindrance(0, 2, CUDA) is None
        monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda device, other: other != 3)
        assert exchange._hindrance(0, 3, CUDA) is None
        assert "cannot read each other's memory" in str(exchange._hindrance(0, 4, CUDA))
        monkeypatch.setenv("TEMP", "/" + "a" * 90)
        assert "too long a name" in str(exchange._hindrance(0, 2, CUDA))
        monkeypatch.setattr(exchange, "_met", [2])
        assert "has shared memory with other ranks before" in str(exchange._hindrance(0, 2, CUDA))

    def test_all_have_none_where_one_has_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[bool] = []
        monkeypatch.setattr(exchange, "agree", lambda is_so, _: bool(asked.append(is_so)))
        monkeypatch.setattr(exchange, "_hindrance", lambda *_: "it is so")
        assert open_exchange(0, 2, CUDA, torch.float32) == (None, "all goes through the process group (it is so)")
        monkeypatch.setattr(exchange, "_hindrance", lambda *_: None)
        found, said = open_exchange(0, 2, CUDA, torch.float32)  # torch itself tells here that there is no such memory
        assert found is None
        assert said.startswith("all goes through the process group (")
        assert asked == [False, False]
