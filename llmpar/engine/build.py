"""A loaded model → an engine: how many workers, how many slots, and which runner."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from typing import Any

from llmpar.engine.engine import Engine
from llmpar.engine.resources import usable_cores
from llmpar.engine.worker import Runner

_CPU_SLOTS = 64  # a step of a small model then takes a tenth of a second; more rows gain little
_DEVICE_SLOTS = 256


def build_engine(
    model: Any,
    context_length: int,
    stop_ids: frozenset[int],
    num_workers: int | None = None,
    batch_size: int | None = None,
    prefix_ids: SequenceOf[int] = (),
    *,
    quantize: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> Engine:
    """Return an engine over a model of transformers.

    Args:
        model: a causal language model, on its device.
        context_length: the most tokens, prompt and output together.
        stop_ids: the tokens that end an answer.
        num_workers: None for one for each core on a CPU, one on any other device.
        batch_size: sequences that each worker runs at once; None for the device's usual.
        prefix_ids: what most prompts begin with; it is computed once.
        quantize: whether linear layers compute in int8, on a CPU.
        notify: is told what was chosen, for people who asked.
    """
    import torch

    from llmpar.engine import attention
    from llmpar.engine.linear import bf16_is_native, optimize
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
            optimize(model, quantize)
        model.set_attn_implementation(attention.IMPLEMENTATION)
        # In bf16 attention reads half as much, and rows do not depend on how far their neighbours reach.
        kv_dtype = torch.bfloat16 if quantize and bf16_is_native() else None
        prefix = compute_prefix(model, prefix_ids, kv_dtype)
        runners = [ModelRunner(model, slots, stop_ids, threads, prefix, kv_dtype) for _ in range(workers)]
    else:
        quantize = False
        notify(f"{model.config.model_type} does not take our attention; padded batches are slower")
        runners = [PaddedRunner(model, slots, stop_ids, threads) for _ in range(workers)]
    notify(
        f"{workers} workers with {threads} intra-op threads and {slots} slots each on {model.device} "
        f"in {'int8' if quantize else str(model.dtype).removeprefix('torch.')}"
    )
    return Engine(runners, context_length)
