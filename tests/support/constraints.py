"""A constraint that tests can see through."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import numpy as np

from llmpar.engine.constraint import Mask
from llmpar.engine.request import Completion

VOCABULARY, STOP = 300, 2


# Some begin alike, some are the beginning of others, most go on for a while without a choice.
OPTIONS = [
    (10, 11, 12), (10, 11, 13, 14, 15, 16, 17, 18, 19), (10, 11, 13, 20), (40,), (40, 41), (40, 41, 42, 43, 44),
    (299, 298, 297, 296, 295, 294, 293, 292), (150, 151), (150, 31, 32),
    *((token, 60, token) for token in range(80, 130)),
]  # fmt: skip


class OneOf:
    """A constraint: the answer is one of several sequences of tokens."""

    def __init__(self, options: SequenceOf[tuple[int, ...]] = OPTIONS) -> None:
        self.options = list(options)
        self.ids: tuple[int, ...] = ()

    def following(self, ids: tuple[int, ...]) -> set[int]:
        found = {option[len(ids)] for option in self.options if option[: len(ids)] == ids and len(option) > len(ids)}
        return found | {STOP} if ids in self.options else found

    def allowed(self, ahead: SequenceOf[int] = ()) -> list[Mask]:
        masks = []
        for count in range(len(ahead) + 1):
            masks.append(mask(self.following((*self.ids, *ahead[:count]))))
            if count < len(ahead) and (
                ahead[count] == STOP or ahead[count] not in self.following((*self.ids, *ahead[:count]))
            ):
                break
        return masks

    def accept(self, token_id: int) -> None:
        if token_id not in self.following(self.ids):
            raise ValueError(f"{token_id} may not follow {self.ids}")
        self.ids = (*self.ids, token_id)

    def forced(self) -> list[int]:
        ids = self.ids
        while len(following := self.following(ids)) == 1 and STOP not in following:
            ids += tuple(following)
        return list(ids[len(self.ids) :])

    @property
    def is_complete(self) -> bool:
        return self.following(self.ids) == {STOP}


def mask(ids: set[int]) -> Mask:
    bits = np.zeros(-(-VOCABULARY // 32) * 32, np.uint8)
    bits[list(ids)] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)


def ids(completions: SequenceOf[Completion]) -> list[tuple[int, ...]]:
    assert [c.error for c in completions] == [None] * len(completions)
    return [tuple(completion.output_ids) for completion in completions]
