"""From a choice of model to what answers: its files, what they are known by, and the engine over them."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from llmpar.answering.backend import Backend
from llmpar.engine.constraint import Constraint
from llmpar.engine.engine import Engine
from llmpar.engine.precision_names import TORCH_TYPES, PrecisionChoice
from llmpar.engine.resources import available_memory
from llmpar.engine.worker import WorkerStatus
from llmpar.errors import KeptDamaged, LlmparError, ModelUnavailable, UsageError
from llmpar.integrity.foundation import Foundation
from llmpar.tasks.question import Question
from llmpar.tasks.task import QUESTION_FIELDS, Form, Task

if TYPE_CHECKING:
    from llmpar.models.cache import ModelFiles
    from llmpar.models.grammar import Grammar
    from llmpar.models.load import LoadedModel
    from llmpar.models.tokenizer import ChatTokenizer
    from llmpar.models.translation import Prompt, Seq2SeqTranslation, TranslationModel, Vocabulary

_ANSWERS_VERSION = 3
"""To be raised with any change that can change an answer: then none from before is taken for one of now."""

_MAX_HELD = 1 << 24  # characters of texts on their way
_HELD_SHARE = (
    64  # of the memory that may be used, a character of text takes that many bytes with all that is made of it
)
_DECIDING = (".json", ".jinja", ".safetensors", ".model", ".txt", ".spm")  # the files that decide what a model says
_USUAL_CONTEXT = 2048
_USUAL_LENGTH = 8  # characters of a token are more than most have
_FORMS_KEPT = 64
# One model at a time: while transformers loads, functions of torch and of its own are others for the whole process, and
# two threads that put them back may leave them so for good. Whoever reads ahead needs the tokenizer, too.
_OPENING = threading.RLock()
_DIFFERENT = ("A", "zebra", "9", "我")  # texts with nothing in common


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model answers, and on what; None leaves the choice to what is known of the machine.

    Args:
        name: see `models.registry.resolve`.
        engine: "echo" answers each text with itself, without a model.
        device: "auto", "cpu", "cuda" for every one there is, "cuda:N" or "mps".
        precision: see `models.load.load_model`.
        num_workers: threads that share the weights, of which each GPU has its own.
        batch_size: sequences that each of them runs at once.
        max_memory: bytes for texts and tokens on their way.
        offline: open no socket to elsewhere.
        tensor_parallel: over how many devices each layer is spread; more than one takes the first CUDA devices, or as
            many processes of the CPU.

    Raises:
        UsageError: what is chosen excludes something else that is.
    """

    name: str = "smollm2-135m"
    engine: Literal["model", "echo"] = "model"
    device: str = "auto"
    precision: PrecisionChoice = "auto"
    num_workers: int | None = None
    batch_size: int | None = None
    max_memory: int | None = None
    offline: bool = False
    tensor_parallel: int = 1

    def __post_init__(self) -> None:
        if self.tensor_parallel > 1:
            _check_parallel(self)


def longest_held(max_memory: int | None) -> int:
    """Return how many characters of one text may be held, whatever else is on its way.

    Args:
        max_memory: what the user gives, in bytes; None for half of what is free.
    """
    return max(1, (available_memory() // 2 if max_memory is None else max_memory) // _HELD_SHARE)


class Watcher(Protocol):
    """Who is told what goes on; see `progress.Progress`."""

    def doing(self, what: str) -> None:
        """Take note of what takes time."""

    def remark(self, message: str) -> None:
        """Take note of what was chosen."""

    def warn(self, message: str) -> None:
        """Take note of what went wrong while the run goes on."""

    def watch(self, statuses: Callable[[], Sequence[WorkerStatus]]) -> None:
        """Be given what tells about the workers."""


class Model:
    """The model of one run, opened as far as is needed.

    Args:
        choice: the user's.
        watcher: is told what takes time.
    """

    def __init__(self, choice: ModelChoice, watcher: Watcher) -> None:
        self._choice = choice
        self._watcher = watcher
        self._prompts: dict[tuple[str | None, str], Prompt] = {}
        self._foundation = Foundation()
        self._doubts = False

    @property
    def name(self) -> str:
        """What the user calls it."""
        return "echo" if self._is_echo else self._choice.name

    @property
    def max_held(self) -> int:
        """How many characters of text may be on their way."""
        given = self._choice.max_memory
        return _MAX_HELD if given is None else min(_MAX_HELD, given // _HELD_SHARE)

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The names by which a task may know it: its own, and its type.

        Raises:
            ModelUnavailable: it is not to be had.
        """
        return () if self._is_echo else (self._choice.name, self._files.path.name, str(self._config.get("model_type")))

    @cached_property
    def context_length(self) -> int:
        """The most tokens that it was made for, prompt and answer together."""
        if self._is_echo:
            return sys.maxsize
        inner = self._config.get("text_config")
        for config in (self._config, inner if isinstance(inner, dict) else {}):
            length = config.get("max_position_embeddings")
            if isinstance(length, int) and length > 0:
                return length
        return _USUAL_CONTEXT

    def measure(self, text: str) -> int:
        """Return how many tokens a text has; no weights are loaded."""
        return len(text) if self._is_echo else len(self._vocabulary.encode_data(text))

    def exceeds(self, question: Question, most: int) -> bool:
        """Tell whether a prompt has more than `most` tokens for sure, having read no more of it than that takes.

        One that has a few more may not be found to have them.
        """
        if self._is_echo:
            return False
        texts = [question.text] if self._translation else [text for _, text in question.messages]
        text = max(texts, key=len, default="")
        # What stands at a cut may be one token in the whole, and is some in a part: hence twice as many.
        length = _USUAL_LENGTH * most
        while length < len(text):
            if self.measure(text[:length]) > 2 * most:
                return True
            length *= 2
        return False

    def encode(self, question: Question) -> Sequence[int]:
        """Return the prompt of a question.

        Raises:
            ModelUnavailable: the model's template refuses it.
            UsageError: a model made for translation is asked for something else, or for a language it does not know.
        """
        if self._is_echo:
            return question.text.encode("utf-8", "surrogatepass")
        if self._translation:
            return self._encode_translation(self._translation, question)
        if question.conversation and question.conversation.is_beginning:
            return self._tokenizer.encode_beginning(question.messages[0][1])
        return self._tokenizer.encode_messages(question.messages)

    def identify(self, fingerprint: Callable[[Iterable[Path]], str]) -> dict[str, object]:
        """Return what, of the model and this program, decides an answer; no weights are loaded.

        Args:
            fingerprint: returns a hash of files.

        Raises:
            ModelUnavailable: it is not to be had.
        """
        identity: dict[str, object] = {"version": _ANSWERS_VERSION, "engine": self._choice.engine}
        if self._is_echo:
            return identity
        from llmpar.models.load import find_arithmetic

        files, choice = self._files, self._choice
        devices, precision = find_arithmetic(choice.device, choice.precision, files.source_bits)
        self._watcher.doing(f"looking at {choice.name}")
        try:
            deciding = [file for file in files.path.iterdir() if file.suffix in _DECIDING and file.is_file()]
            found = fingerprint(deciding)
        except OSError as error:
            raise ModelUnavailable(f"{files.path}: cannot be read: {error.strerror}") from error
        return identity | {"files": found, "device": devices[0].partition(":")[0], "precision": precision}

    def open_backend(self, examples: Iterable[Question]) -> Backend:
        """Load the weights and start the workers; once more if they were found damaged since, or just now.

        Args:
            examples: questions as they come; what the prompts of all of them begin with is read once.

        Raises:
            ModelUnavailable: it is not to be had.
        """
        if self._is_echo:
            return self._echo_backend()
        questions = list(examples)
        damage = self._foundation.damage
        if damage is None:
            try:
                return self._load_backend(questions)
            except KeptDamaged as found:
                damage = found
        self._distrust(damage)
        return self._load_backend(questions)

    def _distrust(self, damage: KeptDamaged) -> None:
        """Look at everything that is kept of the model before it is used again."""
        if self._doubts:
            raise damage
        self._doubts = True
        self._watcher.warn(f"{damage}; nothing that was computed from it is kept, and the model is loaded again")
        from llmpar.models.cache import condemn

        condemn(self._files.path)
        del self._files

    def _load_backend(self, questions: list[Question]) -> Backend:
        choice, watcher = self._choice, self._watcher
        watcher.doing(f"loading {choice.name}")
        files = self._files
        from llmpar.engine.build import build_engine
        from llmpar.models.load import load_model

        vocabulary = self._vocabulary
        prompts = self._prompts_of(questions)  # what cannot be asked is said before all else
        with _OPENING:
            arguments = (files.path, choice.device, choice.precision, files.source_bits)
            if choice.tensor_parallel > 1:
                from llmpar.models.tensor_parallel import load_shards

                loaded = load_shards(choice.tensor_parallel, *arguments)
            else:
                loaded = load_model(*arguments, watcher.remark, watcher.warn, doubts=self._doubts)
        self._foundation = loaded.foundation
        seq2seq = self._seq2seq
        opening = self._prompt(seq2seq, questions[0].task).opening_ids if seq2seq else ()
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
                loaded.stop_ids | vocabulary.stop_ids,
                choice.num_workers,
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
        constrain = self._constrainer(loaded)
        return Backend(engine, self.encode, vocabulary.decode, self.measure, constrain, self.exceeds, loaded.foundation)

    @property
    def _is_echo(self) -> bool:
        return self._choice.engine == "echo"

    def _prompts_of(self, questions: Iterable[Question]) -> list[Sequence[int]]:
        prompts = []
        for question in questions:
            if self.exceeds(question, self.context_length):
                continue  # which is said when it is asked
            try:
                prompts.append(self.encode(question))
            except ModelUnavailable:
                if question.conversation is None:
                    raise
                # Conversations are refused each by itself, when they are asked.
        return prompts

    def _encode_translation(self, model: TranslationModel, question: Question) -> list[int]:
        """Return the prompt for a model that is told the languages in its own way, and has no use for instructions."""
        from llmpar.models.translation import Seq2SeqTranslation

        if isinstance(model, Seq2SeqTranslation):
            return self._prompt(model, question.task).encode(question.text)
        beside = model.content(*self._languages(question.task))
        return self._tokenizer.encode_messages([("user", question.text)], beside)

    def _prompt(self, model: Seq2SeqTranslation, task: Task) -> Prompt:
        languages = self._languages(task)
        if languages not in self._prompts:
            self._prompts[languages] = model.prompt(*languages)
        return self._prompts[languages]

    def _languages(self, task: Task) -> tuple[str | None, str]:
        """Return the tags of a task's source language, None if that is not known, and of its target."""
        if not task.value("to_tag"):
            raise UsageError(f"model {self._choice.name!r} only translates: use llmpar translate --to LANGUAGE")
        return task.value("from_tag") or None, task.value("to_tag")

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

    def _echo_backend(self) -> Backend:
        from llmpar.engine.echo import EchoRunner

        num_workers, num_slots = self._choice.num_workers or 1, self._choice.batch_size or 64
        runners = [EchoRunner(num_slots) for _ in range(num_workers)]
        engine = Engine(runners, context_length=sys.maxsize, warn=self._watcher.warn)
        self._watcher.watch(lambda: engine.statuses)
        return Backend(engine, self.encode, lambda ids: bytes(ids).decode("utf-8", "surrogatepass"))


def _check_parallel(choice: ModelChoice) -> None:
    option = f"--tensor-parallel {choice.tensor_parallel}"
    if (choice.num_workers or 1) > 1:
        raise UsageError(
            f"{option} and -j {choice.num_workers} exclude each other: all devices work on the same pieces"
        )
    if choice.precision not in ("auto", *TORCH_TYPES):
        raise UsageError(f"{option} and --precision {choice.precision} exclude each other; use bf16 or fp32")
    if choice.device == "mps" or ":" in choice.device:
        raise UsageError(f"{option} takes the first {choice.tensor_parallel} CUDA devices, not {choice.device}")


def examples_of(question: Question) -> list[Question]:
    """Return questions that have in common what all questions of a task have: texts and fields differ."""
    if question.conversation:
        return [question]
    found = []
    for text in _DIFFERENT:
        segment = replace(question.segment, text=text)
        for name in (None, *QUESTION_FIELDS[1:]):
            fields = tuple((field, text if field == name else "") for field, _ in question.fields)
            found.append(replace(question, segment=segment, fields=fields))
    return found
