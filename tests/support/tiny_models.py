"""Tiny models of transformers with random weights, what `generate` answers, and what our engine does."""

from __future__ import annotations

import random
from collections.abc import Sequence as SequenceOf
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import torch
import transformers

from llmpar.engine.build import build_engine
from llmpar.engine.cpu.decoder import Decoder
from llmpar.engine.cpu.four_bits import GROUP, quantize
from llmpar.engine.cpu.from_transformers import build_decoder
from llmpar.engine.cpu.model import CpuModel
from llmpar.engine.generic.model import TorchModel
from llmpar.engine.model import EngineModel
from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.request import SamplingParams
from support.engines import collected

SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.3,
}


PREFIX = [7, 7, 30, 31, 200, 201, 8, 9, 10, 11, 12, 250, 17]


OURS = {
    "llama": ("LlamaConfig", {}),
    "llama-multi-head": ("LlamaConfig", {"num_key_value_heads": 4}),
    "llama-tied-bias": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "mistral-window": ("MistralConfig", {"sliding_window": 8}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {}),
    "gemma": ("GemmaConfig", {}),
    "gemma2-softcap-window": ("Gemma2Config", {"sliding_window": 8, "query_pre_attn_scalar": 16}),
    "gemma3": ("Gemma3TextConfig", {"sliding_window": 8, "query_pre_attn_scalar": 16}),
    "phi3": ("Phi3Config", {}),
    "phi3-partial-rotary": ("Phi3Config", {"partial_rotary_factor": 0.5}),
    "smollm3-nope": ("SmolLM3Config", {"no_rope_layers": [1, 0, 1]}),
}


EXPERTS = {
    "qwen3-moe": (
        "Qwen3MoeConfig",
        {"num_experts": 8, "num_experts_per_tok": 3, "norm_topk_prob": True, "moe_intermediate_size": 40},
    ),
    "qwen3-moe-not-normed": (
        "Qwen3MoeConfig",
        {"num_experts": 6, "num_experts_per_tok": 2, "norm_topk_prob": False, "moe_intermediate_size": 72},
    ),
    "qwen2-moe-shared": (
        "Qwen2MoeConfig",
        {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "norm_topk_prob": False,
            "moe_intermediate_size": 40,
            "shared_expert_intermediate_size": 56,
        },
    ),
    "mixtral": ("MixtralConfig", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "olmoe": ("OlmoeConfig", {"num_experts": 8, "num_experts_per_tok": 4, "norm_topk_prob": False}),
}
"""Mixtures of experts."""


PADDED = {
    "gpt-oss-sinks": ("GptOssConfig", {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 8}),
    "bloom-alibi": ("BloomConfig", {"n_head": 4, "n_layer": 2}),
}


def ready(model: Any) -> EngineModel:
    """Return a decoder or a model of transformers as the engine takes it."""
    return CpuModel(model) if isinstance(model, Decoder) else TorchModel(model)


def build(kind: str, **changes: object) -> Any:
    torch.set_num_threads(1)  # so small a model only waits for more
    torch.manual_seed(0)
    config = getattr(transformers, kind)(**(SMALL | changes))
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@cache
def make(name: str) -> Any:
    kind, changes = (OURS | EXPERTS | PADDED)[name]
    return build(kind, **changes)


@cache
def make_shallow(name: str) -> Any:
    """Make one of OURS or EXPERTS with two layers, of which each other kind of layer is one."""
    kind, changes = (OURS | EXPERTS)[name]
    layers = {"no_rope_layers": changes["no_rope_layers"][:2]} if "no_rope_layers" in changes else {}
    return build(kind, **(changes | layers | {"num_hidden_layers": 2}))


@cache
def prompts(name: str) -> list[list[int]]:
    """Return prompts of 1 to 53 tokens, most of which begin alike, some with only a part of that, some not at all."""
    draw = random.Random(7)
    count = 50 if name == "llama" else 16
    texts = [[draw.randrange(3, 300) for _ in range(draw.randrange(1, 40))] for _ in range(count)]
    return [PREFIX[: 0 if i % 7 == 3 else 5 if i % 7 == 5 else len(PREFIX)] + text for i, text in enumerate(texts)]


@cache
def expected(name: str) -> list[list[int]]:
    return generated(make(name), prompts(name), 16)


def generated(model: Any, asked: list[list[int]], max_new_tokens: int) -> list[list[int]]:
    """Return what transformers' `generate` answers, without the token that ends it."""
    model.set_attn_implementation("eager")
    answers = []
    for prompt in asked:
        ids = torch.tensor([prompt])
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0
        )
        answer = output[0, len(prompt) :].tolist()
        answers.append(answer[:-1] if answer[-1] == 2 else answer)
    return answers


def answer(
    name: str,
    workers: int,
    batch: int,
    params: SamplingParams,
    prefix: SequenceOf[int] = (),
    model: Any = None,
) -> list[list[int]]:
    """Return what the engine over `model`, by default a copy of transformers' own, answers to each prompt."""
    model = deepcopy(make(name)) if model is None else model
    return collected(build_engine([ready(model)], 256, frozenset({2}), workers, batch, prefix), prompts(name), params)


PARAMS = SamplingParams(16)


@cache
def decoder(name: str, precision: PrecisionName = "fp32") -> Decoder:
    return build_decoder(deepcopy(make(name)) if precision != "int4" else rounded(make(name)), precision)


def rounded(model: Any) -> Any:
    """Return a model whose linear layers have weights of four bits: the random ones are moved too far by rounding."""
    model = deepcopy(model)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, torch.nn.Linear):
                rows, columns = part.weight.shape
                padded = np.zeros((rows, -(-columns // GROUP) * GROUP), np.float32)
                padded[:, :columns] = part.weight.numpy()
                part.weight.copy_(torch.from_numpy(quantize(padded).weights()[:, :columns]))
    return model
