"""From the model's options to what answers: its files, what they are known by, and the engine over them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from llmpar.answers import Backend
from llmpar.cli.options import ModelOptions, number
from llmpar.engine.engine import Engine
from llmpar.errors import ModelUnavailable
from llmpar.progress import Progress
from llmpar.tasks.task import Task

if TYPE_CHECKING:
    from llmpar.models.cache import ModelFiles

_ANSWERS_VERSION = 1
"""To be raised with any change that can change an answer: then none from before is taken for one of now."""

_MAX_HELD = 1 << 24  # characters of texts on their way
_HELD_SHARE = 64  # of --max-memory, a character of text takes that many bytes with all that is made of it
_DECIDING = (".json", ".jinja", ".safetensors", ".model", ".txt")  # the files of a model that decide what it says


class Model:
    """The model of one run, opened as far as is needed.

    Args:
        task: what is asked of it.
        options: the user's.
        progress: is told what takes time.
    """

    def __init__(self, task: Task, options: ModelOptions, progress: Progress) -> None:
        self._task = task
        self._options = options
        self._progress = progress

    @property
    def name(self) -> str:
        """What the user calls it."""
        return "echo" if self._options.engine == "echo" else self._options.model

    @property
    def max_held(self) -> int:
        """How many characters of text may be on their way."""
        given = self._options.max_memory
        return _MAX_HELD if given is None else min(_MAX_HELD, given // _HELD_SHARE)

    def identify(self, fingerprint: Callable[[Iterable[Path]], str]) -> dict[str, object]:
        """Return what, of the model and this program, decides an answer; no weights are loaded.

        Args:
            fingerprint: returns a hash of files.

        Raises:
            ModelUnavailable: it is not to be had.
        """
        identity: dict[str, object] = {"version": _ANSWERS_VERSION, "engine": self._options.engine}
        if self._options.engine == "echo":
            return identity
        from llmpar.models.load import find_arithmetic

        files = self._files
        device, precision = find_arithmetic(self._options.device, self._options.precision, files.source_bits)
        self._progress.doing(f"looking at {self._options.model}")
        try:
            deciding = [file for file in files.path.iterdir() if file.suffix in _DECIDING and file.is_file()]
            found = fingerprint(deciding)
        except OSError as error:
            raise ModelUnavailable(f"{files.path}: cannot be read: {error.strerror}") from error
        return identity | {"files": found, "device": device.partition(":")[0], "precision": precision}

    def open_backend(self) -> Backend:
        """Load the weights and start the workers.

        Raises:
            ModelUnavailable: it is not to be had.
        """
        if self._options.engine == "echo":
            return self._echo_backend()
        options, task, progress = self._options, self._task, self._progress
        progress.doing(f"loading {options.model}")
        files = self._files
        from llmpar.engine.build import build_engine
        from llmpar.models.load import load_model
        from llmpar.models.tokenizer import ChatTokenizer

        tokenizer = ChatTokenizer(files.path, task.system)
        loaded = load_model(files.path, options.device, options.precision, files.source_bits, progress.remark)
        # Prompts of texts with nothing in common part where texts begin; one that parts earlier is read whole.
        prompts = [tokenizer.encode(task.render(text)) for text in ("A", "zebra", "9", "我")]
        prefix = [ids[0] for ids in takewhile(lambda ids: len(set(ids)) == 1, zip(*prompts, strict=False))]
        engine = build_engine(
            loaded.model,
            loaded.context_length,
            loaded.stop_ids | tokenizer.stop_ids,
            number(options.threads),
            number(options.batch_size),
            prefix,
            max_memory=options.max_memory,
            notify=progress.remark,
        )
        progress.watch(lambda: engine.statuses)
        return Backend(
            engine,
            encode=lambda text: tokenizer.encode(task.render(text)),
            decode=lambda ids: tokenizer.decode(ids).strip(),
            num_prompt_tokens=len(tokenizer.encode(task.render(""))),
        )

    def text_counter(self) -> Callable[[str], int]:
        """Return what counts the tokens of a text's prompt; no weights are loaded."""
        if self._options.engine == "echo":
            return len
        from llmpar.models.tokenizer import ChatTokenizer

        tokenizer = ChatTokenizer(self._files.path, self._task.system)
        return lambda text: len(tokenizer.encode(self._task.render(text)))

    @cached_property
    def _files(self) -> ModelFiles:
        options = self._options
        if options.offline:
            # Before huggingface_hub is imported, which reads it then.
            os.environ["HF_HUB_OFFLINE"] = "1"
        from llmpar.models.registry import resolve

        return resolve(options.model, offline=options.offline, notify=self._progress.doing)

    def _echo_backend(self) -> Backend:
        from llmpar.engine.echo import EchoRunner

        num_workers, num_slots = number(self._options.threads) or 1, number(self._options.batch_size) or 64
        engine = Engine([EchoRunner(num_slots) for _ in range(num_workers)], context_length=sys.maxsize)
        self._progress.watch(lambda: engine.statuses)
        return Backend(
            engine,
            encode=lambda text: text.encode("utf-8", "surrogatepass"),
            decode=lambda ids: bytes(ids).decode("utf-8", "surrogatepass"),
            num_prompt_tokens=0,
        )
