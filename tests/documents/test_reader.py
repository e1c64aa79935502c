"""Bytes in: encodings, marks and newlines remembered, errors with their byte, blocks that lose nothing."""

from __future__ import annotations

import codecs
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpar.documents import reader as reader_module
from llmpar.documents import source as source_module
from llmpar.documents.document import Block, Unit
from llmpar.documents.reader import TextReader, portion_of
from llmpar.documents.source import Source, input_size
from llmpar.errors import InputError, InputUnreadable

UNITS: tuple[Unit, ...] = ("sentence", "paragraph", "line", "document")
BOMS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
# Pieces that meet at the seams: halves of newlines, blank lines, what Python but not a text takes for a newline.
PIECES = [
    "a",
    "B c",
    "é",
    "日本",
    "😀",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    " ",
    "\t",
    "\f",
    "\x85",
    "\u2028",
    "\ufeff",
    "x" * 50,
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


class Pipe:
    """Gives bytes a few at a time."""

    def __init__(self, data: bytes, sizes: Callable[[], int]) -> None:
        self._data = data
        self._sizes = sizes

    def read(self, size: int) -> bytes:
        size = min(size, self._sizes())
        data, self._data = self._data[:size], self._data[size:]
        return data

    def fileno(self) -> int:
        raise OSError


@contextmanager
def delivered(data: bytes, size: int | Callable[[], int], errors: str = "strict") -> Iterator[TextReader]:
    sizes = size if callable(size) else lambda: size
    with patch.object(source_module, "_open", lambda _: Pipe(data, sizes)):
        yield TextReader(0, Source("-"), errors)  # type: ignore[arg-type]


def read(
    data: bytes, size: int = 1 << 20, unit: Unit = "paragraph", errors: str = "strict"
) -> tuple[TextReader, list[Block]]:
    with delivered(data, size, errors) as reader:
        return reader, list(reader.blocks(portion_of(unit)))


def joined(blocks: list[Block]) -> str:
    return "".join(block.text for block in blocks)


@given(text=TEXTS, unit=st.sampled_from(UNITS), size=st.integers(1, 9), longest=st.sampled_from([1 << 20, 30]))
def test_blocks_are_the_text_in_order(text: str, unit: Unit, size: int, longest: int) -> None:
    with patch.object(reader_module, "_LONGEST", longest):
        reader, blocks = read(text.encode(), size, unit)
    body = text.encode()[len(reader.document.encoding.bom) :].decode()
    assert joined(blocks) == body
    assert [block.offset for block in blocks] == [
        sum(len(before.text) for before in blocks[:i]) for i in range(len(blocks))
    ]
    assert [block.first for block in blocks] == [True] + [False] * (len(blocks) - 1)
    assert [block.last for block in blocks] == [False] * (len(blocks) - 1) + [True]
    assert sum(block.num_bytes for block in blocks) == len(text.encode())
    assert all(block.text for block in blocks[:-1])
    assert not any(f"\r{cut}\n" in cut.join(block.text for block in blocks) for cut in ["<cut>"])


@given(text=TEXTS, encoding=st.sampled_from(sorted(BOMS)), size=st.integers(1, 9))
def test_marked_encodings_come_back(text: str, encoding: str, size: int) -> None:
    data = BOMS[encoding] + text.encode(encoding)
    reader, blocks = read(data, size)
    remembered = reader.document.encoding
    if encoding != "utf-16-le" or not text.startswith("\0"):  # a UTF-32 mark is a UTF-16 mark and a NUL
        assert (remembered.name, remembered.bom, joined(blocks)) == (encoding, BOMS[encoding], text)
    assert remembered.bom + remembered.encode(joined(blocks)) == data


@given(data=st.binary(max_size=60), size=st.integers(1, 5), mark=st.sampled_from([b"", *BOMS.values()]))
def test_bytes_that_are_no_text_are_carried_through_or_refused(data: bytes, size: int, mark: bytes) -> None:
    wide = (mark + data).startswith(tuple(BOMS[name] for name in BOMS if name != "utf-8"))
    refusal = ""
    try:
        reader, blocks = read(mark + data, size, errors="surrogateescape")
    except InputError as error:
        refusal = str(error)
    if refusal:
        packed = (mark + data).startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))
        assert wide or packed, "any bytes can be carried through UTF-8"
        assert "surrogateescape" not in refusal, "no remedy is what did not help"
    else:
        encoding = reader.document.encoding
        assert encoding.bom + encoding.encode(joined(blocks)) == mark + data


@pytest.mark.parametrize("before", ["", "a", "é", "日本", "\r", "a\r\n", "x" * 7])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xe2\x82(", b"\xf0\x9f\x98", b"\xed\xa0\x80"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_invalid_utf8_is_named_by_its_byte_wherever_reads_end(before: str, bad: bytes, mark: bytes) -> None:
    for size in range(1, 12):
        with pytest.raises(InputError, match=rf"not valid UTF-8 at byte {len(mark + before.encode())};"):
            read(mark + before.encode() + bad, size)


def test_a_truncated_utf16_is_named_by_its_byte() -> None:
    for size in (1, 2, 3, 100):
        with pytest.raises(InputError, match="not valid UTF-16-LE at byte 6;"):
            read(codecs.BOM_UTF16_LE + "ab".encode("utf-16-le") + b"c", size)


@pytest.mark.parametrize("encoding", ["", *BOMS])
@pytest.mark.parametrize("before", ["", "é", "a\r", "\r", "ab\r\r\n", "日本😀"])
def test_nul_is_named_by_its_byte_wherever_reads_end(before: str, encoding: str) -> None:
    data = BOMS.get(encoding, b"") + ("x" + before).encode(encoding or "utf-8")
    for size in range(1, 12):
        with pytest.raises(InputError, match=rf"NUL at byte {len(data)};"):
            read(data + "\0b".encode(encoding or "utf-8"), size)


@pytest.mark.parametrize("data", [b"a\0b\xff", codecs.BOM_UTF16_LE + "a\0".encode("utf-16-le") + b"\0\xdc\0\xdc"])
def test_what_is_wrong_first_is_told_at_any_pace(data: bytes) -> None:
    for size in (1, 1 << 20):
        with pytest.raises(InputError, match="NUL at byte"):
            read(data, size)


def test_nul_can_be_carried_through() -> None:
    assert joined(read(b"a\0b", errors="surrogateescape")[1]) == "a\0b"


@pytest.mark.parametrize("data", [b"", b"\n", b" \n\n ", b"x", codecs.BOM_UTF8, b"\r", b"\xef", b"\xff\xfe"])
def test_little_is_one_block(data: bytes) -> None:
    reader, blocks = read(data, errors="surrogateescape")
    assert blocks[-1].last
    assert reader.document.encoding.bom + reader.document.encoding.encode(joined(blocks)) == data


def test_a_slow_pipe_is_served_as_it_speaks() -> None:
    said: list[int] = []

    def sizes() -> int:
        said.append(1)
        return 1

    with delivered(b"one\n\ntwo\nthree\n", sizes) as reader:
        blocks = reader.blocks("paragraph")
        assert next(blocks).text == "one\n\n"
        assert len(said) == len("one\n\n")
    said.clear()
    with delivered(b"one\r\ntwo\n", sizes) as reader:
        assert next(reader.blocks("line")).text == "one\r\n"
        assert len(said) == len("one\r\n")


def test_an_endless_paragraph_is_cut_at_a_line_or_word() -> None:
    with patch.object(reader_module, "_LONGEST", 100):
        for separator in ("\n", "\r", " "):
            _, blocks = read((("x" * 29 + separator) * 20 + "y").encode(), 7)
            assert len(blocks) > 4
            assert all(len(block.text) <= 100 and block.text.endswith(separator) for block in blocks[:-1])
        _, blocks = read(b"x" * 1000, 7)
        assert {len(block.text) for block in blocks[:-1]} == {100}


def test_a_document_is_one_block_however_long() -> None:
    with patch.object(reader_module, "_LONGEST", 10):
        assert len(read(b"one\n\ntwo\n\n" * 100, 7, "document")[1]) == 1


@pytest.mark.parametrize("filler", [b"x", b" ", b"\n", b"x\n", b"\r"])
def test_small_reads_take_linear_time(filler: bytes) -> None:
    # Each look at all that was read so far would take minutes here.
    size = 200_000
    code = (
        "from tests.documents.test_reader import read; import sys; sys.setswitchinterval(1);"
        f"blocks = read({filler!r} * {size // len(filler)}, 3)[1]; print(sum(len(block.text) for block in blocks))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, timeout=30, check=True
    )
    assert int(done.stdout) == size


def test_a_file_is_described(tmp_path: Path) -> None:
    path = tmp_path / "a b.txt"
    path.write_bytes(codecs.BOM_UTF8 + b"x")
    source = Source(str(path))
    reader = TextReader(3, source)
    document = reader.document
    assert (document.index, document.name, document.path, document.encoding.bom) == (
        3,
        str(path),
        path,
        b"\xef\xbb\xbf",
    )
    assert joined(list(reader.blocks("line"))) == "x"
    source.close()
    assert input_size(str(path)) == 4


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for source, reason in ((tmp_path / "missing", "No such file"), (tmp_path, "is a directory")):
        with pytest.raises(InputUnreadable, match=reason):
            Source(str(source))
        with pytest.raises(InputUnreadable, match=reason):
            input_size(str(source))


@pytest.mark.parametrize("change", ["append", "truncate", "touch"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"one\n\n" * 200_000)
    source = Source(str(path))
    reader = TextReader(0, source)
    blocks = reader.blocks("paragraph")
    next(blocks)
    if change == "append":
        with path.open("ab") as stream:
            stream.write(b"more\n")
    elif change == "truncate":
        os.truncate(path, 600_000)
    else:
        os.utime(path, (1, 1))
    with pytest.raises(InputError, match=r"log\.txt: was changed while it was read"):
        list(blocks)
    source.close()


def test_a_named_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert stat.S_ISFIFO(path.stat().st_mode)
    writer = threading.Thread(target=path.write_bytes, args=(b"one\n\ntwo",))
    writer.start()
    source = Source(str(path))
    reader = TextReader(0, source)
    assert joined(list(reader.blocks("paragraph"))) == "one\n\ntwo"
    source.close()
    writer.join()
