"""What is shown of a run: how far it is, how long it takes, in any width; and what a terminal is left with."""

from __future__ import annotations

import io
import re
import signal
import sys
import threading
from collections.abc import Callable

import pytest
from support.simulated_run import lengths, simulate

from llmpar.documents.document import Result, text_document, text_segment
from llmpar.engine.worker import WorkerStatus
from llmpar.reporting import screen as screen_module
from llmpar.reporting.costs import Costs
from llmpar.reporting.outlook import look_ahead
from llmpar.reporting.picture import picture
from llmpar.reporting.progress import Progress
from llmpar.reporting.report import Report
from llmpar.reporting.screen import Screen


@pytest.mark.parametrize(("count", "num_slots"), [(2000, 64), (1000, 128), (500, 64)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_time_left_is_about_right_after_a_fifth_of_the_run(count: int, num_slots: int, seed: int) -> None:
    pieces = lengths(count, seed)
    total = [seconds for seconds, _, _ in simulate(pieces, num_slots)][-1]
    costs = Costs()
    for seconds, report, statuses in simulate(pieces, num_slots):
        left = look_ahead(report, statuses, seconds, costs).seconds_left
        if 0.2 * total <= seconds <= 0.95 * total:
            assert left is not None
            assert abs(seconds + left - total) <= 0.25 * total
    assert look_ahead(report, statuses, seconds).share == 1.0


@pytest.mark.parametrize(("count", "num_slots"), [(2000, 64), (1000, 128), (500, 64), (3000, 128)])
@pytest.mark.parametrize("spread", [0.3, 0.6])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_time_left_converges_from_the_first_answers_on(count: int, num_slots: int, spread: float, seed: int) -> None:
    """Those that end first are the shortest, and to take the others for twice as long as they are was 70 % off."""
    pieces = lengths(count, seed, spread=spread)
    total = [seconds for seconds, _, _ in simulate(pieces, num_slots)][-1]
    num_told, costs = 0, Costs()
    for seconds, report, statuses in simulate(pieces, num_slots):
        left = look_ahead(report, statuses, seconds, costs).seconds_left
        if left is not None and 0.05 * total <= seconds <= 0.95 * total:
            num_told += 1
            assert abs(seconds + left - total) <= (0.4 if seconds < 0.2 * total else 0.25) * total
        assert left is not None or seconds < 0.12 * total
    assert num_told > 100


@pytest.mark.parametrize("count", [30, 120, 500])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_last_answers_are_not_said_to_take_no_time(count: int, seed: int) -> None:
    """A step for two answers takes as long as one for many: by what a token took so far, 3 % of the time was told."""
    pieces = lengths(count, seed)
    total = [seconds for seconds, _, _ in simulate(pieces, 120)][-1]
    costs, num_told = Costs(), 0
    for seconds, report, statuses in simulate(pieces, 120):
        left = look_ahead(report, statuses, seconds, costs).seconds_left
        if left and seconds > 0.7 * total and total - seconds > 1:
            num_told += 1
            assert 0.2 * (total - seconds) <= left <= 4 * (total - seconds)
    assert num_told > 10


def test_no_answer_is_taken_to_be_longer_than_the_limit() -> None:
    """Of answers of which most are cut, the first ones tell that the others go on and on."""
    pieces = [(read, min(length, 64)) for read, length in lengths(200, 4)]
    total = [seconds for seconds, _, _ in simulate(pieces, 128)][-1]
    found = {}
    for limit in (64.0, float("inf")):
        costs, worst = Costs(), 0.0
        for seconds, report, statuses in simulate(pieces, 128):
            report.most_tokens = limit
            left = look_ahead(report, statuses, seconds, costs).seconds_left
            if left is not None:
                worst = max(worst, abs(seconds + left - total) / total)
        found[limit] = worst
    assert found[64.0] <= 0.25
    assert found[64.0] < found[float("inf")]


def test_answers_over_answers_are_waited_for_level_by_level() -> None:
    pieces = lengths(100, 5)
    costs = Costs()
    for seconds, report, statuses in simulate(pieces, 128):
        alone = look_ahead(report, statuses, seconds, costs).seconds_left
        if report.num_segments_done > 50:
            break
    report.expect_questions(lambda number: (number / 3, 4))
    with_levels = look_ahead(report, statuses, seconds, costs).seconds_left
    assert alone is not None
    assert with_levels is not None
    mean = sum(length for _, length in pieces) / len(pieces)
    assert with_levels - alone > 4 * mean * 0.05 / 2, "a step takes 0.05 s"


def test_costs_are_learnt() -> None:
    costs = Costs()
    assert costs.expected(1, 1, 1) == 0.0
    seconds, read, written = 0.0, 0, 0
    for number in range(1, 300):
        rows = 1 + number % 40
        seconds, read, written = seconds + 20 * (0.02 + 0.001 * rows) + 0.5, read + 50, written + 20 * rows
        costs.look(seconds, read, written, rows)
    assert costs.expected(1000, 0, 0) > costs.expected(100, 0, 0) > 0
    assert costs.expected(0, 100, 100) == pytest.approx(100 * (0.02 + 0.001), rel=0.4), "slow steps for few rows"


def test_tokens_are_counted_as_they_are_written() -> None:
    for seconds, report, statuses in simulate([(50, 40)] * 128, 128):
        outlook = look_ahead(report, statuses, seconds)
        if report.num_segments_done:
            break
        assert outlook.num_written > 0
        assert outlook.num_read == 50 * 128
        assert outlook.share is not None
        assert outlook.share > 0, "nothing is done, and much has been written"


def test_an_input_without_an_end_has_no_share() -> None:
    report = Report()
    report.expect_bytes(None)
    report.read(5, 100)
    report.read_tokens(50)
    outlook = look_ahead(report, [], 1.0)
    assert (outlook.share, outlook.seconds_left) == (None, None)


def test_a_resumed_run_that_is_loading_is_not_done() -> None:
    report = Report()
    report.expect_bytes(1500)
    report.read(15, 1500)
    report.read_tokens(40)
    report.add(Result(text_segment(text_document("x"), "x"), "a", num_prompt_tokens=40, cached=True))
    outlook = look_ahead(report, [], 6.0)
    assert outlook.share == pytest.approx(1 / 15)
    assert outlook.seconds_left is None
    report.num_bytes_read = 500  # of which there may be three times as many
    assert look_ahead(report, [], 6.0).share == pytest.approx(1 / 45)


def test_no_time_is_told_by_the_first_few_of_many() -> None:
    for seconds, report, statuses in simulate([(50, 5)] * 4 + [(50, 200)] * 116, 120):
        left = look_ahead(report, statuses, seconds).seconds_left
        if 0 < report.num_asked < 15:
            assert left is None, "that would be the time of the shortest"
    assert left == 0.0


def test_pieces_that_are_being_answered_are_told_before_one_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    report, statuses = Report(), [WorkerStatus("decode", num_running=30), WorkerStatus("decode", num_running=2)]
    report.read(120, 10)
    lines = picture("run", report, look_ahead(report, statuses, 1.0), statuses, "", 100, 24)
    assert "0 of 120 pieces, 32 being answered" in "\n".join(lines)
    assert "being answered" not in "\n".join(picture("run", report, look_ahead(report, [], 1.0), [], "", 100, 24))
    with Progress("plain", "run", report) as progress:
        progress._statuses = lambda: statuses
        progress._next = 0.0
        progress.tick()
    assert "0 of 120 pieces, 32 being answered" in capsys.readouterr().err


def test_what_takes_time_is_told_whole_in_any_width() -> None:
    lines = picture("run", Report(), look_ahead(Report(), [], 1.0), [], "loading a model that has a long name", 24, 24)
    assert lines[1:3] == ["  loading a model that", "  has a long name…"]


def test_another_thread_says_what_takes_time_and_draws_nothing() -> None:
    with Progress("bar", "run", Report()) as progress:
        drawn: list[str] = []
        progress._draw = lambda: drawn.append(progress._doing)  # type: ignore[method-assign]
        thread = threading.Thread(target=progress.doing, args=("compiling",))
        thread.start()
        thread.join()
        assert drawn == []
        progress._next = 0.0
        progress.tick()
        progress.doing("")
        assert drawn == ["compiling", ""]


def shown(columns: int, rows: int = 24, num_workers: int = 2) -> list[str]:
    run = simulate(lengths(500, 3), 64)
    seconds, report, statuses = next(state for state in run if state[1].num_segments_done > 100)
    report.num_failed, report.num_cached, report.num_documents = 3, 20, 4
    report.seconds_to_start = 0.0
    outlook = look_ahead(report, statuses, seconds)
    return picture("translate", report, outlook, statuses * num_workers, "", columns, rows)


@pytest.mark.parametrize("columns", [20, 30, 45, 60, 80, 110, 200])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    lines = shown(columns)
    # A terminal that is too narrow for a word gets a line cut, and no second row.
    assert all(len(line) < max(columns, 46) for line in lines)
    text = " ".join(" ".join(lines).split())
    for part in ("translate", "of 500 pieces", "20 from the store", "3 failed", "worker 1"):
        assert part in text
    assert "left" in text


def test_a_wide_one_spells_all_out() -> None:
    text = "\n".join(shown(110))
    assert "tokens read, " in text
    assert " written, " in text
    assert "4 documents done" in text


def test_a_narrow_one_still_says_what_the_tokens_are() -> None:
    text = "\n".join(shown(45))
    assert " tokens written, " in text
    assert re.search(r"worker 0  writing \d+ pieces?, [\d,]+ written", text)


def test_what_stays_is_broken_between_words_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "llmpar run: 120 pieces, 2,383 tokens in, 0 out, 8.7 s\n  --retry-failed asks again for those alone"
    monkeypatch.setattr(screen_module, "terminal_size", lambda: (45, 24))
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert screen_module.fitted(line).split("\n") == [
        "llmpar run: 120 pieces, 2,383 tokens in, 0",
        "  out, 8.7 s",
        "  --retry-failed asks again for those alone",
    ]
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert screen_module.fitted(line) == line, "what is no terminal gets a summary of one line"


def test_many_workers_leave_room() -> None:
    lines = shown(110, rows=24, num_workers=128)
    assert len(lines) < 24
    assert lines[-1].startswith("  and ")
    assert "workers more at " in lines[-1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_is_drawn_is_erased_in_as_many_rows_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    size = [80, 24]
    monkeypatch.setattr(screen_module, "terminal_size", lambda: tuple(size))
    screen = Screen()
    screen.draw(["a" * 70, "b" * 30])
    size[0] = 25  # the terminal has broken the first line into three rows, and the second into two
    before = len(terminal.getvalue())
    screen.erase()
    assert terminal.getvalue()[before:].count("\x1b[1A\x1b[2K") == 5
    assert terminal.getvalue().endswith("\x1b[?25h"), "the cursor is back"


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    Screen().draw(["first", "second"])
    assert "\x1b[1m" not in terminal.getvalue()
    assert "\x1b[2m" not in terminal.getvalue()


def test_a_terminal_that_is_gone_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    terminal.close()
    monkeypatch.setattr(sys, "stderr", terminal)
    Screen().draw(["first"])


def test_a_signal_prints_the_state_one_time(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with Progress("none", "run", Report()) as progress:
        progress.watch(lambda: [WorkerStatus("decode", num_running=3, num_tokens=77)])
        progress.tick()
        assert capsys.readouterr().err == ""
        signal.raise_signal(signal.SIGUSR1)
        progress.tick()
        told = capsys.readouterr().err
        assert told.startswith("llmpar run ")
        assert "worker 0  writing 3 pieces, 77 tokens written" in told
        progress.tick()
        assert capsys.readouterr().err == ""
    assert signal.getsignal(signal.SIGUSR1) == before


def test_what_holds_workers_up_is_no_time_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    report = Report(started=0.0)
    progress = Progress("none", "run", report)

    def later(seconds: float, action: Callable[[], object]) -> None:
        now[0] += seconds
        action()

    progress.doing("loading")
    later(3, lambda: progress.watch(lambda: ()))
    later(1, lambda: progress.doing("compiling"))
    later(30, lambda: progress.doing(""))
    later(2, lambda: progress.doing("compiling"))
    later(20, lambda: progress.doing(""))
    now[0] += 4
    assert report.seconds_to_start == 3
    assert report.seconds_held_up == 50
    assert report.seconds_at_work == 7
