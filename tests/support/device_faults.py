"""Faults of a device, at chosen steps."""

from __future__ import annotations

import threading
from typing import Any

from llmpar.engine.worker import Worker

ALLOCATOR = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"


def failing_at(steps: set[int], error: BaseException) -> Any:
    """Return something to call in the middle of a pass: it raises at these calls, counted from 1.

    Not counted are those for one sequence alone, which would be given up.
    """
    count = 0

    def call(*_: object) -> None:
        nonlocal count, steps
        worker = threading.current_thread()
        assert isinstance(worker, Worker)
        count += len([s for s in worker._running if not s.output_ids] or worker._running) > 1
        if count in steps:
            steps = steps - {count}
            raise error

    return call


FAULTS = [
    ({1}, MemoryError()),
    ({2, 3}, MemoryError()),
    ({4, 9, 20}, RuntimeError(ALLOCATOR)),
    ({1}, ValueError("once")),
    ({5, 30}, ValueError("now and then")),
]
