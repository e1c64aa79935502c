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
        option(
            "--max-thinking-tokens",
            help="Cut thoughts before an answer after so many tokens; they are counted apart. Default: 4096.",
            panel="Answers",
        ),
    ] = _SAMPLING.max_thinking_tokens
    temperature: Annotated[
        float,
        option(
            "--temperature",
            help="How much chance there is in answers; 0, or less than 0.00001, takes the most likely token each time.",
            panel="Answers",
        ),
    ] = _SAMPLING.temperature
    top_p: Annotated[
        float,
        option(
            "--top-p",
            help="Draw only from the most likely tokens that together have this probability.",
            panel="Answers",
        ),
    ] = _SAMPLING.top_p
    seed: Annotated[int, option("--seed", help="Equal seeds give equal answers, for any -j.", panel="Answers")] = (
        _SAMPLING.seed
    )
    max_repeats: Annotated[
        int,
        option(
            "--max-repeats",
            help="Stop an answer that says the same more than N times in a row; 0: never.",
            panel="Answers",
            metavar="N",
        ),
    ] = _SAMPLING.max_repeats


@dataclass(frozen=True, slots=True)
class FailureOptions:
    """Which answers will not do, and what becomes of their segments and of the run."""

    on_error: Annotated[
        OnError,
        option(
            "--on-error",
            help="What becomes of a piece that fails: it stays as it was, is marked, or is left "
            "out; or the run ends there.",
            panel="Failures",
        ),
    ] = DEFAULT_ON_ERROR
    retries: Annotated[
        int, option("--retries", help="How often to ask again after a bad answer.", panel="Failures", metavar="N")
    ] = _POLICY.retries
    check: Annotated[
        str,
        option(
            "--check",
            help=f"Which answers count as bad, besides what the task says: {', '.join(CHECKS)}; or "
            "confidence:0.8, for those that the model was less sure of; or none.",
            panel="Failures",
            metavar="NAMES",
            callback=values.checks,
            show_default=False,
        ),
    ] = ""
    overflow: Annotated[
        Overflow,
        option(
            "--overflow",
            help="What to do with a piece that does not fit the model: split it, or let it fail.",
            panel="Failures",
        ),
    ] = _POLICY.overflow
    timeout: Annotated[
        float | None,
        option(
            "--timeout", help="Time for each answer: 90, 10m.", panel="Failures", metavar="TIME", parser=values.seconds
        ),
    ] = _POLICY.timeout
    max_time: Annotated[
        float | None,
        option(
            "--max-time",
            help="Time for the whole run, which then ends (exit code 124).",
            panel="Failures",
            metavar="TIME",
            parser=values.seconds,
        ),
    ] = None
    errors: Annotated[
        Path | None,
        option(
            "--errors", help="Write a line of JSON for each piece that failed.", panel="Failures", role=roles.written
        ),
    ] = None
    log: Annotated[
        Path | None, option("--log", help="Write a line of JSON for each piece.", panel="Failures", role=roles.written)
    ] = None
    append: Annotated[
        bool,
        option("--append", help="Add to the files of --log and --errors, which else begin anew.", panel="Failures"),
    ] = False
