"""The forms in which GGUF files hold weights: how many share a block, and how many bytes it takes.

Numbers, names and sizes are ggml's: https://github.com/ggml-org/ggml/blob/master/include/ggml.h.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A form. `group` weights of a row, beginning at its first, are a block of `size` bytes; `bits` hold one."""

    name: str
    group: int
    size: int
    bits: int


KINDS = {
    0: Kind("F32", 1, 4, 32),
    1: Kind("F16", 1, 2, 16),
    2: Kind("Q4_0", 32, 18, 4),
    3: Kind("Q4_1", 32, 20, 4),
    6: Kind("Q5_0", 32, 22, 5),
    7: Kind("Q5_1", 32, 24, 5),
    8: Kind("Q8_0", 32, 34, 8),
    10: Kind("Q2_K", 256, 84, 2),
    11: Kind("Q3_K", 256, 110, 3),
    12: Kind("Q4_K", 256, 144, 4),
    13: Kind("Q5_K", 256, 176, 5),
    14: Kind("Q6_K", 256, 210, 6),
    16: Kind("IQ2_XXS", 256, 66, 2),
    17: Kind("IQ2_XS", 256, 74, 2),
    18: Kind("IQ3_XXS", 256, 98, 3),
    19: Kind("IQ1_S", 256, 50, 1),
    20: Kind("IQ4_NL", 32, 18, 4),
    21: Kind("IQ3_S", 256, 110, 3),
    22: Kind("IQ2_S", 256, 82, 2),
    23: Kind("IQ4_XS", 256, 136, 4),
    28: Kind("F64", 1, 8, 64),
    29: Kind("IQ1_M", 256, 56, 1),
    30: Kind("BF16", 1, 2, 16),
    34: Kind("TQ1_0", 256, 54, 2),
    35: Kind("TQ2_0", 256, 66, 2),
    39: Kind("MXFP4", 32, 17, 4),
}
"""By their numbers in files. Whole numbers and forms that no model is published in are left out."""
