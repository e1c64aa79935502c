"""Asks workers that have a place, before they are told what to open. Knows no Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmpar.answering.backend import Watcher
from llmpar.answering.cluster.connection import Placed
from llmpar.answering.cluster.remote import Post
from llmpar.answering.wire import KINDS, Consulting, Failed, Found, Said
from llmpar.errors import LlmparError, ModelUnavailable
from llmpar.visible import one_line


def consult(
    placed: Sequence[Placed], find: Callable[[Watcher], str], watcher: Watcher
) -> tuple[list[str], list[Placed]]:
    """Return what workers find out, all at the same time, and those of them that did; who cannot is left out.

    Args:
        placed: the workers. They are ended if this raises.
        find: what they call; it can be pickled.
        watcher: is told what takes time there, and who is left out.

    Raises:
        LlmparError: none can tell; what the first said of it.
    """
    found: list[str] = []
    able: list[Placed] = []
    failures: list[tuple[Placed, LlmparError]] = []
    try:
        for one in placed:
            try:
                one.post.send((Consulting(find),))
            except ConnectionError:
                continue  # which listening tells
        for one in placed:
            try:
                found.append(_answer(one.post, watcher))
                able.append(one)
            except LlmparError as failure:
                one.post.kill()
                failures.append((one, failure))
    except BaseException:
        for one in placed:
            one.post.kill()
        raise
    if not able:
        raise failures[0][1]
    for one, why in failures:
        watcher.warn(f"a worker on {one_line(one.place.host)} is left out: {why}")
    return found, able


def _answer(post: Post, watcher: Watcher) -> str:
    """Return what a worker has found out; what else it says goes to the watcher."""
    while True:
        try:
            heard = post.listen()
        except ConnectionError as lost:
            raise ModelUnavailable(f"the worker {lost}") from lost
        for report in heard.reports:
            if isinstance(report, Found):
                return report.answer
            if isinstance(report, Said):
                report.teller(watcher)(report.message)
            if isinstance(report, Failed):
                raise KINDS.get(report.kind, ModelUnavailable)(report.message)
        if heard.end is not None:
            raise ModelUnavailable(f"the worker {heard.end}")
