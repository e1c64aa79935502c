"""What a run says that helps against its failures: nothing where nothing does."""

from __future__ import annotations

from llmpar.cli.advice import advise
from llmpar.documents.document import Result, text_document, text_segment
from llmpar.reporting.report import LEFT_OUT, Report

SEGMENT = text_segment(text_document("a.txt"), "Text.")


def report(*results: Result, fates: tuple[str, str] | None = None) -> Report:
    counts = Report(fates=fates)
    for result in results:
        counts.add(result)
    return counts


GOOD = Result(SEGMENT, "Good.")
POOR = Result(SEGMENT, error="the answer is empty")
STOPPED = Result(SEGMENT, "On and on", error="did not end", finish_reason="length", num_output_tokens=530)
BROKEN = Result(SEGMENT, error="memory ran out", finish_reason="error")


def test_a_good_run_needs_none() -> None:
    assert advise(report(GOOD), "run", "keep", keeps=True) is None


def test_what_is_no_answer_has_its_own_remedy() -> None:
    assert advise(report(GOOD, BROKEN), "run", "keep", keeps=True) is None


def test_each_part_is_there_for_a_reason() -> None:
    told = advise(report(GOOD, POOR, STOPPED, BROKEN), "run", "keep", keeps=True)
    assert told is not None
    assert told.split("\n") == [
        "llmpar run: 2 pieces had no good answer",
        "  --retry-failed asks again for those alone; a larger model (-m) fails less often",
        "  --max-new-tokens 1100 gives more room to 1 of them, stopped while writing",
        "  --on-error mark shows in the text what stayed as it was",
    ]


def test_what_failed_before_was_not_asked_again() -> None:
    old = Result(SEGMENT, error="the answer is empty", cached=True)
    line = advise(report(old, POOR), "run", "mark", keeps=True)
    assert line is not None
    assert "1 of them as in an earlier run, and not asked again" in line
    assert "--on-error" not in line


def test_without_a_store_there_is_nothing_to_retry() -> None:
    line = advise(report(POOR, fates=LEFT_OUT), "ask", "keep", keeps=False)
    assert line is not None
    assert "--retry-failed" not in line
    assert "--retries 3" in line
    assert "--on-error" not in line
