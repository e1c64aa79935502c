"""A model whose only vocabulary is a `tokenizer.model` of SentencePiece, as Llama 2 and Mistral came, is opened."""

from __future__ import annotations

import io
import json
from copy import deepcopy
from pathlib import Path

import pytest
import sentencepiece
from support.tiny_models import make

from llmpar.models.registry import resolve
from llmpar.models.tokenizer import ChatTokenizer

TEXT = "The harbour is quiet. Boats come in with the tide, and the clock strikes seven over 12 houses."


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "old"
    deepcopy(make("llama")).save_pretrained(path)
    vocabulary = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT] * 20),
        model_writer=vocabulary,
        vocab_size=290,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,  # both as Llama has it
        minloglevel=2,
    )
    (path / "tokenizer.model").write_bytes(vocabulary.getvalue())
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    return path


def test_it_cuts_text_as_sentencepiece_does(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))
    tokenizer = ChatTokenizer(resolve(str(directory), offline=True).path)
    expected = sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
    for text in (TEXT, "Zürich 我 tide\n tide", "two  spaces"):  # transformers adds no space to one that begins so
        ids = tokenizer.encode_data(text)
        assert list(ids) == expected.encode(text)
        assert tokenizer.decode(ids).strip() == text.strip()
