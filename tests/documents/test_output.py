"""Where documents go: all to one place, each to a file in a directory, each back to its own file."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from support.faults import Faults, interrupt

from llmpar.documents.destination import FileWriter, temporary_path
from llmpar.documents.document import Document, Encoding
from llmpar.documents.output import DirectoryOutput, InPlaceOutput, Output, SingleOutput
from llmpar.documents.register import Register
from llmpar.documents.writer import StreamWriter
from llmpar.errors import (
    Busy,
    InputError,
    InputUnreadable,
    Interrupted,
    LlmparError,
    OutputUncreatable,
    UsageError,
    WriteFailed,
)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def document(path: str | Path) -> Document:
    return Document(0, str(path), Path(path), Encoding())


def put(output: Output, path: str | Path, data: bytes) -> None:
    output.begin(document(path)).write(data)
    output.end()


def directory_output(directory: Path, sources: list[str], wait: float = 0.0) -> DirectoryOutput:
    register = Register()
    register.documents(sources)
    return DirectoryOutput(directory, sources, register, wait)


def in_place_output(sources: list[str], suffix: str = "", wait: float = 0.0) -> InPlaceOutput:
    Register().documents(sources, suffix)
    return InPlaceOutput(sources, suffix, wait)


def test_a_stream_takes_all_documents() -> None:
    stream = io.BytesIO()
    output = SingleOutput(StreamWriter(stream, "stdout"))
    for i in range(2):
        put(output, f"{i}", b"%d" % i)
    assert stream.getvalue() == b"01"
    output.finish()


def test_a_directory_takes_each_document_as_it_ends(tmp_path: Path) -> None:
    output = directory_output(tmp_path, ["in/a.txt", "in/b.txt", "../c.txt", "/x/d.txt"])
    output.begin(document("in/a.txt")).write(b"A")
    assert not (tmp_path / "a.txt").exists()
    output.end()
    assert (tmp_path / "a.txt").read_bytes() == b"A"
    output.begin(document("in/b.txt")).write(b"B")
    output.drop()
    put(output, "../c.txt", b"C")
    output.begin(document("/x/d.txt")).write(b"D")
    output.abandon()
    output.abandon()
    assert contents(tmp_path) == {"a.txt": b"A", "c.txt": b"C"}


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["x/a.txt", "y/a.txt"], "x/a.txt and y/a.txt: both would become"),
        (["x/b.txt", "./x/b.txt"], "is named twice"),
        (["-"], "stdin has no name"),
        (["{}/a.txt"], "is also an input"),
        (["{}/../{name}/a.txt"], "is also an input"),
        (["x/a.txt", "{}/.a.txt.llmpar"], "is also an input"),
        (["{}/.b.llmpar", "x/b", "y/c"], "both would become|is also an input"),
        (["x/b", "x/.b.llmpar"], "both would become"),
        (["x/a.txt", "x/link"], "both would become"),
        (["/"], "'/': has no name"),
        (["."], "'.': has no name"),
        ([".."], "'..': has no name"),
        (["in/.."], "'in/..': has no name"),
        ([""], "'': has no name"),
    ],
)
def test_a_directory_refuses(tmp_path: Path, sources: list[str], message: str) -> None:
    for name in ("a.txt", ".a.txt.llmpar"):
        (tmp_path / name).write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=message):
        directory_output(tmp_path, [source.format(tmp_path, name=tmp_path.name) for source in sources])
    assert contents(tmp_path) == before


def test_a_directory_must_be_one_and_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "missing", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(OutputUncreatable, match="is not a directory"):
            directory_output(path, [])
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputUncreatable, match="may not be written to"):
        directory_output(tmp_path, [])


def test_nothing_is_written_outside_the_directory(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "a.txt").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(OutputUncreatable, match="leads out of"):
        directory_output(inside, ["in/a.txt"])


@pytest.mark.parametrize("plant", [Path.mkdir, os.mkfifo])
def test_what_is_in_the_way_is_named_at_once(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    plant(tmp_path / "a.txt")
    with pytest.raises(OutputUncreatable, match=r"a\.txt: is in the way"):
        directory_output(tmp_path, ["in/a.txt"])


@pytest.mark.parametrize("in_place", [True, False])
def test_a_destination_that_somebody_writes(tmp_path: Path, in_place: bool) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"old")

    def output(wait: float = 0) -> Output:
        return (
            in_place_output([str(tmp_path / "a"), str(tmp_path / "b")], wait=wait)
            if in_place
            else directory_output(tmp_path, ["in/a", "in/b"], wait=wait)
        )

    def source(name: str) -> Path:
        return tmp_path / name if in_place else Path("in") / name

    before = output()
    theirs = FileWriter(tmp_path / "b")
    for wait in (0, 0.1):
        with pytest.raises(Busy, match="b: somebody else is writing it"):
            output(wait)
    put(before, source("a"), b"new")
    with pytest.raises(Busy):
        before.begin(document(source("b")))
    before.abandon()
    theirs.abandon()
    temporary_path(tmp_path / "b").write_bytes(b"what a killed run left")
    after = output()
    assert contents(tmp_path) == {"a": b"new", "b": b"old"}
    put(after, source("b"), b"new")
    assert contents(tmp_path) == {"a": b"new", "b": b"new"}


def test_a_file_is_replaced_in_place(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"old " + name.encode())
    (tmp_path / "a").chmod(0o640)
    (tmp_path / "link").symlink_to("b")
    output = in_place_output([str(tmp_path / name) for name in ("a", "link", "c")])
    put(output, tmp_path / "a", b"new a")
    put(output, tmp_path / "link", b"new b")
    output.begin(document(tmp_path / "c")).write(b"half")
    output.drop()
    output.finish()
    assert contents(tmp_path) == {"a": b"new a", "b": b"new b", "c": b"old c", "link": b"new b"}
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("links", [True, False])
def test_a_backup_is_kept_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", link)
    path = tmp_path / "a"
    path.write_bytes(b"first")
    path.chmod(0o640)
    put(in_place_output([str(path)], ".bak"), path, b"second")
    assert contents(tmp_path) == {"a": b"second", "a.bak": b"first"}
    assert stat.S_IMODE((tmp_path / "a.bak").stat().st_mode) == 0o640
    with pytest.raises(OutputUncreatable, match=r"a\.bak: is there already"):
        in_place_output([str(path)], ".bak")
    assert contents(tmp_path) == {"a": b"second", "a.bak": b"first"}


def test_a_run_killed_after_its_backup_can_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    (tmp_path / "a.bak").hardlink_to(path)
    temporary_path(tmp_path / "a.bak").hardlink_to(path)
    put(in_place_output([str(path)], ".bak"), path, b"new")
    assert contents(tmp_path) == {"a": b"new", "a.bak": b"old"}


@pytest.mark.parametrize("links", [True, False])
def test_what_takes_a_backups_name_during_the_run_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", link)
    path = tmp_path / "a"
    path.write_bytes(b"old")
    output = in_place_output([str(path)], ".bak")
    output.begin(document(path)).write(b"new")
    (tmp_path / "a.bak").write_bytes(b"precious")
    with pytest.raises(OutputUncreatable, match=r"a\.bak: is there already"):
        output.end()
    assert contents(tmp_path) == {"a": b"old", "a.bak": b"precious"}


def test_a_backup_that_another_run_writes_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    output = in_place_output([str(path)], ".bak")
    output.begin(document(path)).write(b"new")
    other = FileWriter(tmp_path / "a.bak")
    other.write(b"another's")
    with pytest.raises(Busy, match=r"a\.bak: somebody else is writing it"):
        output.end()
    other.close()
    assert contents(tmp_path) == {"a": b"old", "a.bak": b"another's"}


@pytest.mark.parametrize("change", ["write", "replace", "touch", "remove", "retarget"])
@pytest.mark.parametrize("suffix", ["", ".bak"])
def test_an_input_that_changed_is_not_replaced(tmp_path: Path, change: str, suffix: str) -> None:
    path = tmp_path / "a"
    (tmp_path / "b").write_bytes(b"old")
    (tmp_path / "other").write_bytes(b"old")
    if change == "retarget":
        path.symlink_to("b")
    else:
        path.write_bytes(b"old")
    output = in_place_output([str(path)], suffix)
    output.begin(document(path)).write(b"new")
    if change == "write":
        path.write_bytes(b"edited")
    elif change == "replace":
        status = path.stat()
        (tmp_path / "b").replace(path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "touch":
        os.utime(path, ns=(0, 0))
    elif change == "remove":
        path.unlink()
    else:
        path.unlink()
        path.symlink_to("other")
    before = contents(tmp_path)
    del before[".b.llmpar" if change == "retarget" else ".a.llmpar"]
    with pytest.raises(InputError, match="a: was changed while it was read; run again"):
        output.end()
    output.abandon()
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("sources", "suffix", "error", "message"),
    [
        (["-"], "", UsageError, "stdin cannot be replaced"),
        (["."], "", UsageError, "is no regular file"),
        (["fifo"], "", UsageError, "fifo: is no regular file"),
        (["missing"], "", InputUnreadable, "missing: cannot be read"),
        (["a", "a"], "", UsageError, "a and a: are one file"),
        (["a", "hard"], "", UsageError, "a and hard: are one file"),
        (["a", "soft"], "", UsageError, "a and soft: are one file"),
        (["a"], "/x", UsageError, "holds no /"),
        (["a", "a.bak"], ".bak", UsageError, "a.bak and a: both would become .*a.bak"),
        (["a.bak", "a"], ".bak", UsageError, "a.bak and a: both would become .*a.bak"),
        (["a"], ".dir", OutputUncreatable, "a.dir: is in the way"),
        (["a"], "x" * 255, OutputUncreatable, "too long"),
    ],
)
def test_in_place_refuses(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sources: list[str],
    suffix: str,
    error: type[LlmparError],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").write_bytes(b"old")
    Path("a.bak").write_bytes(b"precious")
    Path("hard").hardlink_to("a")
    Path("soft").symlink_to("a")
    Path("a.dir").mkdir()
    os.mkfifo("fifo")
    before = names(tmp_path)
    with pytest.raises(error, match=message):
        in_place_output(sources, suffix)
    assert names(tmp_path) == before


def test_in_place_needs_a_directory_that_may_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputUncreatable, match="may not be written to"):
        in_place_output([str(tmp_path / "a")])


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("signals", [True, False])
def test_a_step_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool, signals: bool) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    path, backup = tmp_path / "a", tmp_path / "a.bak"
    seen = set()
    for n in range(1, 100):
        path.write_bytes(b"old")
        backup.unlink(missing_ok=True)
        faults = Faults(n, *([interrupt] if signals else []))
        output = in_place_output([str(path)], ".bak")
        with monkeypatch.context() as patch:
            if not links:
                patch.setattr(os, "link", link)
            faults.install(patch)
            try:
                put(output, path, b"new")
            except (WriteFailed, Interrupted):
                assert faults.failed
                output.abandon()
            else:
                assert faults.failed in (None, "link")
        assert contents(tmp_path) in (
            {"a": b"old"},
            {"a": b"old", "a.bak": b"old"},
            {"a": b"new", "a.bak": b"old"},
        )
        seen.add(faults.failed)
        if not faults.failed:
            break
    assert path.read_bytes() == b"new"
    assert seen == {"write", "fsync", "link", "fchmod", "replace", "fsync of a directory", None}
