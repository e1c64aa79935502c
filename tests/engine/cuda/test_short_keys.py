"""Keys and values in 8 bits: rounded as such floats are, never cut off, and read exactly."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest
import torch

DEVICE = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402
from support.constraints import STOP  # noqa: E402
from support.engines import collected  # noqa: E402
from support.tiny_models import PREFIX, make_shallow, prompts  # noqa: E402

from llmpar.engine.build import build_engine  # noqa: E402
from llmpar.engine.cuda import decoder as cuda_decoder  # noqa: E402
from llmpar.engine.cuda import kernels  # noqa: E402
from llmpar.engine.cuda.decoder import Decoder  # noqa: E402
from llmpar.engine.cuda.from_transformers import build_decoder  # noqa: E402
from llmpar.engine.cuda.model import CudaModel  # noqa: E402
from llmpar.engine.cuda.short_keys_kernels import lengthen, powers, shorten  # noqa: E402
from llmpar.engine.request import SamplingParams  # noqa: E402

# NumPy, which the interpreter computes with, warns where a number is none, as on a GPU it just is.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
ROWS, WIDTH = 16, 32


@triton.jit
def both_ways(numbers, short, exponents, back, rows: tl.constexpr, width: tl.constexpr):
    r, d = tl.arange(0, rows), tl.arange(0, width)
    at = r[:, None] * width + d[None, :]
    found, exponent = shorten(tl.load(numbers + at))
    tl.store(short + at, found)
    tl.store(exponents + r, exponent)
    tl.debug_barrier()
    long = lengthen(tl.load(short + at), tl.float32) * powers(exponents, r, r < rows)[:, None]
    tl.store(back + at, long)


def rounded(numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    short, back = torch.zeros(ROWS, WIDTH, dtype=torch.uint8, device=DEVICE), torch.zeros(ROWS, WIDTH, device=DEVICE)
    exponents = torch.zeros(ROWS, dtype=torch.int8, device=DEVICE)
    both_ways[(1,)](numbers.to(DEVICE), short, exponents, back, rows=ROWS, width=WIDTH)
    return short.cpu(), exponents.cpu(), back.cpu()


def test_numbers_are_rounded_as_torch_rounds_them_below_the_largest() -> None:
    torch.manual_seed(0)
    numbers = torch.randn(ROWS, WIDTH) * torch.logspace(-12, 12, ROWS)[:, None]
    numbers[:, :8] *= torch.logspace(-6, -1, 8)  # such that some become multiples of 2^-9, and some nothing
    numbers[3] = 0
    numbers[4, 5], numbers[5, 5], numbers[6, 5] = 448.0, 449.0, -1e30
    short, exponents, back = rounded(numbers)
    largest = numbers.abs().amax(1)
    expected = torch.ceil(torch.log2(largest.double() / 448)).clamp(-100, 100)
    assert exponents.tolist() == expected.int().tolist()
    plain = (numbers.double() / 2.0 ** exponents[:, None].double()).float()
    assert plain.abs().max() <= 448
    assert torch.equal(short, plain.to(torch.float8_e4m3fn).view(torch.uint8))
    assert torch.equal(back, plain.to(torch.float8_e4m3fn).float() * 2.0 ** exponents[:, None].float())
    assert ((back - numbers).abs() <= largest[:, None] / 16).all()


def test_what_is_no_number_stays_none() -> None:
    numbers = torch.ones(ROWS, WIDTH)
    numbers[1, 2], numbers[2, 3], numbers[3, 4] = torch.nan, torch.inf, -torch.inf
    short, _, _ = rounded(numbers)
    assert short[1, 2] & 0x7F == short[2, 3] & 0x7F == short[3, 4] & 0x7F == 0x7F
    assert ((short & 0x7F) == 0x7F).sum() == 3


@pytest.mark.parametrize("has_prefix", [False, True])
def test_attention_over_short_keys_is_that_over_the_same_numbers(has_prefix: bool) -> None:
    torch.manual_seed(1)
    heads, kv_heads, size, page, length = 4, 2, 16, 16, 38
    pages = torch.randn(2, 4, kv_heads, page, size, device=DEVICE)
    exponents = torch.randint(-3, 4, (2, 4, kv_heads, page), dtype=torch.int8, device=DEVICE)
    short = pages.to(torch.float8_e4m3fn)
    plain = short.float() * 2.0 ** exponents[..., None].float()
    queries = torch.randn(1, heads, size, device=DEVICE)

    def numbers(*values: int) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int32, device=DEVICE)

    found = []
    for kept, is_short in ((short.view(torch.uint8), True), (plain, False)):
        of_kept = (*kept, *(exponents if is_short else kept))
        how = {"H": heads, "H_KV": kv_heads, "D": size, "DP": size, "PAGE": page, "SHORT": is_short,
               "HAS_WINDOW": False, "HAS_SOFTCAP": False, "PRECISION": "ieee"}  # fmt: skip
        positions, shares, slots, prefix_length = numbers(length - 1), numbers(int(has_prefix)), numbers(0), 32
        tops, sums = (torch.zeros(1, heads, device=DEVICE) for _ in range(2))
        outputs, out = torch.zeros(1, heads, size, device=DEVICE), torch.zeros(1, heads, size, device=DEVICE)
        if has_prefix:
            kernels.attend_prefix[(1, kv_heads)](
                queries, *of_kept, positions, shares, slots, 1, prefix_length, tops, sums, outputs, 0.25, 0, 0.0,
                **how, BLOCK_M=64, BLOCK_T=32,
            )  # fmt: skip
        kernels.attend[(1, kv_heads)](
            queries, out, *of_kept, numbers(0), numbers(1), positions, shares, slots, numbers(0, 1, 2, 3)[None], 4,
            prefix_length, tops, sums, outputs, 0.25, 0, 0.0, **how, HAS_PREFIX=has_prefix, BLOCK_M=16, BLOCK_T=32,
        )  # fmt: skip
        found.append(out)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@cache
def short_decoder(name: str) -> Decoder:
    return build_decoder(deepcopy(make_shallow(name)).to(DEVICE), "fp8")


def answer(name: str, batch: int, prefix: list[int]) -> list[list[int]]:
    made = build_engine([CudaModel(short_decoder(name))], 256, frozenset({STOP}), 1, batch, prefix, max_memory=1 << 25)
    return collected(made, prompts(name)[:3], SamplingParams(3))


@pytest.mark.parametrize("name", ["gemma2-softcap-window"])
def test_answers_depend_on_no_neighbours(name: str) -> None:
    assert answer(name, 1, []) == answer(name, 2, PREFIX)


def test_a_page_takes_a_fourth_of_floats() -> None:
    plain = build_decoder(deepcopy(make_shallow("llama")).to(DEVICE))
    decoder = short_decoder("llama")
    assert decoder.page_bytes == plain.page_bytes // 4 * (decoder.head_dim + 1) // decoder.head_dim
    made = decoder.make_pages(3).nbytes + decoder.make_exponents(3).nbytes
    assert made == 3 * decoder.page_bytes


def test_the_whole_beginning_is_read_for_all_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_decoder, "_WORTH_SHARING", 16)
    beginning = list(range(40, 110))  # it ends within a page, which is copied
    asked = [[*beginning, *prompt[-3:]] for prompt in prompts("llama")[:2]]

    def ask(prefix: list[int]) -> list[list[int]]:
        made = build_engine(
            [CudaModel(short_decoder("llama"))], 256, frozenset({STOP}), 1, 2, prefix, max_memory=1 << 25
        )
        return collected(made, asked, SamplingParams(3))

    assert ask(beginning) == ask([])
