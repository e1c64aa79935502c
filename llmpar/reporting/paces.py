"""How fast earlier runs on this machine were, kept as a few lines of JSON beside the store: figures, and no text."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from statistics import median

from llmpar.paths import make_private, state_dir
from llmpar.reporting.pace import Machine, Pace

_MOST = 200  # runs that are remembered
_BEYOND = 1e15  # what no figure of a run comes to
_LEAST = 200  # tokens; a shorter run tells nothing
_SLOW_START = 3.0  # times as long as the quickest start: there was more to do than usual
_TOGETHER = 4  # runs of a job that are taken together at most
_ALIKE = 1  # by how many doublings of tokens these may be farther from the one that is foretold


def kind_of(asked: object) -> str:
    """Return a digest of what is asked, which is plain data: by it runs of the same are known, and no text is kept."""
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]


def file_of_paces() -> Path:
    """Return where they are kept."""
    return state_dir() / "runs.jsonl"


def remember(pace: Pace) -> None:
    """Keep how fast a run was, if it was long enough to tell. Where that cannot be kept, nobody misses it much."""
    if pace.num_read + pace.num_written < _LEAST:
        return
    file = file_of_paces()
    with contextlib.suppress(OSError):
        make_private(file.parent)
        lines = _lines(file)[1 - _MOST :] if file.exists() else []
        made = file.with_name(f"{file.name}.new")
        made.touch(mode=0o600)
        made.write_text("\n".join([*lines, json.dumps(asdict(pace))]) + "\n", encoding="utf-8")
        made.replace(file)


def recall(machine: Machine, job: str, num_read: int, num_written: int) -> Pace | None:
    """Return how fast the runs on such a machine were that were most like another; None if there was none.

    Those of the same job tell most, and the last of them are taken together: a trial and the rest that follows it are
    the whole. Else it is the one of about as many tokens; how often answers are asked for again is then taken from all
    runs, as that is a matter of the job. A run that began much more slowly than others compiled its kernels as it went,
    and counts only where there is no other.

    Args:
        machine: what computes.
        job: what is asked, as a digest.
        num_read: the tokens of the other run's prompts.
        num_written: those of its answers.
    """

    def distance(pace: Pace) -> float:
        pairs = (pace.num_read, num_read), (pace.num_written, num_written)
        return round(sum(abs(math.log2((1 + one) / (1 + other))) for one, other in pairs))

    found = _remembered(machine)
    quickest = min((pace.start for pace in found), default=0.0)
    usual = [pace for pace in found if pace.start <= _SLOW_START * quickest + 1] or found
    if same := sorted((pace for pace in usual if pace.job == job), key=distance):
        return together([pace for pace in same if distance(pace) <= distance(same[0]) + _ALIKE][:_TOGETHER])
    nearest = min(usual, key=distance, default=None)
    again = (median(getattr(pace, name) for pace in usual) for name in ("read_again", "written_again"))
    return nearest and replace(nearest, **dict(zip(("read_again", "written_again"), again, strict=True)))


def recall_most(machine: Machine, job: str, num_read: int) -> Pace | None:
    """Return how fast the runs of a job on such a machine were that had most answers; else one like it.

    Args:
        machine: what computes.
        job: what is asked, as a digest.
        num_read: the tokens of the prompts that are to be read.
    """
    if same := [pace for pace in _remembered(machine) if pace.job == job]:
        return together(sorted(same, key=lambda pace: -pace.num_drawn)[:_TOGETHER])
    other = recall(machine, job, num_read, num_read)
    return other and replace(other, num_drawn=0)  # its answers tell nothing of these


def together(paces: Sequence[Pace]) -> Pace:
    """Return how fast some runs of a job were, taken together; it began as the first of them, which is most alike."""
    if len(paces) == 1:
        return paces[0]

    def mean(name: str, weight: Callable[[Pace], float]) -> float:
        total = sum(map(weight, paces))
        nearest: float = getattr(paces[0], name)
        return sum(getattr(pace, name) * weight(pace) for pace in paces) / total if total else nearest

    def drawn(pace: Pace) -> float:
        return pace.num_drawn

    length = mean("length", drawn)
    squares = sum((pace.spread**2 + pace.length**2) * pace.num_drawn for pace in paces) / max(1, sum(map(drawn, paces)))
    return replace(
        paces[0],
        num_read=sum(pace.num_read for pace in paces),
        num_written=sum(pace.num_written for pace in paces),
        reading=mean("reading", lambda pace: pace.num_read * pace.read_again),
        writing=mean("writing", lambda pace: pace.num_written * pace.written_again),
        step=mean("step", lambda pace: pace.num_written * pace.written_again),
        read_again=mean("read_again", lambda pace: pace.num_read),
        written_again=mean("written_again", lambda pace: pace.num_written),
        num_drawn=sum(pace.num_drawn for pace in paces),
        again=mean("again", drawn),
        length=length,
        spread=math.sqrt(max(0.0, squares - length**2)),
        num_rows=max(pace.num_rows for pace in paces),
    )


def _remembered(machine: Machine) -> list[Pace]:
    """Return the runs on such a machine, the last one first."""
    with contextlib.suppress(OSError):
        return [pace for pace in map(_parsed, reversed(_lines(file_of_paces()))) if pace and pace.machine == machine]
    return []


def _lines(file: Path) -> list[str]:
    """Return a file's lines, those that damage has made something else of, too."""
    return file.read_text(encoding="utf-8", errors="replace").splitlines()


def _parsed(line: str) -> Pace | None:
    """Return a line's pace; None for what another version wrote, or nobody knows."""
    try:
        told = json.loads(line)
        machine = Machine(**told.pop("machine"))
        pace = Pace(machine, **told)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
    numbers = [getattr(pace, member.name) for member in fields(pace) if member.name not in ("machine", "job")]
    is_whole = all(isinstance(number, int | float) and 0 <= number < _BEYOND for number in numbers)
    return pace if is_whole and isinstance(pace.job, str) else None
