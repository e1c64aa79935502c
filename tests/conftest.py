"""What tests share: a tiny model directory made here, a fake runner, and the command line in process."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.chat import CHATML, CONTROL
from support.program import Outcome

if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"  # kernels run on the CPU, then; Triton reads it when it is first imported

import pytest
from hypothesis import settings

from llmpar.paths import cache_dir

# Kernels are compiled once for all tests, also for those that give the cache another place.
os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_dir()))

# A test has no clock: an example that takes long on a busy machine is no failure.
settings.register_profile("without a clock", deadline=None)
settings.load_profile("without a clock")


# Files with tests that take ten seconds and more, the longest first.
LONG = (
    "engine/cpu/test_cpu_kernels.py",
    "engine/cpu/test_int4.py",
    "test_end_to_end.py",
    "answering/test_devices.py",
    "engine/ranks/test_tensor_parallel.py",
    "engine/cuda/test_cuda_engine.py",
    "engine/test_failover.py",
    "engine/test_finite.py",
    "engine/test_engine_faults.py",
    "documents/test_splitter.py",
    "test_kill.py",
    "test_untrusted.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long tests: at the end, a process that works on one of them would leave the others idle.

    Processes take tests over from the end of each other's lists, and those are short ones then.
    """
    place = {Path(__file__).parent / name: index for index, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("device"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU that torch sees")


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds the answers of another, nor leaves any behind."""
    monkeypatch.setenv("LLMPAR_STATE", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a random two-layer Llama, a byte-level tokenizer and a chat template."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tmp_path_factory.mktemp("models") / "tiny"
    vocabulary = {token: i for i, token in enumerate(CONTROL)}
    for char in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[char] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in CONTROL])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.4,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>"}))
    (path / "chat_template.jinja").write_text(CHATML)
    return path


@pytest.fixture
def llmpar(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """The command line in this process: llmpar("run", …, stdin=b"…") -> Outcome."""
    from llmpar.cli.main import run_command_line

    def call(*arguments: str, stdin: bytes | None = b"") -> Outcome:
        out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
        source = None if stdin is None else io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", source)
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            code = run_command_line(arguments)
        out.flush()
        return Outcome(code, out.buffer.getvalue(), err.getvalue())  # type: ignore[attr-defined]

    return call


@pytest.fixture
def shell() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """The command line in a process of its own: shell("run", …, input=b"…")."""

    def call(*arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, **options.pop("env", {})}  # type: ignore[dict-item]
        command = [sys.executable, "-m", "llmpar", *arguments]
        options.setdefault("timeout", 120)
        return subprocess.run(command, capture_output=True, env=environment, check=False, **options)  # type: ignore[call-overload]

    return call
