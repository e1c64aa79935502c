"""What a person can do about what failed in a run. Knows the counts alone."""

from __future__ import annotations

from llmpar.documents.document import OnError
from llmpar.reporting.report import Report, counted

_ROUND = 100  # tokens; a limit that is proposed is a round number


def advise(report: Report, name: str, on_error: OnError, *, keeps: bool) -> str | None:
    """Return what helps after a run in which answers would not do, in a few short lines; None where nothing does.

    What failed for its input or for the machine is left out: its own message says what to do.

    Args:
        report: the run's counts.
        name: of the command.
        on_error: what became of what failed.
        keeps: whether the run has a store, which remembers failures.
    """
    number = report.num_poor
    if not number:
        return None
    head = f"llmpar {name}: {counted(number, report.noun)} had no good answer"
    if report.num_poor_before:
        head += f", {_all_or(report.num_poor_before, number)} as in an earlier run, and not asked again"
    if keeps:
        again = "--retry-failed asks again" + ("" if number == 1 else " for those alone")
    else:
        again = "--retries 3 asks more often, and --seed 1 draws other answers"
    remedies = [f"{again}; a larger model (-m) fails less often"]
    if report.num_stopped:
        limit = -(-2 * report.most_tokens_stopped // _ROUND) * _ROUND
        which = _all_or(report.num_stopped, number)
        remedies.append(f"--max-new-tokens {limit} gives more room to {which}, stopped while writing")
    if report.fates is None and on_error == "keep":
        remedies.append("--on-error mark shows in the text what stayed as it was")
    return "\n  ".join([head, *remedies])


def _all_or(some: int, number: int) -> str:
    """Return how many of a number are meant, in words."""
    if some == number:
        return "it" if number == 1 else "all"
    return f"{some:,} of them"
