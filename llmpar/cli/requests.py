"""What `llmpar batch` does: requests read, answered in order, and written where results and errors go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from llmpar.answering.flow import Part
from llmpar.answering.forecast import Forecaster
from llmpar.answering.session import Session
from llmpar.cli.effect import refuse_reading
from llmpar.cli.forecasting import tell
from llmpar.cli.look import show_prompts
from llmpar.cli.options import RunOptions
from llmpar.cli.run import Run, given_up
from llmpar.cli.sampling import show_sample
from llmpar.documents.document import Block
from llmpar.documents.reader import TextReader
from llmpar.documents.source import Source
from llmpar.documents.writer import Writer, open_output
from llmpar.errors import UsageError
from llmpar.jobs.batching import Requests
from llmpar.jobs.pipeline import Pipeline
from llmpar.jobs.sharding import NoMerger
from llmpar.reporting.progress import Progress
from llmpar.reporting.report import Report, counted
from llmpar.tasks.question import Question, Sampling
from llmpar.visible import one_line

_EXAMPLES = 64  # requests that show what prompts begin with


@dataclass(slots=True)
class RequestRun:
    """One run over files of requests.

    Args:
        files: the inputs, "-" for stdin.
        error_file: takes requests that failed; None puts them among the results.
        options: the user's.
        sample: how many requests are asked and shown, and nothing else; None for a whole run.
    """

    files: list[str]
    error_file: Path | None
    options: RunOptions
    sample: int | None = None
    _run: Run = field(init=False)

    def run(self) -> int:
        """Do it, and return the exit code."""
        self._run = Run(
            "batch",
            self.files,
            self.options,
            Report("request", fates=("answered by an error", "answered by errors")),
            kind="batch",
        )
        refuse_reading(self.options.input, "batch")
        if self.error_file and self.options.store.shard:
            raise UsageError("--error-file and --shard exclude each other: a part of them makes no file of results")
        if self.error_file and self.sample:
            raise UsageError("--error-file and --sample exclude each other: a look at a few requests makes no results")
        given = self.options.sampling
        usual = Sampling()
        if any(getattr(given, name) != getattr(usual, name) for name in ("max_new_tokens", "temperature", "top_p")):
            raise UsageError("llmpar batch: each request says itself how its answer is drawn; leave such options out")
        look = self._sample if self.sample else self._answer
        work = self._show_prompts if self.options.output.show_prompt else look
        return self._run.execute(self._count if self.options.output.dry_run else work)

    def _show_prompts(self, sources: list[str], progress: Progress) -> None:
        model = self._run.open_model(progress)
        requests = Requests(model.name, 0, failed=lambda message: self._note_refused(message, progress))
        show_prompts(self._questions(sources, requests), self.options.output.show_prompt or 0, model, progress)

    def _sample(self, sources: list[str], progress: Progress) -> None:
        run = self._run
        model = run.open_model(progress)
        requests = Requests(model.name, 0, failed=lambda message: self._note_refused(message, progress))
        with given_up(run.open_output(progress)) as output, run.session(progress, model) as session:
            show_sample(self._questions(sources, requests), self.sample or 0, run, session, output)

    def _questions(self, sources: list[str], requests: Requests) -> Iterator[Question]:
        for part in self._parts(sources, requests):
            requests.num_requests(part.block)  # its results are not awaited
            yield from part.questions

    def _count(self, sources: list[str], progress: Progress) -> None:
        model = self._run.open_model(progress)
        requests = Requests(
            model.name,
            0,
            failed=lambda message: self._note_refused(message, progress),
            thinks=self.options.model.thinking == "on",
        )
        run = self._run
        counts = {"requests": 0, "answers": 0, "prompt tokens": 0}
        store = None if run.choice.endpoints else run.present_store()  # a server is not asked what it is
        with Session(model, store, run.sampling, run.policy, run.report) as session:
            forecaster = Forecaster(session, run.sampling, run.policy)
            for part in self._parts(sources, requests):
                counts["requests"] += requests.num_requests(part.block)
                counts["answers"] += len(part.questions)
                counts["prompt tokens"] += sum(model.count_tokens(question.prompt) for question in part.questions)
                for shared in run.share(iter([part])):
                    forecaster.add(shared.questions)
            self._note_repeated(requests, progress)
            tell(run, counts, forecaster.outcome, progress)

    def _answer(self, sources: list[str], progress: Progress) -> None:
        run = self._run
        model = run.open_model(progress)
        with ExitStack() as stack:
            output = stack.enter_context(given_up(run.open_output(progress)))
            errors: Writer | None = None
            if self.error_file:
                errors = open_output(self.error_file, progress.aside, wait=self.options.output.wait)
                stack.enter_context(given_up(errors))
            requests = Requests(
                model.name,
                int(time.time()),
                (lambda line: errors.write(line.encode())) if errors else None,
                lambda message: self._note_refused(message, progress),
                self.options.model.thinking == "on",
            )
            parts = self._parts(sources, requests)
            first = list(islice(parts, 1))
            examples = [question for part in first for question in part.questions[:_EXAMPLES]]
            session = stack.enter_context(run.session(progress, model, _in_use(examples)))
            shard = self.options.store.shard
            pipeline = Pipeline(session.flow, NoMerger() if shard else requests, run.report)
            with run.telling(progress, lambda: f"after {counted(run.report.num_segments_done, 'request')}"):
                pipeline.run(run.share(self._forgotten(chain(first, parts), requests)), output)
            if errors:
                errors.close()
            self._note_repeated(requests, progress)
            if other := sorted(requests.names - {model.name}):
                named = one_line(", ".join(other[:3]))
                progress.note(f"llmpar batch: requests name {named}; {model.name} answered (--model chooses)")

    def _parts(self, sources: list[str], requests: Requests) -> Iterator[Part]:
        for index, source in enumerate(sources):
            yield from requests.parts(_blocks(index, source, self._run.longest))

    def _forgotten(self, parts: Iterator[Part], requests: Requests) -> Iterator[Part]:
        """Yield parts whose results nobody awaits, where this run answers a share of them alone."""
        for part in parts:
            if self.options.store.shard:
                requests.num_requests(part.block)
            yield part

    def _note_repeated(self, requests: Requests, progress: Progress) -> None:
        if requests.num_repeated:
            progress.note(
                f"llmpar batch: {counted(requests.num_repeated, 'request')} with a custom_id that an earlier one has, "
                f"first {requests.first_repeated}; all are answered, and only their order tells them apart"
            )

    def _note_refused(self, message: str, progress: Progress) -> None:
        self._run.report.refuse()
        progress.note(f"llmpar batch: {one_line(message)}")


def _in_use(examples: list[Question]) -> list[Question]:
    """Return examples that have a prompt in common: conversations are not compared with beginnings."""
    kinds = {bool(question.conversation and question.conversation.is_beginning) for question in examples}
    return examples if len(kinds) == 1 else []


def _blocks(index: int, source: str, longest: int) -> Iterator[Block]:
    with closing(Source(source)) as opened:
        yield from TextReader(index, opened).blocks("record", longest)
