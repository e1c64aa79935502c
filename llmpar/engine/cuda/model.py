"""A model that our kernels compute on a GPU, as the engine takes it: how much memory keys and values may take."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from llmpar.engine.cuda.decoder import Decoder
from llmpar.engine.cuda.runner import PASS_TOKENS, CudaRunner
from llmpar.engine.model import DeviceFull, Notify, Runners, Settings, count_workers, share_memory
from llmpar.engine.pages import PAGE, num_pages_of
from llmpar.engine.precision_names import PrecisionName
from llmpar.engine.resources import free_memory

_SLOTS = 1024  # a step then still takes a few hundredths of a second, of which the weights are a small part
_SMALLER = (2, 4, 8, 16)  # parts of these slots, and of the tokens read at once, for devices without room for all
_WORTH_PAGES = 8  # for each slot, on average; with fewer, many slots are empty, and what they take is missed
_DEVICE_SHARE = 0.9  # of what is free on a device, for keys and values


@dataclass(frozen=True, slots=True)
class CudaModel:
    """A decoder on one GPU, which its workers share."""

    decoder: Decoder

    @property
    def vocabulary(self) -> int:
        """How many tokens it scores."""
        return self.decoder.vocabulary

    @property
    def context_length(self) -> int:
        """The most tokens that it was made for, prompt and output together."""
        return self.decoder.context_length

    @property
    def precision(self) -> PrecisionName:
        """What its weights are in."""
        return self.decoder.precision

    @property
    def is_encoder_decoder(self) -> bool:
        """Decoders read prompts themselves."""
        return False

    @property
    def through_torch(self) -> bool:
        """Whether torch computes it, and not our own kernels."""
        return False

    @property
    def device_name(self) -> str:
        """Which GPU it computes on."""
        return str(self.decoder.device)

    def copy_to(self, device: str) -> CudaModel:
        """Return an equal model on another GPU."""
        return CudaModel(self.decoder.to(torch.device(device)))

    def make_runners(self, settings: Settings, notify: Notify) -> Runners:
        """Return a runner, or as many as are wanted, that share what is free on the device.

        Raises:
            DeviceFull: that is too little to run anything.
            UsageError: the memory limit is.
        """
        decoder = self.decoder
        workers, slots, pass_tokens = settings.threads or 1, settings.batch_size or _SLOTS, PASS_TOKENS
        num_shared = num_pages_of(len(settings.prefix_ids))
        least = num_pages_of(settings.least_tokens) + num_shared
        free, num_shares = free_memory(decoder.device), 1
        if share := decoder.share:
            free, num_shares = int(share.least(free)), share.size  # ranks have as many pages

        def count_pages(slots: int, pass_tokens: int) -> int:
            beside = workers * decoder.bytes_beside(pass_tokens, slots, settings.context_length)
            return int((free - beside) * _DEVICE_SHARE) // decoder.page_bytes // workers

        budget = count_pages(slots, pass_tokens)
        for part in _SMALLER if settings.batch_size is None else ():
            if budget >= least + slots * _WORTH_PAGES:
                break
            slots, pass_tokens = _SLOTS // part, PASS_TOKENS // part
            budget = count_pages(slots, pass_tokens)
        if budget < least:
            raise DeviceFull(f"{decoder.device} has too little memory left beside the model")
        if settings.max_memory is not None:
            page_bytes = decoder.page_bytes * num_shares
            wanted = share_memory(settings.max_memory, page_bytes, settings.num_models * workers, 0, least)
            budget = min(budget, wanted)
        num_pages = num_shared + min(slots * num_pages_of(settings.context_length), budget - num_shared)
        room = min(settings.context_length, (num_pages - num_shared) * PAGE)
        prefix = settings.prefix_ids
        if len(prefix) >= room or not all(0 <= token_id < decoder.vocabulary for token_id in prefix):
            prefix = ()  # no prompt that begins so can be read, and each is told why
        notify(
            f"{count_workers(workers)} with {slots} slots and room for {(num_pages - num_shared) * PAGE:,} tokens each "
            f"on {decoder.device} in {decoder.precision}, "
            f"{workers * num_pages * decoder.page_bytes / 1e6:,.0f} MB for keys and values"
            + ("" if num_shares == 1 else f", {num_shares} devices each with a share of every layer")
            + (" in fp8" if decoder.has_short_keys else "")
        )
        if not decoder.is_steady:
            notify(f"{decoder.device} rounds by how many rows are computed at once: answers may depend on the batch")
        fewer = pass_tokens if pass_tokens < PASS_TOKENS else None
        runners = [
            CudaRunner(decoder, slots, num_pages, room, settings.stop_ids, prefix, fewer) for _ in range(workers)
        ]
        return Runners(tuple(runners), room)
