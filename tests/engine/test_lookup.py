"""Prompt lookup: guesses are what followed before, and following them changes no answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmpar.engine.lookup import Lookup

few = st.lists(st.integers(0, 3), max_size=60)


def naive(ids: list[int], num_tokens: int) -> list[int]:
    for end in range(len(ids) - 1, 1, -1):
        if ids[end - 2 : end] == ids[-2:]:
            return ids[end : end + num_tokens]
    return []


def test_what_followed_last_time_is_proposed() -> None:
    assert Lookup([5, 6, 7, 8, 5, 6, 9]).propose([1, 5, 6], 4) == [9, 1, 5, 6]
    assert Lookup([5, 6, 7, 8]).propose([6, 7], 1) == [8]


def test_what_never_came_before_is_not() -> None:
    assert Lookup([5, 6, 7]).propose([], 4) == []
    assert Lookup([5]).propose([], 4) == []
    assert Lookup([5, 6, 7]).propose([1, 2], 4) == []


@given(few, few, st.lists(st.integers(1, 5), max_size=20), st.integers(0, 9))
def test_a_growing_answer_is_searched_like_a_whole_one(
    prompt: list[int], output: list[int], steps: list[int], num_tokens: int
) -> None:
    lookup, done = Lookup(prompt), 0
    for step in steps:
        done = min(len(output), done + step)
        ids = prompt + output[:done]
        expected = naive(ids, num_tokens) if len(ids) > 2 else []
        assert lookup.propose(output[:done], num_tokens) == expected
