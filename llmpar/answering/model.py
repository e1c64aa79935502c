"""A model on this machine: its files, what they are known by, and the engine over them, as a backend."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from llmpar.answering.backend import Backend, Watcher
from llmpar.answering.choice import ANSWERS_VERSION, ModelChoice, max_held
from llmpar.answering.local import Codec, LocalBackend
from llmpar.engine.constraint import Constraint
from llmpar.engine.model import context_length_of
from llmpar.errors import KeptDamaged, LlmparError, ModelUnavailable, UsageError
from llmpar.integrity.foundation import Foundation
from llmpar.tasks.question import Prompt
from llmpar.tasks.task import Form

if TYPE_CHECKING:
    from llmpar.models.cache import ModelFiles
    from llmpar.models.grammar import Grammar
    from llmpar.models.load import LoadedModel
    from llmpar.models.tokenizer import ChatTokenizer
    from llmpar.models.translation import Seq2SeqTranslation, TranslationModel, TranslationPrompt, Vocabulary

_DECIDING = (".json", ".jinja", ".safetensors", ".model", ".txt", ".spm")  # the files that decide what a model says
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
    """

    def __init__(self, choice: ModelChoice, watcher: Watcher) -> None:
        self._choice = choice
        self._watcher = watcher
        self._frames: dict[tuple[str, str], TranslationPrompt] = {}
        self._foundation = Foundation()
        self._doubts = False

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self._choice.name

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

    def identify(self, fingerprint: Callable[[Iterable[Path]], str]) -> dict[str, object]:
        """Return what, of the model and this program, decides an answer; no weights are loaded.

        Args:
            fingerprint: returns a hash of files.

        Raises:
            ModelUnavailable: it is not to be had.
        """
        from llmpar.models.load import find_arithmetic

        files, choice = self._files, self._choice
        devices, precision = find_arithmetic(choice.device, choice.precision, files.source_bits)
        self._watcher.doing(f"looking at {choice.name}")
        try:
            deciding = [file for file in files.path.iterdir() if file.suffix in _DECIDING and file.is_file()]
            found = fingerprint(deciding)
        except OSError as error:
            raise ModelUnavailable(f"{files.path}: cannot be read: {error.strerror}") from error
        return {
            "version": ANSWERS_VERSION,
            "engine": "model",
            "files": found,
            "device": devices[0].partition(":")[0],
            # What was asked for. The weights may be computed in a longer one, which only loading them shows; but the
            # trial that decides it has no chance in it, so that the same key leads to the same arithmetic.
            "precision": precision,
        }

    def open(self, examples: Sequence[Prompt]) -> Backend:
        """Load the weights and start the workers; once more if they were found damaged since, or just now.

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

        condemn(self._files.path)
        del self._files

    def _load(self, examples: Sequence[Prompt]) -> Backend:
        choice, watcher = self._choice, self._watcher
        watcher.doing(f"loading {choice.name}")
        files = self._files
        from llmpar.engine.build import build_engine
        from llmpar.models.load import load_model

        # What cannot be asked is said before all else; what is too long, when it is asked.
        prompts = [self._encode(prompt) for prompt in examples if not self.exceeds(prompt, self.context_length)]
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
        try:
            engine = build_engine(
                loaded.models,
                loaded.context_length,
                loaded.stop_ids | self._vocabulary.stop_ids,
                choice.threads,
                choice.batch_size,
                () if opening else prefix,
                max_memory=choice.max_memory,
                num_opening=len(opening) or 1,
                notify=watcher.remark,
                warn=watcher.warn,
            )
        except LlmparError:
            loaded.foundation.confirm()  # damage, which can be mended, may be the reason
            raise
        watcher.watch(lambda: engine.statuses)
        codec = Codec(self._encode, self._vocabulary.decode, self.measure, self._constrainer(loaded), self.exceeds)
        return LocalBackend(engine, codec, loaded.foundation)

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
            return resolve(choice.name, offline=choice.offline, notify=self._watcher.doing, warn=self._watcher.warn)

    @cached_property
    def _config(self) -> dict[str, object]:
        from llmpar.models.load import read_json

        return read_json(self._files.path / "config.json")

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

    def _constrainer(self, loaded: LoadedModel) -> Callable[[Form], Callable[[], Constraint]]:
        """Return what makes constraints of forms; what it has worked out about a form is kept for the next answer."""

        @lru_cache(_FORMS_KEPT)
        def grammar(form: Form) -> Grammar:
            from llmpar.models.grammar import Grammar, choices_rule, schema_rule

            rule = choices_rule(form.choices) if form.choices else schema_rule(json.loads(form.schema))
            stop_ids = loaded.stop_ids | self._vocabulary.stop_ids
            return Grammar(self._files.path, loaded.vocabulary, stop_ids, rule, self._tokenizer.control_ids)

        return lambda form: grammar(form).constrain
