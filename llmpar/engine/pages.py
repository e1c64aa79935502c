"""Which pages of keys and values, and which slot, each sequence of one worker has. Knows no keys and no values."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np
import numpy.typing as npt

from llmpar.engine.prefix_tree import ROOT, PrefixTree
from llmpar.engine.request import Request, Sequence

PAGE = 16  # positions
_WORTH_WAITING = 2  # pages that two new prompts share; for fewer, each reads its own
_Continuation = tuple[int, tuple[int, ...]]


class Pages:
    """The first pages hold the prefix, the others are given to sequences: enough to their ends, when they come.

    So a sequence never waits for room once it has begun. A prefix that ends within a page is continued by each sequence
    in a page of its own, into which that page is copied. Whole pages of a prompt that was read are shared with those
    that begin alike (see `PrefixTree`), also when it has ended, until their room is needed.

    Args:
        num_slots: how many sequences live at once.
        num_pages: how many pages there are, the prefix's among them.
        longest: the most tokens of a sequence.
        prefix_ids: what most prompts begin with; its keys and values are in the first pages.
        most_kept: of pages that no sequence holds.
    """

    def __init__(
        self, num_slots: int, num_pages: int, longest: int, prefix_ids: SequenceOf[int], most_kept: int = 0
    ) -> None:
        self._prefix_ids = tuple(prefix_ids)
        self._num_full, self._num_begun = divmod(len(prefix_ids), PAGE)  # pages, and tokens on the page after them
        # The last one freed is the next one taken, so that no more memory is touched than is used at once.
        self._free = list(reversed(range(num_pages_of(len(prefix_ids)), num_pages)))
        self._num_unreserved = len(self._free)  # of those that are free or kept
        self._most_kept = most_kept
        self._tree = PrefixTree(PAGE)
        for page in range(self._num_full):  # held for ever
            self._tree.add(page - 1 if page else ROOT, self._prefix_ids[page * PAGE : (page + 1) * PAGE], page)
        self._shared: dict[int, list[int]] = {}  # the pages of what was reserved and not admitted, by `id`
        self._awaited: set[_Continuation] = set()  # how prompts go on that are admitted and not read
        self._taken: dict[int, list[int]] = {}  # by slot, all pages that a sequence holds
        self.tables: npt.NDArray[np.int32] = np.zeros((num_slots, num_pages_of(longest)), np.int32)
        """By slot, the pages of a sequence in the order of its positions."""
        self.resize(num_slots)

    def resize(self, num_slots: int) -> None:
        """Have so many sequences at once from now on, no more than at first; called when none lives."""
        self._free_slots = list(reversed(range(num_slots)))

    def reserve(self, request: Request) -> bool:
        """Set pages aside for a request to its last token; False if there are not enough now."""
        shared = self._tree.find(request.prompt_ids)
        num_own = _num_pages(request) - len(shared)
        num_kept = self._tree.hold(shared)
        if num_own + num_kept > self._num_unreserved:
            self._tree.release(shared)
            return False
        self._num_unreserved -= num_own + num_kept
        self._shared[id(request)] = shared
        return True

    def waits(self, request: Request) -> bool:
        """Tell whether a prompt goes on like one that is admitted, so that it should be admitted when that is read."""
        next_ones = _continuation(request.prompt_ids, self._tree.find(request.prompt_ids))
        return next_ones is not None and next_ones in self._awaited

    def admit(self, sequence: Sequence) -> tuple[int, tuple[int, int] | None]:
        """Give a sequence that was reserved its slot and pages.

        Returns:
            how many of its tokens are read with that, and, if the prefix ends within a page, the page to be copied and
            the one that it is copied to.
        """
        prompt = sequence.request.prompt_ids
        shared = self._shared.pop(id(sequence.request))
        later = self._tree.find(prompt)[len(shared) :]  # what was read since it was reserved
        self._num_unreserved += len(later) - self._tree.hold(later)
        shared += later
        num_own = _num_pages(sequence.request) - len(shared)
        self._free += self._tree.give_up(num_own - len(self._free)) if num_own > len(self._free) else ()
        kept = len(self._free) - num_own
        pages = shared + self._free[: kept - 1 if kept else None : -1]
        del self._free[kept:]
        slot = sequence.slot = self._free_slots.pop()
        self._taken[slot] = pages
        table = self.tables[slot]
        table[: len(pages)] = pages
        table[len(pages) :] = 0
        if next_ones := _continuation(prompt, shared):
            self._awaited.add(next_ones)
        if len(shared) == self._num_full and self._num_begun and self._begins_with_prefix(sequence.request):
            return len(self._prefix_ids), (self._num_full, pages[self._num_full])
        return len(shared) * PAGE, None

    def share(self, sequences: SequenceOf[Sequence]) -> None:
        """Let others share the prompts of sequences, which have been read, and keep them for those to come."""
        self._awaited.clear()
        for sequence in sequences:
            prompt, before = sequence.request.prompt_ids, ROOT
            for index, page in enumerate(self._taken[sequence.slot][: len(prompt) // PAGE]):
                before = self._tree.add(before, prompt[index * PAGE : (index + 1) * PAGE], page)

    def release(self, sequence: Sequence) -> None:
        """Free the sequence's slot and pages, or what was set aside if it was not admitted."""
        self._awaited.clear()
        num_before = self._tree.num_kept
        if sequence.slot < 0:
            shared = self._shared.pop(id(sequence.request))
            self._num_unreserved += _num_pages(sequence.request) - len(shared)
            self._tree.release(shared)
            self._num_unreserved += self._tree.num_kept - num_before
        else:
            self._free_slots.append(sequence.slot)
            free = self._tree.release(self._taken.pop(sequence.slot))
            self._free += free
            self._num_unreserved += len(free) + self._tree.num_kept - num_before
        self._free += self._tree.give_up(max(0, self._tree.num_kept - self._most_kept))

    def _begins_with_prefix(self, request: Request) -> bool:
        """Tell whether a prompt begins with the prefix, and goes on."""
        prompt, length = request.prompt_ids, len(self._prefix_ids)
        return len(prompt) > length and tuple(prompt[:length]) == self._prefix_ids


def _num_pages(request: Request) -> int:
    return num_pages_of(len(request.prompt_ids) + request.params.max_new_tokens)


def _continuation(prompt: SequenceOf[int], shared: list[int]) -> _Continuation | None:
    """Return how a prompt goes on after the pages that it shares; None where that is not worth waiting for."""
    begin = len(shared) * PAGE
    end = begin + _WORTH_WAITING * PAGE
    return (shared[-1] if shared else ROOT, tuple(prompt[begin:end])) if len(prompt) > end else None


def num_pages_of(num_tokens: int) -> int:
    """Return how many pages so many tokens of one sequence take."""
    return -(-num_tokens // PAGE)
