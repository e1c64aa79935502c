"""Inputs larger than memory, in a pipe: `python tests/attack/stream.py [--gigabytes 10] [--unit paragraph]`.

What comes out must be what went in, byte for byte; the peak of the process's memory is printed, and held against a cap.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_CAP = 500  # MB
_WORDS = ["the", "of", "and", "to", "in", "is", "that", "it", "was", "for", "on", "are", "with", "as", "his", "they"]


def text(num_bytes: int, seed: int = 0) -> Iterator[bytes]:
    """Yield paragraphs of sentences, about a kilobyte each, numbered so that none comes twice; a megabyte at a time."""
    draw = random.Random(seed)
    sentences = [" ".join(draw.choices(_WORDS, k=draw.randint(5, 25))).capitalize() + "." for _ in range(5000)]
    total = number = 0
    while total < num_bytes:
        paragraphs = []
        for number in range(number, number + 1000):  # noqa: B020 (it goes on where it was)
            paragraphs.append(f"Paragraph {number}. {' '.join(draw.choices(sentences, k=12))}\r\n\r\n")
        number += 1
        data = "".join(paragraphs).encode()
        total += len(data)
        yield data


def lines(count: int) -> Iterator[bytes]:
    """Yield equal lines."""
    for _ in range(count // 1000):
        yield b"The same line, again and again.\n" * 1000


def unbroken(num_bytes: int) -> Iterator[bytes]:
    """Yield text without a space, a line's end or a full stop."""
    for _ in range(num_bytes // 1000):
        yield b"abcdefghij" * 100


def stream(name: str, source: Iterator[bytes], unit: str) -> bool:
    """Send `source` through llmpar, and print how it went; tell whether it went well."""
    command = [sys.executable, "-m", "llmpar", "run", "{text}", "--engine", "echo", "--unit", unit]
    started = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    assert process.stderr
    sent, received, size = hashlib.sha256(), hashlib.sha256(), 0

    def feed() -> None:
        for chunk in source:
            sent.update(chunk)
            process.stdin.write(chunk)  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]

    feeder = threading.Thread(target=feed)
    feeder.start()
    peak = 0.0
    while chunk := process.stdout.read1(1 << 16):
        received.update(chunk)
        size += len(chunk)
        peak = max(peak, _peak(process.pid))
    feeder.join()
    said = process.stderr.read().decode().strip()
    process.stdout.close()
    process.stderr.close()
    code = process.wait()
    seconds = time.monotonic() - started
    well = code == 0 and sent.digest() == received.digest() and 0 < peak < _CAP
    print(f"{name}: {size / 1e6:,.0f} MB in {seconds:,.0f} s, {size / 1e6 / seconds:.1f} MB/s, exit {code}, ", end="")
    print(f"{'the same bytes' if sent.digest() == received.digest() else 'OTHER BYTES'}, peak {peak:,.0f} MB")
    print(f"  {said}", flush=True)
    return well


def _peak(pid: int) -> float:
    """Return the most memory that a process has held so far, in MB; 0 when it has ended.

    What `wait4` tells is not less than what this process held when it forked.
    """
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1000
    return 0.0


def main() -> int:
    """Run all three; 1 if one of them did not go well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--unit", default="paragraph")
    given = parser.parse_args()
    return int(
        not all(
            [
                stream("equal lines", lines(1_000_000), "line"),
                stream("without a space", unbroken(10_000_000), "sentence"),
                stream("text", text(int(given.gigabytes * 1e9)), given.unit),
            ]
        )
    )


if __name__ == "__main__":
    sys.exit(main())
