"""One model over several processes, on the CPU: the same answers, the same failures, and nothing left behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from support import rank_parts
from support.fakes import FakeRunner, fake_answer
from support.places import ROOT
from support.program import Outcome

from llmpar.answering.choice import ModelChoice, open_model
from llmpar.engine.build import build_engine
from llmpar.engine.engine import Engine
from llmpar.engine.finite import NOT_FINITE
from llmpar.engine.generic.kv_cache import KVCache
from llmpar.engine.generic.model import TorchModel
from llmpar.engine.ranks.ranks import Ranks
from llmpar.engine.ranks.runner import LeadingRunner, ParallelRunner
from llmpar.engine.request import Completion, Request, SamplingParams
from llmpar.engine.resources import DeviceLost
from llmpar.errors import EngineFailed, ModelUnavailable, UsageError
from llmpar.models.shards import check_devices, check_plan
from llmpar.models.tensor_parallel import load_shards
from llmpar.reporting.progress import Progress
from llmpar.reporting.report import Report

PREFIX = [5, 6, 7, 8]
STOP = frozenset({2})
SIZES: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "initializer_range": 0.4,
}


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def parent_of(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    ranks = Ranks(3)
    yield ranks
    ranks.close()
    assert not any(map(is_running, ranks.process_ids))
    assert not Path(ranks.place.meeting).exists()


class TestRanks:
    def test_each_does_its_part_with_what_it_had_before(self, ranks: Ranks) -> None:
        assert ranks.call(lambda: "mine", attrgetter("size")) == "mine"
        assert ranks.call(lambda: "again", partial(rank_parts.expect, 3)) == "again"

    @pytest.mark.parametrize("error", [MemoryError("none left"), ValueError("odd")])
    def test_a_failure_of_any_is_one_of_all_and_they_go_on(self, ranks: Ranks, error: Exception) -> None:
        kind = MemoryError if isinstance(error, MemoryError) else RuntimeError
        with pytest.raises(kind, match=f"rank [12]: {type(error).__name__}: {error}"):
            ranks.call(lambda: None, partial(rank_parts.fail, error))
        with pytest.raises(type(error), match=f"^{error}$"):
            ranks.call(partial(rank_parts.fail, error, None), str)
        assert ranks.call(lambda: 1, len) == 1

    def test_one_that_is_killed_ends_it_though_rank_0_hangs(self, ranks: Ranks) -> None:
        with pytest.raises(DeviceLost, match=r"^rank [12] was ended by signal 9$"):
            ranks.call(partial(rank_parts.hang, None), rank_parts.kill)
        with pytest.raises(DeviceLost, match="signal 9"):
            ranks.call(lambda: None, str)

    def test_one_that_does_not_come_out_of_what_failed_elsewhere_ends_it(self) -> None:
        ranks = Ranks(2, patience=0.1)
        with pytest.raises(DeviceLost, match=r"^rank 0 failed, and others wait for it: ValueError: odd$"):
            ranks.call(partial(rank_parts.fail, ValueError("odd"), None), rank_parts.hang)
        wait_for(lambda: not any(map(is_running, ranks.process_ids)))
        ranks.close()

    def test_ranks_that_took_part_in_more_than_others_are_lost(self) -> None:
        ranks = Ranks(2)
        try:
            ranks.call(partial(rank_parts.meet, ranks.place), rank_parts.meet)
            ranks.call(partial(rank_parts.reduce, True, ranks.place), partial(rank_parts.reduce, True))
            with pytest.raises(DeviceLost, match="not at the same place"):
                ranks.call(lambda: None, partial(rank_parts.reduce, False))
        finally:
            ranks.close()
        assert not torch.distributed.is_initialized()

    def test_one_that_stands_still_is_given_up_after_the_limit(self) -> None:
        ranks = Ranks(3)
        with pytest.raises(DeviceLost, match=r"^rank 1, rank 2 stood still for 0.2 s$"):
            ranks.call(lambda: None, rank_parts.hang, limit=0.2)
        wait_for(lambda: not any(map(is_running, ranks.process_ids)))
        ranks.close()


def lead(ranks: Ranks, mine: Callable[[], Any], theirs: Callable[[Any], Any]) -> Any:
    """Let rank 0 tell the others of their part before it does its own."""

    def both() -> Any:
        ranks.tell(theirs)
        return mine()

    return ranks.lead(both)


class TestLeading:
    def test_nobody_waits_for_the_others(self, ranks: Ranks) -> None:
        assert [lead(ranks, lambda: "mine", rank_parts.hang), lead(ranks, lambda: "again", len)] == ["mine", "again"]
        assert ranks.lead(lambda: "alone") == "alone"

    @pytest.mark.parametrize("error", [MemoryError("none left"), ValueError("odd")])
    def test_a_failure_of_all_at_one_place_is_rank_0s_and_they_go_on(self, ranks: Ranks, error: Exception) -> None:
        assert lead(ranks, lambda: 1, attrgetter("size")) == 1
        with pytest.raises(type(error), match=f"^{error}$"):
            lead(ranks, partial(rank_parts.fail, error, None), partial(rank_parts.fail, error))
        assert lead(ranks, lambda: 2, partial(rank_parts.expect, 3)) == 2
        with pytest.raises(type(error), match=f"^{error}$"):  # before the others were told of anything
            ranks.lead(partial(rank_parts.fail, error, None))
        assert lead(ranks, lambda: 2, partial(rank_parts.expect, 3)) == 2
        assert ranks.call(lambda: 3, partial(rank_parts.expect, 3)) == 3

    def test_what_fails_behind_rank_0_ends_it(self, ranks: Ranks) -> None:
        def fail_behind() -> None:
            for _ in range(1000):
                lead(ranks, partial(time.sleep, 0.01), partial(rank_parts.fail, ValueError("odd")))

        with pytest.raises(DeviceLost, match=r"^rank [12] failed, and others wait for it: ValueError: odd$"):
            fail_behind()

    def test_what_fails_on_rank_0_alone_ends_it(self, ranks: Ranks) -> None:
        with pytest.raises(DeviceLost, match=r"^rank 0 failed, and others wait for it: ValueError: odd$"):
            lead(ranks, partial(rank_parts.fail, ValueError("odd"), None), rank_parts.size)


class TellingRunner(FakeRunner):
    """One whose device would tell the others' which tokens were chosen."""

    told: Callable[[list[Any]], None] = staticmethod(lambda _: None)

    def decode(self, sequences: list[Any]) -> None:
        self.told(sequences)
        super().decode(sequences)


class TestParallelRunner:
    def answered(self, ranks: Ranks, mine: FakeRunner, theirs: Callable[[Any], Any], count: int) -> list[Completion]:
        ranks.call(lambda: None, theirs)
        leads = isinstance(mine, TellingRunner)
        with Engine([LeadingRunner(ranks, mine) if leads else ParallelRunner(ranks, mine)], 1000) as engine:
            for i in range(count):
                engine.submit(Request(i, [i % 7, i, 3], SamplingParams(20)))
            found = [engine.collect(timeout=60) for _ in range(count)]
            engine.close()
        return [completion for completion in found if completion]

    @pytest.mark.parametrize("kind", [FakeRunner, TellingRunner])
    def test_the_others_have_rank_0s_tokens_and_release_what_it_does(
        self, ranks: Ranks, kind: type[FakeRunner]
    ) -> None:
        found = self.answered(ranks, kind(4), partial(rank_parts.mirror, 4, ()), 40)
        for completion in found:
            assert completion.output_ids == fake_answer([completion.id % 7, completion.id, 3]), completion.error
        assert len(found) == 40

    def test_memory_that_runs_out_on_one_of_them_halves_the_batch_on_all(self, ranks: Ranks) -> None:
        runner = FakeRunner(8)
        found = self.answered(ranks, runner, partial(rank_parts.mirror, 8, (3, 9)), 40)
        assert [c.error for c in found] == [None] * 40
        assert all(c.output_ids == fake_answer([c.id % 7, c.id, 3]) for c in found)
        assert runner.num_slots == 2


def plant(path: Path, kind: str, **changes: Any) -> Path:
    """Make a random model of a kind."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, "Gemma3TextConfig" if kind == "Gemma3" else f"{kind}Config")(**SIZES, **changes)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tokenizer, too, and a token more than that has: older transformers divides vocabularies."""
    path = plant(tmp_path_factory.mktemp("models") / "spread", "Llama", bos_token_id=0, eos_token_id=2)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny_model / name, path / name)
    return path


class TestModels:
    @pytest.mark.parametrize(
        ("kind", "num_shards", "changes"),
        [("Qwen3", 2, {}), ("Gemma3", 4, {"query_pre_attn_scalar": 16, "sliding_window": 8})],
    )
    def test_answers_are_those_of_generate(
        self, tmp_path: Path, kind: str, num_shards: int, changes: dict[str, Any]
    ) -> None:
        from transformers import AutoModelForCausalLM

        path = plant(tmp_path / "model", kind, **changes)
        whole = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        loaded = load_shards(num_shards, path, "cpu", "fp32")
        held = [getattr(p, "_local_tensor", p).numel() for p in loaded.models[0].mine.module.parameters()]
        assert sum(held) < (1 / num_shards + 0.1) * sum(p.numel() for p in whole.parameters())
        assert loaded.vocabulary == 260

        rng = random.Random(1)
        texts = [[rng.randrange(3, 260) for _ in range(rng.randrange(1, 40))] for _ in range(12)]
        prompts = [(PREFIX if i % 3 else []) + text for i, text in enumerate(texts)]
        lengths = [rng.randrange(4, 24) for _ in prompts]
        with build_engine(loaded.models, loaded.context_length, STOP, None, 3, PREFIX, max_memory=10**6) as engine:
            for i, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
                engine.submit(Request(i, prompt, SamplingParams(length)))
            found = {c.id: c for c in (engine.collect(timeout=60) for _ in prompts) if c}
        for i, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
            expected = whole.generate(
                torch.tensor([prompt]), max_new_tokens=length, do_sample=False, eos_token_id=2, pad_token_id=0
            )
            assert list(found[i].output_ids) == [t for t in expected[0, len(prompt) :].tolist() if t != 2], found[i]
        assert not any(map(is_running, loaded.models[0].ranks.process_ids))
        assert not torch.distributed.is_initialized()

    @pytest.mark.parametrize("everywhere", [True, False])
    def test_memory_that_runs_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, everywhere: bool) -> None:
        loaded = load_shards(2, plant(tmp_path / "model", "Qwen3"), "cpu", "fp32")
        ranks = loaded.models[0].ranks
        monkeypatch.setattr(ranks, "_patience", 0.5)
        monkeypatch.setattr(KVCache, "reserve", KVCache.reserve)  # so that it is put back
        ranks.call(partial(rank_parts.run_short, 9, None) if everywhere else int, partial(rank_parts.run_short, 9))
        with build_engine(loaded.models, loaded.context_length, STOP, None, 4) as engine:
            for i in range(8):
                engine.submit(Request(i, [3, 4, 5 + i], SamplingParams(12)))
            if everywhere:
                found = [engine.collect(timeout=60) for _ in range(8)]
                assert [completion and completion.error for completion in found] == [None] * 8
            else:
                wait_for(lambda: engine.failure)
                assert "DeviceLost: rank 1 failed, and others wait for it: MemoryError" in str(engine.failure)

    def test_what_cannot_be_built_leaves_no_process(self, tmp_path: Path) -> None:
        loaded = load_shards(2, plant(tmp_path / "model", "Qwen3"), "cpu", "fp32")
        with pytest.raises(UsageError, match="too little for the texts on their way"):
            build_engine(loaded.models, loaded.context_length, STOP, max_memory=100)
        assert not any(map(is_running, loaded.models[0].ranks.process_ids))

    def test_a_rank_that_is_killed_before_there_is_an_engine(self, tmp_path: Path) -> None:
        loaded = load_shards(2, plant(tmp_path / "model", "Qwen3"), "cpu", "fp32")
        os.kill(loaded.models[0].ranks.process_ids[0], signal.SIGKILL)
        with pytest.raises(EngineFailed, match="could not be made ready: rank 1 was ended by signal 9; run again"):
            build_engine(loaded.models, loaded.context_length, STOP, prefix_ids=PREFIX)

    def test_what_is_not_finite_fails_alone_on_all_ranks(self, tmp_path: Path) -> None:
        from transformers import AutoModelForCausalLM

        bad, path = 258, plant(tmp_path / "model", "Qwen3")
        model = AutoModelForCausalLM.from_pretrained(path)

        def answered(models: Sequence[Any]) -> list[tuple[list[int], str | None]]:
            found: dict[int, Completion] = {}
            with build_engine(models, 256, STOP, 1, 2, prefix_ids=PREFIX) as engine:
                for i, prompt in enumerate(asked):
                    engine.submit(Request(i, prompt, SamplingParams(4)))
                for _ in asked:
                    completion = engine.collect(timeout=60)
                    assert completion is not None
                    found[completion.id] = completion
            return [(list(found[i].output_ids), found[i].error) for i in range(len(asked))]

        # Those that fail are longer, and others have their slots next, on every rank.
        asked = [[*PREFIX, *([9] * 40 + [bad, 9] if i % 3 == 0 else [9] * (5 + i))] for i in range(8)]
        model.get_input_embeddings().weight.data[bad, 3] = float("nan")
        model.save_pretrained(path)
        found = answered(load_shards(2, path, "cpu", "fp32").models)
        good = answered([TorchModel(model)])  # of what does not fail
        for i, (one, other) in enumerate(zip(found, good, strict=True)):
            assert one == (other if i % 3 else ([], NOT_FINITE)), i
            assert other[1] == (None if i % 3 else NOT_FINITE), i

    def test_damaged_weights_are_one_line(self, tmp_path: Path) -> None:
        path = plant(tmp_path / "model", "Qwen3")
        (path / "model.safetensors").write_bytes(b"nothing")
        with pytest.raises(ModelUnavailable, match="cannot be loaded: "):
            load_shards(2, path, "cpu", "fp32")


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (("-j", "2"), "tensor_parallel 2 and threads 2 exclude each other"),
            (("--precision", "int8", "--device", "cpu"), "precision int8 exclude each other on a CPU"),
            (("--device", "cuda:1"), "takes the first 2 CUDA devices, not cuda:1"),
            (("--device", "mps"), "not mps"),
        ],
    )
    def test_of_options(self, llmpar: Callable[..., Outcome], options: tuple[str, ...], reason: str) -> None:
        outcome = llmpar("run", "--tensor-parallel", "2", *options, "{text}", stdin=b"x")
        assert (outcome.code, outcome.out) == (2, b"")
        assert reason in outcome.err
        assert outcome.err.count("\n") == 1

    def test_of_heads_that_do_not_divide(self, llmpar: Callable[..., Outcome], tiny_model: Path) -> None:
        options = ("--tensor-parallel", "4", "--device", "cpu", "-m", str(tiny_model), "--no-store")
        outcome = llmpar("run", *options, "{text}", stdin=b"x")
        assert outcome.code == 2
        assert outcome.err.endswith("'tiny' has 2 key and value heads, which do not divide by 4\n")

    def test_of_kinds_without_a_plan(self, tmp_path: Path) -> None:
        from transformers import GPT2Config, T5Config

        for config, reason in (
            (GPT2Config(n_embd=8, n_head=2, n_layer=1), "no plan"),
            (T5Config(), "encoder-decoder"),
        ):
            config.save_pretrained(tmp_path)
            with pytest.raises(UsageError, match=reason):
                check_plan(tmp_path, 2)

    def test_of_devices_that_are_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
        check_devices(3, "cuda", "cuda")
        with pytest.raises(ModelUnavailable, match=r"^tensor parallel over 4 devices: torch sees 3 CUDA devices"):
            check_devices(4, "cuda", "cuda")
        with pytest.raises(ModelUnavailable, match="no CUDA devices"):
            check_devices(2, "auto", "cpu")

    def test_the_store_does_not_care(self, tiny_model: Path) -> None:
        watcher = Progress("none", "run", Report())

        def identity(**choice: Any) -> object:
            model = open_model(ModelChoice(str(tiny_model), device="cpu", precision="fp32", **choice), watcher)
            return model.identify()

        assert identity(tensor_parallel=2) == identity()


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes as Linux shows them")
class TestCommand:
    def arguments(self, model: Path, place: Path, lines: int, *more: str) -> list[str]:
        (place / "in").write_text("".join(f"Line {i} of {i % 17}.\n" for i in range(lines)))
        options = f"run -v --no-store --device cpu --precision fp32 --unit line --max-new-tokens 24 -m {model}".split()
        return [*options, *more, "Say: {text}", str(place / "in")]

    def start(self, model: Path, place: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
        """Begin a run that would take long; return it and its other ranks' process ids when it is under way."""
        command = [sys.executable, "-m", "llmpar", *self.arguments(model, place, 20_000, "--tensor-parallel", "2")]
        pipe = subprocess.PIPE
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place)}
        process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe)
        assert process.stderr
        assert process.stdout
        while b"devices each with a share" not in (line := process.stderr.readline()):
            assert line
        assert process.stdout.readline(), "the other rank may still be loading before there is an answer"
        others = [int(place.name) for place in Path("/proc").iterdir() if place.name.isdigit()]
        others = [
            pid for pid in others if parent_of(pid) == process.pid and "Connection" in command_of(pid)
        ]  # not what renders templates
        assert len(others) == 1
        return process, others

    def test_the_output_is_that_of_one_process(
        self, llmpar: Callable[..., Outcome], model: Path, tmp_path: Path
    ) -> None:
        arguments = self.arguments(model, tmp_path, 23, "--check", "none")
        alone, together = llmpar(*arguments), llmpar(*arguments, "--tensor-parallel", "2", "--batch-size", "5")
        assert together.out == alone.out
        assert together.code == alone.code
        assert "2 devices each with a share" in together.err
        assert len(together.out) > 23 * 10

    def test_a_rank_that_is_killed_ends_the_run(self, model: Path, tmp_path: Path) -> None:
        process, others = self.start(model, tmp_path)
        os.kill(others[0], signal.SIGKILL)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 69, said
        assert b"rank 1 was ended by signal 9; if memory ran out, a smaller batch size (--batch-size) helps" in said

    def test_killed_itself_it_leaves_nothing(self, model: Path, tmp_path: Path) -> None:
        process, others = self.start(model, tmp_path)
        assert list(tmp_path.glob("llmpar-*"))
        process.kill()
        process.communicate(timeout=120)
        wait_for(lambda: not any(map(is_running, others)))
        assert not list(tmp_path.glob("llmpar-*"))

    def test_interrupted_it_leaves_nothing(self, model: Path, tmp_path: Path) -> None:
        process, others = self.start(model, tmp_path)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
        assert process.returncode == 130
        wait_for(lambda: not any(map(is_running, others)))
