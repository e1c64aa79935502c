"""`--sample`: a few questions of a run, spread over all of them, asked and shown."""

from __future__ import annotations

from collections.abc import Iterable

from llmpar.answering.session import Session
from llmpar.cli.look import alone, shown, spread
from llmpar.cli.run import Run, given_up
from llmpar.documents.document import text_document
from llmpar.documents.output import SingleOutput
from llmpar.tasks.question import Question


def show_sample(questions: Iterable[Question], count: int, run: Run, session: Session, output: SingleOutput) -> None:
    """Ask some of the questions, and show each with its answer, which is kept as in any run.

    Args:
        questions: all there are.
        count: how many are asked.
        run: whose they are.
        session: asks.
        output: takes what is shown.
    """
    chosen = spread(questions, count)
    run.report.expect_bytes(None)
    with given_up(session.flow):
        answered = session.flow.answered(iter(list(map(alone, chosen))))
        writer = output.begin(text_document("sample"))
        for text in shown(result for _, results in answered for result in results):
            writer.write(text.encode("utf-8", "surrogateescape"))
            writer.flush()
        session.flow.close()
    output.end()
    output.finish()
