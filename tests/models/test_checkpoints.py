"""Checkpoints that the hub's tools quantised: each weight is, to the bit, what the format's own tool makes of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from llmpar.engine.quantized import Floats, Quantized
from llmpar.models.checkpoints.opening import open_source
from llmpar.models.source import WeightSource

MADE = sorted(Path(__file__).parent.glob("checkpoints/*/"))
INT, SIGNED, ZEROS, TABLE, FLOAT = "unsigned codes", "signed codes", "codes with zeros", "a table", "floats"
FORMS = {
    "awq": (4, 32, ZEROS),
    "compressed-fp8-block": (16, None, FLOAT),
    "compressed-fp8-channel": (16, None, FLOAT),
    "compressed-fp8-tensor": (16, None, FLOAT),
    "compressed-mxfp4": (4, 32, TABLE),
    "compressed-naive-4-bits": (4, 64, SIGNED),
    "compressed-nvfp4": (4, 16, TABLE),
    "compressed-w4a16": (4, 32, SIGNED),
    "compressed-w4a16-zeros": (4, 32, ZEROS),
    "compressed-w6a16": (6, 16, SIGNED),
    "compressed-w8a16-channel-zeros": (8, 64, ZEROS),
    "compressed-w8a8": (8, 64, SIGNED),
    "compressed-w8a8-zeros": (8, 64, ZEROS),
    "gptq-2-bits": (2, 32, ZEROS),
    "gptq-3-bits": (3, 32, ZEROS),
    "gptq-4-bits": (4, 32, SIGNED),
    "gptq-4-bits-act-order": (16, None, FLOAT),
    "gptq-4-bits-second-layout": (4, 32, ZEROS),
    "gptq-8-bits": (8, 32, ZEROS),
}
"""Of each checkpoint, how many bits its weights have, in groups of how many, and what they are read as."""
Q = "model.layers.0.self_attn.q_proj.weight"


def opened(path: Path) -> WeightSource:
    source = open_source(path)
    assert source
    return source


def weights(source: WeightSource, name: str, rows: slice = slice(None)) -> Floats:
    read = source.rows(name, rows)
    return read.weights() if isinstance(read, Quantized) else read


def form(read: Quantized | Floats) -> str:
    if not isinstance(read, Quantized):
        return FLOAT
    if read.table is not None:
        return TABLE
    return ZEROS if read.offsets else SIGNED if read.codes.dtype == np.int8 else INT


def digest(values: Floats, dtype: str) -> str:
    rounded = torch.from_numpy(values.copy()).to(getattr(torch, dtype))
    return hashlib.sha256(rounded.view(torch.uint8).numpy().tobytes()).hexdigest()


def test_there_is_one_of_each_form() -> None:
    assert [path.name for path in MADE] == sorted(FORMS)


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_weights_are_those_of_the_formats_own_tool(path: Path) -> None:
    source = opened(path)
    expected = json.loads((path / "expected.json").read_text())
    assert {name: digest(weights(source, name), dtype) for name, (dtype, _) in expected.items()} == {
        name: sha256 for name, (_, sha256) in expected.items()
    }


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_weights_have_the_names_and_shapes_of_parameters(path: Path) -> None:
    config = AutoConfig.from_pretrained(path)
    del config.quantization_config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    source = opened(path)
    assert dict(source.shapes) == {name: tuple(value.shape) for name, value in model.named_parameters()}
    for name, shape in source.shapes.items():
        assert weights(source, name).shape == shape
        source.give_back(name)
        assert source.kind(name)


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_weights_keep_the_form_of_their_file(path: Path) -> None:
    bits, group, expected = FORMS[path.name]
    source = opened(path)
    read = source.rows(Q, slice(None))
    assert form(read) == expected
    assert source.bits == max(4, bits)
    if isinstance(read, Quantized):
        assert (read.bits, read.group) == (bits, group)
        assert (read.scales.values.dtype == np.float16) != path.name.endswith("nvfp4"), "scales of 16 bits stay so"


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_some_rows_are_those_of_the_whole(path: Path) -> None:
    source = opened(path)
    for name in source.shapes:
        whole = weights(source, name)
        for rows in (slice(0, 1), slice(3, 13), slice(9, None)):
            assert np.array_equal(weights(source, name, rows), whole[rows])
