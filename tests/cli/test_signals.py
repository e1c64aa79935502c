"""Signals, time limits and readers that leave: real processes, each with an engine that takes its time."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attack.launch import committed
from attack.program import Fake
from support.parts import wait_until
from support.places import ROOT
from support.program import Outcome

from llmpar import interrupts
from llmpar.answering.backend import Backend
from llmpar.answering.echo import Echo
from llmpar.documents.destination import FileWriter

PROGRAM = str(ROOT / "tests" / "attack" / "program.py")
TEXT = "".join(f"Line {i} of {i % 90}.\n" for i in range(240))
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class Bench:
    """A document, a store and an output, and llmpar in processes of their own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.out, self.generated = place / "out", place / "generated"
        (place / "in").write_text(TEXT)
        self.command = ["run", "--engine", "echo", "-j", "2", "--unit", "line", "Do: {text}", "in"]
        self.store = ["--store", "answers"]

    def start(self, *more: str, before: Callable[[], None] | None = None, **fake: float) -> subprocess.Popen[bytes]:
        arguments = [*self.command, *(() if "--no-store" in more else self.store), *more]
        return self.launch(arguments, before, **fake)

    def launch(
        self, arguments: list[str], before: Callable[[], None] | None = None, **fake: float
    ) -> subprocess.Popen[bytes]:
        values = {"log": str(self.generated), "delay": 0.02, **fake}
        environment = {**os.environ, "FAKE_ENGINE": json.dumps(values), "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        command = [sys.executable, PROGRAM, *arguments]
        return subprocess.Popen(command, cwd=self.place, env=environment, stdout=pipe, stderr=pipe, preexec_fn=before)

    def lines(self) -> list[str]:
        """Return what was generated, without the number of the process."""
        return [line.split(" ", 1)[1] for line in self.generated.read_text().splitlines()] if self.begun() else []

    def check_resumed(self, said: str, right: bytes, least: int) -> None:
        """Assert that the command that was named ends well, and generates nothing that was kept, which is something."""
        kept, num_generated = committed(self.place / "answers"), len(self.lines())
        assert least <= len(kept) < 240
        assert end(self.launch(resume_command(said), delay=0))[0] == 0
        assert self.out.read_bytes() == right
        assert not kept & set(self.lines()[num_generated:])

    def begun(self) -> bool:
        return self.generated.exists()

    def wait_for(self, number: int) -> None:
        """Let time pass until so many prompts were taken up."""
        until = time.monotonic() + 30
        while len(self.lines()) < number:
            assert time.monotonic() < until, "nothing happens"
            time.sleep(0.01)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a signal be handled in this process, as in a run: one, which the test sends."""
    handlers = {signum: signal.getsignal(signum) for signum in (*CODES, signal.SIGALRM)}
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # to have pytest's again
    interrupts.install()
    yield
    # Else the watch would take it for one of the next test, whose own would be the second, which ends all.
    wait_until(lambda: interrupts._num_seen > 0, "the watch has seen no signal")
    for signum, handler in handlers.items():
        signal.signal(signum, handler)


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What comes of a run that nothing disturbs."""
    process = Bench(tmp_path_factory.mktemp("right")).start("--no-store", delay=0)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out


def end(process: subprocess.Popen[bytes], patience: float = 10) -> tuple[int, str]:
    """Wait for the end; return the exit code and what was said."""
    try:
        _, err = process.communicate(timeout=patience)
    finally:
        process.kill()
    said = err.decode()
    assert "Traceback" not in said, said
    return process.returncode, said


def resume_command(said: str) -> list[str]:
    """Return the command line that a message says to go on with, as a shell would read it."""
    (line,) = (line for line in said.splitlines() if "go on with: " in line)
    program, *arguments = shlex.split(line.partition("go on with: ")[2])
    assert program == "llmpar"
    return arguments


@pytest.mark.parametrize("signum", CODES)
def test_the_first_signal_keeps_what_is_finished_and_says_how_to_go_on(
    bench: Bench, right: bytes, signum: signal.Signals
) -> None:
    bench.out.write_text("old")
    process = bench.start("-o", "out", "--system", 'It\'s $HOME; "so"')
    bench.wait_for(40)
    process.send_signal(signum)
    code, said = end(process, 3)
    assert code == CODES[signum]
    assert f"interrupted by {signum.name}" in said
    assert "out is untouched" in said
    assert bench.out.read_text() == "old"
    assert sorted(path.name for path in bench.place.iterdir()) == ["answers", "generated", "in", "out"]

    bench.check_resumed(said, right, 20)


@pytest.mark.parametrize("second", CODES)
def test_the_second_signal_ends_at_once_whatever_a_worker_does(bench: Bench, second: signal.Signals) -> None:
    bench.out.write_text("old")
    process = bench.start("-o", "out", hanging=1.0)
    bench.wait_for(1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(second)
    code, _ = end(process, 2)
    assert code in (130, CODES[second])
    assert bench.out.read_text() == "old"


@pytest.mark.parametrize("signum", CODES)
def test_one_signal_is_enough_while_a_worker_hangs(bench: Bench, signum: signal.Signals) -> None:
    process = bench.start("-o", "out", hanging=1.0)
    bench.wait_for(1)
    process.send_signal(signum)
    code, said = end(process, 2)
    assert code == CODES[signum]
    assert "after 0 pieces; out is untouched" in said
    assert "go on with" not in said, "there is nothing to go on from"
    assert "llmpar: nothing is finished yet; begin again with: llmpar run" in said


@pytest.mark.usefixtures("handled")
def test_a_signal_while_an_object_is_finalized(llmpar: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    class Late:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    def open_backend(model: Echo, _: object) -> Backend:
        Late()
        return Fake(delay=2).open_backend(model)

    monkeypatch.setattr(Echo, "open", open_backend)
    assert llmpar("run", "--engine", "echo", "x", stdin=b"One. Two.").code == 130


def test_a_signal_while_the_model_loads(bench: Bench) -> None:
    process = bench.start("-o", "out", load=30)
    until = time.monotonic() + 20
    while not (bench.place / ".out.llmpar").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    code, said = end(process, 2)
    assert code == 130
    assert "after 0 pieces" in said
    assert "llmpar: nothing is finished yet; begin again with: llmpar run" in said
    assert not bench.out.exists()
    assert not bench.begun()


@pytest.mark.usefixtures("handled")
@pytest.mark.parametrize("signum", CODES)
def test_a_signal_while_somebody_else_writes_the_file(
    llmpar: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    out = tmp_path / "out"
    first, sleep, signals = FileWriter(out), time.sleep, [signum]

    def interrupted(seconds: float) -> None:
        """Sleep, and send a signal before that for the first time: of two, the second would end all."""
        while signals:
            os.kill(os.getpid(), signals.pop())
        sleep(seconds)

    monkeypatch.setattr("llmpar.documents.destination.time.sleep", interrupted)
    outcome = llmpar("run", "--engine", "echo", "x", "-o", str(out), "--wait", "20", stdin=b"One.")
    first.abandon()
    assert outcome.code == CODES[signum]
    assert (
        outcome.err == f"llmpar: interrupted by {signum.name} while waiting for {out}, which somebody else is writing\n"
    )


def test_nohup_keeps_its_promise(bench: Bench, right: bytes) -> None:
    process = bench.start("-o", "out", before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    bench.wait_for(10)
    process.send_signal(signal.SIGHUP)
    assert end(process, 30)[0] == 0
    assert bench.out.read_bytes() == right


def test_what_is_finished_can_be_had(bench: Bench, right: bytes) -> None:
    bench.out.write_text("old")
    process = bench.start("-o", "out", "--partial", "begun")
    bench.wait_for(120)
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 143
    begun = (bench.place / "begun").read_bytes()
    assert begun
    assert right.startswith(begun)
    assert bench.out.read_text() == "old"


def test_the_time_that_the_user_gave(bench: Bench, right: bytes) -> None:
    bench.out.write_text("old")
    started = time.monotonic()
    code, said = end(bench.start("-o", "out", "--max-time", "1.5", delay=0.1))
    assert code == 124
    assert time.monotonic() - started < 30
    assert "the time is up (1.5 s)" in said
    assert bench.out.read_text() == "old"
    bench.check_resumed(said, right, 1)


class TestReaders:
    @staticmethod
    def leave(process: subprocess.Popen[bytes]) -> None:
        """Close the pipe; then the run must end soon, and without a word."""
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        with process:
            assert process.wait(2) == 141
            assert process.stderr.read() == b""

    def test_that_take_one_line(self, bench: Bench, right: bytes) -> None:
        process = bench.start()
        assert process.stdout is not None
        assert process.stdout.readline() == right.splitlines(keepends=True)[0]
        self.leave(process)
        assert len(bench.lines()) < 240

    def test_that_leave_while_nothing_is_written(self, bench: Bench) -> None:
        process = bench.start(hanging=1.0)
        bench.wait_for(1)
        self.leave(process)

    def test_by_head_in_a_shell(self, bench: Bench, right: bytes) -> None:
        command = shlex.join([sys.executable, PROGRAM, *bench.command, *bench.store])
        script = f"set -o pipefail; {command} | head -n 1; echo ${{PIPESTATUS[0]}}"
        environment = {**os.environ, "FAKE_ENGINE": json.dumps({"delay": 0.02}), "PYTHONPATH": str(ROOT)}
        outcome = subprocess.run(
            ["bash", "-c", script], cwd=bench.place, env=environment, capture_output=True, check=False, timeout=30
        )
        assert outcome.stdout.splitlines() == [right.splitlines()[0], b"141"]
        assert outcome.stderr == b""
