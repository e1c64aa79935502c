"""How near answers are to references: chrF, by sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence

from llmpar.errors import UsageError


class Scorer:
    """Computes chrF (Popović 2015; character 6-grams, beta 2), whose numbers are from 0 to 100.

    Raises:
        UsageError: the library is not there.
    """

    def __init__(self) -> None:
        try:
            from sacrebleu.metrics import CHRF
        except ImportError as error:
            raise UsageError(
                "chrF against references is computed by sacrebleu, which is not installed: "
                "`pip install 'llmpar[compare]'`"
            ) from error
        self._metric = CHRF()
        self.signature = ""
        """Which chrF it was, as papers state it; known when something was computed."""

    def all_of(self, judged: Sequence[tuple[str, str]]) -> float:
        """Return the chrF of all answers together, each with its reference."""
        score = self._metric.corpus_score([answer for answer, _ in judged], [[right for _, right in judged]]).score
        self.signature = str(self._metric.get_signature())
        return float(score)

    def one_of(self, answer: str, reference: str) -> float:
        """Return the chrF of one answer."""
        return float(self._metric.sentence_score(answer, [reference]).score)
