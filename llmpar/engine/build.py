"""A loaded model → an engine: how many workers, how many slots, how much memory, and which runner."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from typing import Any

from llmpar.engine.engine import Engine
from llmpar.engine.resources import available_memory, usable_cores
from llmpar.engine.worker import Runner

_CPU_SLOTS = 64  # a step of a small model then takes a tenth of a second; more rows gain little
_DEVICE_SLOTS = 256
_MEMORY_SHARE = 0.5  # of what is available, for keys and values


def build_engine(
    model: Any,
    context_length: int,
    stop_ids: frozenset[int],
    num_workers: int | None = None,
    batch_size: int | None = None,
    prefix_ids: SequenceOf[int] = (),
    *,
    notify: Callable[[str], None] = lambda _: None,
) -> Engine:
    """Return an engine over a model.

    Args:
        model: a Decoder, or a causal language model of transformers on its device.
        context_length: the most tokens, prompt and output together.
        stop_ids: the tokens that end an answer.
        num_workers: None for one for each core on a CPU, one on any other device.
        batch_size: sequences that each worker runs at once; None for the device's usual.
        prefix_ids: what most prompts begin with; it is computed once.
        notify: is told what was chosen, for people who asked.
    """
    if hasattr(model, "page_bytes"):
        return _decoder_engine(model, context_length, stop_ids, num_workers, batch_size, prefix_ids, notify)
    return _torch_engine(model, context_length, stop_ids, num_workers, batch_size, prefix_ids, notify)


def _decoder_engine(
    decoder: Any,
    context_length: int,
    stop_ids: frozenset[int],
    num_workers: int | None,
    batch_size: int | None,
    prefix_ids: SequenceOf[int],
    notify: Callable[[str], None],
) -> Engine:
    from llmpar.engine.cpu.runner import DecoderRunner, Prefix
    from llmpar.engine.cpu.vector import LANES

    workers, slots = num_workers or usable_cores(), batch_size or _CPU_SLOTS
    prefix = Prefix.compute(decoder, prefix_ids)
    longest = -(-context_length // LANES)
    budget = int(available_memory() * _MEMORY_SHARE / workers / decoder.page_bytes)
    num_pages = max(1, min(slots * longest, budget))
    notify(
        f"{workers} workers with {slots} slots and room for {num_pages * LANES:,} tokens each on cpu "
        f"in {decoder.precision}"
    )
    runners = [DecoderRunner(decoder, slots, num_pages + len(prefix.keys), stop_ids, prefix) for _ in range(workers)]
    return Engine(runners, min(context_length, num_pages * LANES))


def _torch_engine(
    model: Any,
    context_length: int,
    stop_ids: frozenset[int],
    num_workers: int | None,
    batch_size: int | None,
    prefix_ids: SequenceOf[int],
    notify: Callable[[str], None],
) -> Engine:
    from llmpar.engine import attention
    from llmpar.engine.linear import optimize
    from llmpar.engine.model_runner import ModelRunner, compute_prefix
    from llmpar.engine.padded_runner import PaddedRunner

    on_cpu = model.device.type == "cpu"
    cores = usable_cores()
    workers = num_workers or (cores if on_cpu else 1)
    slots = batch_size or (_CPU_SLOTS if on_cpu else _DEVICE_SLOTS)
    threads = max(1, cores // workers)
    runners: list[Runner]
    if attention.is_supported(model):
        if on_cpu:
            optimize(model)
        model.set_attn_implementation(attention.IMPLEMENTATION)
        prefix = compute_prefix(model, prefix_ids)
        runners = [ModelRunner(model, slots, stop_ids, threads, prefix) for _ in range(workers)]
    else:
        notify(f"{model.config.model_type} does not take our attention; padded batches are slower")
        runners = [PaddedRunner(model, slots, stop_ids, threads) for _ in range(workers)]
    notify(
        f"{workers} workers with {threads} intra-op threads and {slots} slots each on {model.device} "
        f"in {str(model.dtype).removeprefix('torch.')}"
    )
    return Engine(runners, context_length)
