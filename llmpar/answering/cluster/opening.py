"""How the nodes of a cluster open a model: what is told of it here, and what is done there, with the same files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from llmpar.answering.backend import Identity, Model, Watcher
from llmpar.answering.choice import ModelChoice
from llmpar.answering.echo import CODEC, Echo, open_echo
from llmpar.answering.local import Codec
from llmpar.answering.model import LocalModel
from llmpar.answering.tokens import Prompting
from llmpar.answering.wire import Opened, OpenPart, Part
from llmpar.errors import ModelUnavailable
from llmpar.integrity.checksums import checksum_at
from llmpar.tasks.question import Prompt
from llmpar.visible import one_line

Contents = tuple[tuple[str, str], ...]
"""A checksum for each file, by its name."""

Opener: TypeAlias = Callable[[int, int], OpenPart]
"""What makes that which opens a part: of the number of threads, and of workers on the same machine."""


class Divisible(Protocol):
    """A model that other machines can open, too."""

    @property
    def model(self) -> Model:
        """What tells of it here."""

    def finder(self, kind: str) -> Callable[[Watcher], str] | None:
        """Return what finds out on a node which precision it computes in; None where that is told here."""

    def identify_on(self, kind: str, precision: str | None) -> Identity:
        """Return what decides an answer that is computed on "cpu" or "cuda", wherever that is.

        Args:
            kind: what it is computed on.
            precision: what nodes compute in; None where none was asked.
        """

    def opener(self, kind: str, precision: str | None, examples: Sequence[Prompt], *, doubts: bool) -> Opener:
        """Return what makes openers for workers.

        Args:
            kind: "cpu" or "cuda".
            precision: see `identify_on`.
            examples: see `Model.open`.
            doubts: whether files were found damaged before, and are looked at before they are used.
        """

    def codec(self, opened: Opened) -> Codec:
        """Return how texts become token ids here, by what a worker says of its part."""


class DivisibleModel:
    """A model with files, which each node finds or fetches for itself.

    Args:
        choice: the user's.
        watcher: is told what takes time here.
    """

    def __init__(self, choice: ModelChoice, watcher: Watcher) -> None:
        # A path means the same on each node, if they share it.
        name = str(Path(choice.name).absolute()) if Path(choice.name).exists() else choice.name
        self._choice = replace(choice, name=name)
        self.model = LocalModel(choice, watcher)

    def finder(self, kind: str) -> Callable[[Watcher], str] | None:
        """Return what finds out a GPU's precision, which follows from what it is; see `Divisible`."""
        is_open = kind == "cuda" and self._choice.precision == "auto"
        return partial(precision_there, replace(self._choice, device=_on_node(kind))) if is_open else None

    def identify_on(self, kind: str, precision: str | None) -> Identity:
        """Return what decides an answer; see `Divisible`."""
        return self.model.identify_on(kind, precision)

    def opener(self, kind: str, precision: str | None, examples: Sequence[Prompt], *, doubts: bool) -> Opener:
        """Return what makes openers; see `Divisible`."""
        identity = self.model.identify_on(kind, precision)
        taken: Any = dict(identity.facts)["precision"]
        choice = replace(self._choice, device=_on_node(kind), precision=taken)
        prompting, contents = self.model.prompting(examples), contents_of(identity.files)

        def opener(num_threads: int, num_models: int) -> OpenPart:
            there = replace(choice, threads=num_threads if kind == "cpu" else choice.threads)
            return partial(open_there, there, prompting, num_models, contents, doubts)

        return opener

    def codec(self, opened: Opened) -> Codec:
        """Return how texts become token ids here."""
        return self.model.codec(opened)


class DivisibleEcho:
    """The echo, which has no files.

    Args:
        choice: the user's.
        watcher: is told what takes time here.
    """

    def __init__(self, choice: ModelChoice, watcher: Watcher) -> None:
        self._choice = choice
        self.model = Echo(choice, watcher)

    def finder(self, kind: str) -> None:
        """Return that there is nothing to find out."""

    def identify_on(self, kind: str, precision: str | None) -> Identity:  # noqa: ARG002
        """Return that it is the echo."""
        return self.model.identify()

    def opener(
        self,
        kind: str,  # noqa: ARG002
        precision: str | None,  # noqa: ARG002
        examples: Sequence[Prompt],  # noqa: ARG002
        *,
        doubts: bool,  # noqa: ARG002
    ) -> Opener:
        """Return what makes openers; see `Divisible`."""
        return lambda num_threads, _: partial(open_echo, replace(self._choice, threads=num_threads))

    def codec(self, opened: Opened) -> Codec:  # noqa: ARG002 (all parts are alike)
        """Return how texts become bytes, and back."""
        return CODEC


def precision_there(choice: ModelChoice, watcher: Watcher) -> str:
    """Return the precision that a node computes a model in, which is found or fetched there.

    Args:
        choice: what the machine that asks was given, with the device for this one.
        watcher: is told what takes time.

    Raises:
        ModelUnavailable: the model is not to be had here.
    """
    return str(dict(LocalModel(choice, watcher).identify().facts)["precision"])


def _on_node(kind: str) -> str:
    """Return the device that a worker computes on: it sees one GPU."""
    return "cuda:0" if kind == "cuda" else kind


def open_there(
    choice: ModelChoice, prompting: Prompting, num_models: int, contents: Contents, doubts: bool, watcher: Watcher
) -> Part:
    """Find a model on a node, or fetch it there, and load it.

    Args:
        choice: what the machine that asks was given, with the device and the precision for this one.
        prompting: what prompts have in common.
        num_models: how many processes of this machine do so.
        contents: what the files are on the machine that asks.
        doubts: whether they were found damaged somewhere.
        watcher: is told what takes time.

    Raises:
        ModelUnavailable: the model is not to be had here, or its files are others.
    """
    if choice.device != "cpu":
        from llmpar.models.devices import bind_device

        bind_device(choice.device)
    check = partial(check_contents, choice.name, contents)
    return LocalModel(choice, watcher).load_surely(prompting, num_models, check, doubts=doubts)


def contents_of(files: Sequence[Path]) -> Contents:
    """Return the names and checksums of files.

    Raises:
        ModelUnavailable: one cannot be read.
    """
    try:
        return tuple((file.name, checksum_at(file)) for file in files)
    except OSError as error:
        raise ModelUnavailable(f"{one_line(error.filename)}: cannot be read: {error.strerror}") from error


def check_contents(name: str, expected: Contents, files: Sequence[Path]) -> None:
    """Raise ModelUnavailable if a model's files are not those of another machine.

    Args:
        name: the model's.
        expected: what they are there.
        files: where they are here.
    """
    here, there = dict(contents_of(files)), dict(expected)
    differing = sorted(file for file in here.keys() | there.keys() if here.get(file) != there.get(file))
    if differing:
        more = f" and {len(differing) - 1:,} more" if len(differing) > 1 else ""
        raise ModelUnavailable(
            f"{one_line(name)}: {one_line(differing[0])}{more} of it is not the same here as on the machine that asks; "
            "fetch it again on both (llmpar models rm, llmpar models pull), or name a path that both share"
        )
