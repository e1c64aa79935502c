"""GGUF files in use: nothing is left on disk, what they say is a directory's, and no answer outlives a change."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from support.gguf_files import write_gguf
from support.gguf_models import write_model
from support.program import Outcome
from support.tiny_models import make

from llmpar.errors import EngineFailed, ModelUnavailable
from llmpar.models import cache, convert, needs, registry
from llmpar.models.configuration import chat_template, deciding_files, described, stop_ids
from llmpar.models.gguf.file import open_file
from llmpar.models.grammar import Grammar, choices_rule
from llmpar.models.load import load_model
from llmpar.models.tokenizer import ChatTokenizer

TEXTS = ["", "x1234", "x  7", "e\u0301 <|im_end|><think>", " the 12\n\n<|im_start|>", "日本語🙂", "<|endoftext|>"]
ASKED = ("run", "Say {text}", "-u", "line", "--max-new-tokens", "6", "--device", "cpu", "-j", "1", "--retries", "0")


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where llmpar keeps models, a directory that is not there yet."""
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMPAR_STATE", str(tmp_path / "state"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", "Q8_0")


@pytest.fixture
def directory(tmp_path: Path, file: Path) -> Path:
    """Return what an earlier version made of the file."""
    (tmp_path / "made").mkdir()
    convert.from_gguf(file, tmp_path / "made", lambda _: None)
    return tmp_path / "made"


def test_it_is_used_as_it_is_and_nothing_is_kept(file: Path, kept: Path) -> None:
    said: list[str] = []
    files = registry.resolve(str(file), notify=said.append)
    assert files == cache.ModelFiles("tiny.gguf", file, 8)
    loaded = load_model(file, "cpu", "int8", 8)
    assert loaded.stop_ids == {2, 0}
    assert loaded.context_length == 128
    assert said == []
    assert not kept.exists()


def test_an_encoder_is_refused_by_its_vocabulary(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "encoder.gguf", "bert")
    writer.add_tokenizer_model("bert")
    writer.add_token_list(["[PAD]", "##s"])
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(
        ModelUnavailable, match=r"'encoder\.gguf': has the vocabulary of an encoder \(WordPiece, 'bert'\)"
    ):
        registry.resolve(str(tmp_path / "encoder.gguf"))


def test_gpt_oss_is_refused_by_name_with_what_is_read_instead(tmp_path: Path, kept: Path) -> None:
    path = tmp_path / "oss.gguf"
    writer = gguf.GGUFWriter(path, "gpt-oss")
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelUnavailable, match=r"'gpt-oss' is not read; take .*MXFP4.* server answer"):
        registry.resolve(str(path))


def test_it_says_what_the_directory_made_of_it_says(file: Path, directory: Path) -> None:
    own, made = described(file, "config.json"), described(directory, "config.json")
    assert own is not None
    assert made is not None
    assert own.pop("rms_norm_eps") == pytest.approx(made.pop("rms_norm_eps"))  # rounded to 32 bits there
    for key in own.keys() & made.keys() - {"eos_token_id", "pad_token_id"}:
        assert own[key] == made[key], key
    assert described(file, "tokenizer_config.json") == described(directory, "tokenizer_config.json")
    assert described(file, "special_tokens_map.json") is None
    assert chat_template(file) == chat_template(directory) is not None
    assert stop_ids(file) == stop_ids(directory)
    assert deciding_files(file) == (file,)


def test_its_tokenizer_is_that_of_the_directory(file: Path, directory: Path) -> None:
    own, made = ChatTokenizer(file), ChatTokenizer(directory)
    assert own.control_ids == made.control_ids
    assert own.stop_ids == made.stop_ids
    for text in TEXTS:
        assert own.encode(text) == made.encode(text)
        assert own.encode_data(text) == made.encode_data(text)
        assert own.control_ids.isdisjoint(own.encode_data(text))
        assert own.decode(own.encode_data(text)) == made.decode(made.encode_data(text))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])  # in int8 each keeps what it has
def test_answers_are_those_of_the_directory(
    llmpar: Callable[..., Outcome], file: Path, directory: Path, precision: str
) -> None:
    lines = b"A first line.\nAnother one.\nThe last.\n"
    own = llmpar(*ASKED, "-m", str(file), "--precision", precision, "--no-store", stdin=lines)
    made = llmpar(*ASKED, "-m", str(directory), "--precision", precision, "--no-store", stdin=lines)
    assert own.code in (0, 3)
    assert (own.code, own.out) == (made.code, made.out)


def test_tokens_are_counted_without_weights(
    llmpar: Callable[..., Outcome], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmpar.models.load.load_model", None)
    outcome = llmpar(*ASKED, "-m", str(file), "--dry-run", stdin=b"A first line.\nAnother one.\n")
    assert outcome.code == 0
    assert b"tokens to read       36" in outcome.out


def test_a_vocabulary_of_another_kind_is_left_to_transformers(tmp_path: Path, kept: Path) -> None:
    said: list[str] = []
    path = registry.resolve(str(write_gguf(tmp_path / "odd.gguf", pre="viking")), notify=said.append).path
    assert said == ["'odd.gguf': tokenizer kind 'viking' left to transformers' own conversion"]
    tokenizer = ChatTokenizer(path)
    for text in TEXTS:
        assert tokenizer.control_ids.isdisjoint(tokenizer.encode_data(text))
    assert not kept.exists()


def test_what_an_earlier_version_made_of_it_is_told_and_still_opens(file: Path) -> None:
    entry = registry.resolve(str(write_gguf(file, "Q8_0", known=False))).path
    write_gguf(file, "Q8_0")
    key = cache.gguf_key(file)
    entry.rename(entry.with_name(key))
    said: list[str] = []
    assert registry.resolve(str(file), notify=said.append).path == file
    assert said == [
        f"'tiny.gguf' is used as it is; `llmpar models remove {key}` deletes what an earlier version made of it"
    ]
    registry.remove(str(file))
    assert cache.entries() == []


def test_a_directory_is_made_of_it_where_one_is_wanted(file: Path) -> None:
    files = registry.resolve(str(file), expanded=True)
    assert (files.name, files.path.is_dir(), files.source_bits) == ("tiny.gguf", True, 8)
    assert registry.resolve(str(file)).path == file


def test_constraints_are_those_of_the_directory(file: Path, directory: Path) -> None:
    rule = choices_rule(["1234", "<|im_end|>", "the  7"])
    masks = []
    for path in (file, directory):
        tokenizer = ChatTokenizer(path)
        constraint = Grammar(path, 270, stop_ids(path), rule, tokenizer.control_ids).constrain()
        masks.append(constraint.allowed(tokenizer.encode_data("12")))
    own, made = ([mask.tolist() for mask in found] for found in masks)
    assert own == made


def test_a_link_is_as_good(tmp_path: Path, file: Path) -> None:
    blob = file.rename(tmp_path / "0123abcd")  # as the model hub's cache keeps it
    (tmp_path / "linked.gguf").symlink_to(blob)
    path = registry.resolve(str(tmp_path / "linked.gguf")).path
    assert path == tmp_path / "linked.gguf"
    assert stop_ids(path) == {2, 0}


def test_verify_looks_at_a_file_that_is_used_as_it_is(llmpar: Callable[..., Outcome], file: Path) -> None:
    assert llmpar("models", "verify", str(file)).out == b"everything is as it was kept\n"
    file.write_bytes(file.read_bytes()[:-100])
    assert llmpar("models", "verify", str(file)).code == 69
    with pytest.raises(ModelUnavailable, match="in the cache"):
        registry.remove(str(write_gguf(file)))


@pytest.mark.parametrize("told", [{"tokens": 7}, {"tokens": [1, 2]}, {"token_type": "x"}, {"merges": 1.5}])
def test_values_of_other_types_are_damage(file: Path, told: dict) -> None:
    open_file(file).fields.update({f"tokenizer.ggml.{name}": value for name, value in told.items()})
    with pytest.raises(ModelUnavailable, match=r"tiny\.gguf"):
        ChatTokenizer(file)
    if told == {"tokens": 7}:
        with pytest.raises(ModelUnavailable, match=r"'tiny\.gguf' is damaged: it says what cannot be"):
            stop_ids(file)


def test_one_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", make("llama"))
    with pytest.raises(ModelUnavailable, match=r"'m\.gguf' is damaged: it does not say tokenizer\.ggml\.tokens"):
        registry.resolve(str(path))


def test_a_change_while_it_is_used_is_found(file: Path) -> None:
    foundation = load_model(file, "cpu", "int8", 8).foundation
    foundation.confirm()
    os.utime(file, ns=(10**18 + 1, 10**18 + 1))
    with pytest.raises(EngineFailed, match=r"tiny\.gguf' was changed while it was in use"):
        foundation.confirm()


def test_room_is_asked_for_before_anything_is_loaded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "available_memory", lambda: 1000)
    with pytest.raises(ModelUnavailable, match=r"'tiny\.gguf': needs about 0\.5 GB"):
        load_model(file, "cpu", "bf16", 8)
