"""Requests without meaning, and an engine's answers to them."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

from llmpar.engine.engine import Engine
from llmpar.engine.request import Completion, Request, SamplingParams, Sequence
from llmpar.engine.worker import Runner

PARAMS = SamplingParams(max_new_tokens=100)


def request(index: int, length: int = 3, params: SamplingParams = PARAMS) -> Request:
    return Request(index, [index % 97] * length, params)


def answers(runners: SequenceOf[Runner], requests: list[Request], context: int = 10_000) -> dict[int, Completion]:
    with Engine(runners, context) as engine:
        for one in requests:
            engine.submit(one)
        found: dict[int, Completion] = {}
        while len(found) < len(requests):
            completion = engine.collect(timeout=20)
            assert completion is not None, "the engine hangs"
            assert completion.id not in found, "a request was answered twice"
            found[completion.id] = completion
        assert engine.collect(timeout=0) is None
    return found


def run_to_end(runner: Runner, sequences: SequenceOf[Sequence]) -> None:
    """Let a runner without a worker answer sequences, all at once; each is released with the step in which it ends."""
    live = list(sequences)
    runner.prefill(live)
    while live:
        for ended in [sequence for sequence in live if sequence.finish_reason]:
            runner.release(ended)
            live.remove(ended)
        if live:
            runner.decode(live)


def fits(_: Request) -> bool:
    return True


def collected(engine: Engine, asked: list[list[int]], params: SamplingParams, patience: float = 60) -> list[list[int]]:
    """Return an engine's answers in order, none of which takes more seconds than `patience`, and close it."""
    found: dict[int, list[int]] = {}
    with engine:
        for index, prompt in enumerate(asked):
            engine.submit(Request(index, prompt, params))
        while len(found) < len(asked):
            completion = engine.collect(timeout=patience)
            assert completion is not None, "the engine hangs"
            assert completion.error is None, completion.error
            found[completion.id] = list(completion.output_ids)
    return [found[index] for index in range(len(found))]
