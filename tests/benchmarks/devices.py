"""llmpar on a GPU, on several, and on many cores: models with random weights, made on the spot, nothing fetched.

Run it with llmpar's interpreter; it need not be installed:

    python tests/benchmarks/devices.py make --shapes 135m,0.6b,8b --directory /tmp/shapes
    python tests/benchmarks/devices.py engines --shapes 135m,0.6b --directory /tmp/shapes --markdown engines.md
    python tests/benchmarks/devices.py start --shapes 0.6b --directory /tmp/shapes
    python tests/benchmarks/devices.py agreement --shapes 135m,0.6b --directory /tmp/shapes
    python tests/benchmarks/devices.py tensor --models 8b,32b --sizes 1,2
    python tests/benchmarks/devices.py sums --size 2
    python tests/benchmarks/devices.py cores --directory /tmp/shapes
    python tests/benchmarks/devices.py same --shapes 0.6b --directory /tmp/shapes
    python tests/benchmarks/devices.py order --shapes 135m,0.6b,8b --directory /tmp/shapes
    python tests/benchmarks/devices.py bits --shapes 8b --directory /tmp/shapes
    python tests/benchmarks/devices.py likely --model smollm2-135m
    python tests/benchmarks/devices.py command --lines 20000 --tree before=DIR --tree after=DIR

Parts make the models that they need, unless they are there. Each engine has its trial in a process of its own, alone;
what fails or takes too long is told and left out, and the rest goes on. Without a GPU, --device cpu and the tiny shapes
try everything but speed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from device import agreement, bits, command, cores, engines, likely, same, start, sums, tensor
from device.shapes import SHAPES, make_config
from harness.machine import describe_machine

_HERE = Path(__file__).parent
_BEGUN = time.monotonic()


def main() -> int:
    options = _options()
    # The processes started from here run in this directory, wherever llmpar is found from.
    paths = [str(_HERE.parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(str(Path(path).resolve()) for path in paths if path)
    os.environ["PYTHONUNBUFFERED"] = "1"
    device = _describe_device()
    machine = f"{_device_line(device)}; {describe_machine()}"
    _tell(machine)
    directories = {shape: str(_make(shape, options.directory)) for shape in _shapes(options)}
    text, found = _PARTS[options.part](options, directories, device)
    print(f"\n{text}" if text else "", flush=True)
    if options.markdown:
        options.markdown.write_text(f"{machine}\n\n{text}\n", encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, options.part: found}), encoding="utf-8")
    return 0 if found or options.part == "make" else 1


def _options() -> argparse.Namespace:
    shown = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parts = parser.add_subparsers(dest="part", required=True)

    def part(name: str, words: str, shapes: str) -> Callable[..., Any]:
        command = parts.add_parser(name, help=words, formatter_class=shown)
        command.add_argument("--shapes", type=_words, default=_words(shapes), help=f"of {', '.join(SHAPES)}")
        command.add_argument("--directory", type=Path, default=Path("/tmp/llmpar-shapes"), help="where models are kept")
        command.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
        command.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
        return command.add_argument

    part("make", "models with random weights", "135m,0.6b,8b")
    add = part("engines", "useful tokens a second, llmpar and transformers", "135m,0.6b,8b")
    add("--device", default="cuda", help="as llmpar's --device")
    add("--requests", type=int, default=1024, help="that llmpar is asked, for each GPU")
    add("--peer-requests", type=int, default=1024, help="that the others are asked; fewer save time")
    add("--only", type=_words, default=[], help="engines that have one of these words in their name, or are =NAME")
    add("--variants", action="store_true", help="continuous batching with other settings than its own, too")
    add("--batch-size", type=int, default=512, help="of generate's sorted batches")
    add("--rows", type=int, default=512, help="sequences alive at once, for the bandwidth limit")
    add("--repeats", type=int, help="jobs after one as large, of llmpar's; default: 3, and 5 of texts")
    add("--time-limit", type=float, default=180, help="seconds for a trial")
    add = part("start", "the command line, from its start to its last answer", "0.6b")
    add("--device", default="cuda", help="as llmpar's --device")
    add("--lines", type=int, default=1024, help="of the file")
    add("--max-new-tokens", type=int, default=96, help="of each answer")
    add("--repeats", type=int, default=2, help="runs after the cold one")
    add = part("agreement", "greedy answers against generate's", "135m,0.6b")
    add("--device", default="cuda", help="as llmpar's --device")
    add("--precisions", type=_words, default=["bf16", "fp32"], help="bf16, fp32")
    add("--prompts", type=int, default=64, help="how many are asked")
    add("--new-tokens", type=int, default=64, help="of each answer")
    add("--batch-size", type=int, default=8, help="of generate's batches of equal length")
    add("--time-limit", type=float, default=180, help="seconds for each engine")
    add = part("tensor", "a model divided over several GPUs, and on one", "")
    add("--models", type=_words, default=_words("8b,32b"), help=f"of {', '.join(SHAPES)}; they are in no file")
    add("--sizes", type=_numbers, default=[1, 2], help="numbers of GPUs")
    add("--device", default="cuda", help="cuda, or cpu to try the program")
    add("--requests", type=int, default=2048, help="of each job")
    add("--repeats", type=int, default=2, help="jobs after one as large")
    add("--batch-size", type=int, help="sequences at once; default: the engine's own choice")
    add("--max-memory", type=int, help="bytes for keys and values; default: the engine's own choice")
    add("--time-limit", type=float, default=180, help="seconds for a trial")
    add = part("sums", "sums over several GPUs by their size, in recorded steps", "")
    add("--size", type=int, default=2, help="number of GPUs")
    add("--time-limit", type=float, default=60, help="seconds for all")
    add = part("command", "the whole command over many lines, with the store and without", "")
    add("--model", default="smollm2-135m", help="as llmpar's --model")
    add("--device", default="cuda", help="as llmpar's --device")
    add("--lines", type=int, default=20_000, help="of the file")
    add("--max-new-tokens", type=int, default=32, help="of each answer")
    add("--rounds", type=int, default=3, help="how often each is run")
    add("--only", type=_words, default=[], help="ways that have one of these words in their name, or are =NAME")
    add("--tree", action="append", default=[], metavar="NAME=DIR", help="whose llmpar is run; default: this one's")
    add = part("same", "one hash for each batch size and number of GPUs", "0.6b")
    add("--device", default="cuda", help="as llmpar's --device")
    add("--precision", default="bf16", help="as llmpar's --precision")
    add("--requests", type=int, default=1000, help="that are asked, greedy and sampled")
    add("--few", type=int, default=100, help="of these, that a batch of 1 is asked")
    add("--batches", type=_numbers, default=[1, 7, 64, 1024], help="their sizes")
    add("--time-limit", type=float, default=240, help="seconds for each number of GPUs")
    for name, words, shapes in (
        ("order", "what it costs that cuBLAS may not divide sums", "135m,0.6b,8b"),
        ("bits", "weights of 16, 8 and 4 bits, and keys and values of 8", "8b"),
    ):
        add = part(name, words, shapes)
        add("--device", default="cuda", help="as llmpar's --device")
        add("--requests", type=int, default=1024, help="of each job, of which each process has four")
        add("--rounds", type=int, default=1, help="processes of each setting")
        add("--only", type=_words, default=[], help="settings that have one of these words in their name")
        add("--time-limit", type=float, default=200, help="seconds for a process")
    add = part("likely", "perplexity by precision on a GPU", "")
    add("--model", default="smollm2-135m", help="as llmpar's --model")
    add("--device", default="cuda:0", help="where it is computed")
    add("--chunk", type=int, default=512, help="tokens of a chunk")
    add("--chunks", type=int, default=24, help="how many are scored at most")
    add("--time-limit", type=float, default=200, help="seconds for all")
    add = part("cores", "the CPU's speed against the number of workers", "")
    add("--threads", type=_numbers, default=[], help="values of -j; default: 1, 2, 4, … up to the cores")
    add("--paths", type=_words, default=["int8", "bf16", "torch"], help="int8 and bf16 by our kernels, bf16 by torch")
    add("--tiny", action="store_true", help="tiny shapes, to try the program")
    add("--prompts-per-core", type=int, default=128, help="how many are asked")
    add("--new-tokens", type=int, default=32, help="of each answer")
    options = parser.parse_args()
    if unknown := set(options.shapes) - SHAPES.keys():
        parser.error(f"no such shape: {', '.join(sorted(unknown))}; there are {', '.join(SHAPES)}")
    return options


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _is_meant(name: str, words: Sequence[str]) -> bool:
    return any(word in name or word == f"={name}" for word in words)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in _words(text)]


def _shapes(options: argparse.Namespace) -> list[str]:
    if options.part != "cores":
        return list(options.shapes)
    return list(dict.fromkeys(_cores_shape(path, options.tiny) for path in options.paths))


def _cores_shape(path: str, tiny: bool) -> str:
    if path == "torch":
        return "tiny-relu" if tiny else "135m-relu"
    return "tiny" if tiny else "135m"


def _engines(options: argparse.Namespace, directories: dict[str, str], device: dict[str, Any]) -> tuple[str, Any]:
    known = engines.contenders(device["count"], options.batch_size, options.variants)
    chosen = [item for item in known if not options.only or _is_meant(item.name, options.only)]
    if options.repeats:
        chosen = [replace(item, repeats=min(item.repeats, options.repeats)) for item in chosen]
    if not chosen:
        sys.exit(f"--only matches none of: {', '.join(item.name for item in known)}")
    entries = engines.run_engines(
        chosen,
        directories,
        options.device,
        options.requests,
        options.peer_requests,
        options.time_limit,
        _tell,
    )
    return engines.report(entries, device["bandwidth"], options.rows, options.requests), _plain(entries)


def _start(options: argparse.Namespace, directories: dict[str, str], _: dict[str, Any]) -> tuple[str, Any]:
    texts, found = [], []
    for directory in directories.values():
        try:
            runs = start.run_start(
                directory, options.device, options.lines, options.max_new_tokens, options.repeats, _tell
            )
        except RuntimeError as error:
            _tell(f"{directory}: FAILED: {error}")
            continue
        texts.append(start.report(runs, directory, options.lines, options.max_new_tokens))
        found += runs
    return "\n\n".join(texts), _plain(found)


def _agreement(options: argparse.Namespace, directories: dict[str, str], _: dict[str, Any]) -> tuple[str, Any]:
    found = []
    for shape, directory in directories.items():
        for precision in options.precisions:
            compared = agreement.run_agreement(
                shape,
                directory,
                options.device,
                precision,
                options.prompts,
                options.new_tokens,
                options.batch_size,
                options.time_limit,
                _tell,
            )
            if compared:
                _tell("  ".join(f"{name} {cell}" for name, cell in zip(agreement.HEADER, compared.row(), strict=True)))
                found.append(compared)
    return agreement.report(found, options.new_tokens) if found else "every comparison failed", _plain(found)


def _cores(options: argparse.Namespace, directories: dict[str, str], _: dict[str, Any]) -> tuple[str, Any]:
    num_cores = len(os.sched_getaffinity(0))
    workers = options.threads or [count for count in (1 << bit for bit in range(10)) if count <= num_cores]
    found = []
    for path in options.paths:
        shape = _cores_shape(path, options.tiny)
        found += cores.run_cores(
            path,
            Path(directories[shape]),
            shape,
            "int8" if path == "int8" else "bf16",
            workers,
            options.prompts_per_core,
            options.new_tokens,
            _tell,
        )
    return cores.report(found, options.new_tokens) if found else "every setting failed", _plain(found)


def _tensor(options: argparse.Namespace, _: dict[str, str], __: dict[str, Any]) -> tuple[str, Any]:
    settings = {"batch_size": options.batch_size, "max_memory": options.max_memory}
    found = tensor.run_tensor(
        options.models,
        options.sizes,
        options.device,
        options.requests,
        options.repeats,
        options.time_limit,
        settings,
        _tell,
    )
    return tensor.report_tensor(found), _plain(found)


def _sums(options: argparse.Namespace, _: dict[str, str], __: dict[str, Any]) -> tuple[str, Any]:
    found = sums.run_sums(options.size, options.time_limit, _tell)
    return sums.report_sums(found) if found else "it failed", _plain(found)


def _command(options: argparse.Namespace, _: dict[str, str], __: dict[str, Any]) -> tuple[str, Any]:
    trees = dict(tree.partition("=")[::2] for tree in options.tree) or {"this": str(_HERE.parents[1])}

    def is_meant(name: str) -> bool:
        return not options.only or _is_meant(name, options.only)

    found = command.run_commands(
        options.model, options.device, options.lines, options.max_new_tokens, options.rounds, trees, is_meant, _tell
    )
    text = command.report_commands(found, options.model, options.lines, options.max_new_tokens)
    return text, {" ".join(key): _plain(runs) for key, runs in found.items()}


def _same(options: argparse.Namespace, directories: dict[str, str], device: dict[str, Any]) -> tuple[str, Any]:
    texts, found = [], []
    for shape, directory in directories.items():
        reports = same.run_same(
            directory,
            options.device,
            make_config(shape).vocab_size,
            options.requests,
            options.few,
            options.batches,
            device["count"],
            options.precision,
            options.time_limit,
            _tell,
        )
        texts.append(f"{shape} in {options.precision}\n\n{same.report_same(reports)}" if reports else f"{shape} failed")
        found += reports
    return "\n\n".join(texts), found


def _settings(options: argparse.Namespace, directories: dict[str, str], _: dict[str, Any]) -> tuple[str, Any]:
    known = bits.ORDER if options.part == "order" else bits.SHORT
    chosen = [one for one in known if not options.only or _is_meant(one.name, options.only)]
    found = bits.run_settings(
        tuple(chosen), directories, options.device, options.requests, options.rounds, options.time_limit, _tell
    )
    return bits.report_settings(found), _plain(found)


def _likely(options: argparse.Namespace, _: dict[str, str], __: dict[str, Any]) -> tuple[str, Any]:
    found = likely.run_likely(options.model, options.device, options.chunk, options.chunks, options.time_limit, _tell)
    return likely.report_likely(found) if found else "it failed", found


def _nothing(options: argparse.Namespace, directories: dict[str, str], _: dict[str, Any]) -> tuple[str, Any]:
    return "", list(directories)


_PARTS = {
    "make": _nothing,
    "engines": _engines,
    "start": _start,
    "agreement": _agreement,
    "tensor": _tensor,
    "sums": _sums,
    "cores": _cores,
    "command": _command,
    "same": _same,
    "order": _settings,
    "bits": _settings,
    "likely": _likely,
}


def _plain(items: Sequence[Any]) -> list[dict[str, Any]]:
    return [asdict(item) for item in items]


def _make(shape: str, directory: Path) -> Path:
    """Make a model in a process of its own, which gives the GPU back."""
    done = subprocess.run(
        [sys.executable, "-m", "device.shapes", shape, str(directory.resolve())], cwd=_HERE, check=False
    )
    if done.returncode:
        sys.exit(f"the model {shape} could not be made in {directory}")
    _tell(f"{shape} is in {directory / shape}")
    return directory.resolve() / shape


def _describe_device() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "device.bandwidth"], cwd=_HERE, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _device_line(device: dict[str, Any]) -> str:
    if not device["count"]:
        return f"no GPU, torch {device['torch']}"
    return (
        f"{device['count']} × {device['name']} ({device['memory'] / 2**30:.0f} GiB, copies at "
        f"{device['bandwidth'] / 1e12:.2f} TB/s), torch {device['torch']}"
    )


def _tell(line: str) -> None:
    print(f"[{time.monotonic() - _BEGUN:5.0f} s] {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
