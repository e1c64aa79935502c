"""What a model's tokenizer, template and way of translating make of prompts, and of its answers: text ↔ token ids."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from llmpar.answering.local import Codec
from llmpar.engine.constraint import Constraint
from llmpar.errors import UsageError, setting
from llmpar.tasks.question import Prompt
from llmpar.tasks.task import Form

if TYPE_CHECKING:
    from llmpar.models.grammar import Grammar
    from llmpar.models.names import Thinking
    from llmpar.models.thoughts import Outlook
    from llmpar.models.tokenizer import ChatTokenizer
    from llmpar.models.translation import Seq2SeqTranslation, TranslationModel, TranslationPrompt, Vocabulary

_USUAL_LENGTH = 8  # characters of a token are more than most have
_FORMS_KEPT = 64
OPENING = threading.RLock()
"""Held by whoever opens something of a model.

One model at a time: while transformers loads, functions of torch and of its own are others for the whole process, and
two threads that put them back may leave them so for good. Whoever reads ahead needs the tokenizer, too.
"""


@dataclass(frozen=True, slots=True)
class Prompting:
    """What an engine is told of the prompts that will come: plain data, which another process can be sent.

    Args:
        prefix_ids: what most of them begin with; none for an encoder, which reads every prompt whole.
        num_opening: of an encoder-decoder, how many ids at the end of a prompt the decoder opens with; else 0.
        stop_ids: tokens that end an answer, by the tokenizer.
    """

    prefix_ids: tuple[int, ...]
    num_opening: int
    stop_ids: frozenset[int]


class ModelTokens:
    """Makes token ids of prompts, and texts of answers. Nothing is read of the files before it is needed.

    Args:
        path: the model's directory.
        name: what the user calls it.
        thinking: what the chat template's switch for thinking is set to; None as it is, mostly off.
    """

    def __init__(self, path: Path, name: str, thinking: Thinking | None = None) -> None:
        self._path = path
        self._name = name
        self._thinking = thinking
        self._frames: dict[tuple[str, str], TranslationPrompt] = {}

    def foresee(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> None:
        """Make the ids of texts that will be measured, and of those in prompts that will be encoded, all at once."""
        if self._translation:
            said = [prompt.text for prompt in prompts]
        else:
            said = [text for prompt in prompts for role, text in prompt.messages if role != "system"]
        self._vocabulary.foresee([*texts, *said])

    def measure(self, text: str) -> int:
        """Return how many tokens a text has."""
        return len(self._vocabulary.encode_data(text))

    def exceeds(self, prompt: Prompt, most: int) -> bool:
        """Tell whether a prompt has more than `most` tokens for sure; see `backend.Backend.exceeds`."""
        length = _USUAL_LENGTH * most
        text = prompt.text if self._translation else ""
        for _, said in () if self._translation else prompt.messages:
            if len(said) > max(length, len(text)):  # which of most prompts nothing is
                text = said
        # What stands at a cut may be one token in the whole, and is some in a part: hence twice as many.
        while length < len(text):
            if self.measure(text[:length]) > 2 * most:
                return True
            length *= 2
        return False

    def encode(self, prompt: Prompt) -> Sequence[int]:
        """Return the ids of a prompt.

        Raises:
            ModelUnavailable: the model's template refuses it.
            UsageError: a model made for translation is asked for something else, or for a language it does not know.
        """
        if self._translation:
            return self._encode_translation(self._translation, prompt)
        if prompt.is_beginning:
            return self._tokenizer.encode_beginning(prompt.messages[0][1])
        return self._tokenizer.encode_messages(prompt.messages)

    def outlook(self, prompt: Prompt) -> Outlook | None:
        """Return what a prompt lets expect of the thoughts before its answer; None where it has none.

        A model that translates has none, and a text that is gone on with is no question.
        """
        return None if self._translation or prompt.is_beginning else self._tokenizer.outlook(prompt.messages)

    @property
    def thinks(self) -> bool:
        """Whether a usual prompt is answered with thoughts first, as far as the template tells."""
        outlook = self.outlook(Prompt((("user", ""),), ""))
        return outlook is not None and outlook.is_sure

    @property
    def is_switched(self) -> bool:
        """Whether the switch for thinking is set to what it is not by itself.

        Raises:
            UsageError: there is no such switch.
        """
        if self._thinking is None:
            return False
        return self._translation is None and self._tokenizer.is_switched(None, self._thinking)

    def spell(self, prompt: Prompt) -> str:
        """Return a prompt as the model reads it, for people; see `backend.Model.spell`."""
        if self._seq2seq:
            source, target = self._languages(prompt)
            return f"⟦{source or 'any language'} → {target}⟧{prompt.text}"
        return self._tokenizer.spell(self.encode(prompt))

    def prompting(self, examples: Sequence[Prompt], longest: int) -> Prompting:
        """Return what an engine is told of prompts that are like some examples; `longest` tokens are no example."""
        # What is too long is said when it is asked.
        prompts = [self.encode(prompt) for prompt in examples if not self.exceeds(prompt, longest)]
        seq2seq = self._seq2seq
        opening = self._frame(seq2seq, examples[0]).opening_ids if seq2seq and examples else ()
        prefix = [ids[0] for ids in takewhile(lambda ids: len(set(ids)) == 1, zip(*prompts, strict=False))]
        return Prompting(() if opening else tuple(prefix), len(opening), self._vocabulary.stop_ids)

    def codec(self, vocabulary: int, stop_ids: frozenset[int]) -> Codec:
        """Return the codec of a backend whose model scores so many tokens, of which these end an answer."""

        def decode(ids: Sequence[int]) -> str:
            return self._vocabulary.decode(ids)

        def decode_all(outputs: Sequence[Sequence[int]]) -> list[str]:
            return self._vocabulary.decode_all(outputs)

        return Codec(
            self.encode,
            decode,
            self.measure,
            self._constrainer(vocabulary, stop_ids),
            self.exceeds,
            decode_all,
            self.foresee,
            self.outlook,
            lambda: self._tokenizer.style,
        )

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
                f"model {self._name!r} only translates: use translate, and name the language to translate into"
            )
        return source or None, target

    @cached_property
    def _translation(self) -> TranslationModel | None:
        from llmpar.models.translation import find_family

        with OPENING:
            family = find_family(self._path, self._name)
        if family and self._thinking:
            raise UsageError(f"model {self._name!r} only translates, and has no switch for {setting('thinking')}")
        return family

    @cached_property
    def _seq2seq(self) -> Seq2SeqTranslation | None:
        from llmpar.models.translation import Seq2SeqTranslation

        return self._translation if isinstance(self._translation, Seq2SeqTranslation) else None

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return self._seq2seq.vocabulary if self._seq2seq else self._tokenizer

    @cached_property
    def _tokenizer(self) -> ChatTokenizer:
        from llmpar.models.tokenizer import ChatTokenizer

        with OPENING:
            tokenizer = ChatTokenizer(self._path, tries=self._translation is None, thinking=self._thinking)
        if self._thinking and not tokenizer.is_switched("off", "on"):
            self._refuse_switch(tokenizer.switches, self._thinking)
        return tokenizer

    def _refuse_switch(self, names: Sequence[str], thinking: Thinking) -> None:
        """Raise UsageError, unless the model thinks anyway and is asked to."""
        from llmpar.models.thinking import SWITCHES

        given = setting("thinking", thinking)
        if not names:
            raise UsageError(
                f"model {self._name!r}: its chat template has no switch for thinking ({', '.join(SWITCHES)}); "
                f"leave {given} out"
            )
        if thinking == "off":
            raise UsageError(
                f"model {self._name!r}: its chat template can have it think less, and not turn it off "
                f"({', '.join(names)}); leave {given} out"
            )

    def _constrainer(self, vocabulary: int, stop_ids: frozenset[int]) -> Callable[[Form], Callable[[], Constraint]]:
        """Return what makes constraints of forms; what it has worked out about a form is kept for the next answer."""

        @lru_cache(_FORMS_KEPT)
        def grammar(form: Form) -> Grammar:
            from llmpar.models.grammar import Grammar, choices_rule, schema_rule

            rule = choices_rule(form.choices) if form.choices else schema_rule(json.loads(form.schema))
            return Grammar(self._path, vocabulary, stop_ids, rule, self._tokenizer.control_ids)

        return lambda form: grammar(form).constrain
