"""A directory of safetensors → its weights to read, by what its configuration says of their form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmpar.engine.source import WeightSource
from llmpar.models.checkpoints import awq, bitsandbytes, compressed_tensors, fp8, gptq, mxfp4, torchao
from llmpar.models.checkpoints.matrices import Matrix
from llmpar.models.checkpoints.source import CheckpointSource
from llmpar.models.checkpoints.tensors import Tensors
from llmpar.models.configuration import quantization

Find = Callable[[Tensors, Mapping[str, Any]], dict[str, Matrix]]
"""Returns the quantised weights of a checkpoint by their parameters' names, by what its configuration says of them."""
FORMATS: Mapping[str, Find] = {
    "gptq": gptq.find,
    "awq": awq.find,
    "compressed-tensors": compressed_tensors.find,
    "fp8": fp8.find,
    "fbgemm_fp8": fp8.find,
    "bitsandbytes": bitsandbytes.find,
    "mxfp4": mxfp4.find,
    "torchao": torchao.find,
}
"""The formats by the names that transformers gives them, its `quant_method`."""


def open_source(directory: Path) -> WeightSource | None:
    """Return the weights of a directory of safetensors; None if it has none.

    Raises:
        ModelUnavailable: it is damaged, or its weights are in a form that is not read, which is named.
    """
    if not any(directory.glob("*.safetensors")):
        return None
    options = quantization(directory)
    tensors = Tensors(directory)
    if options is None:
        return CheckpointSource(tensors, {})
    method = _method(options)
    if method not in FORMATS:
        raise tensors.unknown(f"quant_method {method!r}; these are read: {', '.join(FORMATS)}")
    found = FORMATS[method](tensors, options)
    if not found:
        raise tensors.damaged(f"its config.json says that its weights are quantised ({method}), and none is")
    return CheckpointSource(tensors, found)


def _method(options: Mapping[str, Any]) -> str:
    if options.get("quant_method") is None and (options.get("load_in_4bit") or options.get("load_in_8bit")):
        return "bitsandbytes"  # its first versions had no such field
    return str(options.get("quant_method"))
