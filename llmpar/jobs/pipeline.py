"""Results → documents: what is written, in order, and when a document is complete. Knows no terminal and no option."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llmpar.answering.flow import Flow, Part
from llmpar.documents.document import Encoding, Result
from llmpar.documents.merger import Merger
from llmpar.documents.output import Output
from llmpar.documents.writer import Writer
from llmpar.errors import InputError, LlmparError, SegmentFailed
from llmpar.interrupts import shielded
from llmpar.reporting.report import Report
from llmpar.visible import one_line


class Pipeline:
    """Runs parts through a flow, and writes what comes of them.

    Args:
        flow: answers what is asked.
        merger: makes text of the answers.
        report: counts what happens.
        damaged: called with the reason why a document could not be read to its end, or was changed before it was to be
            replaced; unless it raises, the others go on.
        complete: called with the name of each document that is complete, how many segments it has, and how many failed.
    """

    def __init__(
        self,
        flow: Flow,
        merger: Merger,
        report: Report,
        damaged: Callable[[LlmparError], None] = lambda _: None,
        complete: Callable[[str, int, int], None] = lambda *_: None,
    ) -> None:
        self.published: set[int] = set()
        """The documents that are complete, by index."""
        self.finished = False
        """Whether the output as a whole is complete."""
        self._flow = flow
        self._merger = merger
        self._report = report
        self._damaged = damaged
        self._complete = complete
        self._num_segments = self._num_failed = 0  # of the document that is being written
        self._gathered: list[bytes] = []

    def run(self, parts: Iterator[Part], output: Output) -> None:
        """Answer every question of `parts` and write what is made of it to `output`.

        Raises:
            EngineFailed: no worker is left. What came before is written.
            SegmentFailed: a segment failed that must not.
            LlmparError: whatever `parts`, `output` or the answers raise.
        """
        try:
            self._write(parts, output)
        except BaseException:
            try:
                output.abandon()
            finally:
                self._flow.abandon()
            raise
        self._flow.close()

    def _write(self, parts: Iterator[Part], output: Output) -> None:
        writer: Writer | None = None
        encoding = Encoding()

        def hand_on() -> None:
            if writer:
                self._hand_on(writer)
                writer.flush()

        self._flow.idle = hand_on
        for part, results in self._flow.answered(parts):
            block, damage = part.block, part.damage
            if block.first:
                writer = output.begin(block.document)
                encoding = self._merger.encoding(block.document)
                self._num_segments = self._num_failed = 0
                writer.write(encoding.bom)
            assert writer is not None
            try:
                for text in self._merger.merge(block, part.segments, self._counted(results)):
                    self._gathered.append(encoding.encode(text))
            except SegmentFailed:
                self._hand_on(writer)
                raise
            if block.last and not damage and (end := encoding.end()):
                self._gathered.append(end)
            self._hand_on(writer)
            if block.last and not damage:
                try:
                    with shielded():
                        output.end()
                        self.published.add(block.document.index)
                except InputError as changed:  # what was to be replaced is no longer what was read
                    damage = changed
                else:
                    name = one_line(block.document.name)
                    self._report.finish_document(name, self._num_segments, self._num_failed)
                    self._complete(name, self._num_segments, self._num_failed)
            if damage:
                output.drop()
                self._report.miss_input()
                self._damaged(damage)
        if writer:
            for text in self._merger.close():
                self._gathered.append(encoding.encode(text))
            self._hand_on(writer)
        with shielded():
            output.finish()
            self.finished = True

    def _counted(self, results: Iterator[Result]) -> Iterator[Result]:
        for result in results:
            self._num_segments += 1
            self._num_failed += result.error is not None
            yield result

    def _hand_on(self, writer: Writer) -> None:
        """Write what was gathered: at once, as each write is a chance for another thread to keep this one waiting."""
        if self._gathered:  # else the writer may be closed: its document is complete, and the next not yet there
            writer.write(b"".join(self._gathered))
            self._gathered.clear()
