"""How fast earlier runs on this machine were, kept as a few lines of JSON beside the store: figures, and no text."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from llmpar.paths import make_private, state_dir

_MOST = 200  # runs that are remembered
_LEAST = 200  # tokens; a shorter run tells nothing
WRITING = 5.0
"""What a token that is written costs, in tokens that are read: about, on processors of all kinds."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run computed on, as far as its pace depends on it; the settings are the user's, None for our choice."""

    model: str
    device: str
    precision: str
    threads: int | None
    batch_size: int | None


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a run was.

    Args:
        machine: what it computed on.
        start: seconds until the workers were there.
        seconds: how long they worked.
        num_read: tokens of prompts.
        num_written: tokens of answers.
        stepping: of the seconds, those that steps take however few answers are written in them: where few are, most.
        num_levels: how often answers had to be there before others could begin: a summary of summaries has two levels.
    """

    machine: Machine
    start: float
    seconds: float
    num_read: int
    num_written: int
    stepping: float = 0.0
    num_levels: int = 1

    def expected(self, num_read: int, num_written: int, num_levels: int = 1) -> float:
        """Return how many seconds a run with so many tokens may take, of as many levels."""
        cost = (num_read + WRITING * num_written) / max(1.0, self.num_read + WRITING * self.num_written)
        # More pieces make fuller steps, hardly more of them; but each level begins when the one below is at its end.
        steps = num_levels / self.num_levels * min(1.0, math.sqrt(cost))
        return self.start + (self.seconds - self.stepping) * cost + self.stepping * steps


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
        lines = file.read_text(encoding="utf-8").splitlines()[1 - _MOST :] if file.exists() else []
        made = file.with_name(f"{file.name}.new")
        made.touch(mode=0o600)
        made.write_text("\n".join([*lines, json.dumps(asdict(pace))]) + "\n", encoding="utf-8")
        made.replace(file)


def recall(machine: Machine, num_read: int, num_written: int) -> Pace | None:
    """Return how fast the run on such a machine was that was most like another, the last of several; None if none was.

    A run of few pieces is slow for its tokens, as most of the batch is empty, and tells little of one of many.

    Args:
        machine: what computes.
        num_read: the tokens of the other run's prompts.
        num_written: those of its answers.
    """

    def distance(pace: Pace) -> float:
        pairs = (pace.num_read, num_read), (pace.num_written, num_written)
        return round(sum(abs(math.log2((1 + one) / (1 + other))) for one, other in pairs))

    with contextlib.suppress(OSError, ValueError):
        lines = reversed(file_of_paces().read_text(encoding="utf-8").splitlines())
        found = [pace for pace in map(_parsed, lines) if pace and pace.machine == machine]
        return min(found, key=distance, default=None)
    return None


def _parsed(line: str) -> Pace | None:
    """Return a line's pace; None for what another version wrote, or nobody knows."""
    try:
        told = json.loads(line)
        machine = Machine(**told.pop("machine"))
        pace = Pace(machine, **told)
    except (ValueError, TypeError, AttributeError, KeyError):
        return None
    numbers = [getattr(pace, member.name) for member in fields(pace) if member.name != "machine"]
    return pace if all(isinstance(number, int | float) and number >= 0 for number in numbers) else None
