"""Target: quantised checkpoints that somebody damaged or made up. Their weights are read, or refused by name."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from fuzz.corpus import flip
from llmpar.engine.quantized import Quantized
from llmpar.errors import ModelUnavailable
from llmpar.models.checkpoints.opening import open_source

_MADE = sorted((Path(__file__).parent.parent / "models" / "checkpoints").glob("*/"))
_VALUES: list[Any] = [None, 0, -1, 1, 3, 8, 1 << 40, 1.5, float("nan"), True, "x", "", [], [1], [2, 3], {}, {"a": 1}]


def checkpoints(random: Random, record: dict[str, Any]) -> None:
    """Read the weights of a checkpoint with some of its bytes, tensors or options changed."""
    made = random.choice(_MADE)
    config = json.loads((made / "config.json").read_text())
    data = (made / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    change = random.randrange(4)
    if change == 0:
        _change(random, config["quantization_config"])
    elif change == 1:
        _change(random, header)
    elif change == 2:
        names = [name for name in header if name != "__metadata__"]
        header[random.choice(names)] = header[random.choice(names)]
        header.pop(random.choice(names))
    elif metadata := header.get("__metadata__"):
        name = random.choice(list(metadata))
        metadata[name] = flip(random, metadata[name].encode()).decode(errors="replace")
    told = json.dumps(header).encode()
    record["config"] = json.dumps(config)
    record["data"] = data = len(told).to_bytes(8, "little") + told + (flip(random, body) if change == 3 else body)
    place = Path(tempfile.mkdtemp(prefix="llmpar-fuzz-"))
    try:
        (place / "config.json").write_text(record["config"])
        (place / "model.safetensors").write_bytes(data)
        _read(place)
    finally:
        shutil.rmtree(place)


def _change(random: Random, content: Any) -> None:
    """Change or take away one value somewhere in a file's object."""
    places: list[tuple[Any, Any]] = []
    left = [content]
    while left:
        inner = left.pop()
        for key in inner if isinstance(inner, dict) else range(len(inner)):
            places.append((inner, key))
            if isinstance(inner[key], dict | list):
                left.append(inner[key])
    if places:
        owner, key = random.choice(places)
        if isinstance(owner, dict) and random.random() < 0.3:
            del owner[key]
        else:
            owner[key] = random.choice(_VALUES)


def _read(place: Path) -> None:
    with suppress(ModelUnavailable):
        source = open_source(place)
        assert source
        assert source.bits in (4, 5, 6, 7, 8, 16, 32)
        for name, shape in source.shapes.items():
            assert source.kind(name)
            read = source.rows(name, slice(None))
            assert (read.weights() if isinstance(read, Quantized) else read).shape == shape
            source.give_back(name)
