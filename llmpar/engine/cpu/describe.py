"""A model of transformers → a Decoder, where its modules are those of the Llama shape and nothing else.

Recognised by its parts, not by its name, and then tried: what the decoder makes of a short text must be what the model
itself does. Llama, Mistral, Qwen2, Qwen3, Gemma 1 to 3, SmolLM and Phi-3 pass; others go through torch.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn

from llmpar.engine.attention import IMPLEMENTATION, PrefillBatch, Variant, is_supported
from llmpar.engine.cpu import kernels
from llmpar.engine.cpu.decoder import Array, Decoder, Floats, Layer, Pass, Precision, Projection, Rope, Tokens, to_bf16
from llmpar.engine.cpu.vector import LANES
from llmpar.engine.kv_cache import KVCache
from llmpar.engine.linear import rms_norm

_ATTENTION = {"q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "q_norm", "k_norm"}
_MLP = {"gate_proj", "up_proj", "gate_up_proj", "down_proj", "act_fn", "activation_fn"}
_NORMS = {
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
}
_ACTIVATIONS = {"silu": kernels.SILU, "swish": kernels.SILU, "gelu_pytorch_tanh": kernels.GELU_TANH}
_TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "bf16": 0.1, "int8": 0.3}
_NOTHING = np.zeros(0, np.float32)


class OtherShape(Exception):
    """The model is not of the Llama shape; the message says in what."""


@torch.inference_mode()
@np.errstate(all="ignore")  # weights that are no numbers come out far from anything, which is said in our words
def describe(model: Any, precision: Precision) -> Decoder:
    """Return a decoder with the weights of a causal language model, packed for `precision`.

    Raises:
        OtherShape: the model has parts that decoders lack, or the decoder does not do what the model does.
    """
    if not is_supported(model):
        raise OtherShape("its attention is of another kind")
    _require(_children(model) <= {"model", "lm_head"} and hasattr(model, "lm_head"), model)
    body, config = model.model, model.config.get_text_config()
    _require(_children(body) <= {"embed_tokens", "layers", "norm", "rotary_emb"} and hasattr(body, "rotary_emb"), body)
    activation = _ACTIVATIONS.get(str(getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", "")))
    if activation is None:
        raise OtherShape("its activation function is another one")
    if (getattr(config, "rope_parameters", None) or {}).get("llama_4_scaling_beta"):
        raise OtherShape("its attention changes with the position, farther on than is tried here")
    final_norm, epsilon = _norm(body.norm)
    variants, reference = _probe(model)
    ropes: dict[str, Rope] = {}
    layers = [
        _layer(layer, _layer_rope(body, layer, index, config, ropes), variants[index], epsilon, precision)
        for index, layer in enumerate(body.layers)
    ]
    if len({(a.qkv.num_outputs, a.output.num_inputs, a.gate_up.num_outputs, a.down.num_inputs) for a in layers}) > 1:
        raise OtherShape("its layers differ in size")
    embedding = body.embed_tokens
    table = _floats(embedding.weight)
    first = body.layers[0].self_attn
    num_heads, head_dim = config.num_attention_heads, int(first.head_dim)
    decoder = Decoder(
        precision=precision,
        layers=tuple(layers),
        ropes=tuple(ropes.values()),
        embedding=table if precision == "fp32" else to_bf16(table),
        embedding_scale=float(getattr(embedding, "embed_scale", 1.0)),
        final_norm=final_norm,
        head=_projection(precision, model.lm_head),
        vocabulary=len(table),
        context_length=max(0, int(getattr(config, "max_position_embeddings", 0) or 0)) or 2048,
        softcap=float(getattr(config, "final_logit_softcapping", None) or 0),
        epsilon=epsilon,
        activation=activation,
        mlp_size=int(config.intermediate_size),
        num_heads=num_heads,
        num_kv_heads=int(getattr(config, "num_key_value_heads", None) or num_heads),
        head_dim=head_dim,
    )
    error = _distance(_try(decoder), reference)
    if not error < _TOLERANCE[precision]:
        raise OtherShape(f"computed by its parts it gives something else (by {error:.1%})")
    return decoder


def _layer(layer: nn.Module, rope: int, variant: Variant, epsilon: float, precision: Precision) -> Layer:
    parts: dict[str, Any] = {name: child for name, child in layer.named_children() if not isinstance(child, nn.Dropout)}
    _require(set(parts) <= _NORMS | {"self_attn", "mlp"} and {"self_attn", "mlp"} <= set(parts), layer)
    attention, mlp = parts["self_attn"], parts["mlp"]
    _require(_children(attention) <= _ATTENTION, attention)
    _require(_children(mlp) <= _MLP, mlp)

    def norm(name: str) -> Floats:
        weight, own = _norm(parts[name])
        if own != epsilon:
            raise OtherShape("its norms differ")
        return weight

    four = "pre_feedforward_layernorm" in parts
    _require({"input_layernorm", "post_attention_layernorm"} <= set(parts), layer)
    _require(four == ("post_feedforward_layernorm" in parts), layer)
    head_norms = [_norm(getattr(attention, name)) for name in ("q_norm", "k_norm") if hasattr(attention, name)]
    if any(own != epsilon or len(weight) != attention.head_dim for weight, own in head_norms) or len(head_norms) == 1:
        raise OtherShape("it has norms of another kind in attention")
    return Layer(
        attention_norm=norm("input_layernorm"),
        qkv=_projection(precision, *_first_of(attention, ("qkv_proj",), ("q_proj", "k_proj", "v_proj"))),
        head_norms=np.stack([weight for weight, _ in head_norms]) if head_norms else _NOTHING.reshape(0, 0),
        output=_projection(precision, attention.o_proj),
        after_attention_norm=norm("post_attention_layernorm") if four else _NOTHING,
        mlp_norm=norm("pre_feedforward_layernorm" if four else "post_attention_layernorm"),
        gate_up=_projection(precision, *_first_of(mlp, ("gate_up_proj",), ("gate_proj", "up_proj"))),
        down=_projection(precision, mlp.down_proj),
        after_mlp_norm=norm("post_feedforward_layernorm") if four else _NOTHING,
        rope=rope,
        scaling=float(variant.scaling),
        window=int(variant.window or 0),
        softcap=float(variant.softcap or 0),
    )


def _layer_rope(body: Any, layer: Any, index: int, config: Any, ropes: dict[str, Rope]) -> int:
    """Return the index in `ropes` of the layer's rotary embedding, added if it is new; -1 for none."""
    if not getattr(layer.self_attn, "use_rope", True):
        return -1
    kinds = getattr(config, "layer_types", None)
    rotary, prefix = body.rotary_emb, f"{kinds[index]}_" if kinds else ""
    if not hasattr(rotary, f"{prefix}inv_freq"):
        prefix = ""
    if prefix not in ropes:
        scaling = float(getattr(rotary, f"{prefix}attention_scaling", 1.0))
        ropes[prefix] = Rope(_floats(getattr(rotary, f"{prefix}inv_freq")), scaling)
    return list(ropes).index(prefix)


def _children(module: nn.Module) -> set[str]:
    return {name for name, child in module.named_children() if not isinstance(child, nn.Dropout)}


def _require(condition: bool, module: nn.Module) -> None:
    if not condition:
        raise OtherShape(f"{type(module).__name__} has other parts")


def _floats(tensor: torch.Tensor) -> Floats:
    values: Floats = tensor.detach().float().contiguous().numpy()
    return values


def _norm(module: Any) -> tuple[Floats, float]:
    found = rms_norm(deepcopy(module).float())  # some add 1 to the weight, which would round it in bfloat16
    if found is None:
        raise OtherShape(f"{type(module).__name__} is another norm")
    weight, epsilon = found
    return _floats(weight), epsilon


def _first_of(module: Any, *choices: tuple[str, ...]) -> list[nn.Module]:
    for names in choices:
        if all(hasattr(module, name) for name in names):
            return [getattr(module, name) for name in names]
    raise OtherShape(f"{type(module).__name__} has other parts")


def _projection(precision: Precision, *linears: nn.Module) -> Projection:
    """Return linear layers with one input as one projection."""
    weights, biases = [], []
    for linear in linears:
        if type(linear) is not nn.Linear:
            raise OtherShape(f"it has a {type(linear).__name__} where a plain linear layer was expected")
        weights.append(_floats(linear.weight))
        biases.append(np.zeros(linear.out_features, np.float32) if linear.bias is None else _floats(linear.bias))
    biased = any(bias.any() for bias in biases)
    return Projection.pack(np.concatenate(weights), np.concatenate(biases) if biased else None, precision)


class _Recorder(PrefillBatch):
    """A batch of one row that notes how each layer attends."""

    def __init__(self, num_tokens: int) -> None:
        cache = KVCache(1)
        cache.reserve(num_tokens)
        super().__init__(cache, 0, [num_tokens], [True], torch.device("cpu"))
        self.variants: dict[int, Variant] = {}

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        self.variants[layer] = variant
        return super().attend(layer, query, key, value, variant)


def _probe_ids(vocabulary: int) -> Array:
    return (np.arange(1, 41, dtype=np.int64) * 7919 % vocabulary).astype(np.int32)


def _probe(model: Any) -> tuple[dict[int, Variant], Floats]:
    """Return how each layer attends, and the model's logits after the last tokens of a short text."""
    ids = _probe_ids(model.get_input_embeddings().weight.shape[0])
    recorder = _Recorder(len(ids))
    model.set_attn_implementation(IMPLEMENTATION)
    output = model(
        input_ids=torch.from_numpy(ids).long()[None],
        position_ids=torch.arange(len(ids))[None],
        use_cache=False,
        logits_to_keep=8,
        batch=recorder,
    )
    return recorder.variants, _floats(output.logits[0])


def _try(decoder: Decoder) -> Floats:
    """Return the decoder's logits on the text of `_probe`."""
    ids = _probe_ids(decoder.vocabulary)
    num_pages = -(-len(ids) // LANES)
    keys, values = decoder.make_pages(num_pages)
    tokens = Tokens(
        ids,
        np.arange(len(ids), dtype=np.int32),
        np.zeros(len(ids), np.int32),
        np.arange(num_pages, dtype=np.int32)[None],
    )
    work = Pass(decoder, len(ids), keys, values)
    return work.logits(work.forward(tokens)[-8:])


def _distance(found: Floats, expected: Floats) -> float:
    """Return how far logits are from those expected, relative to how these vary."""
    spread = expected - expected.mean(-1, keepdims=True)
    return float(np.linalg.norm(found - expected) / max(float(np.linalg.norm(spread)), 1e-12))
