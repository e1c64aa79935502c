"""Decoders some of whose weights are kept as their file has them, beside others that are packed for a precision."""

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
from support.forms import KINDS, Kind, Whole
from support.tiny_models import PARAMS, PREFIX, answer, generated, make, prompts

from llmpar.engine.cpu import from_transformers, packed
from llmpar.engine.cpu.decoder import Decoder, Pass, Tokens
from llmpar.engine.cpu.dots import SIXES
from llmpar.engine.cpu.from_transformers import Stored, build_closest, build_decoder
from llmpar.engine.cpu.precision import PRECISIONS
from llmpar.engine.pages import num_pages_of
from llmpar.engine.parts import Extent
from llmpar.engine.quantized import Quantized, Scales

_SIXTEENS = Kind(SIXES, 6, 16)
FORMS = {
    "q_proj": KINDS["Q4_1"], "k_proj": KINDS["Q4_1"], "v_proj": _SIXTEENS, "o_proj": KINDS["IQ4_NL"],
    "gate_proj": KINDS["Q4_0"], "up_proj": KINDS["Q8_0"], "down_proj": KINDS["Q5_0"],
    "embed_tokens": _SIXTEENS, "lm_head": KINDS["Q8_0"],
}  # fmt: skip
"""What each weight of a layer has in its file."""


@cache
def quantised(name: str) -> tuple[Any, dict[str, Whole]]:
    """Return a tiny model, and some of its weights by their names, which the model has in float32."""
    model, found = deepcopy(make(name)), {}
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            kind = FORMS.get(path.split(".")[-2])
            if kind is None or parameter.ndim == 1:
                continue
            drawn = kind.draw(*parameter.shape, seed=len(found)).all
            # Weights as large as those they take the place of.
            scale = float(parameter.std()) / drawn.weights().std()
            spread = (np.random.default_rng(len(found)).random(drawn.scales.values.shape) + 0.5) * scale
            offsets = drawn.offsets and Scales((-7.5 * spread).astype(np.float16))
            whole = Quantized(drawn.codes, drawn.bits, Scales(spread.astype(np.float16)), offsets, drawn.table)
            parameter.copy_(torch.from_numpy(whole.weights()))
            found[path] = Whole(whole, path)
    return model, found


def given(model: Any, found: dict[str, Whole]) -> dict[torch.Tensor, Whole]:
    return {parameter: found[path] for path, parameter in model.named_parameters() if path in found}


def built(name: str, precision: Any) -> Decoder:
    model, found = quantised(name)
    return build_decoder(model, precision, Stored(given(model, found)))


def logits(model: Decoder, ids: Any) -> Any:
    count = num_pages_of(len(ids))
    work = Pass(model, len(ids), *model.make_pages(count))
    places = np.arange(len(ids), dtype=np.int32)
    tables = np.arange(count, dtype=np.int32)[None]
    return work.logits(work.forward(Tokens(ids, places, np.zeros_like(places), tables)))


def forms(decoder: Decoder) -> list[list[str]]:
    layer = decoder.layers[1]
    each = (layer.qkv, (layer.output,), layer.gate_up, (layer.down,), (decoder.head,))
    return [[projection.dot.name for projection in projections] for projections in each]


FOUR, TABLE, SIX, EIGHT = "int4", "int4 by table", "codes of 6 bits", "codes of 8 bits"


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("int8", [[FOUR, FOUR, SIX], [TABLE], [FOUR, EIGHT], [SIX], [EIGHT]]),
        ("int4", [[FOUR, FOUR, FOUR], [TABLE], [FOUR, FOUR], [FOUR], [EIGHT]]),
        ("bf16", [["bf16"], ["bf16"], ["bf16"], ["bf16"], ["bf16"]]),
    ],
)
def test_what_has_as_few_bits_is_kept_and_the_rest_packed(precision: str, expected: list[list[str]]) -> None:
    assert forms(built("llama", precision)) == expected


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3"])
def test_the_logits_are_those_of_its_numbers(name: str) -> None:
    model, _ = quantised(name)
    ids = np.arange(3, 80, dtype=np.int32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(ids).long()[None], use_cache=False).logits[0].numpy()
    found = logits(built(name, "int8"), ids)
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected - expected.mean(-1, keepdims=True))


def test_in_fp32_answers_are_those_of_generate() -> None:
    asked = prompts("llama")
    found = answer("llama", 2, 7, PARAMS, PREFIX, built("llama", "fp32"))
    assert found == generated(deepcopy(quantised("llama")[0]), asked, 16)


def test_answers_depend_on_neither_n_nor_batch_and_a_pack_has_the_same(tmp_path: Path) -> None:
    decoder = built("llama-tied-bias", "int8")
    alone = answer("llama-tied-bias", 1, 1, PARAMS, PREFIX, decoder)
    assert answer("llama-tied-bias", 2, 7, PARAMS, PREFIX, decoder) == alone
    packed.write(decoder, tmp_path / "pack")
    again = packed.read(tmp_path / "pack")
    assert forms(again) == forms(decoder)
    assert answer("llama-tied-bias", 2, 7, PARAMS, PREFIX, again) == alone


def test_a_precision_that_is_passed_over_reads_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRECISIONS, "int8", replace(PRECISIONS["int8"], tolerance=0))
    model, found = quantised("llama")
    said: list[str] = []
    decoder = build_closest(model, "int8", said.append, Stored(given(model, found)))
    assert forms(decoder)[0] == ["bf16"]
    assert len(said) == 1


def test_only_the_extent_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    model, found = quantised("llama")
    model = deepcopy(model)
    rows = given(model, found)
    seen: list[int] = []
    tried: Callable[..., Any] = from_transformers._try
    monkeypatch.setattr(
        from_transformers, "_try", lambda decoder, *rest: seen.append(len(decoder.layers)) or tried(decoder, *rest)
    )
    for layer in model.model.layers[2:]:  # as a skeleton computes what is behind
        for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
            linear.forward = lambda inputs: inputs.new_zeros(*inputs.shape[:-1], 64)
    decoder = build_decoder(model, "int8", Stored(rows, extent=Extent(2, (slice(0, 300),))))
    assert (seen, len(decoder.layers)) == ([2], 3)
