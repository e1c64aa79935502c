"""The options that say how answers are drawn, which will do, and what becomes of the others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from llmpar.answering.attempts import Overflow, Policy
from llmpar.cli import roles, values
from llmpar.cli.option import option
from llmpar.documents.document import DEFAULT_ON_ERROR, OnError
from llmpar.tasks.checks import CHECKS
from llmpar.tasks.question import Sampling

# The default of a setting stands in one place, where the setting means something.
_SAMPLING, _POLICY = Sampling(), Policy()


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How answers are drawn."""

    max_new_tokens: Annotated[
        int | None,
        option(
            "--max-new-tokens",
            help="Cut answers after so many tokens. Default: a limit that suits the task.",
            panel="Answers",
        ),
    ] = _SAMPLING.max_new_tokens
    max_thinking_tokens: Annotated[
        int | None,
        option("--max-thinking-tokens", help="Of thoughts before an answer, counted apart. Default: 4096.",
               panel="Answers"),
    ] = _SAMPLING.max_thinking_tokens  # fmt: skip
    temperature: Annotated[
        float,
        option("--temperature", help="0, or below 0.00001: the likeliest token each time.", panel="Answers"),
    ] = _SAMPLING.temperature
    top_p: Annotated[
        float,
        option("--top-p", help="Draw from the likeliest tokens with this share.", panel="Answers"),
    ] = _SAMPLING.top_p
    seed: Annotated[int, option("--seed", help="Equal seeds draw equal answers, for any -j.", panel="Answers")] = (
        _SAMPLING.seed
    )
    max_repeats: Annotated[
        int,
        option("--max-repeats", help="Stop what says the same more than N times in a row; 0: never.",
               panel="Answers", metavar="N"),
    ] = _SAMPLING.max_repeats  # fmt: skip


@dataclass(frozen=True, slots=True)
class FailureOptions:
    """Which answers will not do, and what becomes of their segments and of the run."""

    on_error: Annotated[
        OnError,
        option("--on-error", help="A piece that fails stays as it was, is marked or left out; or the run ends there.",
               panel="Failures"),
    ] = DEFAULT_ON_ERROR  # fmt: skip
    retries: Annotated[
        int, option("--retries", help="Further attempts at an answer that will not do.", panel="Failures", metavar="N")
    ] = _POLICY.retries
    check: Annotated[
        str,
        option("--check", help=f"What an answer must not be, besides what the task says: {', '.join(CHECKS)}; or none.",
               panel="Failures", metavar="NAMES", callback=values.checks, show_default=False),
    ] = ""  # fmt: skip
    overflow: Annotated[
        Overflow,
        option("--overflow", help="What does not fit the model is split where best, or fails.", panel="Failures"),
    ] = _POLICY.overflow
    timeout: Annotated[
        float | None,
        option("--timeout", help="For each answer: 90, 10m.", panel="Failures", metavar="TIME", parser=values.seconds),
    ] = _POLICY.timeout
    max_time: Annotated[
        float | None,
        option("--max-time", help="For the whole run, which then ends (exit 124).", panel="Failures", metavar="TIME",
               parser=values.seconds),
    ] = None  # fmt: skip
    errors: Annotated[
        Path | None, option("--errors", help="Record each piece that failed here, as JSONL.", panel="Failures",
                            role=roles.written)
    ] = None  # fmt: skip
    log: Annotated[
        Path | None, option("--log", help="Record each piece here, as JSONL.", panel="Failures", role=roles.written)
    ] = None
    append: Annotated[
        bool, option("--append", help="Add to --log and --errors, which else begin anew.", panel="Failures")
    ] = False
