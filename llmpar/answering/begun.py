"""An answer in token ids that was cut and may go on: what a backend keeps of it in `Reply.continuation`."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from llmpar.engine.request import Completion
from llmpar.engine.scores import NOT_SCORED, Others
from llmpar.frozen import quickly_made

_ID, _LOGPROB = "q", "f"


@quickly_made
@dataclass(frozen=True, slots=True)
class Begun:
    """The tokens of an answer so far, thoughts included, and how likely they were; see `engine.request.Completion`.

    Where nobody scored them, there is nothing of that.
    """

    ids: Sequence[int] = ()
    logprobs: Sequence[float] = ()
    others: Sequence[Others] = ()

    def followed_by(self, completion: Completion) -> Begun:
        """Return the answer with what came after it."""
        num_scored = len(completion.logprobs)
        if not self.ids and num_scored in (0, len(completion.output_ids)):  # as nearly all are
            return Begun(completion.output_ids, completion.logprobs, completion.others)
        unscored = [NOT_SCORED] * (len(completion.output_ids) - len(completion.logprobs))
        return Begun(
            [*self.ids, *completion.output_ids],
            [*self.logprobs, *completion.logprobs, *unscored],
            [*self.others, *completion.others],
        )

    def packed(self) -> bytes:
        """Return it as bytes: how many tokens there are, their ids, their log-probabilities, and the others as JSON."""
        others = json.dumps(self.others).encode() if self.others else b""
        logprobs = self.logprobs or [NOT_SCORED] * len(self.ids)
        ids = array(_ID, [len(self.ids), *self.ids])
        return ids.tobytes() + array(_LOGPROB, logprobs).tobytes() + others

    @classmethod
    def unpacked(cls, data: bytes) -> Begun:
        """Return what was packed; nothing is an answer that has not begun."""
        if not data:
            return NOT_BEGUN
        ids, logprobs = array(_ID), array(_LOGPROB)
        ids.frombytes(data[: ids.itemsize])
        count = ids.pop()
        first = ids.itemsize * (1 + count)
        last = first + logprobs.itemsize * count
        ids.frombytes(data[ids.itemsize : first])
        logprobs.frombytes(data[first:last])
        others = json.loads(data[last:] or b"[]")
        return cls(ids, logprobs, [tuple((int(token), float(known)) for token, known in place) for place in others])


NOT_BEGUN = Begun()
"""An answer of which there is nothing yet."""
