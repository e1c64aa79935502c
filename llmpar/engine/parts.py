"""A model of transformers → its parts, where they are those of the Llama shape and nothing else.

Recognised by its parts, not by its name. Who computes with them tries on a short text whether that is what the model
itself does. Llama, Mistral, Qwen2, Qwen3, Gemma 1 to 3, SmolLM and Phi-3 pass; and with experts in the place of an MLP
Mixtral, Qwen2-MoE, Qwen3-MoE and OLMoE.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from llmpar.engine.generic.attention import PrefillBatch, Variant, is_supported, take_over
from llmpar.engine.generic.kv_cache import KVCache
from llmpar.engine.generic.linear import rms_norm
from llmpar.engine.model import context_length_of

Activation = Literal["silu", "gelu_tanh"]

_ATTENTION = {"q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "q_norm", "k_norm"}
_MLP = {"gate_proj", "up_proj", "gate_up_proj", "down_proj", "act_fn", "activation_fn"}
_NORMS = {
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
}
_ACTIVATIONS: dict[str, Activation] = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
_UNKNOWN = Variant(scaling=0.0, window=None, softcap=None)
_NUM_PROBED = 40  # tokens
_NUM_COMPARED = 8  # of them, the last


class OtherShape(Exception):
    """The model is not of the Llama shape; the message says in what."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a model makes something of a short text: its first layers, and the scores of some tokens."""

    num_layers: int
    tokens: tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class SharedParts:
    """An MLP that takes every token, times the sigmoid of what `scale`, a layer of one output, says of the token."""

    gate_up: tuple[nn.Linear, ...]
    down: nn.Linear
    scale: nn.Linear


@dataclass(frozen=True, slots=True)
class ExpertParts:
    """A mixture of E experts, each an MLP, of which `num_chosen` take a token: the likeliest by `router` (E, H).

    `gate_up` (E, 2 M, H) has gates first, `down` is (E, H, M). Shares are those of a softmax over all experts; if
    `is_normed`, those of a token's experts make up 1.
    """

    router: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    num_chosen: int
    is_normed: bool
    shared: SharedParts | None = None


@dataclass(frozen=True, slots=True)
class LayerParts:
    """One layer. Norms are weights (H,) in float32, None where the model lacks them.

    `qkv` and `gate_up` are one linear layer, or several with the same input. `rope` is an index into
    `ModelParts.ropes`, -1 for none. With `experts`, there are neither `gate_up` nor `down`. `wide_norms` are those of
    all queries of a token together (H D,), and of all keys.
    """

    attention_norm: torch.Tensor
    qkv: tuple[nn.Linear, ...]
    head_norms: torch.Tensor | None  # (2, D), of queries and of keys
    output: nn.Linear
    after_attention_norm: torch.Tensor | None
    mlp_norm: torch.Tensor
    gate_up: tuple[nn.Linear, ...]
    down: tuple[nn.Linear, ...]
    after_mlp_norm: torch.Tensor | None
    rope: int
    variant: Variant
    experts: ExpertParts | None = None
    wide_norms: tuple[torch.Tensor, torch.Tensor] | None = None


@dataclass(frozen=True, slots=True)
class ModelParts:
    """A whole model, and what it made of a short text: `probe_logits` (8, V) after the last of `probe_ids`.

    If `extent` is not None, these are what its first layers make, and T tokens' scores alone (8, T).

    `ropes` are rotary embeddings: the angle of each pair per position (R/2,) in float32, and what sines and cosines
    are multiplied with. `softcap` is that of the logits, 0 for none.
    """

    layers: tuple[LayerParts, ...]
    ropes: tuple[tuple[torch.Tensor, float], ...]
    embedding: torch.Tensor  # (V, H)
    embedding_scale: float
    final_norm: torch.Tensor
    head: nn.Linear
    context_length: int
    softcap: float
    epsilon: float
    activation: Activation
    mlp_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    probe_ids: tuple[int, ...]
    probe_logits: torch.Tensor
    extent: Extent | None

    def distance(self, logits: torch.Tensor) -> float:
        """Return how far logits (8, V) on the same text are from the model's, relative to how these vary.

        What all tokens' logits have in common is left out: no probability depends on it. In Gemma 3 that is up to
        fifteen times as much as what they vary by.
        """
        if self.extent:
            logits = torch.cat([logits[:, tokens] for tokens in self.extent.tokens], 1)
        expected, found = self.probe_logits.float(), logits.float().to(self.probe_logits.device)
        expected, found = (each - each.mean(-1, keepdim=True) for each in (expected, found))
        return float((found - expected).norm() / expected.norm().clamp(min=1e-12))


@torch.inference_mode()
def take_apart(model: Any, extent: Extent | None = None, *, is_plain: bool = True) -> ModelParts:
    """Return the parts of a causal language model; they are the model's own, not copies.

    Args:
        model: one of transformers.
        extent: how much of it computes; None for all.
        is_plain: whether models with experts, or with norms over several heads, are of another shape.

    Raises:
        OtherShape: it has others.
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
    if getattr(config, "clip_qkv", None) is not None:
        raise OtherShape("it clips what attention compares")
    final_norm, epsilon = _norm(body.norm)
    ropes: dict[str, tuple[torch.Tensor, float]] = {}
    layers = tuple(
        _layer(layer, _layer_rope(body, layer, index, config, ropes), epsilon)
        for index, layer in enumerate(body.layers)
    )
    if is_plain and any(layer.experts for layer in layers):
        raise OtherShape("it is a mixture of experts")
    if is_plain and any(layer.wide_norms for layer in layers):
        raise OtherShape("it has norms of another kind in attention")
    ids = _probe_ids(model)
    variants, logits = _probe(model, ids)
    layers = tuple(replace(layer, variant=variants[index]) for index, layer in enumerate(layers))
    if len({_sizes(layer) for layer in layers}) > 1:
        raise OtherShape("its layers differ in size")
    kinds = [(layer.rope, layer.variant) for layer in layers]
    if extent and not set(kinds) <= set(kinds[: extent.num_layers]):
        raise OtherShape("its layers are of more kinds than were tried")
    if len(_require_linear(model.lm_head).weight) != len(body.embed_tokens.weight):
        raise OtherShape("it scores other tokens than it reads")
    first = body.layers[0].self_attn
    num_heads = int(config.num_attention_heads)
    return ModelParts(
        layers=layers,
        ropes=tuple(ropes.values()),
        embedding=body.embed_tokens.weight,
        embedding_scale=float(getattr(body.embed_tokens, "embed_scale", 1.0)),
        final_norm=final_norm,
        head=model.lm_head,
        context_length=context_length_of(config),
        softcap=float(getattr(config, "final_logit_softcapping", None) or 0),
        epsilon=epsilon,
        activation=activation,
        mlp_size=_mlp_size(layers[0]),
        num_heads=num_heads,
        num_kv_heads=int(getattr(config, "num_key_value_heads", None) or num_heads),
        head_dim=int(first.head_dim),
        probe_ids=tuple(ids.tolist()),
        probe_logits=logits,
        extent=extent,
    )


def _layer(layer: nn.Module, rope: int, epsilon: float) -> LayerParts:
    """Return a layer's parts; how it attends is not known before it does."""
    parts: dict[str, Any] = {name: child for name, child in layer.named_children() if not isinstance(child, nn.Dropout)}
    _require(set(parts) <= _NORMS | {"self_attn", "mlp"} and {"self_attn", "mlp"} <= set(parts), layer)
    attention, mlp = parts["self_attn"], parts["mlp"]
    _require(_children(attention) <= _ATTENTION, attention)
    experts = _experts(mlp)
    _require(experts is not None or _children(mlp) <= _MLP, mlp)

    def norm(name: str) -> torch.Tensor:
        weight, own = _norm(parts[name])
        if own != epsilon:
            raise OtherShape("its norms differ")
        return weight

    four = "pre_feedforward_layernorm" in parts
    _require({"input_layernorm", "post_attention_layernorm"} <= set(parts), layer)
    _require(four == ("post_feedforward_layernorm" in parts), layer)
    found = [_norm(getattr(attention, name)) for name in ("q_norm", "k_norm") if hasattr(attention, name)]
    head_norms = [weight for weight, own in found if own == epsilon]
    if len(head_norms) != len(found) or len(found) == 1:
        raise OtherShape("it has norms of another kind in attention")
    qkv = _first_of(attention, ("qkv_proj",), ("q_proj", "k_proj", "v_proj"))
    lengths = [len(weight) for weight in head_norms]
    is_wide = len(qkv) == 3 and lengths == [linear.out_features for linear in qkv[:2]] != [attention.head_dim] * 2
    if any(length != attention.head_dim for length in lengths) and not is_wide:
        raise OtherShape("it has norms of another kind in attention")
    return LayerParts(
        attention_norm=norm("input_layernorm"),
        qkv=qkv,
        head_norms=torch.stack(head_norms) if head_norms and not is_wide else None,
        output=_require_linear(attention.o_proj),
        after_attention_norm=norm("post_attention_layernorm") if four else None,
        mlp_norm=norm("pre_feedforward_layernorm" if four else "post_attention_layernorm"),
        gate_up=() if experts else _first_of(mlp, ("gate_up_proj",), ("gate_proj", "up_proj")),
        down=() if experts else (_require_linear(mlp.down_proj),),
        after_mlp_norm=norm("post_feedforward_layernorm") if four else None,
        rope=rope,
        variant=_UNKNOWN,
        experts=experts,
        wide_norms=(head_norms[0], head_norms[1]) if is_wide else None,
    )


def _experts(mlp: Any) -> ExpertParts | None:
    """Return a mixture's parts; None if it is none.

    Raises:
        OtherShape: it is another one. Whether it chooses experts as others do shows when it is tried.
    """
    others = _children(mlp) - {"gate", "experts"}
    if not {"gate", "experts"} <= _children(mlp) or others not in (set(), {"shared_expert", "shared_expert_gate"}):
        return None
    router, experts = mlp.gate, mlp.experts
    names = [{name for name, _ in (*part.named_parameters(), *part.named_buffers())} for part in (router, experts)]
    _require(names == [{"weight"}, {"gate_up_proj", "down_proj"}] and hasattr(router, "top_k"), mlp)
    gate_up, down = experts.gate_up_proj, experts.down_proj
    _require(gate_up.dim() == down.dim() == 3, experts)
    (num_experts, size, inner), scored = down.shape, router.weight.shape
    _require(gate_up.shape == (num_experts, 2 * inner, size) and scored == (num_experts, size), experts)
    # Where nothing is said of it, all that are known make the shares of those that were chosen 1 (Mixtral).
    is_normed = bool(getattr(router, "norm_topk_prob", True))
    return ExpertParts(router.weight, gate_up, down, int(router.top_k), is_normed, _shared(mlp) if others else None)


def _shared(mlp: Any) -> SharedParts:
    shared, scale = mlp.shared_expert, _require_linear(mlp.shared_expert_gate)
    _require(_children(shared) <= _MLP and scale.out_features == 1, shared)
    both = _first_of(shared, ("gate_up_proj",), ("gate_proj", "up_proj"))
    return SharedParts(both, _require_linear(shared.down_proj), scale)


def _mlp_size(layer: LayerParts) -> int:
    """Return how many numbers a token has between the two products of an MLP, or of all its experts."""
    if layer.experts:
        return layer.experts.num_chosen * layer.experts.down.shape[2]
    return layer.down[0].in_features


def _sizes(layer: LayerParts) -> tuple[int, ...]:
    return (
        sum(linear.out_features for linear in layer.qkv),
        layer.output.in_features,
        sum(linear.out_features for linear in layer.gate_up),
        sum(linear.in_features for linear in layer.down),
        *(layer.experts.gate_up.shape if layer.experts else ()),
    )


def _layer_rope(body: Any, layer: Any, index: int, config: Any, ropes: dict[str, tuple[torch.Tensor, float]]) -> int:
    """Return the index in `ropes` of the layer's rotary embedding, added if it is new; -1 for none."""
    if not getattr(layer.self_attn, "use_rope", True):
        return -1
    kinds = getattr(config, "layer_types", None)
    rotary, prefix = body.rotary_emb, f"{kinds[index]}_" if kinds else ""
    if not hasattr(rotary, f"{prefix}inv_freq"):
        prefix = ""
    if prefix not in ropes:
        scaling = float(getattr(rotary, f"{prefix}attention_scaling", 1.0))
        ropes[prefix] = (getattr(rotary, f"{prefix}inv_freq").float(), scaling)
    return list(ropes).index(prefix)


def _children(module: nn.Module) -> set[str]:
    return {name for name, child in module.named_children() if not isinstance(child, nn.Dropout)}


def _require(condition: bool, module: nn.Module) -> None:
    if not condition:
        raise OtherShape(f"{type(module).__name__} has other parts")


def _require_linear(linear: Any) -> nn.Linear:
    if type(linear) is not nn.Linear:
        raise OtherShape(f"it has a {type(linear).__name__} where a plain linear layer was expected")
    plain: nn.Linear = linear
    return plain


def _norm(module: Any) -> tuple[torch.Tensor, float]:
    found = rms_norm(deepcopy(module).float())  # some add 1 to the weight, which would round it in bfloat16
    if found is None:
        raise OtherShape(f"{type(module).__name__} is another norm")
    return found


def _first_of(module: Any, *choices: tuple[str, ...]) -> tuple[nn.Linear, ...]:
    for names in choices:
        if all(hasattr(module, name) for name in names):
            return tuple(_require_linear(getattr(module, name)) for name in names)
    raise OtherShape(f"{type(module).__name__} has other parts")


class _Recorder(PrefillBatch):
    """A batch of one row that notes how each layer attends."""

    def __init__(self, num_tokens: int, device: torch.device) -> None:
        cache = KVCache(1)
        cache.reserve(num_tokens)
        super().__init__(cache, 0, [num_tokens], [True], device)
        self.variants: dict[int, Variant] = {}

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, variant: Variant
    ) -> torch.Tensor:
        self.variants[layer] = variant
        return super().attend(layer, query, key, value, variant)


def _probe_ids(model: Any) -> torch.Tensor:
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    return torch.arange(1, _NUM_PROBED + 1) * 7919 % vocabulary


def _probe(model: Any, ids: torch.Tensor) -> tuple[dict[int, Variant], torch.Tensor]:
    """Return how each layer attends, and the model's logits after the last tokens of a short text."""
    device = model.model.norm.weight.device  # its weights may be elsewhere until they are needed
    recorder = _Recorder(len(ids), device)
    own = model.config._attn_implementation  # noqa: SLF001 (transformers tells it in no other way)
    take_over(model)
    try:
        output = model(
            input_ids=ids.to(device)[None],
            position_ids=torch.arange(len(ids), device=device)[None],
            use_cache=False,
            logits_to_keep=_NUM_COMPARED,
            batch=recorder,
        )
    finally:
        model.set_attn_implementation(own)  # who takes the model as it is has no batch for ours
    return recorder.variants, output.logits[0].float()
