"""Jobs of few pieces: seconds for one long prompt and for 1, 4, 16, … short ones, llama.cpp's server beside.

Run it with llmpar's interpreter:

    python tests/benchmarks/pieces.py --directory D --models 1b-Q8_0,1b-Q4_K_M \\
        --llama-server LLAMA/bin/llama-server --rounds 3 --markdown pieces.md

Models are as in `files.py`. Prompts are random tokens that share nothing, and nothing ends an answer before it has all
its tokens. These are drawn, since greedy answers of random weights repeat themselves, which llmpar guesses. Each engine
has its turn in a process of its own, loaded and warmed up before the clock starts.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from files import model_path
from harness.job import Job
from harness.machine import describe_machine
from harness.table import markdown_table
from harness.turn import Contender, TurnFailed, take_turn

_LEAST_ID, _MOST_ID = 1000, 30_000  # of tokens that mean something in every vocabulary used here
_WARM_UP = 16  # tokens of a prompt that is asked before
_MOST_SLOTS = 32  # of llama.cpp's server, which more of them make slower
_HEADER = ["model", "pieces", "tokens each", "llmpar s", "llama.cpp s", "× the other"]


def main() -> int:
    options = _options()
    print(describe_machine(), flush=True)
    rows = []
    sizes = [(1, options.long), *((count, options.tokens) for count in options.pieces)]
    for name in options.models:
        path = model_path(name, options.directory)
        for count, length in sizes:
            job = _job(path, count, length, options.new_tokens)
            seconds: dict[str, list[float]] = {}
            for _ in range(options.rounds):
                for contender in _contenders(options, path, count, length):
                    try:
                        seconds.setdefault(contender.name, []).append(take_turn(contender, job).seconds)
                    except TurnFailed as error:
                        print(f"{name}  {contender.name}: FAILED\n{error}", flush=True)
            ours, theirs = (seconds.get(engine, []) for engine in ("llmpar", "llama.cpp"))
            ratios = [other / own for own, other in zip(ours, theirs, strict=False)]
            row = [Path(name).stem, str(count), str(length), _shown(ours, 2), _shown(theirs, 2), _shown(ratios, 2)]
            print("  ".join(row), flush=True)
            rows.append(row)
    report = markdown_table(_HEADER, rows)
    print("\n" + report)
    if options.markdown:
        options.markdown.write_text(f"{describe_machine()}\n\n{report}\n", encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--directory", type=Path, required=True, help="where random models are, or are made")
    add("--models", type=lambda text: text.split(","), default=["1b-Q8_0", "1b-Q4_K_M"], help="see files.py")
    add("--precision", default="auto", help="llmpar's")
    add("--pieces", type=_numbers, default=[1, 2, 4, 8, 16, 64, 256], help="how many short prompts")
    add("--tokens", type=int, default=76, help="of a short prompt")
    add("--long", type=int, default=1450, help="tokens of the one long prompt")
    add("--new-tokens", type=int, default=64, help="of each answer")
    add("--llama-server", metavar="PATH", help="llama.cpp's server")
    add("--rounds", type=int, default=1, help="turns for each engine on each job")
    add("--markdown", type=Path, metavar="FILE", help="write the table there")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def _job(model: Path, count: int, length: int, new_tokens: int) -> Job:
    draw = random.Random(count * length)
    prompts = [[draw.randrange(_LEAST_ID, _MOST_ID) for _ in range(length)] for _ in range(count + 1)]
    return Job(model, prompts[:count], [prompts[count][:_WARM_UP]], [], new_tokens)


def _contenders(options: argparse.Namespace, path: Path, count: int, length: int) -> Iterator[Contender]:
    settings = {"precision": options.precision, "threads": 0, "batch_size": 0, "temperature": 1}
    yield Contender("llmpar", "llmpar", settings, model=str(path))
    if options.llama_server and path.suffix == ".gguf":
        context = -(-(length + options.new_tokens) // 256) * 256
        slots = min(count, _MOST_SLOTS)
        settings = {"command": options.llama_server, "num_slots": slots, "context": context, "temperature": 1}
        yield Contender("llama.cpp", "llama_server", settings, model=str(path))


def _shown(values: list[float], digits: int) -> str:
    return f"{median(values):.{digits}f}" if values else ""


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
