"""Whether the options that single formats have mean anything for what is read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from llmpar.cli.input_options import InputOptions
from llmpar.documents.formats import FORMATS
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.segments import name_of_format
from llmpar.errors import InputError, InputUnreadable, UsageError

_OF_FOLDERS = ("include", "exclude", "gitignore", "format_options")


class Effect:
    """Watches as what inputs are read, and refuses an option that none of them heeds.

    What the environment sets is for all commands, and may mean nothing for one of them.

    Args:
        options: the user's.
    """

    def __init__(self, options: FormatOptions) -> None:
        self._idle = {name for name in _given(options) if not os.environ.get(f"LLMPAR_{name.upper()}")}
        self._unseen: set[str] = set()
        self._seen: set[str] = set()

    def expect(self, sources: Iterable[str], reading: Reading) -> None:
        """Look at the inputs of a run; pipes are looked at when they are read.

        Raises:
            UsageError: an option affects none of them.
        """
        if not self._idle:
            return
        self._unseen = set(sources)
        for source in sorted(self._unseen):
            if source != "-" and Path(source).is_file():
                try:
                    self.see(source, name_of_format(source, reading))
                except (InputError, InputUnreadable):  # said when it is read; it has no say in this
                    self._unseen.discard(source)
        self._check()

    def see(self, source: str, name: str) -> None:
        """Take note that an input is read as the format of this name.

        Raises:
            UsageError: an option affects no input, and this was the last of them.
        """
        self._seen.add(name)
        self._idle.difference_update(FORMATS[name].options)
        self._unseen.discard(source)
        self._check()

    def _check(self) -> None:
        if self._idle and self._seen and not self._unseen:
            option = min(self._idle)
            heeding = ", ".join(name for name, entry in FORMATS.items() if option in entry.options)
            raise UsageError(
                f"--{option.replace('_', '-')} affects nothing here: it is for {heeding}, and what is read is "
                f"{', '.join(sorted(self._seen))}; leave it out, or name the format with --input-format"
            )


def _given(options: FormatOptions) -> list[str]:
    return [member.name for member in fields(options) if getattr(options, member.name) != member.default]


def refuse_reading(given: InputOptions, name: str) -> None:
    """Refuse options that say how documents are read, for a command that reads none.

    Args:
        given: the user's.
        name: the command's.

    Raises:
        UsageError: there is such an option. Folders may be searched all the same.
    """
    usual = InputOptions()
    named = [member.name for member in fields(given) if member.name not in _OF_FOLDERS]
    idle = [option for option in named if getattr(given, option) != getattr(usual, option)]
    idle = [
        option for option in [*idle, *_given(given.format_options)] if not os.environ.get(f"LLMPAR_{option.upper()}")
    ]
    if idle:
        raise UsageError(
            f"llmpar {name}: --{idle[0].replace('_', '-')} affects nothing here: requests are JSON lines in UTF-8, and "
            "each holds its own messages; leave it out"
        )
