"""The engine for GPUs, its kernels in Triton's interpreter: greedy fp32 equals `generate`, whatever N and the batch."""

from __future__ import annotations

import os
from copy import deepcopy
from functools import cache
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # read when kernels are defined

import pytest
import torch
from test_model_engine import OURS, PREFIX, collected, expected, make, prompts

triton = pytest.importorskip("triton")

from llmpar.engine.build import build_engine
from llmpar.engine.cuda.decoder import Decoder, describe
from llmpar.engine.request import SamplingParams


@cache
def decoder(name: str) -> Decoder:
    return describe(deepcopy(make(name)))


def answer(
    name: str, workers: int, batch: int, params: SamplingParams, prefix: list[int], count: int
) -> list[list[int]]:
    engine = build_engine(decoder(name), 256, frozenset({2}), workers, batch, prefix, max_memory=1 << 26)
    return collected(engine, prompts(name)[:count], params)


@pytest.mark.parametrize("name", OURS)
def test_greedy_equals_generate_token_for_token(name: str) -> None:
    assert answer(name, 1, 4, SamplingParams(16), PREFIX, 8) == expected(name)[:8]
