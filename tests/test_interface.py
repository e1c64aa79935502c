"""llmpar from Python: lazy, typed, in order, and the same as the commands."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.places import ROOT
from support.program import Outcome

import llmpar
from llmpar import ModelChoice, Policy, Sampling
from llmpar.errors import LlmparError, ModelUnavailable, UsageError

ECHO = ModelChoice(engine="echo")


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, llmpar; llmpar.run; print({'torch', 'numpy', 'transformers', 'typer'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("llmpar.run; ", "")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_the_names_are_there() -> None:
    for name in (
        "run",
        "translate",
        "summarize",
        "ask",
        "split",
        "Result",
        "Answer",
        "Sampling",
        "Policy",
        "ModelChoice",
    ):
        assert getattr(llmpar, name).__doc__
        assert name in dir(llmpar)
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        llmpar.runn  # noqa: B018


def test_results_come_in_order_with_their_texts() -> None:
    texts = [f"text {i}" for i in range(300)]
    results = list(llmpar.run(texts, "{text}", model=ECHO))
    assert [result.text for result in results] == [result.answer for result in results] == texts
    assert {result.error for result in results} == {None}


def test_texts_are_read_as_they_are_needed() -> None:
    taken = 0

    def texts() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"{taken}"

    results = llmpar.run(texts(), "{text}", model=ECHO)
    assert taken == 0
    assert next(results).answer == "1"
    assert taken < 5000
    results.close()


def test_what_texts_raise_is_raised() -> None:
    def texts() -> Iterator[str]:
        yield "one"
        raise RuntimeError("the source is gone")

    results = llmpar.run(texts(), "{text}", model=ECHO)
    assert next(results).answer == "one"
    with pytest.raises(RuntimeError, match="the source is gone"):
        next(results)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"prompt": "a", "task": "reply"},
        {"prompt": " "},
        {"task": "none"},
        {"task": "translate"},
        {"prompt": "a", "choices": ["x", "x"]},
        {"prompt": "a", "choices": ["x"], "schema": {"type": "object"}},
        {"prompt": "About {txt}"},
        {"prompt": "a", "schema": {"type": "nothing"}},
        {"task": "reply", "values": {"no": "x"}},
    ],
)
def test_what_cannot_be_meant_is_told_at_once(arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        llmpar.run([], **arguments)  # type: ignore[arg-type]


def test_a_path_is_no_list_of_texts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="read the file first"):
        llmpar.run(tmp_path / "a.txt", "{text}")  # type: ignore[arg-type]


def test_a_program_that_takes_one_result_and_ends_is_quiet(tiny_model: Path, tmp_path: Path) -> None:
    """What nobody closed is closed when the program ends, and by then nothing may be gone that it looks at."""
    script = (
        "import sys, llmpar\n"
        "results = llmpar.run(['a'] * 3, 'Say {text}', model=sys.argv[1], store=sys.argv[2], "
        "sampling=llmpar.Sampling(3))\n"
        "print(len([next(results)]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tiny_model), str(tmp_path / "store")], capture_output=True, check=True
    )
    assert (ended.stdout, ended.stderr) == (b"1\n", b"")


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable):
        next(llmpar.run(["a"], "{text}", model=str(tmp_path / "none")))


def test_it_says_what_the_command_says(llmpar: Callable[..., Outcome], tiny_model: Path) -> None:
    import llmpar as package

    lines = (ROOT / "sample_data" / "messages.txt").read_text().splitlines()[:6]
    results = list(package.run(lines, "Say {text}", model=str(tiny_model), sampling=Sampling(12)))
    command = (
        "run",
        "Say {text}",
        "-u",
        "line",
        "--model",
        str(tiny_model),
        "--max-new-tokens",
        "12",
        "--merge",
        "jsonl",
    )
    outcome = llmpar(*command, stdin="\n".join(lines).encode())
    assert [json.loads(line)["answer"] for line in outcome.out.split(b"\n") if line] == [r.answer for r in results]
    assert "6 from the store" in outcome.err, "both keep their answers in one place"


def test_choices_and_schemas(tiny_model: Path) -> None:
    model = ModelChoice(str(tiny_model), threads=2)
    texts = [f"message {i}" for i in range(5)]
    for result in llmpar.run(texts, "{text}", choices=["red", "blue"], model=model, store=False):
        assert result.answer in ("red", "blue")
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    for result in llmpar.run(texts, "{text}", schema=schema, model=model, store=False):
        assert isinstance(json.loads(result.answer)["a"], bool)


def test_a_store_of_ones_own(tiny_model: Path, tmp_path: Path) -> None:
    store = tmp_path / "answers.sqlite"
    options = {"model": str(tiny_model), "sampling": Sampling(4), "store": store}
    first = list(llmpar.run(["a", "b"], "{text}", **options))  # type: ignore[arg-type]
    again = list(llmpar.run(["a", "b"], "{text}", **options))  # type: ignore[arg-type]
    assert [result.cached for result in [*first, *again]] == [False, False, True, True]
    assert [result.answer for result in first] == [result.answer for result in again]


def test_the_store_of_the_environment_and_paths_as_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMPAR_STORE", str(tmp_path / "named"))
    assert [result.cached for _ in range(2) for result in llmpar.run(["a"], "x", model=ECHO)] == [False, True]
    assert (tmp_path / "named").exists()
    assert not next(llmpar.run(["a"], "x", model=ECHO, store=str(tmp_path / "other"))).cached
    assert not next(llmpar.run(["a"], "x", model=ECHO, store=False)).cached
    assert (tmp_path / "other").exists()
    (tmp_path / "terms.csv").write_text("lamp,Lampe\n")
    terms = str(tmp_path / "terms.csv")
    assert [r.error for r in llmpar.translate(["A lamp."], "German", model=ECHO, glossary=terms, store=False)] == [None]
    with pytest.raises(UsageError, match="also"):
        llmpar.translate(["A lamp."], "German", model=ECHO, glossary=terms, store=terms)


def test_results_print_short(tmp_path: Path) -> None:
    (result,) = llmpar.run(["word " * 5000], "x", model=ECHO, store=False)
    assert len(repr(replace(result, answer="Said."))) < 120
    assert repr(replace(result, answer="Said.")).endswith("answer='Said.')")
    assert len(repr(result.segment)) < 120
    answer = llmpar.ask("Which word?", ["word " * 5000, "other " * 5000], model=ECHO, store=False)
    assert len(repr(answer.findings[0].passage)) < 200


def test_ask_reads_as_much_as_the_command() -> None:
    texts = [f"A card of kind {number} costs {number} pounds." for number in range(200)]
    usual = llmpar.ask("What does a card cost?", texts, model=ECHO, store=False)
    assert 24 < len(usual.findings) <= 200, "short texts are many"
    assert len(llmpar.ask("What does a card cost?", texts, top=3, model=ECHO, store=False).findings) == 3
    assert len(llmpar.ask("What does a card cost?", texts, top=None, model=ECHO, store=False).findings) == 200


def test_a_failure_is_a_result(tiny_model: Path) -> None:
    texts = ["short", "long " * 400]
    policy = Policy(overflow="error")
    good, bad = llmpar.run(texts, "{text}", model=str(tiny_model), sampling=Sampling(3), policy=policy)
    assert good.error is None
    assert "tokens the model can read" in (bad.error or "")


def test_translate_checks_its_languages() -> None:
    assert [r.answer for r in llmpar.translate(["One."], "German", model=ECHO)] == ["One."]
    with pytest.raises(UsageError, match="did you mean German"):
        llmpar.translate(["One."], "Gemran", model=ECHO)


def test_summarize_gives_one_text() -> None:
    assert llmpar.summarize(["One.", "", "Two."], model=ECHO, length=20) == "One.\n\nTwo."
    assert llmpar.summarize([], model=ECHO) == ""


def test_ask_names_the_texts() -> None:
    answer = llmpar.ask("What does a card cost?", ["The sun is hot.", "A card costs four pounds."], top=1, model=ECHO)
    assert answer.text == "A card costs four pounds."
    assert [finding.passage.segment.block.document.index for finding in answer.findings] == [1]


def test_split() -> None:
    assert llmpar.split("One. Two.\n\nThree.") == ["One.", "Two.", "Three."]
    assert llmpar.split("One. Two.\n\nThree.", "paragraph") == ["One. Two.", "Three."]


def test_two_threads(tiny_model: Path) -> None:
    import threading

    import torch
    from transformers import PreTrainedModel

    found: dict[int, list[str]] = {}
    untouched = (torch.nn.init.normal_, PreTrainedModel.tie_weights, PreTrainedModel.init_weights)

    def work(number: int) -> None:
        texts = [f"text {i}" for i in range(4)]
        results = llmpar.run(texts, "{text}", model=str(tiny_model), sampling=Sampling(5), store=False)
        found[number] = [result.answer for result in results]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] == found[2]
    assert untouched == (torch.nn.init.normal_, PreTrainedModel.tie_weights, PreTrainedModel.init_weights)


SETTINGS = {"llmpar.ModelChoice": ModelChoice, "Sampling": Sampling, "Policy": Policy}
EXAMPLES = re.findall(
    r"^```python\n(.*?)^```",
    (ROOT / "llmpar" / "help" / "python.md").read_text("utf-8"),
    re.MULTILINE | re.DOTALL,
)


def test_the_page_has_examples_and_names_the_settings() -> None:
    section = (ROOT / "llmpar" / "help" / "python.md").read_text("utf-8")
    assert len(EXAMPLES) == 2
    assert {name for name in SETTINGS if f"`{name}`" in section} == set(SETTINGS)


def test_the_examples_of_the_page_and_of_the_readme_hold(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("handbook.txt").write_text("A card costs four pounds.\n\nIt is green.")
    tiny = ModelChoice(str(tiny_model), threads=1)
    for function in (llmpar.run, llmpar.translate, llmpar.summarize, llmpar.ask):
        monkeypatch.setitem(function.__kwdefaults__, "model", tiny)
        monkeypatch.setitem(function.__kwdefaults__, "sampling", Sampling(8))
        monkeypatch.setitem(function.__kwdefaults__, "store", False)
    names: dict[str, object] = {}
    exec(EXAMPLES[0], names)
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"The lamp arrived broken\. (lamp|chair) None", first)
    assert re.fullmatch(r"When will my chair be here\? (lamp|chair) None", second)
    assert names["sentences"] == ["A card costs four pounds.", "It is green."]
    assert len(names["french"]) == 2  # type: ignore[arg-type]
    assert isinstance(names["answer"], llmpar.Answer)
    assert isinstance(names["summary"], str)
    exec(
        EXAMPLES[1]
        .replace('"smollm2-135m"', repr(str(tiny_model)))
        .replace("temperature", "max_new_tokens=8, temperature"),
        names,
    )
    assert capsys.readouterr().out
    (example,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    exec(example, names)
    said = capsys.readouterr().out.split()
    assert said
    assert set(said) <= {"lamp", "chair"}


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=12),
    threads=st.integers(1, 4),
    batch_size=st.integers(1, 5),
)
def test_every_text_has_its_result_in_its_place(texts: list[str], threads: int, batch_size: int) -> None:
    echo = ModelChoice(engine="echo", threads=threads, batch_size=batch_size)
    results = list(llmpar.run(iter(texts), "{text}", model=echo, store=False))
    assert [result.text for result in results] == texts
    assert [result.answer.strip() for result in results] == [text.strip() for text in texts]


def test_errors_have_one_root() -> None:
    assert issubclass(UsageError, LlmparError)


@pytest.mark.parametrize("texts", ["a text", b"a text"])
def test_one_text_is_not_read_letter_by_letter(texts: Any) -> None:
    for call in (
        lambda: llmpar.run(texts, "x", model=ECHO),
        lambda: llmpar.translate(texts, "French", model=ECHO),
        lambda: llmpar.summarize(texts, model=ECHO),
        lambda: llmpar.ask("Which?", texts, model=ECHO),
        lambda: llmpar.run(["a"], "x", choices=texts, model=ECHO),
    ):
        with pytest.raises(UsageError, match=r"is a single (str|bytes); put it into a list"):
            call()


def test_what_is_no_text_is_named_after_the_results_before_it() -> None:
    results = llmpar.run(["a", None], "x", model=ECHO)  # type: ignore[list-item]
    assert next(results).answer == "a"
    with pytest.raises(UsageError, match="texts: number 2 is no str, but NoneType"):
        next(results)


def test_a_path_is_no_text() -> None:
    with pytest.raises(UsageError, match=r"texts: number 1 is no str, but \w+; read the file first"):
        llmpar.ask("Which?", [Path("handbook.md")], model=ECHO)  # type: ignore[list-item]


def test_an_abandoned_run_leaves_no_thread() -> None:
    before = threading.active_count()
    for _ in range(3):
        results = llmpar.run((str(number) for number in itertools.count()), "x", model=ECHO)
        next(results)
        results.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_run_that_a_fork_inherits_ends_there_and_goes_on_here() -> None:
    """In a process of its own, whose threads are known."""
    done = subprocess.run(
        [sys.executable, "-c", FORK], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["EngineFailed", "True", "ModelUnavailable"], done.stderr


FORK = """
import os, sys, types, llmpar
from llmpar.errors import LlmparError

def in_a_fork(action):
    sys.stdout.flush()
    if not (child := os.fork()):
        try:
            print(action())
        except LlmparError as error:
            print(type(error).__name__)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)

echo = llmpar.ModelChoice(engine="echo")
results = llmpar.run(map(str, range(5000)), "x", model=echo)  # more than are on their way at a time
next(results)
in_a_fork(lambda: [result.answer for result in results])
print([int(result.answer) for result in results] == list(range(1, 5000)))
sys.modules["torch"] = types.ModuleType("torch")
in_a_fork(lambda: [result.answer for result in llmpar.run(["a"], "x", model=echo)])
"""
