"""Which pages hold which beginnings of prompts, so that a worker reads a beginning once that many prompts share."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf

ROOT = -1
"""What stands before the first page."""


class PrefixTree:
    """Pages by what they hold: some tokens, and the page before, which stands for all tokens before them.

    A page is held by each sequence that reads it. One that nobody holds is kept for those to come, and the one that was
    used longest ago is given up first. Whoever uses a page uses those before it, too, so a page is given up before
    those that it goes on from.

    Source: RadixAttention (Zheng et al. 2023), by pages of a fixed size as in PagedAttention (Kwon et al. 2023).

    Args:
        page: how many tokens a page holds.
    """

    def __init__(self, page: int) -> None:
        self._page = page
        self._pages: dict[tuple[int, tuple[int, ...]], int] = {}
        self._keys: dict[int, tuple[int, tuple[int, ...]]] = {}  # by page
        self._holders: dict[int, int] = {}  # how many, by page; none is not there
        self._kept: dict[int, None] = {}  # pages without a holder, the one used longest ago first

    @property
    def num_kept(self) -> int:
        """How many pages nobody holds."""
        return len(self._kept)

    def find(self, ids: SequenceOf[int]) -> list[int]:
        """Return the pages that hold the beginning of a prompt; at least one token is left to read."""
        found: list[int] = []
        before = ROOT
        for start in range(0, len(ids) - self._page, self._page):
            page = self._pages.get((before, tuple(ids[start : start + self._page])))
            if page is None:
                break
            found.append(page)
            before = page
        return found

    def hold(self, pages: Iterable[int]) -> int:
        """Hold pages once more, and return how many were kept until now."""
        num_kept = 0
        for page in pages:
            self._holders[page] = self._holders.get(page, 0) + 1
            if page in self._kept:
                del self._kept[page]
                num_kept += 1
        return num_kept

    def add(self, before: int, ids: SequenceOf[int], page: int) -> int:
        """Say that a page, which is held by whoever asks, holds these tokens after another page.

        Returns:
            the page that does so in this tree, which may be an older one.
        """
        key = (before, tuple(ids))
        known = self._pages.setdefault(key, page)
        if known == page:
            self._keys[page] = key
            self._holders.setdefault(page, 1)
        return known

    def release(self, pages: SequenceOf[int]) -> list[int]:
        """Hold pages, in their order in a prompt, once less; return those that are in no tree."""
        free = []
        for page in reversed(pages):
            if page not in self._keys:
                free.append(page)
                continue
            self._holders[page] -= 1
            if not self._holders[page]:
                del self._holders[page]
                self._kept[page] = None
        return free

    def give_up(self, count: int) -> list[int]:
        """Take up to so many pages that are kept out of the tree, and return them."""
        given = list(self._kept)[:count]
        for page in given:
            del self._kept[page], self._pages[self._keys.pop(page)]
        return given
