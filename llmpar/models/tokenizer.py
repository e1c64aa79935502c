"""Text ↔ token ids for one model: its chat template around a user's text, which can never become a control token."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from llmpar.errors import ModelUnavailable
from llmpar.messages import Message, Role
from llmpar.models.configuration import chat_template, described, is_token_id
from llmpar.models.names import Thinking
from llmpar.models.template import BadTemplate, Slot, mark, render, split
from llmpar.models.thinking import is_on, named_switches, style_of, switches_of
from llmpar.models.thoughts import Outlook, Spelling, Style
from llmpar.models.vocabulary import open_vocabulary

"""Who says it, and what."""

_FRAMES_KEPT = 256  # of conversations with other numbers of turns
_LONGEST_FORESEEN = 10_000  # characters; of a longer text, only a part may be needed
_SYSTEMS_KEPT = 64  # texts that come with every prompt, as ids

_SURROGATE = re.compile("[\ud800-\udfff]")
# What models call their control tokens; a vocabulary may hold one as a word that nobody declared to be more.
_CONTROL_NAME = re.compile(
    r"<[|｜].+[|｜]>|</?s>|<(?:unk|pad|bos|eos|mask|sep|cls|eod|eot|eom|unused_?\d+|(?:start|end)_of_\w+)>"
    r"|\[/?[A-Z][A-Z_]+\]|<</?SYS>>"
)
_BYTE = re.compile("<0x[0-9A-F]{2}>")


@dataclass(frozen=True, slots=True)
class _Frame:
    """The ids around the messages of some roles, where those go, and the text that stands behind the last."""

    parts: list[list[int] | Slot]
    ending: str


class ChatTokenizer:
    """Encodes a user's message as the model's chat prompt, and decodes its answers. Safe for any number of threads.

    Args:
        path: a model directory with `tokenizer.json`, or a GGUF file.
        tries: whether the chat template is tried at once; one that takes messages only in parts cannot be.
        thinking: what the template's switch for thinking is set to; None as it is, mostly off.

    Raises:
        ModelUnavailable: the tokenizer or the chat template is damaged, or the template changes what it is given.
    """

    def __init__(self, path: Path, *, tries: bool = True, thinking: Thinking | None = None) -> None:
        self._path = path
        self._thinking = thinking
        self._config = _config(path)
        self._special_tokens = _special_tokens(self._config)
        template = self._chat_template()
        with self._translated("cannot be read"):
            vocabulary = open_vocabulary(path, opens=template is None)
            self._tokenizer, self._plain = vocabulary.whole, vocabulary.plain
            self._control_ids = vocabulary.control_ids | self._undeclared(vocabulary.words)
        self._chat = template
        self._lock = threading.Lock()
        self._last_outlook: tuple[Sequence[Message], Outlook | None] = ((), None)  # replaced as a whole
        self._foreseen: dict[str, list[int]] = {}  # replaced as a whole: other threads read it
        self._frames: OrderedDict[object, _Frame] = OrderedDict()
        self._instruction = lru_cache(_SYSTEMS_KEPT)(self.encode_data)
        self.encode_data("A\n é我")  # what it cannot do at all, it should not fail at in the middle of a run
        if tries:
            self.encode("A")

    def encode(self, text: str) -> list[int]:
        """Return the ids of the whole prompt with `text` as the user's message."""
        return self.encode_messages([("user", text)])

    def encode_beginning(self, text: str) -> list[int]:
        """Return the ids of a text that the model is to go on with, without its chat template."""
        ids: list[int] = []
        with self._translated("fails"):
            for part in self._unformatted(("user",)):
                ids += self.encode_data(text) if isinstance(part, Slot) else self._tokenizer.encode(part, False).ids
        return ids

    def encode_messages(self, messages: Sequence[Message], beside: Mapping[str, str] | None = None) -> list[int]:
        """Return the ids of a conversation, ready for the answer.

        Args:
            messages: who says what.
            beside: what the one part of each message says beside its text, where the template takes messages in parts.

        Raises:
            ModelUnavailable: the chat template refuses such a conversation.
        """
        ids: list[int] = []
        roles = tuple([role for role, _ in messages])
        for part in self._frame(roles, tuple(sorted(beside.items())) if beside else ()).parts:
            if isinstance(part, Slot):
                role, text = messages[part.index]
                ids += (self._instruction if role == "system" else self.encode_data)(part.fit(text))
            else:
                ids += part
        return ids

    def encode_data(self, text: str) -> list[int]:
        """Return the ids of text that is data: none of them is a control token.

        Those are all added tokens, special or not, and what the model's files name as tokens that begin, end or fill
        a text, or what is called like one. A single character is a word, whatever it is named.

        Raises:
            ModelUnavailable: the tokenizer fails.
        """
        if (known := self._foreseen.get(text)) is not None:
            return known
        text = _SURROGATE.sub("\ufffd", text)
        with self._translated("fails"):
            encoding = self._plain.encode(text, add_special_tokens=False)
        ids: list[int] = encoding.ids
        if self._control_ids.isdisjoint(ids):
            return ids
        # Some vocabularies hold a control token's name as a word; cut in two, it is spelled with other tokens.
        cuts = [
            (first + last) // 2
            for token_id, (first, last) in zip(ids, encoding.offsets, strict=True)
            if token_id in self._control_ids and last - first > 1 and last <= len(text)
        ]
        if not cuts:
            return [token_id for token_id in ids if token_id not in self._control_ids]
        pieces = [text[first:last] for first, last in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        return [token_id for piece in pieces for token_id in self.encode_data(piece)]

    def foresee(self, texts: Sequence[str]) -> None:
        """Make the ids of texts that `encode_data` will be given next, all at once: other threads run meanwhile."""
        distinct = [text for text in dict.fromkeys(texts) if len(text) <= _LONGEST_FORESEEN]
        sound = [text if text.isascii() else _SURROGATE.sub("\ufffd", text) for text in distinct]
        with self._translated("fails"):
            encodings = self._plain.encode_batch_fast(sound, add_special_tokens=False)
        found = zip(distinct, (encoding.ids for encoding in encodings), strict=True)
        self._foreseen = {text: ids for text, ids in found if self._control_ids.isdisjoint(ids)}

    def decode(self, ids: Any) -> str:
        """Return the text of output ids, without control tokens."""
        with self._translated("fails"):
            text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def spell(self, ids: Sequence[int]) -> str:
        """Return the text of a prompt's ids, with each control token between ⟦ and ⟧."""
        parts = []
        for is_control, run in groupby(ids, self._control_ids.__contains__):
            several = list(run)
            names = (f"⟦{self._tokenizer.id_to_token(token_id)}⟧" for token_id in several)
            parts.append("".join(names) if is_control else self.decode(several))
        return "".join(parts)

    def decode_all(self, outputs: Sequence[Any]) -> list[str]:
        """Return the texts of several answers' ids; other threads run meanwhile."""
        with self._translated("fails"):
            texts: list[str] = self._tokenizer.decode_batch(
                [ids if type(ids) is list else list(ids) for ids in outputs], skip_special_tokens=True
            )
        return texts

    @cached_property
    def style(self) -> Style:
        """How the model marks its thoughts."""
        return style_of(self._chat, Spelling(self._control_id, self.encode_data, self.decode))

    def outlook(self, messages: Sequence[Message]) -> Outlook | None:
        """Return what a conversation lets expect of the thoughts before its answer; None where it has none.

        Raises:
            ModelUnavailable: the chat template refuses such a conversation.
        """
        last, outlook = self._last_outlook
        if messages is not last:  # a question's is asked for twice
            ending = self._frame(tuple([role for role, _ in messages]), ()).ending
            outlook = self.style.outlook(ending, [text for _, text in messages], is_on=self._is_on)
            self._last_outlook = messages, outlook
        return outlook

    @cached_property
    def _is_on(self) -> bool | None:
        return is_on(self._chat, self._thinking) if self._chat else None

    @property
    def switches(self) -> list[str]:
        """The switches for thinking that the chat template names."""
        return named_switches(self._chat) if self._chat else []

    def is_switched(self, before: Thinking | None, after: Thinking | None) -> bool:
        """Tell whether a prompt is another one under two settings of the switch for thinking.

        Raises:
            ModelUnavailable: the chat template fails.
        """
        if self._chat is None:
            return False
        first, second = (self._rendered(self._chat, ("user",), {}, thinking) for thinking in (before, after))
        return first != second

    @property
    def control_ids(self) -> frozenset[int]:
        """The ids of tokens that are no text."""
        return self._control_ids

    @property
    def stop_ids(self) -> frozenset[int]:
        """The id of the tokenizer's end-of-sequence token, if it names one."""
        token_id = self._tokenizer.token_to_id(self._special_tokens.get("eos_token", ""))
        return frozenset() if token_id is None else frozenset({token_id})

    def _undeclared(self, words: Mapping[str, int]) -> frozenset[int]:
        """Return the ids of control tokens that are not among the added tokens."""
        names = {*self._special_tokens.values(), *_names(self._config)}
        ids = {self._tokenizer.token_to_id(name) for name in names}
        for file in ("config.json", "generation_config.json"):
            ids |= _token_ids(described(self._path, file) or {})
        ids |= {words[word] for word in words if word.startswith(("<", "[")) and _CONTROL_NAME.fullmatch(word)}
        named = {token_id: self._tokenizer.id_to_token(token_id) for token_id in ids if token_id is not None}
        # A character has no other spelling, and a text without its newlines or its `!` is another text.
        return frozenset(i for i, word in named.items() if word and len(word) > 1 and not _BYTE.fullmatch(word))

    def _control_id(self, name: str) -> int | None:
        token_id = self._tokenizer.token_to_id(name)
        return token_id if token_id in self._control_ids else None

    def _frame(self, roles: tuple[Role, ...], beside: tuple[tuple[str, str], ...]) -> _Frame:
        """Return what stands around the messages of such roles, and where those go."""
        frame = self._frames.get((roles, beside))
        if frame is None:
            if self._chat is None:
                parts = self._unformatted(roles)
            else:
                parts = self._rendered(self._chat, roles, dict(beside), self._thinking)
            with self._translated("fails"):
                encoded = [
                    self._tokenizer.encode(part, add_special_tokens=False).ids if isinstance(part, str) else part
                    for part in parts
                ]
            frame = _Frame(encoded, parts[-1] if isinstance(parts[-1], str) else "")
            with self._lock:
                self._frames[roles, beside] = frame
                if len(self._frames) > _FRAMES_KEPT:
                    self._frames.popitem(last=False)
        return frame

    def _rendered(
        self, template: str, roles: tuple[Role, ...], beside: Mapping[str, str], thinking: Thinking | None
    ) -> list[str | Slot]:
        names = {**self._special_tokens, **switches_of(template, thinking)}
        messages: list[dict[str, Any]] = [
            {"role": role, "content": [{**beside, "text": mark(index)}] if beside else mark(index)}
            for index, role in enumerate(roles)
        ]
        try:
            try:
                return render(template, messages, roles, names)
            except BadTemplate:
                if roles[:2] != ("system", "user") or beside:
                    raise
                # One that knows no system role (Gemma): the instruction opens the user's message.
                first = {"role": "user", "content": f"{mark(0)}\n\n{mark(1)}"}
                return render(template, [first, *messages[2:]], roles, names)
        except BadTemplate as error:
            raise ModelUnavailable(f"{str(self._path)!r}: its chat template fails: {error}") from error

    def _unformatted(self, roles: tuple[Role, ...]) -> list[str | Slot]:
        # A model without a chat template continues text; it still expects the token its tokenizer puts first.
        with self._translated("fails"):
            opening = self._tokenizer.encode("", add_special_tokens=True).tokens
        bos = self._special_tokens.get("bos_token", "")
        begin = bos if bos in opening else ""
        return split(begin + "\n\n".join(mark(index) for index in range(len(roles))))

    def _chat_template(self) -> str | None:
        own = chat_template(self._path)
        if own is not None:
            return own
        template = self._config.get("chat_template")
        if isinstance(template, list):  # several by name; "default" is for chat
            named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
            template = named.get("default")
        return template if isinstance(template, str) else None

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            # tokenizers raises bare Exceptions, and where it panics what is no Exception at all.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelUnavailable(f"{str(self._path)!r}: its tokenizer {what}: {reason}") from error


def _config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        config |= described(path, file) or {}
    return config


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    tokens = {name: _content(value) for name, value in config.items() if name.endswith("_token")}
    return {name: content for name, content in tokens.items() if content is not None}


def _names(config: dict[str, Any]) -> Iterator[str]:
    """Yield the tokens that a tokenizer's config lists beside its special tokens."""
    for key in ("additional_special_tokens", "extra_special_tokens", "added_tokens_decoder"):
        listed = config.get(key)
        for value in listed.values() if isinstance(listed, dict) else listed if isinstance(listed, list) else ():
            if content := _content(value):
                yield content


def _content(token: Any) -> str | None:
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _token_ids(config: dict[str, Any]) -> set[Any]:
    """Return the ids that a config names: `eos_token_id`, `image_token_id`, … in any of its parts."""
    ids: set[Any] = set()
    for key, value in config.items():
        if isinstance(value, dict):
            ids |= _token_ids(value)
        elif key.endswith("_token_id"):
            ids |= {token_id for token_id in (value if isinstance(value, list) else [value]) if is_token_id(token_id)}
    return ids
