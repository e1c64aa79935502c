"""A model's files → weights in memory, ready for an engine."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpar.engine.finite import check_model
from llmpar.engine.model import context_length_of
from llmpar.engine.precision_names import SHORT, TORCH_TYPES, KVCacheName, PrecisionChoice, PrecisionName
from llmpar.engine.resources import is_out_of_memory
from llmpar.errors import KeptDamaged, ModelUnavailable
from llmpar.integrity.foundation import Foundation
from llmpar.models.configuration import stop_ids
from llmpar.models.kv_cache import check_kv_cache
from llmpar.models.on_gpu import put_on_gpu
from llmpar.models.precision import find_arithmetic
from llmpar.models.watching import add_files, watch

if TYPE_CHECKING:
    from llmpar.engine.cpu.decoder import Decoder
    from llmpar.engine.cuda.model import CudaModel
    from llmpar.engine.generic.model import TorchModel
    from llmpar.engine.model import EngineModel
    from llmpar.models.cache import Notify


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A language model, and what its files say about using it.

    `models` are equal, one on each device, of the kind that computes them: our decoder where a CPU or CUDA computes and
    the model has the Llama shape, else transformers' own; or there is one, Shards, over all devices. `context_length`
    is the most tokens, prompt and output together; `stop_ids` end an answer. `precision` is what they compute in, and
    `through_torch` tells whether torch does, and not our own kernels. No answer counts before `foundation` confirms it.
    """

    models: tuple[EngineModel, ...]
    context_length: int
    stop_ids: frozenset[int]
    precision: PrecisionName
    foundation: Foundation
    through_torch: bool = False

    @property
    def arithmetic(self) -> str:
        """What decides the bytes of an answer beside the weights, in words that differ where the bytes may."""
        return f"{self.precision} through torch" if self.through_torch else self.precision

    @property
    def vocabulary(self) -> int:
        """How many tokens the model scores, which may be more than its tokenizer has."""
        return self.models[0].vocabulary

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the prompt and a decoder writes the answer; else it is a causal language model."""
        return self.models[0].is_encoder_decoder


def load_model(
    path: Path,
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    source_bits: int | None = None,
    notify: Notify = lambda _: None,
    warn: Notify = lambda _: None,
    *,
    doubts: bool = False,
    kv_cache: KVCacheName = "auto",
) -> LoadedModel:
    """Load the weights of a model directory, safetensors only, or of a GGUF file, without running any code from it.

    Of a model that also takes images, the part for text is loaded. With several devices, each has weights of its own;
    they are read once. One of several that has no room for them is left out.

    Args:
        path: the directory or file.
        device: see `find_devices`.
        precision: "auto" is no less precise than the weights were in their file, and the fastest such on the
            device: int8 for weights of 8 bits or fewer (on a CPU), bf16 for 16 or fewer, else fp32.
            Where our own engine is too far off in a precision, it computes in the next longer one, and says so.
        source_bits: bits per weight of the file that the weights came from, None if unknown.
        notify: is told what was not as one might expect, for people who asked.
        warn: is told of a device that was left out, and of what was damaged and is made again.
        doubts: whether packed weights are looked at before they are used, and not while they are.
        kv_cache: what keys and values are kept in.

    Raises:
        ModelUnavailable: the device is not there or has no room, the files are damaged, this is no language model, or
            what it makes of a short text are no finite numbers.
        KeptDamaged: what was kept of the weights is not what was written.
    """
    devices, precision = find_arithmetic(device, precision, source_bits, path)
    check_kv_cache(kv_cache, devices)
    if devices == ("cpu",):
        return _load_on_cpu(path, precision, notify, warn, doubts=doubts)
    foundation = watch(path, is_mapped=False)
    import torch

    from llmpar.models.device_needs import DeviceTooSmall, check_device

    native = "bf16" if precision in SHORT else precision  # of what is not short
    whole = cache(lambda: _whole(path, getattr(torch, TORCH_TYPES[native])))

    def put(name: str) -> CudaModel | TorchModel:
        own = put_on_gpu(path, name, precision, notify, _from_pretrained, kv_cache) if name.startswith("cuda") else None
        # Only with accelerate does transformers load straight to a device. But unless their type changes, weights that
        # it loads are the mapped file, and they are moved one by one: the host never holds them twice.
        return own or _put(whole(), name, path, notify, kv_cache)

    models: list[CudaModel | TorchModel] = []
    full: dict[str, str] = {}
    for name in devices:
        try:
            check_device(path, precision, name)
            models.append(_copy(models[0], name) if models else put(name))
        except DeviceTooSmall as error:
            if len(devices) == 1:
                raise
            full[name] = str(error)
        except RuntimeError as error:
            full[name] = str(error).partition("\n")[0]
            if not is_out_of_memory(error):
                raise _cannot_be_put(path, name, full[name]) from error
    if not models:
        raise _cannot_be_put(path, *next(iter(full.items())))
    for name in full:
        warn(f"{name} has too little memory for the model, and is left out")
    first = models[0]
    return LoadedModel(
        tuple(models), first.context_length, stop_ids(path), first.precision, foundation, first.through_torch
    )


def import_libraries() -> None:
    """Import what loading a model on a GPU imports, which takes seconds, before it is known which one.

    Not transformers, which takes longest: it is for models that nothing is known of (see `plans`).
    """
    import torch  # noqa: F401

    with suppress(ImportError):  # there may be no Triton, of which loading tells
        from llmpar.engine.cuda.ahead import hash_compiler

        hash_compiler()
        from llmpar.engine.cuda import from_transformers, model  # noqa: F401


def _cannot_be_put(path: Path, device: str, reason: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"{str(path)!r}: cannot be put on {device}: {reason}; name another device, or take a smaller model"
    )


def _put(model: Any, device: str, path: Path, notify: Notify, kv_cache: KVCacheName = "auto") -> CudaModel | TorchModel:
    """Return a model of transformers on a device; on a GPU a Decoder, where it has the Llama shape and kernels run."""
    from llmpar.engine.generic.model import TorchModel
    from llmpar.engine.parts import OtherShape

    model = model.to(device)
    if device.startswith("cuda"):
        try:
            from llmpar.engine.cuda.from_transformers import build_decoder
            from llmpar.engine.cuda.model import CudaModel

            return CudaModel(build_decoder(model, kv_cache))
        except (ImportError, OtherShape) as reason:
            notify(f"{path.name!r} runs through torch, which is slower: {reason}")
    if kv_cache != "auto":
        raise ModelUnavailable(
            f"kv_cache {kv_cache}: {path.name!r} runs through torch, which has no such; leave it out"
        )
    check_model(model, repr(str(path)))
    return TorchModel(model)


def load_shard(path: Path, device: str, precision: PrecisionName, num_shards: int) -> LoadedModel:
    """Load this rank's share of the weights, straight to its device; all ranks of a process group do so at once.

    Args:
        path: see `load_model`; `shards.check_plan` has been asked.
        device: "cpu", or the rank's own "cuda:N".
        precision: as `find_arithmetic` says; where that is int8, what is native and no less precise.
        num_shards: how many ranks there are.

    Raises:
        ModelUnavailable: the files are damaged, or this is no language model.
    """
    foundation = watch(path, is_mapped=device == "cpu")
    import torch
    from transformers.distributed.configuration_utils import DistributedConfig

    from llmpar.engine.generic.model import TorchModel
    from llmpar.models.shards import on_device

    native = _torch_precision(precision) if device == "cpu" else precision
    with on_device(device):
        dtype = getattr(torch, TORCH_TYPES[native])
        model = _from_pretrained(path, dtype, distributed_config=DistributedConfig(tp_size=num_shards))
    check_model(model, repr(str(path)))
    return LoadedModel(
        (TorchModel(model),), context_length_of(model.config.get_text_config()), stop_ids(path), native, foundation
    )


def _load_on_cpu(path: Path, precision: PrecisionName, notify: Notify, warn: Notify, *, doubts: bool) -> LoadedModel:
    from llmpar.engine.cpu import compiled, packed
    from llmpar.engine.cpu.precision import PRECISIONS
    from llmpar.models import packs, plans
    from llmpar.models.needs import check_room, floats_with_room

    for damaged in compiled.discard_damaged():
        warn(f"{str(damaged)!r} was altered since it was written; it is compiled again")
    # Not for fp32: its pack is as large as the weights, and who asks for it compares more often than works.
    is_kept = PRECISIONS[precision].bits < PRECISIONS["fp32"].bits
    place = packs.find(path, precision, packed.FORMAT) if is_kept else None
    if place and place.use():
        foundation = Foundation()
        try:
            add_files(foundation, path, weights=False)
            decoder = packed.read(place.file, place.origin, foundation)
            foundation.begin()
            if doubts:
                foundation.confirm()
            _tell_of_longer(path, precision, decoder.precision.name, notify)
            return _of_decoder(decoder, path, foundation)
        except (packed.DamagedPack, KeptDamaged) as damage:
            warn(f"{damage}; making it again")
    check_room(path, precision)
    foundation = watch(path, is_mapped=True)
    plan = None if place else plans.find(path, precision)
    planned = plan.read() if plan else None
    if planned:
        _tell_of_longer(path, precision, planned.precision.name, notify)
        return _of_decoder(planned, path, foundation)
    import torch

    from llmpar.engine.cpu import from_transformers
    from llmpar.engine.generic.model import TorchModel
    from llmpar.engine.parts import OtherShape
    from llmpar.models.opening import open_files

    native = _torch_precision(precision)
    skeleton = open_files(path)
    try:
        if skeleton:
            stored = from_transformers.Stored(skeleton.rows, skeleton.give_back, skeleton.extent)
            with skeleton.reading(skeleton.extent):
                decoder = from_transformers.build_closest(skeleton.module, precision, notify, stored)
        else:
            model = _from_pretrained(path, "auto" if is_kept else torch.float32)
            decoder = from_transformers.build_closest(model, precision, notify)
    except OtherShape as reason:
        if skeleton:
            native = floats_with_room(path, skeleton.source.shapes, precision, native)
        notify(f"{path.name!r} runs through torch, which is slower, and in {native}: {reason}")
        dtype = getattr(torch, TORCH_TYPES[native])
        if skeleton:
            model = skeleton.filled(dtype)
        for weight in model.parameters():  # not the buffers: rotary frequencies stay exact, as transformers loads them
            weight.data = weight.data.to(dtype)
        check_model(model, repr(str(path)))
        context_length = context_length_of(model.config.get_text_config())
        return LoadedModel((TorchModel(model),), context_length, stop_ids(path), native, foundation, through_torch=True)
    if place and decoder.precision.bits < PRECISIONS["fp32"].bits:
        foundation.confirm()  # what is damaged must not become a pack that looks sound
        place.keep(partial(packed.write, decoder, origin=place.origin), notify)
    if plan and skeleton:
        plan.keep(decoder, stored.recipes, notify)
    return _of_decoder(decoder, path, foundation)


def _of_decoder(decoder: Decoder, path: Path, foundation: Foundation) -> LoadedModel:
    from llmpar.engine.cpu.model import CpuModel

    own = decoder.precision.name
    return LoadedModel((CpuModel(decoder),), decoder.context_length, stop_ids(path), own, foundation)


def _tell_of_longer(path: Path, asked: PrecisionName, taken: PrecisionName, notify: Notify) -> None:
    if taken != asked:
        notify(f"{path.name!r} is computed in {taken}: in {asked} it was too far off when it was tried")


def _whole(path: Path, dtype: Any) -> Any:
    """Return a model with all its weights in memory, in a type of torch's."""
    from llmpar.models.opening import is_ours_alone, open_files

    skeleton = open_files(path) if is_ours_alone(path) else None
    return skeleton.filled(dtype) if skeleton else _from_pretrained(path, dtype)


def _from_pretrained(path: Path, dtype: Any, **options: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging  # untyped
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        loaded: Any = kind.from_pretrained(
            path,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **_text_part(config),
            **options,
        )
    except Exception as error:  # whatever transformers and safetensors make of damaged files
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
        if "ignore_mismatched_sizes" in reason:  # an option of theirs
            reason = "its weights have other sizes than its config.json says"
        raise ModelUnavailable(f"{str(path)!r}: cannot be loaded: {reason}") from error
    model, found = loaded
    if missing := sorted(found["missing_keys"]):  # transformers makes them up, at random
        raise ModelUnavailable(f"{str(path)!r}: has no weights for {missing[0]} ({len(missing)} missing)")
    if getattr(model.config.get_text_config(), "num_hidden_layers", 1) < 1:
        raise ModelUnavailable(f"{str(path)!r}: is damaged: its config.json says that it has no layers")
    return model.eval().requires_grad_(False)


def _copy(model: CudaModel | TorchModel, device: str) -> CudaModel | TorchModel:
    return model.copy_to(device)


def _text_part(config: Any) -> dict[str, Any]:
    """Return the options by which the model for text in a larger one is loaded; none where transformers has no such."""
    from llmpar.models.checkpoints.text_part import OWN_NAMES, text_configuration

    text = text_configuration(config)
    return {} if text is None else {"config": text, "key_mapping": dict(OWN_NAMES)}


def _torch_precision(precision: PrecisionName) -> PrecisionName:
    """Return what torch computes in on this CPU where this precision is wanted."""
    from llmpar.engine.cpu.precision import PRECISIONS, fastest_in_torch

    return fastest_in_torch(PRECISIONS[precision].bits).name
