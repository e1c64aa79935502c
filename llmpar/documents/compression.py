"""Compressed inputs and outputs: gzip by Python's own zlib, Zstandard by python-zstandard (BSD). Both are streams.

However small the compressed bytes are, what is made of them comes in pieces of bounded size, so that memory stays
bounded: what must be held of a document is for its reader to limit.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from llmpar.documents.document import Encoding
from llmpar.errors import UsageError

Compression = Literal["gzip", "zstd"]
_PIECE = 1 << 18  # bytes that are made of compressed ones at a time
_ZSTD_FED = 512  # bytes; a block of 128 KiB may be made of four
_ZSTD_WINDOW = 1 << 27  # bytes that a frame may ask for; what `zstd --long` makes needs more
_MAGICS: tuple[tuple[bytes, Compression], ...] = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
SUFFIXES = (".gz", ".zst")
"""How names of compressed files end."""


class Damaged(ValueError):  # it is the input, and no fault of ours
    """Compressed bytes that are damaged, or end too early."""


class Decompressor(Protocol):
    """Makes bytes of compressed ones, in order."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what comes of the next bytes; raise Damaged if nothing can."""

    def finish(self) -> None:
        """Raise Damaged if more bytes should have come."""


class Compressor(Protocol):
    """Makes compressed bytes, in order. It is zlib's and zstandard's own."""

    def compress(self, data: bytes, /) -> bytes:
        """Return what is ready of the compressed bytes."""

    def flush(self) -> bytes:
        """Return the rest of them."""


def compression_of(head: bytes) -> Compression | None:
    """Return how an input is compressed that begins so; None if it is not."""
    return next((name for magic, name in _MAGICS if head.startswith(magic)), None)


def decompressor(compression: Compression) -> Decompressor:
    """Return what decompresses one input.

    Raises:
        UsageError: a package is missing.
    """
    return _Gunzip() if compression == "gzip" else _Unzstd()


def compressor(compression: Compression) -> Compressor:
    """Return what compresses one output. Equal bytes become equal bytes: no time and no name is written.

    Raises:
        UsageError: a package is missing.
    """
    if compression == "gzip":
        return zlib.compressobj(wbits=31)
    made: Compressor = _zstandard().ZstdCompressor(write_checksum=True).compressobj()
    return made


class _Gunzip:
    def __init__(self) -> None:
        self._member: Any = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member is None:
                data = data.lstrip(b"\0")  # some programs fill the last block of a tape
                if not data:
                    return
                self._member = zlib.decompressobj(wbits=31)
            try:
                yield self._member.decompress(data, _PIECE)
            except zlib.error as error:
                raise Damaged(f"its gzip data is damaged ({error})") from error
            data = self._member.unconsumed_tail
            if self._member.eof:
                data, self._member = self._member.unused_data, None

    def finish(self) -> None:
        if self._member is not None:
            raise Damaged("its gzip data ends too early; it is not complete")


class _Unzstd:
    def __init__(self) -> None:
        self._library = _zstandard()
        self._frame: Any = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_FED):
            part = data[start : start + _ZSTD_FED]
            while part:
                if self._frame is None:
                    self._frame = self._library.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
                try:
                    yield self._frame.decompress(part)
                except self._library.ZstdError as error:
                    raise Damaged(f"its Zstandard data is damaged ({error})") from error
                part = self._frame.unused_data if self._frame.eof else b""
                if self._frame.eof:
                    self._frame = None

    def finish(self) -> None:
        if self._frame is not None:
            raise Damaged("its Zstandard data ends too early; it is not complete")


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise UsageError("Zstandard needs a package that is not there: pip install zstandard") from error
    return zstandard


@dataclass(frozen=True, slots=True)
class CompressedEncoding(Encoding):
    """An encoding whose bytes are compressed on their way out. One is made for each document, and has a state.

    `mark` is the byte order mark of the text, which is compressed with it; `bom` is empty.
    """

    mark: bytes = b""
    compression: Compression = "gzip"
    _made: list[Callable[[bytes], bytes]] = field(default_factory=list, compare=False)
    _ends: list[Callable[[], bytes]] = field(default_factory=list, compare=False)

    def encode(self, text: str) -> bytes:
        """Return compressed bytes, as many as are ready."""
        # `Encoding` is named: a class with slots is another than the one that super() would look for.
        return self._compress(Encoding.encode(self, text))

    def end(self) -> bytes:
        """Return the rest of the compressed bytes."""
        begun = self._compress(b"")
        return begun + self._ends[0]()

    def _compress(self, data: bytes) -> bytes:
        if not self._made:  # not before: a document that is only read needs none, and may travel
            made = compressor(self.compression)
            self._made.append(made.compress)
            self._ends.append(made.flush)
            data = self.mark + data
        return self._made[0](data)
