"""A real Ray cluster of two nodes on this machine: the bytes of an engine alone, whatever is killed in mid-run.

Ray takes its time to begin (10 s or more, and each command as long again), so that all tests share a cluster. Without
Ray they are skipped by name. The `test` extra leaves it out: with it, all tests would take two minutes longer.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.parts import is_gone, wait_until
from support.ray_nodes import ENVIRONMENT, RayNodes

pytest.importorskip("ray", reason="Ray is not installed (pip install 'llmpar[ray]')")

LINES = 400
ASKED = ["-u", "line", "--precision", "fp32", "--device", "cpu", "--max-new-tokens", "24"]
ASKED += ["--check", "none", "--batch-size", "4"]


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    with RayNodes(2) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ray") / "lines.txt"
    path.write_text("".join(f"Line {number} of a text, {number * number}.\n" for number in range(LINES)))
    return path


@pytest.fixture(scope="module")
def alone(source: Path, tiny_model: Path) -> tuple[bytes, str]:
    """What the engine of this machine makes of the text, and its last line about it."""
    command = [sys.executable, "-m", "llmpar", "run", "{text}", *ASKED, "-m", str(tiny_model), "-j", "1", "--no-store"]
    done = subprocess.run([*command, str(source)], capture_output=True, env={**os.environ, **ENVIRONMENT}, check=True)
    return done.stdout, done.stderr.decode()


Starting = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(nodes: RayNodes, source: Path, tiny_model: Path, tmp_path: Path) -> Iterator[Starting]:
    """What starts the same on the cluster, with a store."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "llmpar", "run", "{text}", *ASKED, "-m", str(tiny_model)]
        command += ["--ray", nodes.address, "--store", str(tmp_path / "answers"), "-o", str(tmp_path / "out")]
        process = subprocess.Popen(
            [*command, *options, str(source)], stderr=subprocess.PIPE, env={**os.environ, **ENVIRONMENT}
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def numbers(line: str) -> list[str]:
    """Return what the last line of a run says, but how long it took."""
    return line.strip().splitlines()[-1].split(", ")[:-1]


def num_kept(store: Path) -> int:
    if not store.exists():
        return 0
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=30)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
        except sqlite3.OperationalError:  # its tables are not there yet
            return 0


def some_are_committed(store: Path) -> None:
    wait_until(lambda: num_kept(store) > 0, "nothing is answered", 100)


def test_bytes_are_those_of_the_engine_alone(start: Starting, alone: tuple[bytes, str], tmp_path: Path) -> None:
    process = start()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert (tmp_path / "out").read_bytes() == alone[0]
    assert len(said.splitlines()) == 1, "Ray says nothing among our lines"
    assert numbers(said.decode()) == numbers(alone[1])


@pytest.mark.parametrize("what", ["actor", "node"])
def test_what_is_killed_in_mid_run_changes_nothing(
    what: str, nodes: RayNodes, start: Starting, alone: tuple[bytes, str], tmp_path: Path
) -> None:
    process = start()
    some_are_committed(tmp_path / "answers")
    before = num_kept(tmp_path / "answers")
    if what == "actor":
        os.kill(nodes.stations()[-1], signal.SIGKILL)
    else:
        assert len(nodes.stations()) == 2
        nodes.kill_node()
    _, raw = process.communicate(timeout=300)
    said = raw.decode()
    if what == "node":
        nodes.add()
    assert process.returncode == 0, said
    assert 0 < before < LINES, "it was in mid-run"
    assert "Ray worker" in said
    assert "go to the others" in said
    assert (tmp_path / "out").read_bytes() == alone[0]
    assert numbers(said) == numbers(alone[1]), "no answer that was committed was computed twice"


def test_an_interrupt_keeps_what_is_finished_and_leaves_nobody(
    nodes: RayNodes, start: Starting, alone: tuple[bytes, str], tiny_model: Path, source: Path, tmp_path: Path
) -> None:
    process = start()
    some_are_committed(tmp_path / "answers")
    stations = nodes.stations()
    assert stations
    process.send_signal(signal.SIGTERM)
    _, raw = process.communicate(timeout=60)
    said = raw.decode()
    assert process.returncode == 143, said
    assert "interrupted by SIGTERM" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
    wait_until(lambda: all(map(is_gone, stations)), "a station is left")
    kept = num_kept(tmp_path / "answers")
    assert 0 < kept < LINES
    # The same without a cluster: the key of an answer is the model, and not the place.
    environment = {**os.environ, **ENVIRONMENT}
    command = [sys.executable, "-m", "llmpar", "run", "{text}", *ASKED, "-m", str(tiny_model), "-j", "1"]
    command += ["--store", str(tmp_path / "answers"), str(source)]
    again = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert again.stdout == alone[0]
    assert f"{kept:,} from the store" in again.stderr.decode()
