"""Weights of 8 and 4 bits on a GPU: what is multiplied is what the file has, and answers follow from that alone.

Where there is no GPU its kernels run in Triton's interpreter, on the CPU: hence small matrices and short answers.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
pytest.importorskip("triton")

from support.constraints import STOP  # noqa: E402
from support.engines import collected  # noqa: E402
from support.forms import KINDS  # noqa: E402
from support.tiny_models import PREFIX, generated, make_shallow, prompts, rounded  # noqa: E402

from llmpar.engine.build import build_engine  # noqa: E402
from llmpar.engine.cuda import codes_kernels, linear, runner  # noqa: E402
from llmpar.engine.cuda.codes import Rounded, can_round, keep  # noqa: E402
from llmpar.engine.cuda.decoder import Decoder  # noqa: E402
from llmpar.engine.cuda.from_transformers import TooFar, build_decoder, build_stored_decoder  # noqa: E402
from llmpar.engine.cuda.linear import CodesLinear, Float8Linear, FloatLinear, SideBySide, joined, moved  # noqa: E402
from llmpar.engine.cuda.model import CudaModel  # noqa: E402
from llmpar.engine.cuda.order import has_order  # noqa: E402
from llmpar.engine.model import DeviceFull, Settings  # noqa: E402
from llmpar.engine.parts import take_apart  # noqa: E402
from llmpar.engine.quantized import has_groups  # noqa: E402
from llmpar.engine.request import SamplingParams  # noqa: E402
from llmpar.engine.source import SourceRows  # noqa: E402
from llmpar.models.opening import open_source  # noqa: E402

# NumPy, which the interpreter computes with, warns where a number is infinite or none, as on a GPU it just is.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
CHECKPOINTS = Path(__file__).parents[2] / "models" / "checkpoints"
Q = "model.layers.0.self_attn.q_proj.weight"
SETTINGS = Settings(256, frozenset({STOP}), 1, None, (), 1, None, 1)
FLOATS_ALONE = {"bitsandbytes-fp4-in-floats", "mxfp4"}
"""Those whose weights here are floats: no integers in groups hold them, or they are no expert's."""


class Floats:
    """A matrix of float32."""

    def __init__(self, *shape: int, seed: int = 0) -> None:
        self.all = np.random.default_rng(seed).standard_normal(shape, np.float32)
        self.shape = shape

    def __getitem__(self, rows: slice) -> Any:
        return self.all[rows]

    def floats(self, rows: slice) -> Any:
        return self.all[rows]


def weights_of(layer: Any) -> Any:
    """Return the weights (N, K) of a layer in float32, of its inputs in their own order."""
    found = layer.weights(torch.float32).cpu().numpy()
    if layer.order is None:
        return found
    there = np.empty_like(found)
    there[:, layer.order.cpu().numpy()] = found
    return there


@pytest.mark.parametrize("name", KINDS)
def test_weights_are_to_the_bit_what_the_file_has(name: str) -> None:
    rows = KINDS[name].draw(20, 256)
    assert np.array_equal(weights_of(keep(rows, None, DEVICE)), rows.all.weights())


@pytest.mark.parametrize("name", sorted(path.parent.name for path in CHECKPOINTS.glob("*/config.json")))
def test_so_it_is_with_every_format_of_the_hub(name: str) -> None:
    source = open_source(CHECKPOINTS / name)
    assert source
    rows = SourceRows(source, Q)
    if has_groups(rows[0:1], 8):
        assert np.array_equal(weights_of(keep(rows, None, DEVICE)), rows.floats())
    else:
        assert name in FLOATS_ALONE


@pytest.mark.parametrize("num_rows", [1, 17])
@pytest.mark.parametrize("name", ["Q4_1", "Q6_K", "AWQ", "IQ4_XS", "8 bits for a channel"])
def test_a_product_is_that_with_the_weights(name: str, num_rows: int) -> None:
    rows = KINDS[name].draw(70, 256)  # more than a program's, and not two of them
    layer = keep(rows, torch.arange(70.0, device=DEVICE), DEVICE)
    x = torch.randint(-3, 4, (num_rows, 256), generator=torch.Generator().manual_seed(1)).float()
    expected = x @ torch.from_numpy(rows.all.weights()).T + torch.arange(70.0)
    assert torch.equal(layer(x.to(DEVICE)).cpu(), expected), "these numbers have sums that float32 holds"


def test_weights_may_be_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = KINDS["Q4_0"].draw(20, 256)
    layer, x = keep(rows, torch.ones(20, device=DEVICE), DEVICE), torch.ones(3, 256, device=DEVICE)
    monkeypatch.setattr(linear, "_MANY", 2)
    assert torch.equal(layer(x).cpu(), torch.from_numpy(rows.all.weights().sum(1) + 1).expand(3, -1))


@pytest.mark.parametrize(("bits", "num_inputs", "most"), [(4, 96, 0.2), (8, 96, 0.01), (4, 48, 0.01)])
def test_what_is_rounded_when_loaded(bits: int, num_inputs: int, most: float) -> None:
    """48 is no multiple of the 32 inputs that share a scale in 4 bits: there it is 8."""
    floats = Floats(70, num_inputs)
    found = weights_of(keep(Rounded(floats, bits), None, DEVICE))
    assert np.array_equal(found, Rounded(floats, bits)[0:70].weights())
    assert 0 < np.linalg.norm(found - floats.all) / np.linalg.norm(floats.all) < most
    assert not can_round(40)


class TestJoining:
    def test_layers_of_one_form_are_one(self) -> None:
        layers = [keep(KINDS["Q4_K"].draw(20, 256, seed), None, DEVICE) for seed in (1, 2)]
        layers[1] = replace(layers[1], bias=torch.ones(20, device=DEVICE))
        both = joined(layers)
        assert isinstance(both, CodesLinear)
        assert np.array_equal(weights_of(both), np.concatenate([weights_of(layer) for layer in layers]))
        assert both.bias is not None
        assert both.bias.tolist() == [0] * 20 + [1] * 20

    @pytest.mark.parametrize("other", ["Q6_K", "Q4_1", "IQ4_NL", "AWQ"])
    def test_others_stand_side_by_side(self, other: str) -> None:
        layers = [keep(KINDS[name].draw(20, 256), None, DEVICE) for name in ("Q4_0", other)]
        both, x = joined(layers), torch.ones(2, 256, device=DEVICE)
        assert isinstance(both, SideBySide)
        assert torch.equal(both(x), torch.cat([layer(x) for layer in layers], 1))

    def test_floats_too(self) -> None:
        floats = [torch.randn(16, 32) for _ in range(2)]
        both = joined([FloatLinear(floats[0], None), FloatLinear(floats[1], torch.ones(16))])
        assert isinstance(both, FloatLinear)
        assert torch.equal(both.weight, torch.cat(floats))
        eights = joined([Float8Linear(each.to(torch.float8_e4m3fn), torch.full((1, 16), 2.0), None) for each in floats])
        assert isinstance(eights, Float8Linear)
        assert eights.weight.shape == (32, 32)
        assert eights.scales.shape == (1, 32)

    def test_a_copy_has_all_parts(self) -> None:
        layer = keep(KINDS["Q4_K"].draw(20, 256), torch.ones(20), DEVICE)
        copy = moved(SideBySide((layer,)), torch.device("meta")).layers[0]
        assert copy.codes.is_meta
        assert copy.scales.units.is_meta
        assert copy.offsets.values.is_meta
        assert copy.bias.is_meta
        assert copy.num_inputs == 256


class TestFloatsOf8Bits:
    def rounded(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows, scales = torch.empty_like(x, dtype=torch.float8_e4m3fn), x.new_empty(len(x), 1, dtype=torch.float32)
        codes_kernels.round_rows[(len(x),)](x, rows, scales, x.shape[1], BLOCK=64)
        return rows.float(), scales

    def test_each_row_has_its_own_scale(self) -> None:
        x = torch.randn(5, 60, device=DEVICE) * torch.tensor([[1e-3], [1], [1e3], [1], [0]], device=DEVICE)
        rows, scales = self.rounded(x)
        assert torch.equal(scales[:4, 0], x.abs().amax(1)[:4] / 448)
        assert rows.abs().max() == 448
        assert torch.equal(rows, (x / scales).to(torch.float8_e4m3fn).float())
        assert not rows[4].any()

    def test_what_is_no_number_stays_none(self) -> None:
        x = torch.ones(3, 60, device=DEVICE)
        x[0, 5], x[1, 7] = torch.nan, torch.inf
        rows, scales = self.rounded(x)
        assert (rows * scales)[:2].isnan().all()
        assert (rows * scales)[2].eq(1).all()

    def test_a_product_is_near(self) -> None:
        kind = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32  # the interpreter has no bfloat16 to trust
        weight, x = torch.randn(32, 64), torch.randn(3, 64)
        scales = weight.abs().amax(1, keepdim=True) / 448
        layer = Float8Linear((weight / scales).to(torch.float8_e4m3fn), scales.t(), torch.ones(32, dtype=kind))
        found = moved(layer, DEVICE)(x.to(DEVICE, kind))
        expected = x @ weight.T + 1
        assert (found.cpu().float() - expected).norm() < 0.1 * expected.norm()


def dequantized(model: Any, decoder: Any) -> Any:
    """Return a model of transformers with the weights that a decoder's codes stand for."""
    model = deepcopy(model)
    with torch.no_grad():
        for layer, own in zip(model.model.layers, decoder.layers, strict=True):
            attention, mlp = layer.self_attn, layer.mlp
            for linears, found in (
                ((attention.q_proj, attention.k_proj, attention.v_proj), own.qkv),
                ((attention.o_proj,), own.output),
                ((mlp.gate_proj, mlp.up_proj), own.gate_up),
                ((mlp.down_proj,), own.down),
            ):
                first, weights = 0, torch.from_numpy(weights_of(found))
                for one in linears:
                    one.weight.copy_(weights[first : first + one.out_features])
                    first += one.out_features
        model.lm_head.weight.copy_(torch.from_numpy(weights_of(decoder.head)))
    return model


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_greedy_equals_generate_with_the_weights_that_codes_stand_for(precision: Any) -> None:
    model = make_shallow("llama") if precision == "int8" else rounded(make_shallow("llama"))
    decoder = build_stored_decoder(take_apart(model), None, precision, DEVICE, torch.float32)
    assert decoder.precision == precision
    assert isinstance(decoder.layers[0].qkv, CodesLinear)
    assert decoder.layers[0].qkv.bits == {"int8": 8, "int4": 4}[precision]
    assert isinstance(decoder.head, CodesLinear)
    assert decoder.head.bits == 8
    said: list[str] = []
    engine = build_engine(
        [CudaModel(decoder)], 256, frozenset({STOP}), 1, 3, PREFIX, max_memory=1 << 25, notify=said.append
    )
    asked = prompts("llama")[:2]
    assert collected(engine, asked, SamplingParams(3)) == generated(dequantized(model, decoder), asked, 3)
    assert f"in {precision}" in said[0]


def test_a_model_that_rounding_moves_too_far_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmpar.engine.cuda.from_transformers._TOLERANCE", {"int8": 1e-4})
    with pytest.raises(TooFar, match="gives something else"):
        build_stored_decoder(take_apart(make_shallow("llama")), None, "int8", DEVICE, torch.float32)


class TestOrder:
    def test_a_layer_that_rounds_by_the_number_of_rows_is_found(self) -> None:
        def steady(x: torch.Tensor) -> torch.Tensor:
            return x * 3

        def unsteady(x: torch.Tensor) -> torch.Tensor:
            return x * 3 if len(x) > 16 else x * 3 + 1e-3

        assert has_order(steady, 8, torch.float32, torch.device("cpu"))
        assert not has_order(unsteady, 8, torch.float32, torch.device("cpu"))

    def test_what_is_not_steady_is_told(self) -> None:
        decoder, said = replace(shallow(), is_steady=False), list[str]()
        CudaModel(decoder).make_runners(SETTINGS, said.append)
        assert "answers may depend on the batch" in said[1]
        said.clear()
        CudaModel(replace(shallow(), is_steady=True)).make_runners(SETTINGS, said.append)
        assert len(said) == 1


class TestRoom:
    """How many pieces are answered at once on a device with so much memory."""

    @pytest.mark.parametrize(("part", "slots"), [(1, 1024), (2, 512), (8, 128)])
    def test_fewer_at_once_where_there_is_less_room(
        self, part: int, slots: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decoder, said = shallow(), list[str]()
        needed = decoder.bytes_beside(runner.PASS_TOKENS // part, slots, 256) + 2 * 8 * slots * decoder.page_bytes
        monkeypatch.setattr("llmpar.engine.cuda.model.free_memory", lambda _: needed)
        (made,) = CudaModel(decoder).make_runners(SETTINGS, said.append).workers
        assert made.num_slots == slots
        assert f"1 worker with {slots} slots" in said[0]
        assert made._pass_tokens == runner.PASS_TOKENS // part  # type: ignore[attr-defined]

    def test_weights_that_few_rows_do_not_write_out_take_no_room(self) -> None:
        plain = shallow()
        coded = replace(plain, head=keep(Rounded(Floats(plain.vocabulary, 64), 8), None, DEVICE))

        def beside_the_rest(slots: int) -> int:
            return coded.bytes_beside(2048, slots, 256) - plain.bytes_beside(2048, slots, 256)

        assert beside_the_rest(128) == 0
        # Steps of 129 are made with 256 rows.
        assert beside_the_rest(129) == plain.vocabulary * 64 * plain.embedding.element_size()

    def test_what_the_user_wants_is_not_made_less(self, monkeypatch: pytest.MonkeyPatch) -> None:
        decoder = shallow()
        needed = decoder.bytes_beside(runner.PASS_TOKENS, 512, 256) + 1000 * decoder.page_bytes
        monkeypatch.setattr("llmpar.engine.cuda.model.free_memory", lambda _: needed)
        (made,) = CudaModel(decoder).make_runners(replace(SETTINGS, batch_size=512), lambda _: None).workers
        assert made.num_slots == 512

    def test_too_little_for_any(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("llmpar.engine.cuda.model.free_memory", lambda _: 1000)
        with pytest.raises(DeviceFull, match="too little memory left beside the model"):
            CudaModel(shallow()).make_runners(SETTINGS, lambda _: None)


@cache
def shallow() -> Decoder:
    return build_decoder(deepcopy(make_shallow("llama")).to(DEVICE))
