"""`--report FILE`: a run's page, which takes its pieces as they are done, and is written however the run ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from llmpar.cli.options import RunOptions
from llmpar.cli.particulars import tables_of
from llmpar.cli.words import duration
from llmpar.documents.document import Result
from llmpar.documents.writer import open_output
from llmpar.errors import Interrupted, LlmparError, WriteFailed
from llmpar.reporting.kept import Kept
from llmpar.reporting.page import About, RunPage
from llmpar.reporting.pieces import Piece
from llmpar.reporting.progress import Progress
from llmpar.reporting.records import Recorder
from llmpar.reporting.report import Report, counted
from llmpar.store.store import Store
from llmpar.visible import one_line

Taker = Callable[[Result, Store | None], None]
"""Takes a piece with its answer, and the store that knows its attempts."""


@contextmanager
def reported(name: str, options: RunOptions, report: Report, model: str, progress: Progress) -> Iterator[Taker]:
    """Yield what takes each piece that is done inside; the page is written at the end, or when a run ends early.

    Args:
        name: of the command, or of its task.
        options: the user's, who may want no page.
        report: the run's counts.
        model: its name.
        progress: makes way on the terminal, and tells of a page that cannot be written after a run that ended early.

    Raises:
        OutputUncreatable, Busy: the page's file cannot be written to.
        WriteFailed: it could not be written, or the pieces could not be kept until then.
    """
    place = options.output.report
    if place is None:
        yield lambda result, store: None  # noqa: ARG005 (a taker's)
        return
    page = RunPage(open_output(place, progress.aside, wait=options.output.wait), report.noun)
    began = time.time()
    recorder = Recorder(model)
    kept: dict[Store | None, Kept] = {}

    def take(result: Result, store: Store | None) -> None:
        if store not in kept:
            kept[store] = Kept(store)
        others = kept[store].others(result.key, result.num_attempts)
        page.add(Piece(recorder.record(result), result.text, result.answer, others))

    def publish(notice: str = "") -> None:
        start = datetime.fromtimestamp(began).astimezone()
        took = duration(time.time() - began)
        lead = f"Model {one_line(model)}. Began on {start:%Y-%m-%d} at {start:%H:%M:%S} ({start:%z}) and took {took}."
        if report.num_unreadable:
            lost = f"{counted(report.num_unreadable, 'input')} could not be read."
            notice = f"{notice} {lost}".lstrip()
        page.publish(About(f"llmpar {one_line(name)}", lead, notice, tables_of(options)))

    try:
        try:
            yield take
        except (Interrupted, LlmparError) as end:
            try:
                publish(f"The run ended early: {one_line(end)}. The pieces that were done by then are here.")
            except WriteFailed as failure:  # why the run ended is said last
                progress.note(f"llmpar {name}: {failure}")
            raise
        publish()
    finally:
        page.abandon()
