"""What an answer may go on with, by what the prompt or the answer itself said before: prompt lookup (Saxena 2023).

Where a task copies much of its input, most of such guesses are right. They cost nothing but their computing, since
what is kept is only what the model itself would have said.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

_GRAM = 2  # tokens that must agree; one is too often chance, and with three a copy is found a token later


class Lookup:
    """The places of all n-grams of one growing sequence.

    Args:
        prompt_ids: what it begins with.
    """

    __slots__ = ("_ids", "_last", "_num_indexed", "_num_prompt")

    def __init__(self, prompt_ids: SequenceOf[int]) -> None:
        self._ids = list(prompt_ids)
        self._last: dict[tuple[int, ...], int] = {}  # n-gram → where the token after it stands
        self._num_indexed = _GRAM
        self._num_prompt = len(prompt_ids)

    def propose(self, output_ids: SequenceOf[int], num_tokens: int) -> list[int]:
        """Return up to `num_tokens` that followed when the sequence's last tokens came before; none if they did not.

        `output_ids` are all tokens after the prompt; those of earlier calls are a beginning of them.
        """
        ids = self._ids
        ids += output_ids[len(ids) - self._num_prompt :]
        # The last n-gram is not among those indexed, as nothing follows it yet.
        for end in range(self._num_indexed, len(ids)):
            self._last[tuple(ids[end - _GRAM : end])] = end
        self._num_indexed = max(self._num_indexed, len(ids))
        found = self._last.get(tuple(ids[-_GRAM:]))
        return [] if found is None else ids[found : found + num_tokens]
