"""A model that is spread over ranks, as the engine takes it: one worker, whose runner every rank repeats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from llmpar.engine.model import EngineModel, Notify, Runners, Settings
from llmpar.engine.ranks.ranks import LOADING_LIMIT, Ranks
from llmpar.engine.ranks.runner import LeadingRunner, Mirrors, ParallelRunner, SharingRunner
from llmpar.errors import EngineFailed, LlmparError


@dataclass(frozen=True, slots=True)
class Shards:
    """One model of which every rank has a share.

    Args:
        ranks: where the shards are.
        mine: rank 0's.
        shares_tokens: whether its runners' devices tell each other which tokens were chosen; see `LeadingRunner`.
    """

    ranks: Ranks
    mine: EngineModel
    shares_tokens: bool = False

    @property
    def vocabulary(self) -> int:
        """How many tokens it scores."""
        return self.mine.vocabulary

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the prompt."""
        return self.mine.is_encoder_decoder

    @property
    def device_name(self) -> str:
        """Where rank 0 computes."""
        return self.mine.device_name

    def make_runners(self, settings: Settings, notify: Notify) -> Runners:
        """Return one runner over all ranks, and what ends them; they are ended if it cannot be made.

        Raises:
            UsageError: the memory limit is too little to run anything.
            EngineFailed: a rank is gone, or its memory ran out.
        """
        settings, ranks = replace(settings, threads=1), self.ranks
        try:
            started = ranks.call(
                partial(_started, settings, self.mine, notify), partial(_mirrors, settings), LOADING_LIMIT
            )
        except BaseException as error:
            ranks.close()
            if isinstance(error, LlmparError) or not isinstance(error, Exception):
                raise
            raise EngineFailed(
                f"the devices could not be made ready: {error}; run again, or on more devices"
            ) from error
        (mine,) = started.workers
        runner = LeadingRunner(ranks, cast(SharingRunner, mine)) if self.shares_tokens else ParallelRunner(ranks, mine)
        return replace(started, workers=(runner,), close=ranks.close)


def _started(settings: Settings, model: EngineModel, notify: Notify) -> Runners:
    """Return the runner over one rank's shard, started for the thread that calls this."""
    runners = model.make_runners(settings, notify)
    runners.workers[0].start()
    return runners


def _mirrors(settings: Settings, model: EngineModel) -> Mirrors:
    """Return what repeats rank 0's steps on another rank."""
    return Mirrors(_started(settings, model, lambda _: None).workers[0])
