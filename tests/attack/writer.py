"""One of many that write to a store at once: `python tests/attack/writer.py STORE NUMBER COUNT`."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from llmpar.store.answer import StoredAnswer
from llmpar.store.store import Store


def write(path: Path, number: int, count: int) -> None:
    """Write answers to texts of one's own, and to some that all write."""
    with closing(Store(path)) as store:
        job = store.job({"task": {"prompt": "Do: {text}"}, "sampling": {"seed": 0}})
        for i in range(count):
            for text, said in ((f"{number}: {i}", f"{number}: {i}".upper()), (f"all: {i}", f"by {number}")):
                job.add(job.key(text), text, StoredAnswer(0, said, "stop", 3, 4, 0.5))
            job.commit()


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
