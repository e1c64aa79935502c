"""A look before the job: what the model will be told, and a few pieces with their answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from llmpar.answering.backend import Model
from llmpar.answering.flow import Part
from llmpar.documents.document import Result
from llmpar.documents.marks import restored
from llmpar.documents.writer import open_stdout
from llmpar.reporting.progress import Progress
from llmpar.tasks.question import Question
from llmpar.tasks.task import Form
from llmpar.visible import one_line

_T = TypeVar("_T")
_MOST_CHOICES = 50  # that are named


def show_prompts(questions: Iterable[Question], count: int, model: Model, progress: Progress) -> None:
    """Print the first prompts as the model gets them, each below its place and its size, above its answer's form.

    Args:
        questions: what is asked, in order.
        count: how many are shown.
        model: whose template and tokens these are.
        progress: makes way on the terminal.
    """
    writer = open_stdout(progress.aside)
    for question in islice(questions, count):
        task = question.task.for_model(model.families)
        prompt = question.under(task).prompt
        size = f", {model.count_tokens(prompt):,} tokens" if model.counts_tokens else ""
        head = f"--- {one_line(question.segment.place)}{size} ---"
        form = f"--- {form_in_words(question.form)} ---\n" if question.form else ""
        writer.write(f"{head}\n{model.spell(prompt)}\n{form}\n".encode("utf-8", "surrogateescape"))
    writer.close()


def form_in_words(form: Form) -> str:
    """Return what an answer must be, of which the prompt says nothing."""
    if not form.choices:
        return f"the answer must be JSON of this schema: {one_line(form.schema)}"
    named = ", ".join(map(one_line, form.choices[:_MOST_CHOICES]))
    num_others = len(form.choices) - _MOST_CHOICES
    return f"the answer must be one of: {named}" + (f", and {num_others:,} more" if num_others > 0 else "")


def spread(items: Iterable[_T], count: int) -> list[_T]:
    """Return so many items, spread evenly over all there are, in order; never more than four times as many are held."""
    kept: list[_T] = []
    stride, total = 1, 0
    for item in items:
        if total % stride == 0:
            kept.append(item)
            if len(kept) > 4 * count:
                kept, stride = kept[::2], 2 * stride
        total += 1
    number = min(count, total)
    middles = ((2 * index + 1) * total // (2 * number) for index in range(number))  # of equal stretches
    return [kept[min(middle // stride, len(kept) - 1)] for middle in middles]


def alone(question: Question) -> Part:
    """Return a question as a part of its own, which is read whole and of which nothing else is asked."""
    block = replace(question.segment.block, num_bytes=0)
    return Part(block, [replace(question, segment=replace(question.segment, block=block))])


def shown(results: Iterable[Result]) -> Iterator[str]:
    """Yield each piece and its answer, or what is wrong with it, for people."""
    for result in results:
        segment = result.segment
        answer = f"[{result.error}] {result.answer}" if result.error else result.answer
        source, said = (restored(text, segment.marks).strip() for text in (segment.text, answer))
        yield f"--- {one_line(segment.place)} ---\n{source}\n\n→ {said}\n\n"
