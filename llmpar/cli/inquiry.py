"""What `llmpar ask` does: passages read and chosen, questions asked of them, and what was found shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from llmpar.answering.flow import Part
from llmpar.answering.forecast import Forecaster
from llmpar.answering.session import Session
from llmpar.cli.forecasting import tell
from llmpar.cli.look import show_prompts
from llmpar.cli.options import RunOptions
from llmpar.cli.run import Run, given_up
from llmpar.cli.sampling import show_sample
from llmpar.documents.document import text_block, text_document
from llmpar.documents.output import SingleOutput
from llmpar.documents.sentences import find_language
from llmpar.errors import InputError, InputUnreadable
from llmpar.jobs import asking
from llmpar.jobs.asking import Conclusion, Finding, Passage
from llmpar.jobs.reduction import labelled
from llmpar.jobs.rehearsal import Rehearsal
from llmpar.reporting.progress import Progress
from llmpar.reporting.report import LEFT_OUT, Report, counted
from llmpar.tasks.files import find_task
from llmpar.tasks.question import Question
from llmpar.tasks.task import Task
from llmpar.visible import json_text, one_line

_QUOTED = 3  # passages whose words fit a question best are shown, whatever the model says of them
_HEAD = 100  # characters of a passage that tell which it is
_NOWHERE = text_document("answer")


@dataclass(slots=True)
class Inquiry:
    """One question's run.

    Args:
        question: what the user wants to know.
        files: the inputs, "-" for stdin.
        parts: simpler questions that it is made of; the model may find some, if there are none.
        top: how many passages are read for each question; None for all.
        quotes: show passages, and no answer.
        format: "text" or "jsonl".
        options: the user's.
        sample: how many passages are asked and shown, and nothing else; None for a whole run.
    """

    question: str
    files: list[str]
    parts: list[str]
    top: int | None
    quotes: bool
    format: str
    options: RunOptions
    sample: int | None = None
    _run: Run = field(init=False)

    def run(self) -> int:
        """Do it, and return the exit code."""
        self._run = Run("ask", self.files, self.options, Report(fates=LEFT_OUT), kind="ask")
        return self._run.execute(self._count if self.options.output.dry_run else self._answer)

    def _answer(self, sources: list[str], progress: Progress) -> None:
        run = self._run
        task = run.judged(find_task("ask"))
        model = run.open_model(progress)
        with (
            given_up(run.open_output(progress)) as output,
            run.session(progress, model) as session,
            given_up(session.flow),
        ):
            passages = list(self._passages(sources, task, session, progress))
            if count := self.options.output.show_prompt:
                asked = asking.choose([self.question], passages, self.top, self._language(passages))[0]
                first = (asking.ask_of(passages[number], self.question, task) for number in asked)
                show_prompts(first, count, model, progress)
                return
            if self.sample:
                show_sample(
                    self._asked(passages, task, self.parts or [self.question]), self.sample, run, session, output
                )
                return
            num_failed = run.report.num_failed
            questions = self.parts or asking.divide(self.question, session, run.judged(find_task("question")))
            if run.report.num_failed > num_failed:
                progress.note("llmpar ask: so the question is asked as a whole; --part names its parts")
            if questions != [self.question]:
                progress.remark("asked: " + " | ".join(map(one_line, questions)))
            language = self._language(passages)
            chosen = asking.choose(questions, passages, self.top, language)
            num_read = sum(map(len, chosen))
            progress.remark(
                f"{num_read:,} pieces to ask about: one of {len(passages):,} passages and one question each"
            )
            if shard := self.options.store.shard:
                for _, results in session.flow.answered(shard.of(asking.asked_of(questions, passages, chosen, task))):
                    for _ in results:
                        pass
                session.flow.close()
                return
            num_failed = run.report.num_failed
            findings = list(asking.find(questions, passages, chosen, session, task))
            num_lost = run.report.num_failed - num_failed
            answer = Conclusion("") if self.quotes else asking.conclude(self.question, findings, session, task)
            session.flow.close()
            if self.quotes:
                findings = asking.quote([self.question, *questions], passages, findings, _QUOTED, language)
            self._show(output, "".join(self._told(findings, answer)))
            run.tell_gaps("the answer", answer.gaps, progress)
            if not findings:
                progress.note(f"llmpar ask: {_nothing_found(num_read, num_lost, len(passages))}")

    def _count(self, sources: list[str], progress: Progress) -> None:
        """Tell what a run would do, without the weights and without changing anything."""
        run = self._run
        task = run.judged(find_task("ask"))
        model = run.open_model(progress)
        store = None if run.choice.endpoints else run.present_store()  # a server is not asked what it is
        with Session(model, store, run.sampling, run.policy, run.report) as session:
            passages = list(self._passages(sources, task, session, progress))
            forecaster, over = (Forecaster(session, run.sampling, run.policy) for _ in range(2))
            concluding = task.with_values(question=self.question)
            is_all = self.quotes or self.options.store.shard
            rehearsal = None if is_all else Rehearsal(session, concluding, over, is_total=True)
            asked = list(self._asked(passages, task, self._parts_foreseen(forecaster)))
            for part in run.share(iter([Part(text_block(_NOWHERE, ""), asked)])):
                foreseen = forecaster.add(part.questions)
                if rehearsal:
                    rehearsal.add(_NOWHERE, asking.findings_foreseen(foreseen, task))
            counts = {"documents": run.report.num_documents, "pieces (passages)": len(passages)}
            tell(run, counts, forecaster.outcome, progress, rehearsal)

    def _parts_foreseen(self, forecaster: Forecaster) -> list[str]:
        """Return the questions that the question is made of, if that is known without asking."""
        divider = None if self.parts else asking.divider(self.question, self._run.judged(find_task("question")))
        if divider is None:
            return self.parts or [self.question]
        (foreseen,) = forecaster.add([divider])
        return (
            asking.divided(self.question, foreseen.answer)
            if foreseen.fate == "kept" and foreseen.answer
            else [self.question]
        )

    def _asked(self, passages: list[Passage], task: Task, questions: list[str]) -> Iterator[Question]:
        """Yield what is asked of the passages."""
        chosen = asking.choose(questions, passages, self.top, self._language(passages))
        for part in asking.asked_of(questions, passages, chosen, task):
            yield from part.questions

    def _passages(self, sources: list[str], task: Task, session: Session, progress: Progress) -> Iterator[Passage]:
        run = self._run
        for index, source in enumerate(sources):
            try:
                unit = self.options.input.unit or task.unit
                for passage in asking.gather(run.blocks(index, source, unit), task, session):
                    progress.tick()
                    if passage.segment.fault:
                        run.report.refuse()
                        progress.note(
                            f"llmpar ask: {one_line(passage.segment.place)}: {passage.segment.fault}; left out"
                        )
                    else:
                        yield passage
                run.report.finish_document()
            except (InputError, InputUnreadable) as error:
                run.report.miss_input()
                run.note_damage(error, progress)

    def _language(self, passages: list[Passage]) -> str:
        given = find_language(self.options.input.language)
        return asking.language_of(passages) if given == "auto" else given

    def _told(self, findings: list[Finding], answer: Conclusion) -> Iterator[str]:
        if self.format == "jsonl":
            if not self.quotes:
                partial = {"partial": True} if answer.gaps.num_partial or answer.gaps.is_cut else {}
                yield f"{json_text({'question': self.question, 'answer': answer.text, **partial})}\n"
            for finding in findings:
                segment = finding.passage.segment
                place = {"document": segment.block.document.name, "line": segment.line, "span": segment.span}
                said = {"question": finding.question, "finding": finding.answer or None}
                yield f"{json_text({**said, **place, 'passage': segment.text})}\n"
            return
        if answer.text:
            yield f"{labelled(answer.text, answer.gaps)}\n"
        for finding in _once(findings):
            text = finding.passage.segment.text
            yield (
                f"{finding.passage.place}: {text}\n\n" if self.quotes else f"  {finding.passage.place}: {_head(text)}\n"
            )

    def _show(self, output: SingleOutput, text: str) -> None:
        writer = output.begin(_NOWHERE)
        writer.write(text.encode("utf-8", "surrogateescape"))
        output.end()
        output.finish()


def _nothing_found(num_read: int, num_lost: int, num_passages: int) -> str:
    """Return that there is no answer, and what may help."""
    if not num_passages:
        return "there is nothing to read in what it was given"
    more = f"; --top all reads all {num_passages:,}" if num_read < num_passages else ""
    if not num_read:
        return f"nothing was found: no passage shares a word with the question{more}"
    lost = f"; {num_lost:,} of them had no good answer" if num_lost else ""
    return f"nothing was found in {counted(num_read, 'passage')} that the model read{lost}{more}"


def _once(findings: list[Finding]) -> list[Finding]:
    """Return a finding for each passage, in the order of the documents."""
    found = {(f.passage.segment.block.document.index, f.passage.segment.span): f for f in reversed(findings)}
    return [found[place] for place in sorted(found)]


def _head(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _HEAD else flat[: _HEAD - 1].rstrip() + "…"
