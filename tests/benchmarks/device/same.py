"""The same bytes: greedy and sampled answers, one hash for each batch size and number of GPUs.

As a program it answers, the model loaded once for each number of GPUs: `python -m device.same QUESTION`, as JSON.
"""

from __future__ import annotations

import gc
import hashlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from harness.table import markdown_table

from device.reports import reporting, reports_of
from device.workload import make_workload

_MOST_NEW = 48  # tokens of an answer, so that batches of 7 do not take minutes
HEADER = ["GPUs", "batch size", "answers", "seconds", "greedy", "sampled", "the first ones, greedy", "sampled"]


def run_same(
    directory: str,
    device: str,
    vocabulary: int,
    count: int,
    few: int,
    batches: list[int],
    num_devices: int,
    precision: str,
    time_limit: float,
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Return a report for each setting. A batch of 1 answers `few` of the `count` requests, whose hash all tell.

    Args:
        directory: the model's.
        device: as llmpar's --device; of several GPUs, the first alone comes first.
        vocabulary: of the model.
        count: how many are asked.
        few: how many a batch of 1 is asked.
        batches: their sizes.
        num_devices: how many GPUs there are.
        precision: what is computed in.
        time_limit: seconds for each number of GPUs.
        tell: is told each report.
    """
    question = {"model": directory, "vocabulary": vocabulary, "count": count, "few": few, "precision": precision}
    found = []
    for used in sorted({1, max(1, num_devices)}):
        asked = {**question, "device": device, "batches": batches if used == 1 else [max(batches)]}
        environment = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(used)))} if num_devices else None
        reports = reports_of(["device.same", json.dumps(asked)], time_limit, tell, environment)
        found += [{"devices": used, **report} for report in reports]
    return found


def report_same(found: list[dict[str, Any]]) -> str:
    """Return the table, and whether all hashes are one."""
    rows = [
        [
            str(one["devices"]),
            str(one["batch"]),
            f"{one['answers']:,}",
            f"{one['seconds']:.1f}",
            *one["all"],
            *one["few"],
        ]
        for one in found
    ]
    whole = {tuple(one["all"]) for one in found if one["answers"] == max(each["answers"] for each in found)}
    is_one = len(whole) == len({tuple(one["few"]) for one in found}) == 1
    said = "All bytes are the same." if is_one else "**The bytes differ.**"
    return f"{markdown_table(HEADER, rows)}\n\n{said}"


def main() -> int:
    report = reporting()
    asked = json.loads(sys.argv[1])
    from pathlib import Path

    from llmpar.models.load import load_model

    loaded = load_model(Path(asked["model"]), asked["device"], asked["precision"])
    work = make_workload(asked["count"], asked["vocabulary"], 1)
    work.limits[:] = [min(limit, _MOST_NEW) for limit in work.limits]
    few = asked["few"]
    for batch in asked["batches"]:
        began, hashes = time.monotonic(), {}
        for temperature in (0.0, 0.8):
            answers = _answers(loaded, work, few if batch == 1 else len(work.prompts), batch, temperature)
            hashes[temperature] = (_hash(answers), _hash(answers[:few]))
        whole, first = zip(*hashes.values(), strict=True)
        report(batch=batch, answers=len(answers), seconds=time.monotonic() - began, all=whole, few=first)
    return 0


def _answers(loaded: Any, work: Any, count: int, batch: int, temperature: float) -> list[list[int]]:
    from llmpar.engine.build import build_engine
    from llmpar.engine.request import Request, SamplingParams

    found: dict[int, list[int]] = {}
    with build_engine(loaded.models, loaded.context_length, frozenset(), None, batch, work.prefix_ids) as engine:
        for index in range(count):
            params = SamplingParams(work.limits[index], temperature, 0.95 if temperature else 1.0, seed=5)
            engine.submit(Request(index, work.prompts[index], params))
        for _ in range(count):
            completion = engine.collect()
            assert completion is not None
            if completion.error is not None:
                raise RuntimeError(completion.error)
            found[completion.id] = list(completion.output_ids)
    del engine
    gc.collect()
    return [found[index] for index in range(count)]


def _hash(answers: list[list[int]]) -> str:
    return hashlib.sha256(json.dumps(answers).encode()).hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(main())
