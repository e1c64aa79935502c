"""Decoders of our own behind the engine: as `generate` answers in fp32, and the same whatever N, batch and memory."""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_models import (
    OURS,
    PADDED,
    PARAMS,
    PREFIX,
    answer,
    build,
    collected,
    decoder,
    expected,
    make,
    prompts,
    ready,
)

from llmpar.engine.build import build_engine
from llmpar.engine.cpu.decoder import Decoder, Pass, Tokens
from llmpar.engine.cpu.from_transformers import build_decoder
from llmpar.engine.cpu.runner import DecoderRunner
from llmpar.engine.engine import Engine
from llmpar.engine.pages import PAGE
from llmpar.engine.parts import OtherShape
from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.request import Request, SamplingParams


class TestAnswers:
    @pytest.mark.parametrize("prefix", [(), PREFIX], ids=["no-prefix", "prefix"])
    @pytest.mark.parametrize(("workers", "batch"), [(1, 16), (4, 3)])
    @pytest.mark.parametrize("name", OURS)
    def test_greedy_equals_generate_token_for_token(
        self, name: str, workers: int, batch: int, prefix: list[int]
    ) -> None:
        assert answer(name, workers, batch, PARAMS, prefix, decoder(name)) == expected(name)

    @pytest.mark.parametrize("prefix", [[7] * 16, [7] * 32, [7] * 40], ids=len)
    def test_a_prefix_that_ends_on_a_page_or_within_one(self, prefix: list[int]) -> None:
        draw = np.random.default_rng(0)
        asked = [prefix + draw.integers(3, 300, 1 + index).tolist() for index in range(9)]
        model = decoder("llama")
        alone = collected(build_engine([ready(model)], 256, frozenset({2}), 1, 4), asked, PARAMS)
        assert collected(build_engine([ready(model)], 256, frozenset({2}), 2, 4, prefix), asked, PARAMS) == alone

    @pytest.mark.parametrize("prefix", [(), PREFIX], ids=["no-prefix", "prefix"])
    @pytest.mark.parametrize("name", ["llama", "gemma2-softcap-window", "phi3-partial-rotary"])
    @pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
    def test_the_same_whatever_n_and_batch(self, name: str, precision: PrecisionName, prefix: list[int]) -> None:
        model = decoder(name, precision)
        alone = answer(name, 1, 1, PARAMS, prefix, model)
        assert len({tuple(a) for a in alone}) > 0.8 * len(alone)
        for workers, batch in ((2, 7), (2, 64), (4, 16)):
            assert answer(name, workers, batch, PARAMS, prefix, model) == alone

    @pytest.mark.parametrize("precision", ["fp32", "int8"])
    def test_what_a_segment_draws_depends_on_neither_n_nor_batch(self, precision: PrecisionName) -> None:
        model, params = decoder("llama", precision), SamplingParams(16, temperature=1.0, top_p=0.9, seed=11)
        alone = answer("llama", 1, 1, params, (), model)
        assert alone != answer("llama", 1, 1, PARAMS, (), model)
        assert answer("llama", 4, 5, params, (), model) == alone
        assert answer("llama", 2, 50, params, (), model) == alone
        assert answer("llama", 2, 50, SamplingParams(16, 1.0, 0.9, seed=12), (), model) != alone

    def test_greedy_and_drawn_rows_share_a_batch(self) -> None:
        model, drawn = decoder("gemma2-softcap-window"), SamplingParams(16, temperature=1.0, seed=3)
        asked = prompts("gemma2-softcap-window")
        answers = {params: answer("gemma2-softcap-window", 1, 1, params, (), model) for params in (PARAMS, drawn)}
        with build_engine([ready(model)], 256, frozenset({2}), 1, 8) as engine:
            for index, prompt in enumerate(asked):
                engine.submit(Request(index, prompt, (PARAMS, drawn)[index % 2]))
            ends = [engine.collect(timeout=60) for _ in asked]
        for end in ends:
            assert end is not None
            assert end.output_ids == answers[(PARAMS, drawn)[end.id % 2]][end.id]

    @pytest.mark.parametrize("batch", [1, 5])
    def test_guesses_right_or_wrong_change_nothing(self, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
        draw, answers = random.Random(batch), dict(zip(map(tuple, prompts("llama")), expected("llama"), strict=True))

        class Guesses:
            def __init__(self, prompt_ids: list[int]) -> None:
                self._answer = [*answers[tuple(prompt_ids)], 2, 2, 2]

            def propose(self, output_ids: list[int], num_tokens: int) -> list[int]:
                guess = self._answer[len(output_ids) :][:num_tokens]
                return [3 if draw.random() < 0.1 else token_id for token_id in guess]

        monkeypatch.setattr("llmpar.engine.cpu.runner.Lookup", Guesses)
        steps: list[int] = []
        real = DecoderRunner.decode
        monkeypatch.setattr(DecoderRunner, "decode", lambda *a: steps.append(len(a[1])) or real(*a))
        assert answer("llama", 1, batch, PARAMS, PREFIX, decoder("llama")) == expected("llama")
        assert sum(steps) < 0.8 * sum(map(len, answers.values())), "no guess was taken"

    def test_a_prompt_longer_than_one_pass(self) -> None:
        model = make("llama")
        ids = np.random.default_rng(1).integers(3, 300, 600).tolist()
        model.set_attn_implementation("eager")
        with torch.inference_mode():
            logits = model(torch.tensor([ids]), use_cache=False).logits[0]
        asked = [ids[:length] for length in (600, 300, 257, 256)]
        found = collected(build_engine([ready(decoder("llama"))], 1000, frozenset(), 1, 4), asked, SamplingParams(1))
        assert found == [[int(logits[len(prompt) - 1].argmax())] for prompt in asked]


@pytest.mark.parametrize("token_id", [-1, 300])
def test_a_token_that_the_model_lacks_is_refused(token_id: int) -> None:
    with pytest.raises(ValueError, match="not among the model's 300"):
        logits(decoder("llama"), np.array([5, token_id, 5], np.int32))


@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("name", OURS)
def test_fewer_bits_stay_close(name: str, precision: PrecisionName) -> None:
    ids = np.arange(3, 80, dtype=np.int32)
    exact, found = (logits(decoder(name, p), ids) for p in ("fp32", precision))
    assert np.linalg.norm(found - exact) < {"bf16": 0.05, "int8": 0.15}[precision] * np.linalg.norm(exact)
    assert not np.array_equal(found, exact)


@pytest.mark.parametrize("name", OURS)
def test_what_is_not_wanted_changes_nothing(name: str) -> None:
    model, positions = decoder(name, "int8"), np.concatenate([np.arange(20), np.arange(7)]).astype(np.int32)
    rows, tables = np.repeat(np.array([0, 1], np.int32), [20, 7]), np.arange(4, dtype=np.int32).reshape(2, 2)
    tokens = Tokens((positions * 7 % 90).astype(np.int32), positions, rows, tables)
    found = []
    for wanted in (None, np.array([19, 24, 26]), np.empty(0, np.int64)):
        pages = model.make_pages(4)
        hidden = Pass(model, 27, *pages).forward(tokens, wanted)
        found.append((hidden, *(one.tobytes() for one in pages)))
    whole, some, none = found
    assert np.array_equal(some[0], whole[0][[19, 24, 26]])
    assert some[1:] == whole[1:] == none[1:]
    assert not len(none[0])


def logits(model: Decoder, ids: Any) -> Any:
    num_pages = -(-len(ids) // PAGE)
    work = Pass(model, len(ids), *model.make_pages(num_pages))
    places = np.arange(len(ids), dtype=np.int32)
    return work.logits(
        work.forward(Tokens(ids, places, np.zeros_like(places), np.arange(num_pages, dtype=np.int32)[None]))
    )


class TestDescribe:
    def test_smollm3_has_a_layer_that_does_not_turn(self) -> None:
        assert [layer.rope for layer in decoder("smollm3-nope").layers] == [0, -1, 0]

    def test_gemma3_turns_each_kind_of_layer_by_its_own_angles(self) -> None:
        model = build_decoder(
            build("Gemma3TextConfig", layer_types=["sliding_attention", "sliding_attention", "full_attention"]), "fp32"
        )
        assert [layer.rope for layer in model.layers] == [0, 0, 1]
        assert len({rope.frequencies.tobytes() for rope in model.ropes}) == 2

    def test_norms_are_not_rounded_where_the_weights_are(self) -> None:
        model = deepcopy(make("gemma3")).to(torch.bfloat16)
        weight = model.model.norm.weight
        with torch.no_grad():
            weight.uniform_(-0.01, 0.01)  # one and that has no bfloat16
        assert np.array_equal(build_decoder(model, "bf16").final_norm, 1 + weight.detach().float().numpy())

    @pytest.mark.parametrize("name", PADDED)
    def test_attention_of_other_kinds_is_refused(self, name: str) -> None:
        with pytest.raises(OtherShape, match="attention"):
            build_decoder(deepcopy(make(name)), "fp32")

    @pytest.mark.parametrize(
        ("kind", "changes", "reason"),
        [
            ("Olmo2Config", {}, "Olmo2DecoderLayer has other parts"),
            ("PhiConfig", {}, "PhiModel has other parts"),
            ("CohereConfig", {}, "another norm"),
            ("NemotronConfig", {}, "activation"),
            ("MixtralConfig", {"num_local_experts": 2}, "mixture of experts"),
        ],
    )
    def test_other_parts_are_refused_by_name(self, kind: str, changes: dict[str, object], reason: str) -> None:
        with pytest.raises(OtherShape, match=reason):
            build_decoder(build(kind, **changes), "fp32")

    @pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "int4"])
    @pytest.mark.parametrize(
        ("kind", "changes"),
        [
            ("GraniteConfig", {"residual_multiplier": 0.5}),
            ("GraniteConfig", {"logits_scaling": 2.0}),
            ("GraniteConfig", {"embedding_multiplier": 6.0}),
            ("HeliumConfig", {}),  # it turns neighbours, not halves
        ],
    )
    def test_other_arithmetic_of_the_same_parts_is_found_by_trying(
        self, kind: str, changes: dict[str, object], precision: PrecisionName
    ) -> None:
        with pytest.raises(OtherShape, match="gives something else"):
            build_decoder(build(kind, **changes), precision)

    def test_the_same_parts_under_another_name_are_taken(self) -> None:
        model = build_decoder(build("GraniteConfig", attention_multiplier=0.3), "fp32")
        assert [layer.scaling for layer in model.layers] == [0.3] * 3

    def test_what_changes_farther_on_than_is_tried_is_refused(self) -> None:
        rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e6}
        with pytest.raises(OtherShape, match="position"):
            build_decoder(build("Ministral3Config", rope_parameters=rope | {"llama_4_scaling_beta": 0.1}), "fp32")


class TestMemory:
    """Engines with fewer pages than their slots could fill."""

    def engine(
        self, monkeypatch: pytest.MonkeyPatch, workers: int, slots: int, num_pages: int, prefix: list[int]
    ) -> Engine:
        model = decoder("llama")
        room = 2 * workers * num_pages * model.page_bytes  # half of what is available is taken
        monkeypatch.setattr("llmpar.engine.cpu.model.available_memory", lambda: room)
        return build_engine([ready(model)], 256, frozenset({2}), workers, slots, prefix)

    @pytest.mark.parametrize("prefix", [[], PREFIX, prompts("llama")[0][:16]], ids=len)
    @pytest.mark.parametrize(("workers", "slots", "num_pages"), [(1, 16, 5), (1, 16, 11), (3, 4, 6)])
    def test_all_is_answered_as_ever_and_every_page_comes_back(
        self, monkeypatch: pytest.MonkeyPatch, workers: int, slots: int, num_pages: int, prefix: list[int]
    ) -> None:
        engine = self.engine(monkeypatch, workers, slots, num_pages, prefix)
        assert engine.context_length == num_pages * PAGE
        assert collected(engine, prompts("llama"), PARAMS) == expected("llama")
        num_shared = -(-len(prefix) // PAGE)
        for worker in engine._workers:
            runner: Any = worker._runner
            there = sorted([*runner._pages._free, *runner._pages._tree._kept])
            assert there == list(range(num_shared, num_shared + num_pages))
            assert sorted(runner._pages._free_slots) == list(range(slots))
            assert runner._pages._num_unreserved == num_pages

    def test_no_more_run_than_have_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        running: list[int] = []
        real = DecoderRunner.decode
        monkeypatch.setattr(DecoderRunner, "decode", lambda *a: running.append(len(a[1])) or real(*a))
        engine = self.engine(monkeypatch, 1, 16, 12, [])
        collected(engine, [[first] * 40 for first in range(5, 35)], SamplingParams(8))  # three pages each
        assert max(running) == 4

    def test_a_request_larger_than_the_room_is_refused_and_the_others_are_not(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with self.engine(monkeypatch, 2, 4, 3, []) as engine:
            engine.submit(Request(0, [5] * 40, SamplingParams(9)))
            engine.submit(Request(1, [5] * 40, SamplingParams(8)))
            ends = [engine.collect(timeout=60) for _ in range(2)]
        errors = {end.id: end.error for end in ends if end}
        assert errors == {
            0: "prompt of 40 tokens and room for 9 more do not fit the context of 48",
            1: None,
        }
