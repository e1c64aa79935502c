"""The agreement part: llmpar's greedy answers against `generate`'s, and how near to a tie each difference is.

As a program it looks at differences, in a process of its own: `python -m device.agreement FILE`, FILE being the
`Question` as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from harness.table import markdown_table

from device.contender import Spec, load_causal
from device.shapes import make_config
from device.trial import run_trial

_NEAR = 6.0  # times the difference that rounding makes of a logit: two logits, each computed in two ways
_MOST_SHOWN = 40
_HIGHEST = 100  # logits, by which rounding is measured: those far below are smaller, and so rounded less


@dataclass(frozen=True)
class Difference:
    """Where two answers part: `ours` and `theirs` are the tokens there, after `common`.

    `margin` and `margin_fp32` are between the two highest logits there in the precision at hand and in fp32, and
    `between` how far apart the two tokens' own are in fp32. `noise` is the root mean square of the difference that the
    precision makes to one of the highest logits.
    """

    prompt: int
    position: int
    ours: int
    theirs: int
    margin: float
    margin_fp32: float
    between: float
    noise: float

    @property
    def is_near_tie(self) -> bool:
        return self.between <= _NEAR * self.noise


@dataclass(frozen=True)
class Question:
    """A spec, and of each difference the prompt's number, the tokens up to there, and the two tokens."""

    spec: dict[str, Any]
    places: list[tuple[int, int, list[int], int, int]]


@dataclass(frozen=True)
class Agreement:
    """What came of a shape in a precision."""

    shape: str
    precision: str
    num_prompts: int
    num_tokens: int
    num_common: int
    differences: list[Difference]

    def row(self) -> list[str]:
        found = self.differences
        same = self.num_prompts - len(found)
        near = sum(difference.is_near_tie for difference in found)
        return [
            self.shape,
            self.precision,
            str(self.num_prompts),
            f"{same} ({same / self.num_prompts:.0%})",
            f"{self.num_common / self.num_tokens:.1%}",
            f"{near} of {len(found)}" if found else "",
            f"{median(difference.margin_fp32 for difference in found):.4f}" if found else "",
            f"{max(difference.margin_fp32 for difference in found):.4f}" if found else "",
            f"{median(difference.noise for difference in found):.4f}" if found else "",
            f"{max(difference.between / difference.noise for difference in found):.1f}" if found else "",
        ]


HEADER = [
    "shape",
    "precision",
    "answers",
    "identical",
    "tokens before a difference",
    "near ties",
    "median margin",
    "largest margin",
    "rounding",
    "largest margin / rounding",
]


def run_agreement(
    shape: str,
    directory: str,
    device: str,
    precision: str,
    count: int,
    num_new_tokens: int,
    batch_size: int,
    time_limit: float,
    tell: Callable[[str], None],
) -> Agreement | None:
    """Compare one shape in one precision; None, and told why, if either does not answer."""

    def spec(engine: str, options: dict[str, Any]) -> Spec:
        vocabulary = make_config(shape).vocab_size
        return Spec(engine, directory, device, precision, vocabulary, [count], options, num_new_tokens, True)

    answers: list[list[list[int]]] = []
    for engine, options in (("llmpar", {}), ("generate", {"batch_size": batch_size, "alike": True})):
        trial = run_trial(spec(engine, options), time_limit, {"CUDA_VISIBLE_DEVICES": "0"})
        if not trial.jobs or trial.jobs[0].outputs is None:
            tell(f"{shape} {precision}  {engine}: FAILED: {trial.error}")
            return None
        tell(f"{shape} {precision}  {engine}: answered after {trial.since_start(trial.jobs[0].last_at):.0f} s")
        answers.append(trial.jobs[0].outputs)
    prompts = spec("generate", {}).workload(0).prompts
    places: list[tuple[int, int, list[int], int, int]] = []
    num_common = 0
    for index, (ours, theirs) in enumerate(zip(*answers, strict=True)):
        position = next((i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]), len(ours))
        num_common += position
        if position < len(ours):
            places.append((index, position, prompts[index] + ours[:position], ours[position], theirs[position]))
    differences: list[Difference] = []
    if places:
        try:
            differences = _ask(Question(asdict(spec("generate", {})), places), time_limit)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            tell(f"{shape} {precision}  margins: FAILED: {error}\n{(error.stderr or '')[-1000:]}")
            return None
    return Agreement(shape, precision, count, count * num_new_tokens, num_common, differences)


def report(found: list[Agreement], num_new_tokens: int) -> str:
    lines = [
        markdown_table(HEADER, [agreement.row() for agreement in found]),
        "",
        f"Greedy answers of {num_new_tokens} tokens each, llmpar's against `generate`'s in batches of prompts of one "
        "length, without padding. Margins are of the two highest logits where an answer first differs, by a pass over "
        "what is common in fp32; rounding is the root mean square of what the precision changes in the "
        f"{_HIGHEST} highest logits there. A near tie: the two tokens' logits are at most {_NEAR:g} times that apart.",
    ]
    for agreement in found:
        if agreement.differences:
            shown = agreement.differences[:_MOST_SHOWN]
            lines += ["", f"{agreement.shape} in {agreement.precision}, where answers differ first:", ""]
            header = [
                "prompt",
                "token",
                f"margin {agreement.precision}",
                "margin fp32",
                "of the two",
                "rounding",
                "tie",
            ]
            rows = [
                [
                    str(difference.prompt),
                    str(difference.position),
                    f"{difference.margin:.4f}",
                    f"{difference.margin_fp32:.4f}",
                    f"{difference.between:.4f}",
                    f"{difference.noise:.4f}",
                    "near" if difference.is_near_tie else "NO",
                ]
                for difference in shown
            ]
            lines.append(markdown_table(header, rows))
            if len(shown) < len(agreement.differences):
                lines.append(f"… and {len(agreement.differences) - len(shown)} more")
    return "\n".join(lines)


def _ask(question: Question, time_limit: float) -> list[Difference]:
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(asdict(question), file)
        file.flush()
        done = subprocess.run(
            [sys.executable, "-m", "device.agreement", file.name],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
            timeout=time_limit,
        )
    return [Difference(**fields) for fields in json.loads(done.stdout.splitlines()[-1])]


def look(question: Question) -> list[Difference]:
    """Compute the logits at each place, with the weights as they are rounded, in their precision and in fp32."""
    import torch

    spec = Spec(**question.spec)
    # fp32 has nothing more precise beside it but fp64, whose weights are the same.
    models = [load_causal(spec), load_causal(spec, "fp32")]
    if spec.precision == "fp32":
        models[1] = models[1].double()
    found = []
    with torch.inference_mode():
        for index, position, ids, ours, theirs in question.places:
            given = torch.tensor([ids], device=spec.device)
            low, high = (
                model(input_ids=given, use_cache=False, logits_to_keep=1).logits[0, -1].double() for model in models
            )
            best, best_high = low.topk(2).values, high.topk(2).values
            highest = high.topk(_HIGHEST).indices
            found.append(
                Difference(
                    index,
                    position,
                    ours,
                    theirs,
                    float(best[0] - best[1]),
                    float(best_high[0] - best_high[1]),
                    float((high[ours] - high[theirs]).abs()),
                    float((low - high)[highest].square().mean().sqrt()),
                )
            )
    return found


if __name__ == "__main__":
    print(json.dumps([asdict(item) for item in look(Question(**json.loads(Path(sys.argv[1]).read_text("utf-8"))))]))
