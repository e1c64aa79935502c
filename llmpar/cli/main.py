"""The program: its commands, and the one `except` that turns errors into a line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from itertools import takewhile
from typing import Annotated, Any, NoReturn

import typer

import llmpar
from llmpar import interrupts, unforeseen
from llmpar.cli.arguments import NothingToRead, names_a_file
from llmpar.cli.commands import register
from llmpar.cli.particulars import commanded
from llmpar.errors import (
    EngineFailed,
    Interrupted,
    LlmparError,
    ReaderGone,
    UsageError,
    WriteFailed,
    told_in_shell,
)
from llmpar.reporting.progress import say
from llmpar.visible import one_line

_READER_GONE = ReaderGone().exit_code
_OPTIONAL = ("--in-place", "--show-prompt")  # options that may stand without a value

app = typer.Typer(
    name="llmpar",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
register(app)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"llmpar {llmpar.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Let a local language model work through documents, many pieces at a time.

    Reads files or stdin, writes the document with the answers in it to stdout. `llmpar help` lists pages to read.

    Example:
    [bold]llmpar translate --to French article.txt > article.fr.txt[/bold]
    """


def run_command_line(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; errors are one line on stderr.

    Args:
        arguments: without the program's name.
    """
    with told_in_shell(), commanded(arguments):
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    command = typer.main.get_command(app)
    try:
        result = command.main(args=_with_optional_values(arguments), prog_name="llmpar", standalone_mode=False)
    except NothingToRead:
        run_command_line([arguments[0], "--help"])
        say(f"llmpar {arguments[0]}: no input: name files, or pipe text in")
        return NothingToRead.exit_code
    except EngineFailed as failed:
        say(f"llmpar: {failed}")
        _say_how_to_go_on(failed, arguments)
        return failed.exit_code
    except LlmparError as error:
        say(f"llmpar: {error}{_origin(str(error), arguments)}")
        return error.exit_code
    except Interrupted as interrupted:
        if not interrupted.is_told and not isinstance(interrupted, ReaderGone):
            say(f"llmpar: {interrupted} {interrupted.meanwhile}".rstrip())
        _say_how_to_go_on(interrupted, arguments)
        return interrupted.exit_code
    except OSError as error:  # help and lists go to stdout without us
        if error.errno == errno.EPIPE:
            return _READER_GONE
        if unforeseen.exhausted(error) or unforeseen.is_import(error):
            return _say_unforeseen(error)
        say(f"llmpar: {one_line(error.filename or 'stdout')}: failed: {error.strerror}")
        return WriteFailed.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__module__ != "pyo3_runtime":  # a panic of Rust's
            raise
        return _usage_code(error, arguments) or _say_unforeseen(error)
    return result if isinstance(result, int) else 0


def _say_how_to_go_on(end: EngineFailed | Interrupted, arguments: Sequence[str]) -> None:
    if end.resumption is not None:
        kept = "nothing is finished yet; begin again" if end.is_before_first else "what is finished is kept; go on"
        say(f"llmpar: {kept}{end.resumption} with: {shlex.join(['llmpar', *arguments])}")


def _with_optional_values(arguments: Sequence[str]) -> list[str]:
    """Let some options stand without a value: click would take the next argument for one.

    Only a number is one for --show-prompt, where nothing else can be meant by it.
    """
    options = list(takewhile(lambda argument: argument != "--", arguments))
    found: list[str] = []
    for argument in options:
        if found and found[-1] == "--show-prompt=" and argument.isdigit() and not names_a_file(argument):
            found[-1] += argument
        else:
            found.append(f"{argument}=" if argument in _OPTIONAL else argument)
    return found + list(arguments[len(options) :])


def _say_unforeseen(error: BaseException) -> int:
    line, code = unforeseen.explain(error)
    try:
        say(f"llmpar: {line}")
    except MemoryError:
        unforeseen.say(line)  # it needs less
    return code


def _origin(message: str, arguments: Sequence[str]) -> str:
    """Return which variables gave the values that a message complains of, as a remark; "" if none did."""
    given = {name: value for name, value in os.environ.items() if name.startswith("LLMPAR_") and value}
    # Who checks a setting may know no command line, and begins with the setting's own name.
    setting = re.match(r"[a-z_]+", message)
    options = [*re.findall(r"--[a-z][a-z-]*", message), f"--{setting[0].replace('_', '-')}" if setting else ""]
    named = {f"LLMPAR_{option[2:].replace('-', '_').upper()}": option for option in options}
    found = [name for name in given if name in named and not any(word.startswith(named[name]) for word in arguments)]
    if not given.keys() & named.keys():  # then it may quote the value
        found = [name for name, value in given.items() if len(value) > 2 and value in message]
        found = [name for name in found if not any(given[name] in word for word in arguments)]
    return f" (set by {', '.join(found)})" if found else ""


def _usage_code(error: BaseException, arguments: Sequence[str]) -> int | None:
    """Say what click found wrong with the command line, and return the exit code; None for any other error."""
    # Typer brings a click of its own, or uses the installed one: what both raise is known by this method.
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        return None
    context: Any = getattr(error, "ctx", None)
    message, path = format_message().rstrip("."), context.command_path if context else "llmpar"
    message = message.replace(": Value error, ", ": ")  # which says how it was found out, and nothing more
    if message:
        end = "" if message.endswith("?") else "."
        say(f"{path}: {message}{_origin(message, arguments)}{end} See `{path} --help`.")
    return UsageError.exit_code


def _flushed(code: int) -> int:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        return _READER_GONE
    except OSError:
        return code or WriteFailed.exit_code
    return code


def main() -> NoReturn:
    """Run the program."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # no file that we open may get a number that libraries write their complaints to
    os.close(descriptor)
    if not sys.flags.dev_mode:
        warnings.simplefilter("ignore")  # of libraries, to their programmers; PYTHONWARNINGS would make errors of them
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # it ends the process when it finds no room for more
    interrupts.install()
    try:
        code = _flushed(run_command_line(sys.argv[1:]))
    except Interrupted as late:
        code = late.exit_code
    interrupts.uninstall()
    if code in (_READER_GONE, WriteFailed.exit_code) and sys.stdout is not None:
        # The interpreter flushes stdout once more as it ends, and would complain.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if "torch" in sys.modules or any(thread.name.startswith("llmpar-") for thread in threading.enumerate()):
        # A thread inside a step, or waiting for input, must not hold up the end, nor meet a dying interpreter. And to
        # look for cycles in all that torch has made takes a second.
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
