"""What no part of the program foresaw, in one line: the machine's limits, a library that fails, a fault of llmpar.

This is imported before all else, so that it is there when nothing else can be.
"""

from __future__ import annotations

import errno
import os
import sys

_OUR_FAULT = 1
_UNAVAILABLE = 69
_HOME = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (pathlib is a large import)
_FOREIGN = (  # beginnings of the variables that libraries read, and may choke on
    *("CUDA_", "HF_", "HUGGINGFACE_", "KMP_", "LD_", "MKL_", "NUMBA_", "OMP_", "OPENBLAS_", "PYTHONPATH", "PYTORCH_"),
    *("RAYON_", "SAFETENSORS_", "TOKENIZERS_", "TORCH", "TQDM_", "TRANSFORMERS_", "TRITON_", "USE_"),
)
_OWN = "NUMBA_DISABLE_JIT"  # is set by us
_LIMITS = (
    ((errno.EMFILE, errno.ENFILE), ("too many open files",), "too few files may be open; raise the limit (ulimit -n)"),
    (
        (errno.ENOMEM,),
        ("cannot allocate", "failed to map", "bad_alloc", "out of memory", "alloc failed"),
        "there is too little memory; raise the limit (ulimit -v), end other programs, or take a smaller model",
    ),
    (
        (errno.EAGAIN,),
        ("start new thread", "temporarily unavailable", "threadpoolbuild"),
        "too few threads may run, or memory for them is lacking; raise the limits (ulimit -u, ulimit -v), or take a "
        "smaller -j",
    ),
)

_WITHOUT_WORDS = ("error return without exception set", "without setting an exception")  # of a SystemError


def explain(error: BaseException) -> tuple[str, int]:
    """Return a line that says what went wrong and what to do about it, and the exit code.

    With LLMPAR_DEBUG set, the traceback is printed, too.
    """
    if os.environ.get("LLMPAR_DEBUG"):
        import traceback

        traceback.print_exception(type(error), error, error.__traceback__)
    message = str(error).strip().partition("\n")[0]
    what = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if limit := exhausted(error):
        return f"{limit} ({what})", _UNAVAILABLE
    if _is_environment(error):
        return f"a library cannot be used: {what}; {_remedy()}; LLMPAR_DEBUG=1 shows more", _UNAVAILABLE
    ours = [f"{os.path.basename(file)}:{line}" for file, _, line in _steps(error) if _is_ours(file)]  # noqa: PTH119
    place = f" ({ours[-1]})" if ours else ""
    return (
        f"this is a fault of llmpar itself: {what}{place}; please report it with what LLMPAR_DEBUG=1 shows",
        _OUR_FAULT,
    )


def exhausted(error: BaseException) -> str | None:
    """Return which limit of the machine was met, and the remedy; None if that is not what happened."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        if isinstance(cause, MemoryError) or _is_lost_memory_error(cause):
            return _LIMITS[1][2]
        number, text = getattr(cause, "errno", None), str(cause).lower()
        for numbers, words, limit in _LIMITS:
            if number in numbers or any(word in text for word in words):
                return limit
        cause = cause.__cause__ or cause.__context__
    return None


def _is_lost_memory_error(error: BaseException) -> bool:
    """Tell whether the interpreter ran out of memory where it could not even make the error that says so.

    It says then that something failed without saying how. Where memory is not limited this is taken for a library's
    fault, which it may be as well.
    """
    if not (isinstance(error, SystemError) and str(error).endswith(_WITHOUT_WORDS)):
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def is_import(error: BaseException) -> bool:
    """Tell whether an error came up while a library was imported."""
    return any(function == "<module>" and not _is_ours(file) for file, function, _ in _steps(error))


def _is_environment(error: BaseException) -> bool:
    """Tell whether a library failed for reasons of its own, or of what it was given by the environment."""
    if isinstance(error, ImportError) or is_import(error):
        return True
    if not isinstance(error, Exception):  # what a library in Rust makes of a panic
        return True
    steps = _steps(error)
    return isinstance(error, (OSError, RuntimeError, SystemError)) and bool(steps) and not _is_ours(steps[-1][0])


def _remedy() -> str:
    named = [name for name in sorted(os.environ) if name.startswith(_FOREIGN) and name != _OWN]
    if named:
        return f"try without what the environment sets: {', '.join(named[:8])}"
    return "see that it is installed whole"


def _steps(error: BaseException) -> list[tuple[str, str, int]]:
    """Return the files, functions and lines that an error went through, the outermost first."""
    found, trace = [], error.__traceback__
    while trace is not None:
        found.append((trace.tb_frame.f_code.co_filename, trace.tb_frame.f_code.co_name, trace.tb_lineno))
        trace = trace.tb_next
    return found


def _is_ours(file: str) -> bool:
    return file.startswith(_HOME + os.sep)


def say(line: str) -> None:
    """Print a line on stderr, with as little as may be left."""
    try:
        if sys.stderr is not None:
            sys.stderr.write(f"llmpar: {line}\n")
            sys.stderr.flush()
    except (OSError, ValueError):
        pass  # there is nobody to tell
