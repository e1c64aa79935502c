"""A job of many pieces without a model: how long splitting, sharing, keeping, merging and assembling take, and how much
they keep. `llmpar/help/cluster.md` has what came of it.

    python tests/benchmarks/simulation.py [--pieces 1000000] [--shards 8] [--at-once 2] [--ray ADDRESS]

Each shard is a command of its own with the echo engine and a store of its own, of which so many run at a time. With
--ray, one command on a cluster takes their place. What comes last must be the document that went in.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASKED = ["run", "Say this again: {text}", "-u", "line", "--engine", "echo", "--check", "none", "--quiet"]


def llmpar(*words: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "llmpar", *words], env=environment, stdout=subprocess.DEVNULL, check=True)


def timed(what: str, num_pieces: int, work: Callable[[], None]) -> None:
    """Do some work, and print how long it took, how much of that processors worked, how many pieces a second, and the
    memory of the largest process so far.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    work()
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{what:<34} {seconds:9.1f} s {busy:9.1f} CPU s {num_pieces / busy:10,.0f} pieces / CPU s "
        f"{after.ru_maxrss / 1024:7,.0f} MB",
        flush=True,
    )


def size_of(place: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in place.glob(pattern))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pieces", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--ray", default=None)
    given = parser.parse_args()
    count = given.pieces
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        source, out, merged = place / "lines.txt", place / "out.txt", place / "all.sqlite"
        with source.open("w") as file:
            file.writelines(f"This is piece {number}, and it says what no other one says: {number * 7919}.\n" for number in range(count))  # fmt: skip  # noqa: E501
        print(f"{count:,} pieces, {source.stat().st_size / count:.0f} bytes each")
        timed("splitting alone (--dry-run)", count, lambda: llmpar(*ASKED, "--dry-run", str(source)))
        if given.ray:
            words = ["--ray", given.ray, "--store", str(merged), "-o", str(out), str(source)]
            timed("answering on the cluster", count, lambda: llmpar(*ASKED, *words))
        else:
            share(place, source, merged, given.shards, given.at_once, count)
        kept = merged.stat().st_size
        print(f"{'the store':<34} {kept / 1e6:9,.1f} MB {kept / count:8.0f} bytes a piece")
        words = ["--store", str(merged), "-o", str(out), str(source)]
        timed("the last run, all from the store", count, lambda: llmpar(*ASKED, *words))
        assert filecmp.cmp(source, out, shallow=False), "what comes last is not the document"


def share(place: Path, source: Path, merged: Path, num_shards: int, at_once: int, count: int) -> None:
    """Let shards answer, and merge their stores."""

    def answer(number: int) -> None:
        words = ["--shard", f"{number}/{num_shards}", "--store", str(place / f"{number}.sqlite")]
        llmpar(*ASKED, *words, str(source))

    def all_shards() -> None:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(answer, range(1, num_shards + 1)))

    timed(f"{num_shards} shards, {at_once} at a time", count, all_shards)
    print(f"{'their stores':<34} {size_of(place, '[0-9]*.sqlite') / 1e6:9,.1f} MB")
    stores = [str(place / f"{number}.sqlite") for number in range(1, num_shards + 1)]
    timed("merging the stores", count, lambda: llmpar("store", "merge", *stores, "--store", str(merged)))


if __name__ == "__main__":
    main()
