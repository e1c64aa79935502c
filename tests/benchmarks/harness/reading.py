"""llmpar's command line, which tells how much it reads: `python -m harness.reading ask …` in tests/benchmarks.

llmpar's own log counts each prompt as a whole. Here every prompt that a processor is given adds a line to the file
`READING_FILE`: its tokens, and those of them that were computed, because no keys and values of theirs were there.
What all prompts begin with, which is computed before, is a line as well.

`READING_TREE=off` turns the prefix tree off: what was read is told to nobody, so that only what all prompts begin with
is shared. `READING_ORDER=passages` has `ask` put all questions to a passage before it comes to the next one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmpar.engine.cpu.runner import DecoderRunner, PagedPrefix
from llmpar.engine.pages import Pages
from llmpar.jobs import asking


def _count(file: Path) -> None:
    lines = file.open("a", buffering=1, encoding="ascii")
    admit, compute = DecoderRunner._admit, PagedPrefix.compute

    def counted_admit(runner: DecoderRunner, sequence: Any) -> None:
        admit(runner, sequence)
        num_tokens = len(sequence.request.prompt_ids)
        lines.write(f"{num_tokens} {num_tokens - runner._num_read[sequence.slot]}\n")

    def counted_compute(decoder: Any, ids: Sequence[int]) -> PagedPrefix:
        lines.write(f"0 {len(ids)}\n")
        return compute(decoder, ids)

    DecoderRunner._admit = counted_admit  # type: ignore[method-assign]
    PagedPrefix.compute = staticmethod(counted_compute)  # type: ignore[method-assign]


def _turn_tree_off() -> None:
    Pages.share = lambda *_: None  # type: ignore[method-assign]
    Pages.waits = lambda *_: False  # type: ignore[method-assign]


def _ask_by_passages() -> None:
    find = asking.find

    def find_by_passages(questions: Any, passages: Any, chosen: Any, session: Any, task: Any) -> Iterator[Any]:
        pairs = sorted((number, index) for index, numbers in enumerate(chosen) for number in numbers)
        asked, of = [questions[index] for _, index in pairs], [[number] for number, _ in pairs]
        return find(asked, passages, of, session, task)

    asking.find = find_by_passages


def main() -> None:
    from llmpar.__main__ import main as run

    _count(Path(os.environ["READING_FILE"]))
    if os.environ.get("READING_TREE") == "off":
        _turn_tree_off()
    if os.environ.get("READING_ORDER") == "passages":
        _ask_by_passages()
    run()


if __name__ == "__main__":
    main()
