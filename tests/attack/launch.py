"""Runs of llmpar in processes of their own that start at once, as forks, and what such a run left behind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random

import typer

import llmpar.cli.main
from attack.program import RETRY_SEED, Fake, generation
from llmpar.store.store import Store
from llmpar.tasks.task import Task

_PATIENCE = 60.0  # seconds that no run may take


@dataclass
class Run:
    """A process that runs a command line; `messages` is its stderr."""

    pid: int
    messages: Path
    out: Path
    code: int | None = None

    def kill(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def wait(self, patience: float = _PATIENCE) -> int:
        """Return the exit code, negative for the signal that ended it."""
        until = time.monotonic() + patience
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                os.kill(self.pid, 9)
                os.waitpid(self.pid, 0)
                raise AssertionError(f"hangs: {self.messages.read_text()}")
            else:
                time.sleep(0.001)
        assert "Traceback" not in self.messages.read_text(), self.messages.read_text()
        return self.code


@dataclass
class Scene:
    """A directory with inputs, a store and outputs, and the command that is run there again and again.

    Args:
        place: an empty directory.
        arguments: the command line, to be run in `place`; outputs and the store are below it.
        outputs: the files that it writes.
        fake: the engine.
    """

    place: Path
    arguments: list[str]
    outputs: list[str]
    fake: Fake
    num_runs: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        for name in ("notes", "state"):
            (self.place / name).mkdir(exist_ok=True, mode=0o700)

    @property
    def store(self) -> Path:
        return self.place / "state" / "answers.sqlite"

    @property
    def generated_log(self) -> Path:
        return self.place / "notes" / "generated"

    def command(self, has_store: bool = True) -> list[str]:
        """Return the whole command line; the scene's own arguments come last."""
        name, *arguments = self.arguments
        store = ["--store", str(self.store)] if has_store else ["--no-store"]
        return [name, "--engine", "echo", *store, *arguments]

    def start(
        self,
        *more: str,
        fake: Fake | None = None,
        before: Callable[[], None] = lambda: None,
        arguments: list[str] | None = None,
        has_store: bool = True,
    ) -> Run:
        """Start the command, with `more` options; `before` is called in the new process."""
        notes = self.place / "notes"
        self.num_runs += 1
        messages, out = notes / f"stderr-{self.num_runs}", notes / f"stdout-{self.num_runs}"
        messages.touch()
        values = {**vars(fake or self.fake), "log": str(self.generated_log)}
        command = arguments or [*self.command(has_store), *more]
        _warm_up()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            _become(command, Fake(**values), self.place, messages, out, before)
        return Run(pid, messages, out)

    def run(self, *more: str, **options: object) -> tuple[int, dict[str, bytes | None]]:
        """Run the command to its end; return its exit code and the outputs."""
        code = self.start(*more, **options).wait()  # type: ignore[arg-type]
        return code, self.written()

    def written(self) -> dict[str, bytes | None]:
        """Return what the outputs hold, None for one that is not there."""
        return {name: read(self.place / name) for name in self.outputs}

    def undisturbed(self) -> tuple[int, dict[str, bytes | None], float]:
        """Return exit code, outputs and seconds of a run without a store, whose traces are removed."""
        before = self.written()
        started = time.monotonic()
        code, after = self.run(has_store=False)
        seconds = time.monotonic() - started
        for name, data in before.items():
            restore(self.place / name, data)
        self.generated_log.unlink(missing_ok=True)
        return code, after, seconds

    def num_generated(self) -> int:
        return len(self.generations())

    def generations(self) -> list[str]:
        """Return what was generated so far, in the words of `generation`, in its order."""
        lines = (read(self.generated_log) or b"").decode().splitlines()
        return [line.partition(" ")[2] for line in lines]

    def committed(self) -> set[str]:
        """Return what the store holds, in the words of `generation`."""
        return committed(self.store)

    def verify(self) -> None:
        """Assert that nothing is wrong with the store, if there is one."""
        if self.store.exists():
            store = Store(self.store)
            faults = store.verify()
            store.close()  # before the next fork: what is open in SQLite is not to be inherited
            assert not faults, faults[:5]

    def litter(self) -> list[str]:
        """Return what lies beside the inputs and outputs and does not belong there."""
        outputs = {self.place / name for name in self.outputs}
        directories = {path.parent for path in outputs} | {self.place}
        mine = outputs | directories | {self.place / "notes", self.place / "state", *self.place.glob("in*")}
        return [path.name for directory in directories for path in directory.iterdir() if path not in mine]

    def litter_of_store(self) -> list[str]:
        """Return what lies beside the store once nobody has it open."""
        return [path.name for path in self.store.parent.glob("*") if path != self.store]


def committed(store: Path) -> set[str]:
    """Return what a store holds, in the words of `generation`, from a copy: whoever comes next recovers it."""
    if not store.exists():
        return set()
    with tempfile.TemporaryDirectory() as place:
        for suffix in ("", "-wal"):
            source = Path(f"{store}{suffix}")
            if source.exists():
                shutil.copy(source, Path(place) / f"copy{suffix}")
        with closing(sqlite3.connect(Path(place) / "copy")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = connection.execute(
                "SELECT description, text, attempt FROM answers JOIN jobs ON jobs.id = job"
            ).fetchall()
    found = set()
    for description, text, attempt in rows:
        known = json.loads(description)
        prompt = Task("run", known["task"]["prompt"]).messages(text.decode("utf-8", "surrogatepass"))[-1][1]
        seed = known["sampling"]["seed"] + attempt * RETRY_SEED
        found.add(generation(prompt.encode("utf-8", "surrogatepass"), seed))
    return found


def read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def restore(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(data)


@cache
def _warm_up() -> None:
    """Load whatever a run loads, and build the command line, so that forks need not: it is most of their time."""
    typer.main.get_command = cache(typer.main.get_command)
    with tempfile.TemporaryDirectory() as place:
        for name in ("in", "out"):
            (Path(place) / name).write_text("One. Two.")
        arguments = ["run", "x", f"{place}/in", "-o", f"{place}/out", "--engine", "echo", "--quiet"]
        assert llmpar.cli.main.run_command_line([*arguments, "--store", f"{place}/store"]) == 0
    assert threading.active_count() == 1, "a fork would lose the other threads"


def _become(command: list[str], fake: Fake, place: Path, messages: Path, out: Path, before: Callable[[], None]) -> None:
    code = 70
    try:
        os.chdir(place)
        for path, number in ((Path(os.devnull), 0), (out, 1), (messages, 2)):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
            descriptor = os.open(path, flags, 0o600)
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.argv = ["llmpar", *command]
        fake.install()
        before()
        llmpar.cli.main.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


_WORDS = ("the", "of", "a", "stone", "river", "answers", "slowly", "every", "Monday", "café", "中文", "—", "“so”", "42")
_MARKS = ("[empty]", "[weak]", "[weaker]", "[loop]", "[never]", "[long]")


def document(random: Random, num_segments: int, marked: float = 0.08) -> str:
    """Return a text of about so many lines: some come again, some are blank, some are made to fail."""
    newline = random.choice(["\n", "\n", "\r\n"])
    lines: list[str] = []
    while len(lines) < num_segments:
        kind = random.random()
        if kind < 0.1:
            lines.append(random.choice(["", "   ", "\t", "-----", "\x0c"]))
        elif kind < 0.25 and lines:
            lines.append(random.choice(lines))
        else:
            words = random.choices(_WORDS, k=random.randint(1, 9))
            if random.random() < marked:
                words.append(random.choice(_MARKS))
            lines.append(" ".join(words) + random.choice([".", ".", "!", "", "?"]))
    return newline.join(lines) + random.choice(["", newline])


def random_scene(random: Random, place: Path, num_segments: int) -> Scene:
    """Return a scene with one to three documents, and options of all kinds."""
    names = [f"in{index}" for index in range(random.choice([1, 1, 2, 3]))]
    for name in names:
        (place / name).write_text(document(random, num_segments // len(names)), newline="", encoding="utf-8")
    command = ["run", "Do: {text}", "--unit", random.choice(["line", "line", "sentence", "paragraph"]), *names]
    command += ["-j", str(random.choice([1, 2, 5])), "--batch-size", str(random.choice([1, 4, 16]))]
    command += ["--retries", str(random.choice([0, 1, 2])), "--on-error", random.choice(["keep", "mark", "skip"])]
    if random.random() < 0.3:
        (place / "done").mkdir()
        outputs, command = [f"done/{name}" for name in names], [*command, "--output-dir", "done"]
    else:
        outputs, command = ["out"], [*command, "-o", "out"]
    return Scene(place, command, outputs, Fake(delay=0.6 / num_segments, seed=random.getrandbits(32)))


def digest(data: bytes | None) -> str:
    """Return a few letters that stand for data in a message."""
    return "absent" if data is None else f"{len(data)}:{hashlib.sha256(data).hexdigest()[:8]}"
