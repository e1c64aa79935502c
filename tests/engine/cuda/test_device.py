"""What only a GPU can tell: run `pytest -m device tests/engine/cuda` where there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.device_models import (
    DEVICE,
    EXPERTS,
    GREEDY,
    PREFIX,
    SHAPES,
    engine,
    expected,
    generated,
    make_directories,
    prompts,
    reference,
)
from support.engines import collected
from support.program import Outcome

from llmpar.engine.build import build_engine
from llmpar.engine.cuda.model import CudaModel
from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.request import Request, SamplingParams
from llmpar.models.load import load_model

# Warnings of the libraries there are not this project's errors.
pytestmark = [pytest.mark.device, pytest.mark.filterwarnings("default")]

NEAR = 6  # times what rounding makes of a logit, within which two of them may change places


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Path]:
    return make_directories(tmp_path_factory, tiny_model)


@pytest.mark.parametrize("name", [*SHAPES, *EXPERTS])
@pytest.mark.parametrize("prefix", [[], PREFIX], ids=["nothing shared", "shared prefix"])
@pytest.mark.parametrize(("workers", "slots"), [(1, None), (1, 7), (2, 16)])
def test_greedy_fp32_is_generate_token_for_token(
    name: str, prefix: list[int], workers: int, slots: int | None, directories: dict[str, Path]
) -> None:
    answers = expected(directories[name], "fp32")
    assert len({tuple(answer) for answer in answers}) > 30, "the oracle answers everything alike"
    assert collected(engine(directories[name], "fp32", workers, slots, prefix), prompts(), GREEDY) == answers


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", EXPERTS)
def test_experts_are_computed_by_our_kernels_and_rows_do_not_notice_each_other(
    name: str, precision: PrecisionName, directories: dict[str, Path]
) -> None:
    (model,) = load_model(directories[name], "cuda:0", precision).models
    assert isinstance(model, CudaModel)
    assert model.decoder.is_steady or precision == "fp32"  # in which cuBLAS has kernels for few rows
    alone = collected(engine(directories[name], precision, 1, 1, []), prompts(), GREEDY)
    assert collected(engine(directories[name], precision, 1, None, []), prompts(), GREEDY) == alone


@pytest.mark.parametrize("name", SHAPES)
def test_a_long_beginning_is_read_for_all_rows_at_once(name: str, directories: dict[str, Path]) -> None:
    beginning = [3 + number * 37 % 250 for number in range(133)]  # more than what is worth it, and no whole pages
    asked = [[*beginning, *prompt[: 1 + index]] for index, prompt in enumerate(prompts())] + prompts()[:8]
    answers = generated(directories[name], "fp32", asked)
    assert collected(engine(directories[name], "fp32", 1, None, beginning), asked, GREEDY) == answers


def test_keys_of_8_bits_depend_on_no_neighbours_and_change_little(directories: dict[str, Path]) -> None:
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no floats of 8 bits")
    loaded = load_model(directories["qwen3"], "cuda:0", "fp32", kv_cache="fp8")

    def answer(slots: int | None, prefix: list[int]) -> list[list[int]]:
        made = build_engine(loaded.models, loaded.context_length, loaded.stop_ids, 1, slots, prefix)
        return collected(made, prompts(), GREEDY)

    found = answer(7, [])
    assert answer(None, PREFIX) == found
    plain = expected(directories["qwen3"], "fp32")
    assert found != plain
    assert sum(a[:1] == b[:1] for a, b in zip(found, plain, strict=True)) >= 28


@pytest.mark.parametrize("precision", ["bf16", "int8"])  # so small a model is too far off in fp8
def test_all_kernels_are_compiled_before_the_first_request(
    precision: PrecisionName, directories: dict[str, Path]
) -> None:
    from llmpar.engine.cuda import codes_kernels, kernels

    def compiled() -> int:
        found = [value for module in (kernels, codes_kernels) for value in vars(module).values()]
        return sum(len(each.device_caches[0][0]) for each in found if hasattr(each, "device_caches"))

    beginning = [3 + number * 37 % 250 for number in range(133)]
    running = engine(directories["llama"], precision, 1, 7, beginning, device="cuda:0")
    before = compiled()
    asked = [[*beginning, *prompt[: 1 + index]] for index, prompt in enumerate(prompts())]
    assert len(collected(running, asked, SamplingParams(8, temperature=1.0, top_p=0.9))) == len(asked)
    assert compiled() == before


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recorded_passes_over_prompts_change_nothing(precision: PrecisionName, directories: dict[str, Path]) -> None:
    running = engine(directories["qwen3"], precision, 1, 5, PREFIX, device="cuda:0")
    asked = [Request(number, prompts()[number % 40], GREEDY) for number in range(200)]
    with running:
        for request in asked:
            running.submit(request)
        found: dict[int, list[int]] = {}
        for _ in asked:
            completion = running.collect(timeout=60)
            assert completion is not None, "the engine hangs"
            found[completion.id] = list(completion.output_ids)
        graphs = running._workers[0]._runner._stream._graphs
        assert sum(graph is not None for (kind, _), graph in graphs.items() if kind == "read") >= 2
    assert all(found[number] == found[number % 40] for number in found)
    if precision == "fp32":
        assert [found[number] for number in range(40)] == expected(directories["qwen3"], "fp32")


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("workers", [1, 2])
def test_greedy_bf16_parts_from_generate_only_at_near_ties(
    name: str, workers: int, directories: dict[str, Path]
) -> None:
    theirs = expected(directories[name], "bf16")
    ours = collected(engine(directories[name], "bf16", workers, None, PREFIX), prompts(), GREEDY)
    alike = sum(a[:1] == b[:1] for a, b in zip(ours, theirs, strict=True))
    assert alike >= 32, "rounding explains that answers part, not that so many begin differently"
    for prompt, a, b in zip(prompts(), ours, theirs, strict=True):
        if a != b:
            # An answer ends before the token that stopped it.
            first = next((i for i, pair in enumerate(zip([*a, 2], [*b, 2], strict=False)) if pair[0] != pair[1]))
            tokens = [[*answer, 2][first] for answer in (a, b)]
            ids = torch.tensor([prompt + a[:first]], device=DEVICE)
            with torch.inference_mode():
                low, high = (
                    reference(directories[name], precision)(input_ids=ids).logits[0, -1].double()
                    for precision in ("bf16", "fp32")
                )
            noise = float((low - high).square().mean().sqrt())
            assert float((high[tokens[0]] - high[tokens[1]]).abs()) <= NEAR * noise


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_seed_draws_the_same_twice_and_another_does_not(
    precision: PrecisionName, directories: dict[str, Path]
) -> None:
    def drawn(seed: int) -> list[list[int]]:
        params = SamplingParams(24, temperature=1.0, top_p=0.9, seed=seed)
        return collected(engine(directories["llama"], precision, 1, 16, PREFIX), prompts(), params)

    once = drawn(11)
    assert once == drawn(11)
    assert once != drawn(12)
    assert once != expected(directories["llama"], precision)


def test_sampled_answers_depend_on_neither_replicas_nor_batch(directories: dict[str, Path]) -> None:
    params = SamplingParams(24, temperature=1.0, top_p=0.9, seed=11)
    alone = collected(engine(directories["qwen3"], "fp32", 1, 5, PREFIX), prompts(), params)
    assert collected(engine(directories["qwen3"], "fp32", 2, 16, []), prompts(), params) == alone


def test_where_memory_runs_out_the_batch_is_halved_and_the_run_goes_on(
    directories: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = engine(directories["llama"], "fp32", 1, 32, PREFIX, device="cuda:0")  # however many there are
    (worker,) = running._workers
    runner = worker._runner
    decode = runner.decode
    refused: list[int] = []

    def decode_few(sequences: list[Any]) -> None:
        if len(sequences) > 10:
            refused.append(len(sequences))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        decode(sequences)

    monkeypatch.setattr(runner, "decode", decode_few)
    assert collected(running, prompts(), GREEDY) == expected(directories["llama"], "fp32")
    assert refused
    assert runner.num_slots == 8


def test_an_engine_makes_do_with_the_memory_that_is_free(directories: dict[str, Path]) -> None:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(free - (2 << 30), dtype=torch.uint8, device=DEVICE)
    try:
        answers = collected(engine(directories["llama"], "fp32", 1, None, PREFIX), prompts(), GREEDY)
    finally:
        del taken
        torch.cuda.empty_cache()
    assert answers == expected(directories["llama"], "fp32")


@pytest.mark.parametrize("name", SHAPES)
def test_the_command_line_answers_in_order_and_as_on_a_cpu(
    name: str, directories: dict[str, Path], llmpar: Callable[..., Outcome]
) -> None:
    text = "".join(f"{index}. {'word ' * (index % 9)}end\n" for index in range(40)).encode()

    def run(device: str, *options: str) -> bytes:
        done = llmpar(
            *("run", "{text}", "--unit", "line", "-m", str(directories[name]), "--device", device, "--no-store"),
            *("--precision", "fp32", "--max-new-tokens", "12", "--max-repeats", "0", "--check", "none", *options),
            stdin=text,
        )
        assert done.code == 0, done.err
        return done.out

    on_cpu = run("cpu")
    assert on_cpu != text
    assert run(DEVICE) == on_cpu
    assert run(DEVICE, "-j", "2", "--batch-size", "5") == on_cpu


def test_killing_one_of_two_replicas_loses_nothing(
    directories: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = engine(directories["llama"], "fp32", 2, 8, PREFIX)
    runner = running._workers[1]._runner
    decode = runner.decode
    steps: list[int] = []

    def die_in_the_middle(sequences: list[Any]) -> None:
        steps.append(len(sequences))
        if len(steps) == 6:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        decode(sequences)

    monkeypatch.setattr(runner, "decode", die_in_the_middle)
    assert collected(running, prompts(), GREEDY) == expected(directories["llama"], "fp32")
    assert len(steps) == 6
    assert steps[-1] > 0
