"""Models opened as their files are: start, memory, disk and speed, llama.cpp's server on the same file beside.

Run it with llmpar's interpreter:

    python tests/benchmarks/files.py --directory D --models 1b-Q8_0,1b-Q4_K_M,8b-Q4_K_M,1b,3b \\
        --llama-server LLAMA/bin/llama-server --rounds 3 --markdown files.md
    python tests/benchmarks/files.py --directory D --models model.gguf --llama-server LLAMA/bin/llama-server

A model is a GGUF file or a directory that there is, or one with random weights, which is made in D: SHAPE-KIND is a
GGUF file, SHAPE alone a directory of safetensors in bf16. A round gives each engine one turn on each model, in a
process of its own: load, a warm-up on other prompts, then the job, which alone is timed. "First" is the whole command
on one line of text with one new token, from the shell on, its file in the page cache. "Disk" is by how much the cache
of llmpar grew.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from device.gguf_files import make_gguf
from device.shapes import SHAPES, make_model
from harness.job import Job, make_job
from harness.machine import describe_machine
from harness.table import markdown_table
from harness.turn import Contender, Turn, TurnFailed, take_turn

_HEADER = [
    "model",
    "engine",
    "load s",
    "first s",
    "sentences/s",
    "range",
    "× the other",
    "peak MB",
    "file MB",
    "disk MB",
]
_PEERS = ("llama.cpp", "OpenVINO int8")
_LINE = "Rewrite the sentence in simpler words: the cat sat on the mat.\n"
_DISTURBED = 0.05  # share of the processors that others may use before a turn says so


@dataclass
class Measured:
    """What came of the turns of one engine on one model."""

    turns: list[Turn] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    disk: int = 0


def main() -> int:
    options = _options()
    paths = {name: model_path(name, options.directory) for name in options.models}
    jobs = {name: make_job(str(path), options.sentences, options.max_new_tokens) for name, path in paths.items()}
    contenders = [(name, one) for name, path in paths.items() for one in _contenders(options, name, path)]
    print(describe_machine(), next(iter(jobs.values())), sep="\n", flush=True)
    measured = {(name, one.name): Measured() for name, one in contenders}
    for _ in range(options.rounds):
        for name, one in contenders:
            _measure(name, one, jobs[name], measured[name, one.name])
    report = markdown_table(_HEADER, list(_rows(paths, measured)))
    print("\n" + report)
    if options.markdown:
        options.markdown.write_text(f"{describe_machine()}\n\n{report}\n", encoding="utf-8")
    return 0 if all(len(one.turns) == options.rounds for one in measured.values()) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--directory", type=Path, required=True, help="where random models are, or are made")
    add("--models", type=_words, default=["1b-Q8_0", "1b-Q4_K_M", "8b-Q4_K_M", "1b", "3b"], help="see above")
    add("--precisions", type=_words, default=["auto"], help="llmpar's")
    add("--llama-server", metavar="PATH", help="llama.cpp's server")
    add("--llama-slots", type=int, default=32, help="sequences at once")
    add("--openvino", metavar="PYTHON", help="an interpreter with openvino-genai")
    add("--openvino-model", metavar="DIR", help="what `--openvino-of` is, exported with int8 weights")
    add("--openvino-of", metavar="MODEL", default="1b", help="the model beside which OpenVINO has its turns")
    add("--sentences", type=int, default=64, help="how many of the story's are asked")
    add("--max-new-tokens", type=int, default=32, help="where an answer is cut")
    add("--rounds", type=int, default=3, help="turns for each engine on each model")
    add("--markdown", type=Path, metavar="FILE", help="write the table there")
    return parser.parse_args()


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def model_path(name: str, directory: Path) -> Path:
    """Return a model that there is, or one of random weights."""
    if Path(name).exists():
        return Path(name).resolve()
    shape, _, kind = name.partition("-")
    if shape not in SHAPES:
        sys.exit(f"--models: {name!r} is no file, and no shape of {', '.join(SHAPES)}")
    return (make_gguf(shape, kind, directory) if kind else make_model(shape, directory)).resolve()


def _contenders(options: argparse.Namespace, name: str, path: Path) -> Iterator[Contender]:
    for precision in options.precisions:
        settings = {"precision": precision, "threads": 0, "batch_size": 0}
        yield Contender(f"llmpar {precision}", "llmpar", settings, model=str(path))
    if options.llama_server and path.suffix == ".gguf":
        settings = {"command": options.llama_server, "num_slots": options.llama_slots}
        yield Contender("llama.cpp", "llama_server", settings, model=str(path))
    if options.openvino and name == options.openvino_of:
        settings = {"num_sequences": options.sentences, "batched_tokens": 256}  # its own default
        yield Contender("OpenVINO int8", "openvino", settings, options.openvino, options.openvino_model)


def _measure(name: str, contender: Contender, job: Job, found: Measured) -> None:
    before = _cached()
    try:
        turn = take_turn(contender, job)
    except TurnFailed as error:
        print(f"{name}  {contender.name}: FAILED\n{error}", flush=True)
        return
    found.turns.append(turn)
    found.disk = max(found.disk, _cached() - before)
    first = ""
    if contender.peer == "llmpar":
        found.first.append(_first(str(contender.model), str(contender.options["precision"])))
        first = f", first token after {found.first[-1]:.1f} s"
    disturbed = f"  (others used {turn.others:.0%} of the processors)" if turn.others > _DISTURBED else ""
    print(
        f"{name}  {contender.name}: {turn.rate:.2f} sentences/s, load {turn.load_seconds:.1f} s{first}{disturbed}"
        + (f"  [{turn.settings}]" if turn.settings else ""),
        flush=True,
    )


def _first(model: str, precision: str) -> float:
    command = [sys.executable, "-m", "llmpar", "run", "{text}", "--unit", "line", "--max-new-tokens", "1"]
    began = time.perf_counter()
    subprocess.run(
        [*command, "--model", model, "--precision", precision, "--device", "cpu", "--no-store"],
        input=_LINE,
        text=True,
        check=False,  # an answer that is cut after one token counts as failed
        capture_output=True,
    )
    return time.perf_counter() - began


def _cached() -> int:
    from llmpar.paths import cache_dir

    return sum(file.lstat().st_size for file in cache_dir().rglob("*") if file.is_file() and not file.is_symlink())


def _rows(paths: dict[str, Path], measured: dict[tuple[str, str], Measured]) -> Iterator[list[str]]:
    for (name, engine), one in measured.items():
        if not one.turns:
            continue
        other = next((peer for peer in _PEERS if (name, peer) in measured), "")
        peer = measured[name, other].turns if other else []
        rates = [turn.rate for turn in one.turns]
        ratios = [ours.rate / theirs.rate for ours, theirs in zip(one.turns, peer, strict=False)]
        path = paths[name]
        files = path.glob("*.safetensors") if path.is_dir() else [path]
        yield [
            Path(name).stem,
            engine,
            f"{median(turn.load_seconds for turn in one.turns):.1f}",
            f"{median(one.first):.1f}" if one.first else "",
            f"{median(rates):.2f}",
            f"{min(rates):.2f}–{max(rates):.2f}",
            f"{median(ratios):.2f}" if ratios and engine != other else "",
            f"{median(turn.peak_memory for turn in one.turns) / 1e6:,.0f}",
            f"{sum(file.stat().st_size for file in files) / 1e6:,.0f}",
            f"{one.disk / 1e6:,.0f}",
        ]


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
