"""Which models think before they answer, how they mark it, and what of a chat template switches it on or off."""

from __future__ import annotations

import re
from typing import Any

from llmpar.models.channels import CHANNEL, END, MESSAGE, START, Channels
from llmpar.models.names import Thinking
from llmpar.models.tags import Tags
from llmpar.models.thoughts import Spelling, Style

_USUAL = ("<think>", "</think>")
_PAIRS = (
    _USUAL,  # DeepSeek R1, Qwen, SmolLM3, Granite, GLM, Nemotron, …
    ("<thought>", "</thought>"),  # EXAONE Deep
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    ("<|channel>", "<channel|>"),  # Gemma 4
)
_LABELS = {"<|channel>": "thought"}
# What some models put around the answer, once they have thought.
_AROUND = (("<response>", "</response>"), ("<answer>", "</answer>"), ("<|START_RESPONSE|>", "<|END_RESPONSE|>"))

_FLAGS = ("enable_thinking", "thinking")
_EFFORT, _BUDGET = "reasoning_effort", "thinking_budget"
SWITCHES = (*_FLAGS, _EFFORT, _BUDGET)
"""What templates call their switch for thinking."""
USUAL_SWITCHES: dict[str, Any] = {"enable_thinking": False}
"""What templates are given where nobody says whether to think."""
_CODE = re.compile(r"\{[%{](.*?)[%}]\}", re.DOTALL)
_STRING = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")
_NO_EFFORT = re.compile(r"""["']none["']""")


def style_of(template: str | None, spelling: Spelling) -> Style:
    """Return how a model marks its thoughts: by its chat template, else by its control tokens, else as most do."""
    ids = [token_id for name in (START, CHANNEL, MESSAGE, END) if (token_id := spelling.control_id(name)) is not None]
    if len(ids) == 4 and template and CHANNEL in template:
        return Channels(ids[0], ids[1], ids[2], ids[3], spelling)
    named = [pair for pair in _PAIRS if template and pair[1] in template]
    tokens = [pair for pair in _PAIRS if all(spelling.control_id(tag) is not None for tag in pair)]
    opening, closing = (named or tokens or [_USUAL])[0]
    first, last = spelling.control_id(opening), spelling.control_id(closing)
    return Tags(
        opening,
        closing,
        None if first is None or last is None else (first, last),
        _LABELS.get(opening, ""),
        bool(named),
        tuple(pair for pair in _AROUND if template and pair[0] in template),
        spelling,
    )


def switches_of(template: str, thinking: Thinking | None) -> dict[str, Any]:
    """Return what a template is given so that the model thinks or does not; None leaves it as it is, mostly off."""
    if thinking is None:
        return USUAL_SWITCHES
    is_on = thinking == "on"
    given: dict[str, Any] = dict.fromkeys(_FLAGS, is_on)
    if not is_on:
        given[_BUDGET] = 0
    if _NO_EFFORT.search(template):
        given[_EFFORT] = "high" if is_on else "none"
    elif is_on:
        given[_EFFORT] = "medium"  # as if nobody had said anything, where less is all that can be said
    return given


def is_on(template: str, thinking: Thinking | None) -> bool | None:
    """Tell whether a template's switch is on; None if it has none that turns thinking off."""
    has_effort = _names(template, _EFFORT) and _NO_EFFORT.search(template) is not None
    if has_effort or any(_names(template, name) for name in _FLAGS):
        return thinking == "on"
    return thinking != "off" if _names(template, _BUDGET) else None  # as Seed-OSS: without a budget, it has no limit


def named_switches(template: str) -> list[str]:
    """Return the switches for thinking that a template names."""
    return [name for name in SWITCHES if _names(template, name)]


def _names(template: str, name: str) -> bool:
    """Tell whether a template's code names a variable; prose and fields of messages may have its name, too."""
    found = re.compile(rf"(?<![\w.]){name}\b")
    return any(found.search(_STRING.sub("''", code)) for code in _CODE.findall(template))
