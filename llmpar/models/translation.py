"""Models made for translation: which they are, how their files spell languages, and how a text is asked of them.

They are recognised by what they are made of, never by name. Knows no engine and loads no weights.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llmpar.errors import ModelUnavailable, UsageError, setting
from llmpar.models.configuration import chat_template, configuration, described, is_token_id
from llmpar.models.marian import MarianVocabulary
from llmpar.models.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    from langcodes import Language

_FLORES = re.compile("([a-z]{3}_[A-Z][a-z]{3})")  # NLLB's fra_Latn
_MADLAD = re.compile("<2([A-Za-z]{2,3}(?:_[A-Za-z0-9]+)*)>")
_LISTED = re.compile(r"""["']([a-z]{2,3}(?:[-_][A-Za-z0-9]+)*)["']\s*:\s*["']""")  # in a template's table of names
# Languages that a model may know only by their usual kind, where CLDR does not say which that is.
_USUAL = {"no": "nb", "ps": "pbt", "qu": "quy"}
_MOST_NAMED = 8


class Vocabulary(Protocol):
    """What a model's texts are made of; see `tokenizer.ChatTokenizer`."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer."""

    def encode_data(self, text: str) -> list[int]:
        """Return the ids of text that is data."""

    def foresee(self, texts: Sequence[str]) -> None:
        """Make the ids of texts that `encode_data` will be given next, where all at once is faster."""

    def decode(self, ids: Any) -> str:
        """Return the text of output ids."""

    def decode_all(self, outputs: Sequence[Any]) -> list[str]:
        """Return the texts of several answers' ids."""


@dataclass(frozen=True, slots=True)
class TranslationPrompt:
    """How an encoder-decoder is asked for translations between two languages.

    The encoder reads `source_ids`, a text and `end_id`. `opening_ids`, with which a prompt ends, are the decoder's.
    `language_ids` never come from a text.
    """

    vocabulary: Vocabulary
    source_ids: tuple[int, ...]
    end_id: int
    opening_ids: tuple[int, ...]
    language_ids: frozenset[int]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a whole prompt."""
        ids = self.vocabulary.encode_data(text)
        if not self.language_ids.isdisjoint(ids):
            # Such a token is a word of the vocabulary; cut in two, its name is spelled with others. Normalised as
            # SentencePiece does it, or other characters would become those of the name later.
            text = unicodedata.normalize("NFKC", text)
            cuts = [(match.start() + match.end()) // 2 for match in _MADLAD.finditer(text)]
            pieces = [text[first:last] for first, last in zip([0, *cuts], [*cuts, len(text)], strict=True)]
            ids = [token_id for piece in pieces for token_id in self.vocabulary.encode_data(piece)]
            ids = [token_id for token_id in ids if token_id not in self.language_ids]
        return [*self.source_ids, *ids, self.end_id, *self.opening_ids]


@dataclass(frozen=True, slots=True)
class Seq2SeqTranslation:
    """An encoder-decoder for translation.

    `codes` are its languages' tokens by how it spells them; of a model for two languages there are none, and `spoken`
    may say which these are. With `names_source`, the encoder is told the source and the decoder the target; else the
    encoder is told the target, after `leading_ids`. `start_ids` are what every decoder begins with.
    """

    name: str
    vocabulary: Vocabulary
    codes: Mapping[str, int]
    end_id: int
    start_ids: tuple[int, ...]
    names_source: bool = False
    leading_ids: tuple[int, ...] = ()
    spoken: tuple[str | None, str | None] = (None, None)

    def prompt(self, source: str | None, target: str) -> TranslationPrompt:
        """Return how texts are asked; languages are BCP-47 tags.

        Raises:
            UsageError: a language is not one of the model's, or it needs a source language.
        """
        if self.names_source:
            source_ids: tuple[int, ...] = (self._token(_needed(self.name, source)),)
            opening_ids = (*self.start_ids, self._token(target))
        else:
            _check_spoken(self.name, self.spoken, source, None if self.codes else target)
            source_ids = (*self.leading_ids, self._token(target)) if self.codes else ()
            opening_ids = self.start_ids
        return TranslationPrompt(self.vocabulary, source_ids, self.end_id, opening_ids, frozenset(self.codes.values()))

    def _token(self, tag: str) -> int:
        return self.codes[_find(self.name, tag, self.codes)]


@dataclass(frozen=True, slots=True)
class ChatTranslation:
    """A chat model whose template is told the languages, and takes nothing but a text to translate.

    `codes` are those that the template lists; none if it lists them in no way that is known here.
    """

    name: str
    codes: tuple[str, ...]

    def content(self, source: str | None, target: str) -> dict[str, str]:
        """Return what the one part of the user's message says beside its `text`; languages are BCP-47 tags.

        Raises:
            UsageError: a language is not one of the model's, or no source language is given.
        """
        return {
            "type": "text",
            "source_lang_code": self._code(_needed(self.name, source)),
            "target_lang_code": self._code(target),
        }

    def _code(self, tag: str) -> str:
        return _find(self.name, tag, self.codes) if self.codes else _parse(tag).to_tag()


TranslationModel = Seq2SeqTranslation | ChatTranslation


def find_family(path: Path, name: str | None = None) -> TranslationModel | None:
    """Return what a model is as a model for translation; None if it is made for other things.

    Args:
        path: its directory or GGUF file.
        name: what the user calls the model, for messages.

    Raises:
        ModelUnavailable: it is one, and damaged.
    """
    name = name or path.name
    kind = configuration(path).get("model_type")
    if kind == "marian":
        return _marian(path, name)
    if kind in ("m2m_100", "nllb-moe"):
        return _tagged(path, name, _FLORES, names_source=True)
    if kind in ("t5", "mt5", "umt5"):
        return _tagged(path, name, _MADLAD, names_source=False)
    template = _chat_template(path)
    if "source_lang_code" in template and "target_lang_code" in template:
        return ChatTranslation(name, tuple(dict.fromkeys(_LISTED.findall(template))))
    return None


def _marian(path: Path, name: str) -> Seq2SeqTranslation:
    vocabulary = MarianVocabulary(path)
    config = described(path, "tokenizer_config.json") or {}
    source, target = (str(config[key]) if config.get(key) else None for key in ("source_lang", "target_lang"))
    return Seq2SeqTranslation(
        name, vocabulary, vocabulary.languages, vocabulary.end_id, _start_ids(path), spoken=(source, target)
    )


def _tagged(path: Path, name: str, pattern: re.Pattern[str], *, names_source: bool) -> Seq2SeqTranslation | None:
    """Return a model whose vocabulary has a token for each language, None if it has not."""
    from tokenizers import Tokenizer

    vocabulary = ChatTokenizer(path)  # first, as it says what is damaged
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokens = {word: token_id for word, token_id in tokenizer.get_vocab().items() if pattern.fullmatch(word)}
    if len(tokens) < 2:
        return None
    # Some tokenizers put a space before the first token.
    token, token_id = next(iter(tokens.items()))
    ids: list[int] = tokenizer.encode(f"{token} A", add_special_tokens=False).ids
    leading_ids = () if names_source or token_id not in ids else tuple(ids[: ids.index(token_id)])
    codes = {match[1]: token_id for word, token_id in tokens.items() if (match := pattern.fullmatch(word))}
    end_id = _find_id(path, "eos_token_id")
    if end_id is None:
        raise ModelUnavailable(f"{str(path)!r}: is damaged: its config says nowhere what ends a text (eos_token_id)")
    return Seq2SeqTranslation(
        name, vocabulary, codes, end_id, _start_ids(path, forced=not names_source), names_source, leading_ids
    )


def _start_ids(path: Path, *, forced: bool = True) -> tuple[int, ...]:
    """Return what a decoder begins with; `forced` says whether to add the first token that the config demands."""
    start = _find_id(path, "decoder_start_token_id")
    if start is None:
        raise ModelUnavailable(
            f"{str(path)!r}: is damaged: its config says nowhere what an answer begins with (decoder_start_token_id)"
        )
    first = _find_id(path, "forced_bos_token_id") if forced else None
    return (start,) if first is None else (start, first)


def _find_id(path: Path, key: str) -> int | None:
    for name in ("generation_config.json", "config.json"):
        value = (described(path, name) or {}).get(key)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, int) and is_token_id(value):
            return value
    return None


def _chat_template(path: Path) -> str:
    own = chat_template(path)
    if own is not None:
        return own
    template = (described(path, "tokenizer_config.json") or {}).get("chat_template")
    return template if isinstance(template, str) else ""


def _needed(name: str, source: str | None) -> str:
    if source is None:
        wanted = setting("source", "LANG", option="--from LANG")
        raise UsageError(f"model {name!r} needs {wanted}: it is told which language a text is in")
    return source


def _check_spoken(name: str, spoken: tuple[str | None, str | None], *asked: str | None) -> None:
    """Refuse languages that are not those of a model for two."""
    for tag, code, way in zip(asked, spoken, ("from", "to"), strict=True):
        known = _try(code) if code else None
        # A code of three letters can be that of a whole family of languages, which no list here tells apart.
        if tag is None or known is None or len(known.language or "") != 2:
            continue
        wanted = _parse(tag)
        if _kind(wanted)[0] != _kind(known)[0]:
            raise UsageError(
                f"model {name!r} translates {way} {known.display_name()} ({known.to_tag()}) only, "
                f"not {way} {wanted.display_name()} ({wanted.to_tag()})"
            )


def _find(name: str, tag: str, codes: Collection[str]) -> str:
    """Return how a model spells the language of a tag: in the same script, if possible of the same region.

    Raises:
        UsageError: it does not have it.
    """
    wanted = _parse(tag)
    known = [(code, language) for code in codes if (language := _try(code))]
    usual = _USUAL.get(wanted.language or "", wanted.language)
    if near := _near(wanted, known) or _near(wanted.maximize().update_dict({"language": usual}), known):
        return near
    first = sorted(
        known, key=lambda pair: (pair[1].language != wanted.language, -pair[1].speaking_population(), pair[0])
    )
    named = list(dict.fromkeys(language.to_tag() for _, language in first))
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    raise UsageError(
        f"model {name!r} does not know {wanted.display_name()} ({wanted.to_tag()}); "
        f"it knows {', '.join(named[:_MOST_NAMED])}{more}"
    )


def _near(wanted: Language, known: list[tuple[str, Language]]) -> str | None:
    """Return the code of a language that is the wanted one, in the same script; None if there is none."""
    full, kind = wanted.maximize(), _kind(wanted)
    near = [(code, language) for code, language in known if _kind(language) == kind]

    def unlike(pair: tuple[str, Language]) -> tuple[object, ...]:
        code, language = pair
        return (
            language.to_tag() != wanted.to_tag(),
            language.maximize().territory != full.territory,
            language.language != wanted.language,
            len(code),
            code,
        )

    return min(near, key=unlike)[0] if near else None


def _kind(language: Language) -> tuple[str | None, str | None]:
    """Return what a language and its script are, whichever way they are named."""
    full = language.prefer_macrolanguage().maximize()
    return full.language, full.script


def _parse(tag: str) -> Language:
    language = _try(tag)
    if language is None or not language.language or not language.is_valid():
        raise UsageError(f"{tag!r} is no language tag; give one like de, pt-BR or zh-Hant")
    return language


def _try(code: str) -> Language | None:
    """Return the language that a tag or a model's code means, None for none."""
    from langcodes import Language
    from langcodes.tag_parser import LanguageTagError

    try:
        return Language.get(code.replace("_", "-"))
    except LanguageTagError:  # models know things that are no language
        return None
