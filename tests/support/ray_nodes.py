"""A Ray cluster of several nodes on this machine, each with one CPU, whose processes a test may kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from support.places import ROOT

PROGRAM = """
import json, sys
from ray.cluster_utils import Cluster

OWN = {"num_cpus": 1, "object_store_memory": 100_000_000}
cluster = Cluster(initialize_head=True, head_node_args={**OWN, "include_dashboard": False})

def tell(node):
    print(json.dumps([cluster.address, node.all_processes["raylet"][0].process.pid]), flush=True)

tell(cluster.head_node)
for line in sys.stdin:
    tell(cluster.add_node(**OWN))
cluster.shutdown()
"""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_worker_niceness": "0",
    "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
}


class RayNodes:
    """A cluster with a head and further nodes; it ends with the block that it is used in."""

    def __init__(self, count: int = 2) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address, head = self._told()
        self.raylets = [head, *(self._add() for _ in range(count - 1))]

    def __enter__(self) -> RayNodes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)

    def kill_node(self) -> None:
        """Kill all of the last node that matters at once, as when a machine goes away."""
        raylet = self.raylets.pop()
        for process_id in (raylet, *_stations_of(raylet)):
            os.kill(process_id, signal.SIGKILL)

    def add(self) -> None:
        """Start one more node."""
        self.raylets.append(self._add())

    def stations(self) -> list[int]:
        """Return the actors' processes, of all nodes in order."""
        return [process_id for raylet in self.raylets for process_id in _stations_of(raylet)]

    def _add(self) -> int:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._told()[1]

    def _told(self) -> tuple[str, int]:
        assert self._process.stdout
        address, raylet = json.loads(self._process.stdout.readline())
        return address, raylet


def _stations_of(raylet: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(place.joinpath("stat").read_text().rpartition(") ")[2].split()[1])
            name = place.joinpath("cmdline").read_bytes()
        except (OSError, ValueError):  # it has just ended
            continue
        if parent == raylet and name.startswith(b"ray::Station"):
            found.append(int(place.name))
    return found
