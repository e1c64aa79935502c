"""What is reached over the network: the hub of models, and servers that are named."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence

from llmpar.answering.backend import Model
from llmpar.answering.choice import ModelChoice, open_model
from llmpar.engine.worker import WorkerStatus
from llmpar.errors import LlmparError
from llmpar.health.finding import Finding
from llmpar.visible import one_line

_TOPIC = "network"
_HUB = "https://huggingface.co"
_WITHIN = 5.0  # seconds
_SHOWN = 8  # nodes of a cluster that are told one by one


class _Collected:
    """Takes note of what a model warns of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def doing(self, what: str) -> None: ...
    def remark(self, message: str) -> None: ...
    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def watch(self, statuses: Callable[[], Sequence[WorkerStatus]]) -> None: ...


def look(choice: ModelChoice) -> Iterator[Finding]:
    """Yield what can be reached.

    Args:
        choice: the user's, with servers perhaps; offline, nothing but this machine is looked at.
    """
    yield Finding(_TOPIC, "hub", "not looked at (offline)") if choice.offline else _hub()
    if choice.endpoints:
        collected = _Collected()
        try:
            yield _server(open_model(choice, collected))
        except LlmparError as error:
            yield Finding(_TOPIC, "server", str(error), is_fault=True)
        for warning in collected.warnings:
            yield Finding(_TOPIC, "server", warning)
    if choice.ray is not None:
        try:
            yield _cluster(choice)
        except LlmparError as error:
            yield Finding(_TOPIC, "Ray cluster", str(error), is_fault=True)


def _cluster(choice: ModelChoice) -> Finding:
    from llmpar.answering.cluster.connection import Cluster
    from llmpar.answering.cluster.shares import divide

    assert choice.ray is not None
    nodes = Cluster(choice.ray).nodes
    shares = divide(nodes, choice.device, choice.ray_workers, choice.ray_resources)
    has = ", ".join(f"{one_line(node.host)} with cpu={node.num_cpus},gpu={node.num_gpus}" for node in nodes[:_SHOWN])
    more = f" and {len(nodes) - _SHOWN:,} more" if len(nodes) > _SHOWN else ""
    return Finding(
        _TOPIC, "Ray cluster", f"{one_line(choice.ray)}: {has}{more}: {len(shares):,} workers, such as {shares[0]}"
    )


def _hub() -> Finding:
    address = os.environ.get("HF_ENDPOINT") or _HUB
    asked = urllib.request.Request(address, method="HEAD")  # noqa: S310 (the user's own setting)
    try:
        with urllib.request.urlopen(asked, timeout=_WITHIN):  # noqa: S310
            return Finding(_TOPIC, "hub", f"{address}: reachable")
    except urllib.error.HTTPError as error:
        return Finding(_TOPIC, "hub", f"{address}: reachable (answered {error.code})")
    except (OSError, ValueError) as error:
        told = f"{address}: cannot be reached: {one_line(getattr(error, 'reason', error))}"
        return Finding(_TOPIC, "hub", told, remedy="models that are on this machine can be used all the same")


def _server(model: Model) -> Finding:
    length = model.context_length
    room = f"{length:,} tokens of context" if length < 1 << 40 else "a context that it does not tell"
    url = dict(model.identify().facts)["server"]
    return Finding(_TOPIC, "server", f"{url}: has {one_line(model.name)}, {room}")
