"""From options to a run: inputs, task, model and output, joined into a pipeline."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from llmpar.cli.options import (
    InputOptions,
    ModelOptions,
    OutputOptions,
    SamplingOptions,
    check_output,
    check_sampling,
    number,
)
from llmpar.documents.document import Block, Document, Encoding, Result, Unit
from llmpar.documents.output import DirectoryOutput, Output, SingleOutput
from llmpar.documents.reader import Reader, input_size
from llmpar.documents.sentences import find_language
from llmpar.documents.splitter import Splitter
from llmpar.documents.writer import open_output, open_stdout
from llmpar.engine.engine import Engine
from llmpar.errors import InputError, InputUnreadable, Interrupted, UsageError
from llmpar.pipeline import Backend, Part, Pipeline, Sampling
from llmpar.progress import Progress, say
from llmpar.report import Report
from llmpar.tasks.task import Task

_FAILURES_SHOWN = 20


@dataclass(slots=True)
class Job:
    """One command's run over its inputs.

    Args:
        task: what is asked.
        files: the inputs, "-" for stdin.
    """

    task: Task
    files: list[str]
    input: InputOptions
    model: ModelOptions
    sampling: SamplingOptions
    output: OutputOptions
    report: Report = field(default_factory=Report)

    @property
    def unit(self) -> Unit:
        """What a segment is."""
        return self.input.unit or self.task.unit

    def run(self) -> int:
        """Do it, and return the exit code.

        Raises:
            LlmparError: what ended it early.
        """
        check_sampling(self.sampling)
        check_output(self.output)
        find_language(self.input.language)
        if self.files.count("-") > 1:
            raise UsageError("stdin can be read only once; name - one time")
        with Progress(self.output.progress, self.task.name, self.report, self.output.verbose) as progress:
            readable = self._readable(progress)
            if self.output.dry_run:
                return self._dry_run(readable, progress)
            output = self._open_output(readable, progress)
            pipeline = Pipeline(
                self.task,
                Sampling(
                    self.sampling.max_new_tokens,
                    self.sampling.temperature,
                    self.sampling.top_p,
                    self.sampling.seed,
                    self.sampling.max_repeats,
                ),
                lambda: self._open_backend(progress),
                self.report,
                progress.tick,
                self._failure_noter(progress),
                lambda error: progress.note(f"llmpar {self.task.name}: {error}"),
            )
            try:
                pipeline.run(self._parts(readable), output)
            except Interrupted as interrupted:
                if interrupted.exit_code != 141:
                    progress.note(f"llmpar {self.task.name}: {interrupted} {self._fate()}")
                raise
        if not self.output.quiet:
            say(self.report.summary(self.task.name))
        return self.report.exit_code

    def _readable(self, progress: Progress) -> list[str]:
        """Return the inputs that can be opened, and name the others."""
        readable: list[str] = []
        total: int | None = 0
        failure: InputUnreadable | None = None
        for source in self.files:
            try:
                size = input_size(source)
            except InputUnreadable as error:
                if len(self.files) == 1:
                    raise
                failure = error
                self.report.num_unreadable += 1
                progress.note(f"llmpar {self.task.name}: {error}")
                continue
            total = None if total is None or size is None else total + size
            readable.append(source)
        if failure and not readable:
            raise failure
        self.report.num_bytes_total = total
        return readable

    def _open_output(self, sources: list[str], progress: Progress) -> Output:
        if self.output.output_dir:
            return DirectoryOutput(self.output.output_dir, sources)
        if self.output.output:
            return SingleOutput(open_output(self.output.output, sources, progress.aside))
        return SingleOutput(open_stdout(sources, progress.aside))

    def _parts(self, sources: list[str]) -> Iterator[Part]:
        for index, source in enumerate(sources):
            first = True
            try:
                for part in self._document(index, source):
                    yield part
                    first = False
            except (InputError, InputUnreadable) as error:
                if len(sources) == 1 or self.output.output:
                    raise  # what is damaged must not be published as a whole
                document = Document(index, source, Path(source), Encoding())
                yield Part(Block(document, 0, "", 0, first=first, last=True), [], error)

    def _document(self, index: int, source: str) -> Iterator[Part]:
        reader = Reader(index, source, self.input.encoding_errors)
        splitter = Splitter(reader.document, self.unit, self.input.language, self.input.input_format)
        with closing(reader):
            for block in reader.blocks(self.unit):
                yield Part(block, splitter.split(block))

    def _open_backend(self, progress: Progress) -> Backend:
        if self.model.engine == "echo":
            return _echo_backend(number(self.model.threads) or 1, number(self.model.batch_size) or 64, progress)
        return _model_backend(self.task, self.model, progress)

    def _dry_run(self, sources: list[str], progress: Progress) -> int:
        count = _text_counter(self.task, self.model, progress)
        num_tokens = 0
        for part in self._parts(sources):
            self.report.num_segments_read += len(part.segments)
            self.report.num_documents += part.block.last
            num_tokens += sum(count(segment.text) for segment in part.segments)
        report = self.report
        lines = [
            f"documents      {report.num_documents:>12,}",
            f"{self.unit + 's':<14} {report.num_segments_read:>12,}",
        ]
        if self.model.engine == "model":
            lines.append(f"prompt tokens  {num_tokens:>12,}")
        writer = open_stdout(aside=progress.aside)
        writer.write("".join(f"{line}\n" for line in lines).encode())
        writer.close()
        return report.exit_code

    def _failure_noter(self, progress: Progress) -> Callable[[Result], None]:
        def note(result: Result) -> None:
            if self.report.num_failed <= _FAILURES_SHOWN:
                progress.note(f"llmpar {self.task.name}: {result.segment}: {result.error}; kept as it was")

        return note

    def _fate(self) -> str:
        done = f"after {self.report.num_segments_done:,} segments"
        if self.output.output:
            return f"{done}; {self.output.output} is untouched"
        if self.output.output_dir:
            return f"{done}; {self.report.num_documents:,} documents are complete in {self.output.output_dir}"
        return done


def _echo_backend(num_workers: int, num_slots: int, progress: Progress) -> Backend:
    from llmpar.engine.echo import EchoRunner

    engine = Engine([EchoRunner(num_slots) for _ in range(num_workers)], context_length=sys.maxsize)
    progress.watch(lambda: engine.statuses)
    return Backend(
        engine,
        encode=lambda text: text.encode("utf-8", "surrogatepass"),
        decode=lambda ids: bytes(ids).decode("utf-8", "surrogatepass"),
        num_prompt_tokens=0,
    )


def _model_backend(task: Task, options: ModelOptions, progress: Progress) -> Backend:
    progress.doing(f"loading {options.model}")
    _forbid_sockets(options)
    from llmpar.models.registry import resolve

    files = resolve(options.model, offline=options.offline, notify=progress.doing)
    from llmpar.engine.build import build_engine
    from llmpar.models.load import load_model
    from llmpar.models.tokenizer import ChatTokenizer

    tokenizer = ChatTokenizer(files.path, task.system)
    loaded = load_model(files.path, options.device, options.precision, files.source_bits, progress.remark)
    # Prompts of texts with nothing in common part where texts begin; one that parts earlier is read whole.
    prompts = [tokenizer.encode(task.render(text)) for text in ("A", "zebra", "9", "我")]
    prefix = [ids[0] for ids in takewhile(lambda ids: len(set(ids)) == 1, zip(*prompts, strict=False))]
    engine = build_engine(
        loaded.model,
        loaded.context_length,
        loaded.stop_ids | tokenizer.stop_ids,
        number(options.threads),
        number(options.batch_size),
        prefix,
        notify=progress.remark,
    )
    progress.watch(lambda: engine.statuses)
    return Backend(
        engine,
        encode=lambda text: tokenizer.encode(task.render(text)),
        decode=lambda ids: tokenizer.decode(ids).strip(),
        num_prompt_tokens=len(tokenizer.encode(task.render(""))),
    )


def _text_counter(task: Task, options: ModelOptions, progress: Progress) -> Callable[[str], int]:
    if options.engine == "echo":
        return len
    _forbid_sockets(options)
    from llmpar.models.registry import resolve
    from llmpar.models.tokenizer import ChatTokenizer

    tokenizer = ChatTokenizer(resolve(options.model, offline=options.offline, notify=progress.doing).path, task.system)
    return lambda text: len(tokenizer.encode(task.render(text)))


def _forbid_sockets(options: ModelOptions) -> None:
    if options.offline:
        # Before huggingface_hub is imported, which reads it then.
        os.environ["HF_HUB_OFFLINE"] = "1"
