"""Encoder-decoders: greedy fp32 equals `generate`, whatever N and the batch, also for answers that are continued."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.device_faults import FAULTS, failing_at
from support.engines import run_to_end
from support.places import names
from support.translators import KINDS, gemma3, make

from llmpar.engine.build import build_engine
from llmpar.engine.cpu.model import CpuModel
from llmpar.engine.engine import Engine
from llmpar.engine.generic.model import TorchModel
from llmpar.engine.generic.padded_runner import PaddedRunner
from llmpar.engine.generic.seq2seq_batch import form_batches, suppressed_ids
from llmpar.engine.request import Request, SamplingParams, Sequence
from llmpar.errors import ModelUnavailable, UsageError
from llmpar.models.load import load_model

NEW = 14
PARAMS = SamplingParams(NEW)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("cpu", "generic"):
        monkeypatch.setattr(f"llmpar.engine.{kind}.model.usable_cores", lambda: 1)


@cache
def sources() -> list[list[int]]:
    """Return what encoders read: 2 to 41 ids, as texts are that end with the token for it."""
    draw = random.Random(7)
    return [[draw.randrange(3, 115) for _ in range(draw.randrange(1, 41))] + [2] for _ in range(24)]


@cache
def stop_ids(kind: str) -> frozenset[int]:
    """Return what ends answers: beside the model's own token one that comes often enough."""
    counted = Counter(token_id for answer in generated(kind, NEW, ()) for token_id in answer[3:])
    return frozenset({token_id for token_id, _ in counted.most_common(2)[1:]} | {make(kind).config.eos_token_id})


@cache
def expected(kind: str, max_new_tokens: int = NEW) -> list[list[int]]:
    """Return what `generate` answers to each source alone, without what ends it."""
    return generated(kind, max_new_tokens, stop_ids(kind))


def generated(kind: str, max_new_tokens: int, stops: Iterable[int], model: Any = None) -> list[list[int]]:
    model, opening = model or make(kind), KINDS[kind][3]
    answers = []
    for source in sources():
        ids = torch.tensor([source])
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            decoder_input_ids=torch.tensor([opening]),
            max_new_tokens=max_new_tokens,
            num_beams=1,
            do_sample=False,
            eos_token_id=list(stops),
        )
        answer = output[0, len(opening) :].tolist()
        answers.append(answer[:-1] if answer[-1] in stops else answer)
    return answers


def ask(kind: str, index: int, num_answered: int = 0, params: SamplingParams = PARAMS) -> Request:
    """Return the request for a source, of whose answer some tokens are there already."""
    earlier = expected(kind)[index][:num_answered]
    return Request(index, [*sources()[index], *KINDS[kind][3], *earlier], params, len(earlier))


def answers(model: Any, kind: str, asked: list[Request], workers: int, batch: int, **options: Any) -> list[list[int]]:
    opening = len(KINDS[kind][3])
    engine = build_engine([TorchModel(model)], 128, stop_ids(kind), workers, batch, num_opening=opening, **options)
    return collected(engine, asked)


def collected(engine: Engine, asked: list[Request]) -> list[list[int]]:
    """Return an engine's answers in order, and close it."""
    found: dict[int, list[int]] = {}
    with engine:
        for request in asked:
            engine.submit(request)
        while len(found) < len(asked):
            completion = engine.collect(timeout=60)
            assert completion is not None, "the engine hangs"
            assert completion.error is None, completion.error
            found[completion.id] = list(completion.output_ids)
    return [found[request.id] for request in asked]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (1, 16), (2, 5)])
def test_greedy_equals_generate_token_for_token(kind: str, workers: int, batch: int) -> None:
    everything = expected(kind)
    assert len({tuple(answer) for answer in everything}) > 0.7 * len(everything), "the oracle answers everything alike"
    assert 2 < sum(len(answer) < NEW for answer in everything) < 21, "too few, or too many, come to an end"
    asked = [ask(kind, index) for index in range(len(sources()))]
    assert answers(deepcopy(make(kind)), kind, asked, workers, batch) == everything


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("workers", "batch"), [(1, 16), (2, 5)])
def test_an_answer_that_is_continued_is_the_answer(kind: str, workers: int, batch: int) -> None:
    parts = [index % 5 * 3 for index in range(len(sources()))]  # most begin anew, or in the middle like others
    asked = [ask(kind, index, part) for index, part in enumerate(parts)]
    rests = answers(make(kind), kind, asked, workers, batch)
    for index, (request, rest, whole) in enumerate(zip(asked, rests, expected(kind, 2 * NEW), strict=True)):
        earlier = request.prompt_ids[len(request.prompt_ids) - request.num_answered :]
        if len(whole) > request.num_answered or not request.num_answered:
            assert [*earlier, *rest] == whole[: request.num_answered + NEW], index


def test_the_encoder_reads_each_prompt_once() -> None:
    model = deepcopy(make("m2m100"))
    read: list[int] = []
    model.get_encoder().register_forward_pre_hook(
        lambda _module, _positional, given: read.append(int(given["attention_mask"].sum())), with_kwargs=True
    )
    asked = [ask("m2m100", index) for index in range(len(sources()))]
    answers(model, "m2m100", asked, 1, 16)
    assert sum(read) == sum(map(len, sources()))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_have_ended_are_not_computed_along_for_ever(kind: str) -> None:
    model = deepcopy(make(kind))
    rows: list[int] = []
    model.get_decoder().register_forward_pre_hook(
        lambda _module, _positional, given: rows.append(len(given["input_ids"])), with_kwargs=True
    )
    lengths = [14, 1, 2, 3, 3, 4, 9, 14]
    sequences = [Sequence(ask(kind, index, params=SamplingParams(length))) for index, length in enumerate(lengths)]
    form = partial(form_batches, num_opening=len(KINDS[kind][3]))
    runner = PaddedRunner(model, 8, stop_ids(kind), form_batches=form)
    run_to_end(runner, sequences)
    found = [sequence.output_ids for sequence in sequences]
    assert found == [answer[:length] for answer, length in zip(expected(kind), lengths, strict=False)]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] == 8
    assert rows[-1] < 4


@pytest.mark.parametrize("kind", ["m2m100", "t5"])
def test_little_memory_changes_nothing(kind: str) -> None:
    # 2 layers, keys and values, of 32 numbers of 4 bytes: room for three rows of 128.
    asked = [ask(kind, index) for index in range(len(sources()))]
    said: list[str] = []
    found = answers(make(kind), kind, asked, 1, 16, max_memory=3 * 128 * 2 * 2 * 32 * 4, notify=said.append)
    assert found == expected(kind)
    assert "up to 0 MB" in said[0]
    with pytest.raises(UsageError, match="too little for the texts on their way"):
        build_engine([TorchModel(make(kind))], 128, frozenset(), 1, 16, max_memory=100 * 2 * 2 * 32 * 4)


class TestSuppressed:
    def test_forbidden_ids_do_not_come_out(self) -> None:
        model = deepcopy(make("m2m100"))
        first = [answer[0] for answer in expected("m2m100") if answer]
        forbidden = sorted(set(first))[:3]
        model.generation_config.bad_words_ids = [[forbidden[0]], [forbidden[1]]]
        model.generation_config.suppress_tokens = forbidden[2:]
        asked = [ask("m2m100", index) for index in range(len(sources()))]
        found = answers(model, "m2m100", asked, 1, 16)
        assert not {token_id for answer in found for token_id in answer} & set(forbidden)
        assert found == generated("m2m100", NEW, stop_ids("m2m100"), model)

    def test_what_ends_an_answer_and_words_of_several_ids_are_not_among_them(self) -> None:
        model = deepcopy(make("t5"))
        model.generation_config.bad_words_ids = [[7], [1], [3, 4], [500]]
        assert suppressed_ids(model, frozenset({1})) == [7]

    @pytest.mark.parametrize("damage", [7, "x", [None], [["x"]], [[-1]], {"a": 1}, [], None])
    def test_damage_forbids_nothing(self, damage: Any) -> None:
        model = deepcopy(make("t5"))
        model.generation_config.bad_words_ids = model.generation_config.suppress_tokens = damage
        assert suppressed_ids(model, frozenset()) == []


class TestFaults:
    @pytest.mark.parametrize(("steps", "error"), FAULTS, ids=str)
    def test_what_failed_is_computed_again(self, steps: set[int], error: BaseException) -> None:
        model = deepcopy(make("m2m100"))
        model.model.decoder.layers[1].register_forward_pre_hook(failing_at(steps, error))
        asked = [ask("m2m100", index, index % 3) for index in range(len(sources()))]
        wanted = answers(make("m2m100"), "m2m100", asked, 1, 1)
        engine = build_engine([TorchModel(model)], 128, stop_ids("m2m100"), 2, 16, num_opening=2)
        assert collected(engine, asked) == wanted
        for worker in engine._workers:
            runner: Any = worker._runner
            assert runner._batches == [], "its keys and values are still there"
            assert runner._room.is_empty

    def test_what_fails_alone_takes_nobody_with_it(self) -> None:
        model = deepcopy(make("marian"))
        bad = Request(99, [5] * 200 + [119], PARAMS)  # more than it has positions for
        asked = [ask("marian", index) for index in range(8)]
        found: dict[int, list[int]] = {}
        with build_engine([TorchModel(model)], 1000, stop_ids("marian"), 1, 16) as engine:
            for request in [*asked, bad]:
                engine.submit(request)
            while len(found) < 9:
                completion = engine.collect(timeout=60)
                assert completion is not None
                assert (completion.error is not None) == (completion.id == 99)
                found[completion.id] = list(completion.output_ids)
        assert [found[index] for index in range(8)] == expected("marian")[:8]

    def test_nothing_is_computed_before_every_row_can_be_released(self) -> None:
        sequences = [Sequence(ask("t5", index, index)) for index in range(4)]
        batches = form_batches(None, sequences, 1)
        assert [[row.request.id for row in batch.rows if row] for batch in batches] == [[0], [1], [2], [3]]


class TestLoad:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_directory_becomes_what_was_saved(self, kind: str, tmp_path: Path) -> None:
        make(kind).save_pretrained(tmp_path / "model")
        before = names(tmp_path / "model")
        said: list[str] = []
        loaded = load_model(tmp_path / "model", "cpu", "fp32", notify=said.append)
        assert names(tmp_path / "model") == before
        assert loaded.is_encoder_decoder
        assert (loaded.precision, loaded.arithmetic) == ("fp32", "fp32 through torch")
        assert loaded.stop_ids == frozenset({make(kind).config.eos_token_id})
        assert loaded.context_length == (2048 if kind.startswith("t5") else 128)
        assert ["runs through torch" in line for line in said] == [True]
        asked = [ask(kind, index) for index in range(6)]
        assert answers(loaded.models[0].module, kind, asked, 2, 2) == expected(kind)[:6]

    def test_missing_weights_are_refused(self, tmp_path: Path) -> None:
        model = make("m2m100")
        weights = {name: value for name, value in model.state_dict().items() if "decoder.layers.1.fc2" not in name}
        model.save_pretrained(tmp_path, state_dict=weights)
        with pytest.raises(ModelUnavailable, match=r"has no weights for model\.decoder\.layers\.1\.fc2"):
            load_model(tmp_path, "cpu", "fp32")

    def test_pickled_weights_are_refused(self, tmp_path: Path) -> None:
        make("t5").config.save_pretrained(tmp_path)
        torch.save(make("t5").state_dict(), tmp_path / "pytorch_model.bin")
        with pytest.raises(ModelUnavailable, match="cannot be loaded"):
            load_model(tmp_path, "cpu", "fp32")


@pytest.mark.parametrize("naming", ["as-saved", "model.language_model", "untied"])
def test_of_a_model_for_images_the_part_for_text_is_loaded(tmp_path: Path, naming: str) -> None:
    from safetensors.torch import load_file, save_file

    model = gemma3(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    assert any(name.startswith("vision_tower.") for name in weights)
    if naming == "model.language_model":
        weights = {name.replace("language_model.model.", "model.language_model."): weights[name] for name in weights}
    elif naming == "untied":
        weights["language_model.lm_head.weight"] = weights["language_model.model.embed_tokens.weight"].clone()
    save_file(weights, file, metadata={"format": "pt"})
    loaded = load_model(tmp_path, "cpu", "fp32")
    assert isinstance(loaded.models[0], CpuModel)
    assert not loaded.is_encoder_decoder
    assert loaded.context_length == 256
    prompts = [[2, *source] for source in sources()[:6]]
    with build_engine(loaded.models, 256, frozenset({1}), 1, 4) as engine:
        for index, prompt in enumerate(prompts):
            engine.submit(Request(index, prompt, PARAMS))
        found = [engine.collect(60) for _ in prompts]
    for completion in found:
        assert completion is not None
        ids = torch.tensor([prompts[completion.id]])
        output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False)
        assert [i for i in output[0, ids.shape[1] :].tolist() if i != 1] == list(completion.output_ids)
