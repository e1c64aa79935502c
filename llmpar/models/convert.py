"""Make a directory of safetensors, tokenizer.json, config and chat template out of other forms.

So a GGUF file is used whose architecture is not known to `models.gguf`, which reads others as they are: its weights and
config go through transformers' GGUF support. Knows no cache.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import tempfile
from collections import Counter
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpar.engine.resources import available_memory
from llmpar.errors import LlmparError, ModelUnavailable, WriteFailed, setting
from llmpar.models.fetch import check_counts, is_write_failure
from llmpar.models.gguf.description import ending_ids, special_tokens
from llmpar.models.gguf.file import open_file
from llmpar.models.gguf.vocabulary import UnknownVocabulary, build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmpar.models.gguf.vocabulary import Vocabulary

_REFUSED = {"gpt-oss": "as openai/gpt-oss-20b, whose experts are in MXFP4"}
"""Architectures whose files would become many times as large in float32, and the directory that is read instead."""


def from_gguf(source: Path, destination: Path, notify: Callable[[str], None]) -> int | None:
    """Write `source`'s model into the existing directory `destination`; return the source's bits per weight.

    Quantised weights become float32, 16-bit ones stay as they are. Takes about 15 s for 135 M parameters, and
    as much memory as the result is large.

    Raises:
        ModelUnavailable: not GGUF, damaged, one part of several, or an architecture transformers cannot read.
        WriteFailed: a full disk, told by a library that hides the errno. OSErrors with one pass through.
    """
    file = open_file(source)
    if len(file.paths) > 1:
        raise ModelUnavailable(f"{source.name!r} is one part of several; join them with `llama-gguf-split --merge`")
    if file.architecture in _REFUSED:
        raise ModelUnavailable(
            f"{source.name!r}: a GGUF file of the architecture {file.architecture!r} is not read; take the model's "
            f"directory ({_REFUSED[file.architecture]}), or let a server answer that has the file "
            f"({setting('endpoints', option='--endpoint')})"
        )
    types: Counter[str] = Counter()
    for place in file.tensors.values():
        types[place.tensor.kind.name] += prod(place.tensor.shape)
    kind = types.most_common(1)[0][0] if types else "F32"
    with _translated(f"{source.name!r}: this GGUF file cannot be converted"), _alone(source) as alone:
        _check_room(source, types, kind)
        with _quiet():
            _save_weights(alone, destination, kind, ending_ids(file.fields), file.fields)
            try:
                _save_tokenizer(build(file.fields, opens=True), file.fields, destination)
            except UnknownVocabulary as unknown:
                _converted_tokenizer(alone).save_pretrained(destination)
                notify(f"{source.name!r}: tokenizer kind {unknown} left to transformers' own conversion")
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


def tokenizer_of(source: Path) -> str:
    """Return the description of a GGUF file's tokenizer as transformers converts it, for kinds that it alone knows.

    Raises:
        ModelUnavailable: transformers cannot, or the file is damaged.
    """
    with _translated(f"{source.name!r}: its tokenizer cannot be converted"), _alone(source) as alone, _quiet():
        description: str = _converted_tokenizer(alone).backend_tokenizer.to_str()
        return description


def _converted_tokenizer(alone: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        str(alone.parent), gguf_file=alone.name, trust_remote_code=False, local_files_only=True
    )


def _save_tokenizer(vocabulary: Vocabulary, fields: dict[str, Any], destination: Path) -> None:
    (destination / "tokenizer.json").write_text(vocabulary.whole.to_str(), encoding="utf-8")
    config = json.dumps(special_tokens(fields), indent=2)
    (destination / "tokenizer_config.json").write_text(config, encoding="utf-8")
    template = fields.get("tokenizer.chat_template")
    if template:
        (destination / "chat_template.jinja").write_text(template, encoding="utf-8")


def _check_room(source: Path, types: Counter[str], kind: str) -> None:
    """Raise ModelUnavailable if the weights of a file, as they are converted, are too large for memory."""
    num_weights, free = sum(types.values()), available_memory()
    needed = num_weights * (2 if kind in ("F16", "BF16") else 4)
    if needed > free:
        raise ModelUnavailable(
            f"{source.name!r}: needs about {needed / 1e9:.1f} GB of memory to be converted, and {free / 1e9:.1f} GB "
            f"are free; take a model of at most {num_weights * free / needed / 1e9:.2g} billion weights, or free some"
        )


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
