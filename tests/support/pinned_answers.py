"""64 answers of a model made of whole numbers: every processor must give the same ones in these precisions."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import numpy.typing as npt

from llmpar.engine.build import build_engine
from llmpar.engine.cpu.decoder import Decoder, Layer, Rope
from llmpar.engine.cpu.kernels import SILU
from llmpar.engine.cpu.model import CpuModel
from llmpar.engine.cpu.precision import PRECISIONS, Precision
from llmpar.engine.cpu.projection import Projection
from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.request import SamplingParams
from support.engines import collected

ANSWERS: dict[PrecisionName, str] = {
    "fp32": "c1a68f37628e7ce8f73b6c0131d510054324f0cf3cee4f53c99254cd5cf2e7be",
    "int8": "e361c3e14d08871b48b9d40a61d486d1a036b2d306aec10c3d2c0a07c7f34bd0",
    "int4": "bc528643a35a12918b0e2bd9e17f83fbe0bb5da5ac56c98fc732cbd9ec1bc490",
}
"""The digest of the answers in each precision. The products of bf16 are rounded by each processor in its own way."""

_HIDDEN, _MLP, _VOCABULARY = 96, 160, 500
_HEADS, _KV_HEADS, _DEPTH = 6, 2, 16


def made(name: PrecisionName) -> Decoder:
    """Make a decoder of numbers that no processor rounds: no library of C or of vectors has a part in it."""
    precision = PRECISIONS[name]
    draw = np.random.default_rng(11)

    def whole(*shape: int, most: int = 64) -> npt.NDArray[np.float32]:
        return draw.integers(-most, most + 1, shape).astype(np.float32) / np.float32(256)

    def projection(num_outputs: int, num_inputs: int, kind: Precision = precision) -> Projection:
        return Projection.pack(whole(num_outputs, num_inputs), None, kind)

    def norm(length: int = _HIDDEN) -> npt.NDArray[np.float32]:
        return np.float32(1) + whole(length, most=16)

    nothing = np.zeros(0, np.float32)
    layers = tuple(
        Layer(
            attention_norm=norm(),
            qkv=(projection((_HEADS + 2 * _KV_HEADS) * _DEPTH, _HIDDEN),),
            head_norms=np.stack([norm(_DEPTH), norm(_DEPTH)]),
            output=projection(_HIDDEN, _HEADS * _DEPTH),
            after_attention_norm=nothing,
            mlp_norm=norm(),
            gate_up=(projection(2 * _MLP, _HIDDEN),),
            down=projection(_HIDDEN, _MLP),
            after_mlp_norm=norm(),
            rope=0,
            scaling=0.25,
            window=window,
            softcap=softcap,
        )
        for window, softcap in ((0, 0.0), (8, 0.0), (0, 30.0))
    )
    table = whole(_VOCABULARY, _HIDDEN)
    return Decoder(
        precision=precision,
        layers=layers,
        ropes=(Rope(np.exp2(-np.arange(_DEPTH // 2, dtype=np.float32)), 1.0),),
        embedding=table if precision.embedding == np.float32 else (table.view(np.uint32) >> 16).astype(np.uint16),
        embedding_scale=4.0,
        final_norm=norm(),
        head=projection(_VOCABULARY, _HIDDEN, precision.head or precision),
        vocabulary=_VOCABULARY,
        context_length=256,
        softcap=0.0,
        epsilon=1e-5,
        activation=SILU,
        mlp_size=_MLP,
        num_heads=_HEADS,
        num_kv_heads=_KV_HEADS,
        head_dim=_DEPTH,
    )


def digest(name: PrecisionName, workers: int = 2, batch: int = 12, patience: float = 60) -> str:
    """Return the digest of 64 answers to prompts of 1 to 60 tokens, greedy."""
    draw = random.Random(3)
    asked = [[draw.randrange(3, _VOCABULARY) for _ in range(draw.randrange(1, 60))] for _ in range(64)]
    engine = build_engine([CpuModel(made(name))], 256, frozenset({2}), workers, batch, (), stall_limit=None)
    answers = collected(engine, asked, SamplingParams(16), patience)
    assert len({tuple(answer) for answer in answers}) > 60, "they hardly differ"
    return hashlib.sha256(repr(answers).encode()).hexdigest()
