"""Compressed inputs, and encodings: what comes back is what came, and what is damaged is refused in bounded memory."""

from __future__ import annotations

import gzip
import pickle
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.program import Outcome

from llmpar.documents.compression import compressor
from llmpar.documents.document import Encoding
from llmpar.documents.formats.protocol import Reading
from llmpar.documents.segments import read_segments
from llmpar.documents.source import Source
from llmpar.errors import InputError

zstandard = pytest.importorskip("zstandard")
Call = Callable[..., Outcome]
ECHO = ("run", "{text}", "--engine", "echo", "-q")
LINES = b'{"text": "One."}\n{"text": "Two."}\n'


def unzstd(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
        return bytes(stream.read())


KINDS = {".gz": (gzip.compress, gzip.decompress), ".zst": (zstandard.ZstdCompressor().compress, unzstd)}


@pytest.mark.parametrize("suffix", KINDS)
class TestCompressed:
    @pytest.mark.parametrize(
        ("name", "data", "options"),
        [
            ("a.jsonl", LINES, ()),
            ("a.csv", b"id,text\n1,One.\n", ("--column", "text")),
            ("a.txt", b"\xef\xbb\xbfOne line.\nAnother.\n", ("-u", "line")),
            ("a.txt", b"", ()),
        ],
    )
    def test_it_comes_back_compressed(
        self, suffix: str, name: str, data: bytes, options: tuple[str, ...], llmpar: Call, tmp_path: Path
    ) -> None:
        compress, decompress = KINDS[suffix]
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(compress(data))
        outcome = llmpar(*ECHO, *options, str(path))
        assert (outcome.code, decompress(outcome.out)) == (0, data), outcome.err
        piped = llmpar(*ECHO, *options, stdin=path.read_bytes())
        assert decompress(piped.out) == data

    def test_records_of_it_are_plain(self, suffix: str, llmpar: Call, tmp_path: Path) -> None:
        path = tmp_path / f"a.jsonl{suffix}"
        path.write_bytes(KINDS[suffix][0](LINES))
        assert llmpar("split", str(path)).out == b"One.\nTwo.\n"
        assert llmpar(*ECHO, "--merge", "lines", str(path)).out == b"One.\nTwo.\n"

    def test_several_members_are_one_stream(self, suffix: str, llmpar: Call) -> None:
        compress, decompress = KINDS[suffix]
        outcome = llmpar(*ECHO, stdin=compress(LINES) + compress(b"") + compress(LINES))
        assert decompress(outcome.out) == 2 * LINES

    @pytest.mark.parametrize("damage", ["cut", "flipped", "followed"])
    def test_what_is_damaged_is_refused(self, suffix: str, damage: str, llmpar: Call, tmp_path: Path) -> None:
        data = KINDS[suffix][0](b"".join(b"Line number %d.\n" % number for number in range(3000)))
        if damage == "cut":
            data = data[: len(data) // 2]
        elif damage == "flipped":
            data = data[: len(data) // 2] + bytes(byte ^ 0x55 for byte in data[len(data) // 2 :])
        else:
            data += b"more"
        (tmp_path / f"a.txt{suffix}").write_bytes(data)
        outcome = llmpar(*ECHO, "-o", str(tmp_path / "out"), str(tmp_path / f"a.txt{suffix}"))
        assert outcome.code == 65, outcome.err
        assert f"a.txt{suffix}: its " in outcome.err
        assert not (tmp_path / "out").exists()

    def test_a_bomb_is_read_in_bounded_memory(self, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"a.txt{suffix}"
        size = 300_000_000
        if suffix == ".gz":
            made = zlib.compressobj(wbits=31)
            path.write_bytes(b"".join(made.compress(bytes(1_000_000)) for _ in range(300)) + made.flush())
        else:
            frame = zstandard.ZstdCompressor().compressobj(size=size)
            path.write_bytes(b"".join(frame.compress(bytes(1_000_000)) for _ in range(300)) + frame.flush())
        tracemalloc.start()
        with closing(Source(str(path))) as source:
            total = 0
            while chunk := source.read():
                total += len(chunk)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total == size
        assert peak < 60_000_000

    def test_segments_can_travel(self, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"a.jsonl{suffix}"
        path.write_bytes(KINDS[suffix][0](LINES))
        for _, segments in read_segments(0, str(path), Reading()):
            for segment in segments:
                assert pickle.loads(pickle.dumps(segment)).text == segment.text


def test_equal_bytes_become_equal_bytes() -> None:
    for compression in ("gzip", "zstd"):
        both = []
        for _ in range(2):
            made = compressor(compression)  # type: ignore[arg-type]
            both.append(made.compress(b"x" * 1000) + made.flush())
        assert both[0] == both[1]


class TestEncodings:
    TEXT = "Größe über alles. Café très cher, naïve Bücher für Mädchen.\n"

    @pytest.mark.parametrize("name", ["latin-1", "cp1252", "utf-16-le", "utf-16", "shift_jis"])
    def test_it_is_read_and_written_in_it(self, name: str, llmpar: Call) -> None:
        text = "日本語の文。\n" if name == "shift_jis" else self.TEXT
        data = text.encode("utf-16-le" if name == "utf-16" else name)
        outcome = llmpar(*ECHO, "--encoding", name, stdin=data)
        assert (outcome.code, outcome.out) == (0, data), outcome.err
        assert llmpar("split", "-u", "line", "--encoding", name, stdin=data).out.decode() == text
        other = llmpar(*ECHO, "--encoding", name, "--output-encoding", "utf-8", stdin=data)
        assert other.out.decode() == text

    def test_a_guess(self, llmpar: Call) -> None:
        text = "Größe über alles, Bücher für Mädchen, und schöne Grüße aus München.\n" * 5
        for data in (text.encode("cp1252"), text.encode()):
            assert llmpar(*ECHO, "--encoding", "auto", stdin=data).out == data
            assert llmpar("split", "-u", "line", "--encoding", "auto", stdin=data).out.decode() == text

    def test_a_mark_is_believed_before_all(self, llmpar: Call) -> None:
        data = b"\xff\xfe" + self.TEXT.encode("utf-16-le")
        assert llmpar(*ECHO, "--encoding", "latin-1", stdin=data).out == data

    def test_a_character_that_it_lacks_is_named(self) -> None:
        encoding = Encoding("iso8859-1")
        with pytest.raises(InputError, match=r"'…' \(U\+2026\) cannot be written in iso8859-1"):
            encoding.encode("and so on …")

    def test_there_must_be_one(self, llmpar: Call) -> None:
        for options in (("--encoding", "klingon"), ("--encoding", "rot13"), ("--output-encoding", "auto")):
            outcome = llmpar(*ECHO, *options, stdin=b"x\n")
            assert (outcome.code, "no such encoding" in outcome.err) == (2, True), outcome.err

    def test_bytes_that_are_none_are_refused_with_a_remedy(self, llmpar: Call) -> None:
        outcome = llmpar(*ECHO, stdin=self.TEXT.encode("latin-1"))
        assert outcome.code == 65
        assert "--encoding NAME" in outcome.err
