"""A model spread over devices: each process loads its own share of every layer.

On GPUs that is a share of our own decoder, where the model has the Llama shape; else it is by transformers' plan.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llmpar.engine.precision_names import SHORT, KVCacheName, PrecisionChoice, PrecisionName
from llmpar.engine.ranks.group import Place, join
from llmpar.engine.ranks.model import Shards
from llmpar.engine.ranks.ranks import LOADING_LIMIT, Ranks
from llmpar.errors import LlmparError, ModelUnavailable, UsageError
from llmpar.models.divided import load_divided
from llmpar.models.kv_cache import check_kv_cache
from llmpar.models.load import LoadedModel, load_shard
from llmpar.models.precision import find_arithmetic
from llmpar.models.shards import check_devices, check_plan

if TYPE_CHECKING:
    from llmpar.models.cache import Notify


def load_shards(
    num_shards: int,
    path: Path,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    source_bits: int | None = None,
    notify: Notify = lambda _: None,
    kv_cache: KVCacheName = "auto",
) -> LoadedModel:
    """Start a process for each device but the first, and load a share of the weights in each.

    Args:
        num_shards: how many devices: the first ones of CUDA, or processes where `device` is "cpu".
        path: see `models.load.load_model`, as all that follows.
        device: "auto", "cuda" or "cpu".
        precision: on CPUs, bf16, fp32 or "auto".
        source_bits: bits per weight of the file that the weights came from.
        notify: is told how the devices add up, and why transformers divides it, where it does so on GPUs.
        kv_cache: what keys and values are kept in.

    Returns:
        The model as Shards, whose ranks `build_engine` takes over.

    Raises:
        ModelUnavailable: there are not so many devices, or the model cannot be loaded.
        UsageError: the model cannot be spread so.
    """
    devices, native = find_arithmetic(device, precision, source_bits)
    target = devices[0].partition(":")[0]
    if target == "cpu" and precision in SHORT:
        raise UsageError(
            f"tensor parallel over {num_shards} devices and precision {precision} exclude each other on a CPU; use "
            "bf16 or fp32"
        )
    check_kv_cache(kv_cache, devices)
    check_devices(num_shards, device, target)
    check_plan(path, num_shards, by_us=target == "cuda")
    try:
        ranks = Ranks(num_shards)
    except OSError as error:
        raise ModelUnavailable(
            f"tensor parallel over {num_shards} devices: its processes cannot be started: {error.strerror or error}; "
            "they need a directory for temporary files (TMPDIR)"
        ) from error
    try:
        mine, is_ours = ranks.call(
            partial(_load, path, target, native, kv_cache, ranks.place, notify),
            partial(_load_weights, path, target, native, kv_cache),
            LOADING_LIMIT,
        )
    except BaseException as error:
        ranks.close()
        if isinstance(error, LlmparError) or not isinstance(error, Exception):
            raise
        # A library's, or what another rank says.
        raise ModelUnavailable(f"{str(path)!r}: cannot be loaded on {num_shards} devices: {error}") from error
    return replace(mine, models=(Shards(ranks, mine.models[0], shares_tokens=is_ours),))


def _load(
    path: Path, target: str, precision: PrecisionName, kv_cache: KVCacheName, place: Place, notify: Notify
) -> tuple[LoadedModel, bool]:
    """Return this rank's share, and whether it is one of our own decoder."""
    device = target if target == "cpu" else f"{target}:{place.rank}"
    join(place, device)
    if target == "cuda":
        if ours := load_divided(path, device, precision, place.rank, place.size, kv_cache, notify):
            return ours, True
        check_plan(path, place.size)
    return load_shard(path, device, precision, place.size), False


def _load_weights(path: Path, target: str, precision: PrecisionName, kv_cache: KVCacheName, place: Place) -> object:
    return _load(path, target, precision, kv_cache, place, lambda _: None)[0].models[0]
