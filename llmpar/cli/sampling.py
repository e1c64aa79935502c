"""`--sample`: a few questions of a run, spread over all of them, asked and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from llmpar.answering.session import Session
from llmpar.cli.look import alone, shown, spread
from llmpar.cli.run import Run, given_up
from llmpar.documents.document import Document, Result, text_document
from llmpar.documents.output import SingleOutput
from llmpar.jobs.reduction import Tree, is_usable
from llmpar.tasks.question import Question
from llmpar.visible import one_line


def show_sample(
    questions: Iterable[Question],
    count: int,
    run: Run,
    session: Session,
    output: SingleOutput,
    joining: Callable[[Iterator[Result]], Iterator[str]] | None = None,
) -> None:
    """Ask some of the questions, and show each with its answer, which is kept as in any run.

    Args:
        questions: all there are.
        count: how many are asked.
        run: whose they are.
        session: asks.
        output: takes what is shown.
        joining: yields what is shown of the answers, where they are to become one; see `joined`.
    """
    chosen = spread(questions, count)
    run.report.expect_bytes(None)
    with given_up(session.flow):
        answered = session.flow.answered(iter(list(map(alone, chosen))))
        writer = output.begin(text_document("sample"))
        for text in (joining or shown)(result for _, results in answered for result in results):
            writer.write(text.encode("utf-8", "surrogateescape"))
            writer.flush()
        session.flow.close()
    output.end()
    output.finish()


def joined(results: Iterator[Result], plant: Callable[[Document], Tree], *, is_total: bool) -> Iterator[str]:
    """Yield each piece and its answer, and then what becomes of a document's answers: the same is done in the run.

    Args:
        results: of a sample.
        plant: makes the tree for a document.
        is_total: whether there is one answer for all documents.
    """
    found: dict[int, tuple[Document, list[str]]] = {}
    for result in results:
        yield from shown([result])
        document = result.segment.block.document
        _, answers = found.setdefault(0 if is_total else document.index, (document, []))
        answers += [result.answer] if is_usable(result) else []
    for document, answers in found.values():
        tree = plant(document)
        for answer in answers:
            tree.add(answer)
        if len(answers) > 1 and (text := tree.finish()):
            name = "all documents" if is_total else one_line(document.name)
            yield f"--- {name}: one answer of these {len(answers)} ---\n\n→ {text.strip()}\n\n"
