"""Codes as they lie in the blocks of a file: taken out as an array, or laid straight into the words that kernels take.

The loops are compiled, as numpy would make a call for every 16 or 32 bytes. They run over slices, and in numbers of 8
bits alone, because only so does the compiler make vectors of them. One block at a time is unpacked, so that its codes
stay in the processor's nearest cache: an array of all of them would cost more than to read the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from llmpar.engine.cpu.compiled import inlined, kernel
from llmpar.engine.cpu.vector import I8, I16, ArrayArgument, ints, number, repeated, splat

Bytes = npt.NDArray[np.uint8]
_Number = TypeVar("_Number", np.uint8, np.uint32)
_BYTES = ir.VectorType(I8, 16)
_PLAIN = 32  # codes of an array that are taken for a block
_TOGETHER = 512  # codes of a row that are moved at once; those of a panel's rows stay in the nearest caches
_TURNED = 8  # rows that are turned at once, and words of each


class BlockLayout(NamedTuple):
    """Where codes are in a block.

    Args:
        size: bytes of a block.
        codes: how many codes it has.
        low: where in it the lower four bits of codes begin, or whole bytes if `runs` is 0.
        runs: how many runs of bytes have the lower bits: of each, all lower halves first, then the upper ones.
        half: bytes of a run.
        high: where in it higher bits begin, if there are any.
        planes: how many runs of 32 bytes have higher bits, each those of 32 · (8 / `high_bits`) codes: the lowest bits
            are those of the first 32. If 0, the i-th bit of 4 bytes is the fifth of the i-th of 32 codes.
        high_bits: how many higher bits a code has: 0, 1 or 2.
        zero: what is subtracted from what is read.
    """

    size: int
    codes: int
    low: int
    runs: int = 1
    half: int = 16
    high: int = 0
    planes: int = 0
    high_bits: int = 0
    zero: int = 0


@dataclass(frozen=True, slots=True)
class BlockCodes:
    """Codes (N, K) that lie in rows of blocks, `raw` (N, B · size).

    They are signed if they have a `zero` that is subtracted, or if they are whole bytes of that kind.
    """

    raw: Bytes
    layout: BlockLayout
    is_signed: bool

    @staticmethod
    def of(codes: npt.NDArray[Any]) -> BlockCodes:
        """Return an array of codes (N, K), int8 or uint8, as such; K is filled up to a multiple of 32."""
        missing = -codes.shape[1] % _PLAIN
        whole = np.pad(codes, ((0, 0), (0, missing))) if missing else codes
        layout = BlockLayout(_PLAIN, _PLAIN, 0, runs=0)
        return BlockCodes(np.ascontiguousarray(whole).view(np.uint8), layout, codes.dtype == np.int8)

    @property
    def shape(self) -> tuple[int, int]:
        """How many rows and columns there are."""
        return len(self.raw), self.raw.shape[1] // self.layout.size * self.layout.codes

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the array that they make."""
        return np.dtype(np.int8 if self.is_signed else np.uint8)

    def __getitem__(self, rows: Any, /) -> BlockCodes:
        """Return some rows (n, K)."""
        return BlockCodes(self.raw[rows], self.layout, self.is_signed)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return an array of them (N, K), which is always a new one."""
        codes = np.empty(self.shape, np.uint8)
        put_codes(_unwritable(self.raw), self.layout, np.uint8(-self.layout.zero % 256), codes)
        found = codes.view(self.dtype)
        return found if dtype is None else found.astype(dtype, copy=False)

    def lay(self, per_word: int, middle: int, words: npt.NDArray[np.uint32]) -> None:
        """Put them into words (P, W, PANEL), in which rows lie beside each other.

        Args:
            per_word: 4, a byte for each; or 8, the first four in the lower halves of bytes, the others in the upper.
            middle: what is added to signed ones, so that none is below zero.
            words: is written; what it has more of than there are codes becomes 0.
        """
        added = middle - self.layout.zero if self.is_signed else 0
        put_words(_unwritable(self.raw), self.layout, np.uint8(added % 256), per_word, words)


def _unwritable(raw: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    """Return an array that cannot be written to: for the other kind, kernels would be compiled once more."""
    found: npt.NDArray[_Number] = raw.view()
    found.flags.writeable = False
    return found


def _sixteen(generate: Callable[..., None]) -> Any:
    """Make an intrinsic of what writes code for 16 bytes at once.

    Numba's own loops over parts of arrays count references to each part, which costs more than to move its bytes.
    """

    def typed(_: Any, raw: Any, start: Any, codes: Any, place: Any, number: Any) -> Any:
        def written(context: Any, b: Any, signature: Any, values: Any) -> Any:
            source, target = (ArrayArgument(context, b, signature.args[i], values[i]) for i in (0, 2))
            generate(b, source, values[1], target, values[3], values[4])
            return context.get_dummy_value()

        return types.none(raw, types.intp, codes, types.intp, types.uint8), written

    return intrinsic(typed)


def _of_16(b: Any, number: Any) -> Any:
    return splat(b, number, _BYTES)


@_sixteen
def _copy(b: Any, raw: Any, start: Any, codes: Any, place: Any, added: Any) -> None:
    """Set 16 codes to 16 bytes, with a number added to each."""
    b.store(b.add(raw.at(start, _BYTES), _of_16(b, added)), codes.pointer(place, _BYTES), align=1)


@_sixteen
def _lower(b: Any, raw: Any, start: Any, codes: Any, place: Any, added: Any) -> None:
    """Set 16 codes to the lower halves of 16 bytes, with a number added to each."""
    halves = b.and_(raw.at(start, _BYTES), ir.Constant(_BYTES, [15] * 16))
    b.store(b.add(halves, _of_16(b, added)), codes.pointer(place, _BYTES), align=1)


@_sixteen
def _upper(b: Any, raw: Any, start: Any, codes: Any, place: Any, added: Any) -> None:
    """Set 16 codes to the upper halves of 16 bytes, with a number added to each."""
    halves = b.lshr(raw.at(start, _BYTES), ir.Constant(_BYTES, [4] * 16))
    b.store(b.add(halves, _of_16(b, added)), codes.pointer(place, _BYTES), align=1)


def _add(b: Any, codes: Any, place: Any, bits: Any) -> None:
    """Add 16 numbers to 16 codes, 16 times each."""
    target = codes.pointer(place, _BYTES)
    b.store(b.add(b.load(target, align=1), b.shl(bits, ir.Constant(_BYTES, [4] * 16))), target, align=1)


@_sixteen
def _add_ones(b: Any, raw: Any, start: Any, codes: Any, place: Any, shift: Any) -> None:
    """Add a fifth bit to 16 codes: one of each of 16 bytes."""
    _add(b, codes, place, b.and_(b.lshr(raw.at(start, _BYTES), _of_16(b, shift)), ir.Constant(_BYTES, [1] * 16)))


@_sixteen
def _add_pairs(b: Any, raw: Any, start: Any, codes: Any, place: Any, shift: Any) -> None:
    """Add a fifth and a sixth bit to 16 codes: two of each of 16 bytes."""
    _add(b, codes, place, b.and_(b.lshr(raw.at(start, _BYTES), _of_16(b, shift)), ir.Constant(_BYTES, [3] * 16)))


@_sixteen
def _add_flags(b: Any, raw: Any, start: Any, codes: Any, place: Any, _: Any) -> None:
    """Add a fifth bit to 16 codes: one of 2 bytes for each."""
    flags = b.bitcast(raw.at(start, I16), ir.VectorType(ir.IntType(1), 16))
    _add(b, codes, place, b.zext(flags, _BYTES))


@inlined
def _unpack(raw: Any, start: Any, layout: Any, added: Any, codes: Any, place: Any) -> None:
    """Set codes, from a place on, to those of the block that starts there, with a number added to each."""
    if layout.runs == 0:
        for first in range(0, layout.codes, 16):
            _copy(raw, start + layout.low + first, codes, place + first, added)
    for run in range(layout.runs):
        for first in range(0, layout.half, 16):
            pairs, to = start + layout.low + run * layout.half + first, place + 2 * run * layout.half + first
            _lower(raw, pairs, codes, to, added)
            _upper(raw, pairs, codes, to + layout.half, added)
    for first in range(0, layout.codes if layout.high_bits else 0, 16):
        turn, half = first // 32, first % 32
        if layout.planes == 0:
            _add_flags(raw, start + layout.high + first // 8, codes, place + first, np.uint8(0))
        elif layout.high_bits == 1:
            _add_ones(raw, start + layout.high + half, codes, place + first, np.uint8(turn))
        else:
            plane = start + layout.high + turn // 4 * 32 + half
            _add_pairs(raw, plane, codes, place + first, np.uint8(turn % 4 * 2))


@kernel
def put_codes(raw: Any, layout: Any, added: Any, codes: Any) -> None:
    """Set codes (N, K) to those in rows of blocks (N, B · size); `added` is added to each, and all are uint8."""
    for block in range(raw.size // layout.size):
        _unpack(raw, block * layout.size, layout, added, codes, block * layout.codes)


@intrinsic  # type: ignore[untyped-decorator]
def _turn(_: Any, codes: Any, place: Any, width: Any, words: Any, to: Any, step: Any, is_halved: Any) -> Any:
    """Put the words of 8 rows of codes beside each other, and the next 7 below these.

    Args:
        codes: rows of them, one behind the other, uint8.
        place: where the first row's begin.
        width: bytes from one row to the next.
        words: is written, (n,) uint32.
        to: where the first word of the first row goes; that of the second goes behind it.
        step: words from one row's to that row's next.
        is_halved: whether two words of codes become one, the second's in the upper halves of bytes.
    """

    def written(context: Any, b: Any, signature: Any, values: Any) -> Any:
        source, target = (ArrayArgument(context, b, signature.args[i], values[i]) for i in (0, 3))
        _, place, width, _, to, step, _ = values
        size = number(4)
        rows = []
        for _ in range(_TURNED):
            rows.append(_row_of_words(b, source, place, signature.args[6].literal_value))
            place = b.add(place, width)
        for row in _turned(b, rows):
            b.store(row, target.pointer(b.mul(to, size), ints(_TURNED)), align=4)
            to = b.add(to, step)
        return context.get_dummy_value()

    if not isinstance(is_halved, types.Literal):
        return None
    signature = types.none(codes, types.intp, types.intp, words, types.intp, types.intp, is_halved)
    return signature, written


def _row_of_words(b: Any, codes: ArrayArgument, place: Any, is_halved: bool) -> Any:
    """Return 8 words of a row; see `_turn`."""
    first = codes.at(place, ints(_TURNED))
    if not is_halved:
        return first
    second = codes.at(b.add(place, number(4 * _TURNED)), ints(_TURNED))
    low, high = (_chosen(b, first, second, range(i, 2 * _TURNED, 2)) for i in (0, 1))
    return b.or_(low, b.shl(high, repeated(high, 4)))


def _turned(b: Any, rows: list[Any]) -> list[Any]:
    """Return the columns of as many vectors as these have lanes: three times, halves of two are put together."""
    lanes = len(rows)
    half = lanes // 2
    low = [lane for i in range(half) for lane in (i, lanes + i)]
    for _ in range(lanes.bit_length() - 1):
        pairs = list(zip(rows[:half], rows[half:], strict=True))
        rows = [_chosen(b, *pair, [lane + more for lane in low]) for pair in pairs for more in (0, half)]
    return rows


def _chosen(b: Any, first: Any, second: Any, lanes: Iterable[int]) -> Any:
    return b.shuffle_vector(first, second, ir.Constant(ints(_TURNED), list(lanes)))


@kernel
def put_words(raw: Any, layout: Any, added: Any, per_word: Any, words: Any) -> None:
    """Set words (P, W, PANEL) to the codes in rows of blocks (N, B · size); see `BlockCodes.lay`."""
    together = max(1, _TOGETHER // layout.codes)
    num_panels, length, panel_size = words.shape
    flat, row_size, num_blocks = words.reshape(-1), raw.shape[1], raw.shape[1] // layout.size
    width = together * layout.codes
    codes = np.empty(panel_size * width, np.uint8)
    fours = codes.view(np.uint32)
    for panel in range(num_panels):
        missing = (panel + 1) * panel_size - raw.shape[0]
        if missing > 0:
            codes[(panel_size - missing) * width :] = 0
        for begin in range(0, num_blocks, together):
            end = min(begin + together, num_blocks)
            for channel in range(panel_size - max(0, missing)):
                start = (panel * panel_size + channel) * row_size
                for block in range(begin, end):
                    place = channel * width + (block - begin) * layout.codes
                    _unpack(raw, start + block * layout.size, layout, added, codes, place)
            count = (end - begin) * layout.codes // per_word
            to = (panel * length + begin * layout.codes // per_word) * panel_size
            whole = count // _TURNED * _TURNED
            for channel in range(0, panel_size, _TURNED):
                for word in range(0, whole, _TURNED):
                    place, first = channel * width + word * per_word, to + word * panel_size + channel
                    if per_word == 8:
                        _turn(codes, place, width, flat, first, panel_size, True)
                    else:
                        _turn(codes, place, width, flat, first, panel_size, False)
            for word in range(whole, count):
                for channel in range(panel_size):
                    place = (channel * width + word * per_word) // 4
                    found = fours[place]
                    if per_word == 8:
                        found |= fours[place + 1] << np.uint32(4)
                    flat[to + word * panel_size + channel] = found
        words[panel, num_blocks * layout.codes // per_word :] = 0


def put_six_bits(raw: Bytes, size: int, start: int, scales: Bytes, offsets: Bytes) -> None:
    """Put the 12 bytes that hold 8 scales and 8 offsets of 6 bits into arrays.

    Args:
        raw: rows of blocks (N, B · size).
        size: bytes of a block, a multiple of 4.
        start: where in a block the 12 bytes begin, a multiple of 4.
        scales: is written, (N, B · 8).
        offsets: is written, (N, B · 8).
    """
    words = np.require(raw, requirements="C").view(np.uint32)
    aligned = words if words.flags.aligned else words.copy()
    fours = (each.reshape(-1).view(np.uint32) for each in (scales, offsets))
    _put_six_bits(_unwritable(aligned.reshape(-1)), size // 4, start // 4, *fours)


@kernel
def _put_six_bits(raw: Any, size: Any, start: Any, scales: Any, offsets: Any) -> None:
    """Do that for words of 32 bits: four numbers at once, the upper two bits of the last four beside the first four."""
    whole, low, high = np.uint32(0x3F3F3F3F), np.uint32(0x0F0F0F0F), np.uint32(0x30303030)
    for block in range(raw.size // size):
        place = block * size + start
        first, second, both = raw[place], raw[place + 1], raw[place + 2]
        scales[2 * block] = first & whole
        scales[2 * block + 1] = both & low | first >> np.uint32(2) & high
        offsets[2 * block] = second & whole
        offsets[2 * block + 1] = both >> np.uint32(4) & low | second >> np.uint32(2) & high
