"""One fault at every step of a run in turn: `python tests/attack/steps.py [--faults full,killed,…] [--scenes file,…]`.

After each, the destination is the old file or the complete new one, and the same command again ends as an undisturbed
run does, having generated nothing that was committed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent))

from attack.faults import FAULTS, Steps
from attack.launch import Scene, digest, document, read, restore
from attack.program import Fake
from llmpar.errors import LlmparError

_OLD = b"what was there before\n"
_RUN = ["run", "Do: {text}", "--unit", "line", "-j", "1"]
SCENES = {
    "file": ([*_RUN, "in0", "-o", "out", "--log", "log.jsonl", "--errors", "errors.jsonl"], ["out"]),
    "stdout": ([*_RUN, "in0", "in1"], []),
    "directory": ([*_RUN, "in0", "in1", "--output-dir", "done"], ["done/in0", "done/in1"]),
    "in-place": ([*_RUN, "in0", "in1", "--in-place=.bak"], ["in0", "in1", "in0.bak", "in1.bak"]),
    "partial": ([*_RUN, "in0", "-o", "out", "--partial", "part"], ["out"]),
}
# What may fail without a word, because nothing depends on it.
_SILENT = {
    r"unlink .*": "what is left of a temporary file is taken over by the next run",
    r"hardlink_to .*": "a store on a file system without links takes its name by a rename",
    r"mkdir .*": "one that is there is enough, and where there is none nothing can be written",
    r"link .*": "a backup on a file system without links is a copy",
}
_CODES = {"full": {73, 74}, "broken": {73, 74}, "killed": {-9}, "interrupted": {130}, "ended": {143}}


class Miss(Exception):
    """A promise was broken."""


@dataclass
class Trial:
    """One scene, and what is right there."""

    name: str
    segments: int
    seed: int
    place: Path

    def __post_init__(self) -> None:
        scene = self.scene("right")
        self.code, self.right, _ = scene.undisturbed()
        self.stdout = read(scene.place / "notes" / "stdout-1")

    def scene(self, name: str) -> Scene:
        """Return a new one, with inputs and old outputs in place."""
        arguments, outputs = SCENES[self.name]
        place = self.place / name
        for directory in (place, place / "done"):
            directory.mkdir()
        for number in range(2):
            text = document(Random(self.seed + number), self.segments) + "\n[empty] x"
            (place / f"in{number}").write_text(text, newline="", encoding="utf-8")
        for path in outputs:
            if not path.startswith("in"):
                (place / path).write_bytes(_OLD)
        return Scene(place, arguments, outputs, Fake(seed=self.seed))

    def attack(self, fault: str, lasting: bool, n: int) -> bool:
        """Let a fault happen at the n-th step; return whether there is one.

        Raises:
            Miss: the run, or the next one, did not keep its promises.
        """
        scene = self.scene(f"{fault}-{lasting}-{n}")
        note = scene.place / "notes" / "step"
        before = scene.written()
        run = scene.start(before=Steps(n, FAULTS[fault], note, lasting).install)
        try:
            found = run.wait()
            if note.exists():
                self._check(scene, fault, lasting, note.read_text(), found, run.messages.read_text(), before)
                self._check_next(scene, before)
            else:
                assert found == self.code, f"undisturbed, it ends with {found}"
        except (AssertionError, LlmparError) as error:
            step, said = (read(note) or b"none").decode(), run.messages.read_text()
            raise Miss(f"{self.name}, {fault}{', lasting,' * lasting} at step {n} ({step}): {error}\n{said}") from error
        else:
            return note.exists()
        finally:
            shutil.rmtree(scene.place)

    def _check(
        self, scene: Scene, fault: str, lasting: bool, step: str, found: int, said: str, before: dict[str, bytes | None]
    ) -> None:
        """Assert that a run ended as it should."""
        silent = any(re.fullmatch(kind, step) for kind in _SILENT) and fault in ("full", "broken")
        is_signal = fault in ("interrupted", "ended")
        assert found in _CODES[fault] | ({self.code} if silent or is_signal else set()), f"ends with {found}"
        written = scene.written()
        for path, data in written.items():
            assert data in (before[path], self.right[path]), f"{path} is {digest(data)}"
        if found == self.code:
            assert written == self.right, f"ends with {found}, and is not right"
        if fault in ("full", "broken"):
            ends = [line for line in said.splitlines() if line.startswith("llmpar: ")]
            assert len(ends) == (found != self.code), "there is not one line that says why"
            assert lasting or found == self.code or _thing(step) in ends[0], f"does not name {_thing(step)}"
        if is_signal and found != self.code and scene.committed() and written != self.right:
            how = "go on with the others: in" if self.name == "in-place" else "go on with: llmpar "
            assert how in said, "does not say how to go on"
        if fault != "killed" and not silent and not lasting:
            assert not scene.litter_of_store(), f"leaves {scene.litter_of_store()}"

    def _check_next(self, scene: Scene, before: dict[str, bytes | None]) -> None:
        """Assert that the same command again ends as an undisturbed run does, and repeats no work."""
        scene.verify()
        committed, num_generated = scene.committed(), len(scene.generations())
        if "--in-place=.bak" in scene.arguments:  # what was replaced would be another input
            for path, data in before.items():
                restore(scene.place / path, data)
        code, written = scene.run()
        assert code == self.code, f"the second time, it ends with {code}"
        assert written == self.right, "the second time, the output differs"
        stdout = read(scene.place / "notes" / f"stdout-{scene.num_runs}")
        assert stdout == self.stdout, "the second time, stdout differs"
        assert not committed & set(scene.generations()[num_generated:]), "what was committed is generated again"
        litter = set(scene.litter()) - {"log.jsonl", "errors.jsonl", "part", "done"}
        assert not litter, f"leaves {litter}"


def _thing(step: str) -> str:
    """Return what a message about a step should name."""
    name = step.split()[-1]
    if "directory" in step:
        return ""  # it was made for this trial alone
    return "answers.sqlite" if name in ("store", "state") or ".sqlite" in name else name.strip(".").split(".")[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--segments", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="only each n-th step, beginning with a random one")
    given = parser.parse_args()
    random, num_misses = Random(given.seed), 0
    print(f"{'scene':<10} {'fault':<12} {'lasting':<8} steps")
    with tempfile.TemporaryDirectory() as place:
        for name in given.scenes.split(","):
            trial = Trial(name, given.segments, given.seed, Path(tempfile.mkdtemp(dir=place)))
            for fault in given.faults.split(","):
                for lasting in (False, True) if fault in ("full", "broken") else (False,):
                    num_steps = 0
                    for n in count(random.randint(1, given.every), given.every):
                        try:
                            if not trial.attack(fault, lasting, n):
                                break
                        except Miss as miss:
                            num_misses += 1
                            print(miss, flush=True)
                        num_steps += 1
                    print(f"{name:<10} {fault:<12} {'yes' if lasting else 'no':<8} {num_steps:5}", flush=True)
    return 1 if num_misses else 0


if __name__ == "__main__":
    sys.exit(main())
