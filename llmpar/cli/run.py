"""What every command has that runs a model over inputs: what can be read, what is shown, kept and recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

from llmpar.answering.attempts import Policy
from llmpar.answering.backend import Model
from llmpar.answering.choice import ModelChoice, longest_held, open_model
from llmpar.answering.flow import Part
from llmpar.answering.judging import PARTS
from llmpar.answering.session import Session
from llmpar.cli.advice import advise
from llmpar.cli.effect import Effect
from llmpar.cli.endpoints import refuse_idle_options, tell_once_where_texts_go
from llmpar.cli.fetching import ask_to_fetch
from llmpar.cli.limits import check_options
from llmpar.cli.option import settings_of
from llmpar.cli.options import RunOptions
from llmpar.cli.reported import reported
from llmpar.documents.document import Block, Result, Segment, Unit
from llmpar.documents.formats.protocol import Format, Marking, Reading
from llmpar.documents.output import SingleOutput
from llmpar.documents.segments import read_segments
from llmpar.documents.sentences import find_language
from llmpar.documents.source import input_size
from llmpar.documents.writer import open_output, open_stdout
from llmpar.errors import EngineFailed, InputUnreadable, Interrupted, LlmparError, ReaderGone, UsageError
from llmpar.jobs.reduction import Gaps
from llmpar.reporting.pace import Machine, Pace, measured
from llmpar.reporting.paces import recall, recall_most, remember
from llmpar.reporting.progress import Progress, say
from llmpar.reporting.records import Records
from llmpar.reporting.report import FATES, Report, counted
from llmpar.reporting.screen import fitted
from llmpar.review.review import NoReview, Review
from llmpar.store.store import Store, default_path
from llmpar.tasks.checks import parse_checks
from llmpar.tasks.question import Question, Sampling
from llmpar.tasks.task import Task
from llmpar.visible import one_line

_FAILURES_SHOWN = 20


class _Given(Protocol):
    def abandon(self) -> None: ...


_G = TypeVar("_G", bound=_Given)


@contextmanager
def given_up(given: _G) -> Iterator[_G]:
    """Give something up at the end of a block, however that comes; of what is complete by then nothing is lost."""
    try:
        yield given
    finally:
        given.abandon()


@dataclass(slots=True)
class Run:
    """One command's run over its inputs.

    Args:
        name: of the command, or of its task.
        files: the inputs, "-" for stdin.
        options: the user's.
        report: counts what happens.
        into_language: the tag of the language that answers are in, "" for none.
        is_json: whether answers are JSON.
        marks: where markup inside pieces becomes marks.
        review: a file that takes all answers for a person to look through; None for none.
        tells_confidence: whether what comes out tells how sure the model was, of answers that have a form, too.
        kind: a digest of what is asked, by which the pace of earlier runs of the same is found.
    """

    name: str
    files: list[str]
    options: RunOptions
    report: Report = field(default_factory=Report)
    into_language: str = ""
    is_json: bool = False
    marks: Marking = "none"
    review: Path | None = None
    tells_confidence: bool = False
    kind: str = ""
    _effect: Effect = field(init=False)

    def __post_init__(self) -> None:
        self._effect = Effect(self.options.input.format_options)

    def execute(self, work: Callable[[list[str], Progress], None]) -> int:
        """Do the work on the inputs that can be read, say how it went, and return the exit code.

        Raises:
            LlmparError: what ended it early.
            Interrupted: a signal or the time limit did.
        """
        options = self.options
        check_options(options)
        refuse_idle_options(options.model)
        find_language(options.input.language)
        with Progress(options.output.progress, self.name, self.report, options.output.verbose) as progress:
            work(self._readable(progress), progress)
        is_look = options.output.dry_run or options.output.show_prompt
        if not options.output.quiet and not is_look:
            say(fitted(self.report.summary(self.name, options.failures.on_error)))
            on_error, translates = options.failures.on_error, bool(self.into_language)
            if advice := advise(self.report, self.name, on_error, keeps=self._keeps, translates=translates):
                say(fitted(advice))
            if self.tells_confidence and not self.choice.endpoints and (number := self.report.num_unsure):
                say(
                    f"llmpar {self.name}: the confidence of {counted(number, 'kept answer')} is not known; "
                    "--check confidence:0 asks again"
                )
        return self.report.exit_code

    @contextmanager
    def session(self, progress: Progress, model: Model, examples: Iterable[Question] = ()) -> Iterator[Session]:
        """Open what answers questions, and tell a run that ends early how it goes on."""
        failures, output = self.options.failures, self.options.output
        # A server is asked for its model's name: for records, and not where there is nothing to ask.
        name = model.name if failures.log or failures.errors or output.report else ""
        with (
            closing(Records(failures.log, failures.errors, name, appends=failures.append)) as records,
            reported(self.name, self.options, self.report, name, progress) as report,
            given_up(self._open_review(progress)) as review,
        ):
            store = self._open_store()
            session = Session(
                model,
                store,
                self.sampling,
                self.policy,
                self.report,
                on_error=failures.on_error,
                tick=progress.tick,
                done=self._noter(records, lambda result: report(result, store), review, progress),
                examples=examples,
            )
            review.checks = session.checks_of
            progress.recall(self._pace_before)
            with session:
                try:
                    yield session
                    review.finish()
                except (Interrupted, EngineFailed) as end:
                    if store and output.in_place is None and not isinstance(end, ReaderGone):
                        end.resumption = " on the same stdin" if "-" in self.files else ""
                        end.is_before_first = not self.report.num_segments_done
                    raise
                self._remember_pace(progress)
                if store and (count := store.evict(self.options.store.store_size)):
                    progress.remark(f"forgot {count:,} answers, the least recently used, as the store was full")

    @contextmanager
    def telling(self, progress: Progress, fate: Callable[[], str]) -> Iterator[None]:
        """Tell of work that ends early what became of it.

        Args:
            progress: tells it.
            fate: returns that, as the end of a sentence.
        """
        try:
            yield
        except ReaderGone:  # and nobody is left to be told
            raise
        except Interrupted as interrupted:
            progress.note(f"llmpar {self.name}: {interrupted} {fate()}")
            interrupted.is_told = True
            raise
        except EngineFailed:  # why, is said last
            progress.note(f"llmpar {self.name}: ended {fate()}")
            raise

    def open_model(self, progress: Progress) -> Model:
        """Return the model that the user chose; nothing of it is read yet."""
        choice, given = self.choice, self.options.model
        if choice.engine == "model":
            progress.aside(lambda: ask_to_fetch(given.model, yes=given.yes, offline=given.offline))
        model = open_model(choice, progress)
        if choice.endpoints:
            from llmpar.answering.endpoint.model import Endpoints

            assert isinstance(model, Endpoints)
            tell_once_where_texts_go(model.addresses, progress.note)
        return model

    def open_output(self, progress: Progress) -> SingleOutput:
        """Return the one place where all output goes; a run that has a share of the pieces writes none."""
        given = self.options.output
        if given.output_dir or given.in_place is not None:
            raise UsageError(f"llmpar {self.name} writes one output; use -o FILE, or stdout")
        if given.output:
            writer = open_output(given.output, progress.aside, wait=given.wait, partial=given.partial)
            return SingleOutput(writer)
        return SingleOutput(open_stdout(progress.aside))

    def judged(self, task: Task) -> Task:
        """Return a task with the checks that the user wants."""
        return replace(task, checks=parse_checks(self.options.failures.check, task.checks))

    def blocks(
        self, index: int, source: str, unit: Unit, accept: Callable[[Format], None] = lambda _: None
    ) -> Iterator[tuple[Block, list[Segment]]]:
        """Yield an input's blocks, each with its segments; see `documents.segments`.

        Args:
            index: the input's place in the run.
            source: a path, or "-" for stdin.
            unit: what a piece is.
            accept: is told the input's format, and may raise a UsageError.
        """

        def seen(name: str, format: Format) -> None:  # noqa: A002
            self._effect.see(source, name)
            accept(format)

        return read_segments(index, source, self.reading(unit), seen)

    def reading(self, unit: Unit) -> Reading:
        """Return how the inputs are read, into pieces of this unit."""
        reading = self.options.input.reading(unit)
        return replace(
            reading,
            longest=self.longest,
            into_language=self.into_language,
            is_json=self.is_json,
            marks=self.marks,
        )

    def tell_gaps(self, name: str, gaps: Gaps, progress: Progress) -> None:
        """Say of one answer that was made of many what it lacks, by place.

        Args:
            name: whose answer it is.
            gaps: what it lacks.
            progress: tells it.
        """
        if gaps.num_partial:
            progress.note(
                f"llmpar {self.name}: {name}: the last step failed; {gaps.num_partial:,} answers about parts stand "
                "there, under a line that says so"
            )
        if gaps.num_missing:
            places = ", ".join(map(one_line, gaps.missing))
            if (num_others := gaps.num_missing - len(gaps.missing)) > 0:
                places += f" and {counted(num_others, 'other part')}"
            progress.note(f"llmpar {self.name}: {name}: says nothing of {places}, as something about it failed")

    def note_damage(self, error: LlmparError, progress: Progress) -> None:
        """Name an input that is damaged, or raise the error if it is the only one."""
        if len(self.files) == 1:
            raise error
        progress.note(f"llmpar {self.name}: {error}")

    @property
    def longest(self) -> int:
        """The most characters that are held of one record, or of one document that is one piece."""
        return longest_held(self.options.model.max_memory)

    def share(self, parts: Iterator[Part]) -> Iterator[Part]:
        """Yield parts of documents with the questions that this run is to answer, where several share them."""
        shard = self.options.store.shard
        return parts if shard is None else shard.of(parts)

    @property
    def machine(self) -> Machine:
        """What this run computes on, by which the pace of earlier ones is found."""
        choice = self.choice
        return Machine(choice.name, choice.device, choice.precision, choice.threads, choice.batch_size)

    def _remember_pace(self, progress: Progress) -> None:
        report = self.report
        if not self._keeps or self.choice.engine != "model" or report.seconds_to_start is None:
            return
        pace = measured(self.machine, self.kind, report, progress.statuses)
        if pace and (before := recall(self.machine, self.kind, pace.num_read, pace.num_written)):
            # The first start fetches a model, or makes it ready, which the next one will not.
            pace = replace(pace, start=min(pace.start, before.start))
        if pace:
            remember(pace)

    def _pace_before(self, num_read: float) -> Pace | None:
        """Return how fast an earlier run here was that is most like this one, of so many tokens to read."""
        return recall_most(self.machine, self.kind, round(num_read)) if self.choice.engine == "model" else None

    @property
    def choice(self) -> ModelChoice:
        """Which model answers, and on what."""
        given = self.options.model
        return settings_of(ModelChoice, given, name=given.model, endpoints=tuple(given.endpoint or ()))

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn."""
        return settings_of(Sampling, self.options.sampling)

    @property
    def policy(self) -> Policy:
        """What happens when an answer will not do."""
        given = self.options.failures
        told = (given.log, given.errors, self.review, self.options.output.report)
        scores_forms = self.tells_confidence or any(place is not None for place in told)
        return settings_of(Policy, given, self.options.store, scores_forms=scores_forms)

    @property
    def _keeps(self) -> bool:
        """Whether answers are kept. An echo's are not worth it, unless somebody says where."""
        given = self.options.store
        return not given.no_store and (self.options.model.engine != "echo" or given.store is not None)

    def _open_store(self) -> Store | None:
        given = self.options.store
        return Store(given.store, keep_text=not given.no_store_text) if self._keeps else None

    def _open_review(self, progress: Progress) -> Review | NoReview:
        if self.review is None:
            return NoReview()
        on_error, wait = self.options.failures.on_error, self.options.output.wait
        aside, language = progress.aside, self.into_language
        return Review(self.review, on_error, keeps=self._keeps, aside=aside, wait=wait, language=language)

    def present_store(self) -> Store | None:
        """Return the store if there is one already, for a run that must not make one."""
        there = (self.options.store.store or default_path()).exists()
        return self._open_store() if there else None

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
                self.report.miss_input()
                progress.note(f"llmpar {self.name}: {error}")
                continue
            total = None if total is None or size is None else total + size
            readable.append(source)
        if failure and not readable:
            raise failure
        self.report.expect_bytes(total)
        self._effect.expect(readable, self.options.input.reading("sentence"))
        return readable

    def _noter(
        self, records: Records, report: Callable[[Result], None], review: Review | NoReview, progress: Progress
    ) -> Callable[[Result], None]:
        num_failed = 0

        def note(result: Result) -> None:
            nonlocal num_failed
            records.add(result)
            report(result)
            review.add(result)
            if result.finish_reason == PARTS and not result.cached:
                progress.remark(f"{result.segment}: answers lost its markup; put together from what stands between")
            if result.error is None or self.options.failures.on_error == "fail":  # the end of the run says it
                return
            num_failed += 1
            if num_failed <= _FAILURES_SHOWN:
                before = " (as in an earlier run)" if result.cached else ""
                fates = self.report.fates or FATES[self.options.failures.on_error]
                fate = "" if result.segment.label else f"; {fates[0]}"  # of a step between, the last one tells
                progress.note(fitted(f"llmpar {self.name}: {result.segment}: {result.error}{before}{fate}"))
            elif num_failed == _FAILURES_SHOWN + 1:
                progress.note(f"llmpar {self.name}: more failed; --errors FILE records them all")

        return note
