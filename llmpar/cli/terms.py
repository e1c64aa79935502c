"""What `--terms` does: a first pass over the inputs finds names and terms, whose translations go into a file."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmpar.answering.session import Session
from llmpar.cli.run import Run, given_up
from llmpar.documents.destination import FileWriter
from llmpar.documents.document import Segment
from llmpar.documents.source import is_pipe
from llmpar.errors import InputUnreadable, UsageError
from llmpar.jobs import terms
from llmpar.reporting.progress import Progress
from llmpar.reporting.report import LEFT_OUT, counted
from llmpar.smallfile import read_whole
from llmpar.tasks import translation
from llmpar.tasks.glossary import Glossary
from llmpar.tasks.task import Task
from llmpar.tasks.terms_file import with_rows
from llmpar.visible import one_line


@dataclass(frozen=True, slots=True)
class Terms:
    """The file of terms of a run.

    Args:
        path: the file; it need not be there.
        task: asks for the translation of one term.
        glossary: is asked first, and wins; None for none.
        ends: whether the run ends when the file is written.
    """

    path: Path
    task: Task
    glossary: Glossary | None = None
    ends: bool = False

    def check(self, sources: list[str]) -> None:
        """Raise UsageError where the file, or an input, can be read only once."""
        if self.path.exists() and not stat.S_ISREG(self.path.stat().st_mode):
            raise UsageError(f"--terms {one_line(self.path)}: is no regular file; terms are kept in one")
        for source in sources:
            if source != "-" and is_pipe(source):
                raise UsageError(
                    f"{one_line(source)}: is a pipe, and --terms reads its inputs twice; pipe it into stdin, which is "
                    "kept meanwhile"
                )

    def known(self) -> Callable[[str], str]:
        """Return what tells which terms occur in a text, by what the file has now."""
        return self._terms_in(Glossary.parse(one_line(self.path), self._data()))

    def grow(
        self,
        run: Run,
        segments: Callable[[], Iterator[Segment]],
        asked: Task,
        session: Session,
        progress: Progress,
    ) -> Callable[[str], str]:
        """Write the terms into the file that it lacks, and return what tells which of all occur in a text.

        Args:
            run: whose options say how long to wait for somebody else who writes the file.
            segments: yields the pieces of all inputs, as often as it is called.
            asked: what will be asked of them.
            session: asks.
            progress: is told of what was found.
        """
        name = one_line(self.path)
        with given_up(FileWriter(self.path, run.options.output.wait, keeps_equal=True)) as writer:
            data = self._data()
            file = Glossary.parse(name, data)
            progress.doing("looking for names and terms")
            found, num_found = terms.gather(
                segments,
                asked,
                lambda source: source in file or (self.glossary is not None and source in self.glossary),
            )
            fates = run.report.call_failures(LEFT_OUT)
            rows: list[tuple[str, str]] = []
            lacking: list[str] = []
            for source, target in terms.translate(found, self.task, session):
                if target is None:
                    lacking.append(source)
                else:
                    rows.append((source, target))
            run.report.call_failures(fates)
            if rows:
                data = with_rows(data, rows, name)
            writer.write(data)
            if rows or self.path.exists():
                writer.close()
            progress.remark(f"{counted(num_found, 'term')} found, {len(rows):,} of them new in {name}")
            if lacking:
                shown = ", ".join(map(one_line, lacking[:5])) + (" …" if len(lacking) > 5 else "")
                progress.note(f"llmpar {run.name}: no translation came of {counted(len(lacking), 'term')}: {shown}")
        return self._terms_in(Glossary.parse(name, data))

    def _data(self) -> bytes:
        try:
            return read_whole(self.path)
        except InputUnreadable:
            if self.path.exists():
                raise
            return b""

    def _terms_in(self, file: Glossary) -> Callable[[str], str]:
        return translation.find_terms(*((self.glossary,) if self.glossary else ()), file)
