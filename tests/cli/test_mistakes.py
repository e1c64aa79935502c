"""What people write by mistake, and would notice only when the whole job is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.places import ROOT
from support.program import Outcome

Call = Callable[..., Outcome]
RUN = ("run", "--engine", "echo", "--no-store")


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("Rewrite {txt}", "{txt}"),
        ("Rewrite {text", "'{text'"),
        ("Rewrite text}", "'text}'"),
        ("{ text }", "'{ text }'"),
    ],
)
def test_a_placeholder_that_is_written_wrong_is_refused(llmpar: Call, prompt: str, said: str) -> None:
    outcome = llmpar(*RUN, prompt, stdin=b"One. Two.")
    assert (outcome.code, outcome.out) == (2, b"")
    assert said in outcome.err
    assert "{text}" in outcome.err


@pytest.mark.parametrize(
    "prompt", ["Rewrite", "Say {a}: {text}", 'Answer as {"a": 1}', 'Answer as {"a": text}', "The text is old"]
)
def test_braces_that_mean_something_else_are_left_alone(llmpar: Call, prompt: str) -> None:
    outcome = llmpar(*RUN, prompt, stdin=b"One. Two.")
    assert outcome.code == 0, outcome.err


def test_fields_of_records_need_no_text(llmpar: Call, tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "One.", "name": "Ada"}\n')
    assert llmpar(*RUN, "Greet {name}", str(source)).code == 0


def test_a_task_has_a_prompt_of_its_own(llmpar: Call, tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text("One.")
    outcome = llmpar(*RUN, "--task", "reply", "Name it: {text}", str(source))
    assert outcome.code == 2
    assert "is no file, and --task has a prompt of its own" in outcome.err


def test_a_question_behind_the_files_is_no_pattern(llmpar: Call, tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    source.write_text("One.")
    outcome = llmpar("ask", "--engine", "echo", str(source), "When is it paid?")
    assert "it comes before the files" in outcome.err


def test_asking_for_progress_before_there_is_any_ends_nothing() -> None:
    # The script says when Python itself has started: what it does before is not ours.
    script = (
        "import os, sys\nclass Finder:\n    def find_spec(self, name, *_):\n"
        "        name == 'llmpar.cli' and (os.kill(os.getpid(), 10), os.write(2, b'!'))\n"
        "sys.meta_path.insert(0, Finder())\nfrom llmpar.__main__ import main\nmain()"
    )
    assert signal.SIGUSR1 == 10
    outcome = subprocess.run(
        [sys.executable, "-c", script, *RUN, "x"], cwd=ROOT, input=b"One.", capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (outcome.returncode, outcome.stdout) == (0, b"One.")
    assert outcome.stderr.startswith(b"!")


def test_names_in_a_system_prompt_do_not_say_where_the_text_goes(llmpar: Call) -> None:
    assert llmpar(*RUN, "Rewrite", "--system", "You are {somebody}.", stdin=b"One.").code == 0
