"""Thoughts between two tags, `<think>` and `</think>` as a rule.

A tag may be a token of its own, which no user's text can become, or plain text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from llmpar.models.thoughts import Divided, Follower, Outlook, Spelling, joined, outlook_of

_MARGIN = 8  # tokens that may hold characters before a tag, and some of it


@dataclass(frozen=True, slots=True)
class Tags:
    """Thoughts between two tags.

    Args:
        opening: the first tag.
        closing: the second.
        ids: of both, where they are tokens of their own; None where they are text.
        label: what thoughts begin with that is none.
        is_named: whether the template names them, as that of a model does that thinks.
        around: what the answer may stand between, too, once there were thoughts.
        spelling: what is needed of the tokenizer.
    """

    opening: str
    closing: str
    ids: tuple[int, int] | None
    label: str
    is_named: bool
    around: tuple[tuple[str, str], ...]
    spelling: Spelling

    def outlook(self, ending: str, said: Iterable[str], *, is_on: bool | None) -> Outlook | None:
        """Return what a prompt lets expect; see `Style.outlook`."""
        is_open = ending.rfind(self.opening) > ending.rfind(self.closing)
        is_sure = is_open or (self.is_named and is_on is not False and self.closing not in ending)
        is_data = False
        for text in said:  # of every prompt
            if self.opening in text or self.closing in text:
                is_data = True
        return None if is_data and not is_sure else outlook_of(is_open, is_sure, not is_data)

    def follow(self, outlook: Outlook, *, opens: bool = False) -> Follower:
        """Return what follows one answer; see `Style.follow`."""
        opens = opens and outlook.is_sure and not outlook.is_open
        return _TokenTags(self, self.ids, outlook, opens) if self.ids else _TextTags(self, outlook, opens)

    def divide(self, output_ids: Sequence[int], text: str, outlook: Outlook) -> Divided:
        """Return an answer without its thoughts, and these; see `Style.divide`."""
        ids = self.ids
        if not outlook.is_open and (ids[0] not in output_ids if ids else self.opening not in text):
            is_closed = ids[1] in output_ids if ids else self.closing in text
            if not (is_closed and outlook.is_sure and outlook.returns):
                return Divided(text)  # as most answers are
            outlook = replace(outlook, is_open=True)  # it took them for opened
        divided = self._divide_ids(output_ids, ids, outlook) if ids else self._divide_text(output_ids, text, outlook)
        if not divided.num_tokens:
            return divided
        answer = divided.answer.lstrip()
        for first, last in self.around:
            if answer.startswith(first):
                answer = answer.removeprefix(first).lstrip()
                bare = answer.rstrip()
                answer = bare.removesuffix(last).rstrip() if bare.endswith(last) else answer
        thoughts = divided.thoughts.removeprefix(self.label).lstrip()
        return Divided(answer, thoughts, divided.num_tokens, divided.is_unclosed)

    def _divide_ids(self, output_ids: Sequence[int], ids: tuple[int, int], outlook: Outlook) -> Divided:
        follower = _TokenTags(self, ids, outlook, opens=False)
        answer_ids: list[int] = []
        blocks: list[list[int]] = [[]]
        num_tokens = 0
        for token_id in output_ids:
            was_thinking = follower.is_thinking
            follower.accept(token_id)
            if not was_thinking and not follower.is_thinking:
                answer_ids.append(token_id)
                continue
            num_tokens += 1
            if token_id == ids[0]:
                blocks.append([])
            elif token_id != ids[1]:
                blocks[-1].append(token_id)
        decode = self.spelling.decode
        thoughts = joined(decode(block) for block in blocks)
        return Divided(decode(answer_ids), thoughts, num_tokens, follower.is_thinking)

    def _divide_text(self, output_ids: Sequence[int], text: str, outlook: Outlook) -> Divided:
        spans: list[tuple[int, int]] = []  # of thoughts, with their tags
        answer, at, is_thinking = "", 0, outlook.is_open
        start = 0
        while True:
            if is_thinking:
                end = text.find(self.closing, at)
                at = len(text) if end < 0 else end + len(self.closing)
                spans.append((start, at))
                if end < 0:
                    break
                is_thinking = False
                continue
            start = text.find(self.opening, at)
            is_first = start >= 0 and not (answer + text[at:start]).strip()
            is_thinking = is_first or (start >= 0 and outlook.returns and bool(spans or outlook.is_sure))
            answer += text[at : start if is_thinking else len(text)]
            if not is_thinking:
                break
            at = start + len(self.opening)
        thoughts = joined(self._bare(text[slice(*span)]) for span in spans)
        num_tokens = sum(self._reach(output_ids, end) - self._reach(output_ids, start) for start, end in spans)
        return Divided(answer, thoughts, num_tokens, is_thinking)

    def _bare(self, block: str) -> str:
        return block.strip().removeprefix(self.opening).removesuffix(self.closing)

    def _reach(self, output_ids: Sequence[int], size: int) -> int:
        """Return how many tokens it takes to have so many characters."""
        decode = self.spelling.decode
        return bisect_left(range(len(output_ids)), size, key=lambda count: len(decode(output_ids[:count])))


class _TokenTags:
    """Follows tags that are tokens."""

    def __init__(self, tags: Tags, ids: tuple[int, int], outlook: Outlook, opens: bool) -> None:
        self._tags = tags
        self._opening, self._closing = ids
        self._outlook = outlook
        self._opens = opens
        self._is_thinking = self._has_thought = outlook.is_open or opens
        self._may_open = True  # nothing but white space has come since the last thoughts

    @property
    def is_thinking(self) -> bool:
        """Whether what comes next belongs to thoughts."""
        return self._is_thinking

    def accept(self, token_id: int) -> None:
        """Take the next token."""
        self._opens = False
        if self._is_thinking:
            self._is_thinking = token_id != self._closing
            self._may_open = self._may_open or not self._is_thinking
        elif token_id == self._opening and (self._may_open or self._returns):
            self._is_thinking = self._has_thought = True
        elif self._may_open and self._tags.spelling.decode([token_id]).strip():
            self._may_open = False

    def forced(self) -> list[int]:
        """Return the opening tag, where it is put there for the model."""
        return [self._opening] if self._opens else []

    @property
    def _returns(self) -> bool:
        return self._outlook.returns and (self._has_thought or self._outlook.is_sure)


class _TextTags:
    """Follows tags that are plain text, by the text of the last tokens."""

    def __init__(self, tags: Tags, outlook: Outlook, opens: bool) -> None:
        self._tags = tags
        self._outlook = outlook
        self._opens = opens
        self._is_thinking = self._has_thought = outlook.is_open or opens
        self._may_open = True
        self._reach = _MARGIN + max(len(tags.opening.encode()), len(tags.closing.encode()))
        self._last: list[int] = []  # since the last tag, as many as can hold the next

    @property
    def is_thinking(self) -> bool:
        """Whether what comes next belongs to thoughts."""
        return self._is_thinking

    def accept(self, token_id: int) -> None:
        """Take the next token."""
        self._opens = False
        if not self._is_thinking and not self._may_open and not self._returns:
            return
        self._last.append(token_id)
        del self._last[: -self._reach]
        text = self._tags.spelling.decode(self._last)
        if self._is_thinking:
            if self._tags.closing in text:
                self._turn(is_thinking=False)
        elif self._may_open:
            begun = text.lstrip()
            if begun.startswith(self._tags.opening):
                self._turn(is_thinking=True)
            elif not self._tags.opening.startswith(begun):
                self._may_open = False
        elif self._tags.opening in text:
            self._turn(is_thinking=True)

    def forced(self) -> list[int]:
        """Return the opening tag, where it is put there for the model."""
        return self._tags.spelling.encode(self._tags.opening) if self._opens else []

    def _turn(self, *, is_thinking: bool) -> None:
        self._is_thinking = is_thinking
        self._has_thought = self._may_open = True
        self._last.clear()

    @property
    def _returns(self) -> bool:
        return self._outlook.returns and (self._has_thought or self._outlook.is_sure)
