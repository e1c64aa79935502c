"""Random jobs under random faults, again and again until they end well.

`python tests/attack/soak.py [--minutes 5] [--seed N]`. In the end the output must be that of an undisturbed run without
a store, and what was committed on the way must not have been generated again.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent))

from attack.faults import FAULTS, Steps
from attack.launch import Run, digest, random_scene, read, restore
from llmpar.errors import LlmparError

_OLD = b"what was there before\n"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Job:
    """A scene, what is right there, and the faults that can befall it; each returns the exit code.

    Raises:
        AssertionError: a promise was broken.
    """

    def __init__(self, random: Random, place: Path) -> None:
        self._random = random
        self.scene = random_scene(random, place, random.choice([10, 40, 150]))
        for name in self.scene.outputs:
            restore(place / name, random.choice([None, _OLD]))
        self._before = self.scene.written()
        self.code, self.right, self._seconds = self.scene.undisturbed()
        self.forgets = False  # whether answers were deleted on purpose
        self.faults = {
            "killed": self._killed, "signalled": self._signalled, "hanging": self._hanging, "disk": self._disk,
            "failing": self._failing, "dying": self._dying, "two on a store": self._two_on_a_store,
            "two on an output": self._two_on_an_output, "purged": self._purged, "evicted": self._evicted,
            "out of time": self._out_of_time, "refreshed": self._refreshed,
        }  # fmt: skip

    def check(self, found: int, *expected: int) -> None:
        """Assert that a run ended with an expected code, or well, and touched no output that it did not complete."""
        assert found in (self.code, *expected), f"ends with {found}"
        for name, data in self.scene.written().items():
            assert data in (self._before[name], self.right[name]), f"{name} is {digest(data)}"
            if found == self.code:
                assert data == self.right[name], f"{name} is old after exit code {found}"
        self.scene.verify()

    def end_well(self, committed: set[str], num_generated: int) -> None:
        """Run once more, without faults."""
        code, _ = self.scene.run()
        assert code == self.code, f"ends with {code} instead of {self.code}"
        self.check(code)
        twice = committed & set(self.scene.generations()[num_generated:])
        assert self.forgets or not twice, f"generated again, though committed: {twice}"
        assert not self.scene.litter(), f"leaves {self.scene.litter()}"

    def _killed(self) -> None:
        run = self.scene.start()
        self._pause()
        run.kill(signal.SIGKILL)
        self.check(run.wait(), -signal.SIGKILL)

    def _signalled(self) -> None:
        run, signum = self.scene.start(), self._random.choice(_SIGNALS)
        self._wait_for_handlers(run)
        self._pause()
        run.kill(signum)
        self.check(run.wait(5), 128 + signum)

    def _hanging(self) -> None:
        run = self.scene.start(fake=replace(self.scene.fake, hanging=0.1))
        self._wait_for_handlers(run)
        self._pause()
        run.kill(signal.SIGINT)
        time.sleep(0.1)
        run.kill(signal.SIGTERM)
        self.check(run.wait(2), 130, 143)

    def _disk(self) -> None:
        fault, n = FAULTS[self._random.choice(["full", "broken"])], self._random.randint(1, 150)
        steps = Steps(n, fault, self.scene.place / "notes" / "step", self._random.random() < 0.5)
        self.check(self.scene.start(before=steps.install).wait(), 73, 74)

    def _failing(self) -> None:
        self._disturbed(**{name: self._random.choice([0.0, 0.02, 0.2]) for name in ("raising", "starving")})

    def _dying(self) -> None:
        self._disturbed(dying=self._random.choice([0.002, 0.05]))  # some workers, or all

    def _disturbed(self, **shares: float) -> None:
        before = self.scene.written()
        code, _ = self.scene.run(fake=replace(self.scene.fake, seed=self._random.getrandbits(32), **shares))
        assert code in (3, 69, self.code), f"ends with {code}"
        for name, data in before.items():  # what failed for once was kept as it was
            restore(self.scene.place / name, data)

    def _two_on_a_store(self) -> None:
        run, other = self.scene.start(), self.scene.start(arguments=[*self.scene.command()[:-2], "-o", "other"])
        assert other.wait() == self.code, f"the other run ends with {other.code}: {other.messages.read_text()}"
        self.check(run.wait())
        joined = b"".join(data or b"" for data in self.right.values())
        assert read(self.scene.place / "other") == joined, "the other run's output differs"
        (self.scene.place / "other").unlink()

    def _two_on_an_output(self) -> None:
        runs = [self.scene.start() for _ in range(2)]
        codes = [run.wait() for run in runs]
        assert self.code in codes, f"end with {codes}"
        self.check(codes[0], 75)
        self.check(codes[1], 75)

    def _purged(self) -> None:
        self.forgets = True
        run = self.scene.start()
        self._pause()
        if self.scene.store.exists():
            purge = self.scene.start(arguments=["store", "purge", "--store", str(self.scene.store)])
            assert purge.wait() == 0, purge.messages.read_text()
        self.check(run.wait())

    def _evicted(self) -> None:
        self.forgets = True
        self.check(self.scene.run("--store-size", self._random.choice(["1B", "30KB", "60KB"]))[0])

    def _out_of_time(self) -> None:
        self.check(self.scene.run("--max-time", f"{max(0.01, self._random.random() * self._seconds):.3f}")[0], 124)

    def _refreshed(self) -> None:
        self.forgets = True
        self.check(self.scene.run("--refresh")[0])

    def _pause(self) -> None:
        time.sleep(self._random.random() * self._seconds)

    def _wait_for_handlers(self, run: Run) -> None:
        """Let a run get as far as hearing signals, if it lives that long."""
        caught = 1 << (signal.SIGTERM - 1)
        while True:
            status = Path(f"/proc/{run.pid}/status").read_text()
            (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
            if int(mask, 16) & caught or "State:\tZ" in status:
                return
            time.sleep(0.001)


def soak(seed: str, counts: Counter[str], only: list[str] | None) -> None:
    """Let a random job go through a few random faults.

    Raises:
        AssertionError: a promise was broken.
    """
    random = Random(seed)
    with tempfile.TemporaryDirectory() as place:
        job = Job(random, Path(place))
        committed: set[str] = set()
        names: list[str] = []
        try:
            for name in random.choices(only or list(job.faults), k=random.randint(1, 4)):
                names.append(name)
                counts[name] += 1
                num_generated = len(job.scene.generations())
                job.faults[name]()
                twice = committed & set(job.scene.generations()[num_generated:])
                assert job.forgets or not twice, f"generated again, though committed: {twice}"
                committed = job.scene.committed()
            job.end_well(committed, len(job.scene.generations()))
        except (AssertionError, LlmparError) as error:
            said = read(job.scene.place / "notes" / f"stderr-{job.scene.num_runs}") or b""
            raise AssertionError(
                f"{error}\nafter {', '.join(names)}: llmpar {' '.join(job.scene.command())}\n{said.decode()}"
            ) from error
    counts["jobs"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the job to begin with")
    parser.add_argument("--only", type=lambda names: names.split(","), help="faults, with commas between")
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    until, number = time.monotonic() + 60 * given.minutes, given.first
    while time.monotonic() < until:
        try:
            soak(f"{given.seed}:{number}", counts, given.only)
        except AssertionError as error:
            print(f"{error}\n--seed {given.seed} --first {number}")
            return 1
        number += 1
    for name, value in sorted(counts.items(), key=lambda item: -item[1]):
        print(f"{name:<18} {value:6,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
