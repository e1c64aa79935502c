"""One default for each setting: the command line's are those of the settings themselves, and so are Python's."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import typer

from llmpar import ModelChoice, Policy, Sampling, interface
from llmpar.cli.main import app
from llmpar.cli.option import settings_of
from llmpar.cli.options import JobOptions
from llmpar.cli.run import Run

OPTIONS = JobOptions()
GROUPS = (OPTIONS.model, OPTIONS.sampling, OPTIONS.failures, OPTIONS.store)
OTHER_NAMES = {"model": "name"}
"""Settings that are called otherwise than their options."""
NO_OPTIONS = {"stop", "endpoints", "scores_forms"}
"""Settings that are for requests alone, that several of an option make together, or that follow from others."""
SETTINGS = (ModelChoice(), Sampling(), Policy())


def defaults() -> dict[str, Any]:
    return {
        OTHER_NAMES.get(option.name, option.name): getattr(group, option.name)
        for group in GROUPS
        for option in fields(group)
    }


@pytest.mark.parametrize(
    ("setting", "default"),
    [(field.name, getattr(settings, field.name)) for settings in SETTINGS for field in fields(settings)],
)
def test_an_option_has_the_default_of_its_setting(setting: str, default: object) -> None:
    if setting in NO_OPTIONS:
        assert setting not in defaults()
    else:
        assert defaults()[setting] == default


def test_each_short_name_means_one_thing() -> None:
    program = typer.main.get_command(app)
    meanings: dict[str, set[str]] = {}

    def walk(command: Any) -> None:
        for parameter in command.params:
            for name in parameter.opts:
                if len(name) == 2:
                    meanings.setdefault(name, set()).add(parameter.name)
        for inner in getattr(command, "commands", {}).values():
            walk(inner)

    walk(program)
    assert {name: kinds for name, kinds in meanings.items() if len(kinds) > 1} == {}
    assert {"-q", "-v", "-o", "-m", "-j", "-u"} <= meanings.keys()


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "FILE", "FILE"),
        ("run", "Say {text}", "--system", "FILE", "FILE"),
        ("run", "Say {text}", "--reduce", "FILE", "FILE"),
        ("reply", "--system", "FILE", "FILE"),
        ("ask", "FILE", "FILE"),
        ("ask", "Who?", "--part", "FILE", "FILE"),
    ],
)
def test_no_file_is_taken_for_a_text(llmpar: Any, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "a.txt").write_text("Text.\n")
    named = [argument.replace("FILE", str(tmp_path / "a.txt")) for argument in arguments]
    outcome = llmpar(*named, "--engine", "echo")
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, b"", 1), outcome.err


def test_quiet_swallows_nothing(llmpar: Any, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"The name is {name}.\n")
    files = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    outcome = llmpar("ask", "What is the name?", "-q", *files, "--engine", "echo", "--top", "all")
    assert (outcome.code, outcome.err) == (0, "")
    assert all(file in outcome.out.decode() for file in files)


def test_a_command_without_options_has_the_settings_of_python() -> None:
    run = Run("test", [], OPTIONS)
    choice, sampling, policy = SETTINGS
    # Nothing tells how sure the model was of choices, where Python's answers always do.
    assert (run.choice, run.sampling, run.policy) == (choice, sampling, replace(policy, scores_forms=False))


@pytest.mark.parametrize("function", [interface.run, interface.translate, interface.summarize, interface.ask])
def test_python_has_the_default_of_each_setting(function: Any) -> None:
    parameters = inspect.signature(function).parameters
    assert tuple(parameters[name].default for name in ("model", "sampling", "policy")) == SETTINGS


@pytest.mark.parametrize(
    ("settings", "kept"),
    [(Sampling(temperature=0.7), "max_repeats"), (Policy(timeout=90), "retries"), (ModelChoice(device="cpu"), "name")],
)
def test_one_setting_drops_no_other(settings: Any, kept: str) -> None:
    assert getattr(settings, kept) == getattr(type(settings)(), kept)


def test_what_no_option_names_keeps_its_default() -> None:
    assert settings_of(Sampling, OPTIONS.failures) == Sampling()
    assert settings_of(ModelChoice, OPTIONS.model, name="other") == ModelChoice("other")
