"""What `--dry-run` prints: a forecast in words, with memory and time as far as files and earlier runs tell them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from llmpar.answering.forecast import Forecast
from llmpar.cli.run import Run
from llmpar.cli.words import duration, rounded, size
from llmpar.documents.writer import open_stdout
from llmpar.errors import ModelUnavailable
from llmpar.jobs.rehearsal import Outcome, Rehearsal
from llmpar.reporting.pace import Level, Work
from llmpar.reporting.paces import recall
from llmpar.reporting.progress import Progress
from llmpar.reporting.report import counted

_SAMPLED, _MOST_SAMPLED, _SHARE_SAMPLED = 16, 64, 4  # pieces that tell how long answers are; of so many, one
_DOUBT = 0.1  # from which on it is told
_UNKNOWN = "unknown"


def tell(
    run: Run, counts: Mapping[str, int], forecast: Forecast, progress: Progress, rehearsal: Rehearsal | None = None
) -> None:
    """Print a forecast.

    Args:
        run: whose it is.
        counts: what was read, by name.
        forecast: what becomes of it.
        progress: makes way on the terminal.
        rehearsal: foresees the questions that make one answer of several; None where there are none.
    """
    rows = [(name, f"{count:,}") for name, count in counts.items()]
    if run.choice.engine != "echo":  # which has nothing to foresee
        rows += _rows(run, forecast, rehearsal)
    writer = open_stdout(progress.aside)
    writer.write("".join(f"{name:<20} {text}\n" for name, text in rows).encode())
    writer.close()


def _rows(run: Run, forecast: Forecast, rehearsal: Rehearsal | None) -> list[tuple[str, str]]:
    """Return what becomes of the pieces, and what that costs, in words."""
    rows = [
        (f"  {name}", f"{count:,}")
        for name, count in (
            ("no model needed", forecast.num_left),
            ("repeated", forecast.num_repeated),
            ("kept", forecast.num_kept),
        )
        if count
    ]
    if forecast.num_failed:
        again = "; --retry-failed asks again" if not run.policy.retry_failed else ""
        rows.append(("  failed before", f"{forecast.num_failed:,}{again}"))
    rows.append(("to ask", f"{forecast.num_asked:,}"))
    rows += [(f"  {count:,} of them", f"have an answer to {name}") for name, count in forecast.stale.items()]
    num_asked, num_read, num_written = forecast.num_asked, forecast.num_read, forecast.num_written
    levels = [Level(num_asked, num_read, num_written or 0)]
    joining, doubt = rehearsal.outcome if rehearsal else None, forecast.doubt
    if joining:
        over = joining.forecast
        levels += _levels(joining)
        num_asked, num_read = num_asked + over.num_asked, num_read + over.num_read
        if num_written is not None:
            doubtful = num_written * doubt + joining.num_written * (over.doubt or doubt)  # both grow with the answers
            num_written += joining.num_written
            doubt = doubtful / max(1, num_written)
        forecast = replace(forecast, longest=max(forecast.longest, over.longest))
        if over.num_pieces:
            rows.append(("to join answers", _joining(over, is_sure=not forecast.num_asked)))
    elif rehearsal:
        rows.append(("to join answers", _UNKNOWN + _how_to_know(forecast)))
    rows.append(("tokens to read", f"{num_read:,}"))
    rows.append(("tokens to write", _written(forecast, num_written, doubt)))
    if memory := _memory(run, forecast):
        rows.append(("memory", memory))
    work = Work(levels, forecast.spread)
    rows.append(("time", _time(run, forecast, work, num_written) if num_asked else "none to speak of"))
    return rows


def _levels(joining: Outcome) -> list[Level]:
    """Return the levels of questions over answers, each with its share of all tokens."""
    over, total = joining.forecast, max(1, sum(joining.shape))
    shares = [number / total for number in joining.shape]
    return [
        Level(round(over.num_asked * share), over.num_read * share, joining.num_written * share) for share in shares
    ]


def _joining(over: Forecast, *, is_sure: bool) -> str:
    """Return how many questions over answers there are, in words."""
    about = "" if is_sure else "about "
    if over.num_kept == over.num_pieces:
        return f"{counted(over.num_pieces, 'question')}, kept"
    parts = [f"{about}{counted(over.num_pieces, 'question')}"]
    parts += [f"{over.num_kept:,} of them kept"] if over.num_kept else []
    parts += [f"{over.num_failed:,} failed before"] if over.num_failed else []
    return ", ".join(parts)


def _written(forecast: Forecast, num_written: int | None, doubt: float) -> str:
    if num_written is not None:
        number = _number_sampled(forecast)
        more = f"; `--sample {number}` tells more" if doubt >= _DOUBT and number > _SAMPLED else ""
        return f"about {rounded(num_written):,}" + (f", give or take {doubt:.0%}{more}" if doubt >= _DOUBT else "")
    most = forecast.most_written
    return (_UNKNOWN if most is None else f"up to {most:,}") + _how_to_know(forecast)


def _time(run: Run, forecast: Forecast, work: Work, num_written: int | None) -> str:
    most = forecast.most_written or 0
    pace = recall(run.machine, run.kind, round(sum(level.num_read for level in work.levels)), num_written or most)
    as_before = "as fast as the run of this model here that is most like it"
    if pace is not None and num_written is not None:
        return f"about {duration(pace.expected(work))}, {as_before}"
    if pace is not None and forecast.most_written is not None:
        longest = Work([Level(forecast.num_asked, forecast.num_read, most)])
        return f"up to {duration(pace.expected(longest))}, {as_before}" + _how_to_know(forecast)
    return _UNKNOWN + _how_to_know(forecast)


def _how_to_know(forecast: Forecast) -> str:
    """Return how the lengths of answers are found out, unless that would be the whole job."""
    return f"; `--sample {_number_sampled(forecast)}` finds out" if forecast.num_asked > _SAMPLED else ""


def _number_sampled(forecast: Forecast) -> int:
    """Return how many pieces should tell how long answers are: a part of the job, and never all of it."""
    return min(_MOST_SAMPLED, max(_SAMPLED, forecast.num_asked // _SHARE_SAMPLED // 16 * 16))


def _memory(run: Run, forecast: Forecast) -> str | None:
    """Return how much memory the model and the pieces take, where the files tell."""
    choice = run.choice
    if choice.engine != "model":
        return None
    from llmpar.models.configuration import configuration
    from llmpar.models.costs import PROGRAM, token_bytes, weight_bytes
    from llmpar.models.precision import find_arithmetic
    from llmpar.models.registry import resolve

    try:
        files = resolve(choice.name, offline=True)
        path = files.path if choice.tensor_parallel == 1 else None
        devices, precision = find_arithmetic(choice.device, choice.precision, files.source_bits, path)
        config = configuration(files.path)
    except ModelUnavailable:
        return None
    weights = weight_bytes(files.path, devices[0], precision)
    each = token_bytes(config, devices[0], precision, choice.kv_cache)
    parts = [f"about {size(weights)} for the weights, {size(PROGRAM)} for the program"] if weights else []
    parts += [f"up to {size(each * forecast.longest)} for each piece at work"] if each and forecast.longest else []
    return ", ".join(parts) or None
