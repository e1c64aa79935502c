"""The options that say what is made of the answers, where it goes, and what is shown meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from llmpar.cli import roles, values
from llmpar.cli.option import option
from llmpar.documents.columns import ALL_COLUMNS
from llmpar.documents.document import Merge

SAMPLE = Annotated[
    int | None,
    option(
        "--sample",
        help="Ask only about N pieces that are spread over the input, and show them with their answers.",
        panel="Before the job",
        metavar="N",
        min=1,
        max=100_000,
    ),
]


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where answers go, and what is shown."""

    output: Annotated[
        Path | None,
        option(
            "--output",
            "-o",
            help="Write to this file instead of stdout; it is replaced as a whole, at the end.",
            panel="Output",
            role=roles.output,
        ),
    ] = None
    output_dir: Annotated[
        Path | None,
        option(
            "--output-dir",
            help="Write each document into this directory, under its own name; files of folders keep their places.",
            panel="Output",
            role=roles.destination_directory,
        ),
    ] = None
    copy_others: Annotated[
        bool,
        option("--copy-others", help="With --output-dir: of folders, copy also what is no document.", panel="Output"),
    ] = False
    in_place: Annotated[
        str | None,
        option(
            "--in-place",
            help="Replace each input by its answer; =.bak keeps the old one as NAME.bak.",
            panel="Output",
            metavar="[=SUFFIX]",
        ),
    ] = None
    partial: Annotated[
        Path | None,
        option(
            "--partial",
            help="With -o: keep what is done in this file if the run ends early.",
            panel="Output",
            role=roles.replaced,
        ),
    ] = None
    report: Annotated[
        Path | None,
        option(
            "--report",
            help="Write a page for a browser here, with all pieces and answers, also if the run ends early.",
            panel="Output",
            metavar="FILE.html",
            role=roles.replaced,
        ),
    ] = None
    wait: Annotated[
        float,
        option(
            "--wait",
            help="How long to wait for another run that writes the same file.",
            panel="Output",
            metavar="TIME",
            parser=values.patience,
            show_default=False,
        ),
    ] = 0.0
    progress: Annotated[
        Literal["auto", "bar", "plain", "json", "none"],
        option(
            "--progress",
            help="What to show on stderr; auto: how far the run is, on a terminal, and nothing in a pipe.",
            panel="Output",
        ),
    ] = "auto"
    quiet: Annotated[bool, option("--quiet", "-q", help="Print no summary line.", panel="Output")] = False
    verbose: Annotated[
        bool, option("--verbose", "-v", help="Tell what was chosen, and what is noticed.", panel="Output")
    ] = False
    show_prompt: Annotated[
        int | None,
        option(
            "--show-prompt",
            help="Print the first N prompts (3) as the model gets them, and ask nothing.",
            panel="Before the job",
            metavar="[=N]",
            parser=values.few,
        ),
    ] = None
    dry_run: Annotated[
        bool,
        option(
            "--dry-run",
            help="Tell how much there is to do and how long it may take; load no weights.",
            panel="Before the job",
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """What is made of the answers."""

    merge: Annotated[
        Merge | None,
        option(
            "--merge",
            help="What to write: the document with the answers in it, a line for each answer, "
            "records, a table, or one answer made of all (reduce).",
            panel="Output",
            show_default=False,
        ),
    ] = None
    reduce: Annotated[
        str | None,
        option(
            "--reduce",
            help="Ask this about the answers, as many at a time as fit, until one is left.",
            panel="Output",
            metavar="PROMPT",
        ),
    ] = None
    interleave: Annotated[
        bool, option("--interleave", help="Put each answer below its source, to compare them.", panel="Output")
    ] = False
    columns: Annotated[
        str | None,
        option(
            "--columns",
            help=f"With --merge csv or jsonl: the columns to write, in this order: {', '.join(ALL_COLUMNS)}.",
            panel="Output",
            metavar="NAMES",
            callback=values.columns,
        ),
    ] = None
    bom: Annotated[
        bool,
        option("--bom", help="Begin a table with a byte order mark, which some spreadsheets need.", panel="Output"),
    ] = False
    review: Annotated[
        Path | None,
        option(
            "--review",
            help="Write all pieces and answers here, those in doubt first, for you to correct and give back "
            "(`llmpar apply`): a table (.csv, .tsv), or a catalogue (.po).",
            panel="Output",
            metavar="FILE",
            role=roles.replaced,
        ),
    ] = None
    sample: SAMPLE = None
