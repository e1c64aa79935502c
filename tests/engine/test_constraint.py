"""Answers held to a constraint, through every runner: as a naive loop answers, the same whatever N and batch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from support.constraints import OPTIONS, STOP, VOCABULARY, OneOf, ids, mask
from support.tiny_models import PREFIX, decoder, expected, make, prompts, ready

from llmpar.engine.build import build_engine
from llmpar.engine.constraint import Mask, unpack
from llmpar.engine.cpu.decoder import Pass
from llmpar.engine.cpu.product import TILE_ROWS
from llmpar.engine.cpu.runner import DecoderRunner
from llmpar.engine.request import Completion, Request, SamplingParams

PARAMS = SamplingParams(16)
DRAWN = SamplingParams(16, temperature=1.5, top_p=0.95, seed=5)
MODELS = {
    "decoder": lambda: decoder("llama"),
    "decoder-tied": lambda: decoder("gemma2-softcap-window"),
    "torch": lambda: deepcopy(make("llama")),  # an engine changes how it attends
    "padded": lambda: deepcopy(make("bloom-alibi")),
}
NAMES = {"decoder": "llama", "decoder-tied": "gemma2-softcap-window", "torch": "llama", "padded": "bloom-alibi"}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("cpu", "generic"):
        monkeypatch.setattr(f"llmpar.engine.{kind}.model.usable_cores", lambda: 1)


@cache
def naive(name: str) -> list[tuple[int, ...]]:
    """Return what each prompt is answered by the likeliest of the allowed tokens, one at a time."""
    model = make(name)
    model.set_attn_implementation("eager")
    answers = []
    for prompt in prompts(name):
        rule = OneOf()
        while True:
            with torch.inference_mode():
                logits = model(torch.tensor([[*prompt, *rule.ids]]), use_cache=False).logits[0, -1]
            best = max(rule.following(rule.ids), key=lambda token: float(logits[token]))
            if best == STOP:
                break
            rule.accept(best)
        answers.append(rule.ids)
    return answers


def ask(
    model: Any, requests: SequenceOf[Request], workers: int = 1, batch: int = 8, prefix: Any = ()
) -> list[Completion]:
    found: dict[int, Completion] = {}
    with build_engine([ready(model)], 256, frozenset({STOP}), workers, batch, prefix) as engine:
        for request in requests:
            engine.submit(request)
        while len(found) < len(requests):
            completion = engine.collect(timeout=60)
            assert completion is not None, "the engine hangs"
            found[completion.id] = completion
    return [found[index] for index in sorted(found)]


def held(
    name: str, params: SamplingParams = PARAMS, make_rule: Callable[[], Any] = OneOf, every: int = 1
) -> list[Request]:
    """Return a request for each prompt, of which each `every`th is held to the constraint."""
    return [
        Request(index, prompt, params, constraint=None if index % every else make_rule)
        for index, prompt in enumerate(prompts(name))
    ]


@cache
def drawn_alone(kind: str) -> list[tuple[int, ...]]:
    """Return what is drawn for each request, of which every other one is held, by an engine that has no other."""
    return ids([ask(MODELS[kind](), [request])[0] for request in held(NAMES[kind], DRAWN, every=2)])


def test_unpack_takes_the_lowest_bit_first() -> None:
    assert np.flatnonzero(unpack(mask({0, 31, 32, 299}), VOCABULARY)).tolist() == [0, 31, 32, 299]
    assert len(unpack(mask(set()), VOCABULARY)) == VOCABULARY


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (1, 16), (2, 5), (4, 3)])
class TestEveryRunner:
    def test_greedy_is_the_likeliest_of_the_allowed(self, kind: str, workers: int, batch: int) -> None:
        name = NAMES[kind]
        assert len(set(naive(name))) > 3, "the oracle answers everything alike"
        prefix = PREFIX if workers == 2 else ()
        found = ask(MODELS[kind](), held(name), workers, batch, prefix)
        assert ids(found) == naive(name)
        assert {completion.finish_reason for completion in found} == {"stop"}

    def test_neighbours_answer_as_without_it(self, kind: str, workers: int, batch: int) -> None:
        name = NAMES[kind]
        found = ids(ask(MODELS[kind](), held(name, every=3), workers, batch))
        assert found == [
            tuple(free) if index % 3 else bound
            for index, (free, bound) in enumerate(zip(expected(name), naive(name), strict=True))
        ]

    def test_drawn_answers_depend_on_neither_n_nor_batch(self, kind: str, workers: int, batch: int) -> None:
        name = NAMES[kind]
        found = ids(ask(MODELS[kind](), held(name, DRAWN, every=2), workers, batch))
        assert found == drawn_alone(kind)
        assert set(found[::2]) <= set(OPTIONS)
        assert len(set(found[::2])) > 3
        assert found[::2] != naive(name)[::2]


@pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
def test_fewer_bits_are_the_same_whatever_n_and_batch(precision: Any) -> None:
    model, requests = decoder("llama", precision), held("llama", every=2)
    alone = ids(ask(model, requests, 1, 1))
    assert set(alone[::2]) <= set(OPTIONS)
    free = ids(ask(model, [Request(index, prompt, PARAMS) for index, prompt in enumerate(prompts("llama"))], 1, 4))
    assert alone[1::2] == free[1::2]
    for workers, batch in ((1, 64), (2, 7), (4, 16)):
        assert ids(ask(model, requests, workers, batch)) == alone


class TestForcedTokens:
    @pytest.fixture
    def steps(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
        """How many tokens each pass of a decoder read."""
        counts: list[int] = []
        real = Pass.forward
        monkeypatch.setattr(
            Pass, "forward", lambda self, tokens, *a: counts.append(len(tokens.ids)) or real(self, tokens, *a)
        )
        return counts

    def test_cost_no_step_of_their_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # One choice, which the prompt's own pass makes.
        monkeypatch.setattr(DecoderRunner, "decode", lambda *_: pytest.fail("a step was computed after the prompts"))
        options = [tuple(range(start, start + 15)) for start in (10, 50, 90)]
        found = ask(decoder("llama"), held("llama", make_rule=lambda: OneOf(options)), batch=64)
        assert set(ids(found)) <= set(options)
        assert len(set(ids(found))) > 1

    def test_where_there_is_no_choice_nothing_is_computed(self, steps: list[int]) -> None:
        found = ask(decoder("llama"), held("llama", make_rule=lambda: OneOf([(5, 6, 7)])))
        assert set(ids(found)) == {(5, 6, 7)}
        assert steps == []

    def test_those_at_the_beginning_are_read_with_the_prompt(self, steps: list[int]) -> None:
        options = [(*range(20, 34), token) for token in range(100, 140)]
        ask(decoder("llama"), held("llama", make_rule=lambda: OneOf(options))[:1])
        assert steps == [len(prompts("llama")[0]) + 14]

    def test_many_at_once_need_more_than_one_pass(self, steps: list[int]) -> None:
        # Each prompt is followed by a choice, 40 tokens without one, and a choice: 50 × 40 tokens to read in one step.
        options = [(first, *range(200, 240), last) for first in (10, 11) for last in (12, 13, 14)]
        params = SamplingParams(64)
        found = ids(ask(decoder("llama"), held("llama", params, lambda: OneOf(options)), batch=64))
        assert max(steps) == 256
        assert found == ids([ask(decoder("llama"), [r])[0] for r in held("llama", params, lambda: OneOf(options))])
        assert len(set(found)) > 1

    def test_the_limit_cuts_among_them(self) -> None:
        for kind in ("decoder", "torch", "padded"):
            long = [tuple(range(10, 40))]
            found = ask(MODELS[kind](), held(NAMES[kind], make_rule=lambda long=long: OneOf(long)))
            assert set(ids(found)) == {tuple(range(10, 26))}
            assert {completion.finish_reason for completion in found} == {"length"}

    def test_an_answer_that_is_whole_at_the_limit_is_no_cut_one(self) -> None:
        for kind in ("decoder", "torch", "padded"):
            found = ask(MODELS[kind](), held(NAMES[kind], SamplingParams(2), lambda: OneOf([(5, 6), (5, 7)])))
            assert {completion.finish_reason for completion in found} == {"stop"}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", ["right", "wrong", "forbidden", "mixed"])
def test_guesses_obey(monkeypatch: pytest.MonkeyPatch, kind: str, batch: int) -> None:
    draw, answers = random.Random(batch), dict(zip(map(tuple, prompts("llama")), naive("llama"), strict=True))

    class Guesses:
        def __init__(self, prompt_ids: list[int]) -> None:
            self._answer = [*answers[tuple(prompt_ids)], STOP, STOP, 7]

        def propose(self, output_ids: list[int], num_tokens: int) -> list[int]:
            guess = self._answer[len(output_ids) :][:num_tokens]
            allowed = sorted(OneOf().following(tuple(output_ids)) - {STOP})
            if kind == "wrong" or (kind == "mixed" and draw.random() < 0.3):
                guess[:1] = [draw.choice(allowed)]
            if kind == "forbidden" or (kind == "mixed" and draw.random() < 0.3):
                guess[draw.randrange(len(guess)) :] = [250]
            return guess

    monkeypatch.setattr("llmpar.engine.cpu.runner.Lookup", Guesses)
    seen: list[int] = []
    real = DecoderRunner.decode
    monkeypatch.setattr(DecoderRunner, "decode", lambda *a: seen.append(len(a[1])) or real(*a))
    # Without forced tokens there is more to guess.
    monkeypatch.setattr(OneOf, "forced", lambda self: [])
    assert ids(ask(decoder("llama"), held("llama"), batch=batch, prefix=PREFIX)) == naive("llama")
    if kind == "right":
        # Guesses stand in rows of a tile that nobody else uses: where a tile has four, three sequences leave one.
        share = 0.6 if 2 * batch < TILE_ROWS else 1.0
        assert sum(seen) < share * sum(map(len, answers.values())), "no guess was taken"


def test_a_lookup_of_its_own_finds_what_the_answer_repeats() -> None:
    options = [(first, *(20, 21, 22, 23) * 3) for first in (10, 11)]
    found = ask(decoder("llama"), held("llama", make_rule=lambda: Unforced(options)), batch=2)
    again = ask(deepcopy(make("llama")), held("llama", make_rule=lambda: Unforced(options)), batch=2)
    assert ids(found) == ids(again)


class Unforced(OneOf):
    """A constraint that tells no forced tokens."""

    def forced(self) -> list[int]:
        return []


class Faulty(Unforced):
    """A constraint of which one method raises from the second token on."""

    fault: str = ""
    error: Exception = ValueError("no way on")

    def __getattribute__(self, name: str) -> Any:
        if name == type(self).fault and len(self.ids) > 0:
            raise type(self).error
        return super().__getattribute__(name)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("fault", ["make", "allowed", "accept", "forced", "is_complete", "ends"])
def test_a_fault_of_its_own_fails_it_alone(kind: str, fault: str) -> None:
    name = NAMES[kind]
    rule = type("Rule", (Faulty,), {"fault": fault})

    def broken() -> Any:
        if fault == "make":
            raise ValueError("no way on")
        return rule()

    def ends(output_ids: SequenceOf[int]) -> bool:
        if fault == "ends" and len(output_ids) > 0:
            raise ValueError("no way on")
        return False

    # More in a row than an engine bears of what fails for reasons of its own.
    requests = [
        Request(index, prompt, PARAMS, constraint=broken, ends=ends)
        if 2 <= index < 12
        else Request(index, prompt, PARAMS, constraint=OneOf)
        for index, prompt in enumerate(prompts(name))
    ]
    found = ask(MODELS[kind](), requests, workers=2, batch=4)
    for completion, answer in zip(found, naive(name), strict=True):
        if not 2 <= completion.id < 12:
            assert tuple(completion.output_ids) == answer
        elif completion.error is None:  # it was over before there was anything to fail
            assert fault == "allowed"
            assert tuple(completion.output_ids) == answer
        else:
            assert completion.error == "ValueError: no way on"
    assert sum(completion.error is not None for completion in found) > 1


class TestBeginningAgain:
    def test_after_memory_ran_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[OneOf] = []
        calls = 0
        real = Pass.likeliest

        def scarce(self: Pass, hidden: Any, *rest: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls % 4 == 0 and len(hidden) > 2:
                raise MemoryError
            return real(self, hidden, *rest)

        monkeypatch.setattr(Pass, "likeliest", scarce)
        requests = held("llama", make_rule=lambda: made.append(OneOf()) or made[-1])
        assert ids(ask(decoder("llama"), requests, batch=16)) == naive("llama")
        assert len(made) > len(requests), "memory did not run out"

    @pytest.mark.parametrize("kind", MODELS)
    def test_memory_that_runs_out_in_a_constraint_is_the_engines_to_find(self, kind: str) -> None:
        left = [3]

        class Scarce(OneOf):
            def allowed(self, ahead: SequenceOf[int] = ()) -> list[Mask]:
                if left[0]:
                    left[0] -= 1
                    raise MemoryError
                return super().allowed(ahead)

        name = NAMES[kind]
        assert ids(ask(MODELS[kind](), held(name, make_rule=Scarce), batch=16)) == naive(name)
        assert left == [0]

    @pytest.mark.parametrize("kind", MODELS)
    def test_going_on_with_an_earlier_answer(self, kind: str) -> None:
        name = NAMES[kind]
        whole = naive(name)
        cut = [len(answer) // 2 for answer in whole]
        requests = [
            Request(index, [*prompt, *whole[index][: cut[index]]], PARAMS, cut[index], constraint=OneOf)
            for index, prompt in enumerate(prompts(name))
        ]
        found = ask(MODELS[kind](), requests, workers=2)
        assert ids(found) == [answer[count:] for answer, count in zip(whole, cut, strict=True)]

    @pytest.mark.parametrize("kind", MODELS)
    def test_one_that_was_whole_is_whole(self, kind: str) -> None:
        request = Request(0, [5, 6, 10, 11, 12], PARAMS, 3, constraint=OneOf)
        [completion] = ask(MODELS[kind](), [request])
        assert (tuple(completion.output_ids), completion.finish_reason) == ((), "stop")


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (2, 5)])
def test_ends_is_asked_after_each_token(kind: str, workers: int, batch: int) -> None:
    name = NAMES[kind]
    asked: dict[int, list[int]] = {}

    def request(index: int, prompt: list[int]) -> Request:
        def ends(output_ids: SequenceOf[int]) -> bool:
            asked.setdefault(index, []).append(len(output_ids))
            return output_ids[-1] % 23 == 0

        return Request(index, prompt, PARAMS, ends=ends)

    found = ask(MODELS[kind](), [request(*pair) for pair in enumerate(prompts(name))], workers, batch)
    for completion, free in zip(found, expected(name), strict=True):
        stops = [index for index, token_id in enumerate(free) if token_id % 23 == 0]
        assert list(completion.output_ids) == (free[: stops[0] + 1] if stops else free)
        assert completion.finish_reason == ("stop" if stops or len(free) < 16 else "length")
        assert asked.get(completion.id, []) == list(range(1, len(completion.output_ids) + 1))
    assert any(completion.finish_reason == "length" for completion in found)
