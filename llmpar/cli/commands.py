"""The commands that take documents: run, translate, summarize, reply, split."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from llmpar.cli import models, roles, store, tasks
from llmpar.cli.apply import apply
from llmpar.cli.arguments import FILES, argument, names_a_file, read_text, refuse_file, sources_of
from llmpar.cli.ask import ask
from llmpar.cli.batch import batch
from llmpar.cli.common_options import FoldedCommand
from llmpar.cli.compare import compare
from llmpar.cli.doctor import doctor
from llmpar.cli.help import help_
from llmpar.cli.input_options import InputOptions
from llmpar.cli.option import option
from llmpar.cli.options import JobOptions
from llmpar.cli.report import report
from llmpar.cli.signature import takes_options
from llmpar.errors import InputError, InputUnreadable, UsageError
from llmpar.tasks.task import Task
from llmpar.visible import json_text, one_line

if TYPE_CHECKING:
    from llmpar.cli.terms import Terms


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(cls=FoldedCommand)(run)
    app.command(cls=FoldedCommand)(translate)
    app.command(cls=FoldedCommand)(summarize)
    app.command(cls=FoldedCommand)(ask)
    app.command(cls=FoldedCommand)(batch)
    app.command(cls=FoldedCommand)(reply)
    app.command(cls=FoldedCommand)(split)
    app.command()(apply)
    app.command()(compare)
    app.command()(report)
    app.command(cls=FoldedCommand)(doctor)
    app.command(name="help")(help_)
    app.add_typer(tasks.app, name="tasks")
    app.add_typer(models.app, name="models")
    app.add_typer(store.app, name="store")


@takes_options
def run(
    arguments: Annotated[
        list[str] | None,
        argument(
            metavar="PROMPT [FILES]",
            help="The prompt, then documents; - or no document is stdin.",
            role=roles.documents_after_first,
        ),
    ] = None,
    prompt_file: Annotated[
        Path | None,
        option(
            "--prompt-file",
            help="Read the prompt from this file; all arguments are then documents.",
            panel="Input",
            role=roles.read,
        ),
    ] = None,
    system: Annotated[str | None, option("--system", help="The system prompt.", panel="Input")] = None,
    task_name: Annotated[
        str | None,
        option(
            "--task",
            help="A task by its name (`llmpar tasks list`) or file; all arguments are then documents.",
            panel="Input",
            metavar="NAME|FILE",
            role=roles.task,
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        option("--set", help="With --task: the value of a name in its prompt.", panel="Input", metavar="NAME=VALUE"),
    ] = None,
    choices: Annotated[
        str | None,
        option("--choices", help="Allow only these answers.", panel="Answers", metavar="A,B,…"),
    ] = None,
    schema: Annotated[
        Path | None,
        option(
            "--schema",
            help="Allow only answers that are JSON of this JSON Schema.",
            panel="Answers",
            metavar="FILE",
            role=roles.read,
        ),
    ] = None,
    options: JobOptions = JobOptions(),  # noqa: B008
) -> int:
    """Ask PROMPT of every piece, and put the answers in the pieces' places.

    {text} in the prompt stands for the piece; without it the piece follows the prompt. Example:

    [bold]llmpar run 'Rewrite politely: {text}' --unit line messages.txt > polite.txt[/bold]
    """
    from llmpar.tasks.task import task_of_prompt

    arguments = list(arguments or ())
    if system is not None:
        refuse_file("--system", system, "the system prompt")
    if options.merge.reduce is not None:
        refuse_file("--reduce", options.merge.reduce, "a prompt")
    if task_name is not None:
        if prompt_file or system is not None:
            raise UsageError("--task holds its own prompts; leave --prompt-file and --system out")
        asked = _with_values(task_name, values or [])
        _refuse_prompt(arguments)
    elif values:
        raise UsageError("--set needs --task: a prompt on the command line has no names but {text}")
    else:
        asked = task_of_prompt(_prompt(arguments, prompt_file), system)
    return _job(_formed(asked, choices, schema), arguments, options)


@takes_options
def translate(
    files: FILES = None,
    *,
    to: Annotated[
        str, option("--to", help="The language to translate into, by name or code.", panel="Input", show_default=False)
    ],
    source_language: Annotated[
        str, option("--from", help="The language of the text; auto leaves it to the model.", panel="Input")
    ] = "auto",
    context: Annotated[
        int,
        option(
            "--context",
            help="Show the model N neighbours on either side of a piece, which are not translated.",
            panel="Input",
            metavar="N",
            min=0,
            max=100,
        ),
    ] = 0,
    glossary: Annotated[
        Path | None,
        option(
            "--glossary",
            help="Terms and their translations; the model is shown those that occur in the piece.",
            panel="Input",
            metavar="FILE.csv",
            role=roles.read,
        ),
    ] = None,
    terms: Annotated[
        Path | None,
        option(
            "--terms",
            help="Find names and recurring terms first, write their translations into this file, "
            "and use it as a glossary.",
            panel="Input",
            metavar="FILE.csv",
            role=roles.grown,
        ),
    ] = None,
    terms_only: Annotated[
        bool,
        option(
            "--terms-only", help="End when the file of terms is written, so that you can correct it.", panel="Input"
        ),
    ] = False,
    options: JobOptions = JobOptions(),  # noqa: B008
) -> int:
    """Translate documents, sentence by sentence, layout kept.

    Numbers, addresses, code and placeholders must come through, and what needs no translation is left as it is.
    Example: [bold]llmpar translate --to German article.txt -o artikel.txt[/bold]
    """
    from llmpar.tasks import translation
    from llmpar.tasks.glossary import Glossary

    task = translation.make_task(to, source_language, context)
    known = Glossary.read(glossary) if glossary else None
    grows = None
    if terms:
        from llmpar.cli.terms import Terms

        grows = Terms(terms, translation.make_term_task(to, source_language), known, terms_only)
    elif terms_only:
        raise UsageError("--terms-only needs --terms FILE.csv, the file that it writes")
    return _job(task, files, options, translation.find_terms(known) if known else None, terms=grows)


@takes_options
def summarize(
    files: FILES = None,
    length: Annotated[
        str,
        option(
            "--length",
            help="How long each summary is: short, medium, long, or a number of words.",
            panel="Answers",
            metavar="short|medium|long|N",
        ),
    ] = "medium",
    per: Annotated[
        Literal["file", "paragraph", "all"],
        option(
            "--per",
            help="What gets a summary: each file, each paragraph (in its place), or all files together.",
            panel="Output",
        ),
    ] = "file",
    options: JobOptions = JobOptions(),  # noqa: B008
) -> int:
    """Summarize documents of any length: chunks at the same time, then their summaries, until one is left.

    Example: [bold]llmpar summarize --length short report.md[/bold]
    """
    from llmpar.tasks import summary

    return _job(summary.make_task(length, per), files, options, is_total=per == "all")


@takes_options
def reply(
    files: FILES = None,
    system: Annotated[
        str | None, option("--system", help="The system prompt: who answers, and how.", panel="Input")
    ] = None,
    options: JobOptions = JobOptions(),  # noqa: B008
) -> int:
    """Answer messages, one a line or JSONL, each on its own.

    Answers come in the messages' order, each as soon as those before it are there.
    In JSONL they take the message's place, or come as records with all its fields
    (--merge jsonl). Example:

    [bold]llmpar reply --merge jsonl mails.jsonl > replies.jsonl[/bold]
    """
    from llmpar.tasks.files import find_task

    if system is not None:
        refuse_file("--system", system, "the system prompt")
    task = find_task("reply")
    return _job(task if system is None else replace(task, system=system), files, options, noun="message")


@takes_options
def split(
    files: FILES = None,
    format: Annotated[  # noqa: A002
        Literal["text", "jsonl"],
        option("--format", help="text: one piece a line; jsonl: records with their places.", panel="Output"),
    ] = "text",
    input: InputOptions = InputOptions(),  # noqa: A002, B008
) -> int:
    """Show the pieces that a model would get, without one.

    Spans count characters from the document's start, after a byte order mark. Example:

    [bold]llmpar split --unit sentence --format jsonl article.txt[/bold]
    """
    from llmpar.cli.effect import Effect
    from llmpar.documents.document import Block, Segment
    from llmpar.documents.formats.protocol import Format
    from llmpar.documents.segments import read_segments
    from llmpar.documents.sentences import find_language
    from llmpar.documents.writer import open_stdout
    from llmpar.reporting.progress import say

    unit = input.unit or "sentence"
    find_language(input.language)  # also where no format needs it

    def show(segment: Segment) -> str:
        if format == "text":
            return segment.text + ("\n\n" if unit in ("paragraph", "document") else "\n")
        start, end = segment.span
        record = {"document": segment.block.document.name, "index": segment.index, "start": start, "end": end}
        return f"{json_text(record | {'text': segment.text})}\n"

    sources = sources_of(files)
    effect = Effect(input.format_options)
    effect.expect(sources, input.reading(unit))

    def read(index: int, source: str) -> Iterator[tuple[Block, list[Segment]]]:
        def seen(name: str, _: Format) -> None:
            effect.see(source, name)

        return read_segments(index, source, input.reading(unit), seen)

    writer = open_stdout()
    code = 0
    for index, source in enumerate(sources):
        try:
            for _, segments in read(index, source):
                for segment in segments:
                    if segment.fault:
                        say(f"llmpar split: {one_line(segment.place)}: {segment.fault}")
                        code = 3
                    else:
                        writer.write(_bytes(show(segment)))
                writer.flush()
        except (InputError, InputUnreadable) as error:
            if len(sources) == 1:
                raise
            say(f"llmpar split: {error}")
            code = 3
    writer.close()
    return code


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character of UTF-16, which UTF-8 has no bytes for
        return text.encode("utf-8", "replace")


def _job(
    task: Task,
    files: list[str] | None,
    options: JobOptions,
    terms_in: Callable[[str], str] | None = None,
    *,
    is_total: bool = False,
    noun: str = "piece",
    terms: Terms | None = None,
) -> int:
    from llmpar.cli.job import Job

    return Job(task, sources_of(files), options, terms_in, is_total, noun, terms).run()


def _prompt(arguments: list[str], prompt_file: Path | None) -> str:
    """Return the prompt, and take it out of the arguments if it is one of them."""
    if prompt_file:
        return read_text(prompt_file)
    if not arguments:
        raise UsageError("name a prompt: llmpar run PROMPT [FILES]…, or --prompt-file FILE, or --task NAME")
    if names_a_file(arguments[0]):
        raise UsageError(
            f"name a prompt first: llmpar run PROMPT {' '.join(map(one_line, arguments))}; a prompt that stands in a "
            "file comes with --prompt-file FILE"
        )
    return arguments.pop(0)


def _refuse_prompt(arguments: list[str]) -> None:
    """Raise UsageError if what stands first, where files do, is a prompt: a task has one."""
    if arguments and "{text}" in arguments[0] and not os.path.lexists(arguments[0]):
        raise UsageError(
            f"{one_line(arguments[0])}: is no file, and --task has a prompt of its own; leave one of them out"
        )


def _with_values(name: str, settings: list[str]) -> Task:
    """Return a task with what its names stand for."""
    from llmpar.tasks.files import find_task, with_values

    values = {}
    for setting in settings:
        key, equals, values[key] = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting!r}: write NAME=VALUE")
    return with_values(find_task(name), values)


def _formed(task: Task, choices: str | None, schema: Path | None) -> Task:
    """Return a task whose answers have the form that the user wants."""
    from llmpar.answering.forms import with_form

    named = None if choices is None else [choice.strip() for choice in choices.split(",")]
    return with_form(task, named, None if schema is None else _parsed(schema), f"--schema {schema}")


def _parsed(schema: Path) -> object:
    from llmpar.batches.fields import parse_json

    try:
        return parse_json(read_text(schema))
    except ValueError as error:
        raise UsageError(f"--schema {schema}: {error}") from error
