"""A file that is cut short while it is mapped: touching what is gone raises SIGBUS, which no Python code can handle.

The handler is machine code that does what a handler may: it writes a line, and ends the process as one that died.
"""

from __future__ import annotations

import ctypes
import signal
from functools import cache

import llvmlite.binding as llvm

from llmpar.errors import EngineFailed

_LINE = "llmpar: a file of weights was cut short while it was in use; what is finished is kept; run again\n"
_CODE = """
declare i64 @write(i32, i8*, i64)
declare void @_exit(i32)
@line = private constant [{length} x i8] c"{line}"
define void @end(i32 %signal) {{
  %start = getelementptr [{length} x i8], [{length} x i8]* @line, i64 0, i64 0
  %written = call i64 @write(i32 2, i8* %start, i64 {length})
  call void @_exit(i32 {code})
  unreachable
}}
"""


@cache
def end_cleanly() -> object:
    """Let a mapped file that is cut short end the process with a line and exit code; whoever handles SIGBUS still does.

    Returns:
        What holds the handler; it must outlive the process, which the cache sees to.
    """
    set_handler = ctypes.CDLL(None).signal
    set_handler.restype, set_handler.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    line = "".join(f"\\{byte:02X}" for byte in _LINE.encode())
    module = llvm.parse_assembly(_CODE.format(length=len(_LINE.encode()), line=line, code=EngineFailed.exit_code))
    engine = llvm.create_mcjit_compiler(module, llvm.Target.from_default_triple().create_target_machine())
    engine.finalize_object()
    others = set_handler(signal.SIGBUS, engine.get_function_address("end"))
    if others:  # 0 is SIG_DFL
        set_handler(signal.SIGBUS, others)
    return engine
