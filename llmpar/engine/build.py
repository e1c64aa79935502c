"""Loaded models → an engine: how many workers, how many slots, how much memory, and which runner."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from llmpar.engine.engine import Engine
from llmpar.engine.resources import available_memory, free_memory, usable_cores
from llmpar.engine.worker import Runner
from llmpar.errors import EngineFailed, LlmparError, UsageError

if TYPE_CHECKING:
    from llmpar.engine.ranks.runner import Mirrors, Shards

_CPU_SLOTS = 64  # a step of a small model then takes a tenth of a second; more rows gain little
_TORCH_WORKERS = range(4, 8)  # that share many cores, through torch
_DEVICE_SLOTS = 256
_CUDA_SLOTS = 1024  # a step then still takes a few hundredths of a second, of which the weights are a small part
_DEVICE_SHARE = 0.9  # of what is free on a device, for keys and values
_MEMORY_SHARE = 0.5  # of what is available, for keys and values
_LEAST_TOKENS = 256  # after the shared prefix: with room for fewer, a run would mostly fail


class _DeviceFull(EngineFailed):
    """A device has no room for keys and values; `fact` says so."""

    def __init__(self, fact: str) -> None:
        super().__init__(
            f"{fact}; free some, name another device, or take a smaller model, a smaller --batch-size, or "
            "--tensor-parallel over several devices"
        )
        self.fact = fact


@dataclass(frozen=True, slots=True)
class _Settings:
    """What is wanted of the runners over one of `num_models` equal models; see `build_engine`. Ranks are sent it."""

    context_length: int
    stop_ids: frozenset[int]
    num_workers: int | None
    batch_size: int | None
    prefix_ids: tuple[int, ...]
    num_opening: int
    max_memory: int | None
    num_models: int

    @property
    def least_tokens(self) -> int:
        """For how many tokens a worker must have room."""
        return min(self.context_length, len(self.prefix_ids) + _LEAST_TOKENS)


def build_engine(
    models: SequenceOf[Any],
    context_length: int,
    stop_ids: frozenset[int],
    num_workers: int | None = None,
    batch_size: int | None = None,
    prefix_ids: SequenceOf[int] = (),
    *,
    num_opening: int = 1,
    max_memory: int | None = None,
    stall_limit: float | None = 1800.0,
    notify: Callable[[str], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> Engine:
    """Return one engine over equal models, one for each device; one of several that has no room is left out.

    Args:
        models: Decoders, causal language models or encoder-decoders of transformers on their devices, or Shards of one.
            The ranks of these are ended with the engine, or if none can be built.
        context_length: the most tokens, prompt and output together.
        stop_ids: the tokens that end an answer.
        num_workers: for each model; None for one on a GPU and one for each core of a CPU, fewer through torch.
        batch_size: sequences that each worker runs at once; None for the device's usual.
        prefix_ids: what most prompts begin with; it is computed once. An encoder reads every prompt whole.
        num_opening: of an encoder-decoder, how many ids at the end of a prompt the decoder opens with.
        max_memory: bytes for keys and values of all workers; None for a share of what is free on a CPU decoder, and
            for as much as it takes with a model of transformers.
        stall_limit: see `Engine`.
        notify: is told what was chosen, for people who asked.
        warn: is told of a device that was left out; also see `Engine`.

    Raises:
        UsageError: `max_memory` is too little to run anything.
        EngineFailed: no device has room beside the model, or a rank that has a shard is gone, or its memory ran out.
    """
    prefix = tuple(prefix_ids)
    settings = _Settings(
        context_length, stop_ids, num_workers, batch_size, prefix, num_opening, max_memory, len(models)
    )
    if hasattr(models[0], "ranks"):
        return _parallel_engine(models[0], settings, stall_limit, notify)
    runners: list[Runner] = []
    names: list[str] = []
    full: list[_DeviceFull] = []
    for model in models:
        # By what they have: to import their classes is to import Numba on GPUs, and Triton elsewhere.
        make: Callable[[Any, _Settings, Callable[[str], None]], tuple[SequenceOf[Runner], int]]
        if not hasattr(model, "page_bytes"):
            make = _torch_runners
        else:
            make = _cuda_runners if hasattr(model, "device") else _decoder_runners
        try:
            made, room = make(model, settings, notify)
        except _DeviceFull as error:
            full.append(error)
            continue
        context_length = min(context_length, room)
        where = f" on {model.device}" if len(models) > 1 else ""
        names += [f"worker {index}{where}" for index in range(len(runners), len(runners) + len(made))]
        runners += made
    if not runners:
        raise full[0]
    for left in full:
        warn(f"{left.fact}, and is left out")
    return Engine(runners, context_length, stall_limit, names, warn)


def _parallel_engine(
    shards: Shards, settings: _Settings, stall_limit: float | None, notify: Callable[[str], None]
) -> Engine:
    from llmpar.engine.ranks.runner import ParallelRunner

    ranks, settings = shards.ranks, replace(settings, num_workers=1)
    try:
        runner, room = ranks.call(
            partial(_shard_runner, settings, shards.mine, notify), partial(_mirror_runner, settings)
        )
        return Engine([ParallelRunner(ranks, runner)], room, stall_limit, closed=ranks.close)
    except BaseException as error:
        ranks.close()
        if isinstance(error, LlmparError) or not isinstance(error, Exception):
            raise
        raise EngineFailed(f"the devices could not be made ready: {error}; run again, or on more devices") from error


def _shard_runner(settings: _Settings, model: Any, notify: Callable[[str], None]) -> tuple[Runner, int]:
    """Return the runner over one rank's shard, for the thread that calls this, and how many tokens it has room for."""
    runners, room = _torch_runners(model, settings, notify)
    runners[0].start()
    return runners[0], room


def _mirror_runner(settings: _Settings, model: Any) -> Mirrors:
    from llmpar.engine.ranks.runner import Mirrors

    runner, _ = _shard_runner(settings, model, lambda _: None)
    return Mirrors(runner)


def _decoder_runners(
    decoder: Any, settings: _Settings, notify: Callable[[str], None]
) -> tuple[SequenceOf[Runner], int]:
    from llmpar.engine.cpu.runner import DecoderRunner, Prefix
    from llmpar.engine.pages import PAGE, num_pages_of

    workers, slots = settings.num_workers or usable_cores(), settings.batch_size or _CPU_SLOTS
    prefix = Prefix.compute(decoder, settings.prefix_ids)
    num_shared = len(prefix.keys)
    if settings.max_memory is None:
        budget = int(available_memory() * _MEMORY_SHARE / workers / decoder.page_bytes)
    else:
        least = num_pages_of(settings.least_tokens) + num_shared
        # The prefix's pages are there once more than there are workers.
        budget = _share(settings.max_memory, decoder.page_bytes, workers, num_shared, least) - num_shared
    num_pages = max(1, min(slots * num_pages_of(settings.context_length), budget))
    memory = (workers * (num_pages + num_shared) + num_shared) * decoder.page_bytes
    notify(
        f"{_count(workers)} with {slots} slots and room for {num_pages * PAGE:,} tokens each on cpu "
        f"in {decoder.precision.name}, up to {memory / 1e6:,.0f} MB for keys and values"
    )
    runners = [DecoderRunner(decoder, slots, num_pages + num_shared, settings.stop_ids, prefix) for _ in range(workers)]
    return runners, min(settings.context_length, num_pages * PAGE)


def _cuda_runners(decoder: Any, settings: _Settings, notify: Callable[[str], None]) -> tuple[SequenceOf[Runner], int]:
    from llmpar.engine.cuda.runner import PASS_TOKENS, CudaRunner
    from llmpar.engine.pages import PAGE, num_pages_of

    workers, slots = settings.num_workers or 1, settings.batch_size or _CUDA_SLOTS
    num_shared = num_pages_of(len(settings.prefix_ids))
    least = num_pages_of(settings.least_tokens) + num_shared
    beside = workers * decoder.bytes_beside(PASS_TOKENS, slots, settings.context_length)
    budget = int((free_memory(decoder.device) - beside) * _DEVICE_SHARE) // decoder.page_bytes // workers
    if budget < least:
        raise _DeviceFull(f"{decoder.device} has too little memory left beside the model")
    if settings.max_memory is not None:
        wanted = _share(settings.max_memory, decoder.page_bytes, settings.num_models * workers, 0, least)
        budget = min(budget, wanted)
    num_pages = num_shared + min(slots * num_pages_of(settings.context_length), budget - num_shared)
    room = min(settings.context_length, (num_pages - num_shared) * PAGE)
    prefix = settings.prefix_ids
    if len(prefix) >= room or not all(0 <= token_id < decoder.vocabulary for token_id in prefix):
        prefix = ()  # no prompt that begins so can be read, and each is told why
    notify(
        f"{_count(workers)} with {slots} slots and room for {(num_pages - num_shared) * PAGE:,} tokens each on "
        f"{decoder.device} in {str(decoder.dtype).removeprefix('torch.')}, "
        f"{workers * num_pages * decoder.page_bytes / 1e6:,.0f} MB for keys and values"
    )
    runners = [CudaRunner(decoder, slots, num_pages, room, settings.stop_ids, prefix) for _ in range(workers)]
    return runners, room


def _torch_runners(model: Any, settings: _Settings, notify: Callable[[str], None]) -> tuple[SequenceOf[Runner], int]:
    from llmpar.engine.generic import attention
    from llmpar.engine.generic.kv_cache import COLUMNS, round_up
    from llmpar.engine.generic.linear import optimize
    from llmpar.engine.generic.model_runner import ModelRunner, compute_prefix
    from llmpar.engine.generic.padded_runner import PaddedRunner
    from llmpar.engine.generic.seq2seq_batch import form_batches, suppressed_ids

    on_cpu = model.device.type == "cpu"
    num_shards, num_models, stop_ids = _num_shards(model), settings.num_models, settings.stop_ids
    cores = usable_cores()
    workers = settings.num_workers or (_torch_workers(cores) if on_cpu else 1)
    slots = settings.batch_size or (_CPU_SLOTS if on_cpu else _DEVICE_SLOTS)
    threads = max(1, cores // (workers * num_models * num_shards))
    runners: list[Runner]
    room = settings.context_length
    num_cells = None
    if settings.max_memory is not None:
        least, shared = round_up(settings.least_tokens), len(settings.prefix_ids) * num_models
        num_cells = _share(settings.max_memory, _token_bytes(model), workers * num_models, shared, least)
        room = min(room, num_cells // COLUMNS * COLUMNS)
    if model.config.is_encoder_decoder:
        form = partial(form_batches, num_opening=settings.num_opening, suppressed=suppressed_ids(model, stop_ids))
        runners = [PaddedRunner(model, slots, stop_ids, threads, num_cells, form) for _ in range(workers)]
    elif attention.is_supported(model):
        if on_cpu and num_shards == 1:  # projections that are cut are no longer what they seem
            optimize(model)
        model.set_attn_implementation(attention.IMPLEMENTATION)
        prefix = compute_prefix(model, settings.prefix_ids)
        runners = [ModelRunner(model, slots, stop_ids, threads, prefix, num_cells=num_cells) for _ in range(workers)]
    else:
        notify(f"{model.config.model_type} does not take our attention; padded batches are slower")
        runners = [PaddedRunner(model, slots, stop_ids, threads, num_cells) for _ in range(workers)]
    notify(
        f"{_count(workers)} with {threads} intra-op threads and {slots} slots each on {model.device} "
        f"in {str(model.dtype).removeprefix('torch.')}"
        + ("" if num_shards == 1 else f", {num_shards} devices each with a share of every layer")
        + (
            ""
            if settings.max_memory is None
            else f", up to {settings.max_memory / num_models / 1e6:,.0f} MB for keys and values"
        )
    )
    return runners, room


def _torch_workers(cores: int) -> int:
    """Return how many workers to have on a CPU through torch: one for each core, or, of many, a few with several.

    Each of torch's operations takes Python's lock, and a step has hundreds. On 16 cores of a Xeon 16 workers answered
    250 tokens/s, and 4 with 4 intra-op threads 490 (135M, bf16). The few are those that leave fewest cores idle.
    """
    if cores < 2 * min(_TORCH_WORKERS):
        return cores
    return max(_TORCH_WORKERS, key=lambda workers: (cores // workers * workers, -workers))


def _share(max_memory: int, unit: int, workers: int, shared: int, least: int) -> int:
    """Return how many units of memory each worker has, after those that are shared, if they are not too few."""
    units = (max_memory // unit - shared) // workers
    if units < least:
        needed = -(-(workers * least + shared) * unit // 1_000_000)
        raise UsageError(
            f"--max-memory {max_memory / 1e6:g}MB: too little for keys and values; at least {needed}MB with "
            f"{_count(workers)}"
        )
    return units


def _count(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers"


def _token_bytes(model: Any) -> int:
    """Return what keys and values of a token take in a model of transformers, in all shards together.

    It is tried, as there are many kinds.
    """
    import torch

    from llmpar.engine.generic.padded_runner import cache_name

    token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    # What an encoder's token takes, for the decoder to look at, is as large as what one of the decoder's takes.
    asked = {"decoder_input_ids": token} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        cache = getattr(model(input_ids=token, use_cache=True, **asked), cache_name(model))
    layers = getattr(getattr(cache, "self_attention_cache", cache), "layers", ())
    kept = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
    return max(1, sum(int(tensor.nbytes) for tensor in kept if tensor is not None) * _num_shards(model))


def _num_shards(model: Any) -> int:
    """Return over how many devices a model of transformers is spread, of which it is one part."""
    return getattr(model, "tp_size", None) or 1
