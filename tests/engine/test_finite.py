"""Weights that are no finite numbers: the model is refused, or the piece fails alone. On every path, never an answer.

What a decoder of our own or transformers' module is made of gets NaN, infinities and denormals, one kind at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.constraints import OneOf
from support.engines import run_to_end
from support.program import Outcome
from support.tiny_models import build, decoder, make, ready, rounded

from llmpar.engine.build import build_engine
from llmpar.engine.cpu.decoder import Decoder
from llmpar.engine.cpu.floats import stored
from llmpar.engine.cpu.from_transformers import build_decoder
from llmpar.engine.cpu.precision import FP32, PRECISIONS
from llmpar.engine.cpu.projection import Projection
from llmpar.engine.cpu.team import ALONE
from llmpar.engine.engine import Engine
from llmpar.engine.finite import NO_TOKEN, NOT_FINITE, likeliest
from llmpar.engine.generic import attention
from llmpar.engine.generic.model_runner import ModelRunner
from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.ranks.runner import Mirrors
from llmpar.engine.request import Completion, Request, SamplingParams, Sequence
from llmpar.engine.sampler import draw, sample
from llmpar.errors import ModelUnavailable, UsageError
from llmpar.models.load import load_model
from llmpar.tasks.question import LEAST_TEMPERATURE, Sampling

BITS = {"nan": 0x7FC00000, "nan-of-ones": 0x7FFFFFFF, "-nan": 0xFFFFFFFF, "inf": 0x7F800000, "-inf": 0xFF800000}
VALUES = {name: np.array(bits, np.uint32).view(np.float32)[()] for name, bits in BITS.items()}
DENORMAL = np.float32(1e-40)
BAD = 298  # a token that no model is tried with, and that is in no good prompt
PREFIX = [7, 7, 30, 31, 200, 201, 8, 9, 10, 11, 12, 250, 17, 18, 19, 20, 21]
LENGTH = 4
GREEDY, DRAWN = SamplingParams(LENGTH), SamplingParams(LENGTH, temperature=1.0, top_p=0.9, seed=3)
KINDS = (
    "embed_tokens", "input_layernorm", "q_proj", "k_proj", "v_proj", "q_norm", "k_norm", "o_proj",
    "post_attention_layernorm", "gate_proj", "up_proj", "down_proj", "model.norm", "lm_head",
)  # fmt: skip

NO_LOGITS = np.empty((0, 0), np.float32)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("cpu", "generic"):
        monkeypatch.setattr(f"llmpar.engine.{kind}.model.usable_cores", lambda: 1)


def prompts() -> list[list[int]]:
    """Return prompts of many lengths, most with the prefix, of which every third has BAD within, the longest first."""
    random = np.random.default_rng(5)
    lengths = [60, 3, 5, 40, 30, 8, 25, 20, 2, 50, 35, 7]
    asked = [
        [*(PREFIX if index % 4 else ()), *random.integers(3, BAD, length).tolist()]
        for index, length in enumerate(lengths)
    ]
    for prompt in asked[::3]:
        prompt[-2] = BAD
    return asked


def ask(engine: Engine, params: SamplingParams, asked: list[list[int]], rule: Any = None) -> list[Completion]:
    found: dict[int, Completion] = {}
    with engine:
        for index, prompt in enumerate(asked):
            engine.submit(Request(index, prompt, params, constraint=rule))
        while len(found) < len(asked):
            completion = engine.collect(timeout=60)
            assert completion is not None, "the engine hangs"
            found[completion.id] = completion
    return [found[index] for index in sorted(found)]


def weight_of(model: Any, kind: str) -> torch.Tensor:
    [first, *_] = [weight for name, weight in model.named_parameters() if f"{kind}." in name]
    return first.data


def put(model: Any, kind: str, value: np.float32) -> Any:
    """Return the model with one number of a weight replaced; of an embedding one that is looked at when it is tried."""
    weight = weight_of(model, kind)
    weight.view(torch.int32).view(-1)[7919 % 300 * 64 if kind == "embed_tokens" else 5] = int(value.view(np.int32))
    return model


class TestTrial:
    @pytest.fixture
    def save(self, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
        def saved(model: Any) -> Path:
            path = tmp_path_factory.mktemp("model")
            model.save_pretrained(path)
            return path

        return saved

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("value", VALUES)
    def test_weights_are_refused_whatever_computes(self, save: Callable[..., Path], kind: str, value: str) -> None:
        path = save(put(deepcopy(make("qwen3")), kind, VALUES[value]))
        for precision in PRECISIONS if value == "nan" else ("bf16",):
            with pytest.raises(ModelUnavailable, match=r"are not finite numbers.*even for a short text") as told:
                load_model(path, "cpu", precision)
            assert "\n" not in str(told.value)

    @pytest.mark.parametrize("theta", [0.0, -10000.0])
    def test_so_are_settings(self, save: Callable[..., Path], theta: float) -> None:
        path = save(make("llama"))
        config = path / "config.json"
        before = config.read_text()
        config.write_text(before.replace('"rope_theta": 10000.0', f'"rope_theta": {theta}'))
        assert config.read_text() != before
        with pytest.raises(ModelUnavailable, match="not finite"):
            load_model(path, "cpu", "fp32")

    @pytest.mark.parametrize("name", ["bloom", "t5"])
    def test_models_of_other_shapes_are_tried_through_torch(self, save: Callable[..., Path], name: str) -> None:
        model = MAKE[name]()
        good = save(model)
        assert load_model(good, "cpu", "fp32").models[0] is not None
        kind = {"bloom": "ln_f", "t5": "final_layer_norm"}[name]
        weight_of(model, kind)[3] = torch.nan
        with pytest.raises(ModelUnavailable, match="not finite"):
            load_model(save(model), "cpu", "fp32")

    def test_what_cannot_be_tried_is_refused_in_one_line(
        self, save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = save(MAKE["bloom"]())

        def fail(*_: object, **__: object) -> None:
            raise ZeroDivisionError("of its own\nand more")

        monkeypatch.setattr("transformers.BloomForCausalLM.forward", fail)
        with pytest.raises(ModelUnavailable, match=r"cannot read a short text: ZeroDivisionError: of its own$"):
            load_model(path, "cpu", "fp32")


@cache
def other(kind: str, **changes: Any) -> Any:
    return build(kind, tie_word_embeddings=False, **changes)


def t5() -> Any:
    from support.translators import make as make_seq2seq

    return deepcopy(make_seq2seq("t5-gated-untied"))


MAKE: dict[str, Callable[[], Any]] = {
    "fp32": lambda: deepcopy(make("qwen3")),
    "bf16": lambda: deepcopy(make("qwen3")),
    "int8": lambda: deepcopy(make("qwen3")),
    "int4": lambda: rounded(make("qwen3")),
    "torch": lambda: deepcopy(make("qwen3")),
    "bloom": lambda: deepcopy(other("BloomConfig", n_head=4, n_layer=2)),
    "t5": t5,
}


@cache
def with_bad_token(path: str, value: str) -> Any:
    """Return what an engine is built over, where the embedding of BAD has one number that is none; "" for none."""
    model = MAKE[path]()
    if path == "t5":  # else all rows would score the token
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
        model.generation_config.suppress_tokens = [119]  # nor may a neighbour read it, having said it
    embedding = model.get_input_embeddings().weight.data
    if value:
        embedding[min(BAD, len(embedding) - 1), 3] = torch.from_numpy(np.array(VALUES[value]))
    return build_decoder(model, path) if path in PRECISIONS else model  # type: ignore[arg-type]


def answered(path: str, value: str, params: SamplingParams, rule: Any, batch: int) -> list[Completion]:
    asked = prompts()
    if path == "t5":  # fewer tokens, and what the decoder opens with
        asked = [[119 if token == BAD else 3 + token % 110 for token in prompt] + [0] for prompt in asked]
    model = with_bad_token(path, value)
    model = model if path in PRECISIONS else deepcopy(model)
    return ask(build_engine([ready(model)], 256, frozenset({2}), 1, batch, PREFIX), params, asked, rule)


@pytest.mark.parametrize("path", MAKE)
@pytest.mark.parametrize("params", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("form", [False, True], ids=["free", "form"])
class TestPieces:
    def test_one_fails_and_its_neighbours_do_not_notice(self, path: str, params: SamplingParams, form: bool) -> None:
        # Of some only the last token is one of several; what comes before is no choice.
        rule = (lambda: OneOf([(10, 11, 12), (10, 11, 13), (10, 40)])) if form else None
        good = answered(path, "", params, rule, 4)
        assert not any(completion.error for completion in good)
        for value in VALUES if path in PRECISIONS else ("nan", "inf", "-inf"):
            for batch in (3, 16):
                found = answered(path, value, params, rule, batch)
                for index, (one, other) in enumerate(zip(found, good, strict=True)):
                    if index % 3:
                        assert (one.output_ids, one.error) == (other.output_ids, None), (value, batch, index)
                    else:
                        assert (one.finish_reason, one.error) == ("error", NOT_FINITE), (value, batch, index)

    def test_so_do_all_that_begin_alike_with_it(self, path: str, params: SamplingParams, form: bool) -> None:
        if path == "t5":
            pytest.skip("an encoder reads every prompt whole")
        rule = OneOf if form else None
        asked = [[*PREFIX[:9], BAD, 5, 6, 7], [9, 8, 7], [*PREFIX[:9], BAD, 5], [9, 8, 7, 6, 5, 4, 3] * 5]
        model = deepcopy(with_bad_token(path, "nan"))
        engine = build_engine([ready(model)], 256, frozenset({2}), 1, 4, [*PREFIX[:9], BAD])
        errors = [completion.error for completion in ask(engine, params, asked, rule)]
        assert errors == [NOT_FINITE, None, NOT_FINITE, None]


def test_two_that_fail_at_once_leave_nothing_in_their_slots() -> None:
    """The second moves to the slot of the first, before anybody has released it, and so was in two."""
    model = deepcopy(with_bad_token("torch", "nan"))
    attention.take_over(model)
    bad, good = [[9] * 40 + [BAD, 9]] * 2, [[9] * 7, [9] * 6]

    def run(runner: ModelRunner, asked: list[list[int]]) -> list[tuple[list[int], str | None]]:
        sequences = [Sequence(Request(i, prompt, SamplingParams(4))) for i, prompt in enumerate(asked)]
        assert all(runner.reserve(sequence.request) for sequence in sequences)
        run_to_end(runner, sequences)
        return [(sequence.output_ids, sequence.error) for sequence in sequences]

    expected = run(ModelRunner(model, 2, frozenset({2})), good)
    assert [error for _, error in expected] == [None, None]
    runner = ModelRunner(model, 2, frozenset({2}))
    assert run(runner, bad) == [([], NOT_FINITE)] * 2
    assert run(runner, good) == expected


def damaged(model: Decoder, kind: str, value: np.float32) -> Decoder:
    """Return a decoder with one number of a kind of its arrays replaced, as in a pack that was damaged."""
    model = deepcopy(model)
    layer = model.layers[1]

    def inside(projection: Projection, row: int) -> None:
        panel, lane = divmod(row, 48)
        if projection.factors.dtype == np.uint16:
            projection.factors[panel, 0, lane] = np.array(value, np.float16).view(np.uint16)
        elif projection.dot.is_integer:
            projection.factors[panel, 0, lane] = value
        else:
            projection.weight[panel, 1, lane, 0] = stored(np.array([value]), model.precision.weights)[0]

    rows = {"q": (layer.qkv[0], 3), "k": (layer.qkv[0], 70), "v": (layer.qkv[0], 100), "output": (layer.output, 3),
            "gate": (layer.gate_up[0], 3), "up": (layer.gate_up[0], 100), "down": (layer.down, 3),
            "head": (model.head, 9)}  # fmt: skip
    norms = {"attention_norm": layer.attention_norm, "q_norm": layer.head_norms[0], "k_norm": layer.head_norms[1],
             "mlp_norm": layer.mlp_norm, "final_norm": model.final_norm}  # fmt: skip
    if kind in rows:
        inside(*rows[kind])
    elif kind in norms:
        norms[kind][3] = value
    elif kind == "rope":
        model.ropes[0].frequencies[2] = value
    else:
        model = replace(model, embedding_scale=float(value))
    return model


class TestKernels:
    """Whatever is compiled to believe that there are only finite numbers."""

    @pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of the angles, which numpy computes
    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize(
        "kind",
        ["q", "k", "v", "output", "gate", "up", "down", "head", "attention_norm", "q_norm", "k_norm", "mlp_norm",
         "final_norm", "rope", "scale"],
    )  # fmt: skip
    def test_nothing_finite_is_made_of_them(self, precision: PrecisionName, kind: str) -> None:
        for name, value in VALUES.items():
            if kind in {"head", "final_norm"} and "nan" not in name:
                continue  # a token's logit is minus infinity then, which may be
            model = damaged(decoder("qwen3", precision), kind, value)
            for params in (GREEDY, DRAWN):
                asked = [[5, 6, 7], [9] * 20]
                found = ask(build_engine([ready(model)], 256, frozenset({2}), 1, 2), params, asked)
                assert [completion.error for completion in found] == [NOT_FINITE] * 2, (name, params)

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_denormals_are_as_good_as_zero(self, precision: PrecisionName) -> None:
        for kind in KINDS:
            answers = []
            for value in (DENORMAL, np.float32(0)):
                model = put(MAKE[precision](), kind, value)
                asked = [prompt for prompt in prompts() if BAD not in prompt]
                engines = [[build_decoder(deepcopy(model), precision)], [model]] if precision == "fp32" else [
                    [build_decoder(model, precision)]]  # fmt: skip
                for models in engines:
                    found = ask(build_engine(list(map(ready, models)), 256, frozenset({2}), 1, 4), GREEDY, asked)
                    answers.append([(list(completion.output_ids), completion.error) for completion in found])
            assert all(answer == answers[0] for answer in answers), kind

    @pytest.mark.parametrize("value", [*VALUES, "lowest"])
    @pytest.mark.parametrize("biased", [False, True])
    @pytest.mark.parametrize("place", [0, 47, 48, 149])
    def test_the_rule_about_logits(self, value: str, biased: bool, place: int) -> None:
        from llmpar.engine.cpu import kernels

        number = VALUES.get(value, np.finfo(np.float32).min)
        weight, bias = np.zeros((150, 4), np.float32), np.arange(150, dtype=np.float32)[::-1].copy()
        weight[:, 0] = 1 if biased else bias
        bias[place] = number
        weight[place, 0] = 1 if biased else number
        x = np.zeros((16, 4), np.float32)
        x[:, 0] = 1
        ids, packed = np.zeros(3, np.int32), Projection.pack(weight, None, FP32)
        masks = np.zeros((1, 5), np.uint32)
        other = 100
        for channel in (place, other):
            masks[0, channel // 32] |= np.uint32(1) << np.uint32(channel % 32)
        masks = np.vstack([masks, masks])
        masks[1, place // 32] ^= np.uint32(1) << np.uint32(place % 32)  # what may not come does not matter
        kernels.likeliest(
            ALONE, x, np.ones((16, 0), np.float32), packed.weights,
            bias if biased else np.zeros(0, np.float32), 150, np.float32(0), masks, np.array([-1, 0, 1], np.int32),
            np.zeros(3, np.uint8), np.full(3, -1, np.int32), ids, np.zeros((3, 3), np.float32), NO_LOGITS,
        )  # fmt: skip
        # A product with the other zeros of x makes NaN of an infinite weight.
        is_low = value == "lowest" or value == "-inf"
        assert ids.tolist() == [1 if place == 0 else 0, other, other] if is_low else [NO_TOKEN, NO_TOKEN, other]

    def test_a_row_without_a_finite_logit_has_no_token(self) -> None:
        from llmpar.engine.cpu import kernels

        packed = Projection.pack(np.zeros((50, 4), np.float32), None, FP32)
        ids = np.zeros(1, np.int32)
        kernels.likeliest(
            ALONE, np.ones((16, 4), np.float32), np.ones((16, 0), np.float32), packed.weights,
            np.full(50, -np.inf, np.float32), 50, np.float32(0), np.zeros((0, 2), np.uint32), np.array([-1], np.int32),
            np.ones(1, np.uint8), np.full(1, -1, np.int32), ids, np.zeros((1, 3), np.float32), NO_LOGITS,
        )  # fmt: skip
        assert ids.tolist() == [NO_TOKEN]


class TestSampler:
    def row(self, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0) -> Sequence:
        return Sequence(Request(0, [seed], SamplingParams(2, temperature, top_p, seed)))

    def test_the_rule(self) -> None:
        inf, nan = np.inf, np.nan
        logits = torch.tensor([[1, 2, -inf], [nan, 2, 1], [1, inf, 2], [-inf, -inf, -inf], [-inf, -inf, 0]])
        assert likeliest(logits).tolist() == [1, NO_TOKEN, NO_TOKEN, NO_TOKEN, 2]
        for temperature in (0.0, 1.0):
            found = [choice.token_id for choice in sample(logits, [self.row(temperature) for _ in logits])]
            assert found[0] in {0, 1}
            assert found[1:] == [NO_TOKEN, NO_TOKEN, NO_TOKEN, 2]

    @pytest.mark.parametrize("temperature", [5e-324, 1e-320, 1e-300, 1e-40, 1e-10, 1e-5])
    @pytest.mark.parametrize("top_p", [1.0, 5e-324, 0.0, 0.5])
    def test_however_low_the_temperature_no_number_overflows(self, temperature: float, top_p: float) -> None:
        logits = np.array([-np.inf, -3e38, 3.0, 3e38, 5.0], np.float32)
        assert {draw(logits, self.row(temperature, top_p, seed)) for seed in range(20)} == {3}

    def test_one_that_failed_takes_no_more(self) -> None:
        sequence = self.row()
        for token_id in (5, NO_TOKEN, 6):
            sequence.append(token_id, frozenset({2}))
        assert (sequence.output_ids, sequence.finish_reason, sequence.error) == ([5], "error", NOT_FINITE)


class TestSampling:
    @pytest.mark.parametrize("temperature", [0.0, -0.0, 5e-324, 1e-320, 1e-40, 9e-6])
    def test_a_temperature_of_almost_nothing_is_0(self, temperature: float) -> None:
        assert Sampling(temperature=temperature) == Sampling()
        assert str(Sampling(temperature=temperature).temperature) == "0.0"
        assert Sampling(temperature=LEAST_TEMPERATURE).temperature == LEAST_TEMPERATURE

    @pytest.mark.parametrize("wrong", [{"temperature": np.nan}, {"temperature": -1e-320}, {"temperature": np.inf},
                                       {"top_p": np.nan}, {"top_p": -1.0}, {"top_p": 1.1}])  # fmt: skip
    def test_what_is_out_of_range_is_refused(self, wrong: dict[str, float]) -> None:
        with pytest.raises(UsageError, match=f"{next(iter(wrong))} .*: must be 0 or more, up to"):
            Sampling(**wrong)


class TestCommands:
    ARGUMENTS = ("Say it: {text}", "-u", "line", "--max-new-tokens", "5", "-q", "--device", "cpu")

    @pytest.fixture
    def model(self, tiny_model: Path, tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
        import shutil

        from transformers import AutoModelForCausalLM

        def changed(change: Callable[[Any], None]) -> Path:
            path = Path(shutil.copytree(tiny_model, tmp_path / "tiny"))
            model = AutoModelForCausalLM.from_pretrained(path)
            change(model)
            model.save_pretrained(path)
            return path

        return changed

    def test_69_where_nothing_can_be_answered(
        self, model: Callable[..., Path], llmpar: Callable[..., Outcome], tmp_path: Path
    ) -> None:
        path = model(lambda made: weight_of(made, "model.norm").fill_(torch.nan))
        done = llmpar("run", *self.ARGUMENTS, "-m", str(path), stdin=b"One.\nTwo.\n")
        assert (done.code, done.out) == (69, b"")
        assert done.err.count("\n") == 1
        assert NOT_FINITE in done.err

    @pytest.mark.parametrize("more", [(), ("--temperature", "1"), ("--choices", "red,blue")])
    def test_3_where_one_piece_cannot(
        self, model: Callable[..., Path], llmpar: Callable[..., Outcome], tiny_model: Path, more: tuple[str, ...]
    ) -> None:
        from tokenizers import Tokenizer

        token_id = Tokenizer.from_file(str(tiny_model / "tokenizer.json")).encode("~").ids[0]

        def change(made: Any) -> None:
            made.get_input_embeddings().weight.data[token_id, 0] = torch.nan

        path, arguments = model(change), (*self.ARGUMENTS, *more, "--check", "empty")
        whole = llmpar(
            "run",
            *arguments,
            "-m",
            str(tiny_model),
            stdin=b"One.\nTwo.\nThree.\n",
        )
        assert whole.code == 0, whole.err
        one, _, three = whole.out.splitlines()
        for _ in range(2):  # nothing of the piece that failed is kept, nor is there anything else to find
            done = llmpar("run", *arguments, "-m", str(path), stdin=b"One.\nT~o.\nThree.\n")
            assert done.code == 3
            assert done.out.splitlines() == [one, b"T~o.", three]
            assert NOT_FINITE in done.err

    def test_a_temperature_of_almost_nothing_is_0(self, llmpar: Callable[..., Outcome], tiny_model: Path) -> None:
        arguments = ("run", *self.ARGUMENTS, "-m", str(tiny_model), "--no-store")
        greedy = llmpar(*arguments, stdin=b"One.\nTwo.\n")
        for temperature in ("1e-320", "1e-40", "1e-10"):
            assert llmpar(*arguments, "--temperature", temperature, stdin=b"One.\nTwo.\n") == greedy


def test_a_mirror_ends_as_rank_0s_sequence_did() -> None:
    """So that every rank wipes what a failed one leaves."""
    from support.fakes import FakeRunner

    class Watched(FakeRunner):
        def release(self, sequence: Sequence) -> None:
            released.append(sequence.finish_reason)
            super().release(sequence)

    released: list[Any] = []
    mirrors = Mirrors(Watched())
    for number in (1, 2):
        mirrors.reserve(number, [5], 3)
    mirrors.prefill([1, 2])
    mirrors.release(1, "error")
    mirrors.release(2, "stop")
    assert released == ["error", "stop"]
