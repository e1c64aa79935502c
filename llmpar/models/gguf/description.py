"""What a GGUF file says that a model directory has in small files: sizes, special tokens, what ends an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llmpar.models.gguf.config import config_of
from llmpar.models.gguf.file import GgufFile
from llmpar.models.gguf.vocabulary import CONTROL, tokens_of_kind

# Control tokens that end an answer, whatever the file says; llama.cpp stops at the same ones.
END_OF_TURN = {
    "<|im_end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<end_of_turn>",
    "<turn|>",
    "<eos>",
    "</s>",
}


def describe(file: GgufFile, name: str) -> dict[str, Any] | None:
    """Return what the file of this name in a model directory would say; None if there would be none.

    Raises:
        OtherArchitecture: the model is of none that is known.
        Damaged: it lacks something.
    """
    teller = _TELLERS.get(name)
    return teller(file) if teller else None


def chat_template(file: GgufFile) -> str | None:
    """Return the template of a conversation, None if there is none."""
    template = file.fields.get("tokenizer.chat_template")
    return template if isinstance(template, str) and template else None


def ending_ids(fields: Mapping[str, Any]) -> list[int]:
    """Return the ids that end an answer, by a file's metadata: its own first."""
    own = [fields.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")]
    tokens = fields["tokenizer.ggml.tokens"]
    others = [index for index in tokens_of_kind(fields, CONTROL) if tokens[index] in END_OF_TURN]
    return list(dict.fromkeys(index for index in [*own, *others] if index is not None))


def special_tokens(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tokenizer_config.json would say, by a file's metadata."""
    tokens = fields.get("tokenizer.ggml.tokens", ())
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name, key in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items():
        index = fields.get(f"tokenizer.ggml.{key}_token_id")
        if index is not None and 0 <= index < len(tokens):
            config[f"{name}_token"] = tokens[index]
    length = fields.get(f"{fields.get('general.architecture')}.context_length")
    if length:
        config["model_max_length"] = length
    return config


def _generation(file: GgufFile) -> dict[str, Any]:
    ids = ending_ids(file.fields)
    return {
        "bos_token_id": file.fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": ids if len(ids) > 1 else next(iter(ids), None),
        "pad_token_id": file.fields.get("tokenizer.ggml.padding_token_id"),
    }


_TELLERS: dict[str, Callable[[GgufFile], dict[str, Any]]] = {
    "config.json": config_of,
    "generation_config.json": _generation,
    "tokenizer_config.json": lambda file: special_tokens(file.fields),
}
