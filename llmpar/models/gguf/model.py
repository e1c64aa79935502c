"""A GGUF file as a model: the door of this room. What a file says wrongly is told here with the file's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmpar.errors import ModelUnavailable
from llmpar.models.gguf import description, vocabulary
from llmpar.models.gguf.architecture import OtherArchitecture
from llmpar.models.gguf.config import config_of
from llmpar.models.gguf.file import GgufFile, open_file
from llmpar.models.gguf.header import Damaged
from llmpar.models.gguf.vocabulary import Vocabulary
from llmpar.models.gguf.weights import GgufWeights


def open_weights(path: Path) -> GgufWeights:
    """Return a file's weights, by the names that transformers gives a model's parameters.

    Raises:
        OtherArchitecture: the model is of none that is known for certain; the message says in what it differs.
        ModelUnavailable: the file cannot be read, is damaged, or a part of it is missing.
    """
    file = open_file(path)
    with _named(file):
        return GgufWeights(file)


def config(path: Path) -> dict[str, Any]:
    """Return a model's configuration, as transformers has it; the errors are those of `open_weights`."""
    file = open_file(path)
    with _named(file):
        return config_of(file)


def described(path: Path, name: str) -> dict[str, Any] | None:
    """Return what the JSON file of this name in a model directory would say.

    Raises:
        ModelUnavailable: the file cannot be read, is damaged, or the model is of no architecture that is known.
    """
    file = open_file(path)
    with _named(file):
        try:
            return description.describe(file, name)
        except OtherArchitecture as reason:
            raise ModelUnavailable(f"{file.name!r} cannot be read as it is: {reason}") from reason


def chat_template(path: Path) -> str | None:
    """Return the template of a conversation, None if there is none.

    Raises:
        ModelUnavailable: the file cannot be read, or is damaged.
    """
    return description.chat_template(open_file(path))


def check_writes_text(path: Path) -> None:
    """Raise ModelUnavailable if a file is of an encoder, which its vocabulary tells.

    Raises:
        ModelUnavailable: it is, or the file cannot be read, or is damaged.
    """
    file = open_file(path)
    if file.fields.get("tokenizer.ggml.model") == vocabulary.WORD_PIECES:
        kind = f"WordPiece, {vocabulary.WORD_PIECES!r}"
        raise ModelUnavailable(f"{file.name!r}: has the vocabulary of an encoder ({kind}), which writes no text")


def unknown_vocabulary(path: Path) -> str | None:
    """Return what a file calls the kind of its vocabulary if that is not known here for certain, None if it is.

    Raises:
        ModelUnavailable: the file cannot be read, or is damaged.
    """
    file = open_file(path)
    with _named(file):
        if not file.fields["tokenizer.ggml.tokens"]:
            raise Damaged("it has no vocabulary")
        return vocabulary.unknown_kind(file.fields)


def open_vocabulary(path: Path, *, opens: bool) -> Vocabulary:
    """Return a file's vocabulary.

    Args:
        path: the file.
        opens: see `vocabulary.build`.

    Raises:
        UnknownVocabulary: it is of a kind that is not known for certain; the message names it.
        ModelUnavailable: the file cannot be read, or is damaged.
    """
    file = open_file(path)
    with _named(file):
        return vocabulary.build(file.fields, opens=opens)


@contextmanager
def _named(file: GgufFile) -> Iterator[None]:
    try:
        yield
    except Damaged as damage:
        raise ModelUnavailable(f"{file.name!r} is damaged: {damage}") from damage
    except KeyError as error:
        raise ModelUnavailable(f"{file.name!r} is damaged: it does not say {error.args[0]}") from error
    except (
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        OverflowError,
    ) as error:  # values of any type may be there
        raise ModelUnavailable(f"{file.name!r} is damaged: it says what cannot be: {error}") from error
