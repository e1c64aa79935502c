"""Documents through the pipeline with fake engines: order, failures, room for answers, bounded memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fakes import FakeRunner, LoopingRunner
from support.pipelines import DEFAULTS, POLICY, Collected, backend, parts, pipeline

from llmpar.answering.attempts import Policy
from llmpar.answering.backend import Backend
from llmpar.answering.flow import Part
from llmpar.documents.document import OnError, Result
from llmpar.documents.output import SingleOutput
from llmpar.engine.request import Sequence
from llmpar.errors import EngineFailed, InputError, ReaderGone, SegmentFailed
from llmpar.reporting.report import Report
from llmpar.tasks.question import Sampling
from llmpar.tasks.task import Task


def run(
    text: str,
    runners: list[FakeRunner],
    sampling: Sampling = DEFAULTS,
    context: int = 100_000,
    size: int = 200,
    policy: Policy = POLICY,
) -> tuple[str, Report, list[Result]]:
    writer, report, failures = Collected(), Report(), []

    def note(result: Result) -> None:
        if result.error is not None:
            failures.append(result)

    flow = pipeline(backend(runners, context), report, sampling, policy, done=note)
    flow.run(parts(text, size), SingleOutput(writer))
    assert writer.ending == "closed"
    return writer.data.decode(), report, failures


@settings(max_examples=20, deadline=None)
@given(
    lines=st.lists(st.text("ab .", max_size=9), max_size=40),
    workers=st.integers(1, 6),
    slots=st.integers(1, 8),
    size=st.integers(1, 50),
)
def test_any_n_gives_the_same_document(lines: list[str], workers: int, slots: int, size: int) -> None:
    text = "\n".join(lines)
    alone, *_ = run(text, [FakeRunner(1)])
    together, *_ = run(text, [FakeRunner(slots, delay=0.0003, seed=i) for i in range(workers)], size=size)
    assert together == alone
    assert [bool(line.strip(" .")) for line in alone.split("\n")] == [bool(line.strip(" .")) for line in lines or [""]]


def test_an_answer_that_needs_room_is_given_it_once() -> None:
    class Long(FakeRunner):
        """Answers with as many letters as the prompt says, counting those that a continued prompt holds."""

        def _step(self, sequences: list[Sequence]) -> None:
            for sequence in sequences:
                prompt = bytes(sequence.request.prompt_ids).decode()
                wanted = int(prompt.rstrip("x"))
                done = prompt.count("x") + len(sequence.output_ids)
                sequence.append(ord("x") if done < wanted else -1, frozenset({-1}))

    text, report, failures = run("5\n64\n100\n127\n128\n500", [Long(8)])
    assert [len(line) if "x" in line else line for line in text.split("\n")] == [5, 64, 100, 127, "128", "500"]
    assert [failure.segment.text for failure in failures] == ["128", "500"]
    assert "did not end within 128 tokens" in (failures[0].error or "")
    assert (report.num_failed, report.exit_code) == (2, 3)

    text, report, failures = run("5\n64\n500", [Long(8)], Sampling(max_new_tokens=20, max_repeats=0))
    assert [len(line) for line in text.split("\n")] == [5, 20, 20], "a limit that the user gave is the user's wish"
    assert (report.num_cut, report.num_failed, report.exit_code) == (2, 0, 0)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_loop_is_stopped_and_its_segment_stays_as_it_was(workers: int) -> None:
    requests: list[Sequence] = []

    class Counting(LoopingRunner):
        def prefill(self, sequences: list[Sequence]) -> None:
            requests.extend(sequences)
            super().prefill(sequences)

    runners: list[FakeRunner] = [Counting(2, delay=0.001, seed=i) for i in range(workers)]
    lines = ["good", "loop", "fine", "loop 2", "loop"]
    # The task gives 64 tokens, which the loop fills before it is one: what comes then belongs to the same answer.
    text, report, failures = run("\n".join(lines), runners, Sampling())
    good, *loops = text.split("\n")
    assert good != "good"
    assert [loops[0], *loops[2:]] == ["loop", "loop 2", "loop"]
    assert [failure.segment.text for failure in failures] == ["loop", "loop 2", "loop"]
    assert {failure.error for failure in failures} == {"the answer repeats itself (stopped after 80 tokens)"}
    assert (report.num_failed, report.num_looped, report.exit_code) == (3, 3, 3)
    assert len(requests) == 6, "the two loops are continued once, at the limit, and nothing is asked again"

    requests.clear()
    *_, failures = run("loop", [Counting(1)], Sampling(max_new_tokens=300))
    assert [failure.looped for failure in failures] == [True], "a limit of the user's is no licence to loop"
    assert len(requests) == 1

    *_, failures = run("loop", [Counting(1)])
    assert "did not end" in (failures[0].error or "")
    assert not failures[0].looped


def test_a_segment_that_fails_stays_as_it_was_and_leaves_its_neighbours_alone() -> None:
    class Empty(FakeRunner):
        def _step(self, sequences: list[Sequence]) -> None:
            for sequence in sequences:
                odd = sequence.request.prompt_ids == b"bad"
                sequence.append(
                    ord(" ") if odd and not sequence.output_ids else -1 if odd else ord("y"), frozenset({-1})
                )

    text, report, failures = run(
        f"good\nbad\n{'long ' * 200}\ngood",
        [Empty()],
        Sampling(max_new_tokens=3, max_repeats=0),
        context=300,
        policy=Policy(overflow="error"),
    )
    assert text.split("\n") == ["yyy", "bad", "long " * 200, "yyy"]
    assert ["empty" in (f.error or "") for f in failures] == [True, False]
    assert "1,000" not in (failures[1].error or "")
    assert "of the 300 tokens" in (failures[1].error or "")
    assert report.exit_code == 3


def test_what_is_too_short_for_the_task_is_left_as_it_is() -> None:
    writer, runner = Collected(), FakeRunner()
    task = Task("test", "{text}", margin=64, min_text_tokens=6)
    pipeline(backend([runner])).run(parts("Title\nA longer line.", task=task), SingleOutput(writer))
    title, answer = writer.data.decode().split("\n")
    assert title == "Title"
    assert answer != "A longer line."


def test_equal_segments_are_computed_once() -> None:
    asked: list[bytes] = []

    class Counting(FakeRunner):
        def prefill(self, sequences: list[Sequence]) -> None:
            asked.extend(bytes(s.request.prompt_ids) for s in sequences)
            super().prefill(sequences)

    text, report, _ = run("\n".join(["same", "other", "same"] * 3000), [Counting(4, delay=0.001), Counting(4)])
    lines = text.split("\n")
    assert sorted(asked) == [b"other", b"same"]
    assert len(set(lines)) == 2
    assert lines == lines[:3] * 3000
    assert (report.num_segments_done, report.num_reused) == (9000, 8998)
    assert report.num_text_tokens_done == report.num_text_tokens_read > 9000


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmpar.answering.memory._MOST_REMEMBERED", 2)
    text, report, _ = run("\n".join(["a", *map(str, range(2000)), "a"]), [FakeRunner(4)])
    assert (text.split("\n")[0], report.num_reused) == (text.split("\n")[-1], 0)


def test_blank_input_needs_no_backend() -> None:
    def never() -> Backend:
        raise AssertionError("a backend was made")

    for text in ("", "\n", "  \n\t\n", "-----\n"):
        writer = Collected()
        pipeline(never).run(parts(text), SingleOutput(writer))
        assert writer.data.decode() == text


def test_dead_workers_end_the_run_and_publish_nothing() -> None:
    writer = Collected()
    dying = backend([FakeRunner(2, fail_at=9), FakeRunner(2, delay=0.001, fail_at=12)])
    with pytest.raises(EngineFailed, match="on fire"):
        pipeline(dying).run(parts("\n".join(f"line {i}" for i in range(200))), SingleOutput(writer))
    assert writer.ending == "abandoned"


def test_bad_input_halfway_ends_the_run() -> None:
    def source() -> Iterator[Part]:
        yield next(parts("one\ntwo\n"))
        raise InputError("not text")

    writer = Collected()
    with pytest.raises(InputError):
        pipeline(backend([FakeRunner()])).run(source(), SingleOutput(writer))
    assert writer.ending == "abandoned"


def test_memory_is_bounded_when_the_first_segment_is_slow() -> None:
    release = threading.Event()

    class Slow(FakeRunner):
        def prefill(self, sequences: list[Sequence]) -> None:
            if any(s.request.prompt_ids == b"line 0" for s in sequences):
                release.wait(20)
            super().prefill(sequences)

    read = count()
    most = 0

    def source() -> Iterator[Part]:
        nonlocal most
        for part in parts("\n".join(f"line {i}" for i in range(15_000)), size=100):
            most = next(read)
            yield part

    writer = Collected()
    runners: list[FakeRunner] = [Slow(2), Slow(2)]
    thread = threading.Thread(target=pipeline(backend(runners)).run, args=(source(), SingleOutput(writer)), daemon=True)
    thread.start()
    time.sleep(1.5)
    held = most * 100
    release.set()
    thread.join(60)
    assert writer.ending == "closed"
    assert writer.data.count(b"\n") == 14_999
    assert held < 5_000, "everything was read although nothing could be written"


def test_a_slow_pipe_is_answered_as_it_speaks() -> None:
    writer = Collected()
    seen_before_second: list[bytes] = []

    def source() -> Iterator[Part]:
        lines = list(parts("one\ntwo\n", size=1))
        yield lines[0]
        deadline = time.monotonic() + 10
        while not writer.flushed and time.monotonic() < deadline:
            time.sleep(0.01)
        seen_before_second.append(writer.flushed)
        yield lines[1]

    pipeline(backend([FakeRunner()])).run(source(), SingleOutput(writer))
    assert seen_before_second[0], "the first answer waited for the second line"


def test_a_reader_that_goes_away_is_noticed_while_nothing_is_written() -> None:
    class Gone(Collected):
        flushes = 0

        def flush(self) -> None:
            self.flushes += 1
            if self.flushes > 3:
                raise ReaderGone

    started = time.monotonic()
    with pytest.raises(ReaderGone):
        pipeline(backend([FakeRunner(1, delay=10.0)])).run(parts("one\ntwo\nthree"), SingleOutput(Gone()))
    assert time.monotonic() - started < 8


def numbers_of_attempts(answers: dict[str, list[str]]) -> tuple[type[FakeRunner], list[tuple[str, int, float]]]:
    """Return a runner that gives each text its answers in turn, and the list of what it was asked."""
    asked: list[tuple[str, int, float]] = []

    class Scripted(FakeRunner):
        def prefill(self, sequences: list[Sequence]) -> None:
            for sequence in sequences:
                params, text = sequence.request.params, bytes(sequence.request.prompt_ids).decode()
                asked.append((text, params.seed, params.temperature))
            super().prefill(sequences)

        def _step(self, sequences: list[Sequence]) -> None:
            for sequence in sequences:
                text = bytes(sequence.request.prompt_ids).decode()
                times = sum(1 for earlier, *_ in asked if earlier == text)
                answer = answers[text][min(times, len(answers[text])) - 1].encode()
                done = len(sequence.output_ids)
                sequence.append(answer[done] if done < len(answer) else -1, frozenset({-1}))

    return Scripted, asked


def test_an_answer_that_will_not_do_is_asked_for_again_and_drawn_differently() -> None:
    runner, asked = numbers_of_attempts({"good": ["fine"], "bad": ["", "", "at last"], "worse": [""]})
    writer, report, results = Collected(), Report(), []
    pipeline(backend([runner(1)]), report, policy=Policy(retries=2), done=results.append).run(
        parts("good\nbad\nworse"), SingleOutput(writer)
    )
    assert writer.data == b"fine\nat last\nworse"
    assert [(result.num_attempts, result.error) for result in results] == [
        (1, None), (3, None), (3, "the answer is empty"),
    ]  # fmt: skip
    assert (report.num_retried, report.num_failed, report.exit_code) == (1, 1, 3)
    of_bad = [(seed, temperature) for text, seed, temperature in asked if text == "bad"]
    assert of_bad[0] == (0, 0.0)
    assert len(set(of_bad)) == 3
    assert all(temperature > 0 for _, temperature in of_bad[1:])


@pytest.mark.parametrize(
    ("on_error", "expected"),
    [("keep", "fine\nbad\nfine"), ("mark", "fine\n[llmpar: the answer is empty] bad\nfine"), ("skip", "fine\n\nfine")],
)
def test_what_becomes_of_a_segment_that_fails_is_the_users_choice(on_error: OnError, expected: str) -> None:
    runner, _ = numbers_of_attempts({"good": ["fine"], "bad": [""]})
    writer = Collected()
    pipeline(backend([runner(2)]), on_error=on_error).run(parts("good\nbad\ngood"), SingleOutput(writer))
    assert writer.data.decode() == expected


def test_a_run_that_must_not_fail_ends_at_the_first_failure() -> None:
    runner, _ = numbers_of_attempts({"good": ["fine"], "bad": [""]})
    writer = Collected()
    with pytest.raises(SegmentFailed, match=r"test:2 'bad': the answer is empty"):
        pipeline(backend([runner(2)]), on_error="fail").run(parts("good\nbad\ngood"), SingleOutput(writer))
    assert writer.ending == "abandoned"


@pytest.mark.parametrize(("max_held", "is_free"), [(1 << 20, True), (100, False)])
def test_a_slow_answer_holds_up_no_others_where_each_part_has_one_question(max_held: int, is_free: bool) -> None:
    """Of a document in chunks, no more than 32 were read ahead, and workers stood idle beside a long answer."""
    far, found = threading.Event(), list[bool]()

    class Slow(FakeRunner):
        def prefill(self, sequences: list[Sequence]) -> None:
            prompts = [bytes(s.request.prompt_ids) for s in sequences]
            if b"line 99" in prompts:
                far.set()
            if b"line 0" in prompts:
                found.append(far.wait(20 if is_free else 1))
            super().prefill(sequences)

    text, writer = "\n".join(f"line {number}" for number in range(100)), Collected()
    runners: list[FakeRunner] = [Slow(1), Slow(1)]
    pipeline(backend(runners), max_held=max_held).run(parts(text, size=1), SingleOutput(writer))
    assert found == [is_free]
    assert writer.data.count(b"\n") == 99


def test_parts_of_one_question_each_go_to_workers_together() -> None:
    """Whoever reads was looked at once an answer, for one part: five of a hundred texts were on their way."""
    ran: list[int] = []

    class Watching(FakeRunner):
        def prefill(self, sequences: list[Sequence]) -> None:
            ran.append(len(sequences))
            time.sleep(0.05)
            super().prefill(sequences)

    text, writer = "\n".join(f"line {number}" for number in range(100)), Collected()
    pipeline(backend([Watching(50)])).run(parts(text, size=1), SingleOutput(writer))
    assert writer.data.count(b"\n") == 99
    assert len(ran) <= 12, ran


def test_few_long_parts_are_read_ahead() -> None:
    """Documents that are one piece each were read ahead by their number: half a gigabyte."""
    read, seen = count(), list[int]()

    def source() -> Iterator[Part]:
        for part in parts("\n".join(f"{number}{'x' * 100_000}" for number in range(60)), size=1):
            next(read)
            yield part

    class Slow(FakeRunner):
        def prefill(self, sequences: list[Sequence]) -> None:
            if not seen:
                time.sleep(0.5)
                seen.append(next(read))
            super().prefill(sequences)

    writer = Collected()
    pipeline(backend([Slow(1)], 1_000_000), max_held=100).run(source(), SingleOutput(writer))
    assert writer.data.count(b"\n") == 59
    assert seen[0] <= 28


def test_text_on_its_way_is_bounded_in_characters_too() -> None:
    class Watching(FakeRunner):
        most = 0

        def prefill(self, sequences: list[Sequence]) -> None:
            super().prefill(sequences)
            Watching.most = max(Watching.most, sum(len(s.request.prompt_ids) for s in self._live))

    text = "\n".join(f"{i} " + "long " * 200 for i in range(40))
    writer = Collected()
    pipeline(backend([Watching(64)]), max_held=2500).run(parts(text), SingleOutput(writer))
    assert 1000 < Watching.most <= 2500
    assert writer.data.count(b"\n") == 39

    pipeline(backend([Watching(64)]), max_held=10).run(parts(text), SingleOutput(Collected()))
