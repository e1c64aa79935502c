"""How a cluster is divided among workers: what each of them takes, and on which node it must be. Knows no Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmpar.errors import ModelUnavailable, UsageError, setting

Resources = tuple[tuple[str, float], ...]
"""Amounts by name: "cpu", "gpu", or what the cluster's owner has named."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of a cluster.

    Args:
        id: what the cluster knows it by.
        host: what people know it by.
        resources: amounts by the cluster's own names: "CPU", "GPU", …
    """

    id: str
    host: str
    resources: Mapping[str, float]

    @property
    def num_cpus(self) -> int:
        """How many whole CPUs it lends."""
        return int(self.resources.get("CPU", 0))

    @property
    def num_gpus(self) -> int:
        """How many whole GPUs it lends."""
        return int(self.resources.get("GPU", 0))


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker takes of a cluster.

    Args:
        cpus: how many.
        gpus: 1, or a part of one, or none.
        others: amounts of what has a name of its own.
        node_id: the node that it must be on; None for any.
    """

    cpus: float
    gpus: float = 0
    others: Resources = ()
    node_id: str | None = None

    def __str__(self) -> str:
        named = [("cpu", self.cpus), ("gpu", self.gpus), *self.others]
        return ",".join(f"{name}={amount:g}" for name, amount in named if amount)

    @property
    def kind(self) -> str:
        """What it computes on: "cpu" or "cuda"."""
        return "cuda" if self.gpus else "cpu"

    @property
    def num_threads(self) -> int:
        """How many threads its CPUs run."""
        return max(1, int(self.cpus))

    def fits(self, node: Node) -> int:
        """Return how many of it a node has room for."""
        wanted = [("CPU", self.cpus), ("GPU", self.gpus), *self.others]
        return min((int(node.resources.get(name, 0) / amount) for name, amount in wanted if amount), default=0)


def divide(nodes: Sequence[Node], device: str, count: int | None = None, given: Resources = ()) -> list[Share]:
    """Return what each worker takes.

    Who says nothing gets a worker for each GPU, if there are GPUs, else one for each node, with all of its CPUs: the
    threads of a worker share the weights.

    Args:
        nodes: of the cluster.
        device: "auto", "cpu" or "cuda".
        count: of workers; None for as many as there is room for.
        given: what each takes; none for what suits the cluster.

    Raises:
        UsageError: there cannot be such a share.
        ModelUnavailable: no node of the cluster has so much.
    """
    if given:
        share = _as_given(given, device)
        room = sum(share.fits(node) for node in nodes)
        if not room and count is None:
            raise ModelUnavailable(f"the cluster has no node with {share}: {_told(nodes)}")
        # Of a number that is named, a cluster that grows may make room; it is waited for.
        return [share] * (count or room)
    if device == "cuda" or (device == "auto" and any(node.num_gpus for node in nodes)):
        share, room = Share(1, 1), sum(node.num_gpus for node in nodes)
        if not room and count is None:
            raise ModelUnavailable(f"the cluster has no GPU: {_told(nodes)}")
        return [share] * (count or room)
    lending = [node for node in nodes if node.num_cpus]
    if not lending:
        raise ModelUnavailable(f"the cluster has no node that lends CPUs: {_told(nodes)}")
    if count is None:
        return [Share(node.num_cpus, node_id=node.id) for node in lending]
    return [Share(_most_cpus(lending, count))] * count


def _as_given(given: Resources, device: str) -> Share:
    amounts = dict(given)
    cpus, gpus = amounts.pop("cpu", 1.0), amounts.pop("gpu", float(device == "cuda"))
    name = setting("ray_resources", ",".join(f"{name}={amount:g}" for name, amount in given))
    if gpus > 1:
        raise UsageError(f"{name}: a worker computes on one GPU; take more workers with gpu=1 each")
    if gpus and device == "cpu":
        raise UsageError(f"{name} and {setting('device', 'cpu')} exclude each other; leave gpu out")
    return Share(cpus, gpus, tuple(amounts.items()))


def _most_cpus(nodes: Sequence[Node], count: int) -> int:
    """Return the most CPUs that each of so many workers can have."""
    most = max(node.num_cpus for node in nodes)
    for cpus in range(most, 0, -1):
        if sum(node.num_cpus // cpus for node in nodes) >= count:
            return cpus
    room = sum(node.num_cpus for node in nodes)
    raise UsageError(
        f"{setting('ray_workers', str(count))}: the cluster has {room} CPUs; take {room} workers or fewer, or "
        f"say what each takes ({setting('ray_resources', 'cpu=0.5')})"
    )


def _told(nodes: Sequence[Node]) -> str:
    return "; ".join(f"{node.host} has cpu={node.num_cpus},gpu={node.num_gpus}" for node in nodes) or "it has no node"
