"""Workers that have nothing to do help those that have: they take parts of a kernel's work.

A part is computed as it would be without help, so no bit of a result depends on who helps. A kernel *posts* its work
on its worker's seat of a board, and takes parts itself until none is left. Helpers look through the seats; one that
finds work enters the seat, takes parts, and leaves. The kernel returns when its seat is empty: what it posted lies on
its stack. With nobody to help, nothing is posted.

Where other programs use the cores, a helper may lose its own in the middle of a part, and waiting for it may take
longer than its help saves. A worker that had to wait too often goes without help for a while.

All of this happens in generated code, without Python's lock: parts take microseconds. A helper that finds nothing spins
for a moment, then looks every few dozen microseconds, and soon goes back to Python (see `engine.worker`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from llmpar.engine.cpu.compiled import OPTIONS, kernel
from llmpar.engine.cpu.vector import I8, I32, function, number

Seat = tuple[npt.NDArray[np.int64], int]
"""A board (seats, WORDS), and which of its seats is a worker's."""

_I64 = ir.IntType(64)
_PART = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), _I64, _I64])
WORDS = 16  # of a seat: two lines of a cache, so that no two seats share one
_OPEN, _CODE, _ARGUMENTS, _COUNT, _GRAIN, _INSIDE = range(6)
_LATE, _WITHOUT = 6, 7  # its own matter: how often help was late lately, and how many kernels still go without
_NEXT = 8  # what parts are taken from, in a line of its own
_FREE = 14  # of the first seat: how many helpers look for work
_SPINS = 2000  # a look at all seats, without work; each pauses for some 40 to 140 cycles
_NAPS, _NAP = 40, 50  # then so many looks, with as many microseconds between
_MOST_LATE, _GOES_WITHOUT = 16, 1000  # a late one counts 2, and one in time takes back 1
_PATIENCE = 50_000  # nanoseconds, beside half of what one's own parts took
_MOST_JOBS = 32  # after which a helper looks whether it has work of its own

ALONE: Seat = (np.zeros((0, WORDS), np.int64), 0)
"""The seat of who computes without help."""


def make_board(num_seats: int) -> npt.NDArray[np.int64]:
    """Return a board (num_seats, WORDS) on which nothing is posted."""
    room = np.zeros((num_seats + 1) * WORDS, np.int64)
    skipped = -(room.ctypes.data // 8) % WORDS
    return room[skipped : skipped + num_seats * WORDS].reshape(num_seats, WORDS)


def part(compute: Callable[..., Any]) -> Any:
    """Compile what `share` calls: a function of begin, end, and the arguments of its kernel."""
    return njit(**OPTIONS)(compute)


class _Words:
    """The words of a seat inside generated code."""

    def __init__(self, b: Any, begin: Any) -> None:
        self._b, self._begin = b, begin

    def at(self, word: int) -> Any:
        return self._b.gep(self._begin, [number(word)])

    def load(self, word: int) -> Any:
        return self._b.load_atomic(self.at(word), "seq_cst", 8)

    def store(self, word: int, value: Any) -> None:
        self._b.store_atomic(value, self.at(word), "seq_cst", 8)

    def add(self, word: int, value: int) -> Any:
        """Add to a word, and return what it was."""
        return self._b.atomic_rmw("add", self.at(word), ir.Constant(_I64, value), "seq_cst")


def _words(b: Any, board: Any, seat: Any) -> _Words:
    begin = b.bitcast(board, _I64.as_pointer())
    return _Words(b, b.gep(begin, [b.mul(seat, number(WORDS))]))


def _loop_while(b: Any, condition: Callable[[], Any], body: Callable[[], None]) -> None:
    head, inside, after = (b.append_basic_block(name) for name in ("while", "do", "done"))
    b.branch(head)
    b.position_at_end(head)
    b.cbranch(condition(), inside, after)
    b.position_at_end(inside)
    body()
    b.branch(head)
    b.position_at_end(after)


def _take_parts(b: Any, words: _Words, code: Any, arguments: Any, count: Any, grain: Any) -> None:
    """Take and compute parts of what is posted until none is left."""
    begin = cgutils.alloca_once(b, _I64)

    def taken() -> Any:
        found = b.mul(words.add(_NEXT, 1), grain)
        b.store(found, begin)
        return b.icmp_signed("<", found, count)

    def compute() -> None:
        first = b.load(begin)
        end = b.add(first, grain)
        b.call(code, [arguments, first, b.select(b.icmp_signed("<", end, count), end, count)])

    _loop_while(b, taken, compute)


def _pause(b: Any) -> None:
    """Let the processor's other half work, where it has two."""
    machine = os.uname().machine
    if machine == "x86_64":
        b.call(function(b, "llvm.x86.sse2.pause", ir.VoidType(), []), [])
    elif machine in ("aarch64", "arm64"):
        b.call(function(b, "llvm.aarch64.hint", ir.VoidType(), [I32]), [ir.Constant(I32, 1)])


def _code_of(context: Any, b: Any, compute: Any, signature: Any, arguments: Any) -> Any:
    """Return a function (address of arguments, begin, end) that calls `compute`; behind them it notes a failure."""
    overload = compute.dispatcher.overloads[signature.args]
    context.add_linking_libs([overload.library])
    code = ir.Function(b.module, _PART, b.module.get_unique_name("part"))
    code.linkage = "internal"
    own = ir.IRBuilder(code.append_basic_block("entry"))
    room = own.bitcast(code.args[0], arguments.type)
    found = own.load(cgutils.gep_inbounds(own, room, 0, 0))
    values = [own.extract_value(found, index) for index in range(len(signature.args) - 2)]
    status, _ = context.call_internal_no_propagate(own, overload.fndesc, signature, [*code.args[1:], *values])
    with own.if_then(status.is_error):  # there was no memory
        own.store(ir.Constant(I8, 1), cgutils.gep_inbounds(own, room, 0, 1))
    own.ret_void()
    return code


def _now(b: Any) -> Any:
    """Return nanoseconds since some time."""
    room = cgutils.alloca_once(b, ir.ArrayType(_I64, 2))
    clock = ir.Constant(I32, time.CLOCK_MONOTONIC)
    b.call(function(b, "clock_gettime", I32, [I32, room.type]), [clock, room])
    seconds, rest = (b.load(cgutils.gep_inbounds(b, room, 0, index)) for index in range(2))
    return b.add(b.mul(seconds, number(1_000_000_000)), rest)


def _wants_help(b: Any, own: _Words) -> Any:
    """Return whether a worker may post; one that goes without help for a while has one kernel less to go."""
    left = own.load(_WITHOUT)
    goes_without = b.icmp_signed(">", left, number(0))
    own.store(_WITHOUT, b.select(goes_without, b.sub(left, number(1)), left))
    return b.not_(goes_without)


def _judge(b: Any, own: _Words, work: Any, wait: Any) -> None:
    """Count whether a worker had to wait too long after its own parts; times are nanoseconds."""
    is_late = b.icmp_signed(">", wait, b.add(b.sdiv(work, number(2)), number(_PATIENCE)))
    before = own.load(_LATE)
    less = b.select(b.icmp_signed(">", before, number(0)), b.sub(before, number(1)), before)
    late = b.select(is_late, b.add(before, number(2)), less)
    is_too_much = b.icmp_signed(">", late, number(_MOST_LATE))
    own.store(_LATE, b.select(is_too_much, number(0), late))
    with b.if_then(is_too_much):
        own.store(_WITHOUT, number(_GOES_WITHOUT))


@intrinsic
def share(typing: Any, seat: Any, count: Any, grain: Any, compute: Any, arguments: Any) -> Any:
    """Compute `count` items, with the help of whoever is free; return whether memory ran out.

    Args:
        seat: see `Seat`.
        count: of items.
        grain: how many of them are a part.
        compute: a `part`, called with the first item, the one after the last, and the arguments.
        arguments: a tuple.
    """
    called = compute.get_call_type(typing, (types.intp, types.intp, *arguments.types), {})

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        board_type = signature.args[0].types[0]
        board = context.make_array(board_type)(context, b, b.extract_value(values[0], 0))
        num_seats = cgutils.unpack_tuple(b, board.shape, 2)[0]
        room = cgutils.alloca_once(b, ir.LiteralStructType([values[4].type, I8]))
        b.store(values[4], cgutils.gep_inbounds(b, room, 0, 0))
        b.store(ir.Constant(I8, 0), cgutils.gep_inbounds(b, room, 0, 1))
        code = _code_of(context, b, compute, called, room)
        posted = b.bitcast(room, I8.as_pointer())
        total, step = values[1], values[2]
        is_worth = b.and_(b.icmp_signed(">", num_seats, number(1)), b.icmp_signed(">", total, step))
        helped = cgutils.alloca_once_value(b, ir.Constant(ir.IntType(1), 0))
        own = _words(b, board.data, b.extract_value(values[0], 1))
        with b.if_then(is_worth):
            free = _words(b, board.data, number(0)).load(_FREE)
            b.store(b.and_(b.icmp_signed(">", free, number(0)), _wants_help(b, own)), helped)
        with b.if_else(b.load(helped)) as (together, alone):
            with together:
                begun = _now(b)
                own.store(_CODE, b.ptrtoint(code, _I64))
                own.store(_ARGUMENTS, b.ptrtoint(posted, _I64))
                own.store(_COUNT, total)
                own.store(_GRAIN, step)
                own.store(_NEXT, number(0))
                own.store(_OPEN, number(1))
                _take_parts(b, own, code, posted, total, step)
                ended = _now(b)
                own.store(_OPEN, number(0))
                spins = cgutils.alloca_once_value(b, number(0))

                def wait() -> None:
                    _pause(b)
                    b.store(b.add(b.load(spins), number(1)), spins)
                    with b.if_then(b.icmp_signed(">", b.load(spins), number(_SPINS))):  # it may have lost its core
                        b.call(function(b, "sched_yield", I32, []), [])

                _loop_while(b, lambda: b.icmp_signed("!=", own.load(_INSIDE), number(0)), wait)
                _judge(b, own, b.sub(ended, begun), b.sub(_now(b), ended))
            with alone:
                b.call(code, [posted, number(0), total])
        failed = b.load(cgutils.gep_inbounds(b, room, 0, 1))
        return b.icmp_unsigned("!=", failed, ir.Constant(I8, 0))

    return types.boolean(seat, types.intp, types.intp, compute, arguments), generate


@intrinsic
def _enter(_: Any, board: Any, seat: Any) -> Any:
    """Take parts of what is posted on a seat; return whether there was any."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        words = _words(b, context.make_array(signature.args[0])(context, b, values[0]).data, values[1])
        found = cgutils.alloca_once_value(b, ir.Constant(ir.IntType(1), 0))
        with b.if_then(b.icmp_signed("!=", words.load(_OPEN), number(0))):
            words.add(_INSIDE, 1)
            # Only now is what is posted sure to stay.
            with b.if_then(b.icmp_signed("!=", words.load(_OPEN), number(0))):
                b.store(ir.Constant(ir.IntType(1), 1), found)
                code = b.inttoptr(words.load(_CODE), _PART.as_pointer())
                arguments = b.inttoptr(words.load(_ARGUMENTS), I8.as_pointer())
                _take_parts(b, words, code, arguments, words.load(_COUNT), words.load(_GRAIN))
            words.add(_INSIDE, -1)
        return b.load(found)

    return types.boolean(board, types.intp), generate


@intrinsic
def _count_free(_: Any, board: Any, change: Any) -> Any:
    """Add to the number of helpers, and return what it was."""

    def generate(context: Any, b: Any, signature: Any, values: Any) -> Any:
        words = _words(b, context.make_array(signature.args[0])(context, b, values[0]).data, number(0))
        return b.atomic_rmw("add", words.at(_FREE), values[1], "seq_cst")

    return types.intp(board, types.intp), generate


@intrinsic
def _rest(_: Any, microseconds: Any) -> Any:
    """Wait so many microseconds, or for 0 as short as can be."""

    def generate(_: Any, b: Any, __: Any, values: Any) -> Any:
        with b.if_else(b.icmp_signed("==", values[0], number(0))) as (shortly, longer):
            with shortly:
                _pause(b)
            with longer:
                b.call(function(b, "usleep", I32, [I32]), [b.trunc(values[0], I32)])
        return ir.Constant(I8.as_pointer(), None)

    return types.void(types.intp), generate


@kernel
def help_others(board, seat, most_helpers):
    """Compute parts of what is posted on a board until little has been for some time; return whether any was.

    Args:
        board: (seats, WORDS).
        seat: one's own, on which nothing is posted.
        most_helpers: how many may help at once; where there are as many, nothing is done.
    """
    num_jobs, idle = 0, 0
    if _count_free(board, 1) < most_helpers:
        while num_jobs < _MOST_JOBS and idle < _SPINS + _NAPS:
            found = False
            for other in range(seat + 1, seat + len(board)):
                if _enter(board, other % len(board)):
                    found = True
                    num_jobs += 1
            idle = 0 if found else idle + 1
            if not found:
                _rest(0 if idle < _SPINS else _NAP)
    _count_free(board, -1)
    return num_jobs > 0
