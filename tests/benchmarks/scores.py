"""What log-probabilities cost in the engine: `python tests/benchmarks/scores.py [--prompts 120] [--pairs 4]`.

On a GPU, with random weights, where nothing can be fetched:

    python tests/benchmarks/devices.py make --shapes 0.6b --directory D
    python tests/benchmarks/scores.py --device cuda --model D/0.6b --prompts 1024 --pairs 5

The same messages are answered with as many tokens each, once with the log-probability of every token and once without;
the two alternate, and so does which of them comes first. Where others share the machine, trust the ratio of processor
time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from harness.machine import describe_machine
from harness.table import markdown_table

from llmpar.engine.build import build_engine
from llmpar.engine.request import Request, SamplingParams
from llmpar.models.load import LoadedModel, load_model
from llmpar.models.registry import resolve
from llmpar.models.tokenizer import ChatTokenizer

_MESSAGES = Path(__file__).parents[2] / "sample_data" / "messages.txt"


@dataclass(frozen=True)
class _Turn:
    """One run over all prompts: seconds, those of all processors, output ids by prompt, and how many had scores."""

    seconds: float
    busy: float
    outputs: list[list[int]]
    num_scored: int


def _turn(loaded: LoadedModel, prompts: list[list[int]], num_tokens: int, *, is_scored: bool) -> _Turn:
    with build_engine(loaded.models, 4096, frozenset(), None, None, prompts[0][:1]) as engine:
        started, busy = time.perf_counter(), time.process_time()
        for index, prompt in enumerate(prompts):
            engine.submit(Request(index, prompt, SamplingParams(num_tokens, is_scored=is_scored)))
        outputs: dict[int, list[int]] = {}
        num_scored = 0
        while len(outputs) < len(prompts):
            completion = engine.collect(timeout=600)
            if completion is None or completion.error is not None:
                raise SystemExit(f"a prompt was not answered: {completion}")
            outputs[completion.id] = list(completion.output_ids)
            num_scored += sum(score <= 0 for score in completion.logprobs)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
    return _Turn(seconds, busy, [outputs[index] for index in range(len(prompts))], num_scored)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--prompts", type=int, default=120)
    parser.add_argument("--tokens", type=int, default=32, help="of each answer")
    parser.add_argument("--pairs", type=int, default=4)
    given = parser.parse_args()
    found = resolve(given.model)
    loaded = load_model(found.path, given.device, given.precision, found.source_bits)
    tokenizer = ChatTokenizer(found.path)
    lines = [line for line in _MESSAGES.read_text(encoding="utf-8").splitlines() if line.strip()]
    some = (f"Answer message {number}: {lines[number % len(lines)]}" for number in range(given.prompts))
    prompts = [tokenizer.encode(text) for text in some]
    _turn(loaded, prompts[:8], given.tokens, is_scored=True)  # compiles, and fills caches
    pairs = []
    for number in range(given.pairs):
        turns = {}
        for is_scored in (True, False) if number % 2 else (False, True):
            turns[is_scored] = _turn(loaded, prompts, given.tokens, is_scored=is_scored)
        pairs.append((turns[True], turns[False]))
        scored, bare = pairs[-1]
        if scored.outputs != bare.outputs or bare.num_scored or scored.num_scored != sum(map(len, scored.outputs)):
            raise SystemExit("the two did not answer alike, or not as they were asked to")
        told = f"with {scored.seconds:.2f} s, without {bare.seconds:.2f} s"
        print(f"{told}; processors {scored.busy:.2f} s, {bare.busy:.2f} s", flush=True)
    num_tokens = sum(map(len, pairs[0][0].outputs))
    rows = []
    for name, of in (("seconds", lambda turn: turn.seconds), ("processor seconds", lambda turn: turn.busy)):
        both = [[of(turn) for turn in turns] for turns in zip(*pairs, strict=True)]
        ratios = sorted(one / other for one, other in zip(*both, strict=True))
        middle = [statistics.median(figures) for figures in both]
        rows.append(
            [
                name,
                *(f"{figure:.2f}" for figure in middle),
                f"{statistics.median(ratios):.3f}",
                f"{ratios[0]:.3f} to {ratios[-1]:.3f}",
            ]
        )
    print(f"\n{len(prompts)} messages, {num_tokens} tokens written, {loaded.precision}, {given.pairs} pairs")
    print(f"{describe_machine()}, load {os.getloadavg()[0]:.1f}\n")
    print(markdown_table(["median of", "with", "without", "ratio", "range of ratios"], rows))


if __name__ == "__main__":
    main()
