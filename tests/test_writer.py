"""Bytes out: files replaced at once or not at all, streams whose reader may leave, names of every kind."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from llmpar.documents.document import Document, Encoding
from llmpar.documents.output import DirectoryOutput, SingleOutput
from llmpar.documents.writer import StreamWriter, TerminalWriter, open_output
from llmpar.errors import OutputUncreatable, ReaderGone, UsageError, WriteFailed
from llmpar.visible import visible


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def save(path: Path, data: bytes, inputs: list[Path] | None = None) -> None:
    writer = open_output(path, inputs or [])
    writer.write(data)
    writer.flush()
    writer.close()


def test_a_file_is_new_only_when_closed(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_bytes(b"old")
    writer = open_output(path, [])
    writer.write(b"new" * 100_000)
    writer.flush()
    assert path.read_bytes() == b"old"
    writer.close()
    assert path.read_bytes() == b"new" * 100_000
    assert names(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("existing", [True, False])
def test_abandoning_leaves_everything_as_it_was(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "out.txt"
    if existing:
        path.write_bytes(b"old")
    writer = open_output(path, [])
    writer.write(b"new")
    writer.abandon()
    assert names(tmp_path) == (["out.txt"] if existing else [])
    assert not existing or path.read_bytes() == b"old"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_close_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "out.txt"
    path.write_bytes(b"old")
    writer = open_output(path, [])
    writer.write(b"new")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", fail) if failing == "fsync" else (Path, "replace", fail)))
    with pytest.raises(WriteFailed, match=r"out\.txt: .*No space"):
        writer.close()
    assert names(tmp_path) == ["out.txt"]
    assert path.read_bytes() == b"old"


def test_an_interrupted_close_removes_the_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    writer = open_output(tmp_path / "out.txt", [])
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    assert names(tmp_path) == []


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_an_existing_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "out.txt"
    path.touch()
    path.chmod(mode)
    save(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_new_file_follows_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        save(tmp_path / "out.txt", b"new")
    finally:
        assert os.umask(before) == umask
    assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("dangling", [True, False])
def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path: Path, dangling: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "target.txt"
    if not dangling:
        target.write_bytes(b"old")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    save(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputUncreatable, match=r"nowhere/out\.txt: .*No such file"):
        open_output(tmp_path / "nowhere" / "out.txt", [])


def test_a_directory_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(OutputUncreatable, match="directory"):
        open_output(tmp_path, [])


@pytest.mark.parametrize("link", [lambda new, old: new.symlink_to(old), lambda new, old: os.link(old, new), None])
def test_an_output_that_is_an_input_is_refused(tmp_path: Path, link: Callable[[Path, Path], None] | None) -> None:
    source = tmp_path / "in.txt"
    source.write_bytes(b"precious")
    path = tmp_path / "out.txt" if link else tmp_path / "." / "in.txt"
    if link:
        link(path, source)
    with pytest.raises(UsageError, match="is also an input"):
        open_output(path, [tmp_path / "missing", source])
    assert source.read_bytes() == b"precious"


@pytest.mark.parametrize("name", [b"\xff\xfe.txt", b"a b\nc", b"-o", "名".encode() * 80])
def test_names_of_every_kind(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    save(path, b"new")
    assert names(tmp_path) == [os.fsdecode(name)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("num_bytes", [1, 1_000_000])
def test_a_full_device_fails_the_write(num_bytes: int) -> None:
    writer = open_output(Path("/dev/full"), [])
    assert isinstance(writer, StreamWriter)  # anything else would rename over a device

    def use() -> None:
        writer.write(b"x" * num_bytes)
        writer.close()

    with pytest.raises(WriteFailed, match="No space left"):
        use()
    writer.abandon()


def pipe(monkeypatch: pytest.MonkeyPatch) -> tuple[int, BinaryIO]:
    reading, writing = os.pipe()
    return reading, os.fdopen(writing, "wb")


def test_a_reader_who_left_is_noticed_without_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, stream = pipe(monkeypatch)
    writer = StreamWriter(stream, "stdout")
    writer.flush()
    os.close(reading)
    with pytest.raises(ReaderGone):
        writer.flush()
    writer.abandon()


def test_a_reader_who_left_is_noticed_when_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, stream = pipe(monkeypatch)
    writer = StreamWriter(stream, "stdout")
    os.close(reading)
    with pytest.raises(ReaderGone):
        writer.write(b"x" * 1_000_000)
    writer.abandon()


def test_a_stream_takes_all_documents() -> None:
    stream = io.BytesIO()
    output = SingleOutput(StreamWriter(stream, "stdout"))
    for i in range(2):
        output.begin(document(f"{i}")).write(b"%d" % i)
        output.end()
    assert stream.getvalue() == b"01"
    output.finish()


def document(name: str) -> Document:
    return Document(0, name, Path(name), Encoding())


def test_a_directory_takes_each_document_as_it_ends(tmp_path: Path) -> None:
    output = DirectoryOutput(tmp_path, ["in/a.txt", "in/b.txt"])
    output.begin(document("in/a.txt")).write(b"A")
    assert not (tmp_path / "a.txt").exists()
    output.end()
    assert (tmp_path / "a.txt").read_bytes() == b"A"
    output.begin(document("in/b.txt")).write(b"B")
    output.abandon()
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["x/a.txt", "y/a.txt"], "both would become"),
        (["-"], "stdin has no name"),
        (["{}/a.txt"], "is also an input"),
        (["{}/../{name}/a.txt"], "is also an input"),
    ],
)
def test_a_directory_refuses(tmp_path: Path, sources: list[str], message: str) -> None:
    (tmp_path / "a.txt").write_bytes(b"precious")
    with pytest.raises(UsageError, match=message):
        DirectoryOutput(tmp_path, [source.format(tmp_path, name=tmp_path.name) for source in sources])
    assert (tmp_path / "a.txt").read_bytes() == b"precious"


def test_a_directory_must_be_one(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(OutputUncreatable, match="is not a directory"):
            DirectoryOutput(path, [])


def test_nothing_is_written_outside_the_directory(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "a.txt").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(OutputUncreatable, match="leads out of"):
        DirectoryOutput(inside, ["in/a.txt"])
    with pytest.raises(OutputUncreatable, match="leads out of"):
        DirectoryOutput(inside, ["in/.."])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "^[[31mred"),
        ("a\tb\nc\r\nd", "a\tb\nc\r\nd"),
        ("over\rwritten", "over^Mwritten"),
        ("\x00\x07\x7f", "^@^G^?"),
        ("\x9b31m", "<U+009B>31m"),
        ("\u202e\u2066\u061c", "<U+202E><U+2066><U+061C>"),
        ("日本語 é 😀", "日本語 é 😀"),
    ],
)
def test_control_characters_are_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_terminal_gets_whole_lines() -> None:
    stream = io.BytesIO()
    asides = []

    def aside(show: Callable[[], None]) -> None:
        asides.append(1)
        show()

    writer = TerminalWriter(StreamWriter(stream, "stdout"), aside)
    writer.write(b"one \x1b[2J")
    writer.flush()
    assert (stream.getvalue(), asides) == (b"", [])
    writer.write(b"\ntw")
    writer.flush()
    assert (stream.getvalue(), asides) == (b"one ^[[2J\n", [1])
    writer.abandon()
    assert stream.getvalue() == b"one ^[[2J\ntw\n", "what comes next would stand on the same line"
