"""A model on several devices, each with a process of its own, answers as on one. A CPU stands in for each of them."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fuzz.tiny import gguf_bytes
from numba import njit
from support.parts import Told, import_nothing, is_gone, open_damaged, open_sound, wait_until
from support.places import ROOT
from support.program import Outcome

from llmpar.answering import model as model_module
from llmpar.answering.backend import Backend, Query, Reply
from llmpar.answering.choice import ModelChoice
from llmpar.answering.local import LocalBackend
from llmpar.answering.model import LocalModel, import_libraries
from llmpar.answering.processes import Processes
from llmpar.errors import ModelUnavailable, UsageError
from llmpar.models import load, precision, registry
from llmpar.tasks.question import Prompt, Sampling
from llmpar.tasks.task import Form

SAMPLED = Sampling(temperature=0.8, top_p=0.9, seed=3)
ENUM = '{"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": false}'
FORM = Form(schema=ENUM)


def prompt(number: int) -> Prompt:
    text = f"Sentence {number} of {number % 5}." + " And more." * (number % 4)
    return Prompt((("system", "Be brief."), ("user", text)), text)


PROMPTS = [prompt(number) for number in range(40)]


@contextmanager
def devices(*names: str) -> Iterator[None]:
    """Let the machine have these, for models in a precision whose weights need no torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "find_devices", lambda _: names)
        for module in (precision, load):  # imported before, or it would keep what stands here for good
            patch.setattr(module, "find_arithmetic", lambda *_: (names, "int8"))
        yield


def open_on(names: Sequence[str], model: Path, told: Told) -> Backend:
    with devices(*names):
        return LocalModel(ModelChoice(str(model), precision="int8", threads=1, batch_size=4), told).open(PROMPTS[:2])


def answers(backend: Backend, queries: Sequence[Query], middle: Callable[[], None] = lambda: None) -> list[Reply]:
    """Return the replies in order; `middle` is called when a quarter of them has come."""
    for query in queries:
        backend.count_tokens(query.prompt)
        backend.submit(query)
    found: dict[int, Reply] = {}
    while len(found) < len(queries):
        if len(found) == len(queries) // 4:
            middle()
        reply = backend.collect(60)
        assert reply is not None, "nothing comes"
        backend.confirm()
        found[reply.id] = reply
    return [replace(found[query.id], worker=None, seconds=0.0) for query in queries]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tiny model in a cache of its own, where its packed weights are kept, too."""
    place = tmp_path_factory.mktemp("devices")
    (place / "tiny.gguf").write_bytes(gguf_bytes())
    os.utime(place / "tiny.gguf", (1e9, 1e9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMPAR_CACHE", str(place / "cache"))
        yield place / "tiny.gguf"


@pytest.fixture(scope="module")
def one(model: Path) -> Iterator[Backend]:
    backend = open_on(["cpu"], model, Told())
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def three(model: Path, one: Backend, told: Told) -> Iterator[Processes]:
    backend = open_on(["cpu"] * 3, model, told)
    assert isinstance(backend, Processes)
    yield backend
    backend.close()


def test_what_was_chosen_is_told(one: Backend, three: Processes, told: Told) -> None:
    assert isinstance(one, LocalBackend)
    assert three.num_slots == 3 * one.num_slots
    assert three.context_length <= one.context_length
    assert len([line for line in told.remarks if "4 slots" in line and "on cpu" in line]) == 3
    assert len(three.statuses) == 3
    assert three.measure("some words") == one.measure("some words")
    assert three.count_tokens(PROMPTS[0]) == one.count_tokens(PROMPTS[0])
    assert three.exceeds(Prompt((("user", "x " * 9000),), ""), 100)


def test_forms_and_strings_that_end_an_answer(one: Backend, three: Processes) -> None:
    letter = max("aeinort ", key=lambda char: sum(char in reply.text for reply in answers(one, queries(Sampling()))))
    asked = [
        Query(0, PROMPTS[0], Sampling(), 40, FORM),
        Query(1, PROMPTS[1], SAMPLED, 40, Form(choices=("yes", "no", "perhaps"))),
        *[Query(number, PROMPTS[number], Sampling(stop=(letter,)), 24) for number in range(2, 12)],
    ]
    three.check_form(FORM)
    with pytest.raises(UsageError):
        three.check_form(Form(schema='{"type": 7}'))
    expected = answers(one, asked)
    assert answers(three, asked) == expected
    assert expected[0].text.replace(" ", "") in ('{"a":"x"}', '{"a":"y"}')
    assert expected[1].text in ("yes", "no", "perhaps")
    assert any(reply.finish_reason == "stop" and letter not in reply.text for reply in expected[2:])


def test_an_answer_that_was_cut_goes_on(one: Backend, three: Processes) -> None:
    cut = answers(three, [Query(0, PROMPTS[0], SAMPLED, 6)])[0]
    assert cut.finish_reason == "length"
    more = [Query(1, PROMPTS[0], SAMPLED, 6, continues=cut.continuation)]
    whole = answers(three, more)
    assert whole == answers(one, more)
    assert whole[0].num_output_tokens == 12


def test_one_that_takes_too_long_fails_alone(three: Processes) -> None:
    late, other = answers(
        three, [Query(0, PROMPTS[0], Sampling(max_repeats=0), 90, timeout=1e-9), *queries(SAMPLED)[1:2]]
    )
    assert "took longer than" in (late.error or "")
    assert other.error is None


def test_any_number_of_processes_gives_the_same_answers(one: Backend, three: Processes, told: Told) -> None:
    """The last test of these three: at its end one is left."""
    for sampling in (Sampling(), SAMPLED):
        expected = answers(one, queries(sampling))
        assert len({reply.text for reply in expected}) > 10
        assert answers(three, queries(sampling)) == expected
    for number in (1, 0):
        process_id = three.process_ids[number]
        assert answers(three, queries(SAMPLED), lambda: os.kill(process_id, signal.SIGKILL)) == expected  # noqa: B023
    assert [line.partition(";")[0] for line in told.warnings] == [
        f"process {number} on cpu was ended by signal 9" for number in (1, 0)
    ]


def queries(sampling: Sampling) -> list[Query]:
    return [Query(number, given, sampling, 16 + number % 8) for number, given in enumerate(PROMPTS)]


def test_each_is_told_its_device_and_what_all_share(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(Exception):
        pass

    class Begun(Processes):
        def __init__(self, names: Sequence[str], *_: object, prepare: Callable[[], None]) -> None:
            assert names == ["process 0 on cuda:0", "process 1 on cuda:1"]
            assert pickle.loads(pickle.dumps(prepare)) is import_libraries

        def open(self, parts: Iterable[Any]) -> None:
            for index, part in enumerate(parts):
                choice, files, prompting, num_models, doubts = pickle.loads(pickle.dumps(part)).args
                device = f"cuda:{index}"
                assert choice == ModelChoice(str(model), device=device, precision="int8", threads=3, max_memory=9)
                assert files == registry.resolve(str(model))
                assert prompting.num_opening == 0
                ids = [asked._tokens.encode(prompt) for prompt in PROMPTS[:2]]
                assert prompting.prefix_ids == tuple(ids[0][: len(prompting.prefix_ids)])
                assert ids[0][: len(prompting.prefix_ids) + 1] != ids[1][: len(prompting.prefix_ids) + 1]
                assert (num_models, doubts) == (2, False)
            raise Asked

        def close(self, timeout: float | None = None) -> None: ...

    monkeypatch.setattr("llmpar.answering.model.Processes", Begun)
    asked = LocalModel(ModelChoice(str(model), threads=3, max_memory=9), Told())
    with devices("cuda:0", "cuda:1"), pytest.raises(Asked):
        asked.open(PROMPTS[:2])


class TestEarlyStart:
    """Processes begin when there is something to ask, before anybody knows what they are to open."""

    @pytest.fixture
    def begun(self, monkeypatch: pytest.MonkeyPatch) -> list[Processes]:
        """The backends that were begun, whose processes open no weights."""
        all_begun: list[Processes] = []

        class Begun(Processes):
            def __init__(self, *arguments: Any, **named: Any) -> None:
                super().__init__(*arguments, **named)
                all_begun.append(self)

        monkeypatch.setattr(model_module, "Processes", Begun)
        monkeypatch.setattr(model_module, "import_libraries", import_nothing)
        monkeypatch.setattr(model_module, "open_part", open_sound)
        return all_begun

    def test_those_that_have_begun_open_the_model(self, model: Path, begun: list[Processes]) -> None:
        local = LocalModel(ModelChoice(str(model)), Told())
        with devices("cuda:0", "cuda:1"):
            local.prepare()
            local.prepare()
            (early,) = begun
            assert not any(server.opened for server in early._servers)
            backend = local.open(PROMPTS[:2])
            assert backend is early
            assert backend.num_slots == 8
            backend.close()
            again = local.open(PROMPTS[:2])
            assert begun == [early, again], "each is opened but once"
            again.close()

    def test_a_process_is_there_before_the_model_is_looked_for(self, begun: list[Processes]) -> None:
        local = LocalModel(ModelChoice("/nowhere/at/all"), Told())
        with devices("cuda:0"):
            local.prepare()
            (early,) = begun
            with pytest.raises(ModelUnavailable, match="nowhere"):
                local.open(PROMPTS[:2])
        process_ids = early.process_ids
        begun.clear()
        del early, local
        gc.collect()
        wait_until(lambda: all(map(is_gone, process_ids)), "one that opens nothing is left")

    @pytest.mark.parametrize("size", [1, 2])
    def test_a_cpu_has_none(self, size: int, model: Path, begun: list[Processes]) -> None:
        with devices("cpu"):
            LocalModel(ModelChoice(str(model), tensor_parallel=size), Told()).prepare()
        assert begun == []

    def test_gpus_that_divide_a_model_have_one(
        self, model: Path, begun: list[Processes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[Any] = []

        def open_parts(self: Processes, parts: Iterable[Any]) -> None:
            asked.extend(part.args[0] for part in parts)
            raise ModelUnavailable("enough")

        monkeypatch.setattr(Processes, "open", open_parts)
        local = LocalModel(ModelChoice(str(model), tensor_parallel=2), Told())
        with devices("cuda:0", "cuda:1"), pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                precision, "find_arithmetic", lambda *given: (("cuda",), "bf16" if given[3] is None else "int8")
            )
            local.prepare()
            with pytest.raises(ModelUnavailable, match="enough"):
                local.open(PROMPTS[:2])
        assert [len(one.process_ids) for one in begun] == [1]
        assert [(one.device, one.tensor_parallel, one.precision) for one in asked] == [("cuda", 2, "bf16")]


GPU_PATH = """
import sys
from support.parts import import_nothing, open_sound
from llmpar.answering import model
from llmpar.models import devices

devices.compute_capabilities = lambda: ((9, 0),)
model.import_libraries, model.open_part = import_nothing, open_sound
from llmpar.cli.main import run_command_line

code = run_command_line(["run", "-m", sys.argv[1], "--device", "cuda", "--unit", "line", "{text}", *sys.argv[2:]])
print(code, *sorted({"torch", "transformers", "numba", "numpy"} & sys.modules.keys()))
"""


def test_what_keys_are_kept_in_decides_an_answer(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmpar.models.precision.find_devices", lambda _: ("cuda:0",))
    monkeypatch.setattr("llmpar.models.devices.compute_capabilities", lambda: ((9, 0),))
    usual, short = (
        LocalModel(ModelChoice(str(tiny_model), precision="fp32", kv_cache=kv_cache), Told())
        for kv_cache in ("auto", "fp8")
    )
    assert {*short.identify().facts} - {*usual.identify().facts} == {("kv_cache", "fp8")}
    assert {*short.identify_on("cuda", "bf16").facts} > {("kv_cache", "fp8"), ("precision", "bf16")}
    with pytest.raises(ModelUnavailable, match="kv_cache=fp8: not on cpu"):
        short.identify_on("cpu")


def test_whoever_asks_a_gpu_imports_nothing_that_computes(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("".join(f"Line {number}.\n" for number in range(300)))
    done = subprocess.run(
        [sys.executable, "-c", GPU_PATH, str(tiny_model), "-o", str(tmp_path / "out"), str(tmp_path / "in")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "0\n", done.stderr
    lines = (tmp_path / "out").read_text().splitlines()
    assert len(lines) == 300
    assert len(set(lines)) > 200, "each has an answer of its own"


def load_here(choice: ModelChoice, told: Told) -> Backend:
    """Load a model in this process, as in one of two."""
    model = LocalModel(choice, told)
    prompting = model._tokens.prompting(PROMPTS[:2], model.context_length)
    return model.load_here(prompting, 2).backend


def test_they_share_the_memory(tiny_model: Path) -> None:
    """Through torch, where what is kept of a token is counted for each of them."""
    told = Told()
    choice = ModelChoice(str(tiny_model), device="cpu:0", threads=2, max_memory=4_000_000)
    load_here(choice, told).close()
    assert [line for line in told.remarks if "up to 2 MB for keys and values" in line]
    with pytest.raises(UsageError, match=r"limit of 0.1MB .* at least \d+MB with 4 workers"):
        load_here(replace(choice, max_memory=100_000), told)


class Doing(Told):
    """Remembers what takes time, too."""

    def __init__(self) -> None:
        super().__init__()
        self.doings: list[str] = []

    def doing(self, what: str) -> None:
        self.doings.append(what)


def test_whoever_waits_is_told_that_kernels_are_compiled_as_long_as_there_is_an_engine(model: Path) -> None:
    told = Doing()
    backend = LocalModel(ModelChoice(str(model), device="cpu", precision="int8", threads=1), told).open(PROMPTS[:2])
    del told.doings[:]  # they may be compiled already
    njit(lambda number: number + 1)(1)
    assert [what.partition(" (")[0] for what in told.doings] == ["compiling for this processor", ""]
    backend.close()
    njit(lambda number: number + 2)(1)
    assert len(told.doings) == 2


def test_on_damage_all_is_opened_again_and_nothing_is_taken_in_before(
    model: Path, one: Backend, llmpar: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmpar.answering.model.open_part", open_damaged)
    with devices("cpu", "cpu"):
        outcome = llmpar("run", "-m", str(model), "--no-store", "{text}", stdin=b"One.\n\nTwo.\n\nThree.\n")
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.split()) == 3
    assert b"damaged" not in outcome.out
    assert outcome.err.count("the weights were altered; nothing that was computed from it is kept") == 1


@pytest.mark.device
def test_gpus_answer_as_one_and_one_that_is_killed_loses_nothing(tiny_model: Path) -> None:
    """On the first and the last GPU, which may be the same."""
    import torch

    names = ("cuda:0", f"cuda:{torch.cuda.device_count() - 1}")
    choice = ModelChoice(str(tiny_model), device="cuda:0", precision="fp32", batch_size=8)
    told = Told()
    alone = LocalModel(choice, told).open(PROMPTS[:2])
    expected = answers(alone, queries(Sampling()))
    alone.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "find_devices", lambda _: names)
        both = LocalModel(replace(choice, device="cuda"), told).open(PROMPTS[:2])
    assert isinstance(both, Processes)
    assert both.num_slots == 16
    assert answers(both, queries(Sampling())) == expected
    process_id = both.process_ids[1]
    assert answers(both, queries(Sampling()), lambda: os.kill(process_id, signal.SIGKILL)) == expected
    (warning,) = told.warnings
    assert warning.startswith(f"process 1 on {names[1]} was ended by signal 9; ")
    both.close()
