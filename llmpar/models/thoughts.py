"""What a model thinks before it answers: what a prompt lets expect of it, and how it is told from the answer.

Models mark their thoughts by tags (`tags`) or channels (`channels`); `thinking` tells which model does what. Knows no
engine: what follows an answer fits `engine.thoughts.Thoughts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from llmpar.frozen import quickly_made


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a prompt lets expect of the thoughts before its answer; plain data.

    Args:
        is_open: the prompt has opened them, so that the answer begins inside.
        is_sure: the model thinks, as far as its template tells; else they are thoughts only if they come.
        returns: they may come again, after an answer has begun.
    """

    is_open: bool = False
    is_sure: bool = False
    returns: bool = False


@lru_cache(8)
def outlook_of(is_open: bool, is_sure: bool, returns: bool) -> Outlook:
    """Return one of the eight outlooks that there are: every prompt has one, and most have the same."""
    return Outlook(is_open, is_sure, returns)


@quickly_made
@dataclass(frozen=True, slots=True)
class Divided:
    """An answer without its thoughts, and these.

    Args:
        answer: what is no thought.
        thoughts: without their tags, a blank line between those of several blocks.
        num_tokens: of the thoughts, what marks them included.
        is_unclosed: they had no end.
    """

    answer: str
    thoughts: str = ""
    num_tokens: int = 0
    is_unclosed: bool = False


class Follower(Protocol):
    """Follows one answer token by token; see `engine.thoughts.Thoughts`."""

    @property
    def is_thinking(self) -> bool:
        """Whether what comes next belongs to thoughts, or to what marks them."""

    def accept(self, token_id: int) -> None:
        """Take the next token."""

    def forced(self) -> list[int]:
        """Return tokens that come next, as an answer of some form is to follow: what opens thoughts, or ends them."""


class Style(Protocol):
    """How one model marks its thoughts."""

    def outlook(self, ending: str, said: Iterable[str], *, is_on: bool | None) -> Outlook | None:
        """Return what a prompt lets expect; None where nothing in its answer is a thought.

        Args:
            ending: what its template puts behind the last message.
            said: the texts of its messages.
            is_on: whether the template's switch for thinking is on; None if it has none.
        """

    def follow(self, outlook: Outlook, *, opens: bool = False) -> Follower:
        """Return what follows one answer; if it `opens`, thoughts that are sure to come are opened for the model."""

    def divide(self, output_ids: Sequence[int], text: str, outlook: Outlook) -> Divided:
        """Return an answer without its thoughts, and these.

        Args:
            output_ids: the answer's.
            text: what they are decoded to.
            outlook: what was to be expected.
        """


@dataclass(frozen=True, slots=True)
class Spelling:
    """What is needed of a model's tokenizer.

    Args:
        control_id: returns the id of a token that is no text, by its name; None if there is no such token.
        encode: makes ids of plain text.
        decode: makes text of ids, without control tokens.
    """

    control_id: Callable[[str], int | None]
    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]


def joined(blocks: Iterable[str]) -> str:
    """Return blocks of thoughts as one text, without those that are blank."""
    return "\n\n".join(filter(None, (block.strip() for block in blocks)))
