"""A precision is one object: a toy one of 4 bits is added here as a newcomer would, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, get_args

import numpy as np
import pytest
import torch
from support.tiny_models import PARAMS, PREFIX, answer, make

from llmpar.engine.cpu import compiled, kernels
from llmpar.engine.cpu.decoder import Decoder, Pass, Tokens
from llmpar.engine.cpu.dots import BYTES, DOTS, Dot, Weights
from llmpar.engine.cpu.from_transformers import build_decoder
from llmpar.engine.cpu.instructions import HERE, INSTRUCTION_SETS
from llmpar.engine.cpu.precision import PANEL, PRECISIONS, Encoded, Floats, Precision
from llmpar.engine.cpu.vector import repeated
from llmpar.engine.pages import PAGE, num_pages_of
from llmpar.engine.precision_names import PrecisionName

# The precision: eight weights in a word, of which four are the low halves of its bytes and the next four the high ones.

_GROUP = 32
_UPPER = -0x0F0F0F10  # 0xF0F0F0F0: the upper half of each byte


def _units(weights: Floats) -> tuple[Any, Floats]:
    """Return weights (N, K) as whole numbers from -7 to 7 (N, G, 32), and what a unit is worth in each group (N, G)."""
    grouped = weights.reshape(len(weights), -1, _GROUP)
    scales = np.maximum(np.abs(grouped).max(2), 1e-12) / np.float32(7)
    return np.rint(grouped / scales[:, :, None]).astype(np.int8), scales


def _encode(weights: Floats, _: int) -> Encoded:
    units, scales = _units(weights)
    halves = units.reshape(len(weights), -1, 2, 4).view(np.uint8) & 15  # (N, K/8, 2, 4)
    words = np.ascontiguousarray(halves[:, :, 0] | halves[:, :, 1] << 4).view(np.uint32)[..., 0]
    # The dot product takes each weight for sixteen times what it is.
    return Encoded(words, scales / 16, -128 * 16 * units.sum(2, dtype=np.int32))


def _dot(builder: Any, total: Any, x: list[Any], w: list[Any]) -> Any:
    """Multiply and add eight unsigned bytes and eight signed halves of bytes, the latter times 16."""
    low, high = builder.shl(w[0], repeated(w[0], 4)), w[0]
    weights = [builder.and_(half, repeated(half, _UPPER)) for half in (low, high)]
    emit = BYTES.portable if HERE.is_signed(BYTES) else HERE.emit(BYTES)
    for pair in zip(x, weights, strict=True):
        total = emit(builder, total, *([word] for word in pair))
    return total


class Fours(Weights):
    __slots__ = ()


NAME: Any = "four"
FOUR = Precision(
    NAME,
    bits=4,
    cache=np.uint16,
    embedding=np.uint16,
    dot=Dot(NAME, Fours, np.uint8, np.uint8, _dot, is_integer=True, input_words=2),
    encoder=lambda _: _encode,
    tolerance=1.0,  # four bits move random weights by 0.7 to 0.95; what has nothing to do with a model is at 1.4
    group=lambda _: _GROUP,
)


@pytest.fixture(scope="module")
def registered() -> Iterator[None]:
    """Add the line to the table. Code for it is not kept: only the package's own files tell whether that is current."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRECISIONS, NAME, FOUR)
        patch.setitem(DOTS, NAME, FOUR.dot)
        patch.setattr(compiled, "_place", None)
        for name in ("product", "likeliest"):
            patch.setattr(kernels, name, compiled.kernel(getattr(kernels, name).py_func))
        yield


def _rounded(name: str) -> Any:
    """Return the model in torch, its linear layers as 4 bits have them."""
    model = deepcopy(make(name))
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, torch.nn.Linear):
                units, scales = _units(part.weight.numpy())
                part.weight.copy_(torch.from_numpy((units * scales[:, :, None]).reshape(part.weight.shape)))
    return model


def _logits(model: Decoder, ids: Any) -> Any:
    count = num_pages_of(len(ids))
    work = Pass(model, len(ids), *model.make_pages(count))
    places = np.arange(len(ids), dtype=np.int32)
    tables = np.arange(count, dtype=np.int32)[None]
    return work.logits(work.forward(Tokens(ids, places, np.zeros_like(places), tables)))


@pytest.mark.usefixtures("registered")
def test_a_new_precision_computes_what_torch_does_with_its_weights() -> None:
    decoder = build_decoder(deepcopy(make("llama")), NAME)
    projection = decoder.layers[0].qkv[0]
    assert projection.weight.nbytes * 2 == projection.num_outputs * projection.num_inputs, "4 bits each"
    ids = np.arange(3, 80, dtype=np.int32)
    found = _logits(decoder, ids)
    with torch.inference_mode():
        exact, rounded = (
            model(torch.from_numpy(ids).long()[None], use_cache=False).logits[0].numpy()
            for model in (make("llama"), _rounded("llama"))
        )
    size = np.linalg.norm(rounded)
    assert np.linalg.norm(found - rounded) < 0.1 * size, "activations are rounded as in int8"
    assert np.linalg.norm(found - exact) > 0.4 * size, "4 bits make a difference"


@pytest.mark.usefixtures("registered")
def test_its_answers_depend_on_neither_n_nor_batch() -> None:
    decoder = build_decoder(deepcopy(make("llama")), NAME)
    alone = answer("llama", 1, 1, PARAMS, PREFIX, decoder)
    assert answer("llama", 2, 7, PARAMS, PREFIX, decoder) == alone


def test_every_name_has_an_object() -> None:
    on_cpus = [name for name in get_args(PrecisionName) if name != "fp8"]
    assert [name for name in PRECISIONS if name != NAME] == on_cpus
    assert all(name == precision.name for name, precision in PRECISIONS.items())


def test_no_two_forms_of_weights_have_a_class_in_common() -> None:
    known = {one.name: one for one in (*DOTS.values(), FOUR.dot)}
    assert len({one.kind for one in known.values()}) == len(known)
    assert all(one.dot in known.values() for one in PRECISIONS.values())


@pytest.mark.parametrize("known", INSTRUCTION_SETS)
def test_vectors_of_every_processor_fill_pages_and_panels(known: Any) -> None:
    assert PAGE % known.lanes == 0
    assert all(PANEL % (known.lanes * vectors) == 0 for _, vectors in known.shapes)
    assert known.tile_rows % known.shapes[-1][0] == 0


def test_the_last_instruction_set_runs_anywhere() -> None:
    assert INSTRUCTION_SETS[-1].is_here
    assert not INSTRUCTION_SETS[-1].dots
    assert not INSTRUCTION_SETS[-1].tiles
