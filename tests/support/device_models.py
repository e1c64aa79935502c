"""Models that are tried on GPUs, what transformers answers there, and our engine over them."""

from __future__ import annotations

import random
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from llmpar.engine.build import build_engine
from llmpar.engine.cuda.order import keep_order
from llmpar.engine.engine import Engine
from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.request import SamplingParams
from llmpar.models.load import load_model

# Before anything computes: cuBLAS reads once in a process how large its workspace is, and here transformers may be the
# first to use it, before a model of ours is loaded, whose sums would then have no order.
keep_order()

DEVICE = "cuda"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SHAPES = {"llama": "LlamaConfig", "qwen3": "Qwen3Config"}
EXPERTS = {
    "mixtral": "MixtralConfig",
    "qwen3-moe": "Qwen3MoeConfig",
    "qwen2-moe": "Qwen2MoeConfig",
    "olmoe": "OlmoeConfig",
}
MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3-moe": {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 40, "norm_topk_prob": True},
    "qwen2-moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 40,
        "shared_expert_intermediate_size": 56,
    },
    "olmoe": {"num_experts": 8, "num_experts_per_tok": 4},
}
PREFIX = [7, 7, 30, 31, 200, 201, 8, 9, 10, 11, 12, 250, 17]
GREEDY = SamplingParams(24)


def make_directories(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Path]:
    """Write random models of 3 layers, with the tokenizer of the tiny one."""
    found = {}
    for name, kind in (SHAPES | EXPERTS).items():
        torch.manual_seed(0)
        config = getattr(transformers, kind)(
            vocab_size=264 if name in EXPERTS else 259,  # 16 bytes of scores: else cuBLAS has kernels for few rows
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            max_position_embeddings=256,
            bos_token_id=0,
            eos_token_id=2,
            initializer_range=0.3,
            **MIXTURES.get(name, {}),
        )
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for weight in model.parameters():  # the same numbers in bf16 and fp32
                weight.copy_(weight.bfloat16())
                if weight.dim() == 1:  # norms that do something
                    weight.copy_(torch.rand_like(weight).bfloat16() + 0.5)
        found[name] = tmp_path_factory.mktemp("device") / name
        model.save_pretrained(found[name])
        for file in tiny_model.iterdir():
            if "token" in file.name or file.suffix == ".jinja":
                shutil.copy(file, found[name])
    return found


@cache
def prompts() -> list[list[int]]:
    """Return 40 prompts of 1 to 90 tokens; most begin alike, some with only a part of that, some not at all."""
    draw = random.Random(7)
    texts = [[draw.randrange(3, 259) for _ in range(draw.randrange(1, 78))] for _ in range(40)]
    return [PREFIX[: 0 if i % 7 == 3 else 5 if i % 7 == 5 else len(PREFIX)] + text for i, text in enumerate(texts)]


@cache
def reference(directory: Path, precision: str) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=DTYPES[precision]).to(DEVICE).eval()


def generated(directory: Path, precision: str, asked: list[list[int]]) -> list[list[int]]:
    """Return what transformers' `generate` answers, one prompt at a time."""
    answers = []
    for prompt in asked:
        ids = torch.tensor([prompt], device=DEVICE)
        output = reference(directory, precision).generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=GREEDY.max_new_tokens,
            do_sample=False,
            pad_token_id=0,
        )
        answer = output[0, len(prompt) :].tolist()
        answers.append(answer[:-1] if answer[-1] == 2 else answer)
    return answers


@cache
def expected(directory: Path, precision: str) -> list[list[int]]:
    return generated(directory, precision, prompts())


def engine(
    directory: Path,
    precision: PrecisionName,
    workers: int,
    slots: int | None,
    prefix: list[int],
    device: str = DEVICE,
) -> Engine:
    remarks: list[str] = []
    loaded = load_model(directory, device, precision, notify=remarks.append)
    assert loaded.precision == precision, remarks
    return build_engine(loaded.models, loaded.context_length, loaded.stop_ids, workers, slots, prefix)
