"""What vector code is written with: LLVM IR for vectors of any width, and Numba's intrinsics for single numbers."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic


def _features() -> dict[str, bool]:
    """Return what Numba will compile for: this processor, unless its variables name another."""
    if config.CPU_FEATURES is not None or config.CPU_NAME is not None:
        return {name[1:]: True for name in (config.CPU_FEATURES or "").split(",") if name.startswith("+")}
    try:
        found = dict(llvm.get_host_cpu_features())
    except RuntimeError:  # LLVM cannot tell on this machine
        found = {}
    if not found and sys.platform == "darwin" and platform.machine() == "arm64":
        return {"neon": True, "dotprod": True}  # every such Mac has these, and macOS has no list
    return found


HOST = _features()
"""What the processor has, by LLVM's names."""
_HIGHEST_BITS = -0x7F7F7F80  # 0x80808080
I8, I16, I32, I64, F32 = *(ir.IntType(bits) for bits in (8, 16, 32, 64)), ir.FloatType()


def ints(lanes: int) -> Any:
    """Return the type of a vector of so many int32."""
    return ir.VectorType(I32, lanes)


def floats(lanes: int) -> Any:
    """Return the type of a vector of so many float32."""
    return ir.VectorType(F32, lanes)


class ArrayArgument:
    """An array argument inside generated code: element addresses and loads."""

    def __init__(self, context: Any, builder: Any, type_: Any, value: Any) -> None:
        self._builder = builder
        self.struct = context.make_array(type_)(context, builder, value)
        self.data = builder.bitcast(self.struct.data, I8.as_pointer())
        self.item = type_.dtype.bitwidth // 8
        self.strides = cgutils.unpack_tuple(builder, self.struct.strides, type_.ndim)
        self.shape = cgutils.unpack_tuple(builder, self.struct.shape, type_.ndim)

    def at(self, offset: Any, type_: Any, align: int = 1) -> Any:
        """Load a `type_` from `offset` bytes on."""
        return self._builder.load(self.pointer(offset, type_), align=align)

    def pointer(self, offset: Any, type_: Any) -> Any:
        """Return the address `offset` bytes on, as of a `type_`."""
        return self._builder.bitcast(self._builder.gep(self.data, [offset]), type_.as_pointer())


def number(value: int) -> Any:
    """Return a constant as an index of arrays is."""
    return ir.Constant(ir.IntType(types.intp.bitwidth), value)


def splat(builder: Any, value: Any, vector: Any) -> Any:
    """Return a vector of this type with `value` in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count))


def function(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Return a function that is not of this module, declared once: LLVM's own, mostly."""
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def prefetch(builder: Any, address: Any) -> None:
    """Have what lies there brought near; nothing happens where there is no memory."""
    void, pointer = ir.VoidType(), I8.as_pointer()
    fetch = function(builder, "llvm.prefetch.p0i8", void, [pointer, I32, I32, I32])
    builder.call(fetch, [address, *(ir.Constant(I32, value) for value in (0, 3, 1))])  # to read, into all caches, data


def repeated(like: Any, value: int) -> Any:
    """Return a constant of the type of `like`, a vector of integers, with `value` in every lane."""
    return ir.Constant(like.type, [value] * like.type.count)


def in_parts(builder: Any, size: int, compute: Callable[..., Any], *vectors: Any) -> Any:
    """Return a vector of 16 words, computed in parts of `size` lanes of each vector, as the registers have them."""
    parts = []
    for first in range(0, 16, size):
        chosen = ir.Constant(ints(size), list(range(first, first + size)))
        parts.append(
            compute(*(builder.shuffle_vector(one, ir.Constant(one.type, ir.Undefined), chosen) for one in vectors))
        )
    while len(parts) > 1:
        size *= 2
        both = ir.Constant(ints(size), list(range(size)))
        parts = [builder.shuffle_vector(*pair, both) for pair in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def flipped(builder: Any, words: list[Any]) -> list[Any]:
    """Return words with the highest bit of each byte flipped: bytes with 128 added become signed, and back."""
    return [builder.xor(word, repeated(word, _HIGHEST_BITS)) for word in words]


def looked_up(b: Any, places: Any, table: ArrayArgument) -> Any:
    """Return what a table of 16 bytes has at the places, from 0 to 15, that are the bytes of a vector of words."""
    lanes = places.type.count
    bytes_, sixteen = ir.VectorType(I8, 4 * lanes), ir.VectorType(I8, 16)
    known = table.at(number(0), sixteen)
    if lanes == 16 and HOST.get("avx512bw", False):
        return _shuffled(b, "llvm.x86.avx512.pshuf.b.512", known, places)
    if lanes == 16 and HOST.get("avx2", False):
        return in_parts(b, 8, lambda part: _shuffled(b, "llvm.x86.avx2.pshuf.b", known, part), places)
    if lanes == 16 and HOST.get("neon", False):
        find = function(b, "llvm.aarch64.neon.tbl1.v16i8", sixteen, [sixteen] * 2)
        return in_parts(
            b, 4, lambda part: b.bitcast(b.call(find, [known, b.bitcast(part, sixteen)]), part.type), places
        )
    wanted = b.bitcast(places, bytes_)
    found = ir.Constant(bytes_, None)
    for place in range(16):
        everywhere = ir.Constant(ir.VectorType(I32, bytes_.count), [place] * bytes_.count)
        value = b.shuffle_vector(known, ir.Constant(sixteen, ir.Undefined), everywhere)
        found = b.select(b.icmp_unsigned("==", wanted, repeated(wanted, place)), value, found)
    return b.bitcast(found, places.type)


def looked_up_floats(b: Any, places: Any, table: ArrayArgument) -> Any:
    """Return what a table of 16 float32 has at the places that the lowest four bits of a vector of words are."""
    lanes = places.type.count
    if lanes == 16 and HOST.get("avx512f", False):
        find = function(b, "llvm.x86.avx512.permvar.sf.512", floats(16), [floats(16), ints(16)])
        return b.call(find, [table.at(number(0), floats(16)), places])
    if lanes == 16 and HOST.get("avx2", False):
        halves = [table.at(number(first), floats(8)) for first in (0, 32)]
        find = function(b, "llvm.x86.avx2.permps", floats(8), [floats(8), ints(8)])

        def chosen(part: Any) -> Any:
            low, high = (b.call(find, [half, part]) for half in halves)
            is_high = b.icmp_signed("<", b.shl(part, repeated(part, 28)), repeated(part, 0))
            return b.select(is_high, high, low)

        return in_parts(b, 8, chosen, places)
    found = ir.Constant(floats(lanes), ir.Undefined)
    for lane in range(lanes):
        place = b.and_(b.extract_element(places, ir.Constant(I32, lane)), ir.Constant(I32, 15))
        at = b.mul(b.zext(place, number(0).type), number(4))
        found = b.insert_element(found, table.at(at, F32), ir.Constant(I32, lane))
    return found


def _shuffled(b: Any, name: str, known: Any, places: Any) -> Any:
    """Return what 16 bytes have at the places, by an instruction that looks up in each 16 bytes of a register."""
    bytes_ = ir.VectorType(I8, 4 * places.type.count)
    everywhere = ir.Constant(ir.VectorType(I32, bytes_.count), [byte % 16 for byte in range(bytes_.count)])
    table = b.shuffle_vector(known, ir.Constant(known.type, ir.Undefined), everywhere)
    find = function(b, name, bytes_, [bytes_] * 2)
    return b.bitcast(b.call(find, [table, b.bitcast(places, bytes_)]), places.type)


def multiply_add(builder: Any, x: Any, y: Any, total: Any) -> Any:
    """Return x · y + total, rounded once; all are vectors of as many float32."""
    vector = total.type
    fma = function(builder, f"llvm.fma.v{vector.count}f32", vector, [vector] * 3)
    return builder.call(fma, [x, y, total])


def widen_halves(b: Any, bits: Any) -> Any:
    """Return float32 of the bits of as many float16."""
    lanes = bits.type.count
    if HOST.get("f16c", False):
        return b.fpext(b.bitcast(bits, ir.VectorType(ir.HalfType(), lanes)), floats(lanes))
    wide = b.zext(bits, ints(lanes))
    sign = b.shl(b.and_(wide, repeated(wide, 0x8000)), repeated(wide, 16))
    size = b.shl(b.and_(wide, repeated(wide, 0x7FFF)), repeated(wide, 13))
    # The exponent is 112 less than that of a float32; multiplying counts for what has none, too.
    scaled = b.fmul(b.bitcast(size, floats(lanes)), ir.Constant(floats(lanes), [2.0**112] * lanes))
    infinite = b.icmp_unsigned(">=", size, repeated(wide, 0x0F800000))
    found = b.select(infinite, b.or_(size, repeated(wide, 0x7F800000)), b.bitcast(scaled, ints(lanes)))
    return b.bitcast(b.or_(found, sign), floats(lanes))


@intrinsic
def nearest(_: Any, x: Any) -> Any:
    """Return the whole number nearest to a float32, as float32; halves go to the even one."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        return b.call(function(b, "llvm.rint.f32", F32, [F32]), [values[0]])

    return types.float32(types.float32), generate


@intrinsic
def fused(_: Any, x: Any, y: Any, total: Any) -> Any:
    """Return x · y + total of three float32, rounded once."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        return b.call(function(b, "llvm.fma.f32", F32, [F32] * 3), values)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic
def float_of_bits(_: Any, bits: Any) -> Any:
    """Return the float32 whose bits are those of an int32."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        return b.bitcast(values[0], F32)

    return types.float32(types.int32), generate


@intrinsic
def bits_of_float(_: Any, x: Any) -> Any:
    """Return the bits of a float32 as an int32."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        return b.bitcast(values[0], I32)

    return types.int32(types.float32), generate
