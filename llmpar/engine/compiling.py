"""Who waits while kernels are compiled is told so, whichever thread compiles them. Compiles nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def told_of_compiling(tell: Callable[[bool], None]) -> Iterator[None]:
    """Tell, while this lasts, when Numba begins to compile a function, and when it has done so.

    A function that is loaded from the cache is not compiled, so a machine on which kernels were compiled before says
    nothing. Functions that one calls are compiled as a part of it.

    Args:
        tell: is called with True at the beginning and with False at the end, on the thread that compiles; a single
            thread does so at a time.
    """
    import llmpar.engine.cpu  # noqa: F401 (it settles what Numba does, which must be before Numba is imported)

    # isort: split
    from numba.core import event

    class Listener(event.Listener):  # type: ignore[misc]  # Numba has no types
        """Counts how deep it is: those that are called begin after the one that calls them, and end before it."""

        depth = 0

        def on_start(self, _: object) -> None:
            self.depth += 1
            if self.depth == 1:
                tell(True)

        def on_end(self, _: object) -> None:
            self.depth -= 1
            if self.depth == 0:
                tell(False)

    with event.install_listener("numba:compile", Listener()):
        yield
