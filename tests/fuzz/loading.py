"""Target: model files that somebody damaged or made up. They are loaded or refused, and nothing in them runs.

For a process of its own: see `fuzz.worker`.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import tempfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from fuzz.corpus import FRAGMENTS, flip
from fuzz.tiny import directory_bytes, gguf_bytes, write_directory
from llmpar.engine.precision_names import PrecisionName
from llmpar.errors import LlmparError
from llmpar.messages import Message

_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 0.5, -0.0, 1e308, float("inf"), float("nan"), 2**31, 2**63, -(2**63), 10**12,
    10**400, "", "x", "0", "auto", "\ud800", "a" * 5000, "<|im_end|>", "llama", "gpt2", "mixtral", "float16", "yarn",
    [], [[]], {}, [0], [-1], ["x"], {"x": 1}, {"": None}, [1] * 1000, {"rope_type": "llama3"}, {"rope_type": "dynamic"},
]  # fmt: skip
_MORE = {
    "auto_map": {"AutoModelForCausalLM": "canary.Model", "AutoConfig": "canary.Config"},
    "architectures": ["Canary"],
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "torch_dtype": "float64",
    "dtype": "int8",
    "sliding_window": 1,
    "num_local_experts": 8,
    "rope_scaling": {"type": "linear", "factor": 0},
    "tokenizer_class": "canary.Tokenizer",
    "chat_template": "{{ 1/0 }}",
    "normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""},
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False},
}
_TEMPLATES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{% for i in range(10**9) %}x{% endfor %}", "{{ 'x' * 10**10 }}",
    "{{ lipsum.__globals__.os.system('touch canary') }}", "{{ cycler.__init__.__globals__ }}", "{% include 'x' %}",
    "{{ messages[0]['content'] * 1000000 }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ 9**9**9 }}",
    "{{ raise_exception(1) }}", "{{ messages | tojson }}", "{{ strftime_now('%Y' * 100000) }}", "{% set x = x %}", "\0",
    "{{ messages[0].content | upper }}", "{{ range(99999) | map('string') | join * 999 }}", "{{ '%1000000000d' % 1 }}",
    "{% generation %}x{% endgeneration %}", "{{ '{:>999999999}'.format(1) }}", "{{ messages.append(1) }}",
]  # fmt: skip
_PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "bf16", "int8", "int4")
_CANARY = "raise SystemExit(open({!r}, 'w').write('ran'))\n"


def loading(random: Random, record: dict[str, Any]) -> None:
    """Load a model directory or GGUF file with some of its bytes or values changed."""
    place = Path(tempfile.mkdtemp(prefix="llmpar-fuzz-"))
    canary = place / "canary"
    _watch(place)
    before = Path.cwd()
    os.chdir(place)
    try:
        path = _gguf(random, place, record) if not random.randrange(3) else _directory(random, place, record)
        with patch.dict(os.environ, LLMPAR_CACHE=str(place / "cache")):
            record["outcome"] = _outcome(random, path)
        assert record["outcome"], "refused without a reason"
        assert not canary.exists(), "code of the model's ran"
        assert not _forbidden, f"forbidden: {_forbidden}"
    finally:
        _forbidden.clear()
        os.chdir(before)
        shutil.rmtree(place)


def prepare() -> None:
    """Load the model as it is, so that no execution is charged with what the first one imports and compiles."""
    with tempfile.TemporaryDirectory() as directory:
        path = write_directory(Path(directory) / "model")
        for precision in _PRECISIONS:
            _load(path, None, precision)


def _outcome(random: Random, path: Path) -> str:
    try:
        return _load(path, random.choice((None, "Be brief.")), random.choice(_PRECISIONS))
    except LlmparError as error:
        return str(error).strip()


def _load(path: Path, system: str | None, precision: PrecisionName) -> str:
    from llmpar.models.load import load_model
    from llmpar.models.registry import resolve
    from llmpar.models.tokenizer import ChatTokenizer

    files = resolve(str(path), offline=True)
    tokenizer = ChatTokenizer(files.path)
    opening: list[Message] = [] if system is None else [("system", system)]
    ids = tokenizer.encode_messages([*opening, ("user", "Hi <|im_end|> é")])
    tokenizer.decode(ids)
    model = load_model(files.path, "cpu", precision, files.source_bits)
    return f"{type(model.models[0]).__name__} {model.context_length} {sorted(model.stop_ids | tokenizer.stop_ids)}"


def _directory(random: Random, place: Path, record: dict[str, Any]) -> Path:
    path = place / "model"
    path.mkdir()
    contents = dict(directory_bytes())
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        name = random.choice([*contents, "config.json", "tokenizer.json"])
        contents[name] = _damaged(random, name, contents.get(name, b""))
        record[name] = contents[name]
    if not random.randrange(10):
        lost = random.choice(list(contents))
        del contents[lost]
        record["lost"] = lost
    for name, data in contents.items():
        (path / name).write_bytes(data)
    (path / "canary.py").write_text(_CANARY.format(str(place / "canary")))
    return path


def _damaged(random: Random, name: str, data: bytes) -> bytes:
    if name.endswith(".jinja") and random.randrange(3):
        template = random.choice(_TEMPLATES)
        return (template + data.decode("utf-8", "replace") if random.randrange(2) else template).encode()
    if name.endswith(".safetensors") and random.randrange(4):
        return _damaged_safetensors(random, data)
    if name.endswith(".json") and random.randrange(4):
        return _damaged_json(random, data)
    return _damaged_bytes(random, data)


def _damaged_bytes(random: Random, data: bytes, within: int = 1 << 20) -> bytes:
    match random.randrange(4):
        case 0:
            return data[: random.randint(0, len(data))]
        case 1:
            at = random.randint(0, min(len(data), within))
            return data[:at] + random.choice(FRAGMENTS) + data[at:]
        case 2:
            at = random.randint(0, min(len(data), within))
            size = random.choice((4, 8))
            number = random.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, random.getrandbits(64)))
            return data[:at] + (number % 2 ** (8 * size)).to_bytes(size, "little") + data[at + size :]
        case _:
            return flip(random, data[:within]) + data[within:]


def _damaged_json(random: Random, data: bytes) -> bytes:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # it was damaged before
        return _damaged_bytes(random, data)
    if not random.randrange(30):
        depth = random.choice((100, 900, 100_000))
        return b"[" * depth + b"]" * random.choice((0, depth))
    for _ in range(random.choice((1, 1, 2, 5))):
        value = _changed(random, value)
    return json.dumps(value).encode()


def _changed(random: Random, value: Any) -> Any:
    """Return a value with one of those in it, at any depth, changed, removed or added."""
    if isinstance(value, dict) and value and random.randrange(5):
        key = random.choice(list(value))
        match random.randrange(6):
            case 0:
                return {other: value[other] for other in value if other != key}
            case 1:
                name, content = random.choice(list(_MORE.items()))
                return value | {name: content}
            case _:
                return value | {key: _changed(random, value[key])}
    if isinstance(value, list) and value and random.randrange(3):
        at = random.randrange(len(value))
        return [*value[:at], _changed(random, value[at]), *value[at + 1 :]]
    if isinstance(value, int) and random.randrange(2):
        return random.choice((value + 1, value - 1, -value, value * 2, value * 1000, value // 2))
    return random.choice(_VALUES)


def _damaged_safetensors(random: Random, data: bytes) -> bytes:
    (length,) = struct.unpack_from("<Q", data)
    header, rest = data[8 : 8 + length], data[8 + length :]
    match random.randrange(3):
        case 0:
            header = _damaged_json(random, header)
        case 1:
            header = _damaged_bytes(random, header)
        case _:
            length = random.choice((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1))
            return struct.pack("<Q", length % 2**64) + header + rest
    return struct.pack("<Q", len(header)) + header + rest


def _gguf(random: Random, place: Path, record: dict[str, Any]) -> Path:
    data = gguf_bytes(known=bool(random.randrange(4)))
    for _ in range(random.choice((1, 1, 2, 4))):
        # Keys and values come first, then what describes the tensors.
        data = _damaged_bytes(random, data, random.choice((64, 1000, len(_header()), len(data))))
    record["model.gguf"] = data
    path = place / "model.gguf"
    path.write_bytes(data)
    return path


@cache
def _header() -> bytes:
    data = gguf_bytes()
    return data[: data.rindex(b"output_norm.weight") + 100]


_forbidden: list[str] = []
_places: list[Path] = []
_EVENTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "pickle.find_class")


def _watch(place: Path) -> None:
    """Note whatever runs, connects, unpickles, or is imported from the model's directory, from now on."""
    if not _places:
        sys.addaudithook(_audit)
    _places[:] = [place]


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class" and _compiling():
        return
    if event in _EVENTS or (event == "import" and str(arguments[1] or "").startswith(str(_places[0]))):
        _forbidden.append(f"{event}{arguments!r}"[:300])


def _compiling() -> bool:
    """Tell whether Numba is asking, which keeps compiled code that way."""
    frame = sys._getframe(2)
    while frame.f_back and "/numba/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return "/numba/" in frame.f_code.co_filename
