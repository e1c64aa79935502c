"""`llmpar batch`: a file of requests in, a file of results out, as OpenAI's batch interface and `vllm run-batch` do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from llmpar.cli import roles
from llmpar.cli.arguments import argument, sources_of
from llmpar.cli.option import option
from llmpar.cli.options import RunOptions
from llmpar.cli.output_options import SAMPLE
from llmpar.cli.signature import takes_options
from llmpar.errors import UsageError


@takes_options
def batch(
    files: Annotated[
        list[str] | None,
        argument(
            metavar="[REQUESTS]...",
            help="Files with a JSON request on each line; - or no file is stdin.",
            show_default=False,
            role=roles.documents,
        ),
    ] = None,
    input_file: Annotated[
        str | None,
        option(
            "--input-file",
            "-i",
            help="The same as the argument; vllm run-batch calls it so.",
            panel="Input",
            role=roles.documents,
        ),
    ] = None,
    error_file: Annotated[
        Path | None,
        option(
            "--error-file",
            help="Write requests that failed to this file, in OpenAI's form, instead of among the results.",
            panel="Output",
            role=roles.replaced,
        ),
    ] = None,
    sample: SAMPLE = None,
    options: RunOptions = RunOptions(),  # noqa: B008
) -> int:
    """Answer requests in the OpenAI batch format: /v1/chat/completions and /v1/completions.

    What a request says of temperature, length and form counts; --model answers whatever model it names. Example:

    [bold]llmpar batch requests.jsonl -o results.jsonl[/bold]
    """
    if input_file is not None:
        if files:
            raise UsageError("name the requests one time: as arguments, or with -i")
        files = [input_file]
    from llmpar.cli.requests import RequestRun

    return RequestRun(sources_of(files), error_file, options, sample).run()
