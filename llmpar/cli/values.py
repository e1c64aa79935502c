"""How the values of options are written: counts, times, sizes, devices. Each raises BadParameter for what is none."""

from __future__ import annotations

import re

import typer

from llmpar.documents.columns import ALL_COLUMNS, COLUMNS
from llmpar.jobs.sharding import Shard
from llmpar.tasks.checks import DEFAULT_CHECKS, parse_checks

_LONGEST = 366 * 86_400.0  # seconds; beyond, timers overflow


def auto_count(value: str) -> int | None:
    """Read a count that may be left to us, None for auto."""
    if value != "auto" and not (value.isascii() and value.isdigit() and 0 < int(value) <= 4096):
        raise typer.BadParameter(f"{value!r} is neither auto nor a number from 1 to 4096")
    return None if value == "auto" else int(value)


def few(value: str) -> int:
    """Read how many prompts are shown; 3 if nothing is said."""
    text = str(value).strip() or "3"
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 10_000):
        raise typer.BadParameter(f"{value!r} is no number from 1 to 10000")
    return int(text)


def seconds(value: str) -> float:
    """Read a time: 90, 90s, 10m, 2h."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value).strip())
    time = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]] if match else 0.0
    if not 0 < time <= _LONGEST:
        raise typer.BadParameter(f"{value!r} is no time; write 90, 10m or 2h")
    return time


def patience(value: str) -> float:
    """Read a time that may be 0."""
    return 0.0 if str(value).strip() in ("0", "0.0") else seconds(value)


def size(value: str) -> int:
    """Read a size: 500MB, 4GB, 2GiB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", str(value).strip().lower())
    num_bytes = int(float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2] or " ")) if match else 0
    if num_bytes < 1:
        raise typer.BadParameter(f"{value!r} is no size; write 500MB or 4GB")
    return num_bytes


def shard(value: str) -> Shard:
    """Read which part of how many: 3/8."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", str(value).strip(), re.ASCII)
    if not match:
        raise typer.BadParameter(f"{value!r} is no part; write 3/8 for the third of eight")
    return Shard(int(match[1]), int(match[2]))


def resources(value: str | tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    """Read amounts of what a cluster lends: cpu=8,gpu=1."""
    if not isinstance(value, str):
        return value  # the default
    found: dict[str, float] = {}
    for part in value.split(","):
        match = re.fullmatch(r"\s*(\w[\w.:-]*)=(\d{1,6}(?:\.\d{1,6})?)\s*", part, re.ASCII)
        if not match or match[1] in found or float(match[2]) == 0:
            raise typer.BadParameter(f"{value!r} names no resources; write cpu=8,gpu=1")
        found[match[1]] = float(match[2])
    return tuple(found.items())


def checks(value: str) -> str:
    """Check the names of checks."""
    parse_checks(value, DEFAULT_CHECKS)
    return value


def columns(value: str | None) -> str | None:
    """Check the names of columns."""
    names = columns_of(value)
    for name in names:
        if name not in ALL_COLUMNS:
            raise typer.BadParameter(f"{name!r} is no column; there are {', '.join(ALL_COLUMNS)}")
        if names.count(name) > 1:
            raise typer.BadParameter(f"{name!r} is named twice")
    return value


def columns_of(value: str | None) -> tuple[str, ...]:
    """Return the columns that a list names; all for none."""
    return COLUMNS if value is None else tuple(name.strip() for name in value.split(","))


def device(value: str) -> str:
    """Check the name of a device."""
    kind, _, index = value.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (":" in value and not (kind == "cuda" and index.isdigit())):
        raise typer.BadParameter(f"{value!r} is not one of auto, cpu, cuda, cuda:N, mps")
    return value
