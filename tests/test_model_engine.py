"""The engine over real transformers modules: greedy fp32 equals `generate`, whatever N and the batch."""

from __future__ import annotations

import random
from collections.abc import Sequence as SequenceOf
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from llmpar.engine import attention
from llmpar.engine.build import build_engine
from llmpar.engine.engine import Engine
from llmpar.engine.request import Request, SamplingParams, Sequence
from llmpar.engine.resources import usable_cores
from llmpar.engine.sampler import sample

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
PADDED = {
    "gpt-oss-sinks": ("GptOssConfig", {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 8}),
    "bloom-alibi": ("BloomConfig", {"n_head": 4, "n_layer": 2}),
}


def build(kind: str, **changes: object) -> Any:
    torch.set_num_threads(1)  # so small a model only waits for more
    torch.manual_seed(0)
    config = getattr(transformers, kind)(**(SMALL | changes))
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmpar.engine.build.usable_cores", lambda: 1)


@cache
def make(name: str) -> Any:
    kind, changes = (OURS | PADDED)[name]
    return build(kind, **changes)


@cache
def prompts(name: str) -> list[list[int]]:
    """Return prompts of 1 to 53 tokens, most of which begin alike, some with only a part of that, some not at all."""
    draw = random.Random(7)
    count = 50 if name == "llama" else 16
    texts = [[draw.randrange(3, 300) for _ in range(draw.randrange(1, 40))] for _ in range(count)]
    return [PREFIX[: 0 if i % 7 == 3 else 5 if i % 7 == 5 else len(PREFIX)] + text for i, text in enumerate(texts)]


@cache
def expected(name: str, max_new_tokens: int = 16) -> list[list[int]]:
    model = make(name)
    model.set_attn_implementation("eager")
    answers = []
    for prompt in prompts(name):
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
    return collected(build_engine([model], 256, frozenset({2}), workers, batch, prefix), prompts(name), params)


def collected(engine: Engine, asked: list[list[int]], params: SamplingParams) -> list[list[int]]:
    """Return an engine's answers in order, and close it."""
    found: dict[int, list[int]] = {}
    with engine:
        for index, prompt in enumerate(asked):
            engine.submit(Request(index, prompt, params))
        while len(found) < len(asked):
            completion = engine.collect(timeout=60)
            assert completion is not None, "the engine hangs"
            assert completion.error is None, completion.error
            found[completion.id] = list(completion.output_ids)
    return [found[index] for index in range(len(found))]


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(("workers", "batch"), [(1, 16), (4, 3)])
def test_greedy_equals_generate_token_for_token(name: str, workers: int, batch: int) -> None:
    assert attention.is_supported(make(name))
    assert len({tuple(a) for a in expected(name)}) > 0.8 * len(prompts(name)), "the oracle answers everything alike"
    assert answer(name, workers, batch, SamplingParams(16)) == expected(name)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(("workers", "batch"), [(1, 16), (2, 5)])
def test_a_prefix_computed_once_changes_nothing(name: str, workers: int, batch: int) -> None:
    assert answer(name, workers, batch, SamplingParams(16), PREFIX) == expected(name)


def test_attention_in_pieces_is_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmpar.engine.attention._MOST_SCORES", 200)
    assert answer("gemma2-softcap-window", 1, 4, SamplingParams(16), PREFIX) == expected("gemma2-softcap-window")


@pytest.mark.parametrize("name", PADDED)
@pytest.mark.parametrize(("workers", "batch"), [(1, 16), (3, 4)])
def test_models_that_do_not_take_our_attention_are_just_as_right(name: str, workers: int, batch: int) -> None:
    assert not attention.is_supported(make(name))
    assert answer(name, workers, batch, SamplingParams(16)) == expected(name)


def test_what_a_segment_draws_depends_on_neither_n_nor_batch() -> None:
    params = SamplingParams(16, temperature=1.0, top_p=0.9, seed=11)
    alone = answer("llama", 1, 1, params)
    assert alone != expected("llama")
    assert answer("llama", 4, 5, params) == alone
    assert answer("llama", 2, 50, params) == alone
    assert answer("llama", 2, 50, SamplingParams(16, temperature=1.0, top_p=0.9, seed=12)) != alone


class TestSampler:
    def row(self, temperature: float, top_p: float, seed: int = 0) -> Sequence:
        return Sequence(Request(0, [seed], SamplingParams(1, temperature, top_p, seed)))

    def test_follows_the_probabilities(self) -> None:
        logits = torch.tensor([[0.0, 1.0, 2.0, -50.0]])
        sequence = self.row(1.0, 1.0)
        counts = torch.bincount(torch.tensor([sample(logits, [sequence])[0] for _ in range(4000)]), minlength=4)
        assert torch.allclose(counts / 4000, torch.softmax(logits[0], -1), atol=0.03)

    def test_top_p_keeps_the_token_that_crosses_it(self) -> None:
        logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
        sequence = self.row(1.0, 0.6)
        assert {sample(logits, [sequence])[0] for _ in range(300)} == {0, 1}

    def test_a_tiny_top_p_is_greedy(self) -> None:
        logits = torch.tensor([[0.0, 3.0, 2.0]])
        assert {sample(logits, [self.row(2.0, 0.0, seed)])[0] for seed in range(50)} == {1}

    def test_rows_do_not_touch_each_other(self) -> None:
        logits = torch.randn(3, 20)
        rows = [self.row(0.0, 1.0), self.row(1.0, 1.0, 1), self.row(1.0, 0.5, 2)]
        together = sample(logits, rows)
        alone = [
            sample(logits[i : i + 1], [row])[0]
            for i, row in enumerate([self.row(0.0, 1.0), self.row(1.0, 1.0, 1), self.row(1.0, 0.5, 2)])
        ]
        assert together == alone


class TestResources:
    @pytest.mark.parametrize(
        ("cores", "workers", "threads"),
        [(1, 1, 1), (7, 7, 1), (8, 4, 2), (10, 5, 2), (13, 4, 3), (16, 4, 4), (96, 4, 24)],
    )
    def test_through_torch_many_cores_are_shared_by_few(
        self, cores: int, workers: int, threads: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("llmpar.engine.build.usable_cores", lambda: cores)
        said: list[str] = []
        engine = build_engine([make("llama")], 256, frozenset({2}), notify=said.append)
        engine.close()
        assert len(engine.statuses) == workers
        assert f"with {threads} intra-op threads" in said[-1]

    def test_a_control_group_limit_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Path, "read_text", lambda self, **_: "150000 100000\n")
        assert usable_cores() == 1

    def test_without_a_limit_affinity_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Path, "read_text", lambda self, **_: "max 100000\n")
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 5})
        assert usable_cores() == 3
