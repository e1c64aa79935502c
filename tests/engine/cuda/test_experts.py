"""Mixtures of experts on GPUs: greedy fp32 equals `generate`, and a row's numbers are its own.

Where there is no GPU, the kernels run in Triton's interpreter.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest
import torch

DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
pytest.importorskip("triton")

from support.engines import collected  # noqa: E402
from support.tiny_models import EXPERTS, PREFIX, build, generated, make_shallow, prompts  # noqa: E402

from llmpar.engine.build import build_engine  # noqa: E402
from llmpar.engine.cpu.from_transformers import build_decoder as build_on_cpu  # noqa: E402
from llmpar.engine.cuda.decoder import Decoder  # noqa: E402
from llmpar.engine.cuda.experts import _ROWS, Experts, most_blocks  # noqa: E402
from llmpar.engine.cuda.from_transformers import build_decoder, build_stored_decoder  # noqa: E402
from llmpar.engine.cuda.model import CudaModel  # noqa: E402
from llmpar.engine.parts import OtherShape, take_apart  # noqa: E402
from llmpar.engine.request import SamplingParams  # noqa: E402

# NumPy, which the interpreter computes with, warns where a number is none, as on a GPU it just is.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{said}:RuntimeWarning")
    for said in ("invalid value encountered", "All-NaN slice encountered")
]


@cache
def decoder(name: str) -> Decoder:
    return build_decoder(deepcopy(make_shallow(name)).to(DEVICE))


@pytest.mark.parametrize("name", EXPERTS)
def test_greedy_equals_generate_token_for_token(name: str) -> None:
    built = build_engine([CudaModel(decoder(name))], 256, frozenset({2}), 1, 3, PREFIX, max_memory=1 << 25)
    assert collected(built, prompts(name)[:4], SamplingParams(4)) == generated(make_shallow(name), prompts(name)[:4], 4)


def test_a_copy_has_the_same_experts() -> None:
    ours = decoder("mixtral")
    copy = ours.to(DEVICE)
    first, second = ours.layers[1].experts, copy.layers[1].experts
    assert first is not None
    assert second is not None
    assert second is not first
    assert torch.equal(first.down, second.down)


@pytest.mark.parametrize("name", EXPERTS)
def test_who_computes_plain_layers_alone_declines_it(name: str) -> None:
    with pytest.raises(OtherShape, match="experts"):
        build_on_cpu(deepcopy(make_shallow(name)), "fp32")
    with pytest.raises(OtherShape, match="experts"):
        build_stored_decoder(take_apart(make_shallow(name)), None, "int8", DEVICE, torch.float32)


def test_layers_with_and_without_experts_are_declined() -> None:
    mixed = build("Qwen3MoeConfig", **EXPERTS["qwen3-moe"][1], mlp_only_layers=[1])  # type: ignore[arg-type]
    with pytest.raises(OtherShape, match="differ in size"):
        build_decoder(mixed)


def test_a_router_of_another_kind_is_declined() -> None:
    other = deepcopy(make_shallow("mixtral"))
    other.model.layers[0].mlp.gate.register_buffer("correction", torch.zeros(4))
    with pytest.raises(OtherShape, match="other parts"):
        take_apart(other, is_plain=False)


def layer(num_experts: int, size: int, inner: int, chosen: int, dtype: torch.dtype, *, is_normed: bool) -> Experts:
    draw = torch.Generator().manual_seed(1)

    def some(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=draw) * shape[-1] ** -0.5).to(DEVICE, dtype)

    router = some(num_experts, size)
    gate_up, down = some(num_experts, 2 * inner, size), some(num_experts, size, inner)
    return Experts(router, gate_up, down, chosen, is_normed, "silu")


def rows(count: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(2)).to(DEVICE, dtype)


def plainly(experts: Experts, x: torch.Tensor) -> torch.Tensor:
    """Return what a mixture makes of rows, one row and one expert after another, in float32."""
    found = torch.zeros_like(x, dtype=torch.float32)
    for place, row in enumerate(x):
        shares = torch.softmax(torch.nn.functional.linear(row, experts.router).float(), 0)
        best = shares.topk(experts.num_chosen)
        whole = best.values.sum() if experts.is_normed else 1.0
        for share, expert in zip(best.values, best.indices, strict=True):
            gate, up = (experts.gate_up[expert].float() @ row.float()).chunk(2)
            found[place] += share / whole * (experts.down[expert].float() @ (torch.nn.functional.silu(gate) * up))
    return found


@pytest.mark.parametrize(
    ("num_experts", "size", "inner", "chosen", "count", "is_normed"),
    [(5, 48, 40, 2, 1, True), (4, 72, 100, 4, 9, False), (3, 160, 24, 1, 70, True), (12, 40, 20, 3, 6, False)],
)
def test_it_is_what_experts_make_of_each_row(
    num_experts: int, size: int, inner: int, chosen: int, count: int, is_normed: bool
) -> None:
    experts = layer(num_experts, size, inner, chosen, torch.float32, is_normed=is_normed)
    x = rows(count, size, torch.float32)
    torch.testing.assert_close(experts(x), plainly(experts, x), atol=2e-6, rtol=1e-5)


def test_in_16_bits_it_is_as_far_off_as_its_rounding() -> None:
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float16  # the interpreter multiplies no bfloat16
    experts, x = layer(4, 64, 48, 2, dtype, is_normed=True), rows(5, 64, dtype)
    expected = plainly(experts, x)
    assert float((experts(x).float() - expected).norm() / expected.norm()) < 0.01


def test_a_row_has_the_same_numbers_alone_and_among_others() -> None:
    experts, x = layer(4, 64, 32, 2, torch.float32, is_normed=True), rows(40, 64, torch.float32)
    whole = experts(x)
    for first, last in ((0, 1), (3, 10), (7, 40)):
        assert torch.equal(experts(x[first:last].contiguous()), whole[first:last])


def test_a_row_that_is_no_number_comes_out_as_none_and_its_neighbours_do_not_notice() -> None:
    experts, x = layer(4, 64, 32, 2, torch.float32, is_normed=True), rows(3, 64, torch.float32)
    whole = experts(x)
    x[1, 5] = float("nan")
    broken = experts(x)
    assert broken[1].isnan().all()
    assert torch.equal(broken[[0, 2]], whole[[0, 2]])


def test_there_are_never_more_blocks_than_room_is_made_for() -> None:
    draw = torch.Generator().manual_seed(3)
    for num_pairs, num_experts in ((1, 8), (8, 128), (300, 4), (5000, 7), (4096, 128), (20_000, 3)):
        for spread in (1, num_experts):  # all to one expert, or to all
            counts = torch.randint(0, spread, (num_pairs,), generator=draw).bincount(minlength=num_experts)
            assert int(((counts + _ROWS - 1) // _ROWS).sum()) <= most_blocks(num_pairs, num_experts)
