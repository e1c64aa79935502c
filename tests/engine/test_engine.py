"""Scheduler, worker and engine, with runners that need no model."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines import answers, fits, request
from support.fakes import FakeRunner, fake_answer

from llmpar.engine.echo import EchoRunner
from llmpar.engine.engine import Engine
from llmpar.engine.request import Request, SamplingParams, Sequence
from llmpar.engine.scheduler import Scheduler
from llmpar.errors import EngineFailed


def opened(num_workers: int, window: int, *, similar: bool = False) -> Scheduler:
    """Return a scheduler that has been admitting for a while."""
    scheduler = Scheduler(num_workers, window, similar=similar)
    for index in range(40):
        scheduler.submit(request(index))
        (admitted,) = scheduler.admit(0, 1, fits) or []
        assert scheduler.retire(0, admitted)
    return scheduler


class TestScheduler:
    def test_longest_first_within_the_window(self) -> None:
        scheduler = opened(num_workers=1, window=4)
        for index, length in enumerate([1, 5, 3, 2, 9]):
            scheduler.submit(request(index, length))
        admitted = scheduler.admit(0, 2, fits)
        assert admitted is not None
        assert [r.id for r in admitted] == [1, 2], "the fifth is outside the window"
        admitted = scheduler.admit(0, 9, fits)
        assert admitted is not None
        assert [r.id for r in admitted] == [4, 3, 0]

    def test_the_first_requests_come_first(self) -> None:
        scheduler = Scheduler(num_workers=2, window=64)
        for index in range(64):
            scheduler.submit(request(index, 1 + index))
        first, second = (scheduler.admit(worker, 64, fits) for worker in range(2))
        assert first is not None
        assert second is not None
        assert {r.id for r in first} <= {0, 1, 2, 3}
        assert {r.id for r in second} <= set(range(10))
        assert len(first) <= 2 < len(second)

    def test_a_short_request_does_not_wait_for_all_longer_ones_behind_it(self) -> None:
        """Of 1,300 lines that begin with their number, the tenth came after 11 of 14 seconds."""
        scheduler = opened(num_workers=1, window=64)
        for index in range(1000):
            scheduler.submit(request(index, 1 + min(index, 100)))
        turns = 0
        while 0 in {one.id for one in scheduler._waiting}:
            for one in scheduler.admit(0, 8, fits) or []:
                assert scheduler.retire(0, one)
            turns += 1
        assert turns <= 2

    def test_workers_share_what_waits(self) -> None:
        scheduler = opened(num_workers=4, window=100)
        for index in range(10):
            scheduler.submit(request(index))
        counts = [len(scheduler.admit(worker, 64, fits) or []) for worker in range(4)]
        assert counts == [3, 3, 3, 1]

    @pytest.mark.parametrize(("similar", "costs"), [(False, [104, 96]), (True, [132, 68])])
    def test_workers_get_long_and_short_ones_alike_unless_they_pad(self, similar: bool, costs: list[int]) -> None:
        scheduler = opened(num_workers=2, window=100, similar=similar)
        for index in range(16):
            scheduler.submit(request(index, 5 + index))
        got = [scheduler.admit(worker, 8, fits) or [] for worker in range(2)]
        assert [len(taken) for taken in got] == [8, 8]
        assert [sum(len(one.prompt_ids) for one in taken) for taken in got] == costs
        assert all(taken == sorted(taken, key=lambda one: -len(one.prompt_ids)) for taken in got)

    def test_a_busy_worker_leaves_requests_to_an_idle_one(self) -> None:
        scheduler = opened(num_workers=2, window=100)
        for index in range(8):
            scheduler.submit(request(index))
        first = scheduler.admit(0, 4, fits)
        assert first is not None
        assert len(first) == 4
        assert scheduler.admit(0, 4, fits) == []

    @pytest.mark.parametrize("similar", [False, True])
    @pytest.mark.parametrize("num_workers", [1, 2])
    def test_a_short_one_is_soon_taken_where_one_place_is_free_at_a_time(self, num_workers: int, similar: bool) -> None:
        """Half of one place is none: with few slots, a short line waited for all longer ones behind it."""
        scheduler = opened(num_workers, window=8, similar=similar)
        for number in range(40):
            scheduler.submit(request(number, 5 if number == 0 else 20 + number))
        taken: list[int] = []
        while 0 not in taken:
            (admitted,) = scheduler.admit(0, 1, fits) or []
            taken.append(admitted.id)
            scheduler.retire(0, admitted)
        assert len(taken) <= 2

    def test_where_they_pad_the_oldest_is_soon_taken_with_those_that_are_about_as_long(self) -> None:
        scheduler = opened(num_workers=1, window=32, similar=True)
        lengths = [30, *range(10, 110)]
        for number, length in enumerate(lengths):
            scheduler.submit(request(number, length))
        batches = [[one.id for one in scheduler.admit(0, 4, fits) or [] if scheduler.retire(0, one)] for _ in range(2)]
        (batch,) = (batch for batch in batches if 0 in batch)
        assert len(batch) == 4
        assert max(lengths[number] for number in batch) - min(lengths[number] for number in batch) <= 3

    def test_close_wakes_a_waiting_worker_and_returns_what_waited(self) -> None:
        scheduler = Scheduler(num_workers=1, window=8)
        got: list[object] = []
        thread = threading.Thread(target=lambda: got.append(scheduler.admit(0, 1, fits)))
        thread.start()
        assert scheduler.close() == []
        thread.join(5)
        assert got == [None]
        assert not scheduler.submit(request(0))

    @given(st.lists(st.integers(1, 30), max_size=60), st.integers(1, 16), st.integers(1, 8))
    def test_nothing_is_lost_or_taken_twice(self, lengths: list[int], window: int, room: int) -> None:
        scheduler = Scheduler(num_workers=1, window=window)
        for index, length in enumerate(lengths):
            scheduler.submit(request(index, length))
        taken: list[int] = []
        while len(taken) < len(lengths):
            admitted = scheduler.admit(0, room, fits)
            assert admitted
            assert len(admitted) <= room
            taken += [r.id for r in admitted]
            assert all(scheduler.retire(0, one) for one in admitted)
        assert sorted(taken) == list(range(len(lengths)))

    def test_what_does_not_fit_waits_and_is_not_overtaken(self) -> None:
        scheduler = opened(num_workers=1, window=8)
        for index, length in enumerate([3, 5, 1, 4]):
            scheduler.submit(request(index, length))
        asked: list[int] = []

        def all_but_4(one: Request) -> bool:
            asked.append(one.id)
            return len(one.prompt_ids) != 4

        admitted = scheduler.admit(0, 4, all_but_4)
        assert admitted is not None
        assert [r.id for r in admitted] == [1]
        assert asked == [1, 3], "memory was set aside for one that was not taken"
        assert scheduler.admit(0, 4, all_but_4) == []
        admitted = scheduler.admit(0, 4, fits)
        assert admitted is not None
        assert [r.id for r in admitted] == [3, 0, 2]

    def test_what_does_not_fit_is_returned_by_close(self) -> None:
        scheduler = opened(num_workers=1, window=8)
        for index in range(3):
            scheduler.submit(request(index))
        assert scheduler.admit(0, 2, lambda _: False) == []
        assert [r.id for r in scheduler.close()] == [0, 1, 2]

    @given(st.lists(st.integers(1, 30), max_size=60), st.integers(1, 16), st.integers(1, 8), st.integers(30, 60))
    def test_nothing_is_lost_however_little_fits(self, lengths: list[int], window: int, room: int, memory: int) -> None:
        scheduler = Scheduler(num_workers=1, window=window)
        for index, length in enumerate(lengths):
            scheduler.submit(request(index, length))
        taken: list[int] = []
        running: list[Request] = []

        def reserve(one: Request) -> bool:
            nonlocal memory
            if len(one.prompt_ids) > memory:
                return False
            memory -= len(one.prompt_ids)
            return True

        while len(taken) < len(lengths):
            admitted = scheduler.admit(0, room - len(running), reserve)
            assert admitted is not None
            assert admitted or running, "nothing runs, so all memory is free, and yet nothing is taken"
            taken += [r.id for r in admitted]
            running += admitted
            assert len(running) <= room
            ended = running.pop(0)
            memory += len(ended.prompt_ids)
            assert scheduler.retire(0, ended)
        assert sorted(taken) == list(range(len(lengths)))


class NarrowRunner(FakeRunner):
    """A FakeRunner with memory for few tokens."""

    def __init__(self, num_slots: int, memory: int) -> None:
        super().__init__(num_slots)
        self.free = memory

    def reserve(self, request: Request) -> bool:
        fits = len(request.prompt_ids) <= self.free
        self.free -= len(request.prompt_ids) if fits else 0
        return fits

    def release(self, sequence: Sequence) -> None:
        super().release(sequence)
        self.free += len(sequence.request.prompt_ids)


class TestEngine:
    @settings(max_examples=25, deadline=None)
    @given(
        lengths=st.lists(st.integers(1, 20), max_size=40),
        workers=st.integers(1, 6),
        slots=st.integers(1, 9),
        seed=st.integers(0, 9),
    )
    def test_every_answer_is_its_own_prompts(self, lengths: list[int], workers: int, slots: int, seed: int) -> None:
        requests = [request(index, length) for index, length in enumerate(lengths)]
        runners = [FakeRunner(slots, delay=0.0003, seed=seed + i) for i in range(workers)]
        found = answers(runners, requests)
        for one in requests:
            assert list(found[one.id].output_ids) == fake_answer(one.prompt_ids)
            assert found[one.id].finish_reason == "stop"

    def test_slots_are_filled_again_while_others_run(self) -> None:
        runner = FakeRunner(num_slots=8)
        answers([runner], [request(index, 1 + index % 7) for index in range(100)])
        assert runner.most_live == 8

    def test_little_memory_only_makes_requests_wait(self) -> None:
        runners = [NarrowRunner(8, memory) for memory in (40, 20)]
        requests = [request(index, 1 + index % 20) for index in range(150)]
        found = answers(runners, requests)
        assert all(list(found[one.id].output_ids) == fake_answer(one.prompt_ids) for one in requests)
        assert [runner.free for runner in runners] == [40, 20]

    def test_length_is_where_the_limit_is(self) -> None:
        long = next(i for i in range(100) if len(fake_answer([i] * 3)) > 5)
        found = answers([FakeRunner()], [request(long, params=SamplingParams(max_new_tokens=5))])
        assert found[long].finish_reason == "length"
        assert list(found[long].output_ids) == fake_answer([long] * 3)[:5]

    @pytest.mark.parametrize("fail_at", [1, 2, 7])
    @pytest.mark.parametrize("workers", [1, 3])
    def test_workers_that_all_die_take_every_request_to_an_end_with_the_reasons(
        self, fail_at: int, workers: int
    ) -> None:
        engine = Engine([FakeRunner(2, delay=0.001, fail_at=fail_at) for _ in range(workers)], 10_000)
        submitted = 0
        try:
            for index in range(60):
                engine.submit(request(index))
                submitted += 1
        except EngineFailed:
            pass  # it died while we were submitting, which is early notice
        ends = [engine.collect(timeout=20) for _ in range(submitted)]
        assert all(ends), "a request was forgotten"
        assert sorted(c.id for c in ends if c) == list(range(submitted))
        failed = [c for c in ends if c and c.finish_reason == "error"]
        assert failed
        assert all("on fire" in (c.error or "") for c in failed)
        assert (engine.failure or "").count("on fire") == workers
        with pytest.raises(EngineFailed, match="on fire"):
            engine.submit(request(99))
        engine.close(timeout=5)
        with pytest.raises(EngineFailed, match="on fire"):
            engine.collect(timeout=0.1)

    def test_a_prompt_beyond_the_context_fails_alone(self) -> None:
        found = answers([FakeRunner()], [request(0, 30), request(1, 3)], context=110)
        assert found[0].finish_reason == "error"
        assert "30 tokens" in (found[0].error or "")
        assert found[1].finish_reason == "stop"

    def test_closing_gives_up_what_waits(self) -> None:
        engine = Engine([FakeRunner(1, delay=0.05)], 10_000)
        for index in range(50):
            engine.submit(request(index))
        started = time.monotonic()
        engine.close(timeout=5)
        assert time.monotonic() - started < 4
        ends = [engine.collect(timeout=1) for _ in range(50)]
        assert all(ends)
        assert any(c and c.finish_reason == "error" and "closed" in (c.error or "") for c in ends)

    def test_echo_answers_with_the_prompt(self) -> None:
        found = answers([EchoRunner(3), EchoRunner(3)], [request(index, 1 + index) for index in range(50)])
        assert all(list(found[i].output_ids) == [i % 97] * (1 + i) for i in range(50))

    def test_a_status_for_each_worker(self) -> None:
        with Engine([FakeRunner(), FakeRunner()], 10_000) as engine:
            for index in range(20):
                engine.submit(request(index))
            for _ in range(20):
                engine.collect(timeout=10)
            assert sum(status.num_done for status in engine.statuses) == 20
        assert [status.phase for status in engine.statuses] == ["ended", "ended"]


class TestSequence:
    def test_equal_prompts_and_seeds_draw_equally(self) -> None:
        first, second = (Sequence(Request(i, [1, 2], SamplingParams(9, 1.0, seed=5))) for i in range(2))
        assert [first.draw() for _ in range(5)] == [second.draw() for _ in range(5)]

    @pytest.mark.parametrize(("prompt", "seed"), [([1, 3], 5), ([1, 2], 6)])
    def test_other_prompts_or_seeds_draw_differently(self, prompt: list[int], seed: int) -> None:
        first = Sequence(Request(0, [1, 2], SamplingParams(9, 1.0, seed=5)))
        second = Sequence(Request(0, prompt, SamplingParams(9, 1.0, seed=seed)))
        assert first.draw() != second.draw()
