"""Whoever waits for kernels to be compiled is told so: once for all that one calls, and not where they are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from llmpar.engine.compiling import told_of_compiling

SOURCE = """
from numba import njit

@njit
def called(number):
    return number + 1

@njit(cache=True)
def kernel(number):
    return called(number) * 2
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    file = tmp_path / "kernel_of_a_test.py"
    file.write_text(SOURCE)
    return file


def load(file: Path) -> Callable[[object], object]:
    """Return a module's kernel as a new process would have it: compiled by nobody yet, but perhaps kept."""
    spec = spec_from_file_location("kernel_of_a_test", file)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[object], object] = module.kernel
    return found


def test_the_first_call_is_told_of_and_what_is_kept_is_not(kernel: Path) -> None:
    told: list[tuple[bool, int]] = []
    with told_of_compiling(lambda begins: told.append((begins, threading.get_ident()))):
        first = load(kernel)
        assert first(20) == 42
        here = threading.get_ident()
        assert told == [(True, here), (False, here)], "what it calls is a part of it"
        assert first(1) == 4
        assert load(kernel)(20) == 42
        assert len(told) == 2, "nothing was compiled again"
        assert first(0.5) == 3.0
        assert len(told) == 4, "for other types it was"
    assert load(kernel)(2j) == 2 + 4j
    assert len(told) == 4, "nobody listens any more"


def test_a_thread_that_compiles_says_so_even_if_it_fails(kernel: Path) -> None:
    told: list[bool] = []
    with told_of_compiling(told.append):
        wrong = load(kernel)

        def call() -> None:
            with pytest.raises(Exception, match="No implementation"):
                wrong([1])

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert told == [True, False]
