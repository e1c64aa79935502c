"""A little of the fuzzer (tests/fuzz) in every run of the tests: the same targets, always the same inputs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from fuzz.corpus import mutated_bytes, mutated_text
from fuzz.execution import TooSlow, execute
from fuzz.loading import prepare
from fuzz.targets import LOADING, TARGETS

COUNTS = {
    "round_trip": 100,
    "merging": 200,
    "structured": 200,
    "command_line": 30,
    "tokens": 60,
    "checkpoints": 150,
    LOADING: 12,
}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found(name: str) -> None:
    if name == LOADING:
        prepare()
    for number in range(COUNTS[name]):
        # The first execution imports and loads what it needs.
        finding = execute(TARGETS[name], f"{name}:ci:{number}", 120.0)
        assert finding is None, f"{finding.what}\n{finding.trace}"


def test_a_key_decides_the_input() -> None:
    for make in (mutated_bytes, mutated_text):
        assert [make(Random(f"x{i}")) for i in range(50)] == [make(Random(f"x{i}")) for i in range(50)]
    assert len({mutated_bytes(Random(i)) for i in range(50)}) > 40


def test_what_is_wrong_is_found_and_kept(tmp_path: Path) -> None:
    def fails(random: Random, record: dict[str, object]) -> None:
        record["data"] = random.randbytes(4)
        record["text"] = "\ud800"
        raise ValueError("\ud800 is wrong\nwith a second line")

    finding = execute(fails, "fails:0:0")
    assert finding is not None
    assert finding.what == "ValueError: \ud800 is wrong"
    finding.save(tmp_path / "found")
    assert (tmp_path / "found" / "input-data").read_bytes() == Random("fails:0:0").randbytes(4)
    assert "test_fuzz.py" in (tmp_path / "found" / "finding.txt").read_text()


def test_what_takes_too_long_is_found() -> None:
    def slow(random: Random, record: dict[str, object]) -> None:
        deadline = time.process_time() + 60
        while time.process_time() < deadline:
            pass

    finding = execute(slow, "slow:0:0", 0.2)
    assert finding is not None
    assert TooSlow.__name__ in finding.what


def test_the_documented_command_runs(tmp_path: Path) -> None:
    script = Path(__file__).parent / "fuzz" / "fuzz.py"
    command = [sys.executable, str(script), "--minutes", "0.01", "--only", "merging", "--findings", str(tmp_path / "f")]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "no findings" in outcome.stdout
    assert not (tmp_path / "f").exists()
