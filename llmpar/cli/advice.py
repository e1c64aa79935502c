"""What a person can do about what failed in a run. Knows the counts alone."""

from __future__ import annotations

from llmpar.documents.document import OnError
from llmpar.reporting.report import Report, counted

_ROUND = 100  # tokens; a limit that is proposed is a round number
_FEW, _MANY = (
    3,
    0.1,
)  # failures that may be the pieces' fault, and the share of all pieces from where on it is the model's


def advise(report: Report, name: str, on_error: OnError, *, keeps: bool, translates: bool = False) -> str | None:
    """Return how many answers would not do, and in further lines what helps; None where all did.

    What failed for its input or for the machine is left out: its own message says what to do. Other steps than those
    that are named are told by `llmpar help failures`.

    Args:
        report: the run's counts.
        name: of the command.
        on_error: what became of pieces that failed.
        keeps: whether the run has a store, which remembers failures.
        translates: whether answers are translations: one that fills twice the room of its text has lost its way.
    """
    number = report.num_poor
    if not number:
        return None
    head = f"llmpar {name}: {counted(number, report.noun)} had no good answer"
    if report.num_poor_before:
        some = "" if report.num_poor_before == number else f"{_all_or(report.num_poor_before, number)} "
        head += f", {some}as in an earlier run, and not asked again"
    lines = [head, *_remedies(report, keeps=keeps, translates=translates)]
    if on_error == "keep" and report.fates is None:
        lines.append("--on-error mark shows in the output which they are")
    return "\n  ".join(lines)


def _remedies(report: Report, *, keeps: bool, translates: bool) -> list[str]:
    """Return the steps that help those that failed, what helps most of them first."""
    number, stopped = report.num_poor, report.num_stopped
    is_rule = number > _FEW and number >= _MANY * report.num_segments_done
    larger = "a larger model (-m) helps most, as this one fails so often" if is_rule else ""
    if stopped and not translates:
        limit = -(-2 * report.most_tokens_stopped // _ROUND) * _ROUND
        were = f"{_all_or(stopped, number)} {'was' if stopped == 1 else 'were'}"
        room = f"--max-new-tokens {limit} gives more room: {were} stopped while writing"
        if 2 * stopped >= number:
            return [larger, room] if larger else [f"{room}; a larger model (-m) ends more often by itself"]
    if keeps:
        again = "--retry-failed asks again" + ("" if number == 1 else " for those alone")
    else:
        again = "--retries 3 asks more often, and --seed 1 draws other answers"
    return [larger, again] if larger else [f"{again}; a larger model (-m) fails less often"]


def _all_or(some: int, number: int) -> str:
    """Return how many of a number are meant, in words."""
    if some == number:
        return "it" if number == 1 else "all"
    return f"{some:,} of them"
