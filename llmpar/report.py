"""Counts what happened in a run, and from it owns the summary line and the exit code."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from llmpar.documents.document import OnError, Result

FATES: dict[OnError, tuple[str, str]] = {
    "keep": ("kept as it was", "kept as they were"),
    "mark": ("marked", "marked"),
    "skip": ("left out", "left out"),
    "fail": ("the run ends", "the run ended"),
}
"""What becomes of a segment that failed, and of several."""


@dataclass(slots=True)
class Report:
    """The counts of one run, kept by the pipeline and read by whoever shows progress.

    Bytes are input bytes. `num_text_tokens_read` and `num_text_tokens_done` count the tokens of prompts, as a measure
    of work; `num_looped` are among those that failed, `num_retried` among the others; `num_refused` requests were none
    that can be asked; `num_bytes_total` is None while the size of an input is unknown.
    """

    num_documents: int = 0
    num_unreadable: int = 0
    num_segments_read: int = 0
    num_segments_done: int = 0
    num_failed: int = 0
    num_looped: int = 0
    num_cut: int = 0
    num_reused: int = 0
    num_cached: int = 0
    num_retried: int = 0
    num_refused: int = 0
    num_text_tokens_read: int = 0
    num_text_tokens_done: int = 0
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    num_bytes_read: int = 0
    num_bytes_total: int | None = None
    started: float = field(default_factory=time.monotonic)

    def add(self, result: Result) -> None:
        """Count a segment that is done."""
        self.num_segments_done += 1
        self.num_text_tokens_done += result.num_prompt_tokens
        if result.reused:
            self.num_reused += 1
        elif result.cached:
            self.num_cached += 1
        else:
            self.num_retried += result.error is None and result.num_attempts > 1
            self.num_prompt_tokens += result.num_prompt_tokens
            self.num_output_tokens += result.num_output_tokens
        self.num_failed += result.error is not None
        self.num_looped += result.looped
        self.num_cut += result.cut

    @property
    def exit_code(self) -> int:
        """0 when everything was done, 3 when segments or inputs failed."""
        return 3 if self.num_failed or self.num_unreadable or self.num_refused else 0

    @property
    def seconds(self) -> float:
        """Wall-clock time since the run began."""
        return time.monotonic() - self.started

    @property
    def share_done(self) -> float | None:
        """How much of the work is done, 0 to 1, by tokens; None while the total is unknown.

        What has not been read yet counts as many tokens for each byte as what has been.
        """
        total = self._tokens_total
        if total is None:
            return None
        return min(1.0, self.num_text_tokens_done / total)

    @property
    def seconds_left(self) -> float | None:
        """The time left if the rest goes as fast as what is done; None when that cannot be told."""
        share = self.share_done
        return self.seconds * (1 - share) / share if share else None

    @property
    def _tokens_total(self) -> float | None:
        if self.num_bytes_total is None or not self.num_bytes_read or not self.num_text_tokens_read:
            return None
        return self.num_text_tokens_read * max(1.0, self.num_bytes_total / self.num_bytes_read)

    def summary(self, name: str, on_error: OnError = "keep") -> str:
        """Return the one line that a run leaves on stderr."""
        parts = [counted(self.num_segments_done, "segment")]
        if self.num_documents != 1:
            parts[0] += f" of {counted(self.num_documents, 'document')}"
        if self.num_failed:
            loops = f" ({self.num_looped:,} in a loop)" if self.num_looped else ""
            parts.append(f"{self.num_failed:,} failed and {FATES[on_error][1]}{loops}")
        if self.num_refused:
            parts.append(f"{self.num_refused:,} refused")
        if self.num_retried:
            parts.append(f"{self.num_retried:,} good at a further attempt")
        if self.num_cut:
            parts.append(f"{self.num_cut:,} cut at the limit")
        if self.num_cached:
            parts.append(f"{self.num_cached:,} from the store")
        if self.num_reused:
            parts.append(f"{self.num_reused:,} repeated")
        if self.num_unreadable:
            parts.append(f"{counted(self.num_unreadable, 'input')} unreadable")
        parts.append(f"{counted(self.num_prompt_tokens, 'token')} in")
        parts.append(f"{self.num_output_tokens:,} out")
        parts.append(f"{self.seconds:.1f} s")
        return f"llmpar {name}: " + ", ".join(parts)


def counted(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
