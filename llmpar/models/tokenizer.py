"""Text ↔ token ids for one model: its chat template around a user's text, which can never become a control token."""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from llmpar.errors import ModelUnavailable

# What stands for a text while the template is rendered. The text itself never passes through the template, so that
# nothing in it can be taken for markup, and what looks like this in it is not looked for.
_SYSTEM = "\ue000system\ue000"
_USER = "\ue000user\ue000"
_SLOT = re.compile(f"({_SYSTEM}|{_USER})")
_SURROGATE = re.compile("[\ud800-\udfff]")


class ChatTokenizer:
    """Encodes a user's message as the model's chat prompt, and decodes its answers. Safe for any number of threads.

    Args:
        path: a model directory with `tokenizer.json`.
        system: the system prompt, None for what the template says itself.

    Raises:
        ModelUnavailable: the tokenizer or the chat template is damaged.
    """

    def __init__(self, path: Path, system: str | None = None) -> None:
        from tokenizers import Tokenizer

        self._path = path
        self._system = system
        try:
            description = (path / "tokenizer.json").read_text(encoding="utf-8")
            self._tokenizer = Tokenizer.from_str(description)
            self._plain = _without_added_tokens(description)
        except Exception as error:  # tokenizers raises bare Exceptions
            raise ModelUnavailable(f"{path}: its tokenizer cannot be read: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._control_ids = frozenset(self._tokenizer.get_added_tokens_decoder())

    def encode(self, text: str) -> list[int]:
        """Return the ids of the whole prompt with `text` as the user's message."""
        ids: list[int] = []
        for part in self._template:
            ids += part if isinstance(part, list) else self.encode_data(text)
        return ids

    def encode_data(self, text: str) -> list[int]:
        """Return the ids of text that is data: none of them is an added token, special or not."""
        text = _SURROGATE.sub("\ufffd", text)
        encoding = self._plain.encode(text, add_special_tokens=False)
        ids: list[int] = encoding.ids
        if self._control_ids.isdisjoint(ids):
            return ids
        # Some vocabularies hold a control token's name as a word; cut in two, it is spelled with other tokens.
        cuts = [
            (first + last) // 2
            for token_id, (first, last) in zip(ids, encoding.offsets, strict=True)
            if token_id in self._control_ids and last - first > 1
        ]
        if not cuts:
            return [token_id for token_id in ids if token_id not in self._control_ids]
        pieces = [text[first:last] for first, last in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        return [token_id for piece in pieces for token_id in self.encode_data(piece)]

    def decode(self, ids: Any) -> str:
        """Return the text of output ids, without control tokens."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    @cached_property
    def _template(self) -> list[list[int] | None]:
        """The prompt's parts: ids, and None where the user's message goes."""
        parts: list[list[int] | None] = []
        for piece in _SLOT.split(self._rendered()):
            if piece == _USER:
                parts.append(None)
            elif piece == _SYSTEM:
                parts.append(self.encode_data(self._system or ""))
            elif piece:
                parts.append(self._tokenizer.encode(piece, add_special_tokens=False).ids)
        return parts

    def _rendered(self) -> str:
        template = self._chat_template()
        if template is None:
            return self._unformatted()
        user = [{"role": "user", "content": _USER}]
        if self._system is None:
            return self._render(template, user)
        try:
            return self._render(template, [{"role": "system", "content": _SYSTEM}, *user])
        except ModelUnavailable:
            # A template that knows no system role (Gemma): the instruction opens the user's message.
            return self._render(template, [{"role": "user", "content": f"{_SYSTEM}\n\n{_USER}"}])

    def _render(self, template: str, messages: list[dict[str, str]]) -> str:
        from jinja2 import TemplateError
        from transformers.utils import chat_template_utils

        render: Any = chat_template_utils.render_jinja_template
        try:
            rendered, _ = render(
                conversations=[messages],
                chat_template=template,
                add_generation_prompt=True,
                enable_thinking=False,
                **self._special_tokens,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise ModelUnavailable(f"{self._path}: its chat template fails: {error}") from error
        text: str = rendered[0]
        if any(message["role"] == role and slot not in text for role, slot in _SLOTS for message in messages):
            raise ModelUnavailable(f"{self._path}: its chat template leaves a message out")
        return text

    def _unformatted(self) -> str:
        # A model without a chat template continues text; it still expects the token its tokenizer puts first.
        opening = self._tokenizer.encode("", add_special_tokens=True).tokens
        bos = self._special_tokens.get("bos_token", "")
        begin = bos if bos in opening else ""
        return f"{begin}{_SYSTEM}\n\n{_USER}" if self._system else f"{begin}{_USER}"

    def _chat_template(self) -> str | None:
        file = self._path / "chat_template.jinja"
        if file.exists():
            return file.read_text(encoding="utf-8")
        template = self._config.get("chat_template")
        if isinstance(template, list):  # several by name; "default" is for chat
            template = next((entry["template"] for entry in template if entry.get("name") == "default"), None)
        return template if isinstance(template, str) else None

    @cached_property
    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {}
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            if (self._path / name).exists():
                try:
                    config |= json.loads((self._path / name).read_text(encoding="utf-8"))
                except ValueError as error:
                    raise ModelUnavailable(f"{self._path / name}: is damaged: {error}") from error
        return config

    @cached_property
    def _special_tokens(self) -> dict[str, str]:
        tokens = {}
        for name, value in self._config.items():
            if name.endswith("_token"):
                content = value.get("content") if isinstance(value, dict) else value
                if isinstance(content, str):
                    tokens[name] = content
        return tokens

    @property
    def stop_ids(self) -> frozenset[int]:
        """The id of the tokenizer's end-of-sequence token, if it names one."""
        token_id = self._tokenizer.token_to_id(self._special_tokens.get("eos_token", ""))
        return frozenset() if token_id is None else frozenset({token_id})


_SLOTS = (("user", _USER), ("system", _SYSTEM))


def _without_added_tokens(description: str) -> Any:
    from tokenizers import Tokenizer

    fields = json.loads(description)
    # Only their names are dropped: a model that holds them in its vocabulary keeps its numbering.
    fields["added_tokens"] = []
    fields["post_processor"] = fields["truncation"] = fields["padding"] = None
    return Tokenizer.from_str(json.dumps(fields))
