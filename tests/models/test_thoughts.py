"""Thoughts are told from the answer: by tags and channels, tokens and texts, and what a user wrote stays data."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from llmpar.models.channels import Channels
from llmpar.models.names import Thinking
from llmpar.models.tags import Tags
from llmpar.models.thinking import is_on, named_switches, style_of, switches_of
from llmpar.models.thoughts import Outlook, Spelling, Style

OPEN, CLOSE = "<think>", "</think>"
HARMONY = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>"]
FIRST_ID = 1000  # of control tokens; the others are bytes


def spelling(control: Sequence[str] = ()) -> Spelling:
    """Return a tokenizer of bytes with control tokens, which it never makes of a text."""
    ids = {name: FIRST_ID + index for index, name in enumerate(control)}

    def decode(token_ids: Sequence[int]) -> str:
        return bytes(token_id for token_id in token_ids if token_id < FIRST_ID).decode("utf-8", "replace")

    return Spelling(ids.get, lambda text: list(text.encode()), decode)


def ids_of(text: str, control: Sequence[str] = ()) -> list[int]:
    """Return the ids of what a model wrote: a control token by its name, all else in bytes."""
    pieces = re.split("|".join(map(re.escape, control)), text) if control else [text]
    found, at = list(pieces[0].encode()), len(pieces[0])
    for piece in pieces[1:]:
        name = next(name for name in control if text.startswith(name, at))
        found += [FIRST_ID + list(control).index(name), *piece.encode()]
        at += len(name) + len(piece)
    return found


def tags(*, are_tokens: bool, template: str = f"{OPEN}{CLOSE}") -> Tags:
    style = style_of(template, spelling([OPEN, CLOSE] if are_tokens else []))
    assert isinstance(style, Tags)
    return style


def divided(style: Style, output_ids: list[int], outlook: Outlook) -> tuple[str, str, bool]:
    """Return what an answer is divided into; what follows it token by token must count the same."""
    found = style.divide(output_ids, spelling().decode(output_ids), outlook)
    follower = style.follow(outlook)
    num_thinking = 0
    for token_id in output_ids:
        was_thinking = follower.is_thinking
        follower.accept(token_id)
        num_thinking += was_thinking or follower.is_thinking
    if not found.is_unclosed:
        spare = len(OPEN) + 8 if isinstance(style, Tags) and not style.ids else 0  # a text is seen when it is whole
        assert found.num_tokens - spare <= num_thinking <= found.num_tokens
    assert follower.is_thinking or not found.is_unclosed
    return found.answer, found.thoughts, found.is_unclosed


SURE, OPENED = Outlook(is_sure=True, returns=True), Outlook(is_open=True, is_sure=True, returns=True)
SURPRISE, DATA = Outlook(returns=True), Outlook(is_sure=True)


@pytest.mark.parametrize("are_tokens", [True, False])
@pytest.mark.parametrize(
    ("text", "outlook", "expected"),
    [
        ("<think>a b</think>\n\nYes.", SURE, ("Yes.", "a b", False)),
        ("\n <think>a</think>Yes.", SURE, ("Yes.", "a", False)),
        ("<think>a</think>Yes.", SURPRISE, ("Yes.", "a", False)),
        ("a\n</think>\n\nYes.", OPENED, ("Yes.", "a", False)),
        ("<think>a</think>Yes.", OPENED, ("Yes.", "a", False)),
        ("<think></think>Yes.", SURE, ("Yes.", "", False)),
        ("<think>a</think>\n<think>b</think>\nYes.", SURE, ("Yes.", "a\n\nb", False)),
        ("<think>a</think>\n<think>b</think>\nYes.", DATA, ("Yes.", "a\n\nb", False)),
        ("<think>a</think>One. <think>b</think>Two.", SURE, ("One. Two.", "a\n\nb", False)),
        ("<think>a</think>One. <think>b</think>Two.", SURPRISE, ("One. Two.", "a\n\nb", False)),
        ("<think>without an end", SURE, ("", "without an end", True)),
        ("without an end", OPENED, ("", "without an end", True)),
        ("<think>a</think>One. <think>b", SURE, ("One. ", "a\n\nb", True)),
        ("Yes.", SURE, ("Yes.", "", False)),
        ("", SURE, ("", "", False)),
        ("", OPENED, ("", "", True)),
        ("Yes. <think>no</think>", SURPRISE, ("Yes. <think>no</think>", "", False)),
        ("</think> is a tag", SURPRISE, ("</think> is a tag", "", False)),
        ("<thin", SURE, ("<thin", "", False)),
    ],
)
def test_an_answer_is_divided(text: str, outlook: Outlook, expected: tuple[str, str, bool], are_tokens: bool) -> None:
    answer, thoughts, is_unclosed = expected
    if are_tokens:
        answer = answer.replace(OPEN, "").replace(CLOSE, "")  # control tokens are no text
    found = divided(tags(are_tokens=are_tokens), ids_of(text, [OPEN, CLOSE] if are_tokens else []), outlook)
    assert found == (answer, thoughts, is_unclosed)


@pytest.mark.parametrize("are_tokens", [True, False])
def test_a_model_that_thinks_may_take_thoughts_for_opened(are_tokens: bool) -> None:
    style, output_ids = tags(are_tokens=are_tokens), ids_of("a</think>Yes.", [OPEN, CLOSE] if are_tokens else [])
    found = style.divide(output_ids, spelling().decode(output_ids), SURE)
    assert (found.answer, found.thoughts, found.is_unclosed) == ("Yes.", "a", False)


@pytest.mark.parametrize("are_tokens", [True, False])
def test_a_tag_that_the_user_wrote_stays_in_the_answer(are_tokens: bool) -> None:
    style = tags(are_tokens=are_tokens)
    control = [OPEN, CLOSE] if are_tokens else []
    data = list(b"The tag <think>opens</think> thoughts.")
    assert divided(style, [*ids_of(f"{OPEN}a{CLOSE}", control), *data], DATA)[0] == bytes(data).decode()


@pytest.mark.parametrize(
    ("ending", "said", "on", "expected"),
    [
        ("<|im_start|>assistant\n", ("Hello",), None, Outlook(is_sure=True, returns=True)),
        ("<|im_start|>assistant\n", ("Hello",), False, Outlook(returns=True)),
        ("<|im_start|>assistant\n", ("Hello",), True, Outlook(is_sure=True, returns=True)),
        ("<|Assistant|><think>\n", ("Hello",), None, Outlook(is_open=True, is_sure=True, returns=True)),
        ("<|Assistant|><think>\n", ("a <think> b",), None, Outlook(is_open=True, is_sure=True)),
        ("assistant\n<think>\n\n</think>\n\n", ("Hello",), False, Outlook(returns=True)),
        ("assistant\n<think>\n\n</think>\n\n", ("<think>a</think> b",), False, None),
        ("<|im_start|>assistant\n", ("system", "<think>a</think> b"), False, None),
        ("<|im_start|>assistant\n", ("<think>a</think> b",), True, Outlook(is_sure=True)),
    ],
)
def test_a_prompt_tells_what_to_expect(
    ending: str, said: tuple[str, ...], on: bool | None, expected: Outlook | None
) -> None:
    assert tags(are_tokens=False).outlook(ending, said, is_on=on) == expected


def test_a_model_that_is_not_known_to_think_keeps_a_text_with_tags() -> None:
    for style in (style_of(None, spelling()), style_of("no tags", spelling([OPEN, CLOSE]))):
        assert style.outlook("assistant", ("<think>a</think> b",), is_on=None) is None
        assert style.outlook("assistant", ("Hello",), is_on=None) == Outlook(returns=True)


@pytest.mark.parametrize(
    ("text", "is_open", "expected"),
    [
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>Yes.",
            False,
            ("Yes.", "a", False),
        ),
        ("<|channel|>final<|message|>Yes.", False, ("Yes.", "", False)),
        ("<|channel|>final <|message|>Yes.<|end|>", False, ("Yes.", "", False)),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|end|>"
            "<|start|>assistant<|channel|>final<|message|>Yes.",
            False,
            ("Yes.", "a\n\nb", False),
        ),
        ("a<|end|><|start|>assistant<|channel|>final<|message|>Yes.", True, ("Yes.", "a", False)),
        ("<|channel|>analysis<|message|>a", False, ("", "a", True)),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant", False, ("", "a", True)),
        ("no channel", False, ("", "", True)),
    ],
)
def test_channels_are_divided(text: str, is_open: bool, expected: tuple[str, str, bool]) -> None:
    style = style_of("x<|channel|>y", spelling(HARMONY))
    assert isinstance(style, Channels)
    assert divided(style, ids_of(text, HARMONY), Outlook(is_open=is_open, is_sure=True, returns=True)) == expected


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("<|start|>assistant", Outlook(is_sure=True, returns=True)),
        ("<|start|>assistant<|channel|>analysis<|message|>", Outlook(is_open=True, is_sure=True, returns=True)),
        ("<|start|>assistant<|channel|>final<|message|>", None),
    ],
)
def test_a_prompt_tells_which_channel_it_is_in(ending: str, expected: Outlook | None) -> None:
    assert style_of("x<|channel|>y", spelling(HARMONY)).outlook(ending, ("<think>",), is_on=None) == expected


def test_what_stands_around_the_answer_goes_with_its_thoughts() -> None:
    style = tags(are_tokens=False, template="write <think></think> and <response></response>")
    said = "<think>a</think>\n<response>\nYes.\n</response>"
    assert divided(style, ids_of(said), SURE) == ("Yes.", "a", False)
    assert divided(style, ids_of("<response>Yes.</response>"), SURE) == ("<response>Yes.</response>", "", False)


def test_a_label_before_thoughts_is_none_of_them() -> None:
    pair = ["<|channel>", "<channel|>"]
    style = style_of("<|channel>thought\n<channel|>", spelling(pair))
    assert divided(style, ids_of("<|channel>thought\na<channel|>Yes.", pair), SURE) == ("Yes.", "a", False)


# How the templates of Qwen3, SmolLM3, Granite 3.3, DeepSeek V3.1, Mistral Small 4, gpt-oss and others ask for it.
ENABLE = "{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>' }}{% endif %}"
GRANITE = "{%- elif thinking %}{{ 'write your thoughts between <think></think>' }}{% endif %}"
EFFORT = "{%- set effort = reasoning_effort if reasoning_effort is defined else 'none' %}"
BUDGET = "{%- if not thinking_budget is defined %}{%- set thinking_budget = -1 -%}{%- endif -%}"
HARMONIC = "{%- if reasoning_effort is not defined %}{%- set reasoning_effort = 'medium' %}{% endif %}{{ m.thinking }}"


@pytest.mark.parametrize(
    ("template", "names", "states"),
    [
        (ENABLE, ["enable_thinking"], (False, True, False)),
        (GRANITE, ["thinking"], (False, True, False)),
        (EFFORT, ["reasoning_effort"], (False, True, False)),
        (HARMONIC, ["reasoning_effort"], (None, None, None)),
        (BUDGET, ["thinking_budget"], (True, True, False)),
        ("thinking {{ 'enable_thinking' }} {{ message.thinking }}", [], (None, None, None)),
    ],
)
def test_switches_are_found_in_templates(
    template: str, names: list[str], states: tuple[bool | None, bool | None, bool | None]
) -> None:
    settings: tuple[Thinking | None, ...] = (None, "on", "off")
    assert named_switches(template) == names
    assert tuple(is_on(template, thinking) for thinking in settings) == states


def test_switches_are_set() -> None:
    assert switches_of(ENABLE, None) == {"enable_thinking": False}
    assert switches_of(ENABLE, "on") == {"enable_thinking": True, "thinking": True, "reasoning_effort": "medium"}
    off = {"enable_thinking": False, "thinking": False, "thinking_budget": 0}
    assert switches_of(BUDGET, "off") == off
    assert switches_of(EFFORT, "off") == off | {"reasoning_effort": "none"}
    assert "reasoning_effort" not in switches_of(HARMONIC, "off")
