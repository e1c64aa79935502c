"""What a constraint costs: `python tests/benchmarks/structured.py [--messages 1000] [--rounds 3] [--precision int8]`.

Support messages are answered with a constraint, and without one by as many tokens each; the two alternate. Prompts are
the same, so both read as much; tokens that a constraint forces count as tokens. Where others share the machine, trust
the ratio of processor time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.machine import describe_machine
from harness.table import markdown_table

from llmpar.engine.build import build_engine
from llmpar.engine.request import Request, SamplingParams
from llmpar.models.grammar import Grammar, choices_rule, schema_rule
from llmpar.models.load import load_model
from llmpar.models.registry import resolve
from llmpar.models.tokenizer import ChatTokenizer

_MESSAGES = Path(__file__).parents[2] / "sample_data" / "messages.txt"
_TOPICS = ["billing", "delivery", "bug report", "praise", "cancellation", "something else"]
_SCHEMA = {
    "type": "object",
    "properties": {
        "topic": {"enum": _TOPICS},
        "order": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "urgent": {"type": "boolean"},
        "summary": {"type": "string", "maxLength": 60},
    },
    "required": ["topic", "order", "urgent", "summary"],
    "additionalProperties": False,
}
_CASES = {
    "choices": (choices_rule(_TOPICS), f"Which of these is the message about: {', '.join(_TOPICS)}?"),
    "schema": (schema_rule(_SCHEMA), f"Describe the message as JSON of this schema: {json.dumps(_SCHEMA)}"),
    # Nothing is forced and nearly everything allowed, so that each token needs its mask: the worst case.
    "text": (schema_rule({"type": "string", "minLength": 150, "maxLength": 200}), "Summarize the message."),
}
_OPENINGS = ["", "Hello, ", "Good morning. ", "To whom it may concern: ", "Hi there! "]
_CLOSINGS = ["", " Thank you.", " Please answer soon.", " Regards, A. N. Other"]


@dataclass(frozen=True)
class _Turn:
    """One run over all messages: output ids by message."""

    seconds: float
    busy: float  # of all processors
    outputs: list[Any]

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.outputs))


class _Bench:
    def __init__(self, name: str, precision: Any, workers: int | None, batch: int | None) -> None:
        found = resolve(name)
        self.path = Path(found.path)
        self.loaded = load_model(self.path, "cpu", precision, found.source_bits)
        self.tokenizer = ChatTokenizer(self.path)
        self.stop_ids = self.loaded.stop_ids | self.tokenizer.stop_ids
        self._workers, self._batch = workers, batch

    def prompts(self, instruction: str, count: int) -> list[list[int]]:
        lines = [line for line in _MESSAGES.read_text(encoding="utf-8").splitlines() if line.strip()]
        texts = []
        for index in range(count):
            line, turn = lines[index % len(lines)], index // len(lines)
            texts.append(_OPENINGS[turn % len(_OPENINGS)] + line + _CLOSINGS[turn // len(_OPENINGS) % len(_CLOSINGS)])
        return [self.tokenizer.encode(f"{instruction}\n\n{text}") for text in texts]

    def turn(self, prompts: list[list[int]], limits: list[int], constraint: Callable[[], Any] | None) -> _Turn:
        prefix = [ids[0] for ids in _common(prompts)]
        stop_ids = self.stop_ids if constraint else frozenset()
        with build_engine(self.loaded.models, 4096, stop_ids, self._workers, self._batch, prefix) as engine:
            started, busy = time.perf_counter(), time.process_time()
            for index, (prompt, limit) in enumerate(zip(prompts, limits, strict=True)):
                engine.submit(Request(index, prompt, SamplingParams(limit), constraint=constraint))
            outputs: dict[int, Any] = {}
            while len(outputs) < len(prompts):
                completion = engine.collect(timeout=600)
                assert completion is not None
                assert completion.error is None, completion.error
                outputs[completion.id] = completion.output_ids
            seconds, busy = time.perf_counter() - started, time.process_time() - busy
            return _Turn(seconds, busy, [outputs[index] for index in range(len(prompts))])


def _common(prompts: list[list[int]]) -> list[tuple[int, ...]]:
    columns = []
    for column in zip(*prompts, strict=False):
        if len(set(column)) > 1:
            break
        columns.append(column)
    return columns


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--only", choices=_CASES)
    given = parser.parse_args()
    bench = _Bench(given.model, given.precision, given.workers, given.batch_size)
    rows = []
    for case, (rule, instruction) in _CASES.items():
        if given.only not in (None, case):
            continue
        started = time.perf_counter()
        grammar = Grammar(bench.path, bench.loaded.vocabulary, bench.stop_ids, rule)
        building = time.perf_counter() - started
        prompts = bench.prompts(instruction, given.messages)
        # Both have the same limits: where they are higher, more memory is set aside, and that has its own cost.
        whole = bench.turn(prompts, [256] * len(prompts), grammar.constrain)
        limits = [len(ids) for ids in whole.outputs]
        held, free = [], []
        for _ in range(given.rounds):
            held.append(bench.turn(prompts, limits, grammar.constrain))
            free.append(bench.turn(prompts, limits, None))
        assert all(turn.outputs == whole.outputs for turn in held), "a constraint's answers differ from run to run"
        assert {turn.num_tokens for turn in [*held, *free]} == {held[0].num_tokens}, "not the same number of tokens"
        rates = [statistics.median(turn.num_tokens / turn.seconds for turn in turns) for turns in (held, free)]
        pairs = list(zip(held, free, strict=True))
        ratio = statistics.median(f.seconds / h.seconds for h, f in pairs)
        busy = statistics.median(f.busy / h.busy for h, f in pairs)
        rows.append(
            [
                case,
                f"{held[0].num_tokens / len(prompts):.1f}",
                f"{len(prompts) / statistics.median(turn.seconds for turn in held):.1f}",
                *(f"{rate:,.0f}" for rate in rates),
                f"{ratio:.2f}",
                f"{busy:.2f}",
                f"{building:.2f}",
            ]
        )
    print(f"{given.messages} messages, {bench.path.name} in {bench.loaded.precision}; {describe_machine()}\n")
    header = [
        "case",
        "tokens each",
        "messages/s",
        "held tokens/s",
        "free tokens/s",
        "held/free",
        "by busy time",
        "grammar s",
    ]
    print(markdown_table(header, rows))


if __name__ == "__main__":
    main()
