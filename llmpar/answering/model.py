"""A model on this machine: its files, what they are known by, and the engine over them, as a backend."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from itertools import takewhile
from typing import TYPE_CHECKING

from llmpar.answering.backend import Backend, Identity, Watcher
from llmpar.answering.choice import ANSWERS_VERSION, ModelChoice, max_held
from llmpar.answering.local import Codec, LocalBackend
from llmpar.answering.processes import Processes
from llmpar.answering.wire import Opened, Part
from llmpar.engine.constraint import Constraint
from llmpar.engine.model import context_length_of
from llmpar.errors import KeptDamaged, LlmparError, ModelUnavailable, UsageError
from llmpar.integrity.foundation import Foundation
from llmpar.tasks.question import Prompt
from llmpar.tasks.task import Form

if TYPE_CHECKING:
    from llmpar.models.cache import ModelFiles
    from llmpar.models.grammar import Grammar
    from llmpar.models.tokenizer import ChatTokenizer
    from llmpar.models.translation import Seq2SeqTranslation, TranslationModel, TranslationPrompt, Vocabulary

_USUAL_LENGTH = 8  # characters of a token are more than most have
_FORMS_KEPT = 64
# One model at a time: while transformers loads, functions of torch and of its own are others for the whole process, and
# two threads that put them back may leave them so for good. Whoever reads ahead needs the tokenizer, too.
_OPENING = threading.RLock()


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
        self._frames: dict[tuple[str, str], TranslationPrompt] = {}
        self._foundation = Foundation()
        self._doubts = doubts

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
        return len(self._vocabulary.encode_data(text))

    def exceeds(self, prompt: Prompt, most: int) -> bool:
        """Tell whether a prompt has more than `most` tokens for sure; see `backend.Backend.exceeds`."""
        texts = [prompt.text] if self._translation else [text for _, text in prompt.messages]
        text = max(texts, key=len, default="")
        # What stands at a cut may be one token in the whole, and is some in a part: hence twice as many.
        length = _USUAL_LENGTH * most
        while length < len(text):
            if self.measure(text[:length]) > 2 * most:
                return True
            length *= 2
        return False

    def count_tokens(self, prompt: Prompt) -> int:
        """Return how many tokens the model reads for a prompt; no weights are loaded.

        Raises:
            ModelUnavailable: the model's template refuses it.
            UsageError: a model made for translation is asked for something else, or for a language it does not know.
        """
        return len(self._encode(prompt))

    def identify(self) -> Identity:
        """Return what, of the model and this program, decides an answer; no weights are loaded.

        Raises:
            ModelUnavailable: it is not to be had.
        """
        from llmpar.models.configuration import deciding_files
        from llmpar.models.load import find_arithmetic

        files, choice = self._files, self._choice
        devices, precision = find_arithmetic(choice.device, choice.precision, files.source_bits)
        self._watcher.doing(f"looking at {choice.name}")
        deciding = deciding_files(files.path)
        device = devices[0].partition(":")[0]
        # The precision is what was asked for. Weights may be computed in a longer one, which only loading shows; but
        # the trial that decides it has no chance in it, so that the same key leads to the same arithmetic.
        facts = (("version", ANSWERS_VERSION), ("engine", "model"), ("device", device), ("precision", precision))
        return Identity(facts, deciding)

    def open(self, examples: Sequence[Prompt]) -> Backend:
        """Load the weights and start the workers; once more if they were found damaged since, or just now.

        On several devices, each has a process of its own: in one, their workers would wait for Python's lock.

        Args:
            examples: see `backend.Model.open`.

        Raises:
            ModelUnavailable: it is not to be had.
        """
        damage = self._foundation.damage
        if damage is None:
            try:
                return self._load(examples)
            except KeptDamaged as found:
                damage = found
        self._distrust(damage)
        return self._load(examples)

    def _distrust(self, damage: KeptDamaged) -> None:
        """Look at everything that is kept of the model before it is used again."""
        if self._doubts:
            raise damage
        self._doubts = True
        self._watcher.warn(f"{damage}; nothing that was computed from it is kept, and the model is loaded again")
        from llmpar.models.cache import condemn
        from llmpar.models.configuration import place_of

        condemn(place_of(self._files.path))
        del self._files

    def _load(self, examples: Sequence[Prompt]) -> Backend:
        self._watcher.doing(f"loading {self._choice.name}")
        if self._choice.tensor_parallel == 1:
            from llmpar.models.load import find_devices

            devices = find_devices(self._choice.device)
            if len(devices) > 1:
                return self._load_on_each(devices, examples)
        return self.load_here(examples).backend

    def _load_on_each(self, devices: Sequence[str], examples: Sequence[Prompt]) -> Backend:
        """Let a process for each device load the weights; here there is the tokenizer alone."""
        from llmpar.models.load import find_arithmetic

        choice, files, watcher = self._choice, self._files, self._watcher
        _, precision = find_arithmetic(choice.device, choice.precision, files.source_bits)
        parts = [
            (
                f"process {index} on {device}",
                partial(
                    open_part,
                    replace(choice, device=device, precision=precision),
                    files,
                    tuple(examples),
                    len(devices),
                    self._doubts,
                ),
            )
            for index, device in enumerate(devices)
        ]
        self._foundation = Foundation()
        backend = Processes(parts, watcher, self._foundation)

        def codec(opened: Opened) -> Codec:
            constrain = self._constrainer(opened.vocabulary, opened.stop_ids)
            return Codec(self._encode, self._vocabulary.decode, self.measure, constrain, self.exceeds)

        try:
            self._encode_all(examples)  # what cannot be asked is said before all else
            backend.wait(codec)
        except BaseException:
            backend.close(0)
            raise
        watcher.watch(lambda: backend.statuses)
        return backend

    def load_here(self, examples: Sequence[Prompt], num_models: int = 1) -> Part:
        """Load the weights in this process, and start the workers.

        Args:
            examples: see `backend.Model.open`.
            num_models: how many processes do so, and share the memory that may be used.

        Raises:
            ModelUnavailable: it is not to be had.
            KeptDamaged: what was kept of the weights is not what was written.
        """
        choice, watcher, files = self._choice, self._watcher, self._files
        from llmpar.engine.build import build_engine
        from llmpar.models.load import load_model

        prompts = self._encode_all(examples)
        with _OPENING:
            arguments = (files.path, choice.device, choice.precision, files.source_bits)
            if choice.tensor_parallel > 1:
                from llmpar.models.tensor_parallel import load_shards

                loaded = load_shards(choice.tensor_parallel, *arguments)
            else:
                loaded = load_model(*arguments, watcher.remark, watcher.warn, doubts=self._doubts)
        self._foundation = loaded.foundation
        seq2seq = self._seq2seq
        opening = self._frame(seq2seq, examples[0]).opening_ids if seq2seq and examples else ()
        if loaded.is_encoder_decoder and not opening:
            raise ModelUnavailable(
                f"{choice.name!r}: is an encoder-decoder that is not made for translation, and takes no instructions; "
                "take an instruct model"
            )
        prefix = [ids[0] for ids in takewhile(lambda ids: len(set(ids)) == 1, zip(*prompts, strict=False))]
        stop_ids = loaded.stop_ids | self._vocabulary.stop_ids
        try:
            engine = build_engine(
                loaded.models,
                loaded.context_length,
                stop_ids,
                choice.threads,
                choice.batch_size,
                () if opening else prefix,
                max_memory=choice.max_memory,
                num_models=num_models,
                num_opening=len(opening) or 1,
                notify=watcher.remark,
                warn=watcher.warn,
            )
        except LlmparError:
            loaded.foundation.confirm()  # damage, which can be mended, may be the reason
            raise
        watcher.watch(lambda: engine.statuses)
        constrain = self._constrainer(loaded.vocabulary, stop_ids)
        codec = Codec(self._encode, self._vocabulary.decode, self.measure, constrain, self.exceeds)
        return Part(LocalBackend(engine, codec, loaded.foundation), loaded.vocabulary, stop_ids)

    def _encode_all(self, examples: Sequence[Prompt]) -> list[Sequence[int]]:
        """Return the ids of examples; what is too long is said when it is asked."""
        return [self._encode(prompt) for prompt in examples if not self.exceeds(prompt, self.context_length)]

    def _encode(self, prompt: Prompt) -> Sequence[int]:
        """Return the ids of a prompt."""
        if self._translation:
            return self._encode_translation(self._translation, prompt)
        if prompt.is_beginning:
            return self._tokenizer.encode_beginning(prompt.messages[0][1])
        return self._tokenizer.encode_messages(prompt.messages)

    def _encode_translation(self, model: TranslationModel, prompt: Prompt) -> list[int]:
        """Return the ids for a model that is told the languages in its own way, and has no use for instructions."""
        from llmpar.models.translation import Seq2SeqTranslation

        if isinstance(model, Seq2SeqTranslation):
            return self._frame(model, prompt).encode(prompt.text)
        beside = model.content(*self._languages(prompt))
        return self._tokenizer.encode_messages([("user", prompt.text)], beside)

    def _frame(self, model: Seq2SeqTranslation, prompt: Prompt) -> TranslationPrompt:
        languages = prompt.languages
        if languages not in self._frames:
            self._frames[languages] = model.prompt(*self._languages(prompt))
        return self._frames[languages]

    def _languages(self, prompt: Prompt) -> tuple[str | None, str]:
        """Return the tags of the source language, None if that is not known, and of the target."""
        source, target = prompt.languages
        if not target:
            raise UsageError(
                f"model {self._choice.name!r} only translates: use translate, and name the language to translate into"
            )
        return source or None, target

    @cached_property
    def _files(self) -> ModelFiles:
        choice = self._choice
        if choice.offline:
            # Before huggingface_hub is imported, which reads it then.
            os.environ["HF_HUB_OFFLINE"] = "1"
        from llmpar.models.registry import resolve

        with _OPENING:
            watcher, is_spread = self._watcher, choice.tensor_parallel > 1  # only transformers spreads a model
            return resolve(
                choice.name,
                offline=choice.offline,
                notify=watcher.doing,
                warn=watcher.warn,
                remark=watcher.remark,
                expanded=is_spread,
            )

    @cached_property
    def _config(self) -> dict[str, object]:
        from llmpar.models.configuration import configuration

        return configuration(self._files.path)

    @cached_property
    def _translation(self) -> TranslationModel | None:
        from llmpar.models.translation import find_family

        with _OPENING:
            return find_family(self._files.path, self._choice.name)

    @property
    def _seq2seq(self) -> Seq2SeqTranslation | None:
        from llmpar.models.translation import Seq2SeqTranslation

        return self._translation if isinstance(self._translation, Seq2SeqTranslation) else None

    @property
    def _vocabulary(self) -> Vocabulary:
        return self._seq2seq.vocabulary if self._seq2seq else self._tokenizer

    @cached_property
    def _tokenizer(self) -> ChatTokenizer:
        from llmpar.models.tokenizer import ChatTokenizer

        with _OPENING:
            return ChatTokenizer(self._files.path, tries=self._translation is None)

    def _constrainer(self, vocabulary: int, stop_ids: frozenset[int]) -> Callable[[Form], Callable[[], Constraint]]:
        """Return what makes constraints of forms; what it has worked out about a form is kept for the next answer."""

        @lru_cache(_FORMS_KEPT)
        def grammar(form: Form) -> Grammar:
            from llmpar.models.grammar import Grammar, choices_rule, schema_rule

            rule = choices_rule(form.choices) if form.choices else schema_rule(json.loads(form.schema))
            return Grammar(self._files.path, vocabulary, stop_ids, rule, self._tokenizer.control_ids)

        return lambda form: grammar(form).constrain


def open_part(
    choice: ModelChoice,
    files: ModelFiles,
    examples: Sequence[Prompt],
    num_models: int,
    doubts: bool,
    watcher: Watcher,
) -> Part:
    """Load a model in a process of its own, on one of several devices; see `LocalModel.load_here`.

    Args:
        choice: what another process was given, but for the device, and the precision for all devices.
        files: what it has found.
        examples: see `backend.Model.open`.
        num_models: how many processes do so.
        doubts: whether the files are looked at before they are used.
        watcher: is told what takes time.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: all that was to be fetched is there
    from llmpar.models.load import bind_device

    bind_device(choice.device)
    return LocalModel(choice, watcher, files, doubts=doubts).load_here(examples, num_models)
