"""The options that say what is made of the answers, where it goes, and what is shown meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from llmpar.cli import roles, values
from llmpar.cli.option import option
from llmpar.documents.columns import COLUMNS
from llmpar.documents.document import Merge


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where answers go, and what is shown."""

    output: Annotated[
        Path | None,
        option("--output", "-o", help="Write here instead of stdout; replaced whole, at the end.", panel="Output",
               role=roles.output),
    ] = None  # fmt: skip
    output_dir: Annotated[
        Path | None,
        option("--output-dir", help="Write each document here under its own name, in its folder's place.",
               panel="Output", role=roles.destination_directory),
    ] = None  # fmt: skip
    copy_others: Annotated[
        bool, option("--copy-others", help="With --output-dir, copy what is no document in folders.", panel="Output")
    ] = False
    in_place: Annotated[
        str | None,
        option("--in-place", help="Replace each input by its answer; =.bak keeps the old one as NAME.bak.",
               panel="Output", metavar="[=SUFFIX]"),
    ] = None  # fmt: skip
    partial: Annotated[
        Path | None,
        option("--partial", help="With -o: if the run ends early, leave its beginning here.", panel="Output",
               role=roles.replaced),
    ] = None  # fmt: skip
    wait: Annotated[
        float,
        option("--wait", help="How long to wait for another run that writes the same file.", panel="Output",
               metavar="TIME", parser=values.patience, show_default=False),
    ] = 0.0  # fmt: skip
    progress: Annotated[
        Literal["auto", "bar", "plain", "json", "none"],
        option("--progress", help="What stderr shows; auto: a bar, on a terminal, outside of pipes.", panel="Output"),
    ] = "auto"
    quiet: Annotated[bool, option("--quiet", "-q", help="No summary line.", panel="Output")] = False
    verbose: Annotated[bool, option("--verbose", "-v", help="Tell what was chosen.", panel="Output")] = False
    show_prompt: Annotated[
        int | None,
        option("--show-prompt", help="Print the first N prompts (3) as the model gets them, and ask nothing.",
               panel="Before the job", metavar="[=N]", parser=values.few),
    ] = None  # fmt: skip
    dry_run: Annotated[
        bool,
        option(
            "--dry-run",
            help="Tell how much there is to do, and how long it may take; load no weights.",
            panel="Before the job",
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """What is made of the answers."""

    merge: Annotated[
        Merge | None,
        option("--merge", help="The document with answers in it, a line each, records, a table (with a ' before cells "
               "that begin like formulas), or all reduced to one.",
               panel="Output", show_default=False),
    ] = None  # fmt: skip
    reduce: Annotated[
        str | None,
        option("--reduce", help="Ask this of the answers, as many as fit at a time, until one is left.",
               panel="Output", metavar="PROMPT"),
    ] = None  # fmt: skip
    interleave: Annotated[
        bool, option("--interleave", help="Put each answer below its source, for review.", panel="Output")
    ] = False
    columns: Annotated[
        str | None,
        option("--columns", help=f"With --merge csv or jsonl, these alone and in this order: {', '.join(COLUMNS)}.",
               panel="Output", metavar="NAMES", callback=values.columns),
    ] = None  # fmt: skip
    bom: Annotated[
        bool, option("--bom", help="Begin a table with a byte order mark, as some spreadsheets want.", panel="Output")
    ] = False
    sample: Annotated[
        int | None,
        option("--sample", help="Ask about N pieces only, spread over the input, and show them with their answers.",
               panel="Before the job", metavar="N", min=1, max=100_000),
    ] = None  # fmt: skip
