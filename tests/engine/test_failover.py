"""Workers that die or hang while others live: what they held is answered all the same, once, and somebody is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.backends import byte_backend
from support.engines import collected, fits, request
from support.fakes import FakeRunner, fake_answer
from support.pipelines import Collected, parts, pipeline
from support.program import Outcome
from support.tiny_models import PREFIX, expected, make, prompts, ready

import llmpar
from llmpar.answering.attempts import Policy
from llmpar.documents.output import SingleOutput
from llmpar.engine.build import build_engine
from llmpar.engine.echo import EchoRunner
from llmpar.engine.engine import Engine
from llmpar.engine.request import Completion, Request, SamplingParams, Sequence
from llmpar.engine.resources import give_memory_back
from llmpar.engine.scheduler import Scheduler
from llmpar.errors import EngineFailed
from llmpar.models import precision
from llmpar.reporting.report import Report

LOST = "CUDA error: an illegal memory access was encountered"
PARAMS = SamplingParams(16)


def lost() -> None:
    """What torch raises when a device is gone, advice and all."""
    raise RuntimeError(f"{LOST}\nCUDA kernel errors might be asynchronously reported")


class Failing(FakeRunner):
    """A FakeRunner that does something instead of a step.

    Args:
        fail: what it does.
        at: the step at which it does so, from 1.
        over: ids of requests over which it does so instead.
    """

    def __init__(
        self, num_slots: int = 4, fail: Callable[[], None] = lost, at: int = 0, over: tuple[int, ...] = (), **more: Any
    ) -> None:
        super().__init__(num_slots, **more)
        self.failed = threading.Event()
        self._fail, self._at, self._over = fail, at, over

    def _step(self, sequences: list[Sequence]) -> None:
        if self._steps + 1 == self._at or any(sequence.request.id in self._over for sequence in sequences):
            self.failed.set()
            self._fail()
        super()._step(sequences)


class Healthy(FakeRunner):
    """A FakeRunner that leaves the others time to fail before it does anything."""

    def __init__(self, others: list[Failing], num_slots: int = 4) -> None:
        super().__init__(num_slots)
        self._others = others

    def _step(self, sequences: list[Sequence]) -> None:
        assert all(other.failed.wait(20) for other in self._others)
        super()._step(sequences)


def vanish() -> None:
    """End this thread without a word."""
    threading.current_thread()._failed = lambda *_: None  # type: ignore[attr-defined]
    raise SystemExit


def finished(engine: Engine, requests: list[Request]) -> dict[int, Completion]:
    """Return the completions of requests, each of which must come once."""
    for one in requests:
        engine.submit(one)
    found: dict[int, Completion] = {}
    for _ in requests:
        completion = engine.collect(timeout=20)
        assert completion is not None, "a request was forgotten"
        assert completion.id not in found, "a request was answered twice"
        found[completion.id] = completion
    return found


def right(end: Completion, length: int = 3) -> bool:
    return end.error is None and list(end.output_ids) == fake_answer([end.id % 97] * length)


class TestOneOfTwo:
    @pytest.mark.parametrize("at", [1, 2, 5])
    @pytest.mark.parametrize("fail", [lost, vanish])
    def test_dies_and_the_other_answers_everything(self, fail: Callable[[], None], at: int) -> None:
        said: list[str] = []
        dying = Failing(fail=fail, at=at)
        engine = Engine([dying, Healthy([dying])], 10_000, names=["cuda:0", "cuda:1"], warn=said.append)
        found = finished(engine, [request(index) for index in range(60)])
        assert all(map(right, found.values()))
        assert engine.failure is None
        engine.close(timeout=5)
        assert engine.drain() == []
        what = f"died: RuntimeError: {LOST}" if fail is lost else "ended without a reason"
        assert len(said) == 1
        assert said[0].startswith(f"cuda:0 {what}; its ")
        assert said[0].endswith(("piece goes to the others", "pieces go to the others"))

    def test_hangs_and_what_it_says_when_it_wakes_is_not_heard(self) -> None:
        wake, said = threading.Event(), list[str]()
        hanging = Failing(fail=lambda: (wake.wait(30), None)[1], at=3)
        engine = Engine([hanging, Healthy([hanging])], 10_000, stall_limit=0.3, warn=said.append)
        found = finished(engine, [request(index) for index in range(60)])
        assert all(map(right, found.values()))
        assert {end.worker for end in found.values()} >= {1}
        engine.close()  # without waiting for the one that hangs
        assert engine._workers[0].is_alive()
        wake.set()
        engine._workers[0].join(20)
        assert not engine._workers[0].is_alive()
        assert engine.drain() == []
        assert engine.failure is None
        (line,) = said
        assert line.startswith("worker 0 has not ended a step for 0.3 s: the device hangs")
        assert "run again" not in line, "it goes on"

    def test_dies_before_it_has_anything(self) -> None:
        class Stillborn(Failing):
            def start(self) -> None:
                self.failed.set()
                lost()

        said: list[str] = []
        dying = Stillborn()
        engine = Engine([dying, Healthy([dying])], 10_000, warn=said.append)
        engine._workers[0].join(20)
        assert all(map(right, finished(engine, [request(index) for index in range(20)]).values()))
        assert said == [f"worker 0 died: RuntimeError: {LOST}; the others go on"]
        engine.close()

    def test_is_broken_so_that_every_request_fails_by_itself(self) -> None:
        def break_() -> None:
            raise RuntimeError("on fire")

        dying = Failing(fail=break_, over=tuple(range(99)))
        engine = Engine([dying, Healthy([dying])], 10_000)
        found = finished(engine, [request(index) for index in range(60)])
        assert len([end for end in found.values() if not right(end)]) <= 2, "until then it might have been they"
        engine.close()

    def test_dies_as_the_engine_closes(self) -> None:
        said: list[str] = []

        def end() -> None:
            engine._stop("the engine was closed")
            lost()

        dying = Failing(fail=end, at=2)
        engine = Engine([dying, Healthy([dying])], 10_000, warn=said.append)
        submitted = []
        for index in range(20):
            try:
                engine.submit(request(index))
            except EngineFailed:
                break
            submitted.append(index)
        engine.close()
        ends = engine.drain()
        assert sorted(end.id for end in ends) == submitted
        assert all(right(end) or (end.error and not end.deadly) for end in ends)
        assert said == []


class TestAll:
    def test_each_in_its_way(self) -> None:
        hanging, vanishing = Failing(fail=lambda: (wake.wait(30), None)[1], at=2), Failing(fail=vanish, at=2)
        wake = threading.Event()
        dying = Failing(at=2)
        engine = Engine([hanging, vanishing, dying], 10_000, stall_limit=0.3)
        found = []
        submitted = 0
        with pytest.raises(EngineFailed) as told:  # noqa: PT012
            for index in range(40):
                engine.submit(request(index))
                submitted += 1
            while end := engine.collect(timeout=20):
                found.append(end)
        if not found:  # it failed while we were submitting
            while len(found) < submitted:
                end = engine.collect(timeout=20)
                assert end
                found.append(end)
        assert sorted(end.id for end in found) == list(range(submitted)), "also what was held by the one that hangs"
        assert all(right(end) or end.error for end in found)
        assert any(end.error for end in found)
        reasons = ("worker 0 has not ended a step for 0.3 s", "worker 1 ended without a reason", "worker 2 died: Run")
        assert all(reason in str(told.value) for reason in reasons)
        assert "a smaller batch size (batch_size) or model helps" in str(told.value)
        wake.set()
        engine._workers[0].join(20)
        assert engine.drain() == []

    @settings(max_examples=60, deadline=None)
    @given(
        count=st.integers(1, 60),
        deaths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
        slots=st.integers(1, 8),
        num_healthy=st.integers(1, 2),
    )
    def test_but_some(self, count: int, deaths: list[int], slots: int, num_healthy: int) -> None:
        runners: list[FakeRunner] = [Failing(slots, at=at, delay=0.0002, seed=i) for i, at in enumerate(deaths)]
        runners += [FakeRunner(slots, delay=0.0003) for _ in range(num_healthy)]
        with Engine(runners, 10_000) as engine:
            found = finished(engine, [request(index) for index in range(count)])
            assert engine.failure is None
        assert engine.drain() == []
        wrong = [end for end in found.values() if not right(end)]
        assert all(end.deadly for end in wrong)
        assert not wrong or len(deaths) > 1


class TestPoison:
    def test_is_not_given_to_a_third_worker(self) -> None:
        said: list[str] = []
        runners = [Failing(1, over=(13,)) for _ in range(4)]
        engine = Engine(runners, 10_000, warn=said.append)
        found = finished(engine, [request(index) for index in range(40)])
        assert [index for index, end in found.items() if not right(end)] == [13]
        assert found[13].deadly
        assert (found[13].error or "").startswith("2 workers were lost over it, at last: worker ")
        assert LOST in (found[13].error or "")
        assert [runner.failed.is_set() for runner in runners].count(True) == 2
        assert len(said) == 2
        assert all(map(right, finished(engine, [request(index) for index in range(50, 60)]).values()))
        engine.close()

    def test_is_not_asked_again_and_leaves_the_document_as_it_was(self) -> None:
        asked: list[bytes] = []

        class Poisoned(FakeRunner):
            def prefill(self, sequences: list[Sequence]) -> None:
                asked.extend(bytes(sequence.request.prompt_ids) for sequence in sequences)
                if asked[-1] == b"line 7":
                    lost()
                super().prefill(sequences)

        writer, report = Collected(), Report()
        flow = pipeline(
            lambda _: byte_backend([Poisoned(1) for _ in range(4)]),
            report,
            policy=Policy(retries=3),
        )
        flow.run(parts("\n".join(f"line {i}" for i in range(30))), SingleOutput(writer))
        assert asked.count(b"line 7") == 2
        assert report.num_failed == 1
        answers = [bytes(fake_answer(f"line {i}".encode())).decode() for i in range(30)]
        assert writer.data.decode().split("\n") == [*answers[:7], "line 7", *answers[8:]]


class Counted:
    """A constraint that is met by three tokens, whatever they are."""

    is_complete = False

    def __init__(self) -> None:
        self._left = 3

    def accept(self, token_id: int) -> None:
        self._left -= 1
        self.is_complete = not self._left

    def forced(self) -> list[int]:
        return []

    def allowed(self, ahead: object = ()) -> list[Any]:
        return []


class TestBeginningAnew:
    def test_with_the_same_seed_and_a_fresh_constraint(self) -> None:
        class Drawing(Failing):
            """Answers with what is drawn."""

            def _step(self, sequences: list[Sequence]) -> None:
                self._steps += 1
                if self._steps == self._at:
                    self.failed.set()
                    lost()
                assert all(other.failed.wait(20) for other in self.others)
                for sequence in sequences:
                    assert sequence.forced_id is None
                    sequence.append(int(1000 * sequence.draw()), frozenset())

            others: tuple[Failing, ...] = ()

        requests = [
            Request(i, [i, 1], SamplingParams(12, 1.0, seed=i % 3), constraint=Counted if i % 2 else None)
            for i in range(30)
        ]
        with Engine([Drawing()], 1000) as engine:
            alone = finished(engine, requests)
        dying, other = Drawing(at=3), Drawing()
        other.others = (dying,)
        with Engine([dying, other], 1000) as engine:
            found = finished(engine, requests)
        assert {i: list(end.output_ids) for i, end in found.items()} == {
            i: list(end.output_ids) for i, end in alone.items()
        }
        assert [len(found[i].output_ids) for i in range(30)] == [12, 3] * 15
        assert {end.worker for end in found.values()} == {1}


class TestScheduler:
    def held(self, num_workers: int) -> tuple[Scheduler, list[Request]]:
        scheduler = Scheduler(num_workers, window=8, similar=True)
        for index in range(2 * num_workers):
            scheduler.submit(request(index))
        taken = scheduler.admit(0, 8, fits)
        assert taken
        return scheduler, taken

    def test_what_a_lost_worker_held_comes_first_and_in_order(self) -> None:
        scheduler, taken = self.held(2)
        assert scheduler.give_up(0) == (len(taken), [])
        again = scheduler.admit(1, 8, fits)
        assert again is not None
        assert again[: len(taken)] == taken
        assert scheduler.admit(1, 8, fits) is not None

    def test_a_lost_worker_neither_takes_nor_ends_nor_puts_back(self) -> None:
        scheduler, taken = self.held(2)
        scheduler.give_up(0)
        assert scheduler.admit(0, 8, fits) is None
        assert not scheduler.put_back(0, taken)
        assert not scheduler.retire(0, taken[0])
        again = scheduler.admit(1, 8, fits)
        assert again is not None
        assert not scheduler.retire(0, taken[0])
        assert scheduler.retire(1, taken[0])
        assert not scheduler.retire(1, taken[0]), "nothing ends twice"

    def test_a_lost_worker_that_waits_for_requests_is_let_go(self) -> None:
        scheduler = Scheduler(2, window=8)
        got: list[object] = []
        thread = threading.Thread(target=lambda: got.append(scheduler.admit(0, 1, fits)))
        thread.start()
        scheduler.give_up(0)
        thread.join(5)
        assert got == [None]

    def test_those_that_are_left_share_what_waits(self) -> None:
        scheduler = self.held(4)[0]
        for worker in (0, 1, 2):
            scheduler.give_up(worker)
        admitted = []
        for _ in range(8):
            admitted += scheduler.admit(3, 8, fits) or []
        assert sorted(one.id for one in admitted) == list(range(8))

    def test_what_two_were_lost_with_goes_to_no_third(self) -> None:
        scheduler, taken = self.held(3)
        assert scheduler.give_up(0) == (len(taken), [])
        again = scheduler.admit(1, len(taken), fits)
        assert again == taken
        assert scheduler.give_up(1) == (0, taken)
        assert len(scheduler.close()) == 6 - len(taken)

    def test_after_the_end_nothing_waits_again(self) -> None:
        scheduler, taken = self.held(2)
        scheduler.close()
        assert scheduler.give_up(0) == (0, taken)


@pytest.fixture(params=[lost, vanish], ids=["lost", "vanish"])
def half_dead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an echo's second worker die over its third prefill, and the first do nothing before."""
    real, dead, count = EchoRunner.prefill, threading.Event(), 0

    def prefill(runner: EchoRunner, sequences: list[Sequence]) -> None:
        nonlocal count
        if threading.current_thread().name == "llmpar-worker-1":
            count += 1
            if count == 3:
                dead.set()
                request.param()
        else:
            assert dead.wait(20)
        real(runner, sequences)

    monkeypatch.setattr(EchoRunner, "prefill", prefill)


class TestCommand:
    TEXT = "".join(f"Line {i} of a text.\n\n" for i in range(700)).encode()

    def test_the_document_is_whole_and_a_line_says_what_happened(
        self, half_dead: None, llmpar: Callable[..., Outcome], request: pytest.FixtureRequest
    ) -> None:
        outcome = llmpar("run", "--engine", "echo", "-j", "2", "--batch-size", "8", "-q", "x", stdin=self.TEXT)
        assert (outcome.code, outcome.out) == (0, self.TEXT)
        (line,) = outcome.err.splitlines()
        assert line.startswith(("llmpar: worker 1 died: RuntimeError: CUDA error", "llmpar: worker 1 ended without"))
        assert line.endswith(("piece goes to the others", "pieces go to the others"))

    def test_from_python_it_is_a_warning(self, half_dead: None) -> None:
        texts = [f"text {i}" for i in range(300)]
        choice = llmpar.ModelChoice(engine="echo", threads=2, batch_size=4)
        with pytest.warns(RuntimeWarning, match="llmpar: worker 1 .* to the others"):
            results = list(llmpar.run(texts, "{text}", model=choice))
        assert [result.answer for result in results] == texts


class TestReplicas:
    """Models on several devices; a CPU stands in for each."""

    @pytest.fixture(autouse=True)
    def _one_core(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for kind in ("cpu", "generic"):
            monkeypatch.setattr(f"llmpar.engine.{kind}.model.usable_cores", lambda: 1)

    @pytest.mark.parametrize("name", ["llama", "bloom-alibi"])
    @pytest.mark.parametrize("workers", [None, 2])
    def test_two_answer_as_one(self, name: str, workers: int | None) -> None:
        said: list[str] = []
        models = [deepcopy(make(name)) for _ in range(2)]
        engine = build_engine(list(map(ready, models)), 256, frozenset({2}), workers, 4, PREFIX, notify=said.append)
        assert len(engine.statuses) == 2 * (workers or 1)
        assert collected(engine, prompts(name), PARAMS) == expected(name)
        assert len([line for line in said if " slots each on cpu in float32" in line]) == 2

    def test_one_that_fails_leaves_its_requests_to_the_other(self) -> None:
        said: list[str] = []
        models = [deepcopy(make("llama")) for _ in range(2)]
        engine = build_engine(list(map(ready, models)), 256, frozenset({2}), 1, 8, PREFIX, warn=said.append)
        failed, count = threading.Event(), 0

        def fail(*_: object) -> None:
            nonlocal count
            count += 1
            if count == 3:
                failed.set()
                lost()

        models[0].model.layers[1].register_forward_pre_hook(fail)
        models[1].model.layers[1].register_forward_pre_hook(lambda *_: failed.wait(20) and None)
        assert collected(engine, prompts("llama"), PARAMS) == expected("llama")
        (line,) = said
        assert line.startswith(f"worker 0 on cpu died: RuntimeError: {LOST}; its ")

    def test_they_share_the_memory(self) -> None:
        per_token = 2 * 4 * 3 * 2 * 16
        cells: list[int] = []
        for count in (1, 2):
            models = [deepcopy(make("llama")) for _ in range(count)]
            engine = build_engine(list(map(ready, models)), 256, frozenset({2}), 1, 16, max_memory=1200 * per_token)
            cells.append(sum(worker._runner._room.num_cells for worker in engine._workers))  # type: ignore[attr-defined]
            engine.close()
        assert cells == [1200, 1200]

    def test_memory_is_given_back_where_another_device_is_lost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        called: list[None] = []
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: (called.append(None), lost()))
        give_memory_back(torch.device("cuda", 1))
        assert called

    def test_the_document_is_that_of_one(
        self, tiny_model: Path, llmpar: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        documents = []
        for devices in (("cpu:0",), ("cpu:0", "cpu:0")):
            monkeypatch.setattr(precision, "find_devices", lambda _, found=devices: found)
            outcome = llmpar(
                "run", "-v", "-m", str(tiny_model), "--no-store", "--max-new-tokens", "8", "Say {text}",
                stdin="".join(f"Sentence {i}.\n\n" for i in range(40)).encode(),
            )  # fmt: skip
            assert outcome.code == 0, outcome.err
            assert outcome.err.count("slots each on cpu") == len(devices)
            documents.append(outcome.out)
        assert documents[0] == documents[1]


class TestStarting:
    def test_a_worker_that_hangs_as_it_starts_keeps_nobody(self) -> None:
        wake = threading.Event()

        class Stuck(FakeRunner):
            def start(self) -> None:
                wake.wait(60)

        engine = Engine([FakeRunner(4), Stuck(4)], 10_000, stall_limit=0.3)
        try:
            for index in range(6):
                engine.submit(Request(index, [index + 1], SamplingParams(3)))
            found = [engine.collect(timeout=20) for _ in range(6)]
            assert sorted(end.id for end in found if end and end.error is None) == list(range(6))
            engine.close()  # comes back, although one never will
            assert [worker.index for worker in engine._left] == [0]
        finally:
            wake.set()


class TestTheCommand:
    @pytest.mark.parametrize("in_place", [False, True])
    def test_says_how_to_go_on(
        self, in_place: bool, llmpar: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In place, the same command would ask about the answers that stand there."""
        files = [tmp_path / name for name in ("a.txt", "b.txt")]
        for file in files:
            file.write_text("".join(f"Line {number} of {file.name}.\n" for number in range(8)))
        plain, seen = EchoRunner.prefill, []

        def die(self: EchoRunner, sequences: list[Any]) -> None:
            seen.extend(sequences)
            if len(seen) > 12:
                raise RuntimeError("CUDA error: unspecified launch failure")
            plain(self, sequences)

        monkeypatch.setattr(EchoRunner, "prefill", die)
        store = ("--store", str(tmp_path / "store.sqlite"))
        out = ("--in-place",) if in_place else ("-o", str(tmp_path / "out.txt"))
        done = llmpar(
            *("run", "Say {text}", "--unit", "line", "--engine", "echo", "-j", "1", "--batch-size", "2", *store, *out),
            *map(str, files),
        )
        assert done.code == 69
        assert "worker 0 died: RuntimeError: CUDA error: unspecified launch failure" in done.err
        assert ("go on with: llmpar run" in done.err) != in_place
        if in_place:
            left = done.err.partition("; go on with the others: ")[2].partition("\n")[0].split()
            assert left in ([str(files[1])], list(map(str, files))), "the first is replaced by then, or it is not"
        else:
            assert "out.txt is untouched" in done.err
