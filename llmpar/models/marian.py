"""Text ↔ ids for Marian models: a SentencePiece model for each side, and a vocabulary that numbers their pieces.

Transformers has no tokenizer.json for these: the vocabulary does not follow the order of either SentencePiece model,
and lacks some of their pieces, which then are unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmpar.errors import ModelUnavailable
from llmpar.models.configuration import is_token_id, read_json

_LANGUAGE = re.compile(r">>([A-Za-z0-9_-]+)<<")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE = "▁"


class MarianVocabulary:
    """Encodes text that is data, and decodes answers. Safe for any number of threads.

    Args:
        path: a model directory with `source.spm`, `target.spm` and `vocab.json`.

    Raises:
        ModelUnavailable: one of them is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        config = read_json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").exists() else {}
        self._ids = _numbers(path / "vocab.json")
        written = _numbers(path / "target_vocab.json") if config.get("separate_vocabs") else self._ids
        self._pieces = {token_id: piece for piece, token_id in written.items()}
        self.languages = {match[1]: token_id for piece, token_id in self._ids.items() if (match := _name(piece))}
        special = ["<unk>", "</s>", "<pad>"]
        if missing := [piece for piece in special[:2] if piece not in self._ids]:
            raise ModelUnavailable(f"{str(path / 'vocab.json')!r}: is damaged: it has no {missing[0]}")
        self._unknown = self._ids["<unk>"]
        self._control_ids = {*self.languages.values(), *(self._ids[piece] for piece in special if piece in self._ids)}
        self._silent = {piece for piece in written if piece in special or _name(piece)}
        self.end_id = self._ids["</s>"]
        self.stop_ids = frozenset({written.get("</s>", self.end_id)})
        self._source, self._target = _load(path / "source.spm"), _load(path / "target.spm")

    def encode_data(self, text: str) -> list[int]:
        """Return the ids of text that is data: none of them is a control token."""
        ids: list[int] = []
        for piece in self._source.encode(_SURROGATE.sub("\ufffd", text), out_type=str):
            token_id = self._ids.get(piece, self._unknown)
            if token_id not in self._control_ids or piece not in self._ids:
                ids.append(token_id)
            elif len(piece) > 1:  # cut in two, it is spelled with other pieces
                word, middle = piece.replace(_SPACE, " "), len(piece) // 2
                ids += self.encode_data(word[:middle]) + self.encode_data(word[middle:])
        return ids

    def decode(self, ids: Any) -> str:
        """Return the text of output ids, without control tokens."""
        pieces = [self._pieces[token_id] for token_id in ids if token_id in self._pieces]
        text: str = self._target.decode_pieces([piece for piece in pieces if piece not in self._silent])
        return text.replace(_SPACE, " ").strip()  # also of pieces that the SentencePiece model does not have

    def foresee(self, texts: Sequence[str]) -> None:
        """Do nothing: several at a time take as long as one by one."""

    def decode_all(self, outputs: Sequence[Any]) -> list[str]:
        """Return the texts of several answers' ids."""
        return list(map(self.decode, outputs))


def _name(piece: str) -> re.Match[str] | None:
    return _LANGUAGE.fullmatch(piece)


def _numbers(file: Path) -> dict[str, int]:
    numbers = read_json(file)
    if not all(map(is_token_id, numbers.values())):
        raise ModelUnavailable(f"{str(file)!r}: is damaged: not every piece has a number")
    return numbers


def _load(file: Path) -> Any:
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(file.read_bytes())
    except (OSError, RuntimeError) as error:
        raise ModelUnavailable(f"{str(file)!r}: cannot be read: {error}") from error
    return processor
