"""Counts what happened in a run, and from it owns the summary line and the exit code."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from llmpar.documents.document import DEFAULT_ON_ERROR, PERSON, OnError, Result

FATES: dict[OnError, tuple[str, str]] = {
    "keep": ("kept as it was", "kept as they were"),
    "mark": ("marked", "marked"),
    "skip": ("left out", "left out"),
    "fail": ("the run ends", "the run ended"),
}
"""What becomes of a segment that failed, and of several."""

LEFT_OUT = FATES["skip"]
"""What becomes of those that were to go into one answer with others."""

CUT_OR_LEFT_OUT = ("cut or left out", "cut or left out")
"""The same, where one that is merely too long goes in as far as it goes."""


class Latencies:
    """How long answers took to come, in seconds, to within two percent, in a few kilobytes however many they are."""

    __slots__ = ("_counts", "_num", "first")

    def __init__(self) -> None:
        self.first: float | None = None
        """When the first answer came, from the run's beginning on."""
        self._counts: Counter[int] = Counter()  # by logarithm
        self._num = 0

    def add(self, seconds: float) -> None:
        """Count an answer."""
        self._counts[round(math.log(max(seconds, 1e-6)) / _STEP)] += 1
        self._num += 1

    def quantile(self, share: float) -> float:
        """Return the time within which this share of the answers came (nearest rank); there must be one."""
        rank = max(1, math.ceil(share * self._num))
        for step in sorted(self._counts):
            rank -= self._counts[step]
            if rank <= 0:
                return math.exp(step * _STEP)
        raise ValueError("no answer has come")


_STEP = math.log(1.02)
Coming = Callable[[float, float], tuple[float, int]]
_NAMED = 20  # documents that the summary names


@dataclass(slots=True)
class Report:
    """The counts of one run. Whoever does the work tells it by its methods; whoever shows progress reads the counts.

    Bytes are input bytes. `num_text_tokens_read` and `num_text_tokens_done` count the tokens of prompts, as a measure
    of work; `num_asked` are done that a model was asked about in this run, for which it has drawn `num_drawn` answers,
    those included that are asked for again, and `num_drawn_last` of them as the last attempt; `log_lengths` is the sum
    of the logarithms of how many tokens these have, and `squared_log_lengths` that of the squares of these;
    `num_looped` are among those that failed, `num_retried` among the others; `num_corrected` were answered by a person;
    `num_poor` failed for an answer that will not do, of which `num_poor_before` in an earlier run, too, and
    `num_stopped` as they did not end within `most_tokens_stopped` tokens at most; `num_refused` requests were none that
    can be asked; of `num_unsure` answers that were kept, nobody knows how sure the model was; `num_bytes_total` is None
    while the size of an input is unknown. `noun` is what a segment is called, and `fates` what becomes of one that
    failed and of several, where that is not the user's to say; `seconds_to_start` is how long it took until there were
    workers, None while there are none, and `seconds_held_up` how long something else kept these from their work, such
    as the compiling of kernels. With `shows_latency`, the summary tells how long answers took from the time their
    questions were read. `coming` returns how many questions are about still to be made of answers, and at how many
    levels, by the number of all segments, and by how many tokens an answer may have while there is none, 0 if that is
    unknown; no answer has more than `most_tokens`.
    """

    noun: str = "piece"
    fates: tuple[str, str] | None = None
    shows_latency: bool = False
    num_documents: int = 0
    num_documents_with_failures: int = 0
    failures_by_document: list[str] = field(default_factory=list)
    num_unreadable: int = 0
    num_segments_read: int = 0
    num_segments_done: int = 0
    num_failed: int = 0
    num_looped: int = 0
    num_poor: int = 0
    num_poor_before: int = 0
    num_stopped: int = 0
    most_tokens_stopped: int = 0
    num_cut: int = 0
    num_reused: int = 0
    num_cached: int = 0
    num_corrected: int = 0
    num_retried: int = 0
    num_asked: int = 0
    num_drawn: int = 0
    num_drawn_last: int = 0
    num_refused: int = 0
    num_unsure: int = 0
    num_text_tokens_read: int = 0
    num_text_tokens_done: int = 0
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    log_lengths: float = 0.0
    squared_log_lengths: float = 0.0
    num_bytes_read: int = 0
    num_bytes_total: int | None = None
    started: float = field(default_factory=time.monotonic)
    seconds_to_start: float | None = None
    seconds_held_up: float = 0.0
    latencies: Latencies = field(default_factory=Latencies)
    most_tokens: float = math.inf
    coming: Coming = lambda _, __: (0.0, 0)

    def begin_work(self) -> None:
        """Take note that there are workers from now on."""
        self.seconds_to_start = self.seconds

    @property
    def seconds_at_work(self) -> float:
        """How long the workers have been at work."""
        if self.seconds_to_start is None:
            return self.seconds
        return max(0.0, self.seconds - self.seconds_to_start - self.seconds_held_up)

    def expect_bytes(self, total: int | None) -> None:
        """Take note of how many bytes all inputs have; None if that is not known of one."""
        self.num_bytes_total = total

    def expect_questions(self, coming: Coming) -> None:
        """Take note of what tells how many questions are still to be made of answers; see `coming`."""
        self.coming = coming

    def read(self, num_segments: int, num_bytes: int = 0) -> None:
        """Count segments that were read, and the bytes that they stood in."""
        self.num_segments_read += num_segments
        self.num_bytes_read += num_bytes

    def finish_document(self, name: str = "", num_segments: int = 0, num_failed: int = 0) -> None:
        """Count a document that is complete, by its name, and remember what failed in it."""
        self.num_documents += 1
        if num_failed:
            self.num_documents_with_failures += 1
            if len(self.failures_by_document) < _NAMED:
                self.failures_by_document.append(
                    f"  {name}: {num_failed:,} of {counted(num_segments, self.noun)} failed"
                )

    def call_failures(self, fates: tuple[str, str] | None) -> tuple[str, str] | None:
        """Say what becomes of segments that fail from now on, and return what was said so far; see `fates`."""
        said, self.fates = self.fates, fates
        return said

    def set_apart(self) -> None:
        """Take what was done so far for preparation: its tokens and its time count, its segments do not."""
        usual = Report()
        for name in _OF_WORK:
            setattr(self, name, getattr(usual, name))

    def miss_input(self) -> None:
        """Count an input that cannot be read, or not to its end."""
        self.num_unreadable += 1

    def refuse(self) -> None:
        """Count something that cannot be asked."""
        self.num_refused += 1

    def read_tokens(self, number: int) -> None:
        """Count the tokens of a prompt among the work that there is."""
        self.num_text_tokens_read += number

    def spend_tokens(self, number: int) -> None:
        """Count the tokens of a prompt as done that came to no answer, as its text is asked about in halves."""
        self.num_text_tokens_done += number

    def draw(self, num_tokens: int, *, is_last: bool = False) -> None:
        """Count an answer of so many tokens that a model has drawn, whether it will do or not.

        Args:
            num_tokens: that it has.
            is_last: whether it would not be asked for again.
        """
        log = math.log(max(1, num_tokens))
        self.num_drawn += 1
        self.num_drawn_last += is_last
        self.log_lengths += log
        self.squared_log_lengths += log * log

    def add(self, result: Result, latency: float = 0.0) -> None:
        """Count a segment that is done, so many seconds after it was read."""
        self.num_segments_done += 1
        self.latencies.add(latency)
        if self.latencies.first is None:
            self.latencies.first = self.seconds
        self.num_text_tokens_done += result.num_prompt_tokens
        self.num_asked += not (result.reused or result.cached or result.finish_reason == "kept")
        if result.reused:
            self.num_reused += 1
        elif result.finish_reason == PERSON:
            self.num_corrected += 1
        elif result.cached:
            self.num_cached += 1
        else:
            self.num_retried += result.error is None and result.num_attempts > 1
            self.num_prompt_tokens += result.num_prompt_tokens
            self.num_output_tokens += result.num_output_tokens
        if result.cached and result.finish_reason not in (PERSON, "kept", "parts"):
            self.num_unsure += result.error is None and result.confidence is None
        self.num_failed += result.error is not None
        self.num_looped += result.looped
        if result.error is not None and result.finish_reason != "error":
            self._count_poor(result)
        self.num_cut += result.cut

    def _count_poor(self, result: Result) -> None:
        self.num_poor += 1
        self.num_poor_before += result.cached
        if result.finish_reason == "length":
            self.num_stopped += 1
            self.most_tokens_stopped = max(self.most_tokens_stopped, result.num_output_tokens)

    @property
    def exit_code(self) -> int:
        """0 when everything was done, 3 when segments or inputs failed."""
        return 3 if self.num_failed or self.num_unreadable or self.num_refused else 0

    @property
    def seconds(self) -> float:
        """Wall-clock time since the run began."""
        return time.monotonic() - self.started

    @property
    def num_text_tokens_left(self) -> float | None:
        """How many tokens of prompts are not yet done, as far as can be told; None while the total is unknown.

        What has not been read yet counts as many tokens for each byte as what has been.
        """
        if self.num_bytes_total is None or not self.num_bytes_read or not self.num_text_tokens_read:
            return None
        total = self.num_text_tokens_read * max(1.0, self.num_bytes_total / self.num_bytes_read)
        return max(0.0, total - self.num_text_tokens_done)

    @property
    def share_again(self) -> float:
        """After which share of the drawn answers another was asked for, of those after which one could be."""
        return min(1.0, self.num_again / max(1, self.num_drawn - self.num_drawn_last))

    @property
    def num_again(self) -> int:
        """After how many drawn answers another was asked for."""
        return max(0, self.num_drawn - self.num_asked)

    @property
    def share_of_segments(self) -> float:
        """How many of all segments are done, 0 to 1."""
        return self.num_segments_done / max(1.0, self._num_segments)

    def num_coming(self, length: float = 0.0) -> tuple[float, int]:
        """Return how many questions over answers are still to come; see `coming`."""
        return self.coming(self._num_segments, length)

    @property
    def _num_segments(self) -> float:
        """How many there are; what was not read yet has as many for each byte as what was."""
        return self.num_segments_read * max(1.0, (self.num_bytes_total or 0) / max(1, self.num_bytes_read))

    def summary(self, name: str, on_error: OnError = DEFAULT_ON_ERROR) -> str:
        """Return the line that a run leaves on stderr, and one for each of several documents in which some failed."""
        parts = [counted(self.num_segments_done, self.noun)]
        if self.num_documents != 1:
            parts[0] += f" of {counted(self.num_documents, 'document')}"
        if self.num_failed:
            loops = f" ({self.num_looped:,} in a loop)" if self.num_looped else ""
            one, several = self.fates or FATES[on_error]
            parts.append(f"{self.num_failed:,} failed and {one if self.num_failed == 1 else several}{loops}")
        if self.num_refused:
            parts.append(f"{self.num_refused:,} refused")
        if self.num_retried:
            parts.append(f"{self.num_retried:,} good after another attempt")
        if self.num_cut:
            parts.append(f"{self.num_cut:,} cut at the limit")
        if self.num_cached:
            parts.append(f"{self.num_cached:,} from the store")
        if self.num_corrected:
            parts.append(f"{self.num_corrected:,} corrected by a person")
        if self.num_reused:
            parts.append(f"{self.num_reused:,} repeated")
        if self.num_unreadable:
            parts.append(f"{counted(self.num_unreadable, 'input')} unreadable")
        parts.append(f"{counted(self.num_prompt_tokens, 'token')} in")
        parts.append(f"{self.num_output_tokens:,} out")
        parts.append(f"{self.seconds:.1f} s")
        if self.shows_latency and self.latencies.first is not None:
            half, most = (self.latencies.quantile(share) for share in (0.5, 0.95))
            parts.append(
                f"the first after {self.latencies.first:.1f} s, half within {half:.1f} s, 95 % within {most:.1f} s"
            )
        lines = [f"llmpar {name}: " + ", ".join(parts)]
        if self.num_documents > 1:
            lines += self.failures_by_document
            if (num_others := self.num_documents_with_failures - len(self.failures_by_document)) > 0:
                lines.append(f"  and in {counted(num_others, 'other document')}")
        return "\n".join(lines)


_OF_WORK = (
    "num_segments_read", "num_segments_done", "num_failed", "num_looped", "num_cut", "num_reused", "num_cached",
    "num_corrected", "num_retried", "num_text_tokens_read", "num_text_tokens_done", "num_bytes_read", "latencies",
)  # fmt: skip


def counted(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
