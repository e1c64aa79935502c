"""Make a directory of safetensors, tokenizer.json, config and chat template out of other forms.

Weights and config go through transformers' GGUF support. The tokenizer of the common byte-level vocabularies is
built here, because transformers' conversion does not know every `tokenizer.ggml.pre`. Knows no cache.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpar.engine.resources import available_memory
from llmpar.errors import LlmparError, ModelUnavailable, WriteFailed
from llmpar.models.fetch import check_counts, is_write_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokenizers import Tokenizer

CONTROL, USER_DEFINED = 3, 4  # gguf.TokenType
# How a byte-level vocabulary cuts text before it merges, by tokenizer.ggml.pre: only those known for certain.
DIGITS = {"smollm", "starcoder"}
GPT2 = {"gpt-2", "gpt2", "phi-2"}
LLAMA3 = {"llama-bpe", "llama3", "llama-v3"}
QWEN2 = {"qwen2", "deepseek-r1-qwen"}
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
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


def from_gguf(source: Path, destination: Path, notify: Callable[[str], None]) -> int | None:
    """Write `source`'s model into the existing directory `destination`; return the source's bits per weight.

    Quantised weights become float32, 16-bit ones stay as they are. Takes about 15 s for 135 M parameters, and
    as much memory as the result is large.

    Raises:
        ModelUnavailable: not GGUF, damaged, one part of several, or an architecture transformers cannot read.
        WriteFailed: a full disk, told by a library that hides the errno. OSErrors with one pass through.
    """
    with _translated(f"{source.name!r}: this GGUF file cannot be converted"), _alone(source) as source:
        fields, types = _read(source)
        if fields.get("split.count", 1) > 1:
            raise ModelUnavailable(f"{source.name!r} is one part of several; join them with `llama-gguf-split --merge`")
        kind = types.most_common(1)[0][0]
        _check_room(source, types, kind)
        ids = _ending_ids(fields)
        with _quiet():
            _save_weights(source, destination, kind, ids, fields)
            tokenizer = build_tokenizer(fields)
            if tokenizer is None:
                from transformers import AutoTokenizer

                known = AutoTokenizer.from_pretrained(
                    str(source.parent), gguf_file=source.name, trust_remote_code=False, local_files_only=True
                )
                known.save_pretrained(destination)
        if tokenizer is None:
            pre = fields.get("tokenizer.ggml.pre", fields.get("tokenizer.ggml.model"))
            notify(f"{source.name!r}: tokenizer kind {pre!r} left to transformers' own conversion")
        else:
            _save_tokenizer(tokenizer, fields, destination)
    bits = re.search(r"\d+", kind)
    return int(bits.group()) if bits else None


def with_fast_tokenizer(source: Path, destination: Path) -> None:
    """Give a model directory that has only another kind of tokenizer a tokenizer.json.

    `destination` gets the new tokenizer, copies of the small files and links to the weights.

    Raises:
        ModelUnavailable: transformers cannot convert the tokenizer, or there is none.
    """
    for path in source.iterdir():
        if path.suffix in {".json", ".jinja"} and not path.name.startswith(("tokenizer", "special_tokens", "vocab")):
            shutil.copyfile(path, destination / path.name)
        elif path.suffix == ".safetensors":
            (destination / path.name).symlink_to(path.resolve())
    with _translated(f"{str(source)!r}: its tokenizer cannot be made into tokenizer.json"), _quiet():
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False, local_files_only=True)
        if not getattr(tokenizer, "is_fast", False):
            raise ModelUnavailable(f"{str(source)!r}: its tokenizer runs only in Python; add a tokenizer.json")
        tokenizer.save_pretrained(destination)


def build_tokenizer(fields: dict[str, Any]) -> Tokenizer | None:
    """Build the tokenizer that a GGUF's metadata describes, or None if its kind is not one known here."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    pre = fields.get("tokenizer.ggml.pre")
    if fields.get("tokenizer.ggml.model") != "gpt2" or pre not in DIGITS | GPT2 | LLAMA3 | QWEN2:
        return None
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    vocab: dict[str, int] = {}
    for index, token in enumerate(tokens):
        vocab.setdefault(token, index)
    first, _, second = zip(*(merge.partition(" ") for merge in fields["tokenizer.ggml.merges"]), strict=True)
    # Llama 3 takes a word that is in the vocabulary whole, even where no chain of merges leads to it.
    bpe = models.BPE(vocab=vocab, merges=list(zip(first, second, strict=True)), ignore_merges=pre in LLAMA3)
    tokenizer = Tokenizer(bpe)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre in DIGITS | GPT2)
    if pre in GPT2:
        tokenizer.pre_tokenizer = byte_level
    elif pre in DIGITS:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    else:
        pattern = Regex(_CONTRACTION + (r"\p{N}{1,3}" if pre in LLAMA3 else r"\p{N}") + _REST)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(pattern, "isolated"), byte_level])
    if pre in QWEN2:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    kinds = fields.get("tokenizer.ggml.token_type", [])
    for token, kind in zip(tokens, kinds, strict=False):
        if kind == CONTROL:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    begin = fields.get("tokenizer.ggml.bos_token_id")
    if fields.get("tokenizer.ggml.add_bos_token", pre in LLAMA3) and begin is not None:
        token = tokens[begin]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[token, "$A"], pair=[token, "$A", token, "$B"], special_tokens=[(token, begin)]
        )
    return tokenizer


def _save_tokenizer(tokenizer: Tokenizer, fields: dict[str, Any], destination: Path) -> None:
    tokens = fields["tokenizer.ggml.tokens"]
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name, key in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items():
        index = fields.get(f"tokenizer.ggml.{key}_token_id")
        if index is not None and 0 <= index < len(tokens):
            config[f"{name}_token"] = tokens[index]
    length = fields.get(f"{fields['general.architecture']}.context_length")
    if length:
        config["model_max_length"] = length
    (destination / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    (destination / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    template = fields.get("tokenizer.chat_template")
    if template:
        (destination / "chat_template.jinja").write_text(template, encoding="utf-8")


def _read(source: Path) -> tuple[dict[str, Any], Counter[str]]:
    """Return the file's metadata, and how many weights it stores in each type."""
    from gguf import GGUFReader

    class Reader(GGUFReader):  # type: ignore[misc]  # untyped
        def _get(self, offset: int, dtype: Any, count: int = 1, **more: Any) -> Any:
            got = super()._get(offset, dtype, count, **more)
            if len(got) < count:  # numpy gives nothing beyond the end, as often as a damaged file asks for it
                raise ModelUnavailable(f"{source.name!r} is truncated or damaged; fetch it again")
            return got

    reader = Reader(source)
    types: Counter[str] = Counter()
    for tensor in reader.tensors:
        types[tensor.tensor_type.name] += int(tensor.n_elements)
    return {key: field.contents() for key, field in reader.fields.items()}, types


def _check_room(source: Path, types: Counter[str], kind: str) -> None:
    """Raise ModelUnavailable if the weights of a file, as they are converted, are too large for memory."""
    num_weights, free = sum(types.values()), available_memory()
    needed = num_weights * (2 if kind in ("F16", "BF16") else 4)
    if needed > free:
        raise ModelUnavailable(
            f"{source.name!r}: needs about {needed / 1e9:.1f} GB of memory to be converted, and {free / 1e9:.1f} GB "
            f"are free; take a model of at most {num_weights * free / needed / 1e9:.2g} billion weights, or free some"
        )


def _ending_ids(fields: dict[str, Any]) -> list[int]:
    """Return the ids that end an answer, the file's own first."""
    own = [fields.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")]
    pairs = zip(fields["tokenizer.ggml.tokens"], fields.get("tokenizer.ggml.token_type", []), strict=False)
    others = [index for index, (token, kind) in enumerate(pairs) if kind == CONTROL and token in END_OF_TURN]
    return list(dict.fromkeys(index for index in [*own, *others] if index is not None))


def _save_weights(source: Path, destination: Path, kind: str, ids: list[int], fields: dict[str, Any]) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    dtype = {"F16": torch.float16, "BF16": torch.bfloat16}.get(kind, torch.float32)
    config = AutoConfig.from_pretrained(
        str(source.parent), gguf_file=source.name, trust_remote_code=False, local_files_only=True
    )
    check_counts(config.to_dict(), source.name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    # Not `from_pretrained(gguf_file=…)`: that wants accelerate, and what it loads cannot be saved since it counts
    # as quantised. This is the function underneath.
    checkpoint = load_gguf_checkpoint(  # type: ignore[no-untyped-call]
        str(source), return_tensors=True, model_to_load=model, torch_dtype=dtype
    )
    model.load_state_dict(checkpoint["tensors"], strict=False, assign=True)
    model.tie_weights()
    absent = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if absent:
        raise ModelUnavailable(f"{source.name!r} has no weights for {absent[0]} ({len(absent)} missing)")
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=fields.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=ids if len(ids) > 1 else next(iter(ids), None),
        pad_token_id=fields.get("tokenizer.ggml.padding_token_id"),
    )
    model.save_pretrained(destination)


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except LlmparError:
        raise
    except Exception as error:  # three libraries read a file that anybody may have written
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if is_write_failure(str(error)):
            raise WriteFailed(f"the model cache cannot be written: {reason}") from error
        raise ModelUnavailable(f"{what}: {reason}") from error


@contextlib.contextmanager
def _alone(source: Path) -> Iterator[Path]:
    """Give a path to a file in a directory without others, because transformers heeds those, even code, beside it."""
    with tempfile.TemporaryDirectory(prefix="llmpar-") as directory:
        alone = Path(directory) / source.name
        alone.symlink_to(source.resolve())
        yield alone


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' progress bars and advice off stderr, which belongs to the command line."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
