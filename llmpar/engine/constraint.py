"""What may come next in an answer: masks over token ids. Knows no text, no grammar and no model."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:  # whoever asks a model elsewhere has no use for it, and it takes a quarter of a second to import
    import numpy as np
    import numpy.typing as npt

WORD = 32
Mask: TypeAlias = "npt.NDArray[np.uint32]"
"""A bit for each token of the model's vocabulary (V / 32 words, rounded up), the lowest first: 1 where it may come."""


class Constraint(Protocol):
    """What one answer has to obey, told token by token. Made, used and dropped by one thread.

    Whatever it raises fails its own request.
    """

    def allowed(self, ahead: SequenceOf[int] = ()) -> list[Mask]:
        """Return masks (V / 32,): what may come now, and after each token of `ahead`, up to the first that may not.

        Tokens that stop an answer are among them where it may end.
        """

    def accept(self, token_id: int) -> None:
        """Take the next token, which is not one that stops."""

    def forced(self) -> list[int]:
        """Return tokens that come next because nothing else can; there may be more of them."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing can come any more but a token that stops."""


def anything(mask: Mask) -> Mask:
    """Return a mask (V / 32,) that is as long as another, and lets any token come."""
    import numpy as np

    return np.full_like(mask, np.iinfo(np.uint32).max)


def unpack(masks: npt.NDArray[np.uint32], vocabulary: int) -> npt.NDArray[np.bool_]:
    """Return masks (…, V / 32) as truth values (…, V)."""
    import numpy as np

    octets = np.ascontiguousarray(masks.astype("<u4", copy=False)).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=vocabulary, bitorder="little").astype(np.bool_)
