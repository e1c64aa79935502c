"""MXFP4 as gpt-oss has it: blocks of 32 floats of 4 bits with scales that are powers of two, for many experts at once.

The experts of a layer are one weight here, whose rows (E · N, K) are the outputs of one expert after another.
Transformers' parameter is (E, K, N), each expert's matrix the other way round.
"""

from __future__ import annotations

from llmpar.models.checkpoints.four_bit_floats import four_bit_floats
from llmpar.models.checkpoints.matrices import Matrix
from llmpar.models.checkpoints.tensors import Tensors


def find(tensors: Tensors) -> dict[str, Matrix]:
    """Return the quantised weights of a checkpoint (see `opening.Find`)."""
    return {
        name: four_bit_floats(tensors, f"{name}_blocks", f"{name}_scales", "MXFP4")
        for name in tensors.ending("_blocks")
    }
