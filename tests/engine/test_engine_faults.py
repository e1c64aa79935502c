"""What goes wrong while the engine runs: memory, requests and devices fail, time runs out, threads end."""

from __future__ import annotations

import contextlib
import threading
import time
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.device_faults import ALLOCATOR, FAULTS, failing_at
from support.engines import answers, collected, fits, request
from support.fakes import FakeRunner, fake_answer
from support.tiny_models import PREFIX, decoder, expected, make, prompts, ready

from llmpar.engine.build import build_engine
from llmpar.engine.cpu.decoder import Pass
from llmpar.engine.cpu.runner import DecoderRunner
from llmpar.engine.engine import Engine
from llmpar.engine.generic.kv_cache import KVCache, Room
from llmpar.engine.pages import PAGE
from llmpar.engine.request import Completion, Request, SamplingParams, Sequence
from llmpar.engine.resources import is_device_lost, is_out_of_memory
from llmpar.engine.scheduler import Scheduler
from llmpar.engine.worker import Worker
from llmpar.errors import EngineFailed, UsageError

PARAMS = SamplingParams(16)
OUT_OF_MEMORY = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried …"), RuntimeError(ALLOCATOR)]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("cpu", "generic"):
        monkeypatch.setattr(f"llmpar.engine.{kind}.model.usable_cores", lambda: 1)


class FaultyRunner(FakeRunner):
    """A FakeRunner whose steps fail halfway: some sequences have their token then, others do not.

    Args:
        room: how many may live; memory runs out with more.
        bad: ids of requests that raise `error` when they have `when` tokens.
    """

    def __init__(
        self,
        num_slots: int = 4,
        room: int = 1000,
        bad: frozenset[int] = frozenset(),
        when: int = 0,
        error: BaseException | None = None,
        shortage: BaseException | None = None,
        **options: Any,
    ) -> None:
        super().__init__(num_slots, **options)
        self.room, self.bad, self.when = room, bad, when
        self.error = error or ValueError("no such thing")
        self.shortage = shortage or MemoryError()
        self.num_reserved = 0
        self.sizes: list[int] = []
        self.lived: list[int] = []

    def reserve(self, request: Request) -> bool:
        self.num_reserved += 1
        return True

    def resize(self, num_slots: int) -> None:
        super().resize(num_slots)
        self.sizes.append(num_slots)

    def release(self, sequence: Sequence) -> None:
        super().release(sequence)
        self.num_reserved -= 1

    def _step(self, sequences: list[Sequence]) -> None:
        self.lived.append(len(self._live))
        if len(self._live) > self.room:
            super()._step(sequences[: len(sequences) // 2])
            raise self.shortage
        for index, sequence in enumerate(sequences):
            if sequence.request.id in self.bad and len(sequence.output_ids) == self.when:
                super()._step(sequences[:index])
                raise self.error
        super()._step(sequences)

    @property
    def is_clean(self) -> bool:
        return not self._live and not self.num_reserved


class TestEverythingComesBack:
    @settings(max_examples=150, deadline=None)
    @given(
        lengths=st.lists(st.integers(1, 20), max_size=40),
        rooms=st.lists(st.integers(1, 9), min_size=1, max_size=6),
        slots=st.integers(1, 8),
        bad=st.frozensets(st.integers(0, 39), max_size=2),
        when=st.integers(0, 5),
        shortage=st.sampled_from(OUT_OF_MEMORY),
        delay=st.sampled_from([0.0, 0.0003]),
    )
    def test_once_each_and_as_undisturbed(
        self,
        lengths: list[int],
        rooms: list[int],
        slots: int,
        bad: frozenset[int],
        when: int,
        shortage: BaseException,
        delay: float,
    ) -> None:
        requests = [request(index, length) for index, length in enumerate(lengths)]
        runners = [
            FaultyRunner(slots, room, bad, when, shortage=shortage, delay=delay, seed=i) for i, room in enumerate(rooms)
        ]
        found = answers(runners, requests)
        for one in requests:
            answer = fake_answer(one.prompt_ids)
            if one.id in bad and when <= len(answer):
                assert found[one.id].error == "ValueError: no such thing"
            else:
                assert (list(found[one.id].output_ids), found[one.id].error) == (answer, None)
        assert all(runner.is_clean for runner in runners)

    @settings(max_examples=30, deadline=None)
    @given(
        count=st.integers(1, 60),
        rooms=st.lists(st.integers(1, 9), min_size=1, max_size=6),
        slots=st.integers(1, 8),
        fail_at=st.integers(1, 30),
        error=st.sampled_from([ValueError("wrong"), SystemExit(3), RuntimeError("CUDA error: unspecified")]),
    )
    def test_once_each_when_a_worker_dies(
        self, count: int, rooms: list[int], slots: int, fail_at: int, error: BaseException
    ) -> None:
        runners = [FaultyRunner(slots, room, seed=i) for i, room in enumerate(rooms)]
        runners[0].bad, runners[0].error, runners[0].when = frozenset(range(fail_at, 99)), error, fail_at % 3
        engine, submitted = Engine(runners, 10_000), 0
        try:
            for index in range(count):
                engine.submit(request(index))
                submitted += 1
        except EngineFailed:
            pass
        ends = [engine.collect(timeout=20) for _ in range(submitted)]
        assert all(ends), "a request was forgotten"
        assert sorted(end.id for end in ends if end) == list(range(submitted))
        for end in ends:
            assert end is not None
            assert end.error or list(end.output_ids) == fake_answer([end.id] * 3)
        engine.close(timeout=5)
        assert engine.drain() == []


class TestMemory:
    @pytest.mark.parametrize("shortage", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
    def test_a_worker_halves_its_batch_and_stays_there(self, shortage: BaseException) -> None:
        runner = FaultyRunner(8, room=5, shortage=shortage)
        found = answers([runner], [request(index) for index in range(60)])
        assert not any(end.error for end in found.values())
        assert runner.sizes == [4]
        first = next(i for i, count in enumerate(runner.lived) if count > 5)
        assert max(runner.lived[first + 1 :]) == 4

    @pytest.mark.parametrize("slots", [1, 6])
    def test_what_is_too_large_by_itself_fails_alone(self, slots: int) -> None:
        runner = FaultyRunner(slots, bad=frozenset([7]), when=1, error=MemoryError())
        found = answers([runner], [request(index) for index in range(30)])
        assert [index for index, end in found.items() if end.error] == [7]
        assert "memory ran out" in (found[7].error or "")
        assert "3 tokens to read and up to 100 to write" in (found[7].error or "")
        assert all(list(found[i].output_ids) == fake_answer([i] * 3) for i in range(30) if i != 7)
        assert runner.num_slots >= slots // 2, "one request made all others slow"

    def test_more_of_them_than_make_a_device_dead_end_the_run_for_none(self) -> None:
        runner = FaultyRunner(2, bad=frozenset(range(12)), error=MemoryError())
        found = answers([runner], [request(index) for index in range(24)])
        assert sorted(index for index, end in found.items() if end.error) == list(range(12))

    def test_nothing_of_what_failed_is_kept_alive(self) -> None:
        class Big:
            alive = 0

            def __init__(self) -> None:
                Big.alive += 1

            def __del__(self) -> None:
                Big.alive -= 1

        class Holding(FaultyRunner):
            seen: ClassVar[list[int]] = []

            def resize(self, num_slots: int) -> None:
                super().resize(num_slots)
                self.seen.append(Big.alive)

            def _step(self, sequences: list[Sequence]) -> None:
                held = Big()  # as activations are, in the frames of a forward pass
                super()._step(sequences)
                del held

        answers([Holding(8, room=3)], [request(index) for index in range(20)])
        assert Holding.seen
        assert not any(Holding.seen)

    def test_what_says_so(self) -> None:
        for error in OUT_OF_MEMORY:
            assert is_out_of_memory(error)
        for allocate in (lambda: np.empty(1 << 57), lambda: torch.empty(1 << 58)):
            with pytest.raises((MemoryError, RuntimeError)) as caught:
                allocate()
            assert is_out_of_memory(caught.value)
        for text in ("CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"):
            assert is_out_of_memory(RuntimeError(text))
            assert not is_device_lost(RuntimeError(text))
        for text in ("CUDA error: device-side assert triggered", "HIP error: unspecified launch failure"):
            assert is_device_lost(RuntimeError(text))
            assert not is_out_of_memory(RuntimeError(text))
        assert is_device_lost(RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"))
        assert not is_out_of_memory(ValueError("out of memory"))
        assert not is_device_lost(ValueError("token 300 is not among the model's 300"))


class TestOneBadRequest:
    @pytest.mark.parametrize("when", [0, 2])
    def test_nobody_else_notices(self, when: int) -> None:
        bad = next(i for i in range(50) if len(fake_answer([i] * 3)) > 4)
        runner = FaultyRunner(8, bad=frozenset([bad]), when=when, error=IndexError("index out of range"))
        found = answers([runner], [request(index) for index in range(97)])
        assert [end.error for end in found.values() if end.error] == ["IndexError: index out of range"]
        assert found[bad].finish_reason == "error"
        assert max(runner.lived[-60:]) > 4, "the worker did not come back to its batch"

    def test_those_that_run_go_on_when_a_prefill_fails(self) -> None:
        runner = FaultyRunner(4, bad=frozenset([30]))
        restarted: list[int] = []
        real = runner.prefill
        runner.prefill = lambda sequences: restarted.extend(s.request.id for s in sequences) or real(sequences)  # type: ignore[func-returns-value,method-assign]
        answers([runner], [request(index) for index in range(40)])
        assert sum(restarted.count(i) > 1 for i in range(40)) < 4, "only what was admitted with it begins again"

    def test_many_among_good_ones_are_no_dead_device(self) -> None:
        bad = frozenset(range(0, 60, 2))
        found = answers([FaultyRunner(1, bad=bad)], [request(index) for index in range(60)])
        assert {index for index, end in found.items() if end.error} == bad

    def test_three_in_a_row_are_a_dead_device(self) -> None:
        engine = Engine([FaultyRunner(4, bad=frozenset(range(99)), error=RuntimeError("on fire"))], 10_000)
        engine.submit(request(0))
        engine.submit(request(1))
        assert all(engine.collect(timeout=20) for _ in range(2))
        assert engine.failure is None
        engine.submit(request(2))
        assert engine.collect(timeout=20)
        with pytest.raises(EngineFailed, match="worker 0 died: RuntimeError: on fire"):
            engine.collect(timeout=20)

    def test_a_lost_device_is_not_tried_again(self) -> None:
        runner = FaultyRunner(4, bad=frozenset([0]), error=RuntimeError("CUDA error: device-side assert triggered"))
        engine = Engine([runner], 10_000)
        engine.submit(request(0))
        end = engine.collect(timeout=20)
        assert end is not None
        assert "device-side assert" in (end.error or "")
        with pytest.raises(EngineFailed, match="device-side assert"):
            engine.collect(timeout=20)
        assert len(runner.lived) == 1


class Waiting(FaultyRunner):
    """A runner that hangs on bad requests until it is told to go on."""

    def __init__(self, num_slots: int, bad: frozenset[int]) -> None:
        super().__init__(num_slots)
        self.waits_on, self.go_on = bad, threading.Event()

    def _step(self, sequences: list[Sequence]) -> None:
        if any(sequence.request.id in self.waits_on for sequence in sequences):
            self.go_on.wait(30)
        super()._step(sequences)


class TestDeath:
    def test_a_hanging_worker_ends_the_run_with_a_reason_after_what_is_done(self) -> None:
        runners = [Waiting(2, frozenset([20])) for _ in range(2)]
        engine = Engine(runners, 10_000, stall_limit=0.5)
        for index in range(40):
            engine.submit(request(index))
        ends: list[Completion] = []
        with pytest.raises(EngineFailed, match=r"worker \d has not ended a step for 0.5 s.*batch_size"):  # noqa: PT012
            while end := engine.collect(timeout=20):
                ends.append(end)
        good = [end for end in ends if not end.error]
        assert len(good) >= 30
        assert all(list(end.output_ids) == fake_answer([end.id] * 3) for end in good)
        for runner in runners:
            runner.go_on.set()
        engine.close(timeout=5)
        assert sorted(end.id for end in [*ends, *engine.drain()]) == list(range(40))

    def test_who_has_nothing_to_do_does_not_hang(self) -> None:
        class Slow(FaultyRunner):
            def _step(self, sequences: list[Sequence]) -> None:
                time.sleep(0.1)
                super()._step(sequences)

        with Engine([Slow()], 10_000, stall_limit=0.4) as engine:
            for index in range(2):
                assert engine.collect(timeout=0.6) is None
                engine.submit(Request(index, [index], SamplingParams(2)))
                while engine.collect(timeout=0.02) is None:  # which looks each time
                    pass

    @pytest.mark.parametrize("workers", [1, 2, 3])
    @pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=repr)
    def test_a_thread_may_end_by_anything(self, error: BaseException, workers: int) -> None:
        engine = Engine([FaultyRunner(2, bad=frozenset([5]), error=error) for _ in range(workers)], 10_000)
        for index in range(6):
            engine.submit(request(index))
        found = {end.id: end for end in (engine.collect(timeout=20) for _ in range(6)) if end}
        assert sorted(found) == list(range(6))
        assert type(error).__name__ in (found[5].error or "")
        if workers < 3:
            with pytest.raises(EngineFailed, match=type(error).__name__):
                engine.collect()
        else:
            assert engine.failure is None, "the third never had what the others died of"
            engine.close()

    def test_a_thread_that_is_gone_without_a_word(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Worker, "run", lambda self: None)
        engine = Engine([FakeRunner()], 10_000)
        engine.submit(request(0))
        end = None
        with pytest.raises(EngineFailed, match="worker 0 ended without a reason"):  # noqa: PT012
            end = engine.collect()
            engine.collect()
        assert end is not None
        assert end.finish_reason == "error"

    def test_a_closed_engine_keeps_nobody_waiting(self) -> None:
        engine = Engine([FakeRunner()], 10_000)
        engine.close()
        assert engine.collect() is None

    def test_memory_that_runs_out_as_the_engine_closes(self) -> None:
        class Closing(FaultyRunner):
            def _step(self, sequences: list[Sequence]) -> None:
                if len(self._live) > 1:
                    engine._stop("the engine was closed")
                    raise MemoryError
                super()._step(sequences)

        engine = Engine([Closing()], 10_000)
        ends = []
        with contextlib.suppress(EngineFailed):
            for index in range(9):
                engine.submit(request(index))
                ends.append(index)
        found = [engine.collect(timeout=20) for _ in ends]
        assert sorted(end.id for end in found if end) == ends
        assert engine.collect(timeout=0.1) is None

    def test_drain_returns_what_is_there_at_once(self) -> None:
        runner = Waiting(1, frozenset([3]))
        engine = Engine([runner], 10_000)
        for index in range(6):
            engine.submit(request(index))
        while engine.statuses[0].num_done < 3:
            time.sleep(0.001)
        started = time.monotonic()
        engine.close(timeout=0)
        found = engine.drain()
        assert time.monotonic() - started < 10
        assert [end.id for end in found if not end.error] == [0, 1, 2]
        assert {end.id for end in found if end.error} == {4, 5}
        runner.go_on.set()
        engine.close(timeout=5)
        assert [end.id for end in engine.drain()] == [3]


class TestTime:
    def test_who_takes_too_long_fails_and_frees_the_slot(self) -> None:
        slow = next(i for i in range(50) if len(fake_answer([i] * 3)) == 16)
        num_steps = 0

        class Slow(FaultyRunner):
            def _step(self, sequences: list[Sequence]) -> None:
                nonlocal num_steps
                num_steps += any(sequence.request.id == slow for sequence in sequences)
                time.sleep(0.02)
                super()._step(sequences)

        requests = [Request(i, [i] * 3, PARAMS, timeout=0.1 if i == slow else None) for i in range(50)]
        runner = Slow(8)
        found = answers([runner], requests)
        assert (found[slow].finish_reason, found[slow].error) == ("error", "took longer than 0.1 s")
        assert found[slow].seconds > 0.1
        assert num_steps <= 6, "it ends with the step in which its time is over"
        assert not any(end.error for end in found.values() if end.id != slow)
        assert all(end.seconds >= 0.02 for end in found.values())
        assert runner.is_clean

    def test_each_has_its_own_time(self) -> None:
        class Slow(FaultyRunner):
            def _step(self, sequences: list[Sequence]) -> None:
                time.sleep(0.01)
                for sequence in sequences:
                    sequence.append(1, frozenset())

        limits = [0.05, 0.3, None, 0.15]
        endless = [Request(i, [1], SamplingParams(60), timeout=limit) for i, limit in enumerate(limits)]
        found = answers([Slow(4)], endless)
        assert [found[i].error for i in range(4)] == [
            None if limit is None else f"took longer than {limit:g} s" for limit in limits
        ]
        assert found[0].seconds < found[3].seconds < found[1].seconds < found[2].seconds


class Choosy(FaultyRunner):
    """Cannot tell what some requests need."""

    def reserve(self, request: Request) -> bool:
        if request.id in self.bad:
            raise self.error
        return super().reserve(request)


class TestWhatCannotBeReserved:
    @pytest.mark.parametrize("slots", [1, 4])
    def test_fails_alone(self, slots: int) -> None:
        requests = [request(index, 4) for index in range(30)]
        runner = Choosy(slots, 9, frozenset({0, 7, 8, 29}))
        runner.when = 99  # nothing else fails
        found = answers([runner], requests)
        for one in requests:
            if one.id in runner.bad:
                assert found[one.id].error == "ValueError: no such thing"
            else:
                assert (list(found[one.id].output_ids), found[one.id].error) == (fake_answer(one.prompt_ids), None)
        assert runner.is_clean

    def test_a_device_that_is_lost_is_no_request_s_fault(self) -> None:
        runners = [Choosy(4, 9, frozenset({3}), 99, RuntimeError("CUDA error: unknown")), FaultyRunner(4, 9)]
        found = answers(runners, [request(index, 4) for index in range(12)])
        assert all(completion.error is None for completion in found.values())


class TestScheduler:
    def test_what_is_put_back_comes_first_and_in_order(self) -> None:
        scheduler = Scheduler(num_workers=1, window=8)
        for index in range(4):
            scheduler.submit(request(index))
        taken = scheduler.admit(0, 2, fits)
        assert taken is not None
        assert scheduler.put_back(0, taken)
        assert [one.id for one in scheduler.close()] == [0, 1, 2, 3]
        assert not scheduler.put_back(0, taken)

    def test_what_is_put_back_is_shared_anew(self) -> None:
        scheduler = Scheduler(num_workers=2, window=8)
        for index in range(4):
            scheduler.submit(request(index))
        for _ in range(3):
            taken = scheduler.admit(0, 8, fits)
            assert taken is not None
            assert len(taken) == 2
            scheduler.put_back(0, taken)

    def test_what_is_put_back_wakes_another_worker(self) -> None:
        scheduler = Scheduler(num_workers=2, window=8)
        scheduler.submit(request(0))
        taken = scheduler.admit(0, 1, fits)
        got: list[object] = []
        thread = threading.Thread(target=lambda: got.append(scheduler.admit(1, 1, fits)))
        thread.start()
        assert taken is not None
        scheduler.put_back(0, taken)
        thread.join(5)
        assert got == [taken]

    def test_a_request_whose_memory_cannot_be_reckoned_still_waits(self) -> None:
        scheduler = Scheduler(num_workers=1, window=8)
        for index in range(3):
            scheduler.submit(request(index))
        with pytest.raises(ZeroDivisionError):
            scheduler.admit(0, 2, lambda _: bool(1 / 0))
        assert [one.id for one in scheduler.close()] == [0, 1, 2]


class TestRealRunners:
    @pytest.mark.parametrize("prefix", [(), PREFIX], ids=["no-prefix", "prefix"])
    @pytest.mark.parametrize(("steps", "error"), FAULTS, ids=str)
    @pytest.mark.parametrize("workers", [1, 3])
    def test_decoder(
        self,
        monkeypatch: pytest.MonkeyPatch,
        steps: set[int],
        error: BaseException,
        workers: int,
        prefix: list[int],
    ) -> None:
        engine = build_engine([ready(decoder("llama"))], 256, frozenset({2}), workers, 16, prefix)
        fail, real = failing_at({10 * step for step in steps}, error), Pass._add  # six calls make a pass
        monkeypatch.setattr(Pass, "_add", lambda *a: fail() or real(*a))
        assert collected(engine, prompts("llama"), PARAMS) == expected("llama")
        self.check_pages(engine, -(-len(prefix) // PAGE))

    @pytest.mark.parametrize("error", [MemoryError(), IndexError("list index")], ids=repr)
    def test_decoder_that_does_not_come_to_every_sequence(
        self, monkeypatch: pytest.MonkeyPatch, error: BaseException
    ) -> None:
        engine = build_engine([ready(decoder("llama"))], 256, frozenset({2}), 1, 16, PREFIX)
        fail, real = failing_at({3, 9, 30}, error), DecoderRunner._admit
        monkeypatch.setattr(DecoderRunner, "_admit", lambda *a: fail() or real(*a))
        assert collected(engine, prompts("llama"), PARAMS) == expected("llama")
        self.check_pages(engine, 1)

    @pytest.mark.parametrize("prefix", [(), PREFIX], ids=["no-prefix", "prefix"])
    @pytest.mark.parametrize(("steps", "error"), FAULTS, ids=str)
    @pytest.mark.parametrize("workers", [1, 3])
    def test_model(self, steps: set[int], error: BaseException, workers: int, prefix: list[int]) -> None:
        model = deepcopy(make("llama"))
        engine = build_engine([ready(model)], 256, frozenset({2}), workers, 16, prefix)
        model.model.layers[1].register_forward_pre_hook(failing_at(steps, error))
        assert collected(engine, prompts("llama"), PARAMS) == expected("llama")
        for worker in engine._workers:
            runner: Any = worker._runner
            assert runner._live == runner._shares == []
            assert runner._cache._num_slots == runner.num_slots, "no memory was given back"
            assert runner._room.is_empty

    @pytest.mark.parametrize(("steps", "error"), FAULTS, ids=str)
    def test_padded_model(self, steps: set[int], error: BaseException) -> None:
        model = deepcopy(make("bloom-alibi"))
        engine = build_engine([ready(model)], 256, frozenset({2}), 2, 16)
        model.transformer.h[1].register_forward_pre_hook(failing_at(steps, error))
        assert collected(engine, prompts("bloom-alibi"), PARAMS) == expected("bloom-alibi")
        for worker in engine._workers:
            runner: Any = worker._runner
            assert runner._batches == [], "its keys and values are still there"
            assert runner._room.is_empty

    @pytest.mark.parametrize("kind", ["decoder", "model", "padded"])
    def test_a_prompt_that_the_model_cannot_read_fails_alone(self, kind: str) -> None:
        name = "bloom-alibi" if kind == "padded" else "llama"
        engine = build_engine(
            [ready(decoder(name) if kind == "decoder" else deepcopy(make(name)))], 256, frozenset({2}), 2, 8
        )
        asked = [*prompts(name)[:9], [5, 300, 5], *prompts(name)[9:]]
        with engine:
            for index, prompt in enumerate(asked):
                engine.submit(Request(index, prompt, PARAMS))
            ends = [engine.collect(timeout=60) for _ in asked]
        found = {end.id: end for end in ends if end}
        assert (found[9].error or "").startswith(("ValueError: token 300", "IndexError: index out of range"))
        assert [list(found[i].output_ids) for i in range(len(asked)) if i != 9] == expected(name)

    def check_pages(self, engine: Engine, num_shared: int) -> None:
        for worker in engine._workers:
            runner: Any = worker._runner
            there = sorted([*runner._pages._free, *runner._pages._tree._kept])
            assert there == list(range(num_shared, runner._num_pages))
            assert sorted(runner._pages._free_slots) == list(range(runner.num_slots))
            assert runner._pages._num_unreserved == len(runner._pages._free) + runner._pages._tree.num_kept


class TestMaxMemory:
    @pytest.mark.parametrize("prefix", [(), PREFIX], ids=["no-prefix", "prefix"])
    @pytest.mark.parametrize("workers", [1, 3])
    def test_pages_of_a_decoder(self, workers: int, prefix: list[int]) -> None:
        model = decoder("llama")
        max_memory = 77 * model.page_bytes
        said: list[str] = []
        engine = build_engine(
            [ready(model)], 256, frozenset({2}), workers, 16, prefix, max_memory=max_memory, notify=said.append
        )
        num_pages = sum(worker._runner._num_pages for worker in engine._workers)  # type: ignore[attr-defined]
        num_pages += -(-len(prefix) // PAGE)
        assert 77 - workers < num_pages <= 77
        assert said[0].endswith(f"up to {num_pages * model.page_bytes / 1e6:,.0f} MB for keys and values")
        assert collected(engine, prompts("llama"), PARAMS) == expected("llama")

    @pytest.mark.parametrize("name", ["llama", "gemma2-softcap-window", "bloom-alibi"])
    @pytest.mark.parametrize("workers", [1, 2])
    def test_rows_of_a_model(self, monkeypatch: pytest.MonkeyPatch, name: str, workers: int) -> None:
        model = deepcopy(make(name))
        config = model.config
        if name == "bloom-alibi":
            per_token = 2 * 4 * config.n_layer * config.hidden_size
        else:
            per_token = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        kept: list[int] = []
        real, released = KVCache.reserve, Room.leave

        def reserve(cache: KVCache, num_columns: int) -> None:
            real(cache, num_columns)
            kept.append(sum(keys.nbytes + values.nbytes for keys, values in cache._layers.values()))

        def leave(room: Room) -> None:
            kept.append(room._num_rows * room.num_columns * per_token)
            released(room)

        monkeypatch.setattr(KVCache, "reserve", reserve)
        monkeypatch.setattr(Room, "leave", leave)
        max_memory = workers * 300 * per_token
        engine = build_engine([ready(model)], 256, frozenset({2}), workers, 16, max_memory=max_memory)
        assert collected(engine, prompts(name), PARAMS) == expected(name)
        assert 150 * per_token < max(kept) <= max_memory // workers

    def test_long_sequences_leave_room_for_many_short_ones_later(self) -> None:
        model = deepcopy(make("llama"))
        per_token = 2 * 4 * 3 * 2 * 16
        engine = build_engine([ready(model)], 256, frozenset(), 1, 16, max_memory=300 * per_token)
        running: list[int] = []
        runner: Any = engine._workers[0]._runner
        real = runner.decode
        runner.resize = lambda _: pytest.fail("something went wrong and was tried again")
        runner.decode = lambda sequences: running.append(len(sequences)) or real(sequences)
        for _ in range(2):
            for length in (200, 5):
                for index in range(20):
                    engine.submit(Request(index, [5] * length, SamplingParams(8)))
                assert all(engine.collect(timeout=60) for _ in range(20))
                assert max(running) == (1 if length == 200 else 9)
                running.clear()
        engine.close()

    @pytest.mark.parametrize("kind", ["decoder", "model"])
    def test_too_little_is_refused_and_the_least_that_is_named_is_enough(self, kind: str) -> None:
        model = decoder("llama") if kind == "decoder" else deepcopy(make("llama"))
        with pytest.raises(
            UsageError, match=r"0.1MB \(max_memory\) is too little .* at least \d+MB with 2 workers"
        ) as told:
            build_engine([ready(model)], 256, frozenset({2}), 2, 16, max_memory=100_000)
        least = int(str(told.value).split("at least ")[1].split("MB")[0]) * 1_000_000
        model = decoder("llama") if kind == "decoder" else deepcopy(make("llama"))
        engine = build_engine([ready(model)], 256, frozenset({2}), 2, 16, max_memory=least)
        assert collected(engine, prompts("llama"), PARAMS) == expected("llama")
