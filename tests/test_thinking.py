"""Thinking out loud is no answer: models that are made to think, from the shell to document, records and results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.chat import CHATML
from support.program import Outcome
from support.scripted import say_with, scripted_model

from llmpar.answering.choice import ModelChoice
from llmpar.interface import run

TAGS = ["<think>", "</think>"]
HARMONY = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>"]
NAMES = "{# <think></think> #}"  # as a template does that takes thoughts out of earlier answers
OPENS = CHATML.replace("assistant\n' }}", "assistant\n<think>\n' }}")
SWITCH = CHATML.replace(
    "{% endif %}", "{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
CHANNELS = (
    "{% for m in messages %}{{ '<|start|>' + m['role'] + '<|message|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if reasoning_effort is not defined %}{% set reasoning_effort = 'medium' %}{% endif %}"
    "{{ '<|start|>assistant' }}{# <|channel|> #}"
)
THOUGHTS, ANSWER = ["Hmm", ", let", " me see."], ["Bonjour", " le", " monde", "."]
SAID = "Bonjour le monde."
FIXED = ["-j", "1", "--precision", "fp32"]

Program = Callable[..., Outcome]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("One line here.\n")
    return path


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def ask(tmp_path: Path, text: Path, llmpar: Program) -> Callable[..., tuple[Outcome, dict[str, Any]]]:
    """Ask a model in a directory, and return what came of it and the record of its only piece."""

    def call(model: Path, *options: str, prompt: str = "Say it: {text}") -> tuple[Outcome, dict[str, Any]]:
        log = tmp_path / "log.jsonl"
        outcome = llmpar("run", prompt, "-u", "line", "-m", str(model), *FIXED, "--log", str(log), *options, str(text))
        return outcome, records(log)[0] if log.exists() and log.read_text() else {}

    return call


Ask = Callable[..., tuple[Outcome, dict[str, Any]]]
CASES: dict[str, tuple[list[str], str, list[str], str]] = {
    # what it says, its template, its control tokens, the thoughts
    "closed": (["<think>", *THOUGHTS, "</think>", "\n\n", *ANSWER], CHATML + NAMES, TAGS, "Hmm, let me see."),
    "unknown": (["<think>", *THOUGHTS, "</think>", "\n\n", *ANSWER], CHATML, TAGS, "Hmm, let me see."),
    "text": (["<th", "ink>", *THOUGHTS, "</", "think>", "\n\n", *ANSWER], CHATML + NAMES, [], "Hmm, let me see."),
    "text-unknown": (["<think", ">", *THOUGHTS, "</think>", *ANSWER], CHATML, [], "Hmm, let me see."),
    "opened": ([*THOUGHTS, "</think>", "\n\n", *ANSWER], OPENS, TAGS, "Hmm, let me see."),
    "opened-text": ([*THOUGHTS, "</think>\n", *ANSWER], OPENS, [], "Hmm, let me see."),
    "several": (
        ["<th", "ink>", *THOUGHTS, "</", "think>", " \n", "<think>Again", ".", "</think>", *ANSWER[:-1], "!"],
        CHATML + NAMES,
        [],
        "Hmm, let me see.\n\nAgain.",
    ),
}


def scripted(path: Path, kind: str) -> Path:
    script, template, control, _ = CASES[kind]
    return scripted_model(path / kind, script, template, control=control)


@pytest.mark.parametrize("kind", CASES)
def test_a_document_has_the_answer_and_the_log_the_thoughts(tmp_path: Path, ask: Ask, kind: str) -> None:
    outcome, record = ask(scripted(tmp_path, kind))
    said = SAID.replace(".", "!") if kind == "several" else SAID
    assert (outcome.code, outcome.out.decode()) == (0, f"{said}\n"), outcome.err
    assert record["reasoning"] == CASES[kind][3]
    assert 0 < record["reasoning_tokens"] < record["output_tokens"]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make a model that says what a test wants, and return its directory."""

    def make(
        script: Sequence[str] | Callable[[str], Sequence[str]],
        template: str = CHATML + NAMES,
        control: Sequence[str] = TAGS,
    ) -> Path:
        model = scripted_model(tmp_path / "model", [], template, control=control)
        say_with(monkeypatch, model, script if callable(script) else lambda _: script)
        return model

    return make


Say = Callable[..., Path]
ANALYSIS = ["<|channel|>", "analysis", "<|message|>", "Let me see.", "<|end|>"]
FINAL = ["<|start|>", "assistant", "<|channel|>", "final", "<|message|>"]


def test_channels_are_told_apart(say: Say, ask: Ask) -> None:
    outcome, record = ask(say([*ANALYSIS, *FINAL, SAID], CHANNELS, HARMONY))
    assert (outcome.code, outcome.out.decode(), record["reasoning"]) == (0, f"{SAID}\n", "Let me see.")
    assert record["reasoning_tokens"] == record["output_tokens"] - len(SAID)


def test_thoughts_without_an_end_fail(say: Say, ask: Ask, text: Path, tmp_path: Path) -> None:
    model = say(["<think>", "Hmm, let me see."])
    outcome, record = ask(model, "--merge", "jsonl")
    (written,) = map(json.loads, outcome.out.decode().splitlines())
    assert outcome.code == 3
    assert "the thoughts before the answer have no end" in outcome.err
    assert (written["answer"], written["reasoning"]) == (None, "Hmm, let me see.")
    assert record["error"] == written["error"]
    outcome, _ = ask(model, "--check", "none")
    assert (outcome.code, outcome.out) == (3, text.read_bytes())


def test_channels_without_an_answer_fail(say: Say, ask: Ask) -> None:
    outcome, record = ask(say(ANALYSIS, CHANNELS, HARMONY))
    assert (outcome.code, record["reasoning"]) == (3, "Let me see.")


def test_thoughts_have_a_limit_of_their_own(say: Say, ask: Ask) -> None:
    model = say(["<think>", "Hmm, let me see.", "</think>", SAID])
    outcome, record = ask(model, "--max-new-tokens", "7")
    assert (outcome.code, outcome.out) == (0, b"Bonjour\n")
    assert (record["output_tokens"], record["reasoning_tokens"]) == (25, 18)
    outcome, record = ask(model, "--max-thinking-tokens", "18")
    assert (outcome.code, outcome.out.decode()) == (0, f"{SAID}\n")
    outcome, record = ask(model, "--max-thinking-tokens", "12", "--retries", "0")
    assert (outcome.code, record["reasoning"]) == (3, "Hmm, let me")
    assert "did not end within 12 tokens (--max-thinking-tokens)" in outcome.err


def test_thoughts_have_room_if_nobody_says_how_much(say: Say, ask: Ask, text: Path) -> None:
    long = "Hm, no; " * 60  # more than the answer to so short a text may have
    outcome, _ = ask(say(["<think>", long, "</think>", SAID]), "--max-repeats", "0")
    assert (outcome.code, outcome.out.decode()) == (0, f"{SAID}\n")


def test_a_text_that_holds_tags_is_data_to_a_model_that_does_not_think(say: Say, ask: Ask, text: Path) -> None:
    text.write_text("<think>a</think> is a pair of tags\n")

    def repeat(prompt: str) -> list[str]:
        return [prompt.rpartition("user\n")[2].partition("<|im_end|>")[0]]

    for template, control in ((CHATML, []), (SWITCH, [])):
        outcome, record = ask(say(repeat, template, control), prompt="{text}")
        assert (outcome.code, outcome.out) == (0, text.read_bytes())
        assert "reasoning" not in record


def test_checks_look_at_what_is_left(say: Say, ask: Ask, text: Path) -> None:
    text.write_text("There is one line here.\n")
    model = say(["<think>", "I am sorry, but this is Bonjour.", "</think>", "There is one line here."])
    assert ask(model, "--check", "refusal")[0].code == 0
    outcome, _ = ask(model, "--check", "echo")
    assert (outcome.code, "repeats its source" in outcome.err) == (3, True)
    outcome, _ = ask(say(["<think>", "Hmm", "</think>", "\n"]), "--refresh")
    assert (outcome.code, "is empty" in outcome.err) == (3, True)


@pytest.mark.parametrize(
    ("script", "template", "control"),
    [
        (["Hmm.", "</think>", "no"], OPENS, TAGS),
        (["<think>", "Hmm.", "</think>", "no"], CHATML + NAMES, TAGS),
        (["<think>", "Hmm.", "</think>", "no"], CHATML + NAMES, []),
        ([*ANALYSIS, *FINAL, "no"], CHANNELS, HARMONY),
    ],
)
def test_a_form_begins_behind_the_thoughts(
    say: Say, ask: Ask, tmp_path: Path, script: list[str], template: str, control: list[str]
) -> None:
    model = say(script, template, control)
    outcome, record = ask(model, "--choices", "yes,no")
    assert (outcome.code, outcome.out) == (0, b"no\n"), outcome.err
    assert record["reasoning"] in ("Hmm.", "Let me see.")
    schema = tmp_path / "schema.json"
    schema.write_text(
        '{"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"], "additionalProperties": false}'
    )
    outcome, record = ask(model, "--schema", str(schema))
    assert (outcome.code, outcome.out) == (0, b'{"a":1}\n'), outcome.err
    assert record["reasoning"] in ("Hmm.", "Let me see.")


def test_a_kept_answer_keeps_its_thoughts(say: Say, ask: Ask) -> None:
    model = say(["<think>", "Hmm.", "</think>", SAID])
    first, second = ask(model), ask(model)
    assert (first[1]["cached"], second[1]["cached"]) == (False, True)
    assert first[0].out == second[0].out
    assert first[1]["reasoning"] == second[1]["reasoning"] == "Hmm."
    assert first[1]["reasoning_tokens"] == second[1]["reasoning_tokens"]


def test_keys_depend_on_what_changes_an_answer_alone(say: Say, ask: Ask) -> None:
    def keys(model: Path, *settings: Sequence[str]) -> list[str]:
        return [ask(model, *options)[1]["key"] for options in settings]

    usual, off, on, limited = keys(
        say([SAID], SWITCH), (), ("--thinking", "off"), ("--thinking", "on"), ("--max-thinking-tokens", "9")
    )
    assert usual == off == limited != on
    usual, limited, other = keys(say([SAID], OPENS), (), ("--max-thinking-tokens", "9"), ("--max-thinking-tokens", "8"))
    assert len({usual, limited, other}) == 3


def test_the_switch_is_set(say: Say, ask: Ask) -> None:
    seen = []

    def note(prompt: str) -> list[str]:
        seen.append("</think>" in prompt)
        return [SAID]

    model = say(note, SWITCH)
    for thinking in ("on", "off"):
        assert ask(model, "--thinking", thinking)[0].code == 0
    assert set(seen[:1]) == {False}
    assert seen[-1]


@pytest.mark.parametrize("thinking", ["on", "off"])
@pytest.mark.parametrize("store", [(), ("--no-store",), ("--dry-run",)])
def test_a_switch_that_is_not_there_is_refused(say: Say, ask: Ask, thinking: str, store: tuple[str, ...]) -> None:
    outcome, _ = ask(say([SAID], OPENS), "--thinking", thinking, *store)
    assert outcome.code == 2
    assert f"leave --thinking {thinking} out" in outcome.err
    assert "enable_thinking" in outcome.err


def test_less_thought_is_not_none(say: Say, ask: Ask) -> None:
    model = say([*ANALYSIS, *FINAL, SAID], CHANNELS, HARMONY)
    assert ask(model, "--thinking", "on")[0].code == 0
    outcome, _ = ask(model, "--thinking", "off")
    assert (outcome.code, "think less" in outcome.err) == (2, True)
    assert ask(model, "--engine", "echo", "--thinking", "on")[0].code == 2


def test_results_of_a_batch_have_reasoning(say: Say, tmp_path: Path, llmpar: Program) -> None:
    file = tmp_path / "requests.jsonl"

    def request(custom_id: str, url: str = "/v1/chat/completions", **body: object) -> str:
        asked = {"messages": [{"role": "user", "content": "Hello"}]} if "chat" in url else {"prompt": "Hello"}
        return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": asked | body}) + "\n"

    before = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi", "reasoning": "They say hello."},
        {"role": "user", "content": "Hello"},
    ]
    file.write_text(
        request("a") + request("b", stop=["le"]) + request("c", max_tokens=7) + request("d", messages=before)
    )
    model = say(["<think>", "A le is an article.", "</think>", "\n\n", SAID])
    outcome = llmpar("batch", "-m", str(model), *FIXED, str(file))
    assert outcome.code == 0, outcome.err
    bodies = [json.loads(line)["response"]["body"] for line in outcome.out.decode().splitlines()]
    messages = [body["choices"][0]["message"] for body in bodies]
    assert [message["content"] for message in messages] == [SAID, "Bonjour ", "Bonjo", SAID]
    assert {message["reasoning"] for message in messages} == {"A le is an article."}
    usage = bodies[0]["usage"]
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 21}
    assert usage["completion_tokens"] == 21 + len(SAID) + 2
    say(["<think>", "Hmm."])
    outcome = llmpar("batch", "-m", str(model), *FIXED, "--no-store", str(file))
    assert outcome.code == 3
    assert "thoughts" in json.loads(outcome.out.decode().splitlines()[0])["error"]["error"]["message"]


def test_a_request_that_says_otherwise_is_refused(say: Say, tmp_path: Path, llmpar: Program) -> None:
    file = tmp_path / "requests.jsonl"
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    asked = [body | {"chat_template_kwargs": {"enable_thinking": value}} for value in (True, False)]
    lines = [
        {"custom_id": str(index), "method": "POST", "url": "/v1/chat/completions", "body": one}
        for index, one in enumerate(asked)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    model = say([SAID], SWITCH)
    for options, answered in (((), "1"), (("--thinking", "on"), "0")):
        outcome = llmpar("batch", "-m", str(model), *FIXED, *options, str(file))
        results = [json.loads(line) for line in outcome.out.decode().splitlines()]
        assert outcome.code == 3
        assert [result["custom_id"] for result in results if result["error"] is None] == [answered]


def test_python_is_told_the_thoughts(say: Say) -> None:
    model = ModelChoice(str(say(["<think>", "Hmm.", "</think>", SAID], SWITCH)), device="cpu", threads=1, thinking="on")
    (result,) = run(["Hello"], "{text}", model=model)
    assert (result.answer, result.reasoning, result.num_reasoning_tokens) == (SAID, "Hmm.", 6)


def test_an_answer_that_is_cut_ends_in_no_half_of_a_character(say: Say, ask: Ask, text: Path) -> None:
    model = say(["ab€"], CHATML, [])
    for limit, expected in ((3, "ab"), (4, "ab"), (5, "ab€")):
        assert ask(model, "--max-new-tokens", str(limit))[0].out.decode() == f"{expected}\n"
    text.write_text("\ufffd\n")  # what stands in the text may stand in its answer
    assert ask(say(["ab\ufffdc"], CHATML, []), "--max-new-tokens", "5")[0].out.decode() == "ab\ufffd\n"
