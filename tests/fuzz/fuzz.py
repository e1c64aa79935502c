"""Damage at random whatever llmpar reads, and hold what it does against what it promises. No model is needed.

    python tests/fuzz/fuzz.py --minutes 60 [--seed N] [--findings DIR] [--only TARGET]
    python tests/fuzz/fuzz.py --replay TARGET:SEED:NUMBER

Each finding is kept in a directory of its own, with its input, its traceback and the key that --replay takes. The exit
code is 1 if there are any.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time
from collections import Counter
from itertools import count
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this directory, where `fuzz` would be this file

from fuzz.execution import Finding, execute  # noqa: E402
from fuzz.targets import LOADING, TARGETS  # noqa: E402
from fuzz.worker import Worker  # noqa: E402

_TURN = 2.0  # seconds for each target before the next one has its turn
_REPORT = 60.0
_KEPT = 3  # findings of one place whose input is kept
_HANG = 900.0  # seconds without a turn's end: a thread waits for ever


def main() -> int:
    options = _options()
    if options.replay:
        return _replay(options.replay, options.findings)
    names = [options.only] if options.only else list(TARGETS)
    counts: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    places: Counter[str] = Counter()
    numbers = {name: count() for name in names}
    worker = Worker()
    started = reported = time.monotonic()
    while time.monotonic() - started < options.minutes * 60:
        for name in names:
            faulthandler.dump_traceback_later(_HANG, exit=True)
            turn = time.monotonic()
            while time.monotonic() - turn < _TURN:
                key = f"{name}:{options.seed}:{next(numbers[name])}"
                seconds = None if counts[name] else 120.0  # a target's first execution imports what it needs
                finding = worker.execute(key) if name == LOADING else execute(TARGETS[name], key, seconds)
                counts[name] += 1
                if finding:
                    _keep(finding, places, options.findings)
            spent[name] += time.monotonic() - turn
        if time.monotonic() - reported > _REPORT:
            reported = time.monotonic()
            _report(counts, spent, places, reported - started)
    worker.close()
    faulthandler.cancel_dump_traceback_later()
    _report(counts, spent, places, time.monotonic() - started)
    return 1 if places else 0


def _keep(finding: Finding, places: Counter[str], directory: Path) -> None:
    place = finding.place
    places[place] += 1
    if places[place] <= _KEPT:
        print(f"FOUND {finding.key}: {finding.what!r}", flush=True)
        if not finding.record and finding.key.startswith(LOADING):
            finding = Finding(finding.key, finding.what, finding.trace, {"replay": f"--replay {finding.key}"})
        finding.save(directory / finding.key.replace(":", "-"))


def _report(counts: Counter[str], spent: Counter[str], places: Counter[str], seconds: float) -> None:
    print(f"{seconds:,.0f} s: {counts.total():,} executions, {counts.total() / seconds:,.1f}/s")
    for name, number in counts.items():
        print(f"  {name:<14} {number:>10,}  {number / spent[name] if spent[name] else 0:>8,.1f}/s")
    for place, number in places.most_common():
        print(f"  finding {number:>6,} × {place!r}")
    print("  no findings" if not places else f"  {len(places)} places", flush=True)


def _replay(key: str, directory: Path) -> int:
    finding = execute(TARGETS[key.partition(":")[0]], key, 120.0)
    if finding is None:
        print("no finding")
        return 0
    finding.save(directory / key.replace(":", "-"))
    print(f"{finding.what}\n{finding.trace}\nits input is in {directory / key.replace(':', '-')}")
    return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0, help="equal seeds make equal inputs")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), metavar="DIR")
    parser.add_argument("--only", choices=TARGETS)
    parser.add_argument("--replay", metavar="KEY", help="execute once what a finding names")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
