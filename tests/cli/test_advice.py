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
    assert advise(report(GOOD), "run", keeps=True) is None


def test_what_is_no_answer_has_its_own_remedy() -> None:
    assert advise(report(GOOD, BROKEN), "run", keeps=True) is None


def told(*results: Result) -> list[str]:
    advice = advise(report(*results), "run", keeps=True)
    assert advice is not None
    return advice.split("\n")


def test_it_is_how_many_and_the_step_that_helps_most() -> None:
    assert told(GOOD, POOR, STOPPED, BROKEN) == [
        "llmpar run: 2 pieces had no good answer",
        "  --max-new-tokens 1100 gives more room to 1 of them, stopped while writing",
    ]
    assert told(GOOD, POOR, POOR, STOPPED) == [
        "llmpar run: 3 pieces had no good answer",
        "  --retry-failed asks again for those alone; a larger model (-m) fails less often",
    ]
    assert told(STOPPED)[1:] == ["  --max-new-tokens 1100 gives more room to it, stopped while writing"]
    assert told(POOR)[1:] == ["  --retry-failed asks again; a larger model (-m) fails less often"]


def test_what_failed_before_was_not_asked_again() -> None:
    old = Result(SEGMENT, error="the answer is empty", cached=True)
    line = advise(report(old, POOR), "run", keeps=True)
    assert line is not None
    assert "1 of them as in an earlier run, and not asked again" in line
    assert "--on-error" not in line


def test_without_a_store_there_is_nothing_to_retry() -> None:
    line = advise(report(POOR, fates=LEFT_OUT), "ask", keeps=False)
    assert line is not None
    assert "--retry-failed" not in line
    assert "--retries 3" in line
    assert "--on-error" not in line


def test_one_that_failed_before_is_told_in_a_whole_sentence() -> None:
    line = advise(report(Result(SEGMENT, error="the answer is empty", cached=True)), "run", keeps=True)
    assert line is not None
    assert line.splitlines()[0] == "llmpar run: 1 piece had no good answer, as in an earlier run, and not asked again"
