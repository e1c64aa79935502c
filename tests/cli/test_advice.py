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
    assert advise(report(GOOD), "run", "mark", keeps=True) is None


def test_what_is_no_answer_has_its_own_remedy() -> None:
    assert advise(report(GOOD, BROKEN), "run", "mark", keeps=True) is None


def told(*results: Result) -> list[str]:
    advice = advise(report(*results), "run", "mark", keeps=True)
    assert advice is not None
    return advice.split("\n")


def test_it_is_how_many_and_the_step_that_helps_most() -> None:
    assert told(GOOD, POOR, STOPPED, BROKEN) == [
        "llmpar run: 2 pieces had no good answer",
        "  --max-new-tokens 1100 gives more room: 1 of them was stopped while writing; "
        "a larger model (-m) ends more often by itself",
    ]
    assert told(GOOD, POOR, POOR, STOPPED) == [
        "llmpar run: 3 pieces had no good answer",
        "  --retry-failed asks again for those alone; a larger model (-m) fails less often",
    ]
    assert told(STOPPED)[1:] == [
        "  --max-new-tokens 1100 gives more room: it was stopped while writing; "
        "a larger model (-m) ends more often by itself"
    ]
    assert told(POOR)[1:] == ["  --retry-failed asks again; a larger model (-m) fails less often"]


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


def test_one_that_failed_before_is_told_in_a_whole_sentence() -> None:
    line = advise(report(Result(SEGMENT, error="the answer is empty", cached=True)), "run", "mark", keeps=True)
    assert line is not None
    assert line.splitlines()[0] == "llmpar run: 1 piece had no good answer, as in an earlier run, and not asked again"


def test_a_model_that_fails_at_many_is_the_fault() -> None:
    assert told(*[GOOD] * 8, *[STOPPED] * 4)[1:] == [
        "  a larger model (-m) helps most, as this one fails so often",
        "  --max-new-tokens 1100 gives more room: all were stopped while writing",
    ]
    assert told(*[GOOD] * 8, *[POOR] * 4)[1:] == [
        "  a larger model (-m) helps most, as this one fails so often",
        "  --retry-failed asks again for those alone",
    ]
    assert len(told(*[GOOD] * 100, *[POOR] * 4)) == 2, "one in twenty-five may be the pieces' fault"


def test_more_room_makes_no_translation_of_what_went_on_and_on() -> None:
    """That a translation filled twice the room of its text was answered by the advice to give it still more."""
    counts = report(*[GOOD] * 3, *[STOPPED] * 4)
    assert advise(counts, "translate", "keep", keeps=True, translates=True) == (
        "llmpar translate: 4 pieces had no good answer\n"
        "  a larger model (-m) helps most, as this one fails so often\n"
        "  --retry-failed asks again for those alone\n"
        "  --on-error mark shows in the output which they are"
    )


def test_what_was_kept_as_it_was_can_be_marked() -> None:
    def marks(counts: Report) -> bool:
        return "--on-error mark" in (advise(counts, "run", "keep", keeps=True) or "")

    assert marks(report(POOR))
    assert not marks(report(POOR, fates=LEFT_OUT)), "which is left out of an answer with others"
    assert not marks(report(GOOD))
