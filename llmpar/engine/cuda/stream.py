"""The order of work on one device, as its thread gives it out: steps that are recorded, numbers sent and fetched.

Nothing here waits for the device but `Fetched.numbers`. Without CUDA (in Triton's interpreter) all is done at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from llmpar.engine.resources import give_memory_back, is_out_of_memory

# Memory cannot be given back while a graph is recorded, on whichever device: torch turns to all of them.
_ALONE = threading.Lock()


class Stream:
    """A stream of work and the graphs recorded on it. Made by the thread that uses it, which it binds to its device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_cuda = device.type == "cuda"
        self._graphs: dict[Hashable, Any] = {}
        self._pool: Any = None
        self._reserved = 0
        self._room: Any = None
        if self._is_cuda:
            torch.cuda.set_device(device)
            own: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            own.wait_stream(torch.cuda.default_stream(device))  # on which weights may still be on their way
            torch.cuda.set_stream(own)  # the usual one cannot be recorded
            self._pool = torch.cuda.graph_pool_handle()  # one for all graphs, as never two run at once

    def reserve(self, num_bytes: int) -> None:
        """Let all that is recorded from now on share so much memory, if it is enough.

        Else each recording that needs more than any before it would take memory of its own, beside theirs.
        """
        self._reserved = num_bytes

    def run(self, step: Hashable, function: Callable[[], object]) -> None:
        """Run `function`, recorded from its second time on: it does the same each time it is called for `step`.

        The first time loads kernels and makes workspaces, which must not happen while a graph is recorded.
        """
        if not self._is_cuda or step not in self._graphs:
            function()
            self._graphs[step] = None
            return
        if self._graphs[step] is None:
            self._graphs[step] = self._record(function)
        self._graphs[step].replay()

    def send(self, values: npt.NDArray[Any]) -> torch.Tensor:
        """Return an array of any shape on the device, there before what is given out next needs it."""
        tensor = torch.from_numpy(values)
        return tensor.pin_memory().to(self._device, non_blocking=True) if self._is_cuda else tensor.clone()

    def fetch(self, ids: torch.Tensor, scores: torch.Tensor) -> Fetched:
        """Begin to bring ids (B,) and scores (B,) back, as they are after what was given out so far."""
        return Fetched(ids, scores)

    def forget(self) -> None:
        """Drop all recordings, and let others have the memory that nothing uses."""
        self._graphs.clear()
        self._room = None
        if self._is_cuda:
            torch.cuda.current_stream().synchronize()
            self._pool = torch.cuda.graph_pool_handle()
            self._give_memory_back()

    def _record(self, function: Callable[[], object]) -> Any:
        try:
            if self._room is None and self._reserved:
                self._room = self._capture(self._take_room)
            return self._capture(function)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._give_memory_back()  # what torch keeps of other steps is no use to a recording
            return self._capture(function)

    def _take_room(self) -> None:
        """Take memory and leave it to what is recorded next; nothing can be taken without a kernel that is recorded."""
        torch.empty(self._reserved, dtype=torch.uint8, device=self._device)[:1].zero_()

    def _give_memory_back(self) -> None:
        with _ALONE:
            give_memory_back(self._device)

    def _capture(self, function: Callable[[], object]) -> Any:
        graph = torch.cuda.CUDAGraph()
        with _ALONE:
            # Not torch.cuda.graph: it collects garbage and gives memory back each time, which takes far longer.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                function()
            except BaseException:
                with contextlib.suppress(RuntimeError):  # it says that recording failed, which is known by now
                    graph.capture_end()
                raise
            graph.capture_end()
        return graph


class Fetched:
    """Ids and scores on their way back."""

    def __init__(self, ids: torch.Tensor, scores: torch.Tensor) -> None:
        self._event: Any = None
        if ids.is_cuda:
            self._ids, self._scores = (
                torch.empty(one.shape, dtype=one.dtype, pin_memory=True) for one in (ids, scores)
            )
            self._ids.copy_(ids, non_blocking=True)
            self._scores.copy_(scores, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        else:
            self._ids, self._scores = ids.clone(), scores.clone()

    def numbers(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return ids (B,) and scores (B,), waiting until they are there; an error of the device is raised here."""
        if self._event is not None:
            self._event.synchronize()
        return self._ids.numpy(), self._scores.numpy()


def as_bits(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.int32]:
    """Return words as torch knows them: signed, with the same bits and in the same shape."""
    return np.ascontiguousarray(words).view(np.int32)
