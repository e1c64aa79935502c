"""`llmpar ask`: a question over documents, answered from passages that are named."""

from __future__ import annotations

from typing import Annotated, Literal

from llmpar.cli import roles
from llmpar.cli.arguments import argument, names_a_file, refuse_file, sources_of
from llmpar.cli.option import option
from llmpar.cli.options import RunOptions
from llmpar.cli.output_options import SAMPLE
from llmpar.cli.signature import takes_options
from llmpar.errors import UsageError
from llmpar.jobs.defaults import USUAL_TOP
from llmpar.visible import one_line


@takes_options
def ask(
    arguments: Annotated[
        list[str] | None,
        argument(
            metavar="QUESTION [FILES]",
            help="The question, then documents; - or no document is stdin.",
            role=roles.documents_after_first,
        ),
    ] = None,
    parts: Annotated[
        list[str] | None,
        option(
            "--part",
            help="A simpler question that yours is made of; may be given several times.",
            panel="Input",
            metavar="QUESTION",
        ),
    ] = None,
    top: Annotated[
        str,
        option(
            "--top",
            help="Read only the N passages whose words fit the question best, or all. Usually 24.",
            panel="Input",
            metavar="N|all",
        ),
    ] = str(USUAL_TOP),
    quote: Annotated[
        bool,
        option(
            "--quote",
            help="Show passages and no answer: those that say something about the question, and "
            "the three that fit it best.",
            panel="Output",
        ),
    ] = False,
    format: Annotated[  # noqa: A002
        Literal["text", "jsonl"], option("--format", help="text for people, jsonl for programs.", panel="Output")
    ] = "text",
    sample: SAMPLE = None,
    options: RunOptions = RunOptions(),  # noqa: B008
) -> int:
    """Answer a question from documents, and name the passages that the answer rests on.

    Every passage that may matter is read by itself, all at the same time. Example:

    [bold]llmpar ask 'What does a lost card cost?' handbook.md[/bold]
    """
    question, files = _question(list(arguments or ()))
    count = _count(top)
    from llmpar.cli.inquiry import Inquiry

    for part in parts or ():
        refuse_file("--part", part, "a question")
    return Inquiry(question, sources_of(files), parts or [], count, quote, format, options, sample).run()


def _question(arguments: list[str]) -> tuple[str, list[str] | None]:
    if not arguments or not arguments[0].strip():
        raise UsageError("name a question: llmpar ask QUESTION [FILES]…")
    if names_a_file(arguments[0]):
        raise UsageError(f"name a question first: llmpar ask QUESTION {' '.join(map(one_line, arguments))}")
    return arguments[0], arguments[1:] or None


def _count(top: str) -> int | None:
    if top != "all" and not (top.isascii() and top.isdigit() and 0 < int(top) <= 1_000_000):
        raise UsageError(f"--top {top!r}: is neither all nor a number of passages")
    return None if top == "all" else int(top)
