"""Whether a question fits: a table of cases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmpar.answering.fitting import Fit, Size, fit_of, refusal
from llmpar.tasks.task import task_of_prompt

TASK = task_of_prompt("Say it: {text}")
SIZE = Size(num_prompt_tokens=60, num_text_tokens=20, wanted=30, context_length=100)


@pytest.mark.parametrize(
    ("size", "limits", "fit"),
    [
        ({}, {}, Fit.WHOLE),
        # An answer may get less room than it wants, down to 16 tokens, or to what it wants if that is less.
        ({"num_prompt_tokens": 84}, {}, Fit.WHOLE),
        ({"num_prompt_tokens": 85}, {}, Fit.OVERFLOW),
        ({"num_prompt_tokens": 95, "wanted": 5}, {}, Fit.WHOLE),
        ({"num_prompt_tokens": 96, "wanted": 5}, {}, Fit.OVERFLOW),
        ({"num_prompt_tokens": 300}, {}, Fit.OVERFLOW),
        # The task's own limits.
        ({}, {"max_text_tokens": 20}, Fit.WHOLE),
        ({}, {"max_text_tokens": 19}, Fit.LONG),
        ({"num_prompt_tokens": 90}, {"max_text_tokens": 19}, Fit.OVERFLOW),
        ({}, {"min_text_tokens": 20}, Fit.WHOLE),
        ({}, {"min_text_tokens": 21}, Fit.SHORT),
        ({"num_prompt_tokens": 300}, {"min_text_tokens": 21}, Fit.SHORT),
    ],
)
def test_what_becomes_of_a_question(size: dict[str, int], limits: dict[str, int], fit: Fit) -> None:
    task = replace(TASK, **limits)  # type: ignore[arg-type]
    assert fit_of(replace(SIZE, **size), task, is_conversation=False) is fit


def test_no_task_calls_a_conversation_short() -> None:
    assert fit_of(SIZE, replace(TASK, min_text_tokens=21), is_conversation=True) is Fit.WHOLE


def test_an_answer_has_what_it_wants_or_what_is_left() -> None:
    assert (SIZE.room, SIZE.limit) == (40, 30)
    assert replace(SIZE, num_prompt_tokens=80).limit == 20


def test_a_refusal_gives_both_numbers_and_the_remedy() -> None:
    assert refusal(2048, 3000).startswith("its prompt takes 3,000 of the 2,048 tokens the model can read; split it")
    assert "takes more than 2,048 of the 2,048 tokens" in refusal(2048, None)
