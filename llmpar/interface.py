"""llmpar from Python: texts in, results out, as they come and in order. What the commands do, without files.

    import llmpar

    for result in llmpar.run(messages, "Which product is this about? {text}", choices=["lamp", "chair"]):
        print(result.text, result.answer, result.error)

Nothing is read of `texts` before the first result is asked for; then some hundreds are read ahead, which keep the model
busy. No model is loaded before there is a first text that no earlier run has answered. Each call loads its model;
several calls may run at the same time in threads of their own.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llmpar.answering.attempts import Policy
from llmpar.answering.choice import ModelChoice, open_model
from llmpar.answering.flow import Part
from llmpar.answering.forms import with_form
from llmpar.answering.session import Session
from llmpar.documents.document import (
    Result,
    Unit,
    text_document,
)
from llmpar.documents.register import Register
from llmpar.errors import UsageError
from llmpar.jobs.defaults import USUAL_TOP
from llmpar.jobs.given_texts import blocks_of, listed, parts_of
from llmpar.reporting.report import Report
from llmpar.store.held import companions
from llmpar.store.store import Store
from llmpar.tasks.question import Question, Sampling
from llmpar.tasks.task import Task

if TYPE_CHECKING:
    from llmpar.engine.worker import WorkerStatus
    from llmpar.jobs.asking import Finding

DEFAULT_MODEL = ModelChoice()
DEFAULT_SAMPLING = Sampling()
DEFAULT_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question over several texts, "" for none, and what was found in which of them.

    With `is_partial` the last step failed: the text is several answers, which were not made one, or it has no end.
    """

    text: str
    findings: tuple[Finding, ...]
    is_partial: bool = False


def run(
    texts: Iterable[str],
    prompt: str | None = None,
    *,
    task: str | Task | None = None,
    values: Mapping[str, str] | None = None,
    system: str | None = None,
    choices: Sequence[str] = (),
    schema: Mapping[str, object] | None = None,
    model: str | Path | ModelChoice = DEFAULT_MODEL,
    sampling: Sampling = DEFAULT_SAMPLING,
    policy: Policy = DEFAULT_POLICY,
    store: bool | str | Path = True,
) -> Iterator[Result]:
    """Ask the same of every text, and yield a result for each, in order.

    Args:
        texts: the texts, each of them one piece (see `split`).
        prompt: what to ask; `{text}` in it stands for the text, which otherwise follows it.
        task: a task's name, file, or itself, instead of a prompt.
        values: what names in the task's prompt stand for.
        system: the system prompt.
        choices: every answer is one of these.
        schema: every answer is JSON of this JSON Schema.
        model: a name, directory, GGUF file or hub name, or all that can be said of it.
        sampling: how answers are drawn.
        policy: which answers will do.
        store: whether answers are kept and looked up, and in which file; True is the one that LLMPAR_STORE names, else
            the usual one.

    Raises:
        UsageError: what is asked cannot be meant, `texts` is one text, or the store is a file that is read.
        ModelUnavailable: the model is not to be had (when the first result is taken).
        EngineFailed: the engine died. Results before it were right.
    """
    from llmpar.tasks import files

    _check_files(store, model, task=files.path_of(task) if isinstance(task, str) else None)
    formed = task_of(prompt, task, values, system, choices, schema)
    return _results(listed(texts), formed, _chosen(model), sampling, policy, store)


def translate(
    texts: Iterable[str],
    to: str,
    *,
    source: str = "auto",
    glossary: str | Path | None = None,
    model: str | Path | ModelChoice = DEFAULT_MODEL,
    sampling: Sampling = DEFAULT_SAMPLING,
    policy: Policy = DEFAULT_POLICY,
    store: bool | str | Path = True,
) -> Iterator[Result]:
    """Translate every text, and yield a result for each, in order.

    Args:
        texts: sentences or paragraphs (see `split`).
        to: the language, by name or code.
        source: the texts' language; "auto" leaves it to the model.
        glossary: a CSV file of terms and their translations.
        model: see `run`.
        sampling: see `run`.
        policy: see `run`.
        store: see `run`.

    Raises:
        UsageError: a language is unknown, or the store is a file that is read.
        InputError: the glossary is damaged.
    """
    from llmpar.tasks import translation
    from llmpar.tasks.glossary import Glossary

    terms = None if glossary is None else Path(glossary)
    _check_files(store, model, glossary=terms)
    task = translation.make_task(to, source)
    terms_in = translation.find_terms(Glossary.read(terms)) if terms else None
    return _results(listed(texts), task, _chosen(model), sampling, policy, store, terms_in)


def summarize(
    texts: Iterable[str],
    *,
    length: str | int = "medium",
    model: str | Path | ModelChoice = DEFAULT_MODEL,
    sampling: Sampling = DEFAULT_SAMPLING,
    policy: Policy = DEFAULT_POLICY,
    store: bool | str | Path = True,
) -> str:
    """Return one summary of all texts, however long: of each, then of their summaries, until one is left.

    Args:
        texts: paragraphs, in order; what is short is put together.
        length: "short", "medium", "long" or a number of words.
        model: see `run`.
        sampling: see `run`.
        policy: see `run`.
        store: see `run`.
    """
    from llmpar.jobs.reduction import ReducingMerger, plant
    from llmpar.jobs.segmenting import pack
    from llmpar.tasks import summary

    given = listed(texts)
    task = summary.make_task(str(length), "all")
    reduction = task.reduction()
    with _session(_chosen(model), sampling, policy, store) as session:
        merger = ReducingMerger(partial(plant, session, reduction), is_total=True)
        whole = text_document("texts")
        blocks = pack(blocks_of(whole, given), session.budget(task), session.model.measure)
        parts = (Part(block, [Question(segment, task) for segment in segments]) for block, segments in blocks)
        for part, results in session.flow.answered(parts):
            for _ in merger.merge(part.block, part.segments, results):
                pass
        return "".join(merger.close()).strip()


def ask(
    question: str,
    texts: Iterable[str],
    *,
    parts: Sequence[str] = (),
    top: int | Literal["usual"] | None = "usual",
    language: str = "auto",
    model: str | Path | ModelChoice = DEFAULT_MODEL,
    sampling: Sampling = DEFAULT_SAMPLING,
    policy: Policy = DEFAULT_POLICY,
    store: bool | str | Path = True,
) -> Answer:
    """Answer a question from texts, each read by itself, and tell in which of them it found what.

    Args:
        question: what you want to know.
        texts: passages, such as paragraphs; `Finding.passage.segment.block.document.index` tells which one it was.
        parts: simpler questions that it is made of; the model may find some, if there are none.
        top: how many of the texts are read, those whose words fit best; None for all. "usual" is as many as the command
            reads by itself, which puts short paragraphs together: texts with as many tokens as its passages have.
        language: of the texts, for their words; "auto" is found by itself.
        model: see `run`.
        sampling: see `run`.
        policy: see `run`.
        store: see `run`.
    """
    from llmpar.jobs import asking
    from llmpar.tasks.files import find_task

    task = find_task("ask")
    passages = [asking.Passage(part.questions[0].segment) for part in parts_of(listed(texts), task) if part.questions]
    with _session(_chosen(model), sampling, policy, store) as session:
        questions = list(listed(parts, "parts")) or asking.divide(question, session, find_task("question"))
        if language == "auto":
            language = asking.language_of(passages)
        if top == "usual":
            most = USUAL_TOP * session.budget(task)
            ranked = asking.choose(questions, passages, len(passages), language)
            chosen = [asking.within(numbers, passages, most, session.model.measure) for numbers in ranked]
        else:
            chosen = asking.choose(questions, passages, top, language)
        findings = tuple(asking.find(questions, passages, chosen, session, task))
        found = asking.conclude(question, findings, session, task)
        return Answer(found.text, findings, is_partial=bool(found.gaps.num_partial) or found.gaps.is_cut)


def split(text: str, unit: Unit = "sentence", *, language: str = "auto") -> list[str]:
    """Return the pieces of a text as the commands would have them, without what stands between them."""
    from llmpar.documents.formats.protocol import Reading
    from llmpar.documents.segments import split_text

    return [segment.text for segment in split_text(text, Reading(unit, language, "plain"))[1]]


class Asker:
    """Asks the same of batches of texts, one batch after the other, with a model that stays open.

    Args:
        task: what is asked; see `task_of`.
        model: see `run`.
        sampling: see `run`.
        policy: see `run`.
        store: see `run`.
    """

    def __init__(
        self,
        task: Task,
        model: str | Path | ModelChoice = DEFAULT_MODEL,
        sampling: Sampling = DEFAULT_SAMPLING,
        policy: Policy = DEFAULT_POLICY,
        store: bool | str | Path = True,
    ) -> None:
        self._task = task
        self._opening = ExitStack()
        self._session = self._opening.enter_context(_session(_chosen(model), sampling, policy, store))

    def ask(self, texts: Iterable[str]) -> list[Result]:
        """Return a result for each text, in order.

        Raises:
            UsageError: one of them is no text.
            ModelUnavailable: the model is not to be had.
            EngineFailed: the engine died.
        """
        answered = self._session.flow.answered(parts_of(listed(texts), self._task))
        return [result for _, results in answered for result in results]

    def close(self) -> None:
        """End the workers, and close the store."""
        self._opening.close()


class _Silence:
    """Is told what goes on, and tells nobody but of what went wrong, as a RuntimeWarning."""

    def doing(self, what: str) -> None: ...
    def remark(self, message: str) -> None: ...
    def warn(self, message: str) -> None:
        warnings.warn(f"llmpar: {message}", RuntimeWarning, stacklevel=2)

    def watch(self, statuses: Callable[[], Iterable[WorkerStatus]]) -> None: ...


def _check_files(store: bool | str | Path, model: str | Path | ModelChoice, **read: Path | None) -> None:
    """Raise UsageError if the store, or a file that SQLite keeps beside it, is one that is read."""
    file = _file_of(store)
    if file is None:
        return
    register = Register()
    for name, path in {**read, "model": Path(_chosen(model).name)}.items():
        if path is not None:
            register.read(path, name)
    register.stores([("store", file)], companions)


@contextmanager
def _session(choice: ModelChoice, sampling: Sampling, policy: Policy, store: bool | str | Path) -> Iterator[Session]:
    kept = None if store is False else Store(_file_of(store))
    with Session(open_model(choice, _Silence()), kept, sampling, policy, Report()) as session:
        try:
            yield session
        except BaseException:
            session.flow.abandon()
            raise
        session.flow.close()


def _results(
    texts: Iterator[str],
    task: Task,
    choice: ModelChoice,
    sampling: Sampling,
    policy: Policy,
    store: bool | str | Path,
    terms_in: Callable[[str], str] | None = None,
) -> Iterator[Result]:
    with _session(choice, sampling, policy, store) as session:
        for _, results in session.flow.answered(parts_of(texts, task, terms_in)):
            yield from results


def task_of(
    prompt: str | None = None,
    task: str | Task | None = None,
    values: Mapping[str, str] | None = None,
    system: str | None = None,
    choices: Sequence[str] = (),
    schema: Mapping[str, object] | None = None,
) -> Task:
    """Return what `run` asks, given the same."""
    if (prompt is None) == (task is None):
        raise UsageError("run: give a prompt, or a task")
    asked = _task(prompt, task, values or {}, system)
    offered = tuple(listed(choices, "choices"))
    return with_form(asked, offered or None, None if schema is None else dict(schema))


def _task(prompt: str | None, task: str | Task | None, values: Mapping[str, str], system: str | None) -> Task:
    from llmpar.tasks import files
    from llmpar.tasks.task import PLACEHOLDER, field_names, task_of_prompt

    if prompt is not None:
        asked = task_of_prompt(prompt, system)
        if (names := field_names(prompt)) and PLACEHOLDER not in prompt:  # a text has no fields
            raise UsageError(f"prompt: it says {{{names[0]}}}; write {PLACEHOLDER} where the text shall stand")
    else:
        assert task is not None
        asked = files.find_task(task) if isinstance(task, str) else task
        asked = asked if system is None else replace(asked, system=system)
    return files.with_values(asked, values)


def _chosen(model: str | Path | ModelChoice) -> ModelChoice:
    return model if isinstance(model, ModelChoice) else ModelChoice(os.fspath(model))


def _file_of(store: bool | str | Path) -> Path | None:
    """Return the file that a store is in; None for none, or for the usual one, which needs a directory."""
    if isinstance(store, bool):
        named = os.environ.get("LLMPAR_STORE")
        return Path(named) if store and named else None
    return Path(store)
