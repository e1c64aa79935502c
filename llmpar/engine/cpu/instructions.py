"""What kernels are compiled for: one object for each kind of processor, and the table of them.

A vector's width is the processor's; a panel's (`precision.PANEL`) belongs to the packed weights, and is the same
everywhere. To use another processor well, add an object here and to the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmpar.engine.cpu import amx
from llmpar.engine.cpu.codes_arm import bfloats_bfdot, bytes_dotprod, codes_dotprod, octets_dotprod
from llmpar.engine.cpu.codes_x86 import (
    bfloats_avx512,
    bytes_avx2,
    bytes_avxvnni,
    bytes_vnni,
    codes_avx2,
    codes_avx512,
    codes_avxvnni,
    codes_vnni,
    nibbles_avx2,
    nibbles_avx512,
    octets_avx2,
    widened_avx2,
    widened_avx512,
)
from llmpar.engine.cpu.dots import BFLOATS, BYTES, CODED, E4M3, E5M2, LOOKUPS, NIBBLES, OCTETS, SIXES, Dot, Emit
from llmpar.engine.cpu.matrices_arm import EmitSquares, bfloats_bfmmla, bytes_i8mm, codes_i8mm, octets_i8mm
from llmpar.engine.cpu.vector import HOST, floats, ints

Widen = Callable[[Any, Any], Any]
"""(builder, vector of words with two int16 each) → the sums of both in each."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """A processor's own instructions for a dot product, and the feature, by LLVM's name, with which they come.

    Where `is_signed`, they sum what bytes stand for that are stored with 128 added, so that nothing is left to undo.
    Where there is `widen`, they sum int16, two in each lane, of which it makes the sums at the end of a block.
    """

    dot: Dot
    feature: str
    emit: Emit
    is_signed: bool = False
    widen: Widen | None = None


@dataclass(frozen=True, slots=True)
class Matrix:
    """Instructions that multiply two rows with two channels, and the feature with which they come.

    They sum what `Instruction` of the same dot product sums, to the same bits.
    """

    dot: Dot
    feature: str
    emit: EmitSquares


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """How one kind of processor computes products and attention.

    Args:
        is_here: whether this processor is of the kind.
        lanes: numbers of 32 bits in a vector. They divide a page's positions (`pages.PAGE`).
        shapes: of how many rows of inputs, and neighbouring vectors of output channels, a product keeps the sums in
            registers, beside what is multiplied; the fewest rows first. `lanes` times the vectors divide a panel
            (`precision.PANEL`). Few rows wait for memory, which is fastest read as it lies: all vectors of a panel.
        dots: its instructions for dot products. Where it has none for one, the portable way is compiled.
        matrices: its instructions for two rows at once, beside `dots`, which have what one row takes.
        tiles: what AMX calls its instruction for a dot product; it takes the place of `dots` and `shapes`.
        attended: vectors whose sums attention keeps in registers, beside what is multiplied.
        strip: bytes of a panel's weights that all rows meet before the next are touched, which are fetched meanwhile.
            None where whole panels do as well: the nearest caches hold enough, and what is read next is foreseen.
        halves: whether floats of 16 bits, if it has no instruction for them, are multiplied faster than those of 32, as
            was measured, since half as much is read.
    """

    is_here: bool
    lanes: int
    shapes: tuple[tuple[int, int], ...]
    dots: tuple[Instruction, ...] = ()
    matrices: tuple[Matrix, ...] = ()
    tiles: tuple[tuple[Dot, str], ...] = ()
    attended: int = 6
    strip: int | None = None
    halves: bool = False

    @property
    def tile_rows(self) -> int:
        """How many rows of inputs are multiplied at once."""
        return amx.ROWS if self.tiles else self.shapes[-1][0]

    @property
    def floats(self) -> Any:
        """The type of a vector of float32."""
        return floats(self.lanes)

    @property
    def ints(self) -> Any:
        """The type of a vector of int32, or of any words."""
        return ints(self.lanes)

    def meets_whole_panels(self, dot: Dot) -> bool:
        """Tell whether rows meet a whole panel of this form at once; tiles do, which have their own way with memory."""
        return self.strip is None or self.tile(dot) is not None

    def sums(self, dot: Dot) -> Any:
        """Return the type of a vector of sums."""
        return self.ints if dot.is_integer else self.floats

    def own(self, dot: Dot) -> Instruction | None:
        """Return this processor's instruction for a dot product, None if it has none."""
        return next((own for own in self.dots if own.dot is dot and HOST.get(own.feature, False)), None)

    def emit(self, dot: Dot) -> Emit:
        """Return the best way to compute a dot product."""
        own = self.own(dot)
        return own.emit if own else dot.portable

    def is_signed(self, dot: Dot) -> bool:
        """Tell whether that way sums what bytes stand for that are stored with 128 added."""
        own = self.own(dot)
        return own is not None and own.is_signed

    def widen(self, dot: Dot) -> Widen | None:
        """Return what makes sums of what that way leaves of a block; None where these are the sums."""
        own = self.own(dot)
        return own.widen if own else None

    def matrix(self, dot: Dot) -> EmitSquares | None:
        """Return how two rows are multiplied at once, None where each is by itself."""
        known = [one for one in self.matrices if one.dot is dot and HOST.get(one.feature, False)]
        return known[0].emit if known and self.own(dot) else None

    def tile(self, dot: Dot) -> str | None:
        """Return what AMX calls its instruction for a dot product, None where vectors compute it."""
        return next((name for known, name in self.tiles if known is dot), None)


_STRIP = 12 << 10  # with as many bytes to come, and the inputs of a tile, they fit the least cache there is
_AVX2_OCTETS = (
    Instruction(OCTETS, "avx2", octets_avx2, is_signed=True),
    Instruction(LOOKUPS, "avx2", octets_avx2, is_signed=True),
    Instruction(BYTES, "avx2", bytes_avx2, is_signed=True),
)
_AVX512_DOTS = (
    *(Instruction(dot, "avx512vnni", codes_vnni) for dot in CODED),
    Instruction(NIBBLES, "avx512bw", nibbles_avx512, widen=widened_avx512),
    Instruction(SIXES, "avx512bw", codes_avx512(SIXES.bits)),
    Instruction(BYTES, "avx512vnni", bytes_vnni),
    *(Instruction(dot, "avx512bf16", bfloats_avx512) for dot in (BFLOATS, E4M3, E5M2)),
    *_AVX2_OCTETS,
)
_AVX512_SHAPES = ((1, 3), (2, 3), (4, 3))  # 24 of 32 registers: a block's sums, and what they are added to
_AVX512_ATTENDED = 16  # beside four of keys or values and one of a query
AMX = InstructionSet(
    is_here=amx.HAS_TILES,
    lanes=amx.WORDS,
    shapes=_AVX512_SHAPES,
    dots=_AVX512_DOTS,
    attended=_AVX512_ATTENDED,
    tiles=((BYTES, "tdpbusd"), (BFLOATS, "tdpbf16ps")),
)
AVX512 = InstructionSet(
    is_here=HOST.get("avx512f", False),
    lanes=16,
    shapes=_AVX512_SHAPES,
    dots=_AVX512_DOTS,
    attended=_AVX512_ATTENDED,
)
AVX2 = InstructionSet(
    is_here=HOST.get("avx2", False),
    lanes=16,  # LLVM computes each vector as two, whose schedule was 13 % faster than that of 8 lanes
    shapes=((1, 3), (2, 3), (4, 1)),  # 8 or 12 of 16 registers: the dot products need some for themselves
    dots=(
        *(Instruction(dot, "avxvnni", codes_avxvnni) for dot in CODED),
        Instruction(BYTES, "avxvnni", bytes_avxvnni),
        Instruction(NIBBLES, "avx2", nibbles_avx2, widen=widened_avx2),
        Instruction(SIXES, "avx2", codes_avx2(SIXES.bits)),
        *_AVX2_OCTETS,
    ),
    strip=_STRIP,
    halves=True,  # twice as fast for 1 to 4 rows, 1.2 times for 16, and as fast for 64
)
NEON = InstructionSet(
    is_here=HOST.get("neon", False),
    lanes=16,  # four registers of 32
    shapes=((1, 3), (4, 1)),
    dots=(
        *(Instruction(dot, "dotprod", codes_dotprod) for dot in (NIBBLES, SIXES)),
        *(Instruction(dot, "dotprod", octets_dotprod, is_signed=True) for dot in (OCTETS, LOOKUPS)),
        Instruction(BYTES, "dotprod", bytes_dotprod, is_signed=True),
        *(Instruction(dot, "bf16", bfloats_bfdot) for dot in (BFLOATS, E4M3, E5M2)),
    ),
    matrices=(
        *(Matrix(dot, "i8mm", codes_i8mm) for dot in (NIBBLES, SIXES)),
        *(Matrix(dot, "i8mm", octets_i8mm) for dot in (OCTETS, LOOKUPS)),
        Matrix(BYTES, "i8mm", bytes_i8mm),
        *(Matrix(dot, "bf16", bfloats_bfmmla) for dot in (BFLOATS, E4M3, E5M2)),
    ),
    strip=_STRIP,
)
PORTABLE = InstructionSet(
    is_here=True,
    lanes=16,  # LLVM computes each vector in as many parts as it takes
    shapes=((1, 3), (4, 1)),
    strip=_STRIP,
)

INSTRUCTION_SETS = (AMX, AVX512, AVX2, NEON, PORTABLE)
"""Every one that kernels can be compiled for, the best first."""
HERE = next(known for known in INSTRUCTION_SETS if known.is_here)
"""The one that kernels are compiled for."""


def is_native(dot: Dot) -> bool:
    """Tell whether this processor has an instruction for a dot product, or none has and the portable way is as good."""
    return HERE.own(dot) is not None or not any(own.dot is dot for known in INSTRUCTION_SETS for own in known.dots)


def is_worthwhile(dot: Dot) -> bool:
    """Tell whether products are faster in a form of weights than in longer ones: mostly if it has instructions."""
    return is_native(dot) or (dot is BFLOATS and HERE.halves)
