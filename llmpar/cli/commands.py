"""The commands that take documents: run, translate, summarize, split."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from llmpar.cli import models, store
from llmpar.cli.options import InputOptions, JobOptions, option, takes_options
from llmpar.errors import InputError, InputUnreadable, UsageError


class NothingToRead(UsageError):
    """No file was named and nobody pipes anything in: a person wants to know how the command works."""


FILES = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILES]...", help="Documents; - or none is stdin.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(run)
    app.command()(translate)
    app.command()(summarize)
    app.command()(split)
    app.add_typer(models.app, name="models")
    app.add_typer(store.app, name="store")


@takes_options
def run(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT [FILES]", help="What to ask of each piece, then documents; - or none is stdin."),
    ] = None,
    prompt_file: Annotated[
        Path | None,
        option("--prompt-file", help="Read the prompt from here; all arguments are documents.", panel="Input"),
    ] = None,
    system: Annotated[str | None, option("--system", help="The system prompt.", panel="Input")] = None,
    options: JobOptions = JobOptions(),  # noqa: B008
) -> int:
    """Ask PROMPT of every piece, and put the answers in the pieces' places.

    {text} in the prompt stands for the piece; without it the piece follows the prompt. Example:

    [bold]llmpar run 'Rewrite politely: {text}' --unit line messages.txt > polite.txt[/bold]
    """
    from llmpar.tasks import task

    arguments = list(arguments or ())
    if prompt_file:
        prompt = _read_prompt(prompt_file)
    elif len(arguments) == 1 and Path(arguments[0]).is_file():
        raise UsageError(f"name a prompt first: llmpar run PROMPT {arguments[0]}")
    elif arguments:
        prompt = arguments.pop(0)
    else:
        raise UsageError("name a prompt: llmpar run PROMPT [FILES]…, or --prompt-file FILE")
    return _job(task.run(prompt, system), arguments, options)


@takes_options
def translate(
    files: FILES = None,
    *,
    to: Annotated[str, option("--to", help="The language to translate into.", panel="Input", show_default=False)],
    options: JobOptions = JobOptions(),  # noqa: B008
) -> int:
    """Translate documents, sentence by sentence, layout kept.

    Example: [bold]llmpar translate --to German article.txt -o artikel.txt[/bold]
    """
    from llmpar.tasks import task

    return _job(task.translate(to), files, options)


@takes_options
def summarize(
    files: FILES = None,
    options: JobOptions = JobOptions(),  # noqa: B008
) -> int:
    """Summarize each paragraph in its place.

    Example: [bold]llmpar summarize report.md | less[/bold]
    """
    from llmpar.tasks import task

    return _job(task.summarize(), files, options)


@takes_options
def split(
    files: FILES = None,
    format: Annotated[  # noqa: A002
        Literal["text", "jsonl"], option("--format", help="One piece a line, or records with spans.", panel="Output")
    ] = "text",
    input: InputOptions = InputOptions(),  # noqa: A002, B008
) -> int:
    """Show the pieces that a model would get, without one.

    Spans count characters from the document's start, after a byte order mark. Example:

    [bold]llmpar split --unit sentence --format jsonl article.txt[/bold]
    """
    from llmpar.documents.document import Segment
    from llmpar.documents.reader import Reader
    from llmpar.documents.splitter import Splitter
    from llmpar.documents.writer import open_stdout
    from llmpar.progress import say

    unit = input.unit or "sentence"

    def show(segment: Segment) -> str:
        if format == "text":
            return segment.text + ("\n\n" if unit in ("paragraph", "document") else "\n")
        start, end = segment.span
        record = {"document": segment.block.document.name, "index": segment.index, "start": start, "end": end}
        return json.dumps(record | {"text": segment.text}, ensure_ascii=False) + "\n"

    sources = _sources(files)
    writer = open_stdout(sources)
    code = 0
    for index, source in enumerate(sources):
        try:
            reader = Reader(index, source, input.encoding_errors)
            splitter = Splitter(reader.document, unit, input.language, input.input_format)
            with contextlib.closing(reader):
                for block in reader.blocks(unit):
                    for segment in splitter.split(block):
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


def _job(task: object, files: list[str] | None, options: JobOptions) -> int:
    from llmpar.cli.job import Job

    return Job(task, _sources(files), options).run()  # type: ignore[arg-type]


def _sources(files: list[str] | None) -> list[str]:
    if files:
        return files
    if sys.stdin is not None and sys.stdin.isatty():
        raise NothingToRead
    return ["-"]


def _read_prompt(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputUnreadable(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not valid UTF-8 at byte {error.start}") from error
