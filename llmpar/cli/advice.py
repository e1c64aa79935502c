"""What a person can do about what failed in a run. Knows the counts alone."""

from __future__ import annotations

from llmpar.reporting.report import Report, counted

_ROUND = 100  # tokens; a limit that is proposed is a round number


def advise(report: Report, name: str, *, keeps: bool) -> str | None:
    """Return how many answers would not do, and in a second line what helps most; None where all did.

    What failed for its input or for the machine is left out: its own message says what to do. Other steps than the one
    that is named are told by `llmpar help failures`.

    Args:
        report: the run's counts.
        name: of the command.
        keeps: whether the run has a store, which remembers failures.
    """
    number = report.num_poor
    if not number:
        return None
    head = f"llmpar {name}: {counted(number, report.noun)} had no good answer"
    if report.num_poor_before:
        some = "" if report.num_poor_before == number else f"{_all_or(report.num_poor_before, number)} "
        head += f", {some}as in an earlier run, and not asked again"
    return f"{head}\n  {_remedy(report, keeps=keeps)}"


def _remedy(report: Report, *, keeps: bool) -> str:
    """Return the one step that helps most of those that failed."""
    number = report.num_poor
    if 2 * report.num_stopped >= number:
        limit = -(-2 * report.most_tokens_stopped // _ROUND) * _ROUND
        which = _all_or(report.num_stopped, number)
        return f"--max-new-tokens {limit} gives more room to {which}, stopped while writing"
    if keeps:
        again = "--retry-failed asks again" + ("" if number == 1 else " for those alone")
    else:
        again = "--retries 3 asks more often, and --seed 1 draws other answers"
    return f"{again}; a larger model (-m) fails less often"


def _all_or(some: int, number: int) -> str:
    """Return how many of a number are meant, in words."""
    if some == number:
        return "it" if number == 1 else "all"
    return f"{some:,} of them"
