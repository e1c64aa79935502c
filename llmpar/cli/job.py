"""From options to a run: inputs, task, model, store and output, joined into a pipeline."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from llmpar.answers import Answers, Policy, Sampling
from llmpar.cli.model import Model
from llmpar.cli.options import JobOptions, check_options
from llmpar.documents.document import Block, Document, Encoding, Result, Unit
from llmpar.documents.output import DirectoryOutput, InPlaceOutput, Output, SingleOutput
from llmpar.documents.reader import Reader, input_size
from llmpar.documents.sentences import find_language
from llmpar.documents.splitter import Splitter
from llmpar.documents.writer import open_output, open_stdout
from llmpar.errors import InputError, InputUnreadable, Interrupted, LlmparError, UsageError
from llmpar.interrupts import time_limit
from llmpar.pipeline import Part, Pipeline
from llmpar.progress import Progress, say
from llmpar.records import Records
from llmpar.report import FATES, Report, counted
from llmpar.store.store import NoStore, Store
from llmpar.tasks.checks import parse_checks
from llmpar.tasks.task import Task
from llmpar.visible import one_line

_FAILURES_SHOWN = 20


@dataclass(slots=True)
class Job:
    """One command's run over its inputs.

    Args:
        task: what is asked.
        files: the inputs, "-" for stdin.
        options: the user's.
    """

    task: Task
    files: list[str]
    options: JobOptions
    report: Report = field(default_factory=Report)

    @property
    def unit(self) -> Unit:
        """What a segment is."""
        return self.options.input.unit or self.task.unit

    def run(self) -> int:
        """Do it, and return the exit code.

        Raises:
            LlmparError: what ended it early.
            Interrupted: a signal or the time limit did.
        """
        options = self.options
        check_options(options)
        find_language(options.input.language)
        if self.files.count("-") > 1:
            raise UsageError("stdin can be read only once; name - one time")
        with (
            time_limit(options.failures.max_time),
            Progress(options.output.progress, self.task.name, self.report, options.output.verbose) as progress,
        ):
            readable = self._readable(progress)
            if options.output.dry_run:
                return self._dry_run(readable, progress)
            self._answer(readable, progress)
        if not options.output.quiet:
            say(self.report.summary(self.task.name, options.failures.on_error))
        return self.report.exit_code

    def _answer(self, sources: list[str], progress: Progress) -> None:
        failures = self.options.failures
        model = Model(self.task, self.options.model, progress)
        with ExitStack() as stack:
            output = self._open_output(sources, progress)
            stack.callback(output.abandon)  # once finished, there is nothing left to give up
            others = [Path(source) for source in sources if source != "-"]
            others += [self.options.output.output] if self.options.output.output else []
            records = stack.enter_context(closing(Records(failures.log, failures.errors, model.name, others)))
            store = self._open_store()
            if store:
                stack.callback(store.close)
            pipeline = Pipeline(
                Answers(
                    self.task,
                    self._sampling,
                    self._policy,
                    lambda: store.job(self._description(model, store)) if store else NoStore(),
                    model.open_backend,
                    self.report,
                ),
                self.report,
                failures.on_error,
                model.max_held,
                progress.tick,
                self._noter(records, progress),
                self._damage_noter(progress),
            )
            try:
                pipeline.run(self._parts(sources), output)
            except Interrupted as interrupted:
                if interrupted.exit_code != 141:
                    if store and self.report.num_segments_done and self.options.output.in_place is None:
                        interrupted.resumption = " on the same stdin" if "-" in self.files else ""
                    progress.note(f"llmpar {self.task.name}: {interrupted} {self._fate(pipeline)}")
                raise
            if store and (count := store.evict(self.options.store.store_size)):
                progress.remark(f"forgot {count:,} answers, the least recently used, as the store was full")

    @property
    def _sampling(self) -> Sampling:
        given = self.options.sampling
        return Sampling(given.max_new_tokens, given.temperature, given.top_p, given.seed, given.max_repeats)

    @property
    def _policy(self) -> Policy:
        given, store = self.options.failures, self.options.store
        return Policy(parse_checks(given.check), given.retries, given.timeout, store.refresh, store.retry_failed)

    def _open_store(self) -> Store | None:
        given = self.options.store
        # An echo is not worth keeping, unless somebody says where.
        if given.no_store or (self.options.model.engine == "echo" and not given.store):
            return None
        return Store(given.store, keep_text=not given.no_store_text)

    def _description(self, model: Model, store: Store) -> dict[str, object]:
        """Return all that decides an answer, but the text."""
        task = asdict(self.task)
        for name in ("name", "unit"):  # what decides which texts there are
            del task[name]
        return {"task": task, "sampling": asdict(self._sampling), "model": model.identify(store.fingerprint)}

    def _readable(self, progress: Progress) -> list[str]:
        """Return the inputs that can be opened, and name the others."""
        readable: list[str] = []
        total: int | None = 0
        failure: InputUnreadable | None = None
        for source in self.files:
            try:
                size = input_size(source)
            except InputUnreadable as error:
                if len(self.files) == 1 or self.options.output.in_place is not None:
                    raise  # before anything is replaced: the command may not be what was meant
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
        given = self.options.output
        if given.output_dir:
            return DirectoryOutput(given.output_dir, sources, given.wait)
        if given.in_place is not None:
            return InPlaceOutput(sources, given.in_place, given.wait)
        if given.output:
            writer = open_output(given.output, sources, progress.aside, wait=given.wait, partial=given.partial)
            return SingleOutput(writer)
        return SingleOutput(open_stdout(sources, progress.aside))

    def _parts(self, sources: list[str]) -> Iterator[Part]:
        for index, source in enumerate(sources):
            first = True
            try:
                for part in self._document(index, source):
                    yield part
                    first = False
            except (InputError, InputUnreadable) as error:
                if self.options.output.output:
                    raise  # what is damaged must not be published as a whole
                document = Document(index, source, Path(source), Encoding())
                yield Part(Block(document, 0, "", 0, first=first, last=True), [], error)

    def _document(self, index: int, source: str) -> Iterator[Part]:
        reader = Reader(index, source, self.options.input.encoding_errors)
        splitter = Splitter(reader.document, self.unit, self.options.input.language, self.options.input.input_format)
        with closing(reader):
            for block in reader.blocks(self.unit):
                yield Part(block, splitter.split(block))

    def _dry_run(self, sources: list[str], progress: Progress) -> int:
        count = Model(self.task, self.options.model, progress).text_counter()
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
        if self.options.model.engine == "model":
            lines.append(f"prompt tokens  {num_tokens:>12,}")
        writer = open_stdout(aside=progress.aside)
        writer.write("".join(f"{line}\n" for line in lines).encode())
        writer.close()
        return report.exit_code

    def _noter(self, records: Records, progress: Progress) -> Callable[[Result], None]:
        num_failed = 0

        def note(result: Result) -> None:
            nonlocal num_failed
            records.add(result)
            if result.error is None or self.options.failures.on_error == "fail":  # the end of the run says it
                return
            num_failed += 1
            if num_failed <= _FAILURES_SHOWN:
                fate = FATES[self.options.failures.on_error][0]
                progress.note(f"llmpar {self.task.name}: {result.segment}: {result.error}; {fate}")
            elif num_failed == _FAILURES_SHOWN + 1:
                progress.note(f"llmpar {self.task.name}: more failed; --errors FILE records them all")

        return note

    def _damage_noter(self, progress: Progress) -> Callable[[LlmparError], None]:
        def note(error: LlmparError) -> None:
            if len(self.files) == 1:
                raise error
            progress.note(f"llmpar {self.task.name}: {error}")

        return note

    def _fate(self, pipeline: Pipeline) -> str:
        done = f"after {counted(self.report.num_segments_done, 'segment')}"
        given = self.options.output
        if given.output:
            return f"{done}; {one_line(given.output)} is {'complete' if pipeline.finished else 'untouched'}"
        if given.output_dir:
            complete = counted(len(pipeline.published), "document")
            return f"{done}; complete in {one_line(given.output_dir)}: {complete}"
        if given.in_place is not None:
            # Not the same command: it would ask about the answers that stand in the place of the others.
            left = [file for index, file in enumerate(self.files) if index not in pipeline.published]
            replaced = counted(len(pipeline.published), "document")
            return f"{done}; replaced: {replaced}; go on with the others: {shlex.join(map(one_line, left))}"
        return done
