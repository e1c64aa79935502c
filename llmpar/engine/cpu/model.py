"""A model that our kernels compute on the CPU, as the engine takes it: how its workers share memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from llmpar.engine.cpu.decoder import Decoder
from llmpar.engine.cpu.runner import DecoderRunner, PagedPrefix
from llmpar.engine.cpu.team import help_others, make_board
from llmpar.engine.model import Notify, Runners, Settings, count_workers, share_memory
from llmpar.engine.pages import PAGE, num_pages_of
from llmpar.engine.resources import available_memory, usable_cores

_SLOTS = 64  # a step of a small model then takes a tenth of a second; more rows gain little
_MEMORY_SHARE = 0.5  # of what is available, for keys and values


@dataclass(frozen=True, slots=True)
class CpuModel:
    """A decoder that all workers share."""

    decoder: Decoder

    @property
    def vocabulary(self) -> int:
        """How many tokens it scores."""
        return self.decoder.vocabulary

    @property
    def is_encoder_decoder(self) -> bool:
        """Decoders read prompts themselves."""
        return False

    @property
    def device_name(self) -> str:
        """Where it computes."""
        return "cpu"

    def make_runners(self, settings: Settings, notify: Notify) -> Runners:
        """Return a runner for each core, all of them with room for the prefix and as much again as memory allows.

        Raises:
            UsageError: the memory limit is too little to run anything.
        """
        decoder = self.decoder
        workers, slots = settings.threads or usable_cores(), settings.batch_size or _SLOTS
        prefix = PagedPrefix.compute(decoder, settings.prefix_ids)
        num_shared = len(prefix.keys)
        if settings.max_memory is None:
            budget = int(available_memory() * _MEMORY_SHARE / workers / decoder.page_bytes)
        else:
            least = num_pages_of(settings.least_tokens) + num_shared
            # The prefix's pages are there once more than there are workers.
            budget = share_memory(settings.max_memory, decoder.page_bytes, workers, num_shared, least) - num_shared
        num_pages = max(1, min(slots * num_pages_of(settings.context_length), budget))
        memory = (workers * (num_pages + num_shared) + num_shared) * decoder.page_bytes
        notify(
            f"{count_workers(workers)} with {slots} slots and room for {num_pages * PAGE:,} tokens each on cpu "
            f"in {decoder.precision.name}, up to {memory / 1e6:,.0f} MB for keys and values"
        )
        board, most_helpers = make_board(workers), min(workers, usable_cores()) - 1
        runners = [
            DecoderRunner(decoder, slots, num_pages + num_shared, settings.stop_ids, prefix, (board, seat))
            for seat in range(workers)
        ]
        return Runners(
            tuple(runners),
            min(settings.context_length, num_pages * PAGE),
            helps=tuple(partial(help_others, board, seat, most_helpers) for seat in range(workers) if most_helpers),
        )
