"""Which options `--help` shows; `--help-all` shows the others, too."""

from __future__ import annotations

import inspect
from copy import copy
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

_EVERY = ("model", "threads", "output", "dry_run", "verbose")
_JOB = (*_EVERY, "unit", "output_dir", "in_place", "sample")
COMMON = {
    "run": (*_JOB, "merge", "report", "system", "choices", "task_name"),
    # Of whoever translates, few merge answers otherwise, and many let a translator look over them.
    "translate": (*_JOB, "review", "to", "source_language", "glossary", "terms"),
    "summarize": (*_JOB, "merge", "report", "length", "per"),
    "ask": (*_EVERY, "report", "top", "quote", "parts", "format"),
    "batch": (*_EVERY, "report", "input_file", "error_file", "max_time"),
    "reply": (*_JOB, "merge", "report", "system"),
    "split": ("unit", "format", "language", "input_format", "field", "column"),
    "doctor": ("as_json", "store", "model", "device", "endpoint"),
}
"""The options of each command that `--help` shows, by the names of their parameters. All others are in `--help-all`.

Those of jobs that nobody watches (`--log`, `--errors`, `--check`) and of several machines (`--ray`, `--shard`) are for
whoever has read the page about them.
"""


class FoldedCommand(TyperCommand):
    """A command whose `--help` shows its common options alone."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help text with the common options.

        Args:
            ctx: click's context.
            formatter: click's formatter.
        """
        folded = copy(self)
        common = (*COMMON[self.name or ""], "help_all")
        folded.params = [param for param in self.params if param.param_type_name == "argument" or param.name in common]
        num_others = len(self.params) - len(folded.params)
        path = ctx.command_path
        folded.epilog = f"{path} --help-all shows {num_others} more options; llmpar help lists pages to read."
        super(FoldedCommand, folded).format_help(ctx, formatter)

    def format_all(self, ctx: Any) -> None:
        """Print the help text with all options.

        Args:
            ctx: click's context.
        """
        formatter = ctx.make_formatter()
        super().format_help(ctx, formatter)
        typer.echo(formatter.getvalue(), nl=False)  # empty where rich has printed it


def _show_all(context: typer.Context, value: bool) -> None:
    if value:
        command: Any = context.command
        command.format_all(context)
        raise typer.Exit


HELP_ALL = inspect.Parameter(
    "help_all",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--help-all", help="Show all options and exit.", is_eager=True, callback=_show_all)
    ],
)
"""The option that every command has that is a `FoldedCommand`."""
