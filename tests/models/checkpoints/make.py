"""Make the quantised checkpoints beside this file, each by its format's own tool; README.md tells how to run it.

For each format there is a folder with a tiny Llama: config.json, model.safetensors, and expected.json, which has the
SHA-256 of every weight as the tool dequantises it, with the type that it does so in.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
SIZES = {
    "vocab_size": 16,
    "hidden_size": 64,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "head_dim": 32,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}
MAKERS: dict[str, Callable[[], Made]] = {}

Tensors = dict[str, torch.Tensor]
Made = tuple[Tensors, dict[str, Any], Tensors]
"""What a file holds, what config.json says of it, and the weights that the tool makes of it."""


def maker(function: Callable[[], Made]) -> Callable[[], Made]:
    MAKERS[function.__name__.replace("_", "-")] = function
    return function


def tiny(dtype: torch.dtype) -> LlamaForCausalLM:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, initializer_range=0.3, tie_word_embeddings=False)).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter += 0.05  # so that zeros are not the middle of the codes
    return model


def linears(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    return {
        name: part for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and name != "lm_head"
    }


def others(model: torch.nn.Module) -> Tensors:
    """Return what is left as it is, as far as the linear layers have no bias."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if name.removesuffix(".weight") not in linears(model)
    }


def save(name: str, made: Made) -> None:
    tensors, quantization, expected = made
    metadata = {"format": "pt"} | quantization.pop("metadata", {})
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    dtype = str(next(iter(expected.values())).dtype).removeprefix("torch.")
    config = {"model_type": "llama", **SIZES, "tie_word_embeddings": False, **quantization.pop("config", {})}
    config |= {"dtype": dtype, "quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors", metadata)
    sums = {name: [str(tensor.dtype).removeprefix("torch."), digest(tensor)] for name, tensor in expected.items()}
    (folder / "expected.json").write_text(json.dumps(sums, indent=1) + "\n")


def digest(tensor: torch.Tensor) -> str:
    tensor = tensor.detach() + 0.0  # a zero has no sign
    return hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def module_of(package: str, file: str) -> Any:
    """Import one file of an installed package whose other files ask for libraries that nothing here needs."""
    if package not in sys.modules:
        found = importlib.util.find_spec(package)
        assert found, f"{package} is not installed"
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = list(found.submodule_search_locations or [])
    (root,) = sys.modules[package].__path__
    spec = importlib.util.spec_from_file_location(f"{package}_{Path(file).stem}", Path(root) / file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gptq(bits: int, group: int, *, sym: bool, order: bool = False, second: bool = False) -> Made:
    """Round to the nearest code with AutoGPTQ's scales, pack with its layers, and take what these multiply with."""
    quantizer = module_of("auto_gptq", "quantization/quantizer.py").Quantizer()
    layers = module_of("auto_gptq", f"nn_modules/qlinear/qlinear_cuda{'' if order else '_old'}.py")
    model = tiny(torch.float16)
    tensors, expected = others(model), others(model)
    quantizer.configure(bits, perchannel=True, sym=sym)
    for name, linear in linears(model).items():
        linear = linear.float()
        inputs, outputs = linear.in_features, linear.out_features
        group_of = torch.arange(inputs, dtype=torch.int32) // group
        if order:
            group_of = group_of[torch.randperm(inputs)]
        scales, zeros = [], []
        for index in range(inputs // group):
            quantizer.find_params(linear.weight.data[:, group_of == index], weight=True)
            scales.append(quantizer.scale)
            # Its first layout cannot say 0, and neighbours of one that tries are lost.
            zeros.append(quantizer.zero.clamp(1, 2**bits - 1))
        linear.half()
        scale, zero = torch.cat(scales, 1), torch.cat(zeros, 1)
        codes = torch.round(linear.weight.data / scale.half()[:, group_of.long()]) + zero[:, group_of.long()]
        codes = codes.clamp(0, 2**bits - 1) - zero[:, group_of.long()]
        linear.weight.data = codes.half() * scale.half()[:, group_of.long()]
        packed = layers.QuantLinear(bits, group, inputs, outputs, bias=False)
        packed.pack(linear.float(), scale.half().float(), zero, group_of)
        packed.scales = packed.scales.half()
        expected[f"{name}.weight"] = packed(torch.eye(inputs, dtype=torch.float16)).T
        if second:  # as GPTQModel's convert_gptq_v1_to_v2_format has it
            packed.qzeros += 0x11111111
        for part in ("qweight", "qzeros", "scales", "g_idx"):
            tensors[f"{name}.{part}"] = getattr(packed, part)
    layout = {"checkpoint_format": "gptq_v2" if second else "gptq"} if second or not sym else {}
    about = {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": sym, "desc_act": order, **layout}
    return tensors, about, expected


@maker
def gptq_4_bits() -> Made:
    return gptq(4, 32, sym=True)


@maker
def gptq_4_bits_second_layout() -> Made:
    return gptq(4, 32, sym=False, second=True)


@maker
def gptq_4_bits_act_order() -> Made:
    return gptq(4, 32, sym=False, order=True)


@maker
def gptq_8_bits() -> Made:
    return gptq(8, 32, sym=False)


@maker
def gptq_3_bits() -> Made:
    return gptq(3, 32, sym=False)


@maker
def gptq_2_bits() -> Made:
    return gptq(2, 32, sym=False)


@maker
def awq() -> Made:
    """Take AutoAWQ's layers, with scales and zeros as its quantizer's pseudo_quantize_tensor has them."""
    layers, packing = module_of("awq", "modules/linear/gemm.py"), module_of("awq", "utils/packing_utils.py")
    model, group = tiny(torch.float16), 32
    tensors, expected = others(model), others(model)
    for name, linear in linears(model).items():
        grouped = linear.weight.data.float().reshape(-1, group)
        most, least = grouped.amax(1, keepdim=True), grouped.amin(1, keepdim=True)
        scale = ((most - least).clamp(min=1e-5) / 15).half().float()
        zero = (-torch.round(least / scale)).clamp(0, 15)
        codes = (torch.round(grouped / scale) + zero).clamp(0, 15)
        linear.weight.data = ((codes - zero) * scale).reshape(linear.weight.shape).half()
        scale, zero = (part.reshape(linear.out_features, -1).t().contiguous() for part in (scale, zero))
        packed = layers.WQLinear_GEMM.from_linear(linear, 4, group, scales=scale, zeros=zero)
        for part in ("qweight", "qzeros", "scales"):
            tensors[f"{name}.{part}"] = getattr(packed, part)
        parts = (packed.qweight, packed.qzeros, packed.scales)
        expected[f"{name}.weight"] = packing.dequantize_gemm(*parts, 4, group).T
    about = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
    return tensors, about | {"modules_to_not_convert": None}, expected


def compressed(layout: str, dtype: torch.dtype = torch.bfloat16, activations: Any = None, **about: Any) -> Made:
    """Take compressed-tensors' own scales, zeros, compressors and decompressors."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    arguments = QuantizationArgs(**about)
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments, input_activations=activations, format=layout)
    compressor = BaseCompressor.get_value_from_registry(layout)
    model = tiny(dtype)
    tensors, expected = others(model), others(model)
    for name, linear in linears(model).items():
        weight = linear.weight.detach()
        rows, inputs = weight.shape
        height, width = {
            "tensor": (rows, inputs),
            "channel": (1, inputs),
            "group": (1, arguments.group_size),
            "tensor_group": (1, arguments.group_size),
            "block": tuple(arguments.block_structure or ()),
        }[str(arguments.strategy)]
        blocks = weight.reshape(rows // height, height, inputs // width, width)
        state = {"weight": weight}
        least, most = blocks.amin((1, 3)), blocks.amax((1, 3))
        if layout.startswith("nvfp4"):
            state["weight_global_scale"] = generate_gparam(least.min(), most.max())
        scale, zero = calculate_qparams(least, most, arguments, state.get("weight_global_scale"))
        if arguments.strategy == "tensor":
            scale, zero = scale.reshape(1), zero.reshape(1)
        state |= {"weight_scale": scale, "weight_zero_point": zero}
        packed = compressor.compress(state, scheme)
        expected[f"{name}.weight"] = compressor.decompress(packed, scheme)["weight"]
        tensors |= {f"{name}.{part}": value for part, value in packed.items()}
    config = QuantizationConfig(
        config_groups={"group_0": scheme}, format=layout, quantization_status="compressed", ignore=["lm_head"]
    )
    return tensors, config.model_dump(mode="json", exclude_none=True), expected


@maker
def compressed_w4a16() -> Made:
    return compressed("pack-quantized", num_bits=4, strategy="group", group_size=32)


@maker
def compressed_w4a16_zeros() -> Made:
    return compressed("pack-quantized", num_bits=4, strategy="group", group_size=32, symmetric=False)


@maker
def compressed_w8a16_channel_zeros() -> Made:
    return compressed("pack-quantized", num_bits=8, strategy="channel", symmetric=False)


@maker
def compressed_w6a16() -> Made:
    return compressed("pack-quantized", torch.float16, num_bits=6, strategy="group", group_size=16)


@maker
def compressed_w8a8() -> Made:
    activations = {"num_bits": 8, "strategy": "token", "dynamic": True}
    return compressed("int-quantized", activations=activations, num_bits=8, strategy="channel")


@maker
def compressed_w8a8_zeros() -> Made:
    activations = {"num_bits": 8, "strategy": "token", "dynamic": True}
    return compressed("int-quantized", activations=activations, num_bits=8, strategy="channel", symmetric=False)


@maker
def compressed_naive_4_bits() -> Made:
    return compressed("naive-quantized", num_bits=4, strategy="tensor")


@maker
def compressed_fp8_channel() -> Made:
    activations = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}
    return compressed("float-quantized", activations=activations, num_bits=8, type="float", strategy="channel")


@maker
def compressed_fp8_tensor() -> Made:
    return compressed("naive-quantized", num_bits=8, type="float", strategy="tensor")


@maker
def compressed_fp8_block() -> Made:
    return compressed("float-quantized", num_bits=8, type="float", strategy="block", block_structure=[32, 16])


@maker
def compressed_nvfp4() -> Made:
    return compressed("nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16)


@maker
def compressed_mxfp4() -> Made:
    return compressed("mxfp4-pack-quantized", num_bits=4, type="float", strategy="group", group_size=32)


@maker
def fp8_blocks(scale_format: str | None = None) -> Made:
    """Take transformers' own operations, which FP8 in blocks goes through when it is loaded and saved."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize

    settings = types.SimpleNamespace(weight_block_size=(32, 16), scale_fmt=scale_format)
    quantizer = types.SimpleNamespace(quantization_config=settings)
    quantize, dequantize = Fp8Quantize(quantizer), Fp8Dequantize(quantizer)
    model = tiny(torch.bfloat16)
    tensors, expected = others(model), others(model)
    for name, linear in linears(model).items():
        made = quantize._quantize_one(f"{name}.weight", linear.weight.detach())
        tensors |= made
        expected[f"{name}.weight"] = dequantize._dequantize_one(*made.values(), torch.bfloat16)
    about = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [32, 16]}
    return tensors, about, expected


@maker
def fp8_blocks_powers() -> Made:
    return fp8_blocks("ue8m0")


def bitsandbytes(dtype: torch.dtype, **about: Any) -> Made:
    """Take what the tool's own layers save, and its dequantisation."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    model = tiny(dtype)
    tensors, expected = others(model), others(model)
    for name, linear in linears(model).items():
        layer = Linear4bit(linear.in_features, linear.out_features, bias=False, compute_dtype=dtype, **about)
        layer.load_state_dict(linear.state_dict())
        layer.to("cpu")
        # Its kernels for 16 bits round twice.
        layer.weight.quant_state.dtype = torch.float32
        expected[f"{name}.weight"] = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        layer.weight.quant_state.dtype = dtype
        tensors |= {f"{name}.{part}": value for part, value in layer.state_dict().items()}
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}
    config |= {"bnb_4bit_quant_type": about["quant_type"], "bnb_4bit_use_double_quant": about["compress_statistics"]}
    return tensors, config, expected


@maker
def bitsandbytes_nf4() -> Made:
    return bitsandbytes(torch.bfloat16, quant_type="nf4", compress_statistics=False)


@maker
def bitsandbytes_nf4_nested() -> Made:
    return bitsandbytes(torch.bfloat16, quant_type="nf4", compress_statistics=True)


@maker
def bitsandbytes_fp4_in_floats() -> Made:
    return bitsandbytes(torch.float16, quant_type="fp4", compress_statistics=True, quant_storage=torch.float16)


@maker
def bitsandbytes_int8() -> Made:
    from bitsandbytes.functional import int8_vectorwise_dequant
    from bitsandbytes.nn import Linear8bitLt

    model = tiny(torch.float16)
    tensors, expected = others(model), others(model)
    for name, linear in linears(model).items():
        layer = Linear8bitLt(linear.in_features, linear.out_features, bias=False, has_fp16_weights=False)
        layer.load_state_dict(linear.state_dict())
        layer.to("cpu")
        saved = layer.state_dict()
        tensors |= {f"{name}.{part}": value for part, value in saved.items()}
        expected[f"{name}.weight"] = int8_vectorwise_dequant(saved["weight"], saved["SCB"])
    return tensors, {"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False}, expected


@maker
def mxfp4() -> Made:
    """Take blocks as they come, and transformers' own dequantisation of them."""
    from transformers import GptOssConfig, GptOssForCausalLM
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    about = {"model_type": "gpt_oss", "num_local_experts": 2, "num_experts_per_tok": 1}
    torch.manual_seed(0)
    model = GptOssForCausalLM(GptOssConfig(**SIZES, **about)).to(torch.bfloat16)
    tensors = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    expected = dict(tensors)
    for name in list(tensors):
        if name.endswith(("gate_up_proj", "down_proj")):
            experts, inputs, outputs = tensors.pop(name).shape
            blocks = torch.randint(256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
            scales = torch.randint(117, 125, blocks.shape[:-1], dtype=torch.uint8)
            tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
            expected[name] = convert_moe_packed_tensors(blocks, scales).transpose(1, 2).reshape(-1, inputs)
    return tensors, {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"], "config": about}, expected


def torchao(dtype: torch.dtype, make: Callable[[torch.Tensor], Any], about: dict[str, Any]) -> Made:
    """Take what torchao saves of its own tensors, and their own dequantisation."""
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    model = tiny(dtype)
    expected = others(model)
    state: dict[str, Any] = dict(expected)
    for name, linear in linears(model).items():
        state[f"{name}.weight"] = make(linear.weight.detach())
        expected[f"{name}.weight"] = state[f"{name}.weight"].dequantize()
    tensors, metadata = flatten_tensor_state_dict(state)
    quantization = {"quant_method": "torchao", "quant_type": {"default": about}, "modules_to_not_convert": ["lm_head"]}
    return tensors, quantization | {"metadata": metadata}, expected


@maker
def torchao_int8() -> Made:
    from torchao.quantization import Int8Tensor, PerRow

    about = {"_type": "Int8WeightOnlyConfig", "_version": 2, "_data": {}}
    return torchao(torch.bfloat16, lambda weight: Int8Tensor.from_hp(weight, PerRow()), about)


@maker
def torchao_intx_4_bits() -> Made:
    from torchao.quantization import IntxUnpackedToInt8Tensor, MappingType

    def make(weight: torch.Tensor) -> Any:
        return IntxUnpackedToInt8Tensor.from_hp(weight, (1, 32), torch.int4, mapping_type=MappingType.ASYMMETRIC)

    return torchao(torch.bfloat16, make, {"_type": "IntxWeightOnlyConfig", "_version": 2, "_data": {}})


@maker
def torchao_int4() -> Made:
    """Quantise as the library does that torchao needs a GPU for (`int4_row_quantize_zp`), and dequantise likewise."""
    from torchao.quantization import Int4Tensor

    class Made4(Int4Tensor):
        def dequantize(self) -> torch.Tensor:
            data = self.qdata.int()
            codes = torch.stack([data << 28 >> 28, data << 24 >> 28], -1).reshape(len(data), -1)
            scale, zero = (part.T.float().repeat_interleave(32, 1) for part in (self.scale, self.zero_point))
            return codes * scale + zero

    def make(weight: torch.Tensor) -> Any:
        grouped = weight.float().reshape(-1, 32)
        most, least = grouped.amax(1, keepdim=True), grouped.amin(1, keepdim=True)
        scale = (most - least).clamp(min=1e-6) / 15
        codes = ((grouped - least) / scale).round().clamp(0, 15).sub(8).to(torch.int8).reshape(weight.shape)
        packed = (codes[:, 1::2] << 4) | (codes[:, ::2] & 15)
        parts = (part.reshape(len(weight), -1).T.contiguous().to(weight.dtype) for part in (scale, least + 8 * scale))
        return Made4(packed, *parts, [1, 32], weight.shape)

    Made4.__name__ = "Int4Tensor"
    return torchao(torch.bfloat16, make, {"_type": "Int4WeightOnlyConfig", "_version": 2, "_data": {}})


@maker
def torchao_float8() -> Made:
    from torchao.quantization import Float8Tensor, PerRow

    about = {"_type": "Float8WeightOnlyConfig", "_version": 2, "_data": {}}
    return torchao(torch.bfloat16, lambda weight: Float8Tensor.from_hp(weight, granularity=PerRow()), about)


if __name__ == "__main__":
    for made_name in sys.argv[1:] or MAKERS:
        print(made_name)
        save(made_name, MAKERS[made_name]())
