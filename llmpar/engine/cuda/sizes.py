"""How many rows what is recorded has: passes over prompts and steps are filled up to few sizes. Knows no device."""

from __future__ import annotations

_LEAST = 16
_FINE = 512  # tokens above which sizes are an eighth of a power of 2 apart; below, padding costs next to nothing
_GAPLESS = 1 << 35  # tokens times weights of a layer: its kernels take longer than the host needs to give them out
_STEP_ROWS = 128  # above, steps are rounded up to multiples of it; products are cut into so many rows anyway


def step_size(num_rows: int) -> int:
    """Return for how many rows a step is recorded that has to take so many."""
    if num_rows > _STEP_ROWS:
        return -(-num_rows // _STEP_ROWS) * _STEP_ROWS
    return 1 << (num_rows - 1).bit_length()


def pass_size(num_tokens: int) -> int:
    """Return to how many tokens of prompts so many are padded."""
    power = 1 << max(num_tokens - 1, _LEAST - 1).bit_length()
    step = power // 8
    return power if power <= _FINE else -(-num_tokens // step) * step


def most_recorded(pass_tokens: int, layer_weights: int) -> int:
    """Return how many tokens a recorded pass has at most, where passes have at most `pass_tokens`.

    Those with more keep the device busy as they are, and padding would cost them time and memory.
    """
    size, enough = pass_size(pass_tokens), _GAPLESS // layer_weights
    while size > max(enough, _LEAST):
        size = pass_size(size // 2)
    return size
