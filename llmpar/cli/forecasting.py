"""What `--dry-run` prints: a forecast in words, with memory and time as far as files and earlier runs tell them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llmpar.answering.forecast import Forecast, Forecaster
from llmpar.answering.session import Session
from llmpar.cli.run import Run
from llmpar.cli.words import duration, rounded, size
from llmpar.documents.writer import open_stdout
from llmpar.errors import ModelUnavailable
from llmpar.jobs.reduction import FAN_IN, JOINT
from llmpar.reporting.pace import recall
from llmpar.reporting.progress import Progress
from llmpar.tasks.question import Prompt
from llmpar.tasks.task import Task

_SAMPLED = 16  # pieces that tell how long answers are
_UNKNOWN = "unknown"
_JOINING = "the questions that make one answer of those, unless they are kept"


def with_reduction(
    forecaster: Forecaster, task: Task, session: Session, *, is_total: bool = False
) -> tuple[int, int | None]:
    """Return the tokens read and written, those of the questions over answers included, until one answer is left.

    Args:
        forecaster: knows all pieces.
        task: what they are asked.
        session: knows how much a question holds.
        is_total: whether one answer is made of all documents, and not one of each.
    """
    forecast = forecaster.outcome
    if task.merge != "reduce" or not forecast.num_written or not forecast.num_asked:
        return forecast.num_read, forecast.num_written
    reduction = task.reduction()
    budget = max(1, session.budget(reduction, FAN_IN))
    around = session.model.count_tokens(Prompt(reduction.for_model(session.model.families).messages(""), ""))
    joint = session.model.measure(JOINT)
    mean = forecast.num_written / forecast.num_asked
    documents = forecast.documents
    if is_total:
        documents = {(sum(answers * count for (answers, _), count in documents.items()), forecast.num_asked): 1}

    def written(num_read: float) -> float:
        return forecaster.expected(reduction, num_read) or mean

    num_read, num_written = float(forecast.num_read), float(forecast.num_written)
    for (num_answers, num_asked), count in documents.items():
        # With a new answer, most that was made of the earlier ones is made again.
        read_here, written_here = (
            growth(num_answers, mean, budget, (around, joint), written) if num_asked else (0.0, 0.0)
        )
        num_read += count * read_here
        num_written += count * written_here
    return round(num_read), round(num_written)


def growth(
    number: int, mean: float, budget: int, frame: tuple[int, int], written: Callable[[float], float]
) -> tuple[float, float]:
    """Return the tokens that a tree of questions reads and writes, until it has made one answer of many.

    Args:
        number: of answers that it begins with.
        mean: their tokens.
        budget: the tokens of answers that a question holds; two answers always fit.
        frame: the tokens of a question without answers, and of what stands between two of them.
        written: tells from the tokens of a question how many its answer may have.
    """
    num_read = num_written = 0.0
    around, joint = frame
    while number > 1:
        # No answer is divided, so that the room of half a one stays empty at the end of each question.
        number_above = -int(-number // max(2.0, budget / mean - 0.5))
        asked = min(number_above, number // 2)  # one that would stand alone goes on as it is
        each = around + number * (mean + joint) / number_above - joint
        mean = written(each)
        num_read += asked * each
        num_written += asked * mean
        number = number_above
    return num_read, num_written


def tell(
    run: Run,
    counts: Mapping[str, int],
    forecast: Forecast,
    tokens: tuple[int, int | None],
    progress: Progress,
    *,
    joins: bool = False,
) -> None:
    """Print a forecast.

    Args:
        run: whose it is.
        counts: what was read, by name.
        forecast: what becomes of it.
        tokens: those to read, and to write if that is known.
        progress: makes way on the terminal.
        joins: whether answers are made one, by further questions, of which it is not known whether they are kept.
    """
    rows = [(name, f"{count:,}") for name, count in counts.items()]
    rows += (
        _rows(run, forecast, tokens, joins=joins) if run.choice.engine != "echo" else []
    )  # which has nothing to foresee
    writer = open_stdout(progress.aside)
    writer.write("".join(f"{name:<20} {text}\n" for name, text in rows).encode())
    writer.close()


def _rows(run: Run, forecast: Forecast, tokens: tuple[int, int | None], *, joins: bool) -> list[tuple[str, str]]:
    """Return what becomes of the pieces, and what that costs, in words."""
    rows = [
        (f"  {name}", f"{count:,}")
        for name, count in (
            ("no model needed", forecast.num_left),
            ("repeated", forecast.num_repeated),
            ("kept", forecast.num_kept),
            ("failed before", forecast.num_failed),
        )
        if count
    ]
    only_joins = joins and not forecast.num_asked and any(number > 1 for number, _ in forecast.documents)
    rows.append(("to ask", f"{forecast.num_asked:,}" + (f", and {_JOINING}" if only_joins else "")))
    rows += [(f"  {count:,} of them", f"have an answer to {name}") for name, count in forecast.stale.items()]
    if only_joins:
        rows.append(("time", "that of these questions"))
        return rows
    num_read, num_written = tokens
    rows.append(("tokens to read", f"{num_read:,}"))
    rows.append(("tokens to write", _written(forecast, num_written)))
    if memory := _memory(run, forecast):
        rows.append(("memory", memory))
    rows.append(("time", _time(run, forecast, num_read, num_written) if forecast.num_asked else "none to speak of"))
    return rows


def _written(forecast: Forecast, num_written: int | None) -> str:
    if num_written is not None:
        return f"about {rounded(num_written):,}"
    most = forecast.most_written
    return (_UNKNOWN if most is None else f"up to {most:,}") + _how_to_know(forecast)


def _time(run: Run, forecast: Forecast, num_read: int, num_written: int | None) -> str:
    pace = recall(run.machine, num_read, (forecast.most_written or 0) if num_written is None else num_written)
    as_before = "as fast as the run of this model here that is most like it"
    if pace is not None and num_written is not None:
        return f"about {duration(pace.expected(num_read, num_written))}, {as_before}"
    if pace is not None and forecast.most_written is not None:
        return f"up to {duration(pace.expected(num_read, forecast.most_written))}, {as_before}" + _how_to_know(forecast)
    return _UNKNOWN + _how_to_know(forecast)


def _how_to_know(forecast: Forecast) -> str:
    """Return how the lengths of answers are found out, unless that would be the whole job."""
    return f"; `--sample {_SAMPLED}` finds out" if forecast.num_asked > _SAMPLED else ""


def _memory(run: Run, forecast: Forecast) -> str | None:
    """Return how much memory the model and the pieces take, where the files tell."""
    choice = run.choice
    if choice.engine != "model":
        return None
    from llmpar.models.configuration import configuration
    from llmpar.models.costs import PROGRAM, token_bytes, weight_bytes
    from llmpar.models.load import find_arithmetic
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
