"""Names and terms of a text → their translations, each asked about in one question. Knows no file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from llmpar.answering.flow import Part
from llmpar.answering.session import Session
from llmpar.documents.document import Segment, text_document, text_segment
from llmpar.documents.marks import without_marks
from llmpar.tasks.glossary import Glossary
from llmpar.tasks.question import Question
from llmpar.tasks.skips import leaves
from llmpar.tasks.task import Task
from llmpar.tasks.terms import TermFinder
from llmpar.tasks.terms_file import translation_in
from llmpar.visible import one_line

_EXAMPLES = 2
_LONGEST_EXAMPLE = 400  # characters


@dataclass(frozen=True, slots=True)
class Term:
    """A name or term that recurs, and texts that have it."""

    source: str
    examples: tuple[str, ...]


def gather(
    segments: Callable[[], Iterator[Segment]], task: Task, is_known: Callable[[str], bool]
) -> tuple[list[Term], int]:
    """Return the names and terms of a text that are not known yet, and how many there are in all.

    Args:
        segments: yields the pieces of the text; it is called twice, so that the text need not fit in memory.
        task: what will be asked of them: those that it leaves have no say.
        is_known: tells whether a term has a translation already.
    """
    finder = TermFinder()
    for text in _texts(segments(), task):
        finder.add(text)
    found = finder.found()
    unknown = [source for source in found if not is_known(source)]
    examples: dict[str, list[str]] = {source: [] for source in unknown}
    occurring = Glossary((source, "") for source in unknown)
    left = len(unknown)
    for text in _texts(segments(), task) if left else ():
        for source, _ in occurring.terms_in(text):
            known = examples[source]
            shown = _cut(text, source)
            if len(known) < _EXAMPLES and shown not in known:
                known.append(shown)
                left -= len(known) == _EXAMPLES
        if not left:
            break
    return [Term(source, tuple(known)) for source, known in examples.items() if known], len(found)


def translate(terms: Iterable[Term], task: Task, session: Session) -> Iterator[tuple[str, str | None]]:
    """Ask for the translation of each term, and yield it with its term, in order; None where there is none.

    Args:
        terms: what is asked about.
        task: what is asked, `{examples}` in it.
        session: asks.
    """

    def parts() -> Iterator[Part]:
        for index, term in enumerate(terms):
            segment = text_segment(text_document(f"term {one_line(term.source)}", index), term.source)
            yield Part(segment.block, [Question(segment, task, (("examples", "\n".join(term.examples)),))])

    for _, results in session.flow.answered(parts()):
        for result in results:
            yield result.text, None if result.error else translation_in(result.answer, result.text)


def _texts(segments: Iterator[Segment], task: Task) -> Iterator[str]:
    for segment in segments:
        text = without_marks(segment.text, segment.marks)
        if not segment.fault and not leaves(task, text):
            yield text


def _cut(text: str, source: str) -> str:
    """Return a text on one line, or what of a long one stands around a term."""
    text = " ".join(text.split())
    at = max(0, text.casefold().find(source.casefold()) - _LONGEST_EXAMPLE // 2)
    return text if len(text) <= _LONGEST_EXAMPLE else text[at : at + _LONGEST_EXAMPLE]
