"""A decoder's kernels compiled, or loaded from the disk, by several threads at once before the first of them runs.

Where each is compiled when it is first launched, one waits for the other. Most of a compilation holds no lock of
Python's.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
import triton

from llmpar.engine.cuda import kernels
from llmpar.engine.cuda.decoder import Decoder, PagedCache, Pass, Tokens, tokens_per_block
from llmpar.engine.cuda.runner import LOGITS
from llmpar.engine.resources import usable_cores

_MODULES = re.compile(rf"{re.escape(__package__)}\.\w*kernels")
_MOST_THREADS = 16
_COUNTS = (16, 64, 128, 256)  # rows for which products with codes have kernels of their own
Launches = dict[Hashable, Callable[[], object]]


def compile_ahead(decoder: Decoder) -> None:
    """Compile what passes of prompts and steps launch, on the device that is current. With one core there is no point.

    Args:
        decoder: whose kernels they are; its weights need not be right.
    """
    threads = min(_MOST_THREADS, usable_cores())
    if threads == 1:
        return
    with noted_launches() as launches:
        _pretend(decoder)

    def compile_one(launch: Callable[[], object]) -> None:
        with torch.cuda.device(decoder.device):
            launch()

    first, *others = launches.values()
    compile_one(first)  # alone: Triton then hashes itself once (see `hash_compiler`), where each thread would do so
    with ThreadPoolExecutor(threads, "llmpar-compile") as pool:
        for _ in pool.map(compile_one, others):  # which raises what one has raised
            pass


def hash_compiler() -> None:
    """Let a thread hash Triton's own files, by which what it has compiled is known, while others load a model.

    They are half a gigabyte. Where a version of Triton has no such function, the first kernel hashes them.
    """
    if read := getattr(triton.runtime.cache, "triton_key", None):
        threading.Thread(target=read, name="llmpar-triton", daemon=True).start()


@contextmanager
def noted_launches() -> Iterator[Launches]:
    """While this lasts, kernels that this thread launches do nothing. What would compile each is noted, once a kind."""
    launches: Launches = {}
    plain = {
        (module, name): kernel
        for module in [module for name, module in sys.modules.items() if _MODULES.fullmatch(name)]
        for name, kernel in vars(module).items()
        if not isinstance(kernel, type)  # Triton's own classes are kernels to look at
        and hasattr(kernel, "warmup")
        and kernel.fn.__module__ == module.__name__
        and not name.startswith("_")
    }
    for (module, name), kernel in plain.items():
        setattr(module, name, _Noted(kernel, launches))
    try:
        yield launches
    finally:
        for (module, name), kernel in plain.items():
            setattr(module, name, kernel)


class _Noted:
    """Stands for a kernel: other threads launch it as ever."""

    def __init__(self, kernel: Any, launches: Launches) -> None:
        self._kernel = kernel
        self._launches = launches
        self._thread = threading.get_ident()

    def __getitem__(self, grid: Any) -> Callable[..., object]:
        if threading.get_ident() != self._thread:
            launch: Callable[..., object] = self._kernel[grid]
            return launch
        return self._note

    def _note(self, *arguments: Any, **options: Any) -> None:
        # An array counts by its type alone, which Triton takes for it: all of ours begin where 16 bytes do.
        kinds = [each.dtype if isinstance(each, torch.Tensor) else each for each in arguments]
        loose = {self._kernel.arg_names.index(name) for name in self._kernel.do_not_specialize}
        told = tuple(type(each) if index in loose else _kind(each) for index, each in enumerate(kinds))
        kind = (id(self._kernel), told, tuple(sorted(options.items())))
        self._launches.setdefault(kind, lambda: self._kernel.warmup(*kinds, grid=(1,), **options))


def _kind(argument: Any) -> Hashable:
    """Return what of a number Triton compiles another kernel for; other arguments are what they are."""
    if isinstance(argument, float):
        return float
    if isinstance(argument, int) and not isinstance(argument, bool):
        return argument == 1, argument % 16 == 0, argument.bit_length() > 31
    found: Hashable = argument
    return found


def _pretend(decoder: Decoder) -> None:
    """Launch all that an engine launches, with nothing real in it."""

    def numbers(count: int, kind: torch.dtype = torch.int32) -> torch.Tensor:
        return torch.zeros(count, dtype=kind, device=decoder.device)

    def tokens(count: int, most: int) -> Tokens:
        ids, (positions, slots, starts, counts) = numbers(count, torch.int64), (numbers(count) for _ in range(4))
        return Tokens(ids, positions, slots, starts, counts, most)

    for shares_much in (False, True):
        cache = PagedCache(decoder.make_pages(1), numbers(1)[None], numbers(1), 0, decoder.make_exponents(1))
        work = Pass(decoder, cache, shares_much)
        for count in _COUNTS:
            hidden = work.forward(tokens(count, tokens_per_block(decoder)))
            if not shares_much:
                decoder.head(hidden)
        hidden = work.forward(tokens(1, 1))
    logits, some, floats = decoder.head(hidden), numbers(1), numbers(1, torch.float32)
    words = -(-decoder.vocabulary // 32)
    kernels.choose[(1,)](
        logits, decoder.vocabulary, some, some, some, some, floats, 1, floats, floats, floats, some, some, words,
        decoder.softcap, BLOCK=LOGITS, num_warps=8,
    )  # fmt: skip
