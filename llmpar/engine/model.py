"""What an engine is built over: models of several kinds, each of which makes its own runners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from llmpar.engine.worker import Runner
from llmpar.errors import EngineFailed, UsageError, setting

Notify = Callable[[str], None]

_LEAST_TOKENS = 256  # after the shared prefix: with room for fewer, a run would mostly fail
_USUAL_CONTEXT = 2048  # tokens, where a configuration does not say


@dataclass(frozen=True, slots=True)
class Settings:
    """What is wanted of the runners over one of `num_models` equal models; see `build_engine`. Ranks are sent it."""

    context_length: int
    stop_ids: frozenset[int]
    threads: int | None
    batch_size: int | None
    prefix_ids: tuple[int, ...]
    num_opening: int
    max_memory: int | None
    num_models: int

    @property
    def least_tokens(self) -> int:
        """For how many tokens a worker must have room."""
        return min(self.context_length, len(self.prefix_ids) + _LEAST_TOKENS)


@dataclass(frozen=True, slots=True)
class Runners:
    """The runners over one model.

    Args:
        workers: one for each thread of the engine.
        context_length: the most tokens that each of them has room for, prompt and output together.
        close: ends what they need beside the engine's threads; called once, after them.
        helps: for each worker, what it does for the others for a moment when it has nothing to do; it returns whether
            there was anything. Empty where workers cannot help one another.
    """

    workers: tuple[Runner, ...]
    context_length: int
    close: Callable[[], None] | None = None
    helps: tuple[Callable[[], bool], ...] = ()


class EngineModel(Protocol):
    """A loaded model on its device. Each kind of engine has one class of them."""

    @property
    def vocabulary(self) -> int:
        """How many tokens it scores, which may be more than its tokenizer has."""

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the prompt and a decoder writes the answer; else it is a causal language model."""

    @property
    def device_name(self) -> str:
        """Where it computes, as torch calls it: "cpu", "cuda:1"."""

    def make_runners(self, settings: Settings, notify: Notify) -> Runners:
        """Return runners over it.

        Args:
            settings: what is wanted.
            notify: is told what was chosen.

        Raises:
            DeviceFull: the device has no room for keys and values.
            UsageError: the memory limit is too little to run anything.
        """


class DeviceFull(EngineFailed):
    """A device has no room for keys and values; `fact` says so."""

    def __init__(self, fact: str) -> None:
        super().__init__(
            f"{fact}; free some, name another device, or take a smaller model, a smaller batch size "
            f"({setting('batch_size')}), or spread the model over several devices ({setting('tensor_parallel')})"
        )
        self.fact = fact


def share_memory(max_memory: int, unit: int, workers: int, shared: int, least: int) -> int:
    """Return how many units of memory each worker has, after those that are shared.

    Args:
        max_memory: bytes for all of them.
        unit: bytes of one unit: a page, or a token.
        workers: how many share it.
        shared: units that are there once.
        least: the fewest units with which a worker can run anything.

    Raises:
        UsageError: it is less than that.
    """
    units = (max_memory // unit - shared) // workers
    if units < least:
        needed = -(-(workers * least + shared) * unit // 1_000_000)
        raise UsageError(
            f"the memory limit of {max_memory / 1e6:g}MB ({setting('max_memory')}) is too little for the texts "
            f"on their way; at least {needed}MB with {count_workers(workers)}"
        )
    return units


def count_workers(workers: int) -> str:
    """Return a number of workers in words."""
    return "1 worker" if workers == 1 else f"{workers} workers"


def context_length_of(*configs: object) -> int:
    """Return the most tokens, prompt and output together, that a model was made for.

    Args:
        configs: its configurations, as transformers' objects or as mappings; the first that says it counts.
    """
    name = "max_position_embeddings"
    for config in configs:
        length = config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return _USUAL_CONTEXT
