"""The default model, from the shell: the real thing, a few times."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.places import ROOT
from support.program import Outcome

pytestmark = pytest.mark.model
ARTICLE = ROOT / "sample_data" / "article.txt"


@pytest.fixture(scope="module", autouse=True)
def _fetched() -> None:
    from llmpar.models.registry import DEFAULT_MODEL, resolve

    resolve(DEFAULT_MODEL)


def test_a_question_is_answered(llmpar: Callable[..., Outcome]) -> None:
    outcome = llmpar(
        "run", "What is the capital of {text}? Answer with one word.", "--offline", "-q", stdin=b"France\n"
    )
    assert outcome.code == 0, outcome.err
    assert b"Paris" in outcome.out
    assert outcome.out.endswith(b"\n")


def test_greedy_fp32_equals_generate(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from llmpar.documents.formats.protocol import Reading
    from llmpar.documents.segments import split_text
    from llmpar.engine.build import build_engine
    from llmpar.engine.request import Request, SamplingParams
    from llmpar.models import convert
    from llmpar.models.load import load_model
    from llmpar.models.registry import DEFAULT_MODEL, resolve
    from llmpar.models.tokenizer import ChatTokenizer
    from llmpar.tasks.translation import make_task

    task = make_task("French")
    path = resolve(DEFAULT_MODEL, offline=True).path
    tokenizer, loaded = ChatTokenizer(path), load_model(path, "cpu", "fp32")
    text = (ROOT / "sample_data" / "story.txt").read_text(encoding="utf-8")
    segments = split_text(text, Reading())[1]
    prompts = [tokenizer.encode_messages(task.messages(segment.text)) for segment in segments[:: len(segments) // 3]]
    assert len({len(prompt) for prompt in prompts}) > 2
    if path.is_file():  # transformers reads it in its own way
        convert.from_gguf(path, tmp_path, lambda _: None)
        path = tmp_path
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    expected = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0
        )
        answer = output[0, len(prompt) :].tolist()
        expected.append([token for token in answer if token not in loaded.stop_ids])
    for workers in (1, 4):
        with build_engine(loaded.models, loaded.context_length, loaded.stop_ids, workers, 3) as engine:
            for index, prompt in enumerate(prompts):
                engine.submit(Request(index, prompt, SamplingParams(8)))
            ends = [engine.collect(timeout=120) for _ in prompts]
        found = {end.id: list(end.output_ids) for end in ends if end}
        assert [found[index] for index in range(len(prompts))] == expected


def test_a_summary_through_head_ends_at_once_and_cleanly() -> None:
    command = (
        f"cat '{ARTICLE}' | {sys.executable} -m llmpar summarize --per paragraph --max-new-tokens 24 | head -3; "
        "echo ${PIPESTATUS[1]}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=240, check=True)
    title, underline, blank, code = done.stdout.split("\n")[:4]
    assert (underline, blank, code) == (ARTICLE.read_text().split("\n")[1], "", "141"), title
    assert done.stderr == ""


def test_no_socket_is_opened_offline(shell: Callable[..., subprocess.CompletedProcess[bytes]], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
    )
    arguments = ("run", "Say hello.", "--offline", "--max-new-tokens", "4")
    done = shell(*arguments, input=b"Hi.", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rb"llmpar run: 1 piece, .*\n", done.stderr)
