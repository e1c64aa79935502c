"""Quantised checkpoints in use: what they hold is multiplied as it is, and answers are those of their numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.engines import collected
from support.forms import bits_of, multiplied
from support.tiny_models import PARAMS, generated
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from llmpar.engine.build import build_engine
from llmpar.engine.cpu.decoder import Decoder, Pass, Tokens
from llmpar.engine.cpu.dots import DOTS, INPUT_GROUP
from llmpar.engine.cpu.making import form_in
from llmpar.engine.cpu.precision import PRECISIONS
from llmpar.engine.cpu.projection import Projection
from llmpar.engine.generic import skeleton as skeleton_module
from llmpar.engine.pages import num_pages_of
from llmpar.engine.source import SourceRows
from llmpar.errors import ModelUnavailable
from llmpar.models import needs, registry
from llmpar.models.load import load_model
from llmpar.models.opening import open_files, open_source

PLACE = Path(__file__).parent / "checkpoints"
FOUR, SIX, EIGHT, TABLE = "int4", "codes of 6 bits", "codes of 8 bits", "int4 by table"
FRACTIONS, FLOATS = "floats by table", "floats of 8 bits"
FORMS = {
    "awq": (FOUR, 5.25),
    "bitsandbytes-fp4-in-floats": (FRACTIONS, 4.5),
    "bitsandbytes-int8": (EIGHT, 8.5),
    "bitsandbytes-nf4": (FRACTIONS, 4.25),
    "bitsandbytes-nf4-nested": (FRACTIONS, 4.5),
    "compressed-fp8-block": (FLOATS, 9),
    "compressed-fp8-channel": (FLOATS, 8.25),
    "compressed-fp8-tensor": (FLOATS, 8.25),
    "compressed-mxfp4": (TABLE, 4.5),
    "compressed-naive-4-bits": (FOUR, 4.25),
    "compressed-nvfp4": (TABLE, 6),
    "compressed-w4a16": (FOUR, 4.5),
    "compressed-w4a16-zeros": (FOUR, 5.25),
    "compressed-w6a16": (SIX, 9),
    "compressed-w8a16-channel-zeros": (EIGHT, 8.75),
    "compressed-w8a8": (EIGHT, 8.25),
    "compressed-w8a8-zeros": (EIGHT, 8.75),
    "fp8-blocks": (FLOATS, 10),
    "fp8-blocks-powers": (FLOATS, 9),
    "gptq-2-bits": (FOUR, 5.25),
    "gptq-3-bits": (FOUR, 5.25),
    "gptq-4-bits": (FOUR, 4.5),
    "gptq-4-bits-act-order": (FOUR, 5.25),
    "gptq-4-bits-second-layout": (FOUR, 5.25),
    "gptq-8-bits": (EIGHT, 9.5),
    "torchao-float8": (FLOATS, 8.25),
    "torchao-int4": (FOUR, 5),
    "torchao-int8": (EIGHT, 8.25),
    "torchao-intx-4-bits": (FOUR, 5.25),
}
"""As what each checkpoint's codes are kept, and in how many bits a weight, scales counted, of a tiny matrix."""
Q = "model.layers.0.self_attn.q_proj.weight"
IDS = np.arange(1, 15, dtype=np.int32)
PROMPTS = [[1, *(3 + (start * place) % 13 for place in range(1, 5 + start % 4))] for start in range(1, 13)]


def logits_of(decoder: Decoder, ids: Any) -> Any:
    count = num_pages_of(len(ids))
    places = np.arange(len(ids), dtype=np.int32)
    work = Pass(decoder, len(ids), *decoder.make_pages(count))
    tables = np.arange(count, dtype=np.int32)[None]
    return work.logits(work.forward(Tokens(ids, places, np.zeros_like(places), tables)))


def logits_of_torch(path: Path) -> Any:
    skeleton = open_files(path)
    assert skeleton
    with torch.inference_mode():
        return skeleton.filled(torch.float32)(torch.from_numpy(IDS).long()[None]).logits[0].numpy()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", FORMS)
def test_what_is_multiplied_is_to_the_bit_what_the_file_has(name: str) -> None:
    """One input of 1 among zeros shows each weight; that the file's are the tool's, `test_checkpoints` shows."""
    source = open_source(PLACE / name)
    assert source
    rows, (form, bits) = SourceRows(source, Q), FORMS[name]
    assert form_in(rows, PRECISIONS["int8"]) == form
    projection = Projection.keep(rows, None, DOTS[form])
    inputs = np.eye(rows.shape[1])
    if len(projection.order):
        inputs = inputs[:, projection.order]
    found = multiplied(projection, inputs, np.ones((len(inputs), projection.num_inputs // INPUT_GROUP)))
    assert np.array_equal(found, rows.floats().T)
    assert bits_of(projection) == bits


def test_there_is_one_of_each_but_for_experts() -> None:
    assert sorted({*FORMS, "mxfp4"}) == sorted(path.name for path in PLACE.glob("*/"))


@pytest.mark.parametrize(
    ("precision", "name", "form"),
    [
        ("bf16", "fp8-blocks", FLOATS),
        ("bf16", "bitsandbytes-nf4", FRACTIONS),
        ("bf16", "awq", None),
        ("fp32", "bitsandbytes-nf4", FRACTIONS),
        ("fp32", "fp8-blocks", None),
        ("int4", "fp8-blocks", None),
    ],
)
def test_floats_are_kept_for_inputs_that_are_as_precise(precision: Any, name: str, form: str | None) -> None:
    source = open_source(PLACE / name)
    assert source
    assert form_in(SourceRows(source, Q), PRECISIONS[precision]) == form


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_floats_are_as_close_to_the_model_as_a_precision_is(precision: Any) -> None:
    name = "bitsandbytes-nf4" if precision == "fp32" else "compressed-fp8-channel"
    (model,) = load_model(PLACE / name, "cpu", precision).models
    decoder = model.decoder  # type: ignore[attr-defined]
    assert {projection.dot.name for projection in decoder.layers[0].gate_up} == {FORMS[name][0]}
    found, expected = logits_of(decoder, IDS), logits_of_torch(PLACE / name)
    most = {"fp32": 1e-5, "bf16": 0.02}[precision]
    assert np.linalg.norm(found - expected) < most * np.linalg.norm(expected - expected.mean(-1, keepdims=True))


@pytest.mark.parametrize(
    "name",
    ["gptq-4-bits", "gptq-8-bits", "awq", "compressed-w4a16", "compressed-w8a8", "gptq-4-bits-act-order",
     "bitsandbytes-nf4", "bitsandbytes-int8", "fp8-blocks", "compressed-mxfp4", "torchao-float8", "torchao-int8"],
)  # fmt: skip
def test_codes_are_kept_and_logits_are_those_of_their_numbers(name: str) -> None:
    (model,) = load_model(PLACE / name, "cpu", "int8").models
    decoder = model.decoder  # type: ignore[attr-defined]
    layer = decoder.layers[0]
    kept = (*layer.qkv, layer.output, *layer.gate_up, layer.down)
    assert {projection.dot.name for projection in kept} == {FORMS[name][0]}
    found, expected = logits_of(decoder, IDS), logits_of_torch(PLACE / name)
    assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected - expected.mean(-1, keepdims=True))


@pytest.mark.parametrize(
    ("name", "bits"), [("awq", 4), ("compressed-w8a8", 8), ("gptq-4-bits-act-order", 4), ("fp8-blocks", 8)]
)
def test_auto_knows_how_many_bits_they_have(name: str, bits: int, tmp_path: Path) -> None:
    directory = tmp_path / name
    directory.mkdir()
    for file in ("config.json", "model.safetensors"):
        (directory / file).write_bytes((PLACE / name / file).read_bytes())
    (directory / "tokenizer.json").write_text(json.dumps({}))
    assert registry.resolve(str(directory)).source_bits == bits


@pytest.mark.parametrize("name", ["bitsandbytes-nf4", "compressed-fp8-channel", "gptq-4-bits-act-order"])
def test_answers_depend_on_neither_n_nor_batch(name: str) -> None:
    def answers(workers: int, batch: int, precision: Any) -> list[list[int]]:
        models = load_model(PLACE / name, "cpu", precision).models
        return collected(build_engine(models, 64, frozenset({2}), workers, batch), PROMPTS, PARAMS)

    assert answers(1, 1, "int8") == answers(2, 5, "int8")
    skeleton = open_files(PLACE / name)
    assert skeleton
    model = skeleton.filled(torch.float32)
    model.generation_config.eos_token_id = 2
    assert answers(2, 5, "fp32") == generated(model, PROMPTS, PARAMS.max_new_tokens)


@pytest.fixture(scope="module")
def experts() -> Any:
    """The tiny gpt-oss in float32, with what transformers makes of its blocks."""
    config = AutoConfig.from_pretrained(PLACE / "mxfp4")
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    stored = load_file(PLACE / "mxfp4" / "model.safetensors")
    state = {name: tensor for name, tensor in stored.items() if not name.endswith(("_blocks", "_scales"))}
    for name in [name.removesuffix("_blocks") for name in stored if name.endswith("_blocks")]:
        state[name] = convert_moe_packed_tensors(stored[f"{name}_blocks"], stored[f"{name}_scales"])
    model.load_state_dict(state)
    model.generation_config.eos_token_id = 2
    return model


def test_experts_get_the_weights_that_transformers_makes_of_their_blocks(experts: Any) -> None:
    (model,) = load_model(PLACE / "mxfp4", "cpu", "fp32").models
    found = dict(model.module.named_parameters())  # type: ignore[attr-defined]
    expected = dict(experts.named_parameters())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (2, 5)])
def test_experts_answer_as_the_model_itself_does(experts: Any, workers: int, batch: int) -> None:
    models = load_model(PLACE / "mxfp4", "cpu", "fp32").models
    found = collected(build_engine(models, 64, frozenset({2}), workers, batch), PROMPTS, PARAMS)
    assert found == generated(experts, PROMPTS, PARAMS.max_new_tokens)


def test_one_expert_is_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skeleton_module, "_PIECE", 1)
    skeleton, read = open_files(PLACE / "mxfp4"), []
    assert skeleton
    rows = skeleton.source.rows

    def noted(name: str, part: Any) -> Any:
        read.append((name, part))
        return rows(name, part)

    monkeypatch.setattr(skeleton.source, "rows", noted)
    skeleton.filled(torch.float32)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    assert sorted((part.start, part.stop) for asked, part in read if asked == name) == [(0, 64), (64, 128)]


def test_experts_that_torch_has_no_room_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "_BESIDE", 0)
    monkeypatch.setattr(needs, "available_memory", lambda: 45_000)  # enough for their codes
    with pytest.raises(ModelUnavailable, match=r"'mxfp4': only torch computes this architecture, .* 0\.0 GB are free"):
        load_model(PLACE / "mxfp4", "cpu", "int8")
