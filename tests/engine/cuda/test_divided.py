"""Our own decoder over several processes: what one device answers, whatever divides evenly and whatever does not.

There is no GPU in it: each rank has its kernels interpreted on the CPU, and they add through gloo.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")
if torch.cuda.is_available():
    pytest.skip("kernels are compiled for a GPU here; see test_device.py", allow_module_level=True)

from support import rank_parts
from support.constraints import OPTIONS, OneOf
from support.gguf_models import write_model
from support.thoughts import OPENING, Brief
from support.tiny_models import PREFIX, build, generated, rounded

from llmpar.engine.build import build_engine
from llmpar.engine.cuda.from_transformers import build_decoder, build_stored_decoder, parts_in_files
from llmpar.engine.cuda.linear import CodesLinear, Float8Linear
from llmpar.engine.cuda.model import CudaModel
from llmpar.engine.cuda.share import Share
from llmpar.engine.finite import NOT_FINITE
from llmpar.engine.model import EngineModel
from llmpar.engine.precision_names import KVCacheName, PrecisionName
from llmpar.engine.ranks.model import Shards
from llmpar.engine.ranks.ranks import Ranks
from llmpar.engine.request import Completion, Request, SamplingParams
from llmpar.errors import ModelUnavailable, UsageError
from llmpar.models.divided import load_divided
from llmpar.models.opening import open_files
from llmpar.models.shards import check_plan

STOP = 2
BAD = 288  # a token
UNEVEN: dict[str, Any] = {"vocab_size": 290, "intermediate_size": 90, "num_hidden_layers": 2}
GREEDY = SamplingParams(5)
PROMPTS = [[*PREFIX, 20, 21], [*PREFIX[:5], 40], [30, 31, 32, *range(50, 72)], [*PREFIX, 90]]


def spread(path: Path, size: int, precision: PrecisionName = "fp32", kv_cache: KVCacheName = "auto") -> Shards:
    ranks = Ranks(size)
    try:
        loaded = ranks.call(
            partial(rank_parts.load_share, path, precision, kv_cache, ranks.place),
            partial(rank_parts.hold_share, path, precision, kv_cache),
            120,
        )
    except BaseException:
        ranks.close()
        raise
    return Shards(ranks, loaded.models[0], shares_tokens=True)


def answered(model: EngineModel, requests: list[Request], during: Callable[[], object] = int) -> list[Completion]:
    found: dict[int, Completion] = {}
    with build_engine([model], 256, frozenset({STOP}), 1, 3, PREFIX, max_memory=1 << 25) as engine:
        for request in requests:
            engine.submit(request)
        while len(found) < len(requests):
            completion = engine.collect(timeout=120)
            assert completion is not None, "the engine hangs"
            found[completion.id] = completion
            during()
    return [found[request.id] for request in requests]


@pytest.mark.parametrize(
    ("kind", "size", "changes"),
    [
        ("Phi3Config", 2, {}),
        ("LlamaConfig", 4, {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ],
)
def test_answers_are_those_of_one_device(kind: str, size: int, changes: dict[str, Any], tmp_path: Path) -> None:
    """Layers are one matrix or several; two heads for keys are on four ranks; tokens and columns do not divide."""
    model = build(kind, **UNEVEN, **changes)
    if changes:
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.3)
    else:  # what is tied scores, too
        model.get_input_embeddings().weight.data[BAD, 3] = float("nan")
    model.save_pretrained(tmp_path)
    requests = [Request(number, prompt, GREEDY) for number, prompt in enumerate(PROMPTS)]
    options = [(10, 11, 12), (10, 11, 13, 14), (40, 41, 42, 43), *((token, 60) for token in range(80, 130))]
    drawn = SamplingParams(5, 1.2, 0.9, seed=3)
    requests += [
        Request(10, PROMPTS[0], drawn),
        Request(11, PROMPTS[1], drawn, constraint=lambda: OneOf(options)),
        Request(12, PROMPTS[2], SamplingParams(3, num_others=2)),
        Request(13, [*PROMPTS[3], BAD], GREEDY),
        Request(14, [7, 290], GREEDY),
    ]
    together = answered(spread(tmp_path, size), requests)
    assert [list(one.output_ids) for one in together[:4]] == generated(model, PROMPTS, GREEDY.max_new_tokens)
    alone = answered(CudaModel(build_decoder(model)), requests)
    for one, other in zip(together, alone, strict=True):
        assert (one.output_ids, one.error) == (other.output_ids, other.error), one.id
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4, nan_ok=True)
        assert [[token for token, _ in place] for place in one.others] == [
            [token for token, _ in place] for place in other.others
        ]
    assert tuple(together[5].output_ids) in options
    assert together[7].error == (None if changes else NOT_FINITE)
    assert "not among the model's 290" in (together[8].error or "")


def test_what_decides_an_answer_beside_the_weights_decides_it_there_too(tmp_path: Path) -> None:
    """Seeds, forms, weighed choices, likeliest tokens, thoughts, loops, and keys of 8 bits: all as on one device."""
    model = build("LlamaConfig", num_hidden_layers=2)
    model.save_pretrained(tmp_path)
    hot = partial(SamplingParams, temperature=1.5, top_p=0.95)
    form = partial(OneOf, OPTIONS)
    asked = [
        (hot(3, seed=1), {}),
        (hot(3, seed=1), {}),
        (hot(3, seed=2), {}),
        (hot(5, seed=3), {"constraint": form}),
        (SamplingParams(5, weighs=True), {"constraint": form}),
        (SamplingParams(3, num_others=3), {}),
        (hot(7, seed=4, max_thinking_tokens=3), {"constraint": form, "thoughts": partial(Brief, 2)}),
        (SamplingParams(12, max_repeats=1), {}),
    ]
    requests = [Request(number, PROMPTS[0], params, **more) for number, (params, more) in enumerate(asked)]
    together = answered(spread(tmp_path, 2, kv_cache="fp8"), requests)
    alone = answered(CudaModel(build_decoder(model, "fp8")), requests)
    for one, other in zip(together, alone, strict=True):
        assert (one.output_ids, one.finish_reason, one.error) == (other.output_ids, other.finish_reason, other.error)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3, nan_ok=True)
        for place, others in zip(one.others, other.others, strict=True):
            assert [token for token, _ in place] == [token for token, _ in others]
            assert [score for _, score in place] == pytest.approx([score for _, score in others], abs=1e-3)
    first, again, otherwise, formed, *_, thought, _ = together
    assert first.output_ids == again.output_ids != otherwise.output_ids
    assert any(option[: len(formed.output_ids)] == tuple(formed.output_ids) for option in OPTIONS)
    assert thought.output_ids[0] == OPENING
    assert any(len(place) > 1 for place in together[4].others)


@pytest.mark.parametrize(
    ("precision", "size", "kind"), [("int8", 2, None), ("int4", 4, None), ("int8", 2, "Q4_0"), ("int8", 2, "Q8_0")]
)
def test_answers_with_weights_of_few_bits_are_those_of_one_device(
    precision: PrecisionName, size: int, kind: str | None, tmp_path: Path
) -> None:
    """96 columns of the MLP are 64 and 32 for two, where groups of 32 end, and 32 for four, of whom one has none."""
    model = rounded(build("Qwen3Config", num_hidden_layers=2, attention_bias=kind is None, head_dim=8 * size))
    if kind:
        path = write_model(tmp_path / "tiny.gguf", model, kind, with_tokens=True)
    else:
        path = tmp_path
        model.save_pretrained(path)
    requests = [Request(number, prompt, GREEDY) for number, prompt in enumerate(PROMPTS)]
    shards = spread(path, size, precision)
    decoder = shards.mine.decoder  # type: ignore[attr-defined]
    assert isinstance(decoder.layers[0].down, CodesLinear)
    assert decoder.layers[0].down.num_inputs == (32 if size == 4 else 64)
    together = answered(shards, requests)
    skeleton = open_files(path)
    assert skeleton
    cpu = torch.device("cpu")
    whole = build_stored_decoder(parts_in_files(skeleton), skeleton, precision, cpu, torch.float32)
    alone = answered(CudaModel(whole), requests)
    assert [one.output_ids for one in together] == [one.output_ids for one in alone]
    assert len({tuple(one.output_ids) for one in alone}) > 2


def test_floats_of_8_bits_are_divided(tmp_path: Path) -> None:
    """Each rank rounds its own part of a row, so answers are near those of one device, and not the same."""
    model = build("Qwen3Config", num_hidden_layers=2)
    model.save_pretrained(tmp_path)
    requests = [Request(number, prompt, SamplingParams(1)) for number, prompt in enumerate(PROMPTS)]
    shards = spread(tmp_path, 2, "fp8")
    decoder = shards.mine.decoder  # type: ignore[attr-defined]
    assert decoder.precision == "fp8"
    assert isinstance(decoder.layers[0].down, Float8Linear)
    assert decoder.layers[0].down.weight.shape == (64, 48)
    together = answered(shards, requests)
    alone = answered(CudaModel(build_decoder(model)), requests)
    assert sum(one.output_ids == other.output_ids for one, other in zip(together, alone, strict=True)) >= 3


def test_each_rank_holds_its_share_alone_and_one_that_is_killed_ends_the_run(tmp_path: Path) -> None:
    model = build("Qwen3Config", num_hidden_layers=2)
    model.save_pretrained(tmp_path)
    shards = spread(tmp_path, 2)
    decoder = shards.mine.decoder  # type: ignore[attr-defined]
    held = sum(tensor.numel() for layer in decoder.layers for tensor in _tensors(layer))
    whole = sum(weight.numel() for name, weight in model.named_parameters() if ".layers." in name)
    assert held < 0.55 * whole
    assert len(decoder.embedding) == model.config.vocab_size // 2

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.kill(shards.ranks.process_ids[0], signal.SIGKILL)

    first, second = answered(shards, [Request(count, [5, 6], SamplingParams(count)) for count in (1, 200)], kill)
    assert first.error is None
    assert "rank 1 was ended by signal 9; if memory ran out, a smaller batch size" in (second.error or "")


def _tensors(layer: Any) -> list[torch.Tensor]:
    linears = (layer.qkv, layer.output, layer.gate_up, layer.down)
    return [layer.attention_norm, layer.mlp_norm, *(linear.weight for linear in linears)]


class TestCuts:
    @pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
    @pytest.mark.parametrize("length", [1, 5, 16, 90, 290, 1024])
    def test_are_all_of_it_once(self, size: int, length: int) -> None:
        cuts = [Share(rank, size, length).cut(length) for rank in range(size)]
        assert [at for part, _ in cuts for at in range(part.start, part.stop)] == list(range(length))
        assert len({each for _, each in cuts}) == 1
        assert all(part.stop - part.start <= each for part, each in cuts)


class TestRefusals:
    def test_heads_that_end_amid_a_group_of_codes(self, tmp_path: Path) -> None:
        rounded(build("LlamaConfig", num_hidden_layers=1)).save_pretrained(tmp_path)
        with pytest.raises(ModelUnavailable, match=r"precision int4: .* its groups of 32 inputs do not end where"):
            spread(tmp_path, 4, "int4")

    def test_heads_of_keys_may_be_on_several_ranks_where_our_own_decoder_divides_them(self, tmp_path: Path) -> None:
        build("LlamaConfig").config.save_pretrained(tmp_path)
        check_plan(tmp_path, 4, by_us=True)
        for by_us, size, reason in ((False, 4, "2 key and value heads"), (True, 3, "4 attention heads")):
            with pytest.raises(UsageError, match=f"has {reason}, which do not divide by {size}"):
                check_plan(tmp_path, size, by_us=by_us)

    def test_a_model_of_another_shape_is_left_to_transformers(self, tmp_path: Path) -> None:
        build("StableLmConfig", num_hidden_layers=1).save_pretrained(tmp_path)
        said: list[str] = []
        assert load_divided(tmp_path, "cpu", "fp32", 0, 2, notify=said.append) is None
        assert "is divided by transformers, which is slower: " in said[-1]


def test_parts_are_added_in_the_order_of_the_ranks_whatever_the_rows() -> None:
    """A ring would add most numbers in another order, and the same number in several, by how many rows there are."""
    ranks = Ranks(4)
    try:
        ranks.call(partial(rank_parts.add_in_order, ranks.place), rank_parts.add_in_order, 120)
    finally:
        ranks.close()
