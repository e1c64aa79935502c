"""From what the user calls a model to its files, which are fetched if need be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from llmpar.answering.backend import Watcher
from llmpar.answering.choice import ModelChoice
from llmpar.answering.tokens import OPENING
from llmpar.errors import ModelUnavailable, setting

if TYPE_CHECKING:
    from llmpar.models.cache import ModelFiles


def find_files(choice: ModelChoice, watcher: Watcher) -> ModelFiles:
    """Return a model's files.

    Args:
        choice: the user's.
        watcher: is told what takes time.

    Raises:
        ModelUnavailable: it is not to be had, or not here where nothing is to be fetched.
    """
    if choice.offline:
        # Before huggingface_hub is imported, which reads it then.
        os.environ["HF_HUB_OFFLINE"] = "1"
    from llmpar.models.fetch import NotFetched
    from llmpar.models.registry import resolve

    with OPENING:
        try:
            return resolve(
                choice.name,
                offline=choice.offline,
                notify=watcher.doing,
                warn=watcher.warn,
                remark=watcher.remark,
                expanded=choice.tensor_parallel > 1,  # only transformers spreads a model
            )
        except NotFetched as error:
            raise ModelUnavailable(f"{error}, and nothing is fetched here ({setting('offline')})") from error
