"""The only module that touches Ray: it connects, looks at the nodes, starts stations, and speaks with them.

llmpar's own code is shipped by Ray's runtime environment, so that nodes cannot have another version of it; they need
what it stands on. Where a program has connected before us, that is its business, and nodes must have the same code.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llmpar
from llmpar.answering.backend import Watcher
from llmpar.answering.cluster.remote import Post
from llmpar.answering.cluster.shares import Node, Share
from llmpar.answering.cluster.station import Heard, Place, Station
from llmpar.answering.wire import Message
from llmpar.errors import LlmparError, ModelUnavailable, UsageError, setting
from llmpar.visible import one_line

_LOOK = 0.2  # seconds between looks at what has begun, so that a signal is heard
_PATIENCE = 60.0  # seconds until those that have a place go on without those that have none
_REACHED = 10.0  # seconds in which an address must answer
_CALLS = 3  # at a time, of a station: one that sends, one that listens, and one to spare
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns of what it will do some day
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # what we ship is said below
    # What nodes report is printed to stdout, `log_to_driver` or not, and there our documents stand. Only the filter of
    # lines that are alike can keep all of them.
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_ALLOW_REGEX": "(?!)",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".?",
}
"""What is set before Ray is imported, which reads it then."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A station that stands.

    Args:
        share: what it takes.
        place: where it is.
        post: the way to it.
    """

    share: Share
    place: Place
    post: Post


class Cluster:
    """A connection to a cluster. It ends with this object, unless another part of the program had made it.

    Args:
        address: of the cluster, as Ray takes it; "auto" is the one that runs on this machine.

    Raises:
        ModelUnavailable: Ray is not installed, or there is no such cluster.
        UsageError: the address is that of a client, which has no node.
    """

    def __init__(self, address: str) -> None:
        if address.startswith("ray://"):
            raise UsageError(
                f"{setting('ray', address)}: is for clients outside of a cluster; run llmpar on one of its nodes, "
                "perhaps with `ray job submit`, and name auto"
            )
        self._ray = _connected(address)

    @property
    def nodes(self) -> list[Node]:
        """The nodes that are there."""
        return [
            Node(str(node["NodeID"]), str(node["NodeManagerHostname"]), dict(node["Resources"]))
            for node in self._ray.nodes()
            if node["Alive"]
        ]

    def place(self, names: Sequence[str], shares: Sequence[Share], watcher: Watcher) -> list[Placed]:
        """Start a station for each share, and return those that stand, in order; those without room may be left out.

        Args:
            names: what people know each of them by.
            shares: what each of them takes.
            watcher: is told what is waited for.

        Raises:
            ModelUnavailable: none can stand; what the first said of it.
        """
        kind = self._ray.remote(Station)
        handles = [kind.options(**self._options(share)).remote(name) for name, share in zip(names, shares, strict=True)]
        try:
            found = self._placed(handles, watcher)
        except BaseException:
            for handle in handles:
                self._kill(handle)
            raise
        return [
            Placed(share, found[index], _ActorPost(self, handle, self._ray))
            for index, (share, handle) in enumerate(zip(shares, handles, strict=True))
            if index in found
        ]

    def _options(self, share: Share) -> dict[str, Any]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        strategy = "SPREAD" if share.node_id is None else NodeAffinitySchedulingStrategy(share.node_id, soft=False)
        return {
            "num_cpus": share.cpus,
            "num_gpus": share.gpus,
            "resources": dict(share.others),
            "max_concurrency": _CALLS,
            "max_restarts": 0,  # what it held is given to the others
            "max_task_retries": 0,
            "scheduling_strategy": strategy,
        }

    def _placed(self, handles: Sequence[Any], watcher: Watcher) -> dict[int, Place]:
        """Return where stations stand, by their numbers; those that got no place while others did are ended."""
        waiting = {handle.place.remote(): index for index, handle in enumerate(handles)}
        found: dict[int, Place] = {}
        failures: list[str] = []
        begun, is_told = time.monotonic(), False
        while waiting:
            watcher.doing(f"waiting for a place on the cluster: {len(found):,} of {len(handles):,} workers have one")
            ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=_LOOK)
            for ref in ready:
                index = waiting.pop(ref)
                try:
                    found[index] = self._ray.get(ref)
                except self._ray.exceptions.RayError as error:
                    failures.append(_reason(error))
            if waiting and time.monotonic() - begun > _PATIENCE:
                if found:
                    watcher.warn(
                        f"the cluster has room for {len(found):,} of {len(handles):,} workers, which go on alone"
                    )
                    for index in waiting.values():
                        self._kill(handles[index])
                    break
                if not is_told:
                    watcher.warn("the cluster has no room for any worker yet; it is waited for")
                    is_told = True
        if not found:
            raise ModelUnavailable(f"no worker can begin on the cluster: {failures[0]}")
        for failure in failures:
            watcher.warn(f"a worker cannot begin, and is left out: {failure}")
        return found

    def _kill(self, handle: Any) -> None:
        with contextlib.suppress(Exception):  # whatever it says of one that is gone, or of a connection that is
            self._ray.kill(handle, no_restart=True)


class _ActorPost:
    """The way to a station that is an actor."""

    def __init__(self, cluster: Cluster, handle: Any, ray: Any) -> None:
        self._cluster = cluster  # the connection lasts as long as somebody speaks
        self._handle = handle
        self._ray = ray

    def send(self, messages: Sequence[Message]) -> None:
        self._answer(lambda: self._handle.send.remote(tuple(messages)))

    def listen(self) -> Heard:
        heard: Heard = self._answer(self._handle.listen.remote)
        return heard

    def kill(self) -> None:
        self._cluster._kill(self._handle)  # noqa: SLF001 (of this module)

    def _answer(self, call: Callable[[], Any]) -> Any:
        try:
            return self._ray.get(call())
        except self._ray.exceptions.RayError as error:
            raise ConnectionError(_reason(error)) from error


def require_ray() -> None:
    """Raise ModelUnavailable if Ray is not installed."""
    _import()


def _import() -> Any:
    if "ray" not in sys.modules:  # else it is another part of this program that uses it, in its own way
        os.environ.update(_QUIET)
    try:
        import ray
    except ImportError as error:
        raise ModelUnavailable(
            f"{setting('ray')}: Ray is not installed ({one_line(error)}); pip install 'llmpar[ray]'"
        ) from error
    return ray


def _connected(address: str) -> Any:
    """Return Ray, connected; the connection ends with what is returned, if it is ours."""
    ray = _import()
    if ray.is_initialized():
        return ray
    named = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    _check_reachable(named)
    package = Path(llmpar.__file__).parent
    try:
        with _own_signals():
            ray.init(
                address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if address == "local" else None,
                runtime_env={"py_modules": [str(package)]},
            )
    except Exception as error:  # whatever it raises where there is no cluster, of which it has many kinds
        if isinstance(error, LlmparError):
            raise
        told = "auto: none runs on this machine" if address == "auto" else f"{address}: {_first_line(error)}"
        raise ModelUnavailable(
            f"no Ray cluster at {told}; start one with `ray start --head`, or name its address (HOST:6379)"
        ) from error
    return _Connection(ray)


def _check_reachable(address: str) -> None:
    """Raise ModelUnavailable if nobody answers at an address: Ray itself would try for ever."""
    host, _, port = address.rpartition(":")
    if not host:  # "auto" or "local"
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _REACHED):
            return
    except (OSError, ValueError, OverflowError) as error:
        raise ModelUnavailable(
            f"no Ray cluster at {one_line(address)}: {one_line(getattr(error, 'strerror', None) or error)}; name the "
            "address that `ray start --head` told, as HOST:6379"
        ) from error


class _Connection:
    """Ray, as long as somebody needs our connection."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._end = weakref.finalize(self, ray.shutdown)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ray, name)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what a signal does: Ray has a handler of its own, which would end the run without a word."""
    try:
        kept = signal.getsignal(signal.SIGTERM)
        yield
    finally:
        with contextlib.suppress(ValueError):  # not the main thread, where it sets none either
            signal.signal(signal.SIGTERM, kept)


def _reason(error: Exception) -> str:
    """Return how a station came to its end, as Ray tells it, as a verb and what follows."""
    text, kind = str(error), type(error).__name__
    if "node" in text and "died" in text and "its node" in text:
        return "was lost with its node"
    if "creation task" in text or "Task" in kind:  # what its code raised stands in the last line
        return f"failed: {one_line(text.strip().splitlines()[-1])}"
    return "was lost: its actor ended" if "Actor" in kind else f"was lost: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return one_line((str(error).strip() or type(error).__name__).splitlines()[0])
