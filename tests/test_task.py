"""Tasks: the text is inserted once and never interpreted."""

from __future__ import annotations

import pytest

from llmpar.errors import UsageError
from llmpar.tasks import task


def test_the_placeholder_stands_for_the_text() -> None:
    assert task.run("Say {text} twice: {text}").render("a {text} b") == "Say a {text} b twice: a {text} b"


def test_without_a_placeholder_the_text_follows() -> None:
    assert task.run("Fix this.").render("{0} %s {{x}}") == "Fix this.\n\n{0} %s {{x}}"


@pytest.mark.parametrize("make", [lambda: task.run(" "), lambda: task.translate(""), lambda: task.translate("a\nb")])
def test_what_cannot_be_meant_is_refused(make: object) -> None:
    with pytest.raises(UsageError):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("one", [task.run("x"), task.translate("French"), task.summarize()])
def test_room_grows_with_the_segment(one: task.Task) -> None:
    assert one.max_new_tokens(1000) > one.max_new_tokens(10) > 10


def test_translate_names_the_language() -> None:
    assert "Swiss German" in task.translate("Swiss German").render("Hello")
