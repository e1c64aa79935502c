"""Log-probabilities equal transformers' log-softmax of the same tokens, through every runner, whatever N and batch."""

from __future__ import annotations

import math
from collections.abc import Sequence as SequenceOf
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from support.constraints import STOP, OneOf
from support.tiny_models import decoder, make, prompts, ready

from llmpar.engine.build import build_engine
from llmpar.engine.request import Completion, Request, SamplingParams

PARAMS = SamplingParams(12)
DRAWN = SamplingParams(12, temperature=1.5, top_p=0.8, seed=5)
MODELS = {
    "decoder": ("llama", lambda: decoder("llama")),
    "decoder-tied-softcap": ("gemma2-softcap-window", lambda: decoder("gemma2-softcap-window")),
    "torch": ("llama", lambda: deepcopy(make("llama"))),  # an engine changes how it attends
    "padded": ("bloom-alibi", lambda: deepcopy(make("bloom-alibi"))),
}
TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("cpu", "generic"):
        monkeypatch.setattr(f"llmpar.engine.{kind}.model.usable_cores", lambda: 1)


def asked(
    kind: str, params: SamplingParams, workers: int = 1, batch: int = 5, every: int = 0, count: int = 10
) -> list[Completion]:
    """Return what an engine answers to prompts, of which each `every`th is held to a constraint, none for 0."""
    name, make_model = MODELS[kind]
    found: dict[int, Completion] = {}
    with build_engine([ready(make_model())], 256, frozenset({STOP}), workers, batch) as engine:
        for index, prompt in enumerate(prompts(name)[:count]):
            held = every and index % every == 0
            engine.submit(Request(index, prompt, params, constraint=OneOf if held else None))
        while len(found) < count:
            completion = engine.collect(timeout=60)
            assert completion is not None, "the engine hangs"
            found[completion.id] = completion
    return [found[index] for index in range(count)]


@cache
def log_softmax(name: str, ids: tuple[int, ...]) -> Any:
    """Return transformers' log-probabilities (T, V) of what follows each of some tokens."""
    model = make(name)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        return torch.log_softmax(model(torch.tensor([ids]), use_cache=False).logits[0].float(), -1)


def oracle(name: str, prompt: SequenceOf[int], output: SequenceOf[int]) -> Any:
    """Return transformers' log-probabilities (T, V) at the places of an answer's tokens."""
    return log_softmax(name, (*prompt, *output))[len(prompt) - 1 : len(prompt) - 1 + len(output)]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("params", [PARAMS, DRAWN], ids=["greedy", "drawn"])
def test_are_those_of_transformers(kind: str, params: SamplingParams) -> None:
    name = MODELS[kind][0]
    for prompt, completion in zip(prompts(name), asked(kind, params), strict=False):
        expected = oracle(name, prompt, completion.output_ids)
        own = [float(row[token]) for row, token in zip(expected, completion.output_ids, strict=True)]
        assert completion.logprobs == pytest.approx(own, abs=TOLERANCE)
        assert all(logprob <= 0 for logprob in completion.logprobs)


@pytest.mark.parametrize("kind", MODELS)
def test_a_mask_changes_no_score(kind: str) -> None:
    """What a form leaves open is scored as the model has it; what it forces is not scored."""
    name = MODELS[kind][0]
    num_open = num_forced = 0
    for prompt, completion in zip(prompts(name), asked(kind, PARAMS, every=1), strict=False):
        expected, rule = oracle(name, prompt, completion.output_ids), OneOf()
        for row, token, logprob in zip(expected, completion.output_ids, completion.logprobs, strict=True):
            if math.isnan(logprob):
                assert rule.forced()[:1] == [token]
                num_forced += 1
            else:
                assert logprob == pytest.approx(float(row[token]), abs=TOLERANCE)
                num_open += 1
            rule.accept(token)
    assert num_open > 5
    assert num_forced > 5


@pytest.mark.parametrize("kind", ["decoder", "decoder-tied-softcap"])
def test_any_number_of_workers_scores_to_the_bit(kind: str) -> None:
    alone = asked(kind, PARAMS, every=3)
    for workers, batch in ((1, 1), (2, 3), (3, 8)):
        found = asked(kind, PARAMS, workers, batch, every=3)
        assert [list(one.output_ids) for one in found] == [list(one.output_ids) for one in alone]
        assert [repr(list(one.logprobs)) for one in found] == [repr(list(one.logprobs)) for one in alone]


@pytest.mark.parametrize("kind", MODELS)
def test_scores_that_nobody_wants_change_no_answer(kind: str) -> None:
    plain = asked(kind, PARAMS, every=2)
    unscored = asked(kind, replace(PARAMS, is_scored=False), every=2)
    assert [list(one.output_ids) for one in unscored] == [list(one.output_ids) for one in plain]
    assert all(math.isnan(logprob) for one in unscored for logprob in one.logprobs)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("params", [PARAMS, DRAWN], ids=["greedy", "drawn"])
def test_the_likeliest_others(kind: str, params: SamplingParams) -> None:
    name = MODELS[kind][0]
    found = asked(kind, replace(params, num_others=4), count=5)
    assert [list(one.output_ids) for one in found] == [list(one.output_ids) for one in asked(kind, params, count=5)]
    for prompt, completion in zip(prompts(name), found, strict=False):
        assert len(completion.others) == len(completion.output_ids) + (completion.finish_reason == "stop")
        for row, others in zip(oracle(name, prompt, completion.output_ids), completion.others, strict=False):
            best = row.topk(4)
            assert [logprob for _, logprob in others] == pytest.approx(best.values.tolist(), abs=TOLERANCE)
            assert [token for token, _ in others] == best.indices.tolist()


@pytest.mark.parametrize("kind", MODELS)
def test_what_a_form_leaves_is_weighed(kind: str) -> None:
    name = MODELS[kind][0]
    for prompt, completion in zip(
        prompts(name), asked(kind, replace(PARAMS, weighs=True), every=1, count=6), strict=False
    ):
        rule = OneOf()
        rows = log_softmax(name, (*prompt, *completion.output_ids))[len(prompt) - 1 :]
        assert len(completion.others) >= len(completion.output_ids)
        for place, others in enumerate(completion.others):
            if others:
                assert {token for token, _ in others} == rule.following(rule.ids)
                for token, logprob in others:
                    assert logprob == pytest.approx(float(rows[place][token]), abs=TOLERANCE)
            if place < len(completion.output_ids):
                rule.accept(completion.output_ids[place])
