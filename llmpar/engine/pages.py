"""Which pages of keys and values, and which slot, each sequence of one worker has. Knows no keys and no values."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np
import numpy.typing as npt

from llmpar.engine.request import Request, Sequence

PAGE = 16  # positions


class Pages:
    """The first pages hold the prefix, the others are given to sequences: enough to their ends, when they come.

    So a sequence never waits for room once it has begun. A prefix that ends within a page is continued by each sequence
    in a page of its own, into which that page is copied.

    Args:
        num_slots: how many sequences live at once.
        num_pages: how many pages there are, the prefix's among them.
        longest: the most tokens of a sequence.
        prefix_ids: what most prompts begin with; its keys and values are in the first pages.
    """

    def __init__(self, num_slots: int, num_pages: int, longest: int, prefix_ids: SequenceOf[int]) -> None:
        self._prefix_ids = tuple(prefix_ids)
        self._num_full, self._num_begun = divmod(len(prefix_ids), PAGE)  # pages, and tokens on the page after them
        # The last one freed is the next one taken, so that no more memory is touched than is used at once.
        self._free = list(reversed(range(num_pages_of(len(prefix_ids)), num_pages)))
        self._num_unreserved = len(self._free)
        self._taken: dict[int, list[int]] = {}  # by slot
        self.tables: npt.NDArray[np.int32] = np.zeros((num_slots, num_pages_of(longest)), np.int32)
        """By slot, the pages of a sequence in the order of its positions."""
        self.resize(num_slots)

    def resize(self, num_slots: int) -> None:
        """Have so many sequences at once from now on, no more than at first; called when none lives."""
        self._free_slots = list(reversed(range(num_slots)))

    def reserve(self, request: Request) -> bool:
        """Set pages aside for a request to its last token; False if there are not enough now."""
        num_pages = self._num_own(request)
        if num_pages > self._num_unreserved:
            return False
        self._num_unreserved -= num_pages
        return True

    def admit(self, sequence: Sequence) -> tuple[int, tuple[int, int] | None]:
        """Give a sequence that was reserved its slot and pages.

        Returns:
            how many of its tokens are read with that, and, if the prefix ends within a page, the page to be copied and
            the one that it is copied to.
        """
        pages = [self._free.pop() for _ in range(self._num_own(sequence.request))]
        slot = sequence.slot = self._free_slots.pop()
        self._taken[slot] = pages
        num_shared = self._num_full if self._shares(sequence.request) else 0
        table = self.tables[slot]
        table[:num_shared] = range(num_shared)
        table[num_shared : num_shared + len(pages)] = pages
        table[num_shared + len(pages) :] = 0
        if not self._shares(sequence.request):
            return 0, None
        return len(self._prefix_ids), (num_shared, pages[0]) if self._num_begun else None

    def release(self, sequence: Sequence) -> None:
        """Free the sequence's slot and pages, or what was set aside if it was not admitted."""
        if sequence.slot < 0:
            self._num_unreserved += self._num_own(sequence.request)
            return
        self._free_slots.append(sequence.slot)
        pages = self._taken.pop(sequence.slot)
        self._free += reversed(pages)
        self._num_unreserved += len(pages)

    def _shares(self, request: Request) -> bool:
        """Tell whether a prompt begins with the prefix, and goes on."""
        prompt, length = request.prompt_ids, len(self._prefix_ids)
        return len(prompt) > length and tuple(prompt[:length]) == self._prefix_ids

    def _num_own(self, request: Request) -> int:
        num_shared = self._num_full if self._shares(request) else 0
        return num_pages_of(len(request.prompt_ids) + request.params.max_new_tokens) - num_shared


def num_pages_of(num_tokens: int) -> int:
    """Return how many pages so many tokens of one sequence take."""
    return -(-num_tokens // PAGE)
