"""One default for each setting: the command line's are those of the settings themselves, and so are Python's."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import pytest

from llmpar import ModelChoice, Policy, Sampling, interface
from llmpar.cli.options import JobOptions, settings_of
from llmpar.cli.run import Run

OPTIONS = JobOptions()
GROUPS = (OPTIONS.model, OPTIONS.sampling, OPTIONS.failures, OPTIONS.store)
OTHER_NAMES = {"model": "name"}
"""Settings that are called otherwise than their options."""
NO_OPTIONS = {"stop", "endpoints"}
"""Settings that are for requests alone, or that several of an option make together."""
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


def test_a_command_without_options_has_the_settings_of_python() -> None:
    run = Run("test", [], OPTIONS)
    assert (run.choice, run.sampling, run.policy) == SETTINGS


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
