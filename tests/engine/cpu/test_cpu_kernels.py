"""The kernels against plain numpy: exact where numbers are whole, close where they are rounded."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.kernel_cases import (
    EPSILON,
    ROUNDED,
    Array,
    Attention,
    Encoded,
    Whole,
    close,
    encoded_norm,
    gaussian,
    multiply,
    normed,
    products_of,
    results,
    widen,
)

from llmpar.engine.cpu import elementary, kernels
from llmpar.engine.cpu.compiled import kernel
from llmpar.engine.cpu.floats import narrowed, to_bf16
from llmpar.engine.cpu.precision import PRECISIONS, round_up
from llmpar.engine.cpu.product import TILE_ROWS, rows_at_once
from llmpar.engine.cpu.projection import Projection
from llmpar.engine.cpu.team import ALONE
from llmpar.engine.cpu.vector import HOST
from llmpar.engine.precision_names import PrecisionName

"""How far a rounded number may be from its oracle, relative to the largest of its row."""


@pytest.mark.parametrize("precision", PRECISIONS)
class TestProduct:
    @pytest.mark.parametrize("shape", [(1, 1), (47, 3), (48, 4), (49, 60), (100, 66), (96, 130), (145, 200)])
    def test_whole_numbers_are_multiplied_exactly(self, precision: PrecisionName, shape: tuple[int, int]) -> None:
        for num_rows in (1, 3, 7, 8, 9, 20):
            case = Whole.make(num_rows, *shape, precision)
            assert np.array_equal(case.into(case.out()), case.expected)

    def test_any_number_of_rows(self, precision: PrecisionName) -> None:
        for num_rows in range(1, 21):
            case = Whole.make(num_rows, 50, 68, precision)
            room = np.full((len(case.inputs.values) + 1, case.projection.num_outputs), 77, np.float32)
            assert np.array_equal(case.into(room), case.expected)
            computed = round_up(num_rows, rows_at_once(case.projection.dot))
            assert (room[computed:] == 77).all(), "rows that nobody wants were computed"

    def test_adds_to_what_is_there(self, precision: PrecisionName) -> None:
        case = Whole.make(11, 70, 72, precision)
        out = case.out(fill=5)
        assert np.array_equal(case.into(out, add=True), case.expected + 5)
        assert np.array_equal(case.into(out, add=True), 2 * case.expected + 5)
        assert np.array_equal(case.into(out), case.expected)

    def test_starts_with_a_bias(self, precision: PrecisionName) -> None:
        case = Whole.make(11, 70, 72, precision)
        out = case.out()
        kernels.spread(case.bias, out, 0, 11, False)
        assert np.array_equal(case.into(out, add=True), case.expected + case.bias)
        kernels.spread(case.bias, out, 0, 11, True)
        assert np.array_equal(out[:11, :70], case.expected + 2 * case.bias)

    def test_numbers_with_fractions_come_close(self, precision: PrecisionName) -> None:
        weight, x = gaussian(100, 192), gaussian(20, 192, seed=1)
        x[3:9] *= np.logspace(-3, 3, 6, dtype=np.float32)[:, None]
        projection = Projection.pack(weight, None, PRECISIONS[precision])
        out = np.empty((round_up(20, TILE_ROWS), projection.num_outputs), np.float32)
        multiply(encoded_norm(x, projection, precision), projection, out, 20)
        assert close(out[:20, :100], normed(x, np.ones(192)) @ weight.T, precision)

    def test_a_row_is_the_same_whatever_the_others_are(self, precision: PrecisionName) -> None:
        projection = Projection.pack(gaussian(100, 200), None, PRECISIONS[precision])
        x = gaussian(20, 200, seed=1)
        x[4] *= 1e4

        def products(rows: list[int]) -> Array:
            return products_of(projection, x, rows, precision)

        together = products(list(range(20)))
        for row in range(20):
            assert np.array_equal(products([row])[0], together[row])
        order = np.random.default_rng(0).permutation(20).tolist()
        assert np.array_equal(products(order), together[order])


@pytest.mark.parametrize("precision", PRECISIONS)
class TestLikeliest:
    def found(self, case: Whole, bias: Array | None = None, allowed: Array | None = None) -> list[int]:
        """Return the likeliest ids; `allowed` (B, V) is a mask for each row, and one that allows all is none."""
        ids = np.full(len(case.x), -1, np.int32)
        p = case.projection
        nothing, vocabulary = np.zeros(0, np.float32), len(case.weight)
        if allowed is None:
            allowed = np.ones((len(ids), vocabulary), bool)
        masked = np.where(allowed.all(1), -1, np.arange(len(ids), dtype=np.int32))
        bits = np.zeros((len(ids), -(-vocabulary // 32) * 32), np.uint8)
        bits[:, :vocabulary] = allowed
        masks = np.packbits(bits, axis=1, bitorder="little").view(np.uint32)
        kernels.likeliest(
            ALONE, case.inputs.values, case.inputs.scales, p.weights,
            nothing if bias is None else bias, vocabulary, np.float32(0), masks, masked,
            np.ones(len(ids), np.uint8), *self.keeping(len(ids)), ids, np.zeros((len(ids), 3), np.float32), self.logits,
        )  # fmt: skip
        return ids.tolist()

    logits = np.empty((0, 0), np.float32)

    def keeping(self, num_rows: int) -> list[Array]:
        """Return where the logits of each row are to be kept: the last row of `logits` is the first one's."""
        wanted = len(self.logits)
        return [np.where(np.arange(num_rows) < wanted, wanted - 1 - np.arange(num_rows), -1).astype(np.int32)]

    def test_logits_that_are_wanted_are_kept(self, precision: PrecisionName) -> None:
        case = Whole.make(13, 150, 68, precision)
        allowed = np.ones((13, 150), bool)
        allowed[1, 3:] = False  # of which the mask is no matter
        self.logits = np.full((9, 150), np.nan, np.float32)
        self.found(case, case.bias, allowed)
        assert np.array_equal(self.logits[::-1], (case.expected + case.bias)[:9])

    @pytest.mark.parametrize("vocabulary", [1, 47, 48, 49, 150])
    def test_is_the_argmax(self, precision: PrecisionName, vocabulary: int) -> None:
        for num_rows in (1, 8, 13):
            case = Whole.make(num_rows, vocabulary, 68, precision)
            assert self.found(case) == case.expected.argmax(1).tolist()
            assert self.found(case, case.bias * 16) == (case.expected + case.bias * 16).argmax(1).tolist()

    def test_ties_go_to_the_lowest_id(self, precision: PrecisionName) -> None:
        base = Whole.make(9, 15, 64, precision)
        weight = np.tile(base.weight, (10, 1))  # each channel ten times, in its own panel and in others
        case = Whole(base.x, weight, base.bias, Projection.pack(weight, None, PRECISIONS[precision]), base.inputs)
        assert self.found(case) == base.expected.argmax(1).tolist()

    @pytest.mark.parametrize("vocabulary", [1, 33, 49, 150, 400])
    @pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
    def test_is_the_argmax_of_what_is_allowed(self, precision: PrecisionName, vocabulary: int, share: float) -> None:
        draw = np.random.default_rng(vocabulary)
        for num_rows in (1, 8, 21):
            case = Whole.make(num_rows, vocabulary, 68, precision)
            allowed = draw.random((num_rows, vocabulary)) < share
            allowed[np.arange(num_rows), draw.integers(0, vocabulary, num_rows)] = True
            allowed[::3] = True  # these have no mask
            expected = np.where(allowed, case.expected, -np.inf).argmax(1)
            assert self.found(case, allowed=allowed) == expected.tolist()
            biased = np.where(allowed, case.expected + case.bias * 16, -np.inf).argmax(1)
            assert self.found(case, case.bias * 16, allowed) == biased.tolist()

    def test_padding_does_not_win_over_negative_logits(self, precision: PrecisionName) -> None:
        case = Whole.make(5, 50, 64, precision)
        bias = np.full(50, -(2.0**22), np.float32)
        bias[[7, 49]] += [1.0, 0.5]
        case.projection.weight[:], case.projection.biases[:], case.projection.factors[:] = 0, 0, 0
        assert self.found(case, bias) == [7] * 5


@pytest.mark.parametrize("precision", PRECISIONS)
class TestRows:
    def test_norm(self, precision: PrecisionName) -> None:
        hidden, weight = gaussian(9, 48), gaussian(48, seed=1)[:42]
        hidden[2] *= 1e-4
        hidden[5] *= 1e5
        rows = np.array([5, 0, 2, 2, 8])
        room = Encoded.room(5, 64, precision)
        kernels.norm(ALONE, np.ascontiguousarray(hidden[:, :42]), rows, weight, EPSILON, room.values, room.scales)
        assert close(room.decoded(5, 42), normed(hidden[rows, :42], weight), precision)
        assert not room.decoded(5, 64)[:, 42:].any(), "the padding holds something"

    def test_each_group_has_a_scale_of_its_own(self, precision: PrecisionName) -> None:
        hidden, weight = gaussian(4, 128), np.repeat([1e-3, 1e3], 64).astype(np.float32)
        room = Encoded.room(4, 128, precision, 2 if PRECISIONS[precision].group else 0)
        kernels.norm(ALONE, hidden, np.arange(4), weight, EPSILON, room.values, room.scales)
        found, expected = room.decoded(4, 128), normed(hidden, weight)
        assert close(found[:, :64], expected[:, :64], precision)
        assert close(found[:, 64:], expected[:, 64:], precision)

    def test_a_row_of_zeros_stays_one(self, precision: PrecisionName) -> None:
        room = Encoded.room(2, 64, precision)
        kernels.norm(
            ALONE, np.zeros((2, 64), np.float32), np.arange(2), gaussian(64), EPSILON, room.values, room.scales
        )
        assert not room.decoded(2, 64).any()

    @pytest.mark.parametrize("kind", [kernels.SILU, kernels.GELU_TANH])
    def test_activate(self, precision: PrecisionName, kind: int) -> None:
        width, rows = 50, 6
        gate_up = gaussian(rows, 144) * np.array([1, 3, 10, 0.01, 200, 1], np.float32)[:, None]
        gate, up = gate_up[:, :width].astype(np.float64), gate_up[:, width : 2 * width]
        if kind == kernels.SILU:
            with np.errstate(over="ignore"):
                expected = gate / (1 + np.exp(-gate)) * up
        else:
            expected = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3))) * up
        room = Encoded.room(rows, 64, precision)
        kernels.activate(ALONE, gate_up, width, kind, room.values, room.scales, rows)
        assert close(room.decoded(rows, width), expected, precision)
        assert not room.decoded(rows, 64)[:, width:].any(), "the padding holds something"
        together = room.values.copy()
        for row in range(rows):
            kernels.activate(ALONE, gate_up[row : row + 1].copy(), width, kind, room.values, room.scales, 1)
            assert np.array_equal(room.values[0], together[row]), "a row depends on the others"


def test_add_norm() -> None:
    hidden, update, weight = gaussian(5, 96), gaussian(5, 96, seed=1), gaussian(70, seed=2)
    expected = hidden[:3, :70] + normed(update[:3, :70], weight)
    before = hidden.copy()
    kernels.add_norm(hidden, update, weight, EPSILON, 3)
    assert close(hidden[:3, :70], expected, "fp32")
    assert np.array_equal(hidden[3:], before[3:])
    assert np.array_equal(hidden[:, 70:], before[:, 70:])


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_embed(dtype: Any) -> None:
    table = gaussian(30, 40)
    table = to_bf16(table) if dtype == np.uint16 else table
    hidden, ids = np.full((5, 48), 9, np.float32), np.array([29, 0, 7, 7], np.int32)
    kernels.embed(ids, table, np.float32(1.5), hidden)
    assert np.array_equal(hidden[:4, :40], widen(table)[ids] * np.float32(1.5))
    assert (hidden[4:] == 9).all()
    assert (hidden[:, 40:] == 9).all()


class TestAttention:
    @pytest.mark.parametrize("depth", [8, 16, 24, 64, 80, 128])
    @pytest.mark.parametrize("num_queries", [1, 2, 3, 4, 5, 8])
    def test_every_group_and_head_size(self, num_queries: int, depth: int) -> None:
        case = Attention(num_queries, depth)
        qkv = case.place()
        queries, keys, values = case.finished()
        assert close(case.split(qkv)[0], queries, "fp32")
        for row in range(len(case.lengths)):
            stored = case.stored(row)
            assert close(stored[0], keys[case.rows == row], "fp32")
            assert np.array_equal(stored[1], values[case.rows == row])
        for window, softcap in ((0, 0.0), (5, 0.0), (16, 3.0), (17, 0.0), (0, 3.0)):
            found = case.attend(qkv, slice(None), window, softcap)
            assert close(found, case.expected(queries, window, softcap), "fp32")

    @pytest.mark.parametrize("precision", ["bf16", "int8"])
    @pytest.mark.parametrize(("num_queries", "depth"), [(1, 80), (3, 64), (5, 24)])
    def test_keys_and_values_in_half_the_room(self, precision: PrecisionName, num_queries: int, depth: int) -> None:
        case = Attention(num_queries, depth, precision)
        qkv = case.place()
        queries, keys, values = case.finished()
        for row in range(len(case.lengths)):
            found = case.stored(row)
            assert close(found[0], keys[case.rows == row], "bf16")
            assert np.array_equal(found[1], widen(to_bf16(values[case.rows == row])))
        for window, softcap in ((0, 0.0), (17, 3.0)):
            found = case.attend(qkv, slice(None), window, softcap)
            assert close(found, case.expected(queries, window, softcap), precision)

    @pytest.mark.parametrize("rotary", [0, 8, 20])
    def test_only_the_first_part_of_a_head_turns(self, rotary: int) -> None:
        case = Attention(2, 24, rotary=rotary)
        found, expected = case.split(case.place()), case.finished()
        assert close(found[0], expected[0], "fp32")
        assert close(np.concatenate([case.stored(row)[0] for row in range(5)]), expected[1], "fp32")

    def test_queries_and_keys_are_normed_each_by_its_own(self) -> None:
        case = Attention(2, 24, norms=True)
        found, expected = case.split(case.place()), case.finished()
        assert close(found[0], expected[0], "fp32")
        assert close(np.concatenate([case.stored(row)[0] for row in range(5)]), expected[1], "fp32")

    def test_no_other_page_or_layer_is_touched(self) -> None:
        case = Attention(2, 24)
        case.place()
        assert np.isnan(case.keys[case.unused]).all()
        assert np.isnan(case.values[case.unused]).all()
        assert np.isnan(case.keys[:, 0]).all()
        assert np.isnan(case.values[:, 0]).all()

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_a_row_is_the_same_whatever_the_others_are(self, precision: PrecisionName) -> None:
        case = Attention(3, 64, precision)
        qkv = case.place()
        together = case.attend(qkv, slice(None), 20)
        for index in range(len(case.rows)):
            assert np.array_equal(case.attend(qkv, slice(index, index + 1), 20)[0], together[index])
        order = np.random.default_rng(0).permutation(len(case.rows))
        assert np.array_equal(case.attend(qkv, order, 20), together[order])


@kernel
def _exponentials(x: Array, out: Array) -> None:
    for k in range(len(x)):
        out[k] = elementary.exp(x[k])


@kernel
def _narrowed(x: Array, out: Array) -> None:
    for k in range(len(x)):
        out[k] = narrowed(x[k], out)


def test_exp_is_right_to_the_last_bits_and_bounded_beyond() -> None:
    x = np.concatenate([np.linspace(-87, 88, 200_001), np.linspace(-1e-3, 1e-3, 1001)]).astype(np.float32)
    found = np.empty_like(x)
    _exponentials(x, found)
    expected = np.exp(x.astype(np.float64))
    assert np.abs(found / expected - 1).max() < 4e-7
    ends = np.array([-1e30, -88, 89, 1e30], np.float32)
    found = np.empty_like(ends)
    _exponentials(ends, found)
    assert np.allclose(found, np.exp(np.array([-87.0, -87, 88, 88])), rtol=1e-6)


def test_narrow_rounds_to_the_nearest_even_bfloat16() -> None:
    import torch

    bits = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint32)
    halves = bits[:1000] & 0xFFFF0000 | 0x8000
    x = np.concatenate([bits, halves, halves - 1, halves + 1, [0, 0x80000000, 1, 0x7F7FFFFF]]).astype(np.uint32)
    x = x.view(np.float32)
    x = x[np.isfinite(x)]
    expected = torch.from_numpy(x).bfloat16().view(torch.uint16).numpy()
    found = np.empty(len(x), np.uint16)
    _narrowed(x, found)
    assert np.array_equal(found, expected)
    assert np.array_equal(to_bf16(x), expected)


# Processors without the instructions of the one that runs this


OLDER = """
import sys
import llvmlite.binding as llvm
llvm.get_host_cpu_features = dict  # none: neither AVX-512 nor dot products of bytes or bfloat16
import numpy as np
from support.kernel_cases import results
from llmpar.engine.cpu.precision import BF16, INT8
from llmpar.engine.cpu.product import TILE_ROWS
assert (INT8.is_native, BF16.is_native, TILE_ROWS) == (False, False, 4)
np.savez(sys.argv[1], **results())
from support.pinned_answers import ANSWERS, digest
assert all(digest(name) == ANSWERS[name] for name in ("int8", "int4"))
"""


def test_an_older_processor_computes_the_same_compiled_now_or_before(tmp_path: Path) -> None:
    environment = {
        "NUMBA_CPU_NAME": "haswell" if platform.machine() == "x86_64" else "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
    }
    found = []
    for name in ("compiled.npz", "loaded.npz"):
        command = [sys.executable, "-W", "error", "-c", OLDER, str(tmp_path / name)]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        found.append(dict(np.load(tmp_path / name)))
    native = results()
    for name, numbers in native.items():
        assert np.array_equal(found[0][name], found[1][name]), name
        same = close(found[0][name], numbers, "fp32") if name in ROUNDED else np.array_equal(found[0][name], numbers)
        assert same, name


OTHER = """
import sys
from llmpar.engine.cpu.vector import HOST
HOST["avxvnni"] = "avxvnni" in sys.argv[2]  # AVX-512VL has the same instruction, written otherwise
import numpy as np
from support.kernel_cases import results
from llmpar.engine.cpu.dots import BYTES, CODED
from llmpar.engine.cpu.instructions import HERE
print(*(HERE.own(dot).feature for dot in (BYTES, *CODED)))
np.savez(sys.argv[1], **results())
from support.pinned_answers import ANSWERS, digest
assert all(digest(name) == ANSWERS[name] for name in ("int8", "int4"))
"""


@pytest.mark.skipif(not (HOST.get("avx512vl") and HOST.get("avx512vnni")), reason="no AVX-512VL with VNNI here")
@pytest.mark.parametrize(
    ("processor", "features", "takes"),
    [
        ("x86-64-v3", "avx2,fma,f16c,avx512vl,avx512vnni", "avxvnni avxvnni avxvnni avxvnni avxvnni"),
        ("haswell", "avx2,fma,f16c", "avx2 avx2 avx2 avx2 avx2"),
        ("skylake-avx512", "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq", "avx2 avx512bw avx2 avx512bw avx2"),
    ],
    ids=["avx-vnni", "avx2", "avx-512"],
)
def test_processors_without_our_instructions_compute_the_same(
    processor: str, features: str, takes: str, tmp_path: Path
) -> None:
    environment = {
        "NUMBA_CPU_NAME": processor,
        "NUMBA_CPU_FEATURES": ",".join(f"+{name}" for name in features.split(",")),
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
    }
    command = [sys.executable, "-W", "error", "-c", OTHER, str(tmp_path / "found.npz"), takes]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == takes.split()
    found = np.load(tmp_path / "found.npz")
    for name, numbers in results().items():
        same = close(found[name], numbers, "fp32") if name in ROUNDED else np.array_equal(found[name], numbers)
        assert same, name


TILES = """
import sys
from support import emulated_tiles
import numpy as np
import pytest
from support.kernel_cases import results
from llmpar.engine.cpu.product import TILE_ROWS
assert TILE_ROWS == 16
failed = pytest.main(["-q", "-p", "no:cacheprovider", sys.argv[2],
                      "-k", "(TestProduct or TestLikeliest) and (bf16 or int8 or int4)"])
assert {"tdpbusd", "tdpbf16ps"} <= emulated_tiles.calls.keys()
np.savez(sys.argv[1], **results())
from support.pinned_answers import ANSWERS, digest
assert digest("int8", workers=1) == ANSWERS["int8"]  # all threads share the emulated registers
sys.exit(failed)
"""


def test_matrix_registers_compute_the_same(tmp_path: Path) -> None:
    environment = {
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
    }
    command = [sys.executable, "-c", TILES, str(tmp_path / "tiles.npz"), __file__]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    found = np.load(tmp_path / "tiles.npz")
    for name, numbers in results().items():
        same = close(found[name], numbers, "fp32") if name in ROUNDED else np.array_equal(found[name], numbers)
        assert same, name


def _doubled(number: int) -> int:
    return 2 * number


def test_kept_code_that_is_damaged_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    assert kernel(_doubled)(3) == 6
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".nbi", ".nbc"}
    for damaged in files:
        whole = damaged.read_bytes()
        for content in (b"", b"no pickle", whole[: len(whole) // 2]):
            damaged.write_bytes(content)
            assert kernel(_doubled)(4) == 8
            assert kernel(_doubled)(5) == 10
    again = kernel(_doubled)
    assert again(6) == 12
    assert again.stats.cache_hits, "what was damaged is kept anew"


def test_kept_code_serves_a_copy_of_the_source_that_lies_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "kept"))
    hits = []
    for place, written in (("here", 1_000_000_000), ("there", 1_500_000_000)):
        file = tmp_path / place / "tripling.py"
        file.parent.mkdir()
        file.write_text("def tripled(x):\n    return 3 * x\n")
        os.utime(file, (written, written))
        monkeypatch.syspath_prepend(str(file.parent))
        sys.modules.pop("tripling", None)
        tripled = kernel(importlib.import_module("tripling").tripled)
        assert tripled(5) == 15
        hits.append(sum(tripled.stats.cache_hits.values()))
    assert hits == [0, 1]


def test_code_is_kept_only_where_nobody_else_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmpar.engine.cpu import compiled

    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    place = compiled._find_place()
    assert place
    assert Path(place).stat().st_mode & 0o777 == 0o700
    Path(place).chmod(0o770)
    assert compiled._find_place() is None
    monkeypatch.setattr("numba.config.CACHE_DIR", "/proc/nowhere")
    assert compiled._find_place() is None
    monkeypatch.setattr(compiled, "_place", None)
    assert kernel(_doubled)(3) == 6


def test_what_no_version_has_used_for_long_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmpar.engine.cpu import compiled

    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    old, other, strange = tmp_path / "kernels-old", tmp_path / "kernels-other", tmp_path / "models"
    for directory in (old, other, strange):
        directory.mkdir()
        (directory / "file").write_text("")
    for directory in (old, strange):
        os.utime(directory, (0, 0))
    place = compiled._find_place()
    assert place
    assert {path.name for path in tmp_path.iterdir()} == {Path(place).name, "kernels-other", "models"}
