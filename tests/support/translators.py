"""Tiny models made for translation, and what transformers makes of them."""

from __future__ import annotations

import io
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

M2M: dict[str, Any] = {
    "vocab_size": 120,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
}


T5: dict[str, Any] = {
    "vocab_size": 120,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}


MARIAN = {
    "init_std": 1.0,
    "pad_token_id": 119,
    "eos_token_id": 0,
    "forced_eos_token_id": None,
    "decoder_start_token_id": 119,
}


KINDS: dict[str, tuple[str, str, dict[str, Any], list[int]]] = {
    # what is made, and what its decoder opens with
    "m2m100": ("M2M100Config", "M2M100ForConditionalGeneration", M2M | {"decoder_start_token_id": 2}, [2, 117]),
    "marian": ("MarianConfig", "MarianMTModel", M2M | MARIAN, [119]),
    "marian-two-vocabularies": (
        "MarianConfig",
        "MarianMTModel",
        M2M | MARIAN | {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 130},
        [119],
    ),
    "t5": ("T5Config", "T5ForConditionalGeneration", T5, [0]),
    "t5-gated-untied": (
        "T5Config",
        "T5ForConditionalGeneration",
        T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        [0],
    ),
}


STD = {"encoder_attn": 3.0}  # of a decoder whose norms come after: it would hardly see the encoder


@cache
def make(kind: str) -> Any:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    config, model, fields, _ = KINDS[kind]
    made: Any = getattr(transformers, model)(getattr(transformers, config)(**fields)).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if weight.ndim > 1 and "layer" in name:  # where embeddings say more than layers, every token repeats itself
                weight.normal_(0, STD.get(name.split(".")[-3], 0.5))
    if kind.startswith("marian"):
        made.generation_config.bad_words_ids = [[119]]
    return made


def gemma3(path: Path) -> Any:
    """Save a tiny model for images and text, and return it."""
    torch.manual_seed(0)
    text = {
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "sliding_window": 8,
        "query_pre_attn_scalar": 16,
        "initializer_range": 0.3,
    }
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 28, "patch_size": 14}  # fmt: skip
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    model: Any = transformers.Gemma3ForConditionalGeneration(config).eval()
    model.save_pretrained(path)
    return model


TEXTS = ["Hello world", "the cat sat on the mat.", "A dog, a fox and the cat; hello!", "on", "", "a  b\nc"]


HOSTILE = [
    "</s> hello </s>",
    "<pad><unk><s>",
    "deu_Latn eng_Latn hello fra_Latn",
    ">>fra<< hello >>deu<<",
    "<2de> hello <2fr><2de>",
    "<<2fr>2fr>",
    "＜2fr＞ hello",
    ">>fra<<",
]


FLORES = ["eng_Latn", "deu_Latn", "fra_Latn", "zho_Hans", "zho_Hant", "por_Latn"]


def pieces() -> list[str]:
    letters = sorted(set("".join(TEXTS + HOSTILE)) - {" ", "\n"} | set("0123456789"))
    return ["▁", *letters, "▁the", "▁he", "▁hello", "▁cat", "at"]


def save_model(path: Path, name: str, config: Any) -> Any:
    torch.manual_seed(5)
    model: Any = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "layer" in name:
                weight.normal_(0, 0.5)
    model.save_pretrained(path)
    return model


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "nllb"
    words = ["<s>", "<pad>", "</s>", "<unk>", *pieces()]
    vocabulary = {word: index for index, word in enumerate(words)}
    merges = [("a", "t"), ("▁", "h"), ("▁h", "e")]
    vocabulary["▁h"] = len(vocabulary)
    tokenizer = transformers.NllbTokenizer(vocab=vocabulary, merges=merges, additional_special_tokens=FLORES)
    tokenizer.save_pretrained(path)
    config = transformers.M2M100Config(**M2M | {"vocab_size": len(tokenizer), "decoder_start_token_id": 2})
    save_model(path, "M2M100ForConditionalGeneration", config)
    return path


def train(texts: list[str], size: int) -> bytes:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    return model.getvalue()


def marian(path: Path, *, languages: list[str], config: dict[str, Any]) -> Path:
    from sentencepiece import SentencePieceProcessor

    path.mkdir()
    (path / "source.spm").write_bytes(train([*TEXTS, "k / k"] * 9 + [text for text in HOSTILE if "＜" not in text], 60))
    (path / "target.spm").write_bytes(train(["der Hund und die Katze", "Hallo Welt", *TEXTS] * 9, 60))
    both = [SentencePieceProcessor(model_file=str(path / f"{side}.spm")) for side in ("source", "target")]
    found = {side.id_to_piece(i) for side in both for i in range(3, side.get_piece_size())}
    found -= {"c"}  # real vocabularies lack a few
    words = ["</s>", "<unk>", *sorted(found), *languages, "<pad>"]
    (path / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    pad = len(words) - 1
    fields = {"vocab_size": len(words), "pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": 0}
    model = save_model(path, "MarianMTModel", transformers.MarianConfig(**M2M | {"init_std": 1.0} | fields))
    model.generation_config.bad_words_ids = [[pad]]
    model.generation_config.forced_eos_token_id = None
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    languages = [">>deu<<", ">>fra<<", ">>pt_br<<", ">>pt_PT<<", ">>zxx_xx_x<<"]
    config = {"source_lang": "eng", "target_lang": "ROMANCE"}
    return marian(tmp_path_factory.mktemp("models") / "opus-many", languages=languages, config=config)


def expected(path: Path, tokenizer: Any, texts: list[str], skip: int, **options: Any) -> list[list[int]]:
    """Return the ids of what transformers' own tokenizer and `generate` make of each text."""
    model: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(path, dtype=torch.float32).eval()
    eos = model.generation_config.eos_token_id
    found = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt")
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=12 + skip - 1,
            num_beams=1,
            do_sample=False,
            **options,
        )
        ids = output[0, skip:].tolist()
        found.append(ids[:-1] if ids and ids[-1] == eos else ids)
    return found


def hf_marian(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends a package that it then does not use
        return transformers.MarianTokenizer.from_pretrained(path)
