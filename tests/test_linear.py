"""Fused and quantised modules: the same results as what they replace, and rows that do not depend on each other."""

from __future__ import annotations

import threading
from copy import deepcopy

import pytest
import torch
from test_model_engine import OURS, make, prompts
from torch import nn

from llmpar.engine.build import build_engine
from llmpar.engine.linear import Int8Linear, optimize
from llmpar.engine.request import Request, SamplingParams

needs_int8 = pytest.mark.skipif(
    "x86" not in torch.backends.quantized.supported_engines, reason="int8 products are x86 only"
)


def logits(model: nn.Module) -> torch.Tensor:
    ids = torch.arange(3, 80)[None]
    with torch.inference_mode():
        return model(input_ids=ids, use_cache=False).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", OURS)
def test_fusing_changes_nothing_but_rounding(name: str) -> None:
    model = deepcopy(make(name))
    model.set_attn_implementation("eager")
    before = logits(model)
    modules = len(list(model.modules()))
    optimize(model, quantize=False)
    assert torch.allclose(logits(model), before, rtol=1e-4, atol=1e-4)
    kinds = {type(module).__name__ for module in model.modules()}
    assert "_RMSNorm" in kinds
    assert "_Part" in kinds or name == "phi3", "phi3 has its projections fused already"
    assert len(list(model.modules())) == modules


def test_fused_parts_are_shared_between_threads() -> None:
    model = deepcopy(make("llama"))
    model.set_attn_implementation("eager")
    expected = logits(model)
    optimize(model, quantize=False)
    wrong: list[bool] = []

    def work() -> None:
        wrong.extend(not torch.allclose(logits(model), expected, rtol=1e-4, atol=1e-4) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 80
    assert not any(wrong)


@needs_int8
class TestInt8:
    def test_is_close_to_the_float_product(self) -> None:
        torch.manual_seed(1)
        linear = nn.Linear(256, 100)
        x = torch.randn(2, 30, 256) * torch.logspace(-3, 3, 30)[:, None]
        with torch.inference_mode():
            expected, found = linear(x), Int8Linear(linear.weight, linear.bias)(x)
        assert found.shape == expected.shape
        error = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
        assert error.max() < 0.03, "a row of another size has cost this one its precision"

    def test_a_row_of_zeros_gives_the_bias(self) -> None:
        linear = nn.Linear(64, 10)
        with torch.inference_mode():
            assert torch.equal(Int8Linear(linear.weight, linear.bias)(torch.zeros(3, 64)), linear.bias.expand(3, -1))

    @pytest.mark.parametrize("count", [1, 2, 3, 7, 33])
    def test_a_row_does_not_depend_on_its_batch(self, count: int) -> None:
        torch.manual_seed(2)
        layer = Int8Linear(torch.randn(200, 128), None)
        x = torch.randn(64, 128)
        x[50] *= 1000
        with torch.inference_mode():
            assert torch.equal(layer(x[:count]), layer(x)[:count])

    @pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3", "phi3"])
    def test_whole_models_stay_close(self, name: str) -> None:
        model = deepcopy(make(name))
        model.set_attn_implementation("eager")
        before = logits(model)
        optimize(model, quantize=True)
        assert not any(type(module) is nn.Linear for module in model.modules())
        after = logits(model)
        assert ((after - before).norm() / before.norm()) < 0.15

    def test_the_output_depends_on_neither_n_nor_batch(self) -> None:
        found: list[list[list[int]]] = []
        for workers, batch in ((1, 1), (2, 7), (4, 64), (1, 50)):
            answers: dict[int, list[int]] = {}
            with build_engine(deepcopy(make("llama")), 256, frozenset({2}), workers, batch, quantize=True) as engine:
                for index, prompt in enumerate(prompts("llama")):
                    engine.submit(Request(index, prompt, SamplingParams(16)))
                while len(answers) < len(prompts("llama")):
                    completion = engine.collect(timeout=60)
                    assert completion is not None
                    assert completion.error is None, completion.error
                    answers[completion.id] = list(completion.output_ids)
            found.append([answers[index] for index in range(len(answers))])
        assert found[1:] == found[:1] * 3
