"""A model on this machine: its files, what they are known by, and the engine over them, as a backend."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from llmpar.answering.backend import Backend, Identity, Watcher
from llmpar.answering.choice import ANSWERS_VERSION, ModelChoice, max_held
from llmpar.answering.finding import find_files
from llmpar.answering.local import Codec, LocalBackend
from llmpar.answering.processes import Processes
from llmpar.answering.tokens import OPENING, ModelTokens, Prompting
from llmpar.answering.wire import Opened, Part
from llmpar.engine.model import context_length_of
from llmpar.engine.resources import more_than_cores
from llmpar.errors import KeptDamaged, LlmparError, ModelUnavailable, setting
from llmpar.integrity.foundation import Foundation
from llmpar.tasks.question import Prompt

if TYPE_CHECKING:
    from llmpar.models.cache import ModelFiles

_T = TypeVar("_T")
_COMPILING = "compiling for this processor (once; it takes half a minute, on a busy machine two)"


class LocalModel:
    """A model whose files are on this machine or are fetched to it, opened as far as is needed.

    Args:
        choice: the user's.
        watcher: is told what takes time.
        files: the model's, where they have been found already.
        doubts: whether they were found damaged before, and are to be looked at before they are used.
    """

    def __init__(
        self, choice: ModelChoice, watcher: Watcher, files: ModelFiles | None = None, *, doubts: bool = False
    ) -> None:
        self._choice = choice
        self._watcher = watcher
        if files:
            self._files = files
        self._foundation = Foundation()
        self._doubts = doubts
        self._begun: Processes | None = None  # that are not yet told what to open
        self._doing = ""  # what the watcher was told last

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self._choice.name

    @property
    def counts_tokens(self) -> bool:
        """Its tokenizer tells."""
        return True

    @property
    def max_held(self) -> int:
        """How many characters of text may be on their way."""
        return max_held(self._choice.max_memory)

    @property
    def thinks(self) -> bool:
        """Whether it is known to write thoughts before its answers."""
        return self._tokens.thinks

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The names by which a task may know it: its own, and its type.

        Raises:
            ModelUnavailable: it is not to be had.
        """
        return (self._choice.name, self._files.path.name, str(self._config.get("model_type")))

    @cached_property
    def context_length(self) -> int:
        """The most tokens that it was made for, prompt and answer together."""
        return context_length_of(self._config, self._config.get("text_config"))

    def measure(self, text: str) -> int:
        """Return how many tokens a text has; no weights are loaded."""
        return self._tokens.measure(text)

    def exceeds(self, prompt: Prompt, most: int) -> bool:
        """Tell whether a prompt has more than `most` tokens for sure; see `backend.Backend.exceeds`."""
        return self._tokens.exceeds(prompt, most)

    def count_tokens(self, prompt: Prompt) -> int:
        """Return how many tokens the model reads for a prompt; no weights are loaded.

        Raises:
            ModelUnavailable: the model's template refuses it.
            UsageError: a model made for translation is asked for something else, or for a language it does not know.
        """
        return len(self._tokens.encode(prompt))

    def spell(self, prompt: Prompt) -> str:
        """Return a prompt as the model reads it, for people; no weights are loaded."""
        return self._tokens.spell(prompt)

    def identify(self) -> Identity:
        """Return what, of the model and this program, decides an answer; no weights are loaded.

        Raises:
            ModelUnavailable: it is not to be had.
            UsageError: thinking is to be switched, and there is no switch.
        """
        from llmpar.models.kv_cache import check_kv_cache
        from llmpar.models.precision import find_arithmetic

        choice, files = self._choice, self._files
        path = files.path if choice.tensor_parallel == 1 else None  # of several devices, each has a share alone
        devices, precision = find_arithmetic(choice.device, choice.precision, files.source_bits, path)
        check_kv_cache(choice.kv_cache, devices)
        return self._identity(devices[0].partition(":")[0], precision)

    def identify_on(self, kind: str, precision: str | None = None) -> Identity:
        """Return what decides an answer that is computed on a kind of device, of another machine.

        Args:
            kind: "cpu", "cuda" or "mps".
            precision: what that machine says it computes in; None for what such devices compute in, as a rule.

        Raises:
            ModelUnavailable, UsageError: as `identify`.
        """
        from llmpar.models.kv_cache import check_kv_cache
        from llmpar.models.precision import precision_on

        if kind != "cuda":  # whoever has a GPU is to look at it
            check_kv_cache(self._choice.kv_cache, (kind,))
        return self._identity(kind, precision or precision_on(kind, self._choice.precision, self._files.source_bits))

    def _identity(self, kind: str, precision: str) -> Identity:
        from llmpar.models.configuration import deciding_files

        choice = self._choice
        self._watcher.doing(f"looking at {choice.name}")
        deciding = deciding_files(self._files.path)
        # The precision is what was asked for. Weights may be computed in a longer one, which only loading shows; but
        # the trial that decides it has no chance in it, so that the same key leads to the same arithmetic.
        facts = (("version", ANSWERS_VERSION), ("engine", "model"), ("device", kind), ("precision", precision))
        switched = (("thinking", choice.thinking),) if choice.thinking and self._tokens.is_switched else ()
        kept = (("kv_cache", choice.kv_cache),) if choice.kv_cache != "auto" else ()
        return Identity((*facts, *kept, *switched), deciding)

    def prepare(self) -> None:
        """Begin what takes long and needs no file: the processes, for devices that have one of their own.

        Raises:
            ModelUnavailable: a device is not on this machine, or a process cannot be started.
        """
        # What was found damaged must be told of first: what is begun has a foundation of its own.
        if self._begun is None and self._foundation.damage is None and (devices := self._devices_apart()):
            self._begun = self._begin(devices)

    def open(self, examples: Sequence[Prompt]) -> Backend:
        """Load the weights and start the workers; once more if they were found damaged since, or just now.

        Each GPU has a process of its own, and so has each of several devices: what runs here, or another's worker,
        would keep Python's lock from its worker.

        Args:
            examples: see `backend.Model.open`.

        Raises:
            ModelUnavailable: it is not to be had.
        """
        return self._surely(partial(self._load, examples), self._foundation.damage)

    def prompting(self, examples: Sequence[Prompt]) -> Prompting:
        """Return what prompts like some examples have in common."""
        return self._tokens.prompting(examples, self.context_length)

    def codec(self, opened: Opened) -> Codec:
        """Return how texts become token ids, and back, for an engine in another process."""
        return self._tokens.codec(opened.vocabulary, opened.stop_ids)

    def load_surely(
        self, prompting: Prompting, num_models: int, check: Callable[[Sequence[Path]], None], *, doubts: bool
    ) -> Part:
        """Load the weights in this process, whoever asks; once more if what was kept of them proves to be damaged.

        Args:
            prompting: what prompts have in common.
            num_models: how many processes do so; see `load_here`.
            check: is given the files that decide an answer, before they are used.
            doubts: whether they were found damaged elsewhere, and are looked at first.

        Raises:
            ModelUnavailable: it is not to be had.
        """

        def load() -> Part:
            check(self.identify().files)
            return self.load_here(prompting, num_models)

        return self._surely(load, KeptDamaged(f"{self._choice.name}: a file was found damaged") if doubts else None)

    def _surely(self, load: Callable[[], _T], damage: KeptDamaged | None) -> _T:
        """Return what is loaded; look at all files first if they were found damaged, or just prove to be."""
        if damage is None:
            try:
                return load()
            except KeptDamaged as found:
                damage = found
        self._distrust(damage)
        return load()

    def _distrust(self, damage: KeptDamaged) -> None:
        """Look at everything that is kept of the model before it is used again."""
        if self._doubts:
            raise damage
        self._doubts = True
        self._watcher.warn(f"{damage}; nothing that was computed from it is kept, and the model is loaded again")
        from llmpar.models.cache import condemn
        from llmpar.models.configuration import place_of

        condemn(place_of(self._files.path))
        del self._files, self._tokens

    def _load(self, examples: Sequence[Prompt]) -> Backend:
        self._doing = f"loading {self._choice.name}"
        self._watcher.doing(self._doing)
        if devices := self._devices_apart():
            return self._load_on_each(devices, examples)
        return self.load_here(self.prompting(examples)).backend

    def _devices_apart(self) -> Sequence[str]:
        """Return the devices that have a process of their own; GPUs that divide a model have one, as one."""
        from llmpar.models.precision import find_devices

        devices = find_devices(self._choice.device)
        if self._choice.tensor_parallel > 1:
            return ("cuda",) if devices[0].startswith("cuda") else ()
        return devices if len(devices) > 1 or devices[0].startswith("cuda") else ()

    def _begin(self, devices: Sequence[str]) -> Processes:
        """Start a process for each device."""
        names = [f"process {index} on {device}" for index, device in enumerate(devices)]
        self._foundation = Foundation()
        prepare = import_libraries if devices[0].startswith("cuda") else None
        return Processes(names, self._watcher, self._foundation, prepare=prepare)

    def _load_on_each(self, devices: Sequence[str], examples: Sequence[Prompt]) -> Backend:
        """Let a process for each device load the weights; here there is the tokenizer alone."""
        from llmpar.models.precision import find_arithmetic

        choice, files, watcher = self._choice, self._files, self._watcher
        backend, self._begun = self._begun or self._begin(devices), None

        try:
            path = files.path if choice.tensor_parallel == 1 else None
            _, precision = find_arithmetic(choice.device, choice.precision, files.source_bits, path)
            # What cannot be asked is said before all else.
            prompting = self.prompting(examples)
            backend.open(
                partial(
                    open_part,
                    replace(choice, device=device, precision=precision),
                    files,
                    prompting,
                    len(devices),
                    self._doubts,
                )
                for device in devices
            )
            backend.wait(self.codec)
        except BaseException:
            backend.close(0)
            raise
        watcher.watch(lambda: backend.statuses)
        return backend

    def load_here(self, prompting: Prompting, num_models: int = 1) -> Part:
        """Load the weights in this process, and start the workers.

        Args:
            prompting: what prompts have in common.
            num_models: how many processes do so, and share the memory that may be used.

        Raises:
            ModelUnavailable: it is not to be had.
            KeptDamaged: what was kept of the weights is not what was written.
        """
        from llmpar.engine.compiling import told_of_compiling
        from llmpar.models.precision import find_devices

        with ExitStack() as ending:
            if self._choice.tensor_parallel == 1 and find_devices(self._choice.device)[0] == "cpu":
                if many := more_than_cores(self._choice.threads or 0):
                    self._watcher.warn(
                        f"{setting('threads', str(self._choice.threads), option=f'-j {self._choice.threads}')}: {many}"
                    )
                ending.enter_context(told_of_compiling(self._tell_compiling))
            return self._load_telling(prompting, num_models, ending)

    def _tell_compiling(self, begins: bool) -> None:
        self._watcher.doing(_COMPILING if begins else self._doing)

    def _load_telling(self, prompting: Prompting, num_models: int, ending: ExitStack) -> Part:
        """Do as `load_here` says; what `ending` holds is closed with the engine, whose first steps compile kernels."""
        choice, watcher, files = self._choice, self._watcher, self._files
        from llmpar.engine.build import build_engine
        from llmpar.models.load import load_model

        with OPENING:
            arguments = (files.path, choice.device, choice.precision, files.source_bits)
            if choice.tensor_parallel > 1:
                from llmpar.models.tensor_parallel import load_shards

                loaded = load_shards(choice.tensor_parallel, *arguments, watcher.remark, choice.kv_cache)
            else:
                loaded = load_model(
                    *arguments, watcher.remark, watcher.warn, doubts=self._doubts, kv_cache=choice.kv_cache
                )
        self._foundation = loaded.foundation
        if loaded.is_encoder_decoder and not prompting.num_opening:
            raise ModelUnavailable(
                f"{choice.name!r}: is an encoder-decoder that is not made for translation, and takes no instructions; "
                "take an instruct model"
            )
        stop_ids = loaded.stop_ids | prompting.stop_ids
        try:
            engine = build_engine(
                loaded.models,
                loaded.context_length,
                stop_ids,
                choice.threads,
                choice.batch_size,
                prompting.prefix_ids,
                max_memory=choice.max_memory,
                num_models=num_models,
                num_opening=prompting.num_opening or 1,
                closed=ending.pop_all().close,
                notify=watcher.remark,
                warn=watcher.warn,
            )
        except LlmparError:
            loaded.foundation.confirm()  # damage, which can be mended, may be the reason
            raise
        self._doing = ""
        watcher.watch(lambda: engine.statuses)
        codec = self._tokens.codec(loaded.vocabulary, stop_ids)
        return Part(LocalBackend(engine, codec, loaded.foundation), loaded.vocabulary, stop_ids, loaded.arithmetic)

    @cached_property
    def _files(self) -> ModelFiles:
        return find_files(self._choice, self._watcher)

    @cached_property
    def _config(self) -> dict[str, object]:
        from llmpar.models.configuration import configuration

        return configuration(self._files.path)

    @cached_property
    def _tokens(self) -> ModelTokens:
        return ModelTokens(self._files.path, self._choice.name, self._choice.thinking)


def import_libraries() -> None:
    """Import what takes long to import, in a process that will be told what to load on a GPU."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: all that was to be fetched is there
    from llmpar.models.load import import_libraries as import_all

    import_all()


def open_part(
    choice: ModelChoice, files: ModelFiles, prompting: Prompting, num_models: int, doubts: bool, watcher: Watcher
) -> Part:
    """Load a model in a process of its own, on one of several devices; see `LocalModel.load_here`.

    Args:
        choice: what another process was given, but for the device, and the precision for all devices.
        files: what it has found.
        prompting: what prompts have in common.
        num_models: how many processes do so.
        doubts: whether the files are looked at before they are used.
        watcher: is told what takes time.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    from llmpar.models.devices import bind_device

    bind_device(choice.device)
    return LocalModel(choice, watcher, files, doubts=doubts).load_here(prompting, num_models)
