"""Checkpoints that the hub's tools quantised: each weight is, to the bit, what the format's own tool makes of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.tiny_models import build
from transformers import AutoConfig, AutoModelForCausalLM

from llmpar.engine.generic.skeleton import open_skeleton
from llmpar.engine.quantized import Floats, Quantized
from llmpar.engine.source import WeightSource
from llmpar.errors import ModelUnavailable
from llmpar.models.checkpoints.opening import open_source
from llmpar.models.checkpoints.packing import unpack_rows, unpack_words
from llmpar.models.checkpoints.tensors import to_floats
from llmpar.models.checkpoints.text_part import TextPart

MADE = sorted(Path(__file__).parent.glob("checkpoints/*/"))
INT, SIGNED, ZEROS, TABLE, FLOAT = "unsigned codes", "signed codes", "codes with zeros", "a table", "floats"
FORMS = {
    "awq": (4, 32, ZEROS),
    "bitsandbytes-fp4-in-floats": (4, 64, TABLE),
    "bitsandbytes-int8": (8, 64, SIGNED),
    "bitsandbytes-nf4": (4, 64, TABLE),
    "bitsandbytes-nf4-nested": (4, 64, TABLE),
    "compressed-fp8-block": (8, 16, TABLE),
    "compressed-fp8-channel": (8, 64, TABLE),
    "compressed-fp8-tensor": (8, 64, TABLE),
    "compressed-mxfp4": (4, 32, TABLE),
    "compressed-naive-4-bits": (4, 64, SIGNED),
    "compressed-nvfp4": (4, 16, TABLE),
    "compressed-w4a16": (4, 32, SIGNED),
    "compressed-w4a16-zeros": (4, 32, ZEROS),
    "compressed-w6a16": (6, 16, SIGNED),
    "compressed-w8a16-channel-zeros": (8, 64, ZEROS),
    "compressed-w8a8": (8, 64, SIGNED),
    "compressed-w8a8-zeros": (8, 64, ZEROS),
    "fp8-blocks": (8, 16, TABLE),
    "fp8-blocks-powers": (8, 16, TABLE),
    "gptq-2-bits": (2, 32, ZEROS),
    "gptq-3-bits": (3, 32, ZEROS),
    "gptq-4-bits": (4, 32, SIGNED),
    "gptq-4-bits-act-order": (4, 32, ZEROS),
    "gptq-4-bits-second-layout": (4, 32, ZEROS),
    "gptq-8-bits": (8, 32, ZEROS),
    "mxfp4": (4, 32, TABLE),
    "torchao-float8": (8, 64, TABLE),
    "torchao-int4": (4, 32, ZEROS),
    "torchao-int8": (8, 64, SIGNED),
    "torchao-intx-4-bits": (4, 32, ZEROS),
}
"""Of each checkpoint, how many bits its weights have, in groups of how many, and what they are read as."""
LONG_SCALES = {
    "bitsandbytes-fp4-in-floats", "bitsandbytes-int8", "bitsandbytes-nf4-nested", "compressed-nvfp4", "fp8-blocks",
}  # fmt: skip
"""Those whose scales are numbers that 16 bits do not hold."""
Q, EXPERTS = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.experts.gate_up_proj"


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
    rounded = torch.from_numpy(values.copy()).to(getattr(torch, dtype)) + 0.0  # a zero has no sign
    return hashlib.sha256(rounded.view(torch.uint8).numpy().tobytes()).hexdigest()


def test_there_is_one_of_each_form() -> None:
    assert [path.name for path in MADE] == sorted(FORMS)


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_weights_are_those_of_the_formats_own_tool(path: Path) -> None:
    source = opened(path)
    expected = json.loads((path / "expected.json").read_text())
    assert set(source.shapes) == set(expected)
    for name, (dtype, sha256) in expected.items():
        found = weights(source, name)
        if path.name == "bitsandbytes-int8" and dtype == "float32":
            # The tool multiplies by the scale's two parts one after the other: this rounds otherwise in the last bit.
            stored = load_file(path / "model.safetensors")
            scale = stored[name.replace("weight", "SCB")].float().numpy()[:, None]
            tools = stored[name].float().numpy() * scale * np.float32(1 / 127)
            np.testing.assert_array_max_ulp(found, tools, 2)
            found = tools
        assert digest(found, dtype) == sha256, name


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_weights_have_the_names_and_shapes_of_parameters(path: Path) -> None:
    config = AutoConfig.from_pretrained(path)
    del config.quantization_config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    source = opened(path)
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    # The matrices of experts are one here, and each is the other way round.
    flat = {name: (shape[0] * shape[2], shape[1]) if len(shape) == 3 else shape for name, shape in shapes.items()}
    assert dict(source.shapes) == flat
    for name, shape in source.shapes.items():
        assert weights(source, name).shape == shape
        source.give_back(name)
        assert source.kind(name)


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_weights_keep_the_form_of_their_file(path: Path) -> None:
    bits, group, expected = FORMS[path.name]
    source = opened(path)
    read = source.rows(EXPERTS if path.name == "mxfp4" else Q, slice(None))
    assert form(read) == expected
    assert source.bits == max(4, bits)
    if isinstance(read, Quantized):
        assert (read.bits, read.group) == (bits, group)
        assert (read.scales.values.dtype == np.float16) == (path.name not in LONG_SCALES)


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.name)
def test_some_rows_are_those_of_the_whole(path: Path) -> None:
    source = opened(path)
    for name in source.shapes:
        whole = weights(source, name)
        for rows in (slice(0, 1), slice(3, 13), slice(9, None)):
            assert np.array_equal(weights(source, name, rows), whole[rows])


@pytest.mark.parametrize("path", [path for path in MADE if path.name != "mxfp4"], ids=lambda path: path.name)
def test_a_model_over_them_computes_what_one_of_the_tools_weights_does(path: Path) -> None:
    config = AutoConfig.from_pretrained(path)
    del config.quantization_config
    source = opened(path)
    whole = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    whole.load_state_dict({name: torch.from_numpy(weights(source, name).copy()) for name in source.shapes})
    bones, ids = open_skeleton(AutoModelForCausalLM, config, source), torch.arange(16)[None]
    with torch.inference_mode():
        expected = whole(ids).logits
        with bones.reading(bones.extent):
            assert torch.allclose(bones.module(ids).logits, expected, atol=1e-5)
        assert torch.equal(bones.filled(torch.float32)(ids).logits, expected)


def changed(name: str, path: Path, change: Callable[[dict[str, Any]], None], **options: Any) -> Path:
    """Write one of the checkpoints with other tensors, and other options in what its configuration says of them."""
    made = Path(__file__).parent / "checkpoints" / name
    config = json.loads((made / "config.json").read_text())
    config["quantization_config"] |= options
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    tensors = load_file(made / "model.safetensors")
    change(tensors)
    with safe_open(made / "model.safetensors", "pt") as file:
        save_file(tensors, path / "model.safetensors", file.metadata())
    return path


def without(part: str) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.__delitem__(Q.replace("weight", part))


def with_one(part: str, make: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        name = Q.replace("weight", part)
        tensors[name] = make(tensors[name]).contiguous()

    return change


def shorter(tensor: Any) -> Any:
    return tensor[:-1]


def wider(tensor: Any) -> Any:
    return tensor.repeat(1, 2)


def huge(tensor: Any) -> Any:
    tensor.view(-1)[0] = torch.inf
    return tensor


def largest(tensor: Any) -> Any:
    tensor.view(-1)[0] = 127
    return tensor


def garbage(tensor: Any) -> Any:
    return tensor[:-3]


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("gptq-4-bits", without("scales"), r"has no .*q_proj\.scales"),
        ("gptq-4-bits", without("qzeros"), r"has no .*q_proj\.qzeros"),
        ("gptq-4-bits", without("qweight"), r"q_proj\.g_idx is of the type int32, and nothing says"),
        ("gptq-4-bits", with_one("scales", shorter), r"q_proj\.qzeros has the shape \[2, 4\], which is not \[1, 4\]"),
        ("gptq-4-bits", with_one("scales", huge), r"a scale of .*q_proj\.qweight is no finite number"),
        ("gptq-4-bits", with_one("scales", torch.Tensor.int), r"scales is of the type int32, which is not float32 or"),
        ("gptq-4-bits", with_one("g_idx", shorter), r"codes of no number of bits that GPTQ has"),
        ("gptq-4-bits", with_one("g_idx", largest), r"g_idx names a group that is not there"),
        ("gptq-4-bits-act-order", with_one("g_idx", torch.neg), r"g_idx names a group that is not there"),
        ("awq", without("qzeros"), r"has no .*q_proj\.qzeros"),
        (
            "awq",
            with_one("qweight", lambda words: words[:, :-1]),
            r"scales has the shape \[2, 32\], .* not \[any, 24\]",
        ),
        ("awq", with_one("qweight", shorter), r"has 2 groups, which do not divide 63 inputs"),
        ("compressed-w4a16", without("weight_scale"), r"has no .*q_proj\.weight_scale"),
        ("compressed-w4a16", without("weight_shape"), r"has no .*q_proj\.weight_shape"),
        ("compressed-w4a16", with_one("weight_shape", torch.neg), r"does not hold -32 × -64 codes of \[4\] bits"),
        ("compressed-w4a16", with_one("weight_packed", shorter), r"does not hold 32 × 64 codes of \[4\] bits"),
        ("compressed-w4a16", with_one("weight_scale", lambda scale: scale.repeat(1, 3)[:, :5]), r"has 5 groups"),
        ("compressed-w4a16-zeros", with_one("weight_zero_point", shorter), r"zero_point has the shape \[3, 2\]"),
        ("compressed-w8a8", without("weight_scale"), r"q_proj\.weight is of the type int8, and nothing says"),
        ("compressed-naive-4-bits", with_one("weight", largest), r"has codes that 4 bits do not hold"),
        ("compressed-fp8-block", with_one("weight_scale", wider), r"weight_scale has the shape \[1, 8\], .* \[1, 4\]"),
        ("compressed-fp8-channel", with_one("weight_scale", huge), r"a scale of .* is no finite number"),
        ("compressed-nvfp4", without("weight_global_scale"), r"has no .*q_proj\.weight_global_scale"),
        ("compressed-mxfp4", with_one("weight_scale", shorter), r"weight_scale has the shape"),
        ("fp8-blocks", without("weight_scale_inv"), r"is of the type float8_e4m3fn, and nothing says"),
        ("fp8-blocks", with_one("weight_scale_inv", wider), r"_inv has the shape \[1, 8\], .* \[1, 4\]"),
        ("bitsandbytes-nf4", without("weight.absmax"), r"has no .*q_proj\.weight\.absmax"),
        ("bitsandbytes-nf4", with_one("weight", shorter), r"does not hold 32 × 64 codes of 4 bits"),
        ("bitsandbytes-nf4", with_one("weight.quant_state.bitsandbytes__nf4", garbage), r"does not say what lies in"),
        ("bitsandbytes-nf4-nested", without("weight.nested_quant_map"), r"has no .*nested_quant_map"),
        ("bitsandbytes-nf4-nested", without("weight.nested_absmax"), r"absmax is of the type uint8, which is not"),
        ("bitsandbytes-int8", without("SCB"), r"q_proj\.weight is of the type int8, and nothing says"),
        ("bitsandbytes-int8", with_one("SCB", shorter), r"SCB has the shape \[31\], which is not \[32\]"),
        ("torchao-int8", without("_weight_scale"), r"has no .*_weight_scale"),
        ("torchao-intx-4-bits", with_one("_weight_qdata", largest), r"has codes that 4 bits do not hold"),
        ("torchao-int4", with_one("_weight_zero_point", shorter), r"zero_point has the shape"),
    ],
)
def test_damaged_checkpoints_are_named(name: str, change: Any, told: str, tmp_path: Path) -> None:
    path = changed(name, tmp_path / "model", change)
    with pytest.raises(ModelUnavailable, match=told):
        opened(path).rows(Q, slice(None))


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("gptq-4-bits", {"quant_method": "aqlm"}, "quant_method 'aqlm'; these are read: gptq, awq"),
        ("gptq-4-bits", {"quant_method": None}, "quant_method 'None'"),
        ("gptq-4-bits", {"quant_method": ["gptq"]}, "quant_method"),
        ("gptq-4-bits", {"checkpoint_format": "marlin"}, "GPTQ in the layout 'marlin'"),
        ("gptq-4-bits", {"is_marlin_format": True}, "GPTQ in the layout 'marlin'"),
        ("gptq-4-bits", {"pack_dtype": "int16"}, "GPTQ packed in 'int16'"),
        ("gptq-4-bits", {"rotation": "hadamard"}, "GPTQ with 'rotation'"),
        ("awq", {"version": "gemv"}, "AWQ in the layout 'gemv'"),
        ("awq", {"bits": 8}, "AWQ of 8 bits"),
        ("compressed-w4a16", {"format": "marlin-24"}, "compressed-tensors in the layout 'marlin-24'"),
        ("compressed-w4a16", {"sparsity_config": {"format": "sparse-bitmask"}}, "'sparsity_config'"),
        ("compressed-w4a16", {"transform_config": {"config_groups": {"u": {}}}}, "'transform_config'"),
        ("compressed-w4a16", {"config_groups": {"W4A16": ["Linear"]}}, "'config_groups' that are names"),
        ("fp8-blocks", {"weight_block_size": [0, 128]}, r"FP8 in blocks of \[0, 128\]"),
        ("fp8-blocks", {"quant_method": "mxfp4"}, r"quantised \(mxfp4\), and none is"),
        ("fp8-blocks", {"quant_method": "torchao"}, "torchao without metadata"),
    ],
)
def test_what_is_not_read_is_named(name: str, options: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = changed(name, tmp_path / "model", lambda _: None, **options)
    with pytest.raises(ModelUnavailable, match=told):
        open_source(path)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("Int4TilePackedTo4dTensor", "torchao's 'Int4TilePackedTo4dTensor'; these are read: Int8Tensor"),
        (7, "torchao's 7"),
    ],
)
def test_torchaos_other_kinds_are_named(kind: object, told: str, tmp_path: Path) -> None:
    path = changed("torchao-int8", tmp_path / "model", lambda _: None)
    file = path / "model.safetensors"
    metadata = {"tensor_names": "[]", Q: json.dumps({"_type": kind})}
    save_file(load_file(file), file, metadata)
    with pytest.raises(ModelUnavailable, match=told):
        open_source(path)
    save_file(load_file(file), file, metadata | {Q: "{"})
    with pytest.raises(ModelUnavailable, match=r"does not say what .*q_proj"):
        open_source(path)


def test_plain_directories_are_sources_too(tmp_path: Path) -> None:
    model = build("LlamaConfig", num_hidden_layers=1).to(torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    source = opened(tmp_path)
    assert source.bits == 16
    for name, parameter in model.named_parameters():
        assert np.array_equal(weights(source, name), parameter.detach().float().numpy())
        assert source.kind(name) == "bfloat16"
    model.float().save_pretrained(tmp_path / "longer")
    assert opened(tmp_path / "longer").bits == 32


@pytest.mark.parametrize(
    ("text", "head", "other"),
    [
        ("model.language_model.", "lm_head.", "model.vision_tower."),
        ("language_model.model.", "language_model.lm_head.", "vision_tower."),
        ("model.", "lm_head.", "visual."),
    ],
)
def test_the_part_for_text_has_its_own_names(text: str, head: str, other: str, tmp_path: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        for name in list(tensors):
            own = name.replace("model.", text, 1) if name.startswith("model.") else name.replace("lm_head.", head)
            tensors[own] = tensors.pop(name)
        tensors[f"{other}layers.0.weight"] = torch.ones(2, 2)

    alone = opened(Path(__file__).parent / "checkpoints" / "awq")
    part = TextPart(opened(changed("awq", tmp_path / "model", change)))
    assert part.shapes == alone.shapes
    assert part.bits == 4
    for name in part.shapes:
        assert np.array_equal(weights(part, name), weights(alone, name))
        assert part.kind(name) == alone.kind(name)
        part.give_back(name)


def test_the_index_says_which_files_are_the_model(tmp_path: Path) -> None:
    path = changed("awq", tmp_path / "model", lambda _: None)
    expected = opened(path).shapes
    save_file({"layers.0.wq.weight": torch.ones(2)}, path / "consolidated.safetensors")
    assert opened(path).shapes == expected
    (path / "model.safetensors").rename(path / "model-00001-of-00001.safetensors")
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(expected, "model-00001-of-00001.safetensors")}))
    assert opened(path).shapes == expected
    for places, told in (
        ({"a": "model-00001-of-00001.safetensors", "b": "gone.safetensors"}, "has no file gone.safetensors, which its"),
        ({"a": "../model.safetensors"}, "it does not say which files there are"),
        ({"a": ["x"]}, "it does not say which files there are"),
        ([], "it does not say which files there are"),
    ):
        index.write_text(json.dumps({"weight_map": places}))
        with pytest.raises(ModelUnavailable, match=told):
            open_source(path)


def test_a_directory_without_safetensors_is_no_source(tmp_path: Path) -> None:
    assert open_source(tmp_path) is None


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = changed("awq", tmp_path / "model", lambda _: None)
    (path / "config.json").write_text('{"quantization_config": 3}')
    with pytest.raises(ModelUnavailable, match="quantization_config is no object"):
        open_source(path)
    (path / "config.json").write_text("{}")
    file = path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"I32"', b'"C64"'))
    with pytest.raises(ModelUnavailable, match=r"is of the type C64, which is not read here"):
        open_source(path)
    file.write_bytes(whole[:-100])
    with pytest.raises(ModelUnavailable, match=r"model\.safetensors is damaged"):
        open_source(path)


def test_gptq_without_an_order_has_the_configurations_groups(tmp_path: Path) -> None:
    def change(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if name.endswith("g_idx")]:
            del tensors[name]

    whole = opened(Path(__file__).parent / "checkpoints" / "gptq-3-bits")
    source = opened(changed("gptq-3-bits", tmp_path / "model", change))
    assert np.array_equal(weights(source, Q), weights(whole, Q))
    with pytest.raises(ModelUnavailable, match="down_proj: 32 inputs in groups of 16 are not 1 groups"):
        open_source(changed("gptq-3-bits", tmp_path / "other", change, group_size=16))


def test_groups_of_compressed_tensors_may_have_an_order(tmp_path: Path) -> None:
    order = torch.arange(64)[torch.randperm(64, generator=torch.Generator().manual_seed(0))] // 32

    def change(tensors: dict[str, Any]) -> None:
        tensors[Q.replace("weight", "weight_g_idx")] = order.int()
        tensors["model.layers.0.self_attn.k_proj.weight_g_idx"] = torch.full((64,), -1)

    whole = opened(Path(__file__).parent / "checkpoints" / "compressed-w4a16-zeros")
    source = opened(changed("compressed-w4a16-zeros", tmp_path / "model", change))
    usual = whole.rows(Q, slice(None))
    assert isinstance(usual, Quantized)
    assert usual.offsets
    expected = usual.codes * usual.scales.floats()[:, order] + usual.offsets.floats()[:, order]
    assert np.array_equal(weights(source, Q), expected)
    assert isinstance(source.rows(Q.replace("q_proj", "k_proj"), slice(None)), Quantized)


def test_older_compressed_tensors_do_not_pack_zeros(tmp_path: Path) -> None:
    whole = opened(Path(__file__).parent / "checkpoints" / "compressed-w4a16-zeros")
    usual = whole.rows(Q, slice(None))
    assert isinstance(usual, Quantized)
    assert usual.offsets
    zeros = torch.from_numpy(-usual.offsets.values)
    path = changed("compressed-w4a16-zeros", tmp_path / "model", with_one("weight_zero_point", lambda _: zeros))
    assert np.array_equal(weights(opened(path), Q), usual.weights())


def test_blocks_of_fp8_may_end_beyond_the_matrix(tmp_path: Path) -> None:
    floats = torch.randn(40, 72, generator=torch.Generator().manual_seed(0)).to(torch.float8_e4m3fn)
    scales = torch.rand(3, 5, generator=torch.Generator().manual_seed(1))
    save_file({"a.weight": floats, "a.weight_scale_inv": scales}, tmp_path / "model.safetensors")
    about = {"quant_method": "fp8", "weight_block_size": [16, 16]}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": about}))
    spread = scales.repeat_interleave(16, 0).repeat_interleave(16, 1)[:40, :72]
    source = opened(tmp_path)
    for rows in (slice(None), slice(17, 31), slice(39, 40)):
        assert np.array_equal(weights(source, "a.weight", rows), (floats.float() * spread).numpy()[rows])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu, torch.bfloat16])
def test_every_bit_pattern_of_a_float_is_the_number_that_torch_has(dtype: torch.dtype) -> None:
    stored = np.arange(1 << 8 * dtype.itemsize).astype(f"u{dtype.itemsize}")
    expected = torch.from_numpy(stored).view(dtype).float().numpy()
    found = to_floats(stored, str(dtype).removeprefix("torch."))
    assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("bits", range(1, 9))
def test_words_hold_codes_without_gaps(bits: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (3, 37))
    stream = [sum(int(code) << (bits * place) for place, code in enumerate(row)) for row in codes]
    words = np.array([[number >> (32 * word) & 0xFFFFFFFF for word in range(10)] for number in stream], np.uint32)
    words = words[:, : -(-37 * bits // 32)].view(np.int32)
    assert np.array_equal(unpack_words(words, bits, 37), codes)
    for rows in (slice(0, 37), slice(3, 31), slice(31, 37), slice(32, 33)):
        assert np.array_equal(unpack_rows(words.T, bits, rows), codes.T[rows])
