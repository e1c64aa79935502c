"""What a precision costs: perplexity and likeliest tokens against transformers' fp32, greedy answers against llmpar's.

Run it with llmpar's interpreter:

    python tests/benchmarks/accuracy.py --precisions fp32,bf16,int8,int4 --markdown accuracy.md

The texts of sample_data/ are cut into windows that do not overlap, each read from its start by llmpar's decoder and by
transformers, and every token but a window's first is scored. The answers are those of compare.py's job, by the whole
engine in a process of its own. Nothing is timed, so the machine may do other things.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from harness.job import STORY, Job, make_job
from harness.logits import Logits, decoder_logits, likelihoods_of
from harness.machine import describe_machine
from harness.table import markdown_table
from harness.turn import Contender, TurnFailed, take_turn

from llmpar.models.registry import DEFAULT_MODEL

_WINDOW = 512  # tokens
_REFERENCE = "transformers fp32"
_HEADER = ["engine", "perplexity", "change", "top-1", "equal", "tokens until they differ"]


@dataclass(frozen=True)
class Window:
    """Neighbouring tokens of a text."""

    file: str
    ids: list[int]


@dataclass(frozen=True)
class Scores:
    """What a model makes of every token to be scored: how likely (a logarithm), and what was likeliest in its place."""

    likelihoods: npt.NDArray[np.float64]
    likeliest: npt.NDArray[np.int64]

    @property
    def perplexity(self) -> float:
        return float(np.exp(-self.likelihoods.mean()))

    def change(self, other: Scores) -> tuple[float, float]:
        """Return how much greater perplexity is than the other model's, relative to it, and the standard error.

        Tokens are compared one by one: texts differ far more than models do.
        """
        losses = other.likelihoods - self.likelihoods
        return float(np.expm1(losses.mean())), float(losses.std() / np.sqrt(len(losses)))

    def agreement(self, other: Scores) -> float:
        """The share of tokens in whose place the other model has the same one likeliest."""
        return float((self.likeliest == other.likeliest).mean())


def main() -> int:
    options = _options()
    job = make_job(options.model, options.sentences, options.max_new_tokens)
    windows = _windows(job.model, options.windows)
    machine, scored = describe_machine(), _describe(windows)
    print(machine, scored, job, sep="\n", flush=True)
    scores = {_REFERENCE: _score(_REFERENCE, _transformers(job.model), windows)}
    for precision in options.precisions:
        scores[precision] = _score(f"llmpar {precision}", decoder_logits(job.model, precision, _WINDOW), windows)
    answers = {precision: _answers(precision, job) for precision in dict.fromkeys(["fp32", *options.precisions])}
    report = _report(options.precisions, scores, answers)
    print("\n" + report)
    if options.markdown:
        options.markdown.write_text(f"{machine}\n\n{scored}\n\n{job}\n\n{report}\n", encoding="utf-8")
    if options.json:
        options.json.write_text(_as_json(windows, scores, answers), encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, help="as llmpar's --model")
    add("--precisions", type=_words, default=["fp32", "bf16", "int8", "int4"], help="llmpar's")
    add(
        "--windows", type=int, default=3, help=f"how many of each text are scored, of up to {_WINDOW} tokens; 0 for all"
    )
    add("--sentences", type=int, default=60, help="how many of the story's are asked")
    add("--max-new-tokens", type=int, default=64, help="where an answer is cut")
    add("--markdown", type=Path, metavar="FILE", help="write the table there")
    add("--json", type=Path, metavar="FILE", help="write every token's scores there, and every answer")
    return parser.parse_args()


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _windows(model: Path, num_of_each: int) -> list[Window]:
    from llmpar.models.tokenizer import ChatTokenizer

    tokenizer = ChatTokenizer(model)
    found = []
    for file in sorted(STORY.parent.iterdir()):
        ids = tokenizer.encode_data(file.read_text(encoding="utf-8", errors="replace"))
        starts = range(0, len(ids) - 1, _WINDOW)  # one token alone has nothing to be scored
        found += [Window(file.name, ids[start : start + _WINDOW]) for start in starts[: num_of_each or None]]
    return found


def _describe(windows: list[Window]) -> str:
    num_scored = sum(len(window.ids) - 1 for window in windows)
    num_texts = len({window.file for window in windows})
    return f"{num_scored:,} tokens scored, in {len(windows)} windows of up to {_WINDOW}, of {num_texts} texts"


def _score(name: str, logits_of: Logits, windows: list[Window]) -> Scores:
    likelihoods, likeliest = [], []
    for window in windows:
        logits = logits_of(window.ids)[:-1]
        likelihoods.append(likelihoods_of(window.ids[1:], logits))
        likeliest.append(logits.argmax(1))
    scores = Scores(np.concatenate(likelihoods), np.concatenate(likeliest))
    print(f"{name}: perplexity {scores.perplexity:.3f}", flush=True)
    return scores


def _transformers(path: Path) -> Logits:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)  # more wait for one another, where others use the cores, and take longer than one
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True).eval()

    def logits(ids: list[int]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].numpy()

    return logits


def _answers(precision: str, job: Job) -> dict[int, list[int]]:
    contender = Contender(f"llmpar {precision}", "llmpar", {"precision": precision, "threads": 0, "batch_size": 0})
    try:
        turn = take_turn(contender, job)
    except TurnFailed as error:
        sys.exit(f"{contender.name}: {error}")
    print(f"{contender.name}: {len(turn.outputs)} answers", flush=True)
    return turn.outputs


def _report(precisions: list[str], scores: dict[str, Scores], answers: dict[str, dict[int, list[int]]]) -> str:
    reference, expected = scores[_REFERENCE], answers["fp32"]
    rows = [[_REFERENCE, f"{reference.perplexity:.3f}", "", "", "", ""]]
    for precision in precisions:
        own = scores[precision]
        change, error = own.change(reference)
        alike = [
            _num_alike(ids, expected[index]) for index, ids in answers[precision].items() if ids != expected[index]
        ]
        rows.append(
            [
                f"llmpar {precision}",
                f"{own.perplexity:.3f}",
                f"{change:+.3%} ± {error:.3%}",
                f"{own.agreement(reference):.2%}",
                f"{1 - len(alike) / len(expected):.0%}",
                f"{sum(alike) / len(alike):.1f}" if alike else "",
            ]
        )
    length = sum(map(len, expected.values())) / len(expected)
    legend = (
        f'"Change" is of perplexity, with its standard error, and "top-1" the share of tokens in whose place the same '
        f'one is likeliest, both against {_REFERENCE}. "Equal" are the answers that are llmpar\'s fp32 greedy ones, '
        f"token for token; the others are so for the mean number of tokens in the last column, of the {length:.1f} "
        "that an fp32 answer has."
    )
    return f"{markdown_table(_HEADER, rows)}\n\n{legend}"


def _num_alike(some: list[int], others: list[int]) -> int:
    """Return how many tokens two answers begin with in common, which differ."""
    pairs = enumerate(zip(some, others, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(some), len(others)))


def _as_json(windows: list[Window], scores: dict[str, Scores], answers: dict[str, dict[int, list[int]]]) -> str:
    ends = np.cumsum([len(window.ids) - 1 for window in windows])[:-1]
    return json.dumps(
        {
            "windows": [{"file": window.file, "ids": window.ids} for window in windows],
            "scores": {
                name: {
                    "likelihoods": [part.tolist() for part in np.split(own.likelihoods, ends)],
                    "likeliest": [part.tolist() for part in np.split(own.likeliest, ends)],
                }
                for name, own in scores.items()
            },
            "answers": answers,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
