"""The engine over real transformers modules: greedy fp32 equals `generate`, whatever N and the batch."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from support.tiny_models import OURS, PADDED, PREFIX, answer, expected, make, prompts, ready

from llmpar.engine.build import build_engine
from llmpar.engine.generic import attention
from llmpar.engine.request import Request, SamplingParams, Sequence
from llmpar.engine.resources import usable_cores
from llmpar.engine.sampler import sample as sample_choices


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("cpu", "generic"):
        monkeypatch.setattr(f"llmpar.engine.{kind}.model.usable_cores", lambda: 1)


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
    monkeypatch.setattr("llmpar.engine.generic.attention._MOST_SCORES", 200)
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


def sample(logits: torch.Tensor, sequences: list[Sequence]) -> list[int]:
    """Return the ids of the tokens that were chosen."""
    return [choice.token_id for choice in sample_choices(logits, sequences)]


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
        for kind in ("cpu", "generic"):
            monkeypatch.setattr(f"llmpar.engine.{kind}.model.usable_cores", lambda: cores)
        said: list[str] = []
        engine = build_engine([ready(deepcopy(make("llama")))], 256, frozenset({2}), notify=said.append)
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
