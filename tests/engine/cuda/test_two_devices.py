"""A model divided over two GPUs: run `pytest -m device` over this file where there are two."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.device_models import DEVICE, GREEDY, PREFIX, SHAPES, engine, expected, make_directories, prompts
from support.engines import collected
from support.program import Outcome

from llmpar.engine.build import build_engine
from llmpar.engine.engine import Engine
from llmpar.engine.precision_names import KVCacheName, PrecisionName
from llmpar.engine.request import Request, SamplingParams
from llmpar.models.load import load_model
from llmpar.models.tensor_parallel import load_shards

# Warnings of the libraries there are not this project's errors.
pytestmark = [
    pytest.mark.device,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU at most"),
]


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Path]:
    return make_directories(tmp_path_factory, tiny_model)


class TestTwoGPUs:
    def divided(
        self,
        directory: Path,
        precision: PrecisionName = "fp32",
        slots: int | None = 16,
        prefix: list[int] = PREFIX,
        kv_cache: KVCacheName = "auto",
    ) -> Engine:
        remarks: list[str] = []
        loaded = load_shards(2, directory, DEVICE, precision, kv_cache=kv_cache, notify=remarks.append)
        (shards,) = loaded.models
        assert shards.shares_tokens, "transformers divides it"
        assert loaded.precision == precision, remarks
        # cuBLAS adds in fp32 in other orders for other numbers of rows.
        assert precision in ("fp32", "int8") or shards.mine.decoder.is_steady
        return build_engine(loaded.models, loaded.context_length, loaded.stop_ids, None, slots, prefix)

    def test_answers_do_not_depend_on_the_batch(self, directories: dict[str, Path]) -> None:
        found = [
            collected(self.divided(directories["qwen3"], "bf16", slots, prefix), prompts(), GREEDY)
            for slots, prefix in ((5, PREFIX), (None, []))
        ]
        assert found[0] == found[1]
        assert len({tuple(answer) for answer in found[0]}) > 30

    @pytest.mark.parametrize("precision", ["int8", "bf16"])
    def test_weights_of_few_bits_begin_as_on_one(self, precision: PrecisionName, directories: dict[str, Path]) -> None:
        """Sums of two parts are rounded otherwise than one sum; so it is in bf16 as well, for comparison."""
        together = collected(self.divided(directories["qwen3"], precision), prompts(), SamplingParams(1))
        alone = collected(engine(directories["qwen3"], precision, 1, 16, PREFIX), prompts(), SamplingParams(1))
        assert sum(a == b for a, b in zip(together, alone, strict=True)) >= 34

    def test_keys_of_8_bits_are_those_of_one(self, directories: dict[str, Path]) -> None:
        loaded = load_model(directories["qwen3"], "cuda:0", "fp32", kv_cache="fp8")
        made = build_engine(loaded.models, loaded.context_length, loaded.stop_ids, 1, 16, PREFIX)
        alone = collected(made, prompts(), GREEDY)
        together = collected(self.divided(directories["qwen3"], kv_cache="fp8"), prompts(), GREEDY)
        # A number at the border of two such floats may go either way.
        assert sum(a == b for a, b in zip(together, alone, strict=True)) >= 36

    @pytest.mark.parametrize("name", SHAPES)
    def test_greedy_fp32_is_generate_token_for_token(self, name: str, directories: dict[str, Path]) -> None:
        assert collected(self.divided(directories[name]), prompts(), GREEDY) == expected(directories[name], "fp32")

    def test_the_command_line_answers_as_one_does(
        self, directories: dict[str, Path], llmpar: Callable[..., Outcome]
    ) -> None:
        text = "".join(f"{index}. {'word ' * (index % 9)}end\n" for index in range(40)).encode()
        shape = ("--unit", "line", "--max-new-tokens", "12", "--max-repeats", "0", "--check", "none")
        options = (*shape, "-m", str(directories["qwen3"]), "--precision", "fp32", "--no-store", "-v")

        def run(*more: str) -> Outcome:
            done = llmpar("run", "{text}", *options, *more, stdin=text)
            assert done.code == 0, done.err
            return done

        divided = run("--device", DEVICE, "--tensor-parallel", "2")
        assert "2 devices each with a share of every layer" in divided.err
        assert divided.out == run("--device", "cuda:0").out

    def test_sampled_answers_are_those_of_one(self, directories: dict[str, Path]) -> None:
        params = SamplingParams(24, temperature=1.0, top_p=0.9, seed=11)
        alone = collected(engine(directories["qwen3"], "fp32", 1, 16, PREFIX), prompts(), params)
        assert collected(self.divided(directories["qwen3"]), prompts(), params) == alone

    def test_one_that_is_killed_ends_the_run_and_another_begins_afresh(self, directories: dict[str, Path]) -> None:
        running = self.divided(directories["llama"])
        (worker,) = running._workers
        ranks = worker._runner._ranks
        with running:
            for index, prompt in enumerate(prompts()):
                running.submit(Request(index, prompt, SamplingParams(1 if index == 0 else 100)))
            while (completion := running.collect(timeout=60)) and completion.error is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(ranks.process_ids[0], signal.SIGKILL)
        assert completion
        assert "rank 1 was ended by signal 9" in str(completion.error)
        assert collected(self.divided(directories["llama"]), prompts(), GREEDY) == expected(
            directories["llama"], "fp32"
        )
