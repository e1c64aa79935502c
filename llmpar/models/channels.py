"""Thoughts in messages of their own, in other channels than the answer: OpenAI's Harmony format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from llmpar.models.thoughts import Divided, Follower, Outlook, Spelling, joined

START, CHANNEL, MESSAGE, END = "<|start|>", "<|channel|>", "<|message|>", "<|end|>"
_FINAL = "final"  # the channel of answers
_Kind = Literal["answer", "thought", "mark"]


@dataclass(frozen=True, slots=True)
class Channels:
    """Thoughts in messages of their own, in other channels than the answer (OpenAI's Harmony format).

    Args:
        start: the id of the token that begins a message; what follows says who speaks.
        channel: of the one behind which the channel is named.
        message: of the one that the message's text follows.
        end: of the one that ends a message, after which another one comes.
        spelling: what is needed of the tokenizer.
    """

    start: int
    channel: int
    message: int
    end: int
    spelling: Spelling

    def outlook(self, ending: str, said: Iterable[str], *, is_on: bool | None) -> Outlook | None:  # noqa: ARG002
        """Return what a prompt lets expect: no text of a user's becomes a channel, and no switch ends them."""
        header, message, _ = ending.rpartition(START)[2].partition(MESSAGE)
        if message and header.partition(CHANNEL)[2].split()[:1] == [_FINAL]:
            return None
        return Outlook(is_open=bool(message), is_sure=True, returns=True)

    def follow(self, outlook: Outlook, *, opens: bool = False) -> Follower:  # noqa: ARG002
        """Return what follows one answer; the model opens its channels itself."""
        return _ChannelFollower(self, outlook)

    def divide(self, output_ids: Sequence[int], text: str, outlook: Outlook) -> Divided:  # noqa: ARG002
        """Return an answer without its thoughts, and these; see `Style.divide`."""
        follower = _ChannelFollower(self, outlook)
        answer_ids: list[int] = []
        blocks: list[list[int]] = [[]]
        for token_id in output_ids:
            follower.accept(token_id)
            if follower.kind == "answer":
                answer_ids.append(token_id)
            elif follower.kind == "thought":
                blocks[-1].append(token_id)
            elif token_id == self.message:
                blocks.append([])
        decode = self.spelling.decode
        num_tokens = len(output_ids) - len(answer_ids)
        return Divided(decode(answer_ids), joined(map(decode, blocks)), num_tokens, not follower.has_answered)


class _ChannelFollower:
    """Follows messages in channels. `kind` is what the last token was, `has_answered` whether there was an answer."""

    def __init__(self, channels: Channels, outlook: Outlook) -> None:
        self._channels = channels
        self._header: list[int] | None = None if outlook.is_open else []  # None inside of a message
        self._is_final = False
        self._has_ended = False  # a message has, and none has begun since
        self.has_answered = False
        self.kind: _Kind = "mark"

    @property
    def is_thinking(self) -> bool:
        """Whether what comes next belongs to thoughts, or to a message's head."""
        return self._header is not None or not self._is_final

    def accept(self, token_id: int) -> None:
        """Take the next token."""
        names = self._channels
        self.kind = "mark"
        if token_id in (names.start, names.end):
            self._header, self._has_ended = [], token_id == names.end
        elif self._header is None:
            self.kind = "answer" if self._is_final else "thought"
        elif token_id == names.message:
            self._is_final = self._channel() == _FINAL
            self.has_answered = self.has_answered or self._is_final
            self._header = None
        else:
            self._header.append(token_id)

    def forced(self) -> list[int]:
        """Return what opens the answer, once a message of thoughts has ended."""
        if not self._has_ended:
            return []
        names, encode = self._channels, self._channels.spelling.encode
        return [names.start, *encode("assistant"), names.channel, *encode(_FINAL), names.message]

    def _channel(self) -> str:
        header, names = self._header or [], self._channels
        if names.channel not in header:
            return ""
        said = names.spelling.decode(header[header.index(names.channel) + 1 :]).split()
        return said[0] if said else ""
