"""kill -9 at random moments, then the same command again: `python tests/attack/kills.py [--kills 100] [--seed N]`.

Sometimes a run is killed several times in a row, sometimes beside another one on the same store, sometimes at a step
that writes.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent))

from attack.faults import Steps, killed
from attack.launch import Scene, digest, random_scene, read, restore

_OLD = b"what was there before\n"


@dataclass
class Table:
    """What happened, and whether it was right."""

    kills: int = 0
    reruns: int = 0
    identical: int = 0
    committed: int = 0
    twice: int = 0
    litter: int = 0
    litter_of_stores: int = 0

    def show(self) -> None:
        print(f"kills                             {self.kills:7,}")
        print(f"runs that went on after them      {self.reruns:7,}")
        print(f"  and ended as if undisturbed     {self.identical:7,}")
        print(f"answers committed before a kill   {self.committed:7,}")
        print(f"  and generated again             {self.twice:7,}")
        print(f"files left beside an output       {self.litter:7,}")
        print(f"files left beside a store         {self.litter_of_stores:7,}")


def attack(random: Random, place: Path, table: Table, segments: int) -> None:
    """Kill a command a few times, and let it end.

    Raises:
        AssertionError: a promise was broken.
    """
    scene = random_scene(random, place, segments)
    old = {name: random.choice([None, _OLD]) for name in scene.outputs}
    for name, data in old.items():
        restore(scene.place / name, data)
    code, right, seconds = scene.undisturbed()
    committed: set[str] = set()
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        num_generated = len(scene.generations())
        if not _kill(random, scene, code, right, seconds, table):
            continue
        again = committed & set(scene.generations()[num_generated:])
        table.twice += len(again)
        for name, data in scene.written().items():
            assert data in (old[name], right[name]), f"{name} is {digest(data)} after a kill"
        scene.verify()
        committed = scene.committed()
        table.committed += len(committed)
    num_generated = len(scene.generations())
    found, written = scene.run()
    table.reruns += 1
    assert found == code, f"it ends with {found} instead of {code}"
    for name in scene.outputs:
        assert written[name] == right[name], f"{name} is {digest(written[name])}, not {digest(right[name])}"
    table.identical += 1
    table.twice += len(committed & set(scene.generations()[num_generated:]))
    litter = scene.litter()
    table.litter += len(litter)
    table.litter_of_stores += len(scene.litter_of_store())
    assert not litter, f"leaves {litter}"


def _kill(
    random: Random, scene: Scene, code: int, right: dict[str, bytes | None], seconds: float, table: Table
) -> bool:
    """Start the command and kill it; return whether it was not faster."""
    if random.random() < 0.3:
        note = scene.place / "notes" / "step"
        n = random.choice([random.randint(1, 15), random.randint(1, 100), random.randint(1, 400)])
        run = scene.start(before=Steps(n, killed, note).install)
    else:
        run = scene.start()
        other = None
        if random.random() < 0.25:  # the output is named last
            other = scene.start(arguments=[*scene.command()[:-2], "-o", "other"])
        time.sleep(random.random() * seconds)
        run.kill(signal.SIGKILL)
        if other:
            assert other.wait() == code, f"the other run ends with {other.code}: {other.messages.read_text()}"
            assert read(scene.place / "other") == b"".join(data or b"" for data in right.values()), "the other run"
            (scene.place / "other").unlink()
    if run.wait() != -signal.SIGKILL:
        return False
    table.kills += 1
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--segments", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    table, code = Table(), 0
    for number in range(10 * given.kills):
        if table.kills >= given.kills:
            break
        with tempfile.TemporaryDirectory() as place:
            try:
                attack(Random(f"{given.seed}:{number}"), Path(place), table, given.segments)
            except AssertionError as error:
                code = 1
                print(f"attack {number} of --seed {given.seed}: {error}", flush=True)
    table.show()
    return code or bool(table.twice)


if __name__ == "__main__":
    sys.exit(main())
