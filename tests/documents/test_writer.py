"""Bytes out: which outputs are refused, streams whose reader may leave, terminals."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from llmpar.documents.destination import temporary_path
from llmpar.documents.register import Register
from llmpar.documents.writer import StreamWriter, TerminalWriter, open_output
from llmpar.errors import OutputUncreatable, ReaderGone, UsageError, WriteFailed
from llmpar.visible import visible


def enter(path: Path, sources: list[Path], partial: Path | None = None) -> None:
    """Register the files of a run, as `open_output` wants it to be done before."""
    register = Register()
    register.documents([str(source) for source in sources])
    register.replaced(path, "-o", "the output")
    if partial:
        register.replaced(partial, "--partial")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputUncreatable, match=r"nowhere/out\.txt: .*No such file"):
        open_output(tmp_path / "nowhere" / "out.txt")


def test_a_directory_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(OutputUncreatable, match="directory"):
        open_output(tmp_path)


@pytest.mark.parametrize("link", [lambda new, old: new.symlink_to(old), lambda new, old: os.link(old, new), None])
def test_an_output_that_is_an_input_is_refused(tmp_path: Path, link: Callable[[Path, Path], None] | None) -> None:
    source = tmp_path / "in.txt"
    source.write_bytes(b"precious")
    path = tmp_path / "out.txt" if link else tmp_path / "." / "in.txt"
    if link:
        link(path, source)
    with pytest.raises(UsageError, match="is also an input"):
        enter(path, [tmp_path / "missing", source])
    assert source.read_bytes() == b"precious"


def test_a_place_for_what_is_unfinished_is_checked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, path = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_bytes(b"precious")
    path.write_bytes(b"old")
    (tmp_path / "hard").hardlink_to(path)
    (tmp_path / "soft").symlink_to(source)
    for partial in (source, path, tmp_path / "hard", tmp_path / "soft"):
        with pytest.raises(UsageError, match=f"{partial.name}: is also"):
            enter(path, [source], partial)
    with pytest.raises(UsageError, match="is also the output"):
        enter(tmp_path / "new", [source], tmp_path / "." / "new")
    with pytest.raises(UsageError, match="null is no regular file"):
        open_output(Path(os.devnull), partial=tmp_path / "part")
    for partial in (tmp_path, Path(os.devnull), tmp_path / "missing" / "part", source / "part"):
        with pytest.raises(OutputUncreatable):
            open_output(path, partial=partial)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputUncreatable, match="no directory to write to"):
        open_output(path, partial=tmp_path / "part")
    assert names(tmp_path) == ["hard", "in.txt", "out.txt", "soft"]


def test_a_leftover_that_is_an_input_is_refused(tmp_path: Path) -> None:
    leftover = temporary_path(tmp_path / "out.txt")
    leftover.write_bytes(b"rescued")
    with pytest.raises(UsageError, match="is also an input"):
        enter(tmp_path / "out.txt", [leftover])
    assert leftover.read_bytes() == b"rescued"


def test_names_in_messages_stay_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputUncreatable) as caught:
        open_output(tmp_path / "no\nwhere\x1b[2J" / "out.txt")
    assert "no^Jwhere^[[2J/out.txt: cannot be created" in str(caught.value)


def test_a_link_that_leads_to_itself_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OutputUncreatable, match="loop: cannot be created"):
        open_output(tmp_path / "loop")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("num_bytes", [1, 1_000_000])
def test_a_full_device_fails_the_write(num_bytes: int) -> None:
    writer = open_output(Path("/dev/full"))
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


def drain(descriptor: int, pause: float = 0.0005) -> tuple[bytearray, threading.Thread]:
    """Read a pipe to its end, slowly, on a thread."""
    data = bytearray()

    def read() -> None:
        while more := os.read(descriptor, 1 << 13):
            data.extend(more)
            time.sleep(pause)
        os.close(descriptor)

    thread = threading.Thread(target=read)
    thread.start()
    return data, thread


@pytest.mark.parametrize("buffering", [0, 4096])
@pytest.mark.parametrize("blocking", [True, False])
def test_a_slow_reader_gets_every_byte(buffering: int, blocking: bool) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    writer = StreamWriter(os.fdopen(writing, "wb", buffering=buffering), "stdout")
    data, thread = drain(reading)
    expected = os.urandom(600_000)
    handler = signal.signal(signal.SIGALRM, lambda *_: None)  # interrupts system calls
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        for start in range(0, len(expected), 250_001):
            writer.write(expected[start : start + 250_001])
            writer.flush()
        writer.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    thread.join()
    assert data == expected


@pytest.mark.parametrize("buffering", [0, 4096])
def test_a_reader_who_leaves_is_not_waited_for(buffering: int) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    writer = StreamWriter(os.fdopen(writing, "wb", buffering=buffering), "stdout")
    leaving = threading.Timer(0.1, os.close, [reading])
    leaving.start()
    with pytest.raises(ReaderGone):
        writer.write(b"x" * 1_000_000)
    writer.abandon()
    leaving.join()


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


class Kept(io.BytesIO):
    def close(self) -> None:
        pass


def test_a_terminal_gets_whole_lines() -> None:
    stream = Kept()
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
