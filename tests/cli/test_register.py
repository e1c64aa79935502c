"""One register of a run's files: of every command, every pair of roles, one of them written, is refused as one file."""

from __future__ import annotations

import inspect
import io
import itertools
import json
import os
import subprocess
import sys
import time
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from support.program import Outcome

from llmpar.cli import roles
from llmpar.cli.main import app
from llmpar.documents.formats.options import FormatOptions
from llmpar.documents.register import Register
from llmpar.errors import UsageError
from llmpar.store.store import Store

Call = Callable[..., Outcome]

# Parameters of these names take paths, or may, whatever their type says.
NAMED = {"files", "arguments", "input_file", "task_name", "model", "name"}
# What else is a text, and no path; a new one must be put here or be given a role.
TEXTS = {
    "choices", "values", "system", "to", "source_language", "length", "parts", "top", "reduce", "language",
    "device", "check", "in_place", "encoding", "output_encoding", "include", "exclude", "endpoint_model",
    "columns", "topic", "ray", "reference",
} | {setting.name for setting in fields(FormatOptions)}  # fmt: skip
ASK_NOTHING = (("split",), ("report",), ("store", "forget"), ("apply",), ("compare",))
"""Commands without a model."""
NEED_AN_INPUT = (("apply",), ("compare",))
WRITTEN = {roles.written, roles.replaced, roles.output, roles.store}


def commands(group: typer.Typer = app, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for command in group.registered_commands:
        assert command.callback
        yield (*prefix, command.name or command.callback.__name__.rstrip("_")), command.callback
    for inner in group.registered_groups:
        assert inner.typer_instance
        yield from commands(inner.typer_instance, (*prefix, str(inner.name)))


def annotations(callback: Any) -> dict[str, Any]:
    hints = get_type_hints(callback, include_extras=True)
    return {name: hints[name] for name in inspect.signature(callback).parameters}


COMMANDS = dict(commands())


class TestDeclarations:
    def test_all_commands_are_looked_at(self) -> None:
        assert {("run",), ("split",), ("batch",), ("store", "purge"), ("models", "pull"), ("tasks", "show")} <= {
            *COMMANDS
        }

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_what_takes_a_path_has_a_role(self, command: tuple[str, ...]) -> None:
        assert missing(COMMANDS[command]) == set()

    def test_a_path_without_a_role_is_found(self) -> None:
        def command(
            report: typing.Annotated[Path | None, typer.Option("--report")] = None,
            review: typing.Annotated[str | None, typer.Option("--review")] = None,
            count: typing.Annotated[int, typer.Option("--count")] = 1,
        ) -> None: ...

        assert missing(command) == {"report", "review"}


def missing(callback: Any) -> set[str]:
    """Return the parameters of a command that take a path, or a text that nobody said is none, and have no role."""
    found = annotations(callback)
    with_role = roles.roles_of(found)
    return {name for name, kind in found.items() if name not in with_role and name not in TEXTS and takes_path(kind)}


def takes_path(annotation: Any) -> bool:
    kinds: list[Any] = [annotation]
    while kinds:
        kind = kinds.pop()
        if kind in (Path, str):
            return True
        kinds += [inner for inner in get_args(kind) if isinstance(inner, type) or get_args(inner)]
    return False


@dataclass(frozen=True)
class Slot:
    """One place for a path on a command line.

    Args:
        shown: what a message must call it.
        is_written: whether the run writes there.
        options: that come with it; PATH is its path, HERE the directory of the test.
        files: the same of arguments.
        place: where it is, if that follows from the options.
        is_stdin: it is redirected, and no argument.
        chooses_output: it says where answers go, which only one can.
    """

    shown: str
    is_written: bool
    options: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    place: str = ""
    is_stdin: bool = False
    chooses_output: bool = False


# What no option names by itself. The directories are those of the fixture below.
ALL_HAVE = [
    Slot("FILE", False, files=("PATH",)),
    Slot("stdin", False, is_stdin=True),
    Slot("the usual store", True, place="state/answers.sqlite"),
    Slot("the usual store", True, place="state/answers.sqlite-wal"),
    Slot("a task of yours", False, place="config/tasks/mine.toml"),
    Slot("the model cache", False, place="cache/models/tiny/config.json"),
]
MODEL_HAVE = [
    Slot("--store", True, options=("--store", "HERE/kept"), place="kept-shm"),
    Slot("its temporary file", True, options=("--output", "HERE/out"), place=".out.llmpar", chooses_output=True),
]
JOB_HAVE = [
    Slot("FILE", True, options=("--in-place=",), files=("PATH",), chooses_output=True),
    Slot("doc.bak", True, options=("--in-place=.bak",), files=("HERE/doc",), place="doc.bak", chooses_output=True),
    Slot("--output-dir", True, ("--output-dir", "HERE/to"), ("HERE/in.txt",), "to/in.txt", chooses_output=True),
]
VALID = {
    "--task": 'prompt = "x"',
    "--schema": '{"type": "string"}',
    "--glossary": "cat,chat",
    "--endpoint": "http://127.0.0.1:9",
    "--api-key-file": "sesame",
}  # read before the rest
NEEDED = {"translate": ["--to", "German"], "store": ["-"]}
SERVER = ["--endpoint", "http://127.0.0.1:9"]  # nobody is there


def slots(callback: Any) -> list[Slot]:
    found = roles.roles_of(annotations(callback))
    named = [
        Slot(option, role in WRITTEN, (option, "PATH"), chooses_output=role is roles.output)
        for option, role in found.values()
        if option and role is not roles.destination_directory
    ]
    more = MODEL_HAVE if "log" in found else []
    return [*named, *ALL_HAVE, *more, *(JOB_HAVE if "merge" in annotations(callback) else [])]


def table() -> Iterator[Any]:
    for command, callback in COMMANDS.items():
        if not any(role in (roles.documents, roles.documents_after_first) for _, role in
                   roles.roles_of(annotations(callback)).values()):  # fmt: skip
            continue
        for number, (one, other) in enumerate(itertools.combinations(slots(callback), 2)):
            excluded = (
                not (one.is_written or other.is_written)
                or (one.place and other.place)
                or (one.chooses_output and other.chooses_output)
                or {one.shown, other.shown} <= {"--store", "the usual store"}  # which may be one
                or (one.chooses_output and "--output" not in one.options and other.shown == "--partial")
                or (other.chooses_output and "--output" not in other.options and one.shown == "--partial")
                or (one.is_stdin and "FILE" in other.shown)  # then nobody reads it
                or (other.shown == "the model cache" and one.shown == "--model")
            )
            if not excluded:
                ways = list(WAYS) if command == ("run",) else [list(WAYS)[number % len(WAYS)]]
                name = f"{command[0]} {one.shown} {one.place} {other.shown} {other.place}"
                yield pytest.param(command, one, other, ways, id=" ".join(name.split()))


def hard_link(path: Path, alias: Path) -> str:
    alias.hardlink_to(path)
    return str(alias)


def symbolic_link(path: Path, alias: Path) -> str:
    alias.symlink_to(path)
    return str(alias)


def open_file(path: Path, alias: Path) -> str:
    return f"/proc/self/fd/{os.open(path, os.O_RDONLY)}"


WAYS: dict[str, Callable[[Path, Path], str]] = {
    "same": lambda path, _: str(path),
    "hard link": hard_link,
    "symbolic link": symbolic_link,
    "open file": open_file,
}


@pytest.fixture(scope="module")
def command_line() -> Iterator[None]:
    """Let the program be put together once."""
    made = typer.main.get_command(app)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", lambda _: made)
        yield


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("state", "config/tasks", "cache/models/tiny", "to"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("state", "config", "cache"):
        monkeypatch.setenv(f"LLMPAR_{name.upper()}", str(tmp_path / name))
    for slot in (*ALL_HAVE, *MODEL_HAVE, *JOB_HAVE):
        if slot.place:
            (tmp_path / slot.place).write_text(f"precious {slot.place}")
    for name in ("one.gguf.toml", "doc", "in.txt"):
        (tmp_path / name).write_text(f"precious {name}")
    return tmp_path


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")
@pytest.mark.usefixtures("command_line")
@pytest.mark.parametrize(("command", "one", "other", "ways"), list(table()))
def test_one_file_for_two_ends_before_anything_is_opened(
    here: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], one: Slot, other: Slot, ways: list[str]
) -> None:
    for way in ways:
        place = here / (one.place or other.place or "one.gguf.toml")
        place.write_text(VALID.get(one.shown, "precious"))
        alias = here / "alias.toml"
        second = WAYS[way](place, alias)
        named = (second, str(place)) if other.place else (str(place), second)  # one that has a place stays there
        paths = {id(one): named[0], id(other): named[1]}
        options, files, stdin = [], [], None
        for slot in (one, other):
            path = paths[id(slot)]
            options += [part.replace("HERE", str(here)).replace("PATH", path) for part in slot.options]
            files += [part.replace("HERE", str(here)).replace("PATH", path) for part in slot.files]
            stdin = path if slot.is_stdin else stdin
        if "--partial" in options and "--output" not in options:
            options += ["--output", str(here / "other")]
        first = ["x"] if command[0] in ("run", "ask") and not {"--prompt-file", "--task"} & {*options} else []
        echo = [] if command in ASK_NOTHING else ["--engine", "echo"]
        files = files or (["-"] if command in NEED_AN_INPUT else [])
        if {"--endpoint", "--api-key-file"} & {*options}:  # which say what answers
            echo = SERVER if "--endpoint" not in options else []
        before = contents(here)
        with Path(stdin or os.devnull).open() as source:
            outcome = called([*command, *NEEDED.get(command[0], []), *echo, *options, "--", *first, *files], source,
                             monkeypatch)  # fmt: skip
        assert (outcome.code, outcome.out) == (2, b""), (way, outcome.err)
        assert outcome.err.count("\n") == 1
        assert any(said in outcome.err for said in ("is also", "are one file", "both would become", " is in ")), way
        for slot in (one, other):
            assert (slot.shown if slot.shown != "FILE" else paths[id(slot)]) in outcome.err, (way, outcome.err)
        assert contents(here) == before, way
        alias.unlink(missing_ok=True)
        if way == "open file":
            os.close(int(second.rpartition("/")[2]))


def called(arguments: list[str], stdin: Any, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    from llmpar.cli.main import run_command_line

    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        code = run_command_line(arguments)
    out.flush()
    return Outcome(code, out.buffer.getvalue(), err.getvalue())  # type: ignore[attr-defined]


def test_the_table_is_there() -> None:
    names = {entry.values[0][0] for entry in table()}
    asked = {"run", "translate", "summarize", "reply", "ask", "batch", "split"}
    assert names == asked | {"store", "apply", "compare", "report"}
    assert len(list(table())) > 400


class TestStreams:
    """What the shell opened for us counts as well."""

    @staticmethod
    def run(command: str, place: Path) -> subprocess.CompletedProcess[bytes]:
        program = f"{sys.executable} -m llmpar run --engine echo x"
        return subprocess.run(
            ["bash", "-c", command.replace("LLMPAR", program)], cwd=place, capture_output=True, timeout=60, check=False
        )

    @pytest.mark.parametrize(
        "command",
        [
            "LLMPAR doc --log in >> in",
            "LLMPAR doc -o in >> in",
            "LLMPAR doc -o in < in",
            "LLMPAR doc --log /dev/stdout >> in",
            "LLMPAR in -o out 2>> in",
            "cat doc | LLMPAR --prompt-file /dev/stdin -",
        ],
    )
    def test_are_refused_as_another_file(self, tmp_path: Path, command: str) -> None:
        for name in ("doc", "in"):
            (tmp_path / name).write_text("precious")
        done = self.run(command, tmp_path)
        assert done.returncode == 2, done.stderr
        assert {path.name for path in tmp_path.iterdir()} == {"doc", "in"}
        assert (tmp_path / "doc").read_text() == "precious"
        assert (tmp_path / "in").read_text().startswith("precious")

    def test_an_open_file_as_log_goes_on_where_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "doc").write_text("Text.")
        (tmp_path / "kept").write_text("older\n")
        assert self.run("LLMPAR doc --log /dev/stderr > out 2>> kept", tmp_path).returncode == 0
        older, record, summary = (tmp_path / "kept").read_text().splitlines()
        assert older == "older"
        assert json.loads(record)["document"] == "doc"
        assert summary.startswith("llmpar run: 1 piece")
        assert self.run("LLMPAR doc > all 2>&1", tmp_path).returncode == 0
        assert self.run("LLMPAR doc --log /dev/null --errors /dev/null", tmp_path).returncode == 0

    @pytest.mark.parametrize("option", ["--output", "--log"])
    def test_what_llmpar_has_opened_for_itself_takes_nothing(self, tmp_path: Path, option: str) -> None:
        (tmp_path / "doc").write_text("Text.")
        for number in range(3, 8):
            done = self.run(f"LLMPAR doc {option} /dev/fd/{number}", tmp_path)
            assert done.returncode == 73, (number, done.stderr)
        assert self.run(f"LLMPAR doc {option} /dev/fd/8 8> out", tmp_path).returncode == 0
        assert "Text" in (tmp_path / "out").read_text() or option == "--log"


class TestPipes:
    def test_a_prompt_may_come_through_one(self, tmp_path: Path, llmpar: Call) -> None:
        reading, writing = os.pipe()
        os.write(writing, b"Say: {text}")
        os.close(writing)
        assert llmpar("run", "--engine", "echo", "--prompt-file", f"/dev/fd/{reading}", stdin=b"Text.").out == b"Text."
        os.close(reading)

    @pytest.mark.parametrize(
        ("command", "option"),
        [("run", "--prompt-file"), ("run", "--task"), ("run", "--schema"), ("translate", "--glossary")],
    )
    def test_the_time_limit_ends_waiting_for_one(self, tmp_path: Path, llmpar: Call, command: str, option: str) -> None:
        os.mkfifo(tmp_path / "t.toml")
        first = ["x"] if option == "--schema" else ["--to", "German"] if command == "translate" else []
        arguments = [command, "--engine", "echo", option, str(tmp_path / "t.toml"), "--max-time", "0.3", *first]
        started = time.monotonic()
        outcome = llmpar(*arguments, stdin=b"Text.")
        assert (outcome.code, outcome.out) == (124, b""), outcome.err
        assert outcome.err == "llmpar: the time is up (0.3 s)\n"
        assert time.monotonic() - started < 30

    def test_a_device_without_end_is_refused(self, llmpar: Call) -> None:
        outcome = llmpar("run", "--engine", "echo", "--prompt-file", "/dev/zero", stdin=b"Text.")
        assert outcome.code == 66
        assert "/dev/zero: is no regular file" in outcome.err

    @pytest.mark.parametrize("end", ["", "-wal", "-journal"])
    def test_a_store_is_none(self, tmp_path: Path, llmpar: Call, end: str) -> None:
        store = tmp_path / "store"
        if end:
            Store(store).close()
        os.mkfifo(f"{store}{end}")
        for arguments in (("run", "--engine", "echo", "x"), ("store", "info")):
            outcome = llmpar(*arguments, "--store", str(store), stdin=b"Text.")
            assert outcome.code == 74
            assert f"store{end} is no regular file" in outcome.err

    def test_a_model_file_is_none(self, tmp_path: Path, llmpar: Call) -> None:
        os.mkfifo(tmp_path / "m.gguf")
        outcome = llmpar("run", "x", "--model", str(tmp_path / "m.gguf"), stdin=b"Text.")
        assert outcome.code == 69
        assert "is no regular file" in outcome.err

    def test_a_task_that_was_found_is_none(self, tmp_path: Path, llmpar: Call, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLMPAR_CONFIG", str(tmp_path))
        (tmp_path / "tasks").mkdir()
        os.mkfifo(tmp_path / "tasks" / "mine.toml")
        outcome = llmpar("reply", "--engine", "echo", stdin=b"Text.")
        assert outcome.code == 66
        assert "mine.toml: is no regular file" in outcome.err


class TestRegister:
    def test_a_prompt_may_be_longer_than_any_name(self, llmpar: Call) -> None:
        assert llmpar("run", "--engine", "echo", "say " * 100, stdin=b"Text.").out == b"Text."
        assert llmpar("ask", "--engine", "echo", "what " * 100, stdin=b"Text.").code == 0

    def test_two_inputs_may_be_one_file(self, tmp_path: Path, llmpar: Call) -> None:
        (tmp_path / "a").write_text("Text.")
        place = str(tmp_path / "a")
        assert llmpar("run", "--engine", "echo", "--prompt-file", place, place, place).out == b"Text.Text."

    def test_what_is_not_there_yet_is_known_by_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path)
        (tmp_path / "dangling").symlink_to("new")
        for alias in ("link/new", "./new", "dangling"):
            register = Register()
            register.written(tmp_path / "new", "--log")
            with pytest.raises(UsageError, match=r"--errors .*: is also an output \(--log"):
                register.written(tmp_path / alias, "--errors")

    def test_a_hard_link_to_a_file_of_the_cache_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "weights").write_text("precious")
        (tmp_path / "log").hardlink_to(tmp_path / "cache" / "weights")
        register = Register()
        register.tree(tmp_path / "cache", "the model cache")
        with pytest.raises(UsageError, match=r"--log .*log: is also a file of the model cache \(.*weights\)"):
            register.written(tmp_path / "log", "--log")
        with pytest.raises(UsageError, match="new: is in the model cache"):
            register.replaced(tmp_path / "cache" / "new", "-o")
        register.read(tmp_path / "cache" / "weights")

    def test_a_file_of_a_model_directory_is_no_output(self, tmp_path: Path, llmpar: Call) -> None:
        for name in ("config.json", "tokenizer.json"):
            (tmp_path / name).write_text("{}")
        outcome = llmpar(
            "run", "x", "--model", str(tmp_path), "--log", str(tmp_path / "tokenizer.json"), stdin=b"Text."
        )
        assert outcome.code == 2
        assert "--log" in outcome.err
        assert "--model" in outcome.err
        assert (tmp_path / "tokenizer.json").read_text() == "{}"

    def test_lists_are_not_appended_to_what_they_tell_of(self, tmp_path: Path) -> None:
        store, task = tmp_path / "store", tmp_path / "t.toml"
        Store(store).close()
        task.write_text("prompt = 'x {text}'\n")
        before = contents(tmp_path)
        for command, path in ((f"store info --store {store}", store), (f"tasks show {task}", task)):
            done = subprocess.run(
                ["bash", "-c", f"{sys.executable} -m llmpar {command} >> {path}"], capture_output=True, timeout=60,
                check=False,
            )  # fmt: skip
            assert done.returncode == 2, done.stderr
            assert b"stdout: is also" in done.stderr
        assert contents(tmp_path) == before

    def test_python_refuses_a_store_that_is_read(self, tmp_path: Path) -> None:
        import llmpar

        terms = tmp_path / "kept-wal"
        terms.write_text("cat,chat")
        with pytest.raises(UsageError, match=r"store .*kept-wal: is also an input \(glossary"):
            llmpar.translate(["Text."], "French", glossary=terms, store=tmp_path / "kept")
        with pytest.raises(UsageError, match=r"store .*t\.toml: is also an input \(task"):
            llmpar.run(["Text."], task=str(tmp_path / "t.toml"), store=tmp_path / "t.toml")
        assert list(tmp_path.iterdir()) == [terms]
