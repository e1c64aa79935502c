"""A task over documents: from options to segments, questions, answers, and what is made of them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from llmpar.answering.backend import Model
from llmpar.answering.flow import Part
from llmpar.answering.forecast import Forecaster
from llmpar.answering.session import Session, examples_of
from llmpar.cli.forecasting import tell
from llmpar.cli.hints import is_of_lines, warn_of_model
from llmpar.cli.look import show_prompts
from llmpar.cli.options import JobOptions
from llmpar.cli.run import Run, given_up
from llmpar.cli.sampling import joined, show_sample
from llmpar.cli.terms import Terms
from llmpar.cli.values import columns_of
from llmpar.documents.columns import COLUMNS
from llmpar.documents.document import (
    Block,
    Document,
    Encoding,
    Merge,
    Segment,
    Unit,
    text_document,
    text_segment,
)
from llmpar.documents.formats.plain import Plain
from llmpar.documents.formats.protocol import Format, Marking
from llmpar.documents.merger import DocumentMerger, LinesMerger, Merger, RecordMerger
from llmpar.documents.output import DirectoryOutput, InPlaceOutput, Output
from llmpar.documents.spool import rereadable_stdin
from llmpar.errors import InputError, InputUnreadable, UsageError
from llmpar.jobs.pipeline import Pipeline
from llmpar.jobs.record_fields import RecordFields
from llmpar.jobs.reduction import ReducingMerger, Tree, plant
from llmpar.jobs.rehearsal import Rehearsal
from llmpar.jobs.segmenting import Blocks, Fields, pack, with_neighbours
from llmpar.jobs.sharding import NoMerger
from llmpar.reporting.paces import kind_of
from llmpar.reporting.progress import Progress
from llmpar.reporting.report import CUT_OR_LEFT_OUT, LEFT_OUT, Report, counted
from llmpar.tasks.question import Question
from llmpar.tasks.task import Task
from llmpar.visible import one_line


@dataclass(slots=True)
class Job:
    """One task's run over documents.

    Args:
        task: what is asked.
        files: the inputs, "-" for stdin.
        options: the user's.
        terms_in: returns the terms that a text's prompt shows.
        is_total: with "reduce", one answer is made of all documents.
        noun: what a piece is called; somebody waits for the answer to a message, so how long that took is told.
        terms: the file of terms that grows by what the inputs have; None for none.
    """

    task: Task
    files: list[str]
    options: JobOptions
    terms_in: Callable[[str], str] | None = None
    is_total: bool = False
    noun: str = "piece"
    terms: Terms | None = None
    _run: Run = field(init=False)
    _record_fields: RecordFields = field(init=False)
    _is_hinted: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.options.merge.reduce is not None:
            self.task = replace(self.task, reduce=self.options.merge.reduce, merge="reduce")
        self.task = replace(self.task, merge=self._merge)
        fates = CUT_OR_LEFT_OUT if self._merge == "reduce" else None
        if self.terms and self.terms.ends:
            self.noun, fates = "term", LEFT_OUT
        # An answer that fills its room is given twice as much. How much that is, may follow from the text.
        room = math.inf if self.task.growth else 2 * self.task.max_new_tokens(0)
        most = self.options.sampling.max_new_tokens or room
        report = Report(self.noun, fates, shows_latency=self.noun == "message", most_tokens=most)
        translates = self._merge == "document" and self.options.model.engine != "echo"  # whose answers are the source
        into = self.task.value("to_tag") if translates else ""
        is_json = bool(self.task.form and self.task.form.schema)
        columns = columns_of(self.options.merge.columns)
        self._run = Run(self.task.name, self.files, self.options, report, into, is_json)
        self.task = self._run.judged(self.task)
        self._run.kind = kind_of(self.task.decisive())
        self._run.marks = self._marking
        self._run.review = self.options.merge.review
        self._run.tells_confidence = "confidence" in columns or (columns == COLUMNS and self._merge == "jsonl")
        self._record_fields = RecordFields(self.task)

    def run(self) -> int:
        """Do it, and return the exit code.

        Raises:
            LlmparError: what ended it early.
            Interrupted: a signal or the time limit did.
        """
        given = self.options
        work = self._show_prompts if given.output.show_prompt else self._sample if given.merge.sample else self._answer
        return self._run.execute(self._count if given.output.dry_run else work)

    @property
    def _unit(self) -> Unit:
        return self.options.input.unit or self.task.unit

    @property
    def _marking(self) -> Marking:
        """Where markup inside pieces becomes marks: where an answer says the same as its piece, and takes its place."""
        given, merge = self.options.input.marks, self.options.merge
        stands_in = self._merge == "document" and not merge.interleave and self.task.form is None
        if given and not stands_in:
            raise UsageError("--marks needs answers in the places of their pieces (--merge document)")
        if not stands_in or given is False or (self.task.chunk is not None and not self.options.input.unit):
            return "none"
        if given or "invariants" in self.task.checks:
            return "all"
        return "markup" if self._unit in ("sentence", "line") else "none"

    @property
    def _merge(self) -> Merge:
        return self.options.merge.merge or self.task.merge

    def _answer(self, sources: list[str], progress: Progress) -> None:
        if self.terms:
            with rereadable_stdin() if "-" in sources else nullcontext(lambda: None) as rewind:
                self._answer_by_terms(self.terms, sources, rewind, progress)
            return
        model = self._open_model(progress)
        with given_up(self._open_output(sources, progress)) as output, self._run.session(progress, model) as session:
            self._merge_into(output, sources, session, progress)

    def _answer_by_terms(
        self, terms: Terms, sources: list[str], rewind: Callable[[], None], progress: Progress
    ) -> None:
        """Find the names and terms of all inputs, and then answer as ever, unless that was all."""
        run = self._run
        terms.check(sources)

        def segments() -> Iterator[Segment]:
            rewind()
            for index, source in enumerate(sources):
                with suppress(InputError, InputUnreadable):  # told when it is answered
                    for _, found in run.blocks(index, source, self._unit):
                        yield from (self._record_fields.of(segment)[0] for segment in found)

        model = self._open_model(progress)
        with ExitStack() as stack:
            output = None if terms.ends else stack.enter_context(given_up(self._open_output(sources, progress)))
            session = stack.enter_context(run.session(progress, model, self._typical(model)))
            with run.telling(progress, lambda: f"before {one_line(terms.path)} was complete"):
                self.terms_in = terms.grow(run, segments, self.task, session, progress)
            if output is None:
                run.report.finish_document()
                return
            run.report.set_apart()
            rewind()
            self._merge_into(output, sources, session, progress)

    def _open_model(self, progress: Progress) -> Model:
        choice = self._run.choice
        warning = warn_of_model(self.task.name, choice.name) if choice.engine == "model" else None
        if warning and progress.is_watched and not self.options.output.quiet:
            progress.note(f"llmpar {self.task.name}: {warning}")
        return self._run.open_model(progress)

    def _typical(self, model: Model) -> Iterator[Question]:
        """Yield questions that show what most prompts begin with, though terms are asked about before."""
        names = ("before", "after", "terms") if self.task.context else ("terms",)
        segment = text_segment(text_document(self.task.name), "A")
        asked = self.task.for_model(model.families)
        yield from examples_of(Question(segment, asked, tuple((name, "") for name in names)))

    def _merge_into(self, output: Output, sources: list[str], session: Session, progress: Progress) -> None:
        run = self._run
        pipeline = Pipeline(
            session.flow,
            self._merger(session, progress),
            run.report,
            lambda error: run.note_damage(error, progress),
            lambda name, num_segments, num_failed: self._remark(name, num_segments, num_failed, progress),
        )
        with run.telling(progress, lambda: self._fate(pipeline)):
            pipeline.run(run.share(self._parts(sources, session, progress)), output)
        given = self.options.output
        if given.copy_others and given.output_dir:
            self.options.register.folders.copy_others(given.output_dir, given.wait)

    def _show_prompts(self, sources: list[str], progress: Progress) -> None:
        model = self._open_model(progress)
        with Session(model, None, self._run.sampling, self._run.policy, self._run.report) as session:
            show_prompts(
                self._questions(sources, session, progress), self.options.output.show_prompt or 0, model, progress
            )

    def _questions(self, sources: list[str], session: Session, progress: Progress) -> Iterator[Question]:
        for part in self._parts(sources, session, progress):
            yield from part.questions
            if part.block.last:
                self._run.report.finish_document()

    def _sample(self, sources: list[str], progress: Progress) -> None:
        """Ask about a few pieces, and show them with their answers, which are kept as in any run."""
        run, count = self._run, self.options.merge.sample or 0
        model = self._open_model(progress)
        with given_up(run.open_output(progress)) as output, run.session(progress, model) as session:
            joining = None
            if self._merge == "reduce":
                trees = partial(plant, session, self.task.reduction())
                joining = partial(joined, plant=trees, is_total=self.is_total)
            show_sample(self._questions(sources, session, progress), count, run, session, output, joining)

    def _remark(self, name: str, num_segments: int, num_failed: int, progress: Progress) -> None:
        if len(self.files) > 1:
            failed = f", {num_failed:,} failed" if num_failed else ""
            progress.remark(f"{name}: {counted(num_segments, self.noun)}{failed}")

    def _merger(self, session: Session, progress: Progress) -> Merger:
        merge, on_error = self._merge, self.options.failures.on_error
        if self.options.merge.columns is not None and merge not in ("csv", "jsonl"):
            raise UsageError(f"--columns needs --merge csv or jsonl; {self.task.name} has {merge}")
        if self.options.merge.bom and merge != "csv":
            raise UsageError(f"--bom needs --merge csv; {self.task.name} has {merge}")
        interleaves = self.options.merge.interleave
        if interleaves and merge not in ("document", "lines"):
            raise UsageError(f"--interleave needs --merge document or lines; {self.task.name} has {merge}")
        if self.options.store.shard:
            return NoMerger()
        if merge == "document":
            return DocumentMerger(on_error, interleaves)
        if merge == "lines":
            return LinesMerger(on_error, interleaves)
        if merge == "reduce":
            reduction = self.task.reduction()
            trees = partial(plant, session, reduction)
            trees(text_document(self.task.name))  # which tells what is coming before the first answer is there
            # Files of their own have names of their own.
            has_heads = len(self.files) > 1 and not self.is_total and not self.options.output.output_dir
            return ReducingMerger(trees, is_total=self.is_total, has_heads=has_heads, grown=self._describer(progress))
        is_json = bool(self.task.form and self.task.form.schema)
        return RecordMerger(
            merge,
            on_error,
            is_json,
            heads_each=self.options.output.output_dir is not None,
            columns=columns_of(self.options.merge.columns),
            has_bom=self.options.merge.bom,
        )

    def _open_output(self, sources: list[str], progress: Progress) -> Output:
        given, merge = self.options.output, self._merge
        if given.in_place is not None:
            if merge != "document":
                raise UsageError(f"--in-place needs --merge document; {self.task.name} has {merge}")
            return InPlaceOutput(sources, given.in_place, given.wait)
        if given.output_dir:
            if self.is_total:
                raise UsageError("--output-dir: there is one answer for all documents; use -o FILE")
            suffix = {"jsonl": ".jsonl", "csv": ".csv"}.get(merge, "")
            if given.copy_others:
                others = self.options.register.folders.others
                for source in others:
                    self.options.register.read(source)
                copies = [(source, given.output_dir / place) for source, place in others.items()]
                self.options.register.destinations(copies, "--output-dir")
            return DirectoryOutput(given.output_dir, sources, self.options.register, given.wait, suffix)
        return self._run.open_output(progress)

    def _parts(self, sources: list[str], session: Session, progress: Progress) -> Iterator[Part]:
        for index, source in enumerate(sources):
            first = True
            try:
                for part in self._document(index, source, session, progress):
                    yield part
                    first = False
            except (InputError, InputUnreadable) as error:
                if self.options.output.output:  # what is damaged must not be published as a whole
                    more = "; -o has all inputs or none: leave this one out, or use > FILE" if len(sources) > 1 else ""
                    raise type(error)(f"{error}{more}") from None
                document = Document(index, source, Path(source), Encoding())
                yield Part(Block(document, 0, "", 0, first=first, last=True), [], error)

    def _document(self, index: int, source: str, session: Session, progress: Progress) -> Iterator[Part]:
        def accept(format: Format) -> None:  # noqa: A002
            if self.options.merge.interleave and self._merge == "document" and format.not_below:
                raise UsageError(f"{one_line(source)}: --interleave {format.not_below}")

        blocks = self._packed(self._run.blocks(index, source, self._unit, accept), session)
        if self.task.context:
            for block, segments, fields in with_neighbours(blocks, self.task.context):
                yield Part(block, list(map(self._question, segments, fields)))
        else:
            for block, segments in blocks:
                self._look_at(block, segments, progress)
                yield Part(block, list(map(self._question, segments)))

    def _look_at(self, block: Block, segments: list[Segment], progress: Progress) -> None:
        """Tell of the first prose whose lines look like pieces and are none, if nobody says what a piece is.

        A task says it itself, so that this is for the curious where there is one.
        """
        is_open = self.options.input.unit is None and self._unit == "sentence" and block.first and not self._is_hinted
        if not is_open or not segments or not isinstance(segments[0].format, Plain):
            return
        if len(segments) == len(block.text.splitlines()) or not is_of_lines(block.text):
            return
        self._is_hinted = True
        given = self.options.output
        if given.verbose or (self.task.name == "run" and not given.quiet):
            name = one_line(block.document.name)
            progress.note_soon(
                f"llmpar {self.task.name}: {name} seems to hold one text on each line, and each sentence is asked "
                "about by itself; -u line asks about each line"
            )

    def _packed(self, blocks: Blocks, session: Session) -> Blocks:
        # Which pieces go together is the user's to say; a unit that is named is not put together with others.
        if self.task.chunk is None or self.options.input.unit:
            return blocks
        return pack(blocks, session.budget(self.task), session.model.measure)

    def _question(self, segment: Segment, fields: Fields = ()) -> Question:
        segment, said = self._record_fields.of(segment)
        fields = (*fields, *said)
        if self.terms_in:
            fields = (*fields, ("terms", self.terms_in(segment.text)))
        return Question(segment, self.task, fields)

    def _count(self, sources: list[str], progress: Progress) -> None:
        """Tell what a run would do, without the weights and without changing anything."""
        run = self._run
        model = self._open_model(progress)
        if self.terms:
            self.terms_in = self.terms.known()  # those that would be found are the model's to translate
        store = None if run.choice.endpoints else run.present_store()  # a server is not asked what it is
        with Session(model, store, run.sampling, run.policy, run.report) as session:
            forecaster, over = (Forecaster(session, run.sampling, run.policy) for _ in range(2))
            joins = self.task.merge == "reduce" and not self.options.store.shard
            rehearsal = Rehearsal(session, self.task, over, is_total=self.is_total) if joins else None
            for part in run.share(self._parts(sources, session, progress)):
                run.report.read(len(part.questions))
                if part.block.last:
                    run.report.finish_document()
                foreseen = forecaster.add(part.questions)
                if rehearsal:
                    rehearsal.add(part.block.document, foreseen)
                progress.tick()
            name = "chunk" if self.task.chunk and not self.options.input.unit else self._unit
            counts = {"documents": run.report.num_documents, f"pieces ({name}s)": run.report.num_segments_read}
            tell(run, counts, forecaster.outcome, progress, rehearsal)

    def _fate(self, pipeline: Pipeline) -> str:
        done = f"after {counted(self._run.report.num_segments_done, self.noun)}"
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

    def _describer(self, progress: Progress) -> Callable[[Document, int, Tree], None]:
        def describe(document: Document, num_leaves: int, tree: Tree) -> None:
            name = "all documents" if self.is_total else one_line(document.name)
            levels = " → ".join(f"{count:,}" for count in [num_leaves, *tree.shape])
            progress.remark(f"{name}: answers by level of the tree: {levels}")
            self._run.tell_gaps(name, tree.gaps, progress)

        return describe
