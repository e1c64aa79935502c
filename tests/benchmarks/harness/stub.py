"""llmpar's command line over a model that computes nothing: `python -m harness.stub run …` in tests/benchmarks.

The tokenizer, the template and all of the host's way are real. A GPU stands in for itself: what it would compute takes
`STUB_STEP_MS` for each step (default 4) of at most `STUB_SLOTS` sequences (1,024), during which Python's lock is free;
an answer is `STUB_TOKENS` tokens (24) of the end of its text. With a step of 0 everything is answered at once.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmpar.answering import model as answering
from llmpar.engine.model import Notify, Runners, Settings
from llmpar.engine.request import Request
from llmpar.engine.request import Sequence as Running
from llmpar.integrity.foundation import Foundation
from llmpar.models import load, precision

_STEP = float(os.environ.get("STUB_STEP_MS", "4")) / 1000
_SLOTS = int(os.environ.get("STUB_SLOTS", "1024"))
_TOKENS = int(os.environ.get("STUB_TOKENS", "24"))
_AFTER = 5  # tokens of the template after the text, and one
_DEVICE = "cuda:0"
_open_part: Callable[..., Any] = answering.open_part


class StubRunner:
    """Gives out steps as a `CudaRunner` does: the next one before the last one's tokens are looked at."""

    continuous = True

    def __init__(self, stop_ids: frozenset[int]) -> None:
        self.num_slots = _SLOTS
        self._stop_ids = stop_ids
        self._due = 0.0
        self._in_flight: deque[tuple[float, list[Running]]] = deque()

    def start(self) -> None: ...

    def reserve(self, request: Request) -> bool:
        return True

    def resize(self, num_slots: int) -> None:
        self.num_slots = num_slots

    def prefill(self, sequences: list[Running]) -> None:
        self._give_out(sequences, sum(len(sequence.request.prompt_ids) for sequence in sequences) / 2048)

    def decode(self, sequences: list[Running]) -> None:
        rows = [sequence for sequence in sequences if sequence.finish_reason is None]
        if rows:
            self._give_out(rows, 1)
        self._settle(1 if rows else 0)

    def release(self, sequence: Running) -> None: ...

    def _give_out(self, rows: list[Running], steps: float) -> None:
        self._due = max(self._due, time.monotonic()) + steps * _STEP
        self._in_flight.append((self._due, rows))

    def _settle(self, num_left: int) -> None:
        while len(self._in_flight) > num_left:
            due, rows = self._in_flight.popleft()
            if (left := due - time.monotonic()) > 0:
                time.sleep(left)
            for sequence in rows:
                if sequence.finish_reason is None:
                    ids = sequence.request.prompt_ids[-_TOKENS - _AFTER : -_AFTER]
                    done = len(sequence.output_ids)
                    sequence.append(ids[done] if done < len(ids) else min(self._stop_ids), self._stop_ids)


@dataclass(frozen=True)
class StubModel:
    """A model of no weights."""

    vocabulary: int = 49_152
    is_encoder_decoder: bool = False
    device_name: str = _DEVICE

    def make_runners(self, settings: Settings, notify: Notify) -> Runners:
        notify(f"{_SLOTS} slots that compute nothing")
        return Runners((StubRunner(settings.stop_ids),), settings.context_length)


def _load(path: Any, *_: object, **__: object) -> load.LoadedModel:
    from llmpar.models.configuration import stop_ids

    return load.LoadedModel((StubModel(),), 8192, stop_ids(path), "bf16", Foundation())


def open_stub(*arguments: Any) -> Any:
    """Stand for `answering.model.open_part`, in the process that serves."""
    _patch()
    return _open_part(*arguments)


def _patch() -> None:
    load.load_model = _load  # type: ignore[assignment]
    from llmpar.models import devices

    if hasattr(devices, "bind_device"):
        devices.bind_device = lambda _: None
    precision.find_devices = lambda _: (_DEVICE,)
    precision.find_arithmetic = lambda *_: ((_DEVICE,), "bf16")


def main() -> None:
    from llmpar.__main__ import main as run

    _patch()
    answering.open_part = open_stub  # type: ignore[assignment]
    run()


if __name__ == "__main__":
    import harness.stub  # under its name, by which the other process finds it

    harness.stub.main()
