"""The options that say where answers are kept from run to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from llmpar.answering.attempts import Policy
from llmpar.cli import roles, values
from llmpar.cli.option import option
from llmpar.jobs.sharding import Shard

# The default of a setting stands in one place, where the setting means something.
_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Where answers are kept, so that no run computes what an earlier one did."""

    store: Annotated[
        Path | None,
        option(
            "--store",
            help="The file that keeps answers. Default: see `llmpar store path`.",
            panel="Store",
            metavar="FILE",
            role=roles.store,
        ),
    ] = None
    no_store: Annotated[bool, option("--no-store", help="Keep no answers, and look none up.", panel="Store")] = False
    refresh: Annotated[bool, option("--refresh", help="Compute again what is kept, and replace it.", panel="Store")] = (
        _POLICY.refresh
    )
    retry_failed: Annotated[
        bool, option("--retry-failed", help="Try again what failed in an earlier run.", panel="Store")
    ] = _POLICY.retry_failed
    no_store_text: Annotated[
        bool, option("--no-store-text", help="Keep answers beside hashes, without texts and prompts.", panel="Store")
    ] = False
    store_size: Annotated[
        int,
        option(
            "--store-size",
            help="How large the store may be; a run that ends deletes what was least recently used beyond it (4GB).",
            panel="Store",
            metavar="SIZE",
            parser=values.size,
            show_default=False,
        ),
    ] = 4_000_000_000
    shard: Annotated[
        Shard | None,
        option(
            "--shard",
            help="Answer only the I-th of N parts of the pieces, for several machines, and write "
            "no document (`llmpar help shards`).",
            panel="Store",
            metavar="I/N",
            parser=values.shard,
            show_default=False,
        ),
    ] = None
