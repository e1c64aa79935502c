"""Requests without meaning, and an engine's answers to them."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

from llmpar.engine.engine import Engine
from llmpar.engine.request import Completion, Request, SamplingParams
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


def fits(_: Request) -> bool:
    return True
