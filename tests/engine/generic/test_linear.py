"""Fused modules: the same results as what they replace, also for several threads at once."""

from __future__ import annotations

import threading
from copy import deepcopy

import pytest
import torch
from support.tiny_models import OURS, make
from torch import nn

from llmpar.engine.generic.linear import optimize


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
    optimize(model)
    assert torch.allclose(logits(model), before, rtol=1e-4, atol=1e-4)
    kinds = {type(module).__name__ for module in model.modules()}
    assert "_RMSNorm" in kinds
    assert "_Part" in kinds or name.startswith("phi3"), "phi3 has its projections fused already"
    assert len(list(model.modules())) == modules


def test_fused_parts_are_shared_between_threads() -> None:
    model = deepcopy(make("llama"))
    model.set_attn_implementation("eager")
    expected = logits(model)
    optimize(model)
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
