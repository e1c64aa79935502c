"""Loaded models → one engine. Each model makes its own runners; here they are put together."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from contextlib import ExitStack

from llmpar.engine.engine import Engine
from llmpar.engine.model import DeviceFull, EngineModel, Notify, Runners, Settings


def build_engine(
    models: SequenceOf[EngineModel],
    context_length: int,
    stop_ids: frozenset[int],
    threads: int | None = None,
    batch_size: int | None = None,
    prefix_ids: SequenceOf[int] = (),
    *,
    num_opening: int = 1,
    max_memory: int | None = None,
    num_models: int | None = None,
    stall_limit: float | None = 1800.0,
    closed: Callable[[], None] = lambda: None,
    notify: Notify = lambda _: None,
    warn: Notify = lambda _: None,
) -> Engine:
    """Return one engine over equal models, one for each device; one of several that has no room is left out.

    Args:
        models: one for each device. What a model needs beside threads, such as other processes, is ended with the
            engine, or if none can be built.
        context_length: the most tokens, prompt and output together.
        stop_ids: the tokens that end an answer.
        threads: for each model; None for one on a GPU and one for each core of a CPU, fewer through torch.
        batch_size: sequences that each worker runs at once; None for the device's usual.
        prefix_ids: what most prompts begin with; it is computed once. An encoder reads every prompt whole.
        num_opening: of an encoder-decoder, how many ids at the end of a prompt the decoder opens with.
        max_memory: bytes for keys and values of all workers; None for a share of what is free on a CPU decoder, and
            for as much as it takes with a model of transformers.
        num_models: how many models share that, those of other processes included; None for the `models`.
        stall_limit: see `Engine`.
        closed: is called when the engine has been closed, or cannot be built.
        notify: is told what was chosen, for people who asked.
        warn: is told of a device that was left out; also see `Engine`.

    Raises:
        UsageError: `max_memory` is too little to run anything.
        EngineFailed: no device has room beside the model, or a rank that has a shard is gone, or its memory ran out.
    """
    settings = Settings(
        context_length,
        stop_ids,
        threads,
        batch_size,
        tuple(prefix_ids),
        num_opening,
        max_memory,
        num_models or len(models),
    )
    ending = ExitStack()
    ending.callback(closed)
    try:
        made = _make_runners(models, settings, ending, notify, warn)
        wheres = [f" on {model.device_name}" if len(models) > 1 else "" for model, found in made for _ in found.workers]
        return Engine(
            [worker for _, found in made for worker in found.workers],
            min(context_length, *(found.context_length for _, found in made)),
            stall_limit,
            [f"worker {index}{where}" for index, where in enumerate(wheres)],
            warn,
            closed=ending.close,
            helps=[one for _, found in made for one in found.helps or (None,) * len(found.workers)],
        )
    except BaseException:
        ending.close()
        raise


def _make_runners(
    models: SequenceOf[EngineModel], settings: Settings, ending: ExitStack, notify: Notify, warn: Notify
) -> list[tuple[EngineModel, Runners]]:
    """Return the models that have room, with their runners; `ending` is given what must be closed with these."""
    made: list[tuple[EngineModel, Runners]] = []
    full: list[DeviceFull] = []
    for model in models:
        try:
            runners = model.make_runners(settings, notify)
        except DeviceFull as error:
            full.append(error)
            continue
        made.append((model, runners))
        if runners.close:
            ending.callback(runners.close)
    if not made:
        raise full[0]
    for left in full:
        warn(f"{left.fact}, and is left out")
    return made
