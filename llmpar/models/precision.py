"""What a model is computed with: which devices, and in which precision. Loads nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llmpar.engine.precision_names import TORCH_TYPES, PrecisionChoice, PrecisionName
from llmpar.errors import ModelUnavailable
from llmpar.models.devices import find_devices as find_devices
from llmpar.models.devices import has_bf16, has_fp8

_SHORT_BITS = 8  # of a weight in int8


def find_arithmetic(
    device: str, precision: PrecisionChoice, source_bits: int | None, path: Path | None = None
) -> tuple[tuple[str, ...], PrecisionName]:
    """Return the devices and the precision that `load_model` computes with; the arguments and errors are its own.

    A model of another shape than the Llama's takes bf16 or fp32 where this says less, and one that is too far off in a
    precision takes a longer one. Both follow from the files and from what is said here. Without a path, a GPU is taken
    to be large enough for weights of 16 bits.
    """
    devices = find_devices(device)
    kind = devices[0].partition(":")[0]
    taken = precision_on(kind, precision, source_bits, has_bf16)
    if kind == "cuda" and taken == "fp8" and not has_fp8(devices):
        raise ModelUnavailable(
            f"precision fp8: {devices[0]} has no such arithmetic, which begins with compute capability 8.9; "
            "use fp32, bf16, int8 or int4"
        )
    is_short = (source_bits or 16) <= _SHORT_BITS
    if precision == "auto" and taken == "bf16" and is_short and path:
        from llmpar.models.device_needs import suits  # which brings numpy, slow for those who need none

        if not suits(path, taken, devices):
            return devices, "int8"  # in which weights of fewer bits stay what they are
    return devices, taken


def precision_on(
    kind: str, precision: PrecisionChoice, source_bits: int | None, can_bf16: Callable[[], bool] = lambda: True
) -> PrecisionName:
    """Return the precision that a model is computed with on a kind of device, of this machine or another.

    Args:
        kind: "cpu", "cuda" or "mps".
        precision: what is asked for.
        source_bits: bits that a weight has in the model's file; None where nobody knows.
        can_bf16: tells whether GPUs of that machine compute with bf16. Where they cannot be asked they do, and have
            fp8, and room for weights of 16 bits.

    Raises:
        ModelUnavailable: there is no such precision on it.
    """
    if precision == "fp8" and kind != "cuda":
        others = "fp32, bf16, int8 or int4" if kind == "cpu" else " or ".join(TORCH_TYPES)
        raise ModelUnavailable(f"precision fp8: not on {kind}; use {others}")
    if kind == "cpu":
        return _fastest(source_bits) if precision == "auto" else precision
    if precision == "auto":
        return "bf16" if kind == "cuda" and can_bf16() else "fp32"
    if precision not in TORCH_TYPES and kind != "cuda":
        raise ModelUnavailable(f"precision {precision}: not on {kind}; use {' or '.join(TORCH_TYPES)}")
    return precision


def _fastest(source_bits: int | None) -> PrecisionName:
    """Return the precision that loses nothing which weights of so many bits hold, and is fastest on this CPU."""
    from llmpar.engine.cpu.precision import fastest

    return fastest(source_bits or 32).name
