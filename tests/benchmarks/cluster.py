"""Two workers on a Ray cluster of this machine against `-j 2`: `python tests/benchmarks/cluster.py [--lines 4000]`.

The start is excluded: of each whole command, the time of the same command over a single line is taken. Both alternate,
and the bytes must be the same. At least 0.9 of the throughput is what is wanted, over a job of two minutes or more.
Take so many lines that `-j 2` needs that; Ray must be installed, and nothing else may run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.ray_nodes import ENVIRONMENT, RayNodes  # noqa: E402 (the path is set above)

ASKED = ["run", "Say in other words: {text}", "-u", "line", "--check", "none", "--no-store", "--quiet"]


def taken(model: str, place: list[str], source: Path) -> tuple[float, bytes]:
    """Return the seconds that a command takes, and what it writes."""
    began = time.monotonic()
    command = [sys.executable, "-m", "llmpar", *ASKED, "--device", "cpu", "-m", model, *place, str(source)]
    done = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, check=True)
    return time.monotonic() - began, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, RayNodes(2) as nodes:
        whole, single = Path(directory) / "whole.txt", Path(directory) / "single.txt"
        whole.write_text("".join(f"The train number {n} was late by {n % 60} minutes.\n" for n in range(given.lines)))
        single.write_text("The train was late.\n")
        places = {"-j 2": ["-j", "2"], "ray": ["--ray", nodes.address, "--ray-workers", "2"]}
        seconds: dict[str, list[float]] = {name: [] for name in places}
        written: set[bytes] = set()
        for number in range(given.rounds):
            for name, place in places.items():
                start, _ = taken(given.model, place, single)
                whole_seconds, document = taken(given.model, place, whole)
                written.add(document)
                seconds[name].append(whole_seconds - start)
                print(f"round {number + 1}, {name}: start {start:.1f} s, then {seconds[name][-1]:.1f} s", flush=True)
        assert len(written) == 1, "the documents differ"
        median = {name: statistics.median(found) for name, found in seconds.items()}
        print(f"ray gives {median['-j 2'] / median['ray']:.2f} of the throughput of -j 2")


if __name__ == "__main__":
    main()
