"""A model without its weights computes what the whole one does, and reads no more of them than it says."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_models import OURS, make
from transformers import AutoModelForCausalLM

from llmpar.engine.parts import Extent, take_apart
from llmpar.engine.quantized import Floats, Quantized, Scales
from llmpar.models import skeleton
from llmpar.models.skeleton import OtherWeights, Skeleton, open_skeleton


class MemorySource:
    """The weights of a model of transformers; notes which are read and given back."""

    def __init__(self, model: Any) -> None:
        self.tensors = {name: weight.detach().float().numpy() for name, weight in model.named_parameters()}
        self.read: list[tuple[str, int]] = []
        self.given: list[str] = []

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    @property
    def bits(self) -> int:
        return 32

    def rows(self, name: str, rows: slice) -> Quantized | Floats:
        found: Floats = self.tensors[name][rows]
        self.read.append((name, len(found)))
        if found.ndim > 1 and "mlp" in name:  # as whole numbers of one unit
            units = np.ones((len(found), 1), np.float32) / 4096
            return Quantized(np.rint(found * 4096).astype(np.int8), 8, Scales(units))
        return found

    def kind(self, name: str) -> str:
        return "F32"

    def give_back(self, name: str) -> None:
        self.given.append(name)


def whole(name: str) -> Any:
    model = deepcopy(make(name))
    with torch.no_grad():  # so that whole numbers of a small unit hold what they must
        for own, weight in model.named_parameters():
            if "mlp" in own and weight.ndim > 1:
                weight.copy_((weight * 4096).round().clamp(-127, 127) / 4096)
    return model


def opened(model: Any) -> tuple[Skeleton, MemorySource]:
    source = MemorySource(model)
    return open_skeleton(AutoModelForCausalLM, model.config, source), source


@pytest.mark.parametrize("name", OURS)
def test_its_parts_and_logits_are_those_of_the_whole_model(name: str) -> None:
    model = whole(name)
    bones, source = opened(model)
    extent = bones.extent
    assert extent == Extent(model.config.num_hidden_layers, (slice(0, 300),))
    with bones.reading(extent):
        parts = take_apart(bones.module, extent)
    expected = take_apart(model)
    assert parts.distance(expected.probe_logits) < 1e-5
    assert [layer.variant for layer in parts.layers] == [layer.variant for layer in expected.layers]
    assert {name for name, _ in source.read} == set(source.tensors)
    assert all(parameter.is_meta for parameter in bones.rows)


@pytest.mark.parametrize("name", OURS)
def test_filled_it_is_the_whole_model(name: str) -> None:
    model = whole(name)
    bones, source = opened(model)
    filled, ids = bones.filled(torch.float32), torch.arange(9)[None]
    assert torch.equal(filled(ids).logits, model(ids).logits)
    assert all(torch.equal(weight, model.get_parameter(own)) for own, weight in filled.named_parameters())
    assert set(source.given) <= set(source.tensors)
    assert {weight.dtype for weight in opened(model)[0].filled(torch.bfloat16).parameters()} == {torch.bfloat16}


def test_a_part_of_it_is_what_its_first_layers_make_of_some_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model = whole("llama")
    bones, source = opened(model)
    monkeypatch.setattr(skeleton, "_TRIED", 1)
    monkeypatch.setattr(skeleton, "_SCORED", 32 * model.config.hidden_size)
    extent = bones.extent
    assert extent.num_layers == 1 < model.config.num_hidden_layers
    assert sum(part.stop - part.start for part in extent.tokens) == 32
    with bones.reading(extent):
        parts = take_apart(bones.module, extent)
    behind = {name for name, _ in source.read if "layers.1." in name and "norm" not in name}
    assert not behind
    assert sum(count for name, count in source.read if name.startswith("lm_head")) == 32
    shorter = deepcopy(model)
    shorter.model.layers = shorter.model.layers[:1]
    shorter.config.num_hidden_layers = 1
    assert parts.distance(take_apart(shorter).probe_logits) < 1e-5
    # What changes the layer that is tried is seen.
    assert parts.distance(take_apart(model).probe_logits) > 1e-3


def test_layers_of_each_kind_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    model = whole("gemma3")
    model.config.layer_types = ["sliding_attention", "full_attention"]
    bones, _ = opened(model)
    monkeypatch.setattr(skeleton, "_TRIED", 1)
    kinds = bones.module.config.layer_types
    assert len({*kinds}) == len({*kinds[: bones.extent.num_layers]}) == 2


def test_what_the_files_lack_or_have_too_much_is_said() -> None:
    model = whole("llama")
    for change, reason in (
        (lambda tensors: tensors.pop("model.norm.weight"), "no weights for model.norm.weight"),
        (lambda tensors: tensors.update(more=np.ones(3, np.float32)), "no place for: more"),
        (lambda tensors: tensors.update({"model.norm.weight": np.ones(3, np.float32)}), "has the shape"),
    ):
        source = MemorySource(model)
        change(source.tensors)  # type: ignore[no-untyped-call]
        with pytest.raises(OtherWeights, match=reason):
            open_skeleton(AutoModelForCausalLM, model.config, source)
