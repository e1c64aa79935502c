"""Shares of weights of few bits are the whole matrix's own: its codes, its scales, and nothing rounded anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from support.forms import KINDS

from llmpar.engine.cuda.codes import Rounded, keep
from llmpar.engine.cuda.cuts import Cut
from llmpar.engine.cuda.linear import CodesLinear, Float8Linear, FloatLinear
from llmpar.engine.cuda.short_weights import even_inputs, floats_of, make_layer
from llmpar.engine.parts import OtherShape
from llmpar.engine.quantized import Quantized, has_groups
from llmpar.engine.source import SourceRows
from llmpar.models.opening import open_source

CPU = torch.device("cpu")
ALL = slice(None)
CHECKPOINTS = Path(__file__).parents[2] / "models" / "checkpoints"


class Floats:
    """A matrix of float32."""

    def __init__(self, *shape: int) -> None:
        self.all = np.random.default_rng(0).standard_normal(shape, np.float32)
        self.shape = shape

    def __getitem__(self, rows: slice) -> Any:
        return self.all[rows]

    def floats(self, rows: slice) -> Any:
        return self.all[rows]


def cut(source: Any, rows: slice = ALL, columns: slice = ALL, shape: tuple[int, int] | None = None) -> Cut:
    (rows, columns) = (slice(*one.indices(size)[:2]) for one, size in zip((rows, columns), source.shape, strict=True))
    return Cut(source, rows, columns, shape or (rows.stop - rows.start, columns.stop - columns.start))


def weights_of(layer: Any) -> Any:
    """Return the weights (N, K) of a layer, of its inputs in their own order."""
    found = layer.weights(torch.float32).numpy()
    if layer.order is None:
        return found
    there = np.empty_like(found)
    there[:, layer.order.numpy()] = found
    return there


@pytest.mark.parametrize("name", KINDS)
def test_shares_of_codes_are_parts_of_what_the_file_has(name: str) -> None:
    source = KINDS[name].draw(20, 512)
    whole = source.all.weights()
    for first in (0, 10):
        found = weights_of(keep(cut(source, slice(first, first + 10), shape=(16, 512)), None, CPU))
        assert np.array_equal(found[:10], whole[first : first + 10])
        assert not found[10:].any()
    for first in (0, 256):
        found = weights_of(keep(cut(source, columns=slice(first, first + 256)), None, CPU))
        assert np.array_equal(found, whole[:, first : first + 256])
    group = KINDS[name].group
    narrow = cut(source, columns=slice(512 - group, 512), shape=(20, 2 * group))
    assert np.array_equal(weights_of(keep(narrow, None, CPU))[:, :group], whole[:, -group:])
    with pytest.raises(OtherShape, match=f"its groups of {group} inputs do not end where inputs are divided"):
        keep(cut(source, columns=slice(0, group + 8)), None, CPU)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in CHECKPOINTS.glob("*/config.json")))
def test_so_it_is_with_the_formats_of_the_hub(name: str) -> None:
    source = open_source(CHECKPOINTS / name)
    assert source
    rows = SourceRows(source, "model.layers.0.self_attn.q_proj.weight")
    if not has_groups(sample := rows[0:1], 8):
        return
    assert isinstance(sample, Quantized)
    whole, (count, width) = rows.floats(), rows.shape
    half = cut(rows, slice(count // 2, count))
    assert np.array_equal(weights_of(keep(half, None, CPU)), whole[count // 2 :])
    right = cut(rows, columns=slice(width // 2, width))
    if sample.order is not None:
        with pytest.raises(OtherShape, match="not of neighbouring inputs"):
            right[0:1]
    elif sample.group < width and width // 2 % sample.group:
        with pytest.raises(OtherShape, match="do not end where inputs are divided"):
            right[0:1]
    else:
        assert np.array_equal(weights_of(keep(right, None, CPU)), whole[:, width // 2 :])


@pytest.mark.parametrize(("precision", "bits"), [("int8", 8), ("int4", 4)])
def test_what_is_rounded_when_loaded_is_rounded_as_a_whole(precision: Any, bits: int) -> None:
    source = Floats(48, 128)
    whole = Rounded(source, bits)[0:48].weights()
    for rows, columns in ((slice(16, 32), ALL), (ALL, slice(64, 128))):
        layer = make_layer(cut(source, rows, columns), None, precision, CPU, torch.float32)
        assert isinstance(layer, CodesLinear)
        assert np.array_equal(weights_of(layer), whole[rows, columns])


def test_a_share_with_no_rows_of_its_own_is_all_nothing() -> None:
    source = Floats(48, 128)
    for precision in ("int4", "fp8"):
        layer = make_layer(cut(source, slice(48, 48), shape=(16, 128)), None, precision, CPU, torch.float32)
        assert not layer(torch.ones(2, 128)).any()
    assert not floats_of(cut(source, slice(48, 48), shape=(16, 128)), torch.float32, torch.device("cpu")).any()


def test_floats_of_8_bits_have_the_scales_of_whole_rows() -> None:
    source = Floats(32, 96)
    whole = make_layer(cut(source), None, "fp8", CPU, torch.float32)
    assert isinstance(whole, Float8Linear)
    codes, scales = whole.weight.view(torch.uint8), whole.scales
    rows = make_layer(cut(source, slice(16, 32)), None, "fp8", CPU, torch.float32)
    left = make_layer(cut(source, columns=slice(0, 64)), None, "fp8", CPU, torch.float32)
    right = make_layer(cut(source, columns=slice(64, 96), shape=(32, 64)), None, "fp8", CPU, torch.float32)
    for found, expected, own in (
        (rows, codes[16:], scales[:, 16:]),
        (left, codes[:, :64], scales),
        (right, torch.nn.functional.pad(codes[:, 64:], (0, 32)), scales),
    ):
        assert isinstance(found, Float8Linear)
        assert torch.equal(found.weight.view(torch.uint8), expected)
        assert torch.equal(found.scales, own)
    odd = make_layer(cut(source, columns=slice(0, 24)), None, "fp8", CPU, torch.float32)
    assert isinstance(odd, FloatLinear), "a product of such floats has multiples of 16"


class TestWhereInputsAreDivided:
    @pytest.mark.parametrize(
        ("name", "precision", "even"),
        [
            ("Q4_0", "int4", 32),
            ("AWQ", "int8", 128),
            ("Q6_K", "int8", 16),
            ("Q6_K", "int4", 32),
            ("Q4_0", "fp8", 16),
            ("8 bits for a channel", "int8", 16),
            ("Q4_0", "bf16", 1),
        ],
    )
    def test_is_where_groups_end(self, name: str, precision: Any, even: int) -> None:
        """What has more bits than are wanted is rounded, in groups of its own."""
        assert even_inputs(KINDS[name].draw(20, 256), precision) == even

    @pytest.mark.parametrize(("width", "precision", "even"), [(96, "int4", 32), (48, "int4", 16), (40, "int8", 1)])
    def test_floats_have_the_groups_that_they_are_rounded_in(self, width: int, precision: Any, even: int) -> None:
        assert even_inputs(Floats(20, width), precision) == even
