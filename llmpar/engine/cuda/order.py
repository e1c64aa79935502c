"""The order in which sums are made on a GPU: one, whatever the number of rows, so that an answer has no neighbours.

Tensor cores add in the order of the inputs, whichever tiles a product is cut into: on Hopper, cuBLAS and Triton give
the same bits for all tiles. What changes them is a sum that several programs divide (split-K), and cuBLAS does so only
with a workspace. Without one it took no longer for any product of models of 135M, 0.6B and 8B on an H100.
"""

from __future__ import annotations

import os
from typing import Any

import torch

_NUM_ROWS = 1024
_COUNTS = (1, 2, 7, 16, 17, 64, 65, 128, 255, 256, 640)


def keep_order() -> None:
    """Let cuBLAS have no workspace in this process; called before it is first used. What the user has set stays.

    cuBLASLt keeps its own, and no product of ours is made by it: torch warns where it is to share one of no bytes.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    os.environ.setdefault("TORCH_CUBLASLT_UNIFIED_WORKSPACE", "0")
    torch.backends.cuda.preferred_blas_library("cublas")
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def has_order(layer: Any, num_inputs: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Tell whether rows come out of a linear layer alike, however many others there are.

    Args:
        layer: takes rows (M, K).
        num_inputs: K.
        dtype: of the rows.
        device: where it computes.
    """
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(_NUM_ROWS, num_inputs, generator=draw).to(device, dtype)
    whole = layer(x)
    return all(torch.equal(layer(x[:count]), whole[:count]) for count in _COUNTS)
