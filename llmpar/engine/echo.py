"""A runner that answers each prompt with itself: the whole machine without a model."""

from __future__ import annotations

from llmpar.engine.request import Request, Sequence


class EchoRunner:
    """Finishes every sequence at its prefill. `num_slots` is how many it takes at a time."""

    continuous = True

    def __init__(self, num_slots: int = 64) -> None:
        self.num_slots = num_slots

    def start(self) -> None:
        """Nothing to prepare."""

    def reserve(self, request: Request) -> bool:  # noqa: ARG002
        """Always true: nothing is kept."""
        return True

    def resize(self, num_slots: int) -> None:
        """Take so many at a time from now on."""
        self.num_slots = num_slots

    def prefill(self, sequences: list[Sequence]) -> None:
        """Answer with the prompt."""
        for sequence in sequences:
            sequence.output_ids.extend(sequence.request.prompt_ids)
            sequence.finish_reason = "stop"

    def decode(self, sequences: list[Sequence]) -> None:
        """Never called: nothing lives past its prefill."""
        raise AssertionError(sequences)

    def release(self, sequence: Sequence) -> None:
        """Nothing is held."""
