"""Which model answers, and on what: the user's choice, as plain data, and the table of what can answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from llmpar.engine.precision_names import SHORT, KVCacheName, PrecisionChoice
from llmpar.engine.resources import available_memory
from llmpar.errors import UsageError, setting
from llmpar.models.names import DEFAULT_MODEL, Thinking

if TYPE_CHECKING:
    from llmpar.answering.backend import Model, Watcher

ANSWERS_VERSION = 7
"""To be raised with any change that can change an answer: then none from before is taken for one of now."""

_MOST_HELD = 1 << 24  # characters of texts on their way
_BYTES_HELD = 64  # that a character of text takes of the memory that may be used, with all that is made of it

MODELS = {
    "model": "llmpar.answering.model:LocalModel",
    "endpoint": "llmpar.answering.endpoint.model:Endpoints",
    "echo": "llmpar.answering.echo:Echo",
}
"""What can answer, by the names of engines: where each one's `backend.Model` is. It is imported when it is chosen."""

_ON_CLUSTER = "llmpar.answering.cluster.model:OnCluster"  # the same, but elsewhere


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model answers, and on what; None leaves the choice to what is known of the machine.

    The command line reads its defaults from here.

    Args:
        name: see `models.registry.resolve`.
        engine: a name in MODELS; "echo" answers each text with itself, without a model. With `endpoints` it is
            "endpoint".
        device: "auto", "cpu", "cuda" for every one there is, "cuda:N" or "mps".
        precision: see `models.load.load_model`.
        kv_cache: what keys and values are kept in; "auto" for what the model is computed in.
        threads: how many share the weights, of which each GPU has its own; on GPUs, how many each has.
        batch_size: sequences that each of them runs at once.
        max_memory: bytes for texts and tokens on their way.
        offline: open no socket to elsewhere.
        tensor_parallel: over how many devices each layer is spread; more than one takes the first CUDA devices, or as
            many processes of the CPU.
        endpoints: URLs of servers that answer instead, and files that list some; see `endpoint.address`.
        endpoint_model: what they call the model; None where they have only one.
        api_key_file: holds the key for them; None leaves it to the environment.
        context_length: tokens of a prompt and its answer that they have room for; None for what they tell.
        max_tokens_total: tokens that a run may take of them.
        ray: address of the Ray cluster whose nodes compute, "auto" for the one that runs on this machine; None for this
            machine alone.
        ray_workers: how many processes compute there; None for one on each GPU, or else on each node.
        ray_resources: what each of them takes, by name ("cpu", "gpu", or the cluster's own); none for what suits it.
        thinking: what the switch for thinking in the model's chat template is set to; None leaves it off, mostly.

    Raises:
        UsageError: there is no such engine, or what is chosen excludes something else that is.
    """

    name: str = DEFAULT_MODEL
    engine: str = "model"
    device: str = "auto"
    precision: PrecisionChoice = "auto"
    threads: int | None = None
    batch_size: int | None = None
    max_memory: int | None = None
    offline: bool = False
    tensor_parallel: int = 1
    endpoints: tuple[str, ...] = ()
    endpoint_model: str | None = None
    api_key_file: Path | None = None
    context_length: int | None = None
    max_tokens_total: int | None = None
    ray: str | None = None
    ray_workers: int | None = None
    ray_resources: tuple[tuple[str, float], ...] = ()
    thinking: Thinking | None = None
    kv_cache: KVCacheName = "auto"

    def __post_init__(self) -> None:
        if self.endpoints and self.engine == "model":
            object.__setattr__(self, "engine", "endpoint")
        if self.engine not in MODELS:
            raise UsageError(f"engine {self.engine!r}: there is no such; take {' or '.join(MODELS)}")
        if (self.engine == "endpoint") != bool(self.endpoints):
            reason = f"excludes engine {self.engine}" if self.endpoints else "is missing: the engine endpoint needs one"
            raise UsageError(f"{setting('endpoints', option='--endpoint')}: {reason}")
        if self.thinking not in (None, *get_args(Thinking)):
            raise UsageError(f"thinking {self.thinking!r}: must be on or off")
        if self.thinking and self.engine == "echo":
            raise UsageError(f"engine echo has no model whose {setting('thinking')} could be switched; leave it out")
        if self.thinking and self.endpoints:
            raise UsageError(f"{setting('thinking')} switches templates that are here, no server's; leave it out")
        if self.kv_cache not in get_args(KVCacheName):
            raise UsageError(f"kv_cache {self.kv_cache!r}: must be {' or '.join(get_args(KVCacheName))}")
        if self.tensor_parallel > 1:
            _check_parallel(self)
        _check_cluster(self)


def open_model(choice: ModelChoice, watcher: Watcher) -> Model:
    """Return what answers by a choice; nothing of it is read yet.

    Args:
        choice: the user's.
        watcher: is told what takes time.
    """
    module, _, name = (MODELS[choice.engine] if choice.ray is None else _ON_CLUSTER).partition(":")
    make: Callable[[ModelChoice, Watcher], Model] = getattr(import_module(module), name)
    return make(choice, watcher)


def longest_held(max_memory: int | None) -> int:
    """Return how many characters of one text may be held, whatever else is on its way.

    Args:
        max_memory: what the user gives, in bytes; None for half of what is free.
    """
    return max(1, (available_memory() // 2 if max_memory is None else max_memory) // _BYTES_HELD)


def max_held(max_memory: int | None) -> int:
    """Return how many characters of text may be on their way, by how much memory may be used (bytes)."""
    return _MOST_HELD if max_memory is None else min(_MOST_HELD, max_memory // _BYTES_HELD)


def _check_parallel(choice: ModelChoice) -> None:
    given = f"tensor_parallel {choice.tensor_parallel}"
    if (choice.threads or 1) > 1:
        raise UsageError(
            f"{given} and threads {choice.threads} exclude each other: all devices work on the same pieces"
        )
    if choice.device == "cpu" and choice.precision in SHORT:
        raise UsageError(f"{given} and precision {choice.precision} exclude each other on a CPU; use bf16 or fp32")
    if choice.device == "mps" or ":" in choice.device:
        raise UsageError(f"{given} takes the first {choice.tensor_parallel} CUDA devices, not {choice.device}")


def _check_cluster(choice: ModelChoice) -> None:
    if choice.ray is None:
        for name, value in (("ray_workers", choice.ray_workers), ("ray_resources", choice.ray_resources)):
            if value:
                raise UsageError(f"{setting(name)} needs {setting('ray', 'auto')}, or the address of a cluster")
        return
    cluster = setting("ray", choice.ray)
    if choice.endpoints:
        raise UsageError(f"{cluster} and {setting('endpoints', option='--endpoint')} exclude each other")
    if choice.tensor_parallel > 1:
        raise UsageError(
            f"{cluster} and {setting('tensor_parallel', str(choice.tensor_parallel))} exclude each other: a worker of "
            "a cluster has one device"
        )
    if choice.device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"{cluster} and {setting('device', choice.device)} exclude each other; take cpu or cuda")
    if choice.ray_workers is not None and choice.ray_workers < 1:
        raise UsageError(f"{setting('ray_workers', str(choice.ray_workers))}: must be 1 or more")
    for name, amount in choice.ray_resources:
        if not 0 < amount < float("inf"):
            raise UsageError(f"{setting('ray_resources', f'{name}={amount:g}')}: must be more than 0")
