"""Packed weights and what loading makes of a directory: kept, mapped, made again when damaged, never in others' way."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.packs import same
from support.places import names
from support.tiny_models import PARAMS, answer, decoder

from llmpar.engine.cpu import instructions, packed
from llmpar.engine.cpu.model import CpuModel
from llmpar.engine.cpu.precision import PRECISIONS, precisions_from
from llmpar.engine.cpu.vector import HOST
from llmpar.engine.generic.model import TorchModel
from llmpar.engine.precision_names import PrecisionName
from llmpar.errors import ModelUnavailable
from llmpar.models import device_needs, devices, load
from llmpar.models import precision as precision_module
from llmpar.models.devices import find_devices
from llmpar.models.load import load_model


def sealed(header: bytes) -> bytes:
    """Return a header as `write` begins a file with it."""
    return hashlib.sha256(header).hexdigest().encode() + header


class TestPack:
    @pytest.mark.parametrize("name", ["llama-tied-bias", "gemma3", "smollm3-nope"])
    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_holds_what_was_written(self, tmp_path: Path, name: str, precision: PrecisionName) -> None:
        file, before = tmp_path / "pack", decoder(name, precision)
        packed.write(before, file)
        after = packed.read(file)
        assert same(after, before)
        assert after.head.weight.ctypes.data % 64 == 0, "vectors would straddle cache lines"
        assert answer(name, 2, 5, PARAMS, (), after) == answer(name, 2, 5, PARAMS, (), before)

    def test_is_read_as_what_is_compiled_already(self, tmp_path: Path) -> None:
        from numba import typeof

        packed.write(decoder("qwen3", "int8"), tmp_path / "pack")
        after, before = packed.read(tmp_path / "pack"), decoder("qwen3", "int8")
        for a, b in zip(after.layers, before.layers, strict=True):
            assert typeof(a.qkv[0].weights) == typeof(b.qkv[0].weights)
            assert typeof(a.head_norms) == typeof(b.head_norms)

    def test_a_header_with_a_wrong_byte_is_damage(self, tmp_path: Path) -> None:
        file = tmp_path / "pack"
        packed.write(decoder("llama"), file)
        content = file.read_bytes()
        for place in range(0, content.index(b"\n"), 7):
            damaged = bytearray(content)
            damaged[place] ^= 1 << place % 8
            file.write_bytes(damaged)
            with pytest.raises(packed.DamagedPack):
                packed.read(file)

    @pytest.mark.parametrize(
        "damage",
        ["absent", "directory", "empty", "header", "cut", "longer", "noise", "text", "list", "number", "format", "kind",
         "digest", "other-kind", "field", "dtype", "beyond"],
    )  # fmt: skip
    def test_anything_else_is_damage(self, tmp_path: Path, damage: str) -> None:
        file = tmp_path / "pack"
        packed.write(decoder("llama"), file)
        content = file.read_bytes()
        line, _, arrays = content.partition(b"\n")
        header = json.loads(line[64:])
        whole: dict[str, bytes] = {
            "empty": b"",
            "header": content[:100],
            "cut": content[:-1],
            "longer": content + b"\0",
            "noise": np.random.default_rng(0).bytes(5000),
            "text": b"a model of sorts\n",
            "list": sealed(b"[1]\n"),
            "number": sealed(b"7\n"),
            "digest": b"0" * 64 + content[64:],
        }
        tree = header["decoder"]
        if damage == "format":
            header["format"] += 1
        elif damage == "kind":
            tree["head"]["kind"] = "Path"
        elif damage == "other-kind":
            header["decoder"] = tree["head"]
        elif damage == "field":
            del tree["softcap"]
        elif damage == "dtype":
            tree["final_norm"]["dtype"] = "<f5"
        elif damage == "beyond":
            tree["final_norm"]["offset"] = len(arrays)
        if damage in {"absent", "directory"}:
            file.unlink()
            if damage == "directory":
                file.mkdir()
        else:
            file.write_bytes(
                whole.get(damage, sealed(json.dumps(header).encode().ljust(len(line) - 64) + b"\n") + arrays)
            )
        with pytest.raises(packed.DamagedPack, match=str(file)):
            packed.read(file)


@pytest.fixture
def entry(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model as an entry of the cache."""
    monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(tiny_model, tmp_path / "cache" / "models" / "tiny"))


class TestLoad:
    @pytest.fixture(autouse=True)
    def _lenient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take int4 although it moves random weights far."""
        monkeypatch.setitem(PRECISIONS, "int4", replace(PRECISIONS["int4"], tolerance=1.3))

    @pytest.mark.parametrize("precision", ["bf16", "int8", "int4"])
    def test_an_entry_is_packed_once(
        self, entry: Path, monkeypatch: pytest.MonkeyPatch, precision: PrecisionName
    ) -> None:
        said: list[str] = []
        before = names(entry)
        first = load_model(entry, "cpu", precision, notify=said.append)
        assert names(entry) - before == {f"pack-{precision}-{packed.FORMAT}"}
        monkeypatch.setattr(load, "_from_pretrained", None)  # the second time nothing else is read
        second = load_model(entry, "cpu", precision, notify=said.append)
        assert same(second.models, first.models)
        assert (second.context_length, second.stop_ids, second.precision) == (1024, frozenset({2}), precision)
        assert (first.context_length, first.stop_ids, first.precision) == (1024, frozenset({2}), precision)
        assert said == []

    def test_a_packed_model_is_loaded_without_torch(self, entry: Path) -> None:
        load_model(entry, "cpu", "int8")
        script = (
            "import sys\nfrom pathlib import Path\nfrom llmpar.models.load import load_model\n"
            "from llmpar.engine.build import build_engine\n"
            "loaded = load_model(Path(sys.argv[1]), 'cpu', 'int8')\n"
            "build_engine(loaded.models, loaded.context_length, loaded.stop_ids, 1, 1).close()\n"
            "print([m for m in ('torch', 'transformers', 'safetensors') if m in sys.modules])"
        )
        assert printed(script, str(entry)) == "[]"

    def test_damage_is_told_and_made_again(self, entry: Path) -> None:
        file = entry / f"pack-int8-{packed.FORMAT}"
        whole = load_model(entry, "cpu", "int8").models
        content = file.read_bytes()
        said: list[str] = []
        file.write_bytes(content[:-1])
        assert same(load_model(entry, "cpu", "int8", warn=said.append).models, whole)
        assert len(said) == 1
        assert str(file) in said[0]
        assert "making it again" in said[0]
        assert file.read_bytes() == content

    def test_packs_of_other_versions_go_and_those_of_other_precisions_stay(self, entry: Path) -> None:
        for name in ("pack-int8-0", "pack-bf16-0"):
            (entry / name).write_bytes(b"old")
        before = names(entry)
        load_model(entry, "cpu", "int8")
        assert names(entry) == before - {"pack-int8-0"} | {f"pack-int8-{packed.FORMAT}"}

    @pytest.mark.parametrize("place", ["open", "replace"])
    def test_what_cannot_be_written_is_told_and_no_error(
        self, entry: Path, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        reason, real = OSError(errno.EROFS, os.strerror(errno.EROFS)), getattr(Path, place)

        def fail(path: Path, *arguments: Any, **options: Any) -> Any:  # not by mode: root writes everywhere
            if "pack" in path.name and arguments != ("rb",):
                raise reason
            return real(path, *arguments, **options)

        monkeypatch.setattr(Path, place, fail)
        said: list[str] = []
        before = names(entry)
        loaded = load_model(entry, "cpu", "int8", notify=said.append)
        assert isinstance(loaded.models[0], CpuModel)
        assert names(entry) == before
        assert len(said) == 1
        assert "Read-only file system" in said[0]

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_nothing_is_written_into_others_directories(
        self, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: PrecisionName
    ) -> None:
        monkeypatch.setenv("LLMPAR_CACHE", str(tmp_path / "cache"))
        directory = Path(shutil.copytree(tiny_model, tmp_path / "models" / "tiny"))
        before = names(directory)
        assert load_model(directory, "cpu", precision).models[0].decoder.precision.name == precision
        assert names(directory) == before
        assert names(tmp_path / "cache") == {"plans" if precision == "fp32" else "packs"}

    def test_fp32_is_not_packed(self, entry: Path) -> None:
        before = names(entry)
        assert load_model(entry, "cpu", "fp32").precision == "fp32"
        assert names(entry) == before

    def test_a_model_of_another_shape_goes_through_torch_and_it_is_told(
        self, entry: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from llmpar.engine.cpu import from_transformers
        from llmpar.engine.parts import OtherShape

        def refuse(*_: object) -> None:
            raise OtherShape("it is too round")

        monkeypatch.setattr(from_transformers, "build_decoder", refuse)
        monkeypatch.setattr(instructions, "HERE", instructions.AVX512)
        monkeypatch.setitem(HOST, "avx512bf16", True)
        for precision, native in (("fp32", "fp32"), ("bf16", "bf16"), ("int8", "bf16"), ("int4", "bf16")):
            said: list[str] = []
            loaded = load_model(entry, "cpu", precision, notify=said.append)  # type: ignore[arg-type]
            assert str(loaded.models[0].module.dtype) == {"fp32": "torch.float32", "bf16": "torch.bfloat16"}[native]
            assert {str(buffer.dtype) for buffer in loaded.models[0].module.buffers()} == {"torch.float32"}, (
                "rotary frequencies"
            )
            assert (loaded.precision, loaded.context_length, loaded.stop_ids) == (native, 1024, frozenset({2}))
            assert len(said) == 1
            assert f"in {native}: it is too round" in said[0]

    @pytest.mark.parametrize(("asked", "taken"), [("int4", "int8"), ("int4", "bf16"), ("int8", "fp32")])
    def test_a_precision_that_is_too_far_off_leads_to_the_next_longer_one(
        self, entry: Path, monkeypatch: pytest.MonkeyPatch, asked: PrecisionName, taken: PrecisionName
    ) -> None:
        from llmpar.engine.cpu import from_transformers

        names_ = precisions_from(asked)
        refused = names_[: names_.index(taken)]
        for name in refused:
            monkeypatch.setitem(PRECISIONS, name, replace(PRECISIONS[name], tolerance=0))
        said: list[str] = []
        before = names(entry)
        loaded = load_model(entry, "cpu", asked, notify=said.append)
        assert loaded.precision == loaded.arithmetic == loaded.models[0].decoder.precision.name == taken
        assert [line.split()[0] for line in said] == list(refused)
        assert all("gives something else" in line for line in said)
        # What is kept is found by what was asked for; fp32 is not kept.
        kept = {f"pack-{asked}-{packed.FORMAT}"} if taken != "fp32" else set()
        assert names(entry) - before == kept
        if kept:
            monkeypatch.setattr(from_transformers, "build_decoder", None)
            said.clear()
            again = load_model(entry, "cpu", asked, notify=said.append)
            assert again.precision == taken
            assert same(again.models, loaded.models)
            assert [f"in {taken}" in line and f"in {asked}" in line for line in said] == [True]


@pytest.mark.parametrize("processor", ["AVX512", "AVX2", "PORTABLE"])
@pytest.mark.parametrize("has_bf16", [True, False])
def test_auto_is_no_less_precise_than_the_file_and_fast(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Path, processor: str, has_bf16: bool
) -> None:
    monkeypatch.setattr(instructions, "HERE", getattr(instructions, processor))
    monkeypatch.setitem(HOST, "avx2", True)
    monkeypatch.setitem(HOST, "avx512vnni", False)  # for int8, AVX2 is enough
    monkeypatch.setitem(HOST, "avx512bf16", has_bf16)
    monkeypatch.setattr(load, "_load_on_cpu", lambda _path, precision, *_, **__: precision)
    half = "bf16" if (has_bf16 and processor == "AVX512") or processor == "AVX2" else "fp32"
    few = "int8" if processor != "PORTABLE" else half
    for bits, expected in {4: few, 8: few, 9: half, 16: half, 17: "fp32", 32: "fp32", None: "fp32"}.items():
        assert load_model(tiny_model, "cpu", "auto", bits) == expected, bits
        for precision in PRECISIONS:
            assert load_model(tiny_model, "cpu", precision, bits) == precision, "who asks for one gets it"
    in_torch = load._torch_precision("int8")
    assert in_torch == ("bf16" if has_bf16 and processor == "AVX512" else "fp32"), "torch needs the instructions"


class TestDevice:
    def test_auto_without_an_accelerator_is_the_cpu_and_torch_is_not_asked(self) -> None:
        script = (
            "import sys\nfrom llmpar.models import devices\n"
            "devices._may_have_accelerator = lambda: False\n"
            "print(devices.find_devices('auto'), devices.find_devices('cpu'), 'torch' in sys.modules)"
        )
        assert printed(script) == "('cpu',) ('cpu',) False"

    @pytest.mark.parametrize(
        ("platform", "present", "expected"),
        [
            ("linux", [], False),
            ("linux", ["/dev/nvidiactl"], True),
            ("linux", ["/dev/dxg"], True),
            ("linux", ["/dev/kfd"], True),
            ("darwin", [], True),
        ],
    )
    def test_where_an_accelerator_may_be(
        self, monkeypatch: pytest.MonkeyPatch, platform: str, present: list[str], expected: bool
    ) -> None:
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(Path, "exists", lambda path: str(path) in present)
        assert devices._may_have_accelerator() is expected

    def test_what_torch_finds_is_chosen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        monkeypatch.setattr(devices, "_may_have_accelerator", lambda: True)
        found = {"cuda": 3, "mps": 1}
        monkeypatch.setattr(torch.cuda, "is_available", lambda: found["cuda"] > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: found["cuda"])
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: found["mps"] > 0)
        for name in ("auto", "cuda"):
            assert find_devices(name) == ("cuda:0", "cuda:1", "cuda:2")
        assert find_devices("cuda:1") == ("cuda:1",)
        with pytest.raises(ModelUnavailable, match=r"device cuda:3: not on this machine \(torch sees 3 CUDA\)"):
            find_devices("cuda:3")
        found["cuda"] = 0
        assert find_devices("auto") == ("mps",)
        found["mps"] = 0
        assert find_devices("auto") == ("cpu",)
        for name in ("cuda", "cuda:1", "mps"):
            with pytest.raises(ModelUnavailable, match=f"device {name}: not on this machine"):
                find_devices(name)

    @pytest.mark.parametrize(
        ("device", "capability", "precision", "said"),
        [
            ("mps", None, "int8", "precision int8: not on mps; use fp32 or bf16"),
            ("mps", None, "int4", "precision int4: not on mps; use fp32 or bf16"),
            ("mps", None, "fp8", "precision fp8: not on mps; use fp32 or bf16"),
            ("cpu", None, "fp8", "precision fp8: not on cpu; use fp32, bf16, int8 or int4"),
            (
                "cuda:0",
                (8, 6),
                "fp8",
                "fp8: cuda:0 has no such arithmetic, .* 8.9; use fp32, bf16, int8 or int4",
            ),
        ],
    )
    def test_what_a_device_lacks_is_refused_with_what_it_has(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tiny_model: Path,
        device: str,
        capability: tuple[int, int] | None,
        precision: PrecisionName,
        said: str,
    ) -> None:
        monkeypatch.setattr(precision_module, "find_devices", lambda _: (device,))
        monkeypatch.setattr(devices, "compute_capabilities", lambda: (capability,))
        with pytest.raises(ModelUnavailable, match=said):
            load_model(tiny_model, device, precision)

    @pytest.mark.parametrize(
        ("device", "capability", "said"),
        [
            ("cpu", None, "kv_cache=fp8: not on cpu, only on CUDA GPUs; leave it out"),
            ("mps", None, "kv_cache=fp8: not on mps, only on CUDA GPUs; leave it out"),
            ("cuda:0", (8, 6), "kv_cache=fp8: cuda:0 has no such numbers, .* 8.9; leave it out"),
        ],
    )
    def test_keys_of_8_bits_are_for_gpus_that_have_such(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tiny_model: Path,
        device: str,
        capability: tuple[int, int] | None,
        said: str,
    ) -> None:
        monkeypatch.setattr(precision_module, "find_devices", lambda _: (device,))
        monkeypatch.setattr(devices, "compute_capabilities", lambda: (capability,))
        with pytest.raises(ModelUnavailable, match=said):
            load_model(tiny_model, device, "fp32", kv_cache="fp8")

    def test_a_gpu_takes_every_precision(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(precision_module, "find_devices", lambda _: ("cuda:0", "cuda:1"))
        monkeypatch.setattr(devices, "compute_capabilities", lambda: ((9, 0), (8, 9)))
        for precision in ("fp32", "bf16", "fp8", "int8", "int4"):
            assert precision_module.find_arithmetic("cuda", precision, 4) == (("cuda:0", "cuda:1"), precision)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("bits", "sizes", "taken"),
        [(4, (10**12, 10**12), "bf16"), (4, (10**12, 10**6), "int8"), (16, (10**6, 10**6), "bf16"), (4, None, "bf16")],
    )
    def test_few_bits_stay_few_where_16_are_too_many_for_a_gpu(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tiny_model: Path,
        bits: int,
        sizes: tuple[int, int] | None,
        taken: PrecisionName,
    ) -> None:
        monkeypatch.setattr(precision_module, "find_devices", lambda _: ("cuda:0", "cuda:1"))
        monkeypatch.setattr(devices, "compute_capabilities", lambda: ((9, 0), (8, 9)))
        monkeypatch.setattr(device_needs, "memory_sizes", lambda: sizes)
        assert precision_module.find_arithmetic("cuda", "auto", bits, tiny_model)[1] == taken


class TestReplicas:
    """A CPU stands in for each device."""

    @pytest.fixture(autouse=True)
    def _two_devices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(precision_module, "find_devices", lambda _: ("cpu:0", "cpu:0"))

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_each_device_has_weights_of_its_own(
        self, tiny_model: Path, precision: PrecisionName, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[Path] = []
        real = load._from_pretrained
        monkeypatch.setattr(load, "_from_pretrained", lambda path, dtype: read.append(path) or real(path, dtype))
        first, second = (model.module for model in load_model(tiny_model, "cuda", precision).models)
        assert len(read) == 1, "the file is read once"
        ours, theirs = ({**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (first, second))
        assert any("inv_freq" in name for name in theirs)
        assert theirs.keys() == ours.keys()
        for name, tensor in theirs.items():
            assert tensor.data_ptr() != ours[name].data_ptr(), name
            assert (tensor.dtype, tensor.tolist()) == (ours[name].dtype, ours[name].tolist()), name
            assert not tensor.requires_grad
        assert not second.training
        second.set_attn_implementation("eager")
        assert (first.config._attn_implementation, second.config._attn_implementation) == ("sdpa", "eager")
        assert str(second.dtype) == {"fp32": "torch.float32", "bf16": "torch.bfloat16"}[precision]

    def test_weights_that_are_shared_stay_so(self) -> None:
        import transformers

        config = transformers.LlamaConfig(
            vocab_size=300, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            tie_word_embeddings=True,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
        copy = TorchModel(model).copy_to("cpu:0").module
        assert copy.lm_head.weight is copy.model.embed_tokens.weight
        assert copy.lm_head.weight.data_ptr() != model.lm_head.weight.data_ptr()

    @pytest.mark.parametrize("full", [{0}, {1}, {0, 1}])
    def test_a_device_without_room_is_left_out(
        self, full: set[int], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import torch

        tried: list[str] = []

        def put(real: Callable[..., Any], model: Any, device: str, *others: Any) -> Any:
            tried.append(device)
            if len(tried) - 1 in full:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nSee the documentation")
            return real(model, device, *others)

        for name in ("_put", "_copy"):
            monkeypatch.setattr(load, name, partial(put, getattr(load, name)))
        said: list[str] = []
        if len(full) == 1:
            assert len(load_model(tiny_model, "cuda", "fp32", warn=said.append).models) == 1
            assert said == ["cpu:0 has too little memory for the model, and is left out"]
        else:
            expected = r"cannot be put on cpu:0: CUDA out of memory.*name another"
            with pytest.raises(ModelUnavailable, match=expected) as told:
                load_model(tiny_model, "cuda", "fp32", warn=said.append)
            assert "\n" not in str(told.value)
            assert not said
        assert len(tried) == 2, "each device was tried"

    def test_a_device_that_fails_otherwise_is_named(self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(model: object, device: str) -> None:
            raise RuntimeError("CUDA error: the device is broken\nSee the documentation")

        monkeypatch.setattr(load, "_copy", broken)
        with pytest.raises(ModelUnavailable, match="cannot be put on cpu:0: CUDA error: the device is broken; name"):
            load_model(tiny_model, "cuda", "fp32")


def printed(script: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
