"""A model of transformers, computed by torch, as the engine takes it: which runner suits it, and what a token takes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from llmpar.engine.generic import attention
from llmpar.engine.generic.kv_cache import COLUMNS, round_up
from llmpar.engine.generic.linear import optimize
from llmpar.engine.generic.model_runner import ModelRunner, compute_prefix
from llmpar.engine.generic.padded_runner import PaddedRunner, cache_name
from llmpar.engine.generic.seq2seq_batch import form_batches, suppressed_ids
from llmpar.engine.model import Notify, Runners, Settings, context_length_of, count_workers, share_memory
from llmpar.engine.precision_names import TORCH_TYPES, PrecisionName
from llmpar.engine.resources import usable_cores
from llmpar.engine.worker import Runner

_CPU_SLOTS = 64  # a step of a small model then takes a tenth of a second; more rows gain little
_DEVICE_SLOTS = 256
_USUAL_WORKERS = range(4, 8)  # that share many cores


@dataclass(frozen=True, slots=True)
class TorchModel:
    """A language model of transformers on its device, or one rank's share of it."""

    module: Any

    @property
    def vocabulary(self) -> int:
        """How many tokens it scores."""
        return int(self.module.config.get_text_config().vocab_size)

    @property
    def context_length(self) -> int:
        """The most tokens that it was made for, prompt and output together."""
        return context_length_of(self.module.config.get_text_config())

    @property
    def precision(self) -> PrecisionName:
        """What its weights are in."""
        return next(name for name, kind in TORCH_TYPES.items() if str(self.module.dtype) == f"torch.{kind}")

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the prompt."""
        return bool(self.module.config.is_encoder_decoder)

    @property
    def through_torch(self) -> bool:
        """Whether torch computes it, and not our own kernels."""
        return True

    @property
    def device_name(self) -> str:
        """Where it computes."""
        return str(self.module.device)

    def copy_to(self, device: str) -> TorchModel:
        """Return an equal model on another device.

        Weights go there at once: beside them, the first device may have no room.
        """
        model = self.module
        moved: dict[int, Any] = {id(buffer): buffer.to(device, copy=True) for buffer in model.buffers()}
        for weight in model.parameters():
            moved[id(weight)] = torch.nn.Parameter(weight.detach().to(device, copy=True), requires_grad=False)
        return TorchModel(deepcopy(model, moved))

    def make_runners(self, settings: Settings, notify: Notify) -> Runners:
        """Return runners of the kind that suits the model: with our attention, or over padded batches.

        Raises:
            UsageError: the memory limit is too little to run anything.
        """
        model = self.module
        on_cpu = model.device.type == "cpu"
        num_shards, num_models, stop_ids = _num_shards(model), settings.num_models, settings.stop_ids
        cores = usable_cores()
        workers = settings.threads or (_usual_workers(cores) if on_cpu else 1)
        slots = settings.batch_size or (_CPU_SLOTS if on_cpu else _DEVICE_SLOTS)
        intra_op = max(1, cores // (workers * num_models * num_shards))
        runners: list[Runner]
        room = settings.context_length
        num_cells = None
        if settings.max_memory is not None:
            least, shared = round_up(settings.least_tokens), len(settings.prefix_ids) * num_models
            num_cells = share_memory(settings.max_memory, _token_bytes(model), workers * num_models, shared, least)
            room = min(room, num_cells // COLUMNS * COLUMNS)
        if model.config.is_encoder_decoder:
            form = partial(form_batches, num_opening=settings.num_opening, suppressed=suppressed_ids(model, stop_ids))
            runners = [PaddedRunner(model, slots, stop_ids, intra_op, num_cells, form) for _ in range(workers)]
        elif attention.is_supported(model):
            if on_cpu and num_shards == 1:  # projections that are cut are no longer what they seem
                optimize(model)
            attention.take_over(model)
            prefix = compute_prefix(model, settings.prefix_ids)
            runners = [
                ModelRunner(model, slots, stop_ids, intra_op, prefix, num_cells=num_cells) for _ in range(workers)
            ]
        else:
            notify(f"{model.config.model_type} does not take our attention; padded batches are slower")
            runners = [PaddedRunner(model, slots, stop_ids, intra_op, num_cells) for _ in range(workers)]
        notify(
            f"{count_workers(workers)} with {intra_op} intra-op threads and {slots} slots each on {model.device} "
            f"in {str(model.dtype).removeprefix('torch.')}"
            + ("" if num_shards == 1 else f", {num_shards} devices each with a share of every layer")
            + (
                ""
                if settings.max_memory is None
                else f", up to {settings.max_memory / num_models / 1e6:,.0f} MB for keys and values"
            )
        )
        return Runners(tuple(runners), room)


def _usual_workers(cores: int) -> int:
    """Return how many workers to have on a CPU through torch: one for each core, or, of many, a few with several.

    Each of torch's operations takes Python's lock, and a step has hundreds. On 16 cores of a Xeon 16 workers answered
    250 tokens/s, and 4 with 4 intra-op threads 490 (135M, bf16). The few are those that leave fewest cores idle.
    """
    if cores < 2 * min(_USUAL_WORKERS):
        return cores
    return max(_USUAL_WORKERS, key=lambda workers: (cores // workers * workers, -workers))


def _token_bytes(model: Any) -> int:
    """Return what keys and values of a token take in a model of transformers, in all shards together.

    It is tried, as there are many kinds.
    """
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
