"""How far a decoder's logits are from the model's: by what probabilities depend on, and nothing else."""

from __future__ import annotations

import pytest
import torch
from support.tiny_models import make

from llmpar.engine.parts import take_apart


def test_what_all_logits_have_in_common_does_not_count() -> None:
    parts = take_apart(make("llama"))
    own = parts.probe_logits
    assert parts.distance(own) == 0
    assert parts.distance(own + torch.arange(8)[:, None] * 100) < 1e-4
    spread = own - own.mean(-1, keepdim=True)
    assert parts.distance(own + spread) == pytest.approx(1)
    assert parts.distance(own.flip(-1)) > 1
