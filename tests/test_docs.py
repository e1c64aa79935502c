"""The documentation names what is there."""

from __future__ import annotations

import re

import pytest
from support.formats_table import table
from support.places import ROOT

ROWS = re.findall(r"^\| (\d+) \|.*\| (.*?) \|$", (ROOT / "tests" / "RELIABILITY.md").read_text("utf-8"), re.MULTILINE)


def test_every_fault_has_a_row() -> None:
    assert [int(number) for number, _ in ROWS] == [*range(1, 30), 31, 38, 39, 40, 41, 42, 43, 44, 45]


@pytest.mark.parametrize(("number", "names"), ROWS)
def test_every_test_that_is_named_is_there(number: str, names: str) -> None:
    found = re.findall(r"`([\w./]+)(?:::(\w+))?`", names)
    assert found, number
    for file, name in found:
        source = (ROOT / "tests" / file).read_text("utf-8")
        assert re.search(rf"^ *(?:def|class) {name or 'test'}", source, re.MULTILINE), f"{file}::{name}"


def test_every_option_is_in_the_readme_or_the_help() -> None:
    from typer.main import get_command

    from llmpar.cli.main import app

    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for parameter in getattr(command, "params", ()):
            assert getattr(parameter, "help", None) or parameter.name == "help", f"{name}: {parameter.name}"


def test_the_table_of_formats_is_what_the_program_makes() -> None:
    page = (ROOT / "llmpar" / "help" / "format-list.md").read_text("utf-8")
    assert page == table()
