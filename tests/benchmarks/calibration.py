"""Whether confidence tells right from wrong: `python tests/benchmarks/calibration.py FILE [--model M] [--rows 200]`.

FILE is a public set for classification, a row a line: label, tab, text (or text, tab, label, with --label-last). Each
text is answered with one of the labels, whose names --labels gives in the file's own spelling and in words. What is
printed is the share of right answers, of all and of each fifth, from the least sure to the surest.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import llmpar
from llmpar.models.names import DEFAULT_MODEL

_FIFTHS = 5


def main() -> None:
    """Ask, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--labels", default="0=negative,1=positive", help="as the file has it=in words, and so on")
    parser.add_argument("--label-last", action="store_true")
    parser.add_argument("--prompt", default="Is this review positive or negative? {text}")
    parser.add_argument("--precision", default="auto")
    given = parser.parse_args()
    words = dict(pair.split("=", 1) for pair in given.labels.split(","))
    rows = [line.split("\t") for line in given.file.read_text("utf-8").splitlines() if "\t" in line]
    pairs = [(row[-1], row[0]) if given.label_last else (row[0], row[-1]) for row in rows]
    known = [(words[label.strip()], text.strip()) for label, text in pairs if label.strip() in words]
    chosen = random.Random(0).sample(known, min(given.rows, len(known)))
    model = llmpar.ModelChoice(given.model, precision=given.precision)
    texts = [text for _, text in chosen]
    results = list(llmpar.run(texts, given.prompt, choices=list(words.values()), model=model, store=False))
    judged = sorted(
        (result.confidence, result.answer == label)
        for result, (label, _) in zip(results, chosen, strict=True)
        if result.error is None and result.confidence is not None
    )
    print(f"{given.model}: {len(judged)} of {len(chosen)} answers, {_share(judged):.1%} right")
    for fifth in range(_FIFTHS):
        some = judged[fifth * len(judged) // _FIFTHS : (fifth + 1) * len(judged) // _FIFTHS]
        print(f"  confidence {some[0][0]:.3f} to {some[-1][0]:.3f}: {_share(some):.1%} right")


def _share(judged: list[tuple[float, bool]]) -> float:
    return sum(is_right for _, is_right in judged) / len(judged)


if __name__ == "__main__":
    main()
