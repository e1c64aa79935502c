"""Target: text → token ids. No text makes a control token, and every text comes back."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from fuzz.corpus import mutated_text
from fuzz.tiny import write_directory
from llmpar.models.tokenizer import ChatTokenizer

_CONTROL = ("<|im_end|>", "<|im_start|>", "<|endoftext|>", "<think>", "<|im_", "end|>", "<|", "|>", "<thi", "nk>")
_SURROGATE = re.compile("[\ud800-\udfff]")


def tokens(random: Random, record: dict[str, Any]) -> None:
    """Document text is data, whatever it says."""
    tokenizer, control, frame = _tokenizer()
    text = mutated_text(random)
    for _ in range(random.choice((0, 0, 1, 5))):
        at = random.randint(0, len(text))
        text = text[:at] + random.choice(_CONTROL) + text[at:]
    record["text"] = text
    ids = tokenizer.encode_data(text)
    assert control.isdisjoint(ids), "a control token"
    assert tokenizer.decode(ids) == _SURROGATE.sub("\ufffd", text), "another text came back"
    assert [i for i in _prompt(tokenizer, text) if i in control] == frame, "a control token in the prompt"


@cache
def _tokenizer() -> tuple[ChatTokenizer, frozenset[int], list[int]]:
    from tokenizers import Tokenizer

    with tempfile.TemporaryDirectory() as directory:
        path = write_directory(Path(directory) / "tiny")
        # Asked of the library itself: what is under test does not say what a control token is.
        control = frozenset(Tokenizer.from_file(str(path / "tokenizer.json")).get_added_tokens_decoder())
        tokenizer = ChatTokenizer(path)
    assert len(control) > 3
    return tokenizer, control, [i for i in _prompt(tokenizer, "") if i in control]


def _prompt(tokenizer: ChatTokenizer, text: str) -> list[int]:
    return tokenizer.encode_messages([("system", "Be brief."), ("user", text)])
