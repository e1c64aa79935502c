"""The engine for GPUs: greedy fp32 equals `generate`, whatever N and the batch.

Where there is no GPU its kernels run in Triton's interpreter, on the CPU: hence few prompts and short answers.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Sequence as SequenceOf
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch

DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
triton = pytest.importorskip("triton")

from support.constraints import STOP, OneOf, mask  # noqa: E402
from support.engines import collected  # noqa: E402
from support.thoughts import OPENING, Brief  # noqa: E402
from support.tiny_models import OURS, PREFIX, build, generated, make_shallow, prompts  # noqa: E402

from llmpar.engine.build import build_engine  # noqa: E402
from llmpar.engine.constraint import unpack  # noqa: E402
from llmpar.engine.cuda import decoder as cuda_decoder  # noqa: E402
from llmpar.engine.cuda import kernels, runner  # noqa: E402
from llmpar.engine.cuda.decoder import Decoder, Pass  # noqa: E402
from llmpar.engine.cuda.from_transformers import build_decoder  # noqa: E402
from llmpar.engine.cuda.model import CudaModel  # noqa: E402
from llmpar.engine.cuda.stream import as_bits  # noqa: E402
from llmpar.engine.engine import Engine  # noqa: E402
from llmpar.engine.finite import NO_TOKEN, NOT_FINITE  # noqa: E402
from llmpar.engine.parts import OtherShape  # noqa: E402
from llmpar.engine.request import Completion, Request, SamplingParams, Sequence  # noqa: E402
from llmpar.engine.sampler import draw  # noqa: E402
from llmpar.errors import EngineFailed  # noqa: E402

# NumPy, which the interpreter computes with, warns where a number is infinite or none, as on a GPU it just is.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{said}:RuntimeWarning")
    for said in ("overflow encountered in exp", "invalid value encountered")
]
LENGTH = 4  # of answers
FEW = 4  # prompts; the fourth does not begin with PREFIX
PARAMS = SamplingParams(LENGTH)


@pytest.fixture(autouse=True)
def _one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no two threads into the interpreter, which changes Triton's own functions while it runs."""
    if DEVICE.type == "cpu":
        lock = threading.RLock()
        for name in ("start", "prefill", "decode"):
            plain = getattr(runner.CudaRunner, name)

            def locked(self: Any, *arguments: Any, plain: Any = plain) -> Any:
                with lock:
                    return plain(self, *arguments)

            monkeypatch.setattr(runner.CudaRunner, name, locked)


@cache
def decoder(name: str) -> Decoder:
    return build_decoder(deepcopy(make_shallow(name)).to(DEVICE))


def engine(name: str, workers: int = 1, batch: int = 3, prefix: SequenceOf[int] = PREFIX) -> Engine:
    return build_engine([CudaModel(decoder(name))], 256, frozenset({STOP}), workers, batch, prefix, max_memory=1 << 25)


def answer(name: str, *how: Any, params: SamplingParams = PARAMS, count: int = FEW) -> list[list[int]]:
    return collected(engine(name, *how), prompts(name)[:count], params)


@cache
def wanted(name: str, count: int = FEW) -> list[list[int]]:
    return generated(make_shallow(name), prompts(name)[:count], LENGTH)


def ask(engine: Engine, requests: list[Request]) -> list[Completion]:
    found: dict[int, Completion] = {}
    with engine:
        for request in requests:
            engine.submit(request)
        while len(found) < len(requests):
            completion = engine.collect(timeout=60)
            assert completion is not None, "the engine hangs"
            found[completion.id] = completion
    return [found[request.id] for request in requests]


@pytest.mark.parametrize("name", OURS)
def test_what_a_model_makes_of_a_short_text_is_what_its_decoder_does(name: str) -> None:
    assert decoder(name).num_heads == 4


@pytest.mark.parametrize(
    "name",
    ["llama-tied-bias", "mistral-window", "qwen3", "gemma2-softcap-window", "gemma3", "phi3-partial-rotary",
     "smollm3-nope"],
)  # fmt: skip
def test_greedy_equals_generate_token_for_token(name: str) -> None:
    assert answer(name) == wanted(name)


@pytest.mark.parametrize(("workers", "batch", "count"), [(1, 1, FEW), (2, 2, 6), (1, 8, 6)])
def test_any_n_and_batch_give_the_same(workers: int, batch: int, count: int) -> None:
    """Slots are used again where there are fewer of them than prompts."""
    assert answer("llama", workers, batch, count=count) == wanted("llama", count)


def test_without_a_common_beginning_it_is_the_same() -> None:
    assert answer("llama", 1, 3, ()) == wanted("llama")


def test_prompts_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PASS_TOKENS", 7)
    assert answer("llama") == wanted("llama")


@pytest.mark.parametrize("name", ["llama", "mistral-window", "gemma2-softcap-window"])
def test_a_long_beginning_read_for_all_rows_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_decoder, "_WORTH_SHARING", 16)
    calls = []
    plain = kernels.attend_prefix

    class Counted:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            calls.append(grid)
            return plain[grid]

    monkeypatch.setattr(kernels, "attend_prefix", Counted())
    beginning = [*range(40, 100), *PREFIX]  # a block of attention, which is four pages, and nine tokens more
    asked = [beginning + prompt[len(PREFIX) :] for prompt in prompts(name)[:3]] + [prompts(name)[3]]
    oracle = generated(make_shallow(name), asked, LENGTH)
    assert collected(engine(name, prefix=beginning), asked, PARAMS) == oracle
    assert calls


def test_a_copy_on_another_device_answers_alike() -> None:
    copy = decoder("llama-tied-bias").to(torch.device(DEVICE.type))
    assert copy.head.weight is copy.embedding
    made = build_engine([CudaModel(copy)], 256, frozenset({STOP}), 1, 3, PREFIX, max_memory=1 << 25)
    assert collected(made, prompts("llama-tied-bias")[:FEW], PARAMS) == wanted("llama-tied-bias")


def test_weights_are_there_once() -> None:
    model = deepcopy(make_shallow("llama")).to(DEVICE)
    made = build_decoder(model)
    attention = model.model.layers[0].self_attn
    assert attention.q_proj.weight.data_ptr() == made.layers[0].qkv.weight.data_ptr()
    assert torch.equal(attention.k_proj.weight, made.layers[0].qkv.weight[64:96])


def test_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OtherShape, match="attention is of another kind"):
        build_decoder(build("BloomConfig", n_head=4, n_layer=2))
    # What our kernels make of it is held against what the model does.
    monkeypatch.setattr(Pass, "_activate", lambda self, x: x[:, : self._decoder.mlp_size].contiguous())
    with pytest.raises(OtherShape, match="gives something else"):
        build_decoder(deepcopy(make_shallow("llama")).to(DEVICE))


def test_what_reads_a_beginning_for_all_rows_is_tried_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    class SeesNothing:
        def __getitem__(self, _: object) -> Any:
            def run(*arguments: Any, **_: object) -> None:
                tops, sums, outputs = arguments[10:13]
                tops.zero_(), sums.fill_(1), outputs.zero_()

            return run

    monkeypatch.setattr(kernels, "attend_prefix", SeesNothing())
    with pytest.raises(OtherShape, match="gives something else"):
        build_decoder(deepcopy(make_shallow("llama")).to(DEVICE))


def test_kernels_that_do_not_compile_are_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("PTX of a later version")

    monkeypatch.setattr(Pass, "_add_norm", fail)
    with pytest.raises(OtherShape, match=r"our kernels do not run here \(ZeroDivisionError: PTX of a later version\)"):
        build_decoder(deepcopy(make_shallow("llama")).to(DEVICE))


class TestMemory:
    def test_every_page_and_slot_comes_back(self) -> None:
        made = engine("llama", 2, 2)
        assert collected(made, prompts("llama")[:FEW], PARAMS) == wanted("llama")
        for worker in made._workers:
            pages: Any = worker._runner._pages  # type: ignore[attr-defined]
            assert sorted(pages._free) == list(range(1, pages._num_unreserved + 1))  # the first is the prefix's
            assert sorted(pages._free_slots) == [0, 1]

    def test_where_it_runs_out_less_runs_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plain, sizes = Pass.forward, []

        def scarce(self: Pass, line: Any) -> torch.Tensor:
            rows = len(set(line.slots.tolist())) if line.most > 1 else 1
            sizes.append(rows)
            if rows > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return plain(self, line)

        monkeypatch.setattr(Pass, "forward", scarce)
        # The first to come are few; of the later ones four are read at once, and then no more than two.
        assert answer("llama", 1, 8, params=PARAMS, count=10) == wanted("llama", 10)
        assert max(sizes) > 2

    def test_a_closed_engine_that_nobody_holds_gives_it_back(self) -> None:
        made = engine("llama")
        assert collected(made, prompts("llama")[:2], PARAMS) == wanted("llama", 2)
        pages = weakref.ref(made._workers[0]._runner._cache.pages)  # type: ignore[attr-defined]
        assert pages() is not None
        gc.disable()  # it may take a long time to come
        try:
            del made
            assert pages() is None
        finally:
            gc.enable()

    def test_no_more_is_taken_than_is_free(self, monkeypatch: pytest.MonkeyPatch) -> None:
        per_page = decoder("llama").page_bytes
        beside = decoder("llama").bytes_beside(runner.PASS_TOKENS, 4, 256)
        monkeypatch.setattr("llmpar.engine.cuda.model.free_memory", lambda _: beside + 40 * per_page)
        said: list[str] = []
        made = build_engine(
            [CudaModel(decoder("llama"))], 256, frozenset({STOP}), 1, 4, max_memory=1 << 40, notify=said.append
        )
        assert collected(made, prompts("llama")[:2], PARAMS) == wanted("llama", 2)
        assert "room for 576 tokens" in said[0]
        monkeypatch.setattr("llmpar.engine.cuda.model.free_memory", lambda _: beside + 10 * per_page)
        with pytest.raises(EngineFailed, match="too little memory left beside the model"):
            build_engine([CudaModel(decoder("llama"))], 256, frozenset({STOP}), 1, 4)

    def test_a_device_without_room_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        beside = decoder("llama").bytes_beside(runner.PASS_TOKENS, 4, 256)
        free = [beside, beside + 100 * decoder("llama").page_bytes]
        monkeypatch.setattr("llmpar.engine.cuda.model.free_memory", lambda _: free.pop(0))
        said: list[str] = []
        made = build_engine([CudaModel(decoder("llama"))] * 2, 256, frozenset({STOP}), 1, 4, warn=said.append)
        assert len(made.statuses) == 1
        assert said == [f"{decoder('llama').device} has too little memory left beside the model, and is left out"]
        assert collected(made, prompts("llama")[:2], PARAMS) == wanted("llama", 2)

    def test_too_little_is_refused(self) -> None:
        with pytest.raises(Exception, match=r"0\.01MB \(max_memory\) is too little"):
            build_engine([CudaModel(decoder("llama"))], 256, frozenset(), 1, 4, max_memory=10_000)


@pytest.mark.parametrize("prefix", [[9] * 300, [9, 9, 300], [9, -1]])
def test_a_beginning_that_cannot_be_read_takes_nothing_else_with_it(prefix: list[int]) -> None:
    good = [Request(i, prompt, PARAMS) for i, prompt in enumerate(prompts("llama")[:2])]
    found = ask(engine("llama", prefix=prefix), [*good, Request(9, [*prefix, 5], PARAMS)])
    assert [list(completion.output_ids) for completion in found[:2]] == wanted("llama", 2)
    assert found[2].error is not None
    assert ("do not fit the context of 256" if len(prefix) == 300 else "not among the model's 300") in found[2].error


def test_a_token_that_is_none_fails_alone() -> None:
    good = [Request(i, prompt, PARAMS) for i, prompt in enumerate(prompts("llama")[:3])]
    found = ask(engine("llama"), [*good, Request(9, [5, 300], PARAMS)])
    assert [list(completion.output_ids) for completion in found[:3]] == wanted("llama", 3)
    assert (found[3].error or "").startswith("ValueError: a token of the prompt is not among the model's 300")


def test_constraints_are_obeyed_and_neighbours_do_not_notice() -> None:
    options = [(10, 11, 12), (10, 11, 13, 14), (40,), (150, 151), (150, 31, 32)]
    asked = prompts("llama")[:FEW]
    held = [Request(i, prompt, PARAMS, constraint=lambda: OneOf(options)) for i, prompt in enumerate(asked)]
    free = [Request(FEW + i, prompt, PARAMS) for i, prompt in enumerate(asked)]
    found = ask(engine("llama", 1, 8), [*held, *free])
    assert [list(completion.output_ids) for completion in found[FEW:]] == wanted("llama")
    model = make_shallow("llama")
    for prompt, completion in zip(asked, found[:FEW], strict=True):
        rule, ids = OneOf(options), list(prompt)
        while not rule.is_complete:
            logits = model(torch.tensor([ids])).logits[0, -1]
            allowed = torch.from_numpy(unpack(mask(rule.following(rule.ids)), 300))
            token = int(logits.masked_fill(~allowed, -torch.inf).argmax())
            if token == STOP:
                break
            rule.accept(token)
            ids.append(token)
        assert tuple(completion.output_ids) == rule.ids


@pytest.mark.parametrize("num_free", [2, 0])
def test_who_obeys_nothing_does_not_wait_for_those_who_do(num_free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[set[int]] = []
    plain = runner.CudaRunner._give_out

    def noted(self: Any, rows: list[Sequence], *logits: Any) -> None:
        steps.append({sequence.request.id for sequence in rows})
        plain(self, rows, *logits)

    monkeypatch.setattr(runner.CudaRunner, "_give_out", noted)
    # The first three are forced, then there is a choice of two, and the rest is forced again.
    options = [(10, 11, 12, token, 14, 15) for token in (20, 21)]
    one, *others = prompts("llama")
    requests = [Request(number, prompt, SamplingParams(7)) for number, prompt in enumerate(others[:num_free])]
    requests.append(Request(9, one, SamplingParams(6), constraint=lambda: OneOf(options)))
    made = runner.CudaRunner(decoder("llama"), 4, 40, 256, frozenset({STOP}))
    made.start()
    assert all(map(made.reserve, requests))
    sequences = [Sequence(request) for request in requests]
    made.prefill(sequences)
    while live := [sequence for sequence in sequences if not sequence.finish_reason]:
        made.decode(live)
    assert tuple(sequences[-1].output_ids) in options
    assert [np.isnan(logprob) for logprob in sequences[-1].logprobs] == [True] * 3 + [False] + [True] * 2
    oracle = generated(make_shallow("llama"), others[:num_free], 7)
    assert [sequence.output_ids for sequence in sequences[:-1]] == oracle
    free = set(range(num_free))
    if num_free:  # they are in each step
        assert steps == [{*free, 9}] * 4 + [free] + [{*free, 9}] * 2
    else:
        assert steps == [{9}] * 6


def test_a_constraint_begins_behind_the_thoughts_which_are_free() -> None:
    options = [(10, 11, 12), (10, 11, 13, 14), (150, 151), (150, 31, 32)]
    params, model = SamplingParams(8, max_thinking_tokens=4), make_shallow("llama")
    held = [
        Request(i, prompt, params, constraint=lambda: OneOf(options), thoughts=partial(Brief, 2))
        for i, prompt in enumerate(prompts("llama")[:2])
    ]
    for request, completion in zip(held, ask(engine("llama", 1, 4), held), strict=True):
        opening, free, *said = completion.output_ids
        assert opening == OPENING
        assert free == int(model(torch.tensor([[*request.prompt_ids, opening]])).logits[0, -1].argmax())
        assert tuple(said) in options


def test_what_is_drawn_depends_on_neither_n_nor_batch() -> None:
    params = SamplingParams(LENGTH, temperature=1.0, top_p=0.9, seed=11)
    alone = answer("llama", 1, 1, params=params)
    assert alone != wanted("llama")
    assert answer("llama", 2, 3, params=params) == alone
    other = SamplingParams(LENGTH, 1.0, 0.9, seed=12)
    assert answer("llama", 1, 8, params=other, count=2) != alone[:2]


def scored(name: str, params: SamplingParams, make_rule: Any = None) -> list[Completion]:
    found: dict[int, Completion] = {}
    with engine(name) as running:
        for index, prompt in enumerate(prompts(name)[:FEW]):
            running.submit(Request(index, prompt, params, constraint=make_rule))
        while len(found) < FEW:
            completion = running.collect(timeout=60)
            assert completion is not None, "the engine hangs"
            found[completion.id] = completion
    return [found[index] for index in range(FEW)]


def log_softmax(name: str, prompt: list[int], output: SequenceOf[int]) -> torch.Tensor:
    model = make_shallow(name)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *output]]), use_cache=False).logits[0, len(prompt) - 1 :]
    return torch.log_softmax(logits.float(), -1)


@pytest.mark.parametrize("name", ["llama", "gemma2-softcap-window"])
@pytest.mark.parametrize("params", [PARAMS, SamplingParams(LENGTH, 1.5, 0.9, seed=11, num_others=3)])
def test_log_probabilities_are_those_of_transformers(name: str, params: SamplingParams) -> None:
    for prompt, completion in zip(prompts(name), scored(name, params), strict=False):
        expected = log_softmax(name, prompt, completion.output_ids)
        own = [float(row[token]) for row, token in zip(expected, completion.output_ids, strict=False)]
        assert completion.logprobs == pytest.approx(own, abs=1e-4)
        for row, others in zip(expected, completion.others, strict=False):
            assert [token for token, _ in others] == row.topk(3).indices.tolist()
            assert [logprob for _, logprob in others] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)


def test_a_mask_changes_no_log_probability() -> None:
    params = SamplingParams(LENGTH, weighs=True)
    for prompt, completion in zip(prompts("llama"), scored("llama", params, OneOf), strict=False):
        expected, rule = log_softmax("llama", prompt, completion.output_ids), OneOf()
        pairs = zip(completion.output_ids, completion.logprobs, completion.others, strict=False)
        for place, (token, logprob, others) in enumerate(pairs):
            if rule.forced():
                assert np.isnan(logprob)
                assert others == ()
            else:
                assert logprob == pytest.approx(float(expected[place][token]), abs=1e-4)
                assert {other for other, _ in others} == rule.following(rule.ids)
                assert dict(others)[token] == pytest.approx(logprob, abs=1e-4)
            rule.accept(token)


class TestChoose:
    """The kernel against `sampler.draw`."""

    def choose(
        self,
        logits: torch.Tensor,
        temperatures: list[float],
        top_ps: list[float],
        uniforms: list[float],
        masks: torch.Tensor | None = None,
        softcap: float = 0.0,
    ) -> tuple[list[int], list[int]]:
        count, vocabulary = logits.shape
        slots = torch.arange(count, dtype=torch.int32, device=DEVICE).flip(0)  # by row, the last slot first
        ids, positions, chosen, masked = (torch.zeros(count + 1, dtype=torch.int32, device=DEVICE) for _ in range(4))
        by_slot = [torch.tensor(values[::-1], device=DEVICE) for values in (temperatures, top_ps)]
        words, scores = -(-vocabulary // 32), torch.zeros(count, device=DEVICE)
        bits = torch.zeros(count, words, dtype=torch.int32, device=DEVICE)
        if masks is not None:
            bits, masked[:] = masks.flip(0).contiguous(), 1
        kernels.choose[(count,)](
            logits.to(DEVICE), vocabulary, slots, ids, positions, chosen, scores, count, *by_slot,
            torch.tensor(uniforms, device=DEVICE), masked, bits, words, softcap, BLOCK=64, num_warps=4,
        )  # fmt: skip
        found = chosen[:count].tolist()
        assert ids[:count].flip(0).tolist() == found
        assert positions[:count].tolist() == [1] * count
        return found, positions.tolist()

    def test_greedy_takes_the_first_of_the_likeliest(self) -> None:
        logits = torch.randn(4, 200)
        logits[1, [7, 70, 190]] = 9.0
        logits[2, 199] = 9.0
        assert self.choose(logits, [0.0] * 4, [1.0] * 4, [0.0] * 4)[0] == logits.argmax(-1).tolist()
        assert logits[1].argmax() == 7

    @pytest.mark.parametrize("top_p", [1.0, 0.9, 0.5, 1e-6])
    @pytest.mark.parametrize("softcap", [0.0, 5.0])
    def test_draws_are_those_of_the_sampler(self, top_p: float, softcap: float) -> None:
        torch.manual_seed(3)
        logits = 4 * torch.randn(8, 136)  # two whole blocks and a part of one
        uniforms = [0.0, 0.999999, *np.random.default_rng(5).random(6).tolist()]

        class Fixed(Sequence):
            def draw(self) -> float:
                return float(np.float32(self.started))

        real = torch.tanh(logits / softcap) * softcap if softcap else logits
        params = SamplingParams(1, 0.8, top_p)
        oracle = [
            draw(row.numpy(), Fixed(Request(0, [1], params), started=uniform))
            for row, uniform in zip(real, uniforms, strict=True)
        ]
        assert self.choose(logits, [0.8] * 8, [top_p] * 8, uniforms, softcap=softcap)[0] == oracle

    @pytest.mark.parametrize("top_p", [1.0, 0.9])
    def test_a_draw_at_the_very_end_takes_no_token_without_a_chance(self, top_p: float) -> None:
        """Sums of the same weights round differently; what lies between two of them is still a draw."""
        torch.manual_seed(6)
        logits = torch.full((30, 128), -1000.0)
        logits[:, :64] = torch.randn(30, 64)  # the first block; no token of the second may come
        below = float(np.nextafter(np.float32(1), np.float32(0)))
        found, _ = self.choose(logits, [1.0] * 30, [top_p] * 30, [below] * 30)
        assert max(found) < 64
        exact = torch.softmax(logits.double(), -1)
        assert all(exact[row, token] > 0 for row, token in enumerate(found))

    def test_only_what_may_come_comes(self) -> None:
        torch.manual_seed(4)
        logits = torch.randn(6, 200)
        allowed = [{3}, {5, 64, 199}, {199}, {31, 32}, {0, 63}, {100, 101, 102}]
        words = torch.zeros(6, 7, dtype=torch.int32)
        for row, ids in enumerate(allowed):
            for token in ids:
                words[row] |= torch.from_numpy(
                    as_bits(np.array([1 << (token % 32) if i == token // 32 else 0 for i in range(7)], np.uint32))
                )
        for temperature in (0.0, 3.0):
            found, _ = self.choose(logits, [temperature] * 6, [1.0] * 6, [0.7] * 6, words.to(DEVICE))
            assert all(token in ids for token, ids in zip(found, allowed, strict=True))

    @pytest.mark.parametrize("temperature", [0.0, 0.7])
    @pytest.mark.parametrize("softcap", [0.0, 5.0])
    @pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy, which interprets the kernel, has one for each
    def test_logits_that_are_not_finite_give_no_token(self, temperature: float, softcap: float) -> None:
        count, inf = 5, torch.inf
        logits = torch.zeros(count, 200)
        logits[0, 150], logits[1, 3], logits[2], logits[3, :199] = torch.nan, torch.nan if softcap else inf, -inf, -inf
        slots, none = (torch.arange(count, dtype=torch.int32, device=DEVICE) * k for k in (1, 0))
        ids, positions, chosen = (torch.full((count,), 9, dtype=torch.int32, device=DEVICE) for _ in range(3))
        scores = torch.zeros(count, device=DEVICE)
        masked, bits = none.clone(), torch.zeros(count, 7, dtype=torch.int32, device=DEVICE)
        logits[4, 150], masked[4], bits[4, 0] = torch.nan, 1, 1 << 7  # what may not come does not matter
        floats = [torch.full((count,), number, device=DEVICE) for number in (temperature, 1.0, 0.5)]
        if softcap:  # which makes a number of minus infinity
            logits[2] = torch.nan
        kernels.choose[(count,)](
            logits.to(DEVICE), 200, slots, ids, positions, chosen, scores, count, *floats, masked, bits, 7, softcap,
            BLOCK=64, num_warps=4,
        )  # fmt: skip
        assert chosen[[0, 1, 2, 4]].tolist() == [NO_TOKEN, NO_TOKEN, NO_TOKEN, 7]
        assert softcap or chosen[3] == 199
        assert ids[:3].tolist() == [0, 0, 0], "a step that is under way could not go on from it"
        assert positions.tolist() == [10] * count

    def test_the_slot_that_is_nobodys_stays(self) -> None:
        slots = torch.tensor([1, 1], dtype=torch.int32, device=DEVICE)
        ids, positions, chosen, none = (torch.zeros(2, dtype=torch.int32, device=DEVICE) for _ in range(4))
        floats, scores = torch.zeros(2, device=DEVICE), torch.zeros(2, device=DEVICE)
        kernels.choose[(2,)](
            torch.eye(2, 64, device=DEVICE), 64, slots, ids, positions, chosen, scores, 1, floats, floats, floats, none,
            none.view(1, 2), 2, 0.0, BLOCK=64, num_warps=4,
        )  # fmt: skip
        assert positions.tolist() == ids.tolist() == [0, 0]
        assert chosen.tolist() == [0, 1]


@cache
def with_bad_token(value: float) -> Decoder:
    model = deepcopy(make_shallow("llama")).to(DEVICE)
    model.model.embed_tokens.weight.data[298, 3] = value  # no model is tried with this token
    return build_decoder(model)


class TestNotFinite:
    @pytest.mark.parametrize(("value", "temperature"), [(torch.nan, 0), (-torch.inf, 1)])
    def test_a_piece_fails_and_its_neighbours_do_not_notice(self, value: float, temperature: float) -> None:
        params, options = SamplingParams(2, temperature, seed=4), [(10, 11), (10, 12), (40,)]
        requests = [
            Request(index, prompt, params, constraint=(lambda: OneOf(options)) if index > 1 else None)
            for index, prompt in enumerate(prompts("llama")[:4])
        ]
        bad = [
            replace(request, prompt_ids=[*request.prompt_ids[:-1], 298, 5]) if request.id % 2 else request
            for request in requests
        ]
        good = ask(engine("llama"), requests)
        made = build_engine(
            [CudaModel(with_bad_token(value))], 256, frozenset({STOP}), 1, 3, PREFIX, max_memory=1 << 25
        )
        for one, other in zip(ask(made, bad), good, strict=True):
            if one.id % 2:
                assert (one.finish_reason, one.error) == ("error", NOT_FINITE)
            else:
                assert (one.output_ids, one.error) == (other.output_ids, None)

    @pytest.mark.parametrize("worth", [16, 128])
    def test_a_beginning_fails_those_that_have_it(self, worth: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cuda_decoder, "_WORTH_SHARING", worth)
        beginning = [*range(40, 60), 298, *range(60, 72)]
        asked = [[*beginning, 5], [5, 6], [*beginning, 6, 7], [7, 8, 9]]
        made = build_engine(
            [CudaModel(with_bad_token(torch.nan))], 256, frozenset({STOP}), 1, 4, beginning, max_memory=1 << 25
        )
        found = ask(made, [Request(index, prompt, SamplingParams(1)) for index, prompt in enumerate(asked)])
        assert [completion.error for completion in found] == [NOT_FINITE, None, NOT_FINITE, None]

    @pytest.mark.parametrize("kind", ["k_proj", "norm"])
    def test_a_model_is_not_taken_on_trial(self, kind: str) -> None:
        model = deepcopy(make_shallow("llama")).to(DEVICE)
        [first, *_] = [weight for name, weight in model.named_parameters() if f"{kind}." in name]
        first.data.view(-1)[5] = torch.nan
        with pytest.raises(OtherShape):
            build_decoder(model)
