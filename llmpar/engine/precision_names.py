"""The names of precisions, for options and choices. Imports neither Numba nor torch."""

from __future__ import annotations

from typing import Literal

PrecisionName = Literal["fp32", "bf16", "fp8", "int8", "int4"]
"""Every precision that some engine computes in; `cpu.precision.PRECISIONS` has an object for those of the CPU."""
PrecisionChoice = Literal["auto", PrecisionName]
"""What a user may ask for: "auto" leaves it to the files and the device."""
TORCH_TYPES: dict[PrecisionName, str] = {"fp32": "float32", "bf16": "bfloat16"}
"""What torch computes in, on any device, and what torch calls it; it lacks the others."""
SHORT: tuple[PrecisionName, ...] = ("fp8", "int8", "int4")
"""Those in which weights are shorter than what a GPU of ours has keys and values in."""
KVCacheName = Literal["auto", "fp8"]
"""What keys and values are kept in: what their engine computes in, or floats of 8 bits, on GPUs."""
