"""Passes over prompts: padded to a few sizes and recorded, where giving out their kernels would take longer than they.

Padding is short sequences of the slot that is nobody's, so no row of a prompt comes out otherwise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from llmpar.engine.cuda.decoder import Decoder, Pass, Tokens, blocks, tokens_per_block
from llmpar.engine.cuda.sizes import most_recorded, pass_size
from llmpar.engine.cuda.stream import Stream
from llmpar.engine.pages import PAGE

Numbers = npt.NDArray[np.int32]

_SPARE_BLOCKS = 64


class Reader:
    """Takes tokens of prompts through a decoder. What it returns holds until it is called again.

    Args:
        decoder: the model.
        work: what takes tokens through it.
        stream: on which it is recorded.
        nobody: the slot of padding.
        pass_tokens: the most that will be read at once.
    """

    def __init__(self, decoder: Decoder, work: Pass, stream: Stream, nobody: int, pass_tokens: int) -> None:
        self._pass = work
        self._stream = stream
        self._nobody = nobody
        self._per_block = tokens_per_block(decoder)
        self._most = most = most_recorded(pass_tokens, decoder.layer_weights)
        room = -(-(most + 1) // 4) * 4  # so that each row begins where kernels may read 16 bytes at a time
        self._line = torch.zeros(3, room, dtype=torch.int32, device=decoder.device)
        cut = -(-self._num_blocks(most) // 4) * 4
        self._cut = torch.zeros(2, cut, dtype=torch.int32, device=decoder.device)
        self._hidden = decoder.embedding.new_empty(most, decoder.embedding.shape[1])

    def read(self, ids: Numbers, positions: Numbers, slots: Numbers, lengths: list[int]) -> torch.Tensor:
        """Return the last hidden states (N, H), normed, of tokens of prompts that stand one after another.

        Args:
            ids: (N,), like the next two.
            positions: in their prompts.
            slots: whose they are.
            lengths: how many there are of each prompt.
        """
        count, size = len(ids), pass_size(len(ids))
        starts, counts = blocks([*lengths, *self._padding(size - count)], self._per_block)
        num_blocks = self._num_blocks(size)
        if size > self._most or len(starts) > num_blocks:
            return self.read_as_they_are(ids, positions, slots, lengths)
        line = np.zeros((3, size + 1), np.int32)
        line[2] = self._nobody
        line[:, :count] = ids, positions, slots
        line[1, count:size] = np.arange(size - count) % PAGE
        cut = np.zeros((2, num_blocks), np.int32)
        cut[0] = size  # blocks without tokens begin at one more that is nobody's, at position 0, and end there
        cut[:, : len(starts)] = starts, counts
        self._line[:, : size + 1] = self._stream.send(line)
        self._cut[:, :num_blocks] = self._stream.send(cut)
        self._stream.run(("read", size), lambda: self._padded(size, num_blocks))
        return self._hidden[:count]

    def read_as_they_are(self, ids: Numbers, positions: Numbers, slots: Numbers, lengths: list[int]) -> torch.Tensor:
        """Return (N, H) for (N,) without padding, and without recording it."""
        starts, counts = blocks(lengths, self._per_block)
        line = self._send_rows(ids, positions, slots)
        cut = self._send_rows(np.array(starts, np.int32), np.array(counts, np.int32))
        return self._pass.forward(Tokens(line[0].long(), line[1], line[2], cut[0], cut[1], self._per_block))

    def _padded(self, size: int, num_blocks: int) -> None:
        ids, positions, slots = self._line
        starts, counts = self._cut[:, :num_blocks]
        tokens = Tokens(ids[:size].long(), positions[:size], slots[:size], starts, counts, self._per_block)
        self._hidden[:size] = self._pass.forward(tokens)

    def _padding(self, num_tokens: int) -> list[int]:
        """Return lengths of sequences of nobody's, which has one page."""
        return [min(PAGE, num_tokens - first) for first in range(0, num_tokens, PAGE)]

    def _num_blocks(self, size: int) -> int:
        """Return into how many blocks a recorded pass may be cut: prompts seldom need more, else it is not recorded."""
        return min(size, 2 * size // self._per_block + _SPARE_BLOCKS)

    def _send_rows(self, *rows: Numbers) -> list[torch.Tensor]:
        """Send arrays of one length at once; each begins where kernels may read 16 bytes at a time."""
        length = len(rows[0])
        padded = np.zeros((len(rows), -(-length // 4) * 4), np.int32)
        padded[:, :length] = rows
        return [row[:length] for row in self._stream.send(padded)]
