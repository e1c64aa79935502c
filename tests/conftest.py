"""What tests share: a tiny model directory made here, a fake runner, and the command line in process."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"  # kernels run on the CPU, then; Triton reads it when it is first imported

import pytest

from llmpar.engine.request import Request, Sequence

ROOT = Path(__file__).parent.parent
# Documents: requests are for llmpar batch alone, and no text.
SAMPLES = sorted(path for path in (ROOT / "sample_data").iterdir() if path.name != "requests.jsonl")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


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


class FakeRunner:
    """A runner without a model: each answer follows from its prompt alone, a token a step, after a random delay.

    Args:
        num_slots: sequences at a time.
        delay: the longest pause of a step, in seconds.
        fail_at: the step from which on all raise.
    """

    continuous = True

    def __init__(self, num_slots: int = 4, delay: float = 0.0, fail_at: int | None = None, seed: int = 0) -> None:
        self.num_slots = num_slots
        self.most_live = 0
        self._delay = delay
        self._fail_at = fail_at
        self._random = random.Random(seed)
        self._steps = 0
        self._live: list[Sequence] = []

    def start(self) -> None:
        pass

    def reserve(self, request: Request) -> bool:
        return True

    def resize(self, num_slots: int) -> None:
        assert not self._live
        self.num_slots = num_slots

    def prefill(self, sequences: list[Sequence]) -> None:
        assert len(self._live) + len(sequences) <= self.num_slots
        self._live += sequences
        self.most_live = max(self.most_live, len(self._live))
        self._step(sequences)

    def decode(self, sequences: list[Sequence]) -> None:
        assert {id(s) for s in sequences} == {id(s) for s in self._live}
        self._step(sequences)

    def release(self, sequence: Sequence) -> None:
        self._live.remove(sequence)

    def _step(self, sequences: list[Sequence]) -> None:
        self._steps += 1
        if self._delay:
            time.sleep(self._random.random() * self._delay)
        if self._fail_at and self._steps >= self._fail_at:
            raise RuntimeError("the device is on fire")
        for sequence in sequences:
            answer = fake_answer(sequence.request.prompt_ids)
            done = len(sequence.output_ids)
            sequence.append(answer[done] if done < len(answer) else -1, frozenset({-1}))


class LoopingRunner(FakeRunner):
    """A FakeRunner that answers prompts beginning with "loop" with "abab…" without end."""

    def _step(self, sequences: list[Sequence]) -> None:
        looping = [sequence for sequence in sequences if bytes(sequence.request.prompt_ids).startswith(b"loop")]
        for sequence in looping:
            num_answered = sequence.request.num_answered + len(sequence.output_ids)
            sequence.append(b"ab"[num_answered % 2], frozenset({-1}))
        super()._step([sequence for sequence in sequences if sequence not in looping])


def fake_answer(prompt_ids: object) -> list[int]:
    """Return what a FakeRunner answers, as printable ASCII: it depends on every id of the prompt."""
    digest = hashlib.sha256(repr(list(prompt_ids)).encode()).hexdigest()  # type: ignore[call-overload]
    return [ord(char) for char in digest[: 1 + int(digest[0], 16)]]


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: bytes
    err: str


@pytest.fixture
def llmpar(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """The command line in this process: llmpar("run", …, stdin=b"…") -> Outcome."""
    from llmpar.cli.main import run

    def call(*arguments: str, stdin: bytes | None = b"") -> Outcome:
        out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
        source = None if stdin is None else io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", source)
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            code = run(arguments)
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
