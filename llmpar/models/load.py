"""A model directory → weights in memory, ready for an engine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmpar.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "int8"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal language model of transformers, and what its files say about using it.

    `context_length` is the most tokens, prompt and output together; `stop_ids` end an answer. `precision` is what the
    engine is to compute in: weights for int8 are float32 until it quantises them.
    """

    model: Any
    context_length: int
    stop_ids: frozenset[int]
    precision: Precision


def load_model(
    path: Path, device: str = "auto", precision: Precision | Literal["auto"] = "auto", source_bits: int | None = None
) -> LoadedModel:
    """Load the weights of a model directory, safetensors only, without running any code from it.

    Args:
        path: the directory.
        device: "auto" (CUDA, then MPS, if there), "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto" is no less precise than the weights were in their file: bf16 where the device computes it
            natively, for weights of 16 bits or fewer; else fp32. int8 is faster still and less precise (it rounds what
            goes into a layer, not only its weights), so it is never chosen unasked.
        source_bits: bits per weight of the file that the weights came from, None if unknown.

    Raises:
        ModelUnavailable: the device is not there, the files are damaged, or this is no causal language model.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging  # untyped
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    target = find_device(device)
    if precision == "auto":
        precision = _choose_precision(target, source_bits)
    elif precision == "int8" and not (target.type == "cpu" and "x86" in torch.backends.quantized.supported_engines):
        raise ModelUnavailable(f"--precision int8: not on {target.type} here; use fp32 or bf16")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except Exception as error:  # whatever transformers and safetensors make of damaged files
        reason = str(error).strip().partition("\n")[0]
        raise ModelUnavailable(f"{path}: cannot be loaded: {reason}") from error
    model = model.to(target).eval().requires_grad_(False)
    config = model.config.get_text_config()
    return LoadedModel(model, int(getattr(config, "max_position_embeddings", 0) or 2048), stop_ids(path), precision)


def stop_ids(path: Path) -> frozenset[int]:
    """Return the ids that end an answer, by the model's generation config or else its config."""
    for name in ("generation_config.json", "config.json"):
        if (path / name).exists():
            value = read_json(path / name).get("eos_token_id")
            if value is not None:
                return frozenset(value if isinstance(value, list) else [value])
    return frozenset()


def read_json(file: Path) -> dict[str, Any]:
    """Return a JSON file's object.

    Raises:
        ModelUnavailable: the file is missing or damaged.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{file}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelUnavailable(f"{file}: is damaged: not an object")
    return content


def find_device(name: str) -> torch.device:
    """Return the torch device called `name`.

    Raises:
        ModelUnavailable: it is not on this machine.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ModelUnavailable(f"device {name}: not on this machine (torch sees {torch.cuda.device_count()} CUDA)")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ModelUnavailable("device mps: not on this machine")
    return device


def _choose_precision(device: torch.device, source_bits: int | None) -> Precision:
    import torch

    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    # Without its own instructions bf16 is converted back and forth and loses to fp32.
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if device.type == "cpu" and (source_bits or 32) <= 16 and native and native():
        return "bf16"
    return "fp32"
